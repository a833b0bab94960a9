//! How a connection to Postgres finds out that the other side is gone.

use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// How long an idle connection is trusted where nobody says otherwise; Linux would take two hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// The kernel's timers for a connection. What is not given is the operating system's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpOptions {
    /// How long a connection is silent before probes are sent.
    pub keepalive_idle: Duration,
    /// The time between two probes.
    pub keepalive_interval: Option<Duration>,
    /// Unanswered probes after which the connection is given up.
    pub keepalive_count: Option<u32>,
    /// How long sent bytes may stay unacknowledged; Linux only.
    pub user_timeout: Option<Duration>,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            keepalive_idle: KEEPALIVE_IDLE,
            keepalive_interval: None,
            keepalive_count: None,
            user_timeout: None,
        }
    }
}

impl TcpOptions {
    pub(super) fn apply(&self, stream: &TcpStream) -> io::Result<()> {
        let mut keepalive = socket2::TcpKeepalive::new().with_time(whole_seconds(self.keepalive_idle));
        if let Some(interval) = self.keepalive_interval {
            keepalive = keepalive.with_interval(whole_seconds(interval));
        }
        if let Some(count) = self.keepalive_count {
            keepalive = keepalive.with_retries(count);
        }
        let socket = socket2::SockRef::from(stream);
        socket.set_tcp_keepalive(&keepalive)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(self.user_timeout)?;
        Ok(())
    }
}

/// The kernel counts whole seconds, and refuses none.
fn whole_seconds(duration: Duration) -> Duration {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(seconds.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn the_socket_has_what_was_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let options = TcpOptions {
            keepalive_idle: Duration::from_millis(1_500),
            keepalive_interval: Some(Duration::from_millis(1)),
            keepalive_count: Some(3),
            user_timeout: Some(Duration::from_millis(2_500)),
        };
        options.apply(&stream).unwrap();
        let socket = socket2::SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(2));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(1));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), options.user_timeout);
    }
}

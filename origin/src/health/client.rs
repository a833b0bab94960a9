//! `limn health`: asks a running server for its health, for supervisors without an HTTP client of their own, such as a
//! container's health check.

use anyhow::{Context, Result, bail};
use clap::Args;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the answer may take.
const HEALTH_TIME_MAX: Duration = Duration::from_secs(2);

/// How much of it is read.
const HEALTH_BYTES_MAX: u64 = 64 * 1024;

/// HTTP/1.0: the server closes the connection behind its answer.
const REQUEST: &[u8] = b"GET /v1/health HTTP/1.0\r\nhost: localhost\r\n\r\n";

/// Options of `limn health`: where the server listens.
#[derive(Debug, Clone, Args)]
pub struct HealthOptions {
    /// Port of the HTTP API
    #[arg(long, short, env = "LIMN_PORT", default_value_t = 3000)]
    pub port: u16,

    /// Address that the server listens on; for all addresses, this machine is asked
    #[arg(long, env = "LIMN_HOST", value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub host: IpAddr,
}

/// Returns the health of a server that is ready to answer (200, or 202 while it starts or waits for another one).
///
/// # Errors
/// Nobody listens there, the answer takes more than 2 seconds, or its status is not a success.
pub async fn ask(options: &HealthOptions) -> Result<String> {
    let host = if options.host.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { options.host };
    let address = SocketAddr::new(host, options.port);
    let reply = tokio::time::timeout(HEALTH_TIME_MAX, exchange(address)).await;
    let reply = reply.with_context(|| format!("{address} did not answer in {HEALTH_TIME_MAX:?}"))??;
    let (head, body) =
        reply.split_once("\r\n\r\n").with_context(|| format!("{address} does not speak HTTP"))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        bail!("status {status}: {body}");
    }
    Ok(body.to_owned())
}

async fn exchange(address: SocketAddr) -> Result<String> {
    let mut stream =
        TcpStream::connect(address).await.with_context(|| format!("nobody answers at {address}"))?;
    stream.write_all(REQUEST).await?;
    let mut reply = Vec::new();
    stream.take(HEALTH_BYTES_MAX).read_to_end(&mut reply).await?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// What `ask` makes of a server that sends `reply` and then keeps the connection, or closes it.
    async fn ask_one(reply: Vec<u8>, keeps: bool) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut request = [0; REQUEST.len()];
            stream.read_exact(&mut request).await.expect("the request");
            // A client that has read enough goes before the rest is sent.
            let _ = stream.write_all(&reply).await;
            if keeps {
                std::future::pending::<()>().await;
            }
        });
        let answer = ask(&HealthOptions { port, host: Ipv4Addr::UNSPECIFIED.into() }).await;
        server.abort();
        answer
    }

    #[tokio::test]
    async fn success_is_the_health_and_everything_else_an_error() {
        let answer = |status: &str| format!("HTTP/1.0 {status}\r\nx: y\r\n\r\n{{}}").into_bytes();
        assert_eq!(ask_one(answer("200 OK"), false).await.expect("200"), "{}");
        assert_eq!(ask_one(answer("202 Accepted"), false).await.expect("202"), "{}");
        let error = ask_one(answer("503 Service Unavailable"), false).await.expect_err("503");
        assert_eq!(error.to_string(), "status 503: {}");
        let error = ask_one(b"SSH-2.0\r\n".to_vec(), false).await.expect_err("no HTTP");
        assert!(error.to_string().ends_with("does not speak HTTP"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_read_up_to_a_limit() {
        let limit = usize::try_from(HEALTH_BYTES_MAX).expect("fits");
        let mut endless = b"HTTP/1.0 200 OK\r\n\r\n".to_vec();
        endless.resize(2 * limit, b' ');
        assert!(ask_one(endless, true).await.expect("200").len() < limit);
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_not_waited_for() {
        tokio::time::timeout(10 * HEALTH_TIME_MAX, ask_one(Vec::new(), true))
            .await
            .expect("it gives up by itself")
            .expect_err("no answer");
    }
}

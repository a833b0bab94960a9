//! Closing a listener without resetting a connection.
//!
//! The kernel completes handshakes by itself. It resets those connections that nobody has accepted when the listener
//! is closed: to the client they are established, and its request may be on the way.

use std::io;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long handshakes that have begun may take before the listener is closed.
pub(super) const HANDSHAKE_WAIT: Duration = Duration::from_millis(200);

/// Lets the kernel ignore requests for new connections from now on; handshakes that have begun go on. A client asks
/// again after a second, as if its packet had been lost, and is then refused, or reaches another server.
///
/// # Errors
/// Where the system has no such filter.
#[cfg(target_os = "linux")]
pub(super) fn ignore_new(listener: &TcpListener) -> io::Result<()> {
    use socket2::{SockFilter, SockRef};
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const TCP_FLAGS_AT: u32 = 13;
    const SYN: u32 = 0x02;
    let filter = [
        SockFilter::new(LOAD_BYTE, 0, 0, TCP_FLAGS_AT),
        SockFilter::new(JUMP_IF_SET, 0, 1, SYN),
        // So many bytes of the packet are kept.
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    SockRef::from(listener).attach_filter(&filter)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn ignore_new(_: &TcpListener) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

//! The head of a reply: status and headers by the matrix of protocol §5.1.

mod fixed;
mod log;

pub use fixed::{DEGRADED_MAX, DegradedTable, Health, Unavailable};
pub use log::LogReply;

/// Status and headers of a reply, without those that depend on the caller
/// ([`caller_headers`](super::cors::caller_headers)) or on the transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyHead {
    /// The HTTP status.
    pub status: u16,
    /// Headers in no particular order, each name once. `connection` must be dropped where HTTP/2 is spoken.
    pub headers: Vec<(&'static str, String)>,
}

/// A reply whose body is fixed. `HEAD` gets the same head without the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Status and headers.
    pub head: ReplyHead,
    /// The whole body.
    pub body: String,
}

impl ReplyHead {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(candidate, _)| *candidate == name).map(|(_, value)| value.as_str())
    }
}

//! A live reply as the hub keeps it: its messages apart, so that each client is given those that it lacks.

use crate::Offset;
use crate::edge::messages::Messages;
use crate::protocol::cached_reply::HeaderList;
use crate::protocol::header;
use std::borrow::Cow;
use std::sync::Arc;

/// A reply of the origin's, or of the hub above, to a live request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// All its headers.
    pub headers: HeaderList,
    /// The whole body.
    pub body: Vec<u8>,
}

/// A reply with status 200, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The offset behind its last change.
    pub to: Offset,
    /// Its headers but those that are each reader's own.
    pub headers: HeaderList,
    /// Its messages but the one that ends it.
    pub messages: Vec<Message>,
    /// The message that says that nothing was left, where it does.
    pub up_to_date: Option<Arc<[u8]>>,
}

/// A message, and its place in the log where it says one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The offset behind it.
    pub at: Option<Offset>,
    /// It, as JSON.
    pub json: Arc<[u8]>,
}

/// The members of a message that tell its place.
#[derive(serde::Deserialize)]
struct Placed<'a> {
    #[serde(borrow)]
    headers: PlacedHeaders<'a>,
}

#[derive(serde::Deserialize)]
struct PlacedHeaders<'a> {
    #[serde(borrow, default)]
    control: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    lsn: Option<Cow<'a, str>>,
    #[serde(default)]
    op_position: Option<u64>,
}

impl Reply {
    /// The header's value.
    #[must_use]
    pub fn header(&self, wanted: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.as_str())
    }

    /// For how many seconds the server asks not to be asked again.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        self.header(header::RETRY_AFTER)?.parse().ok()
    }
}

impl Told {
    /// Takes a reply apart; nothing where it is none to a live request.
    #[must_use]
    pub fn parse(reply: &Reply) -> Option<Self> {
        let to = reply.header(header::OFFSET)?.parse().ok()?;
        let mut told =
            Self { to, headers: shared_headers(&reply.headers), messages: Vec::new(), up_to_date: None };
        let mut splitter = Messages::new(reply.body.len());
        let mut understood = true;
        splitter.push(&reply.body, |json| understood &= told.take(json).is_some()).ok()?;
        (understood && splitter.is_complete()).then_some(told)
    }

    fn take(&mut self, json: &[u8]) -> Option<()> {
        let Placed { headers } = serde_json::from_slice(json).ok()?;
        if headers.control.as_deref() == Some("up-to-date") {
            self.up_to_date = Some(json.into());
            return Some(());
        }
        let lsn = headers.lsn.and_then(|lsn| lsn.parse().ok());
        let at = lsn.zip(headers.op_position).map(|(lsn, op)| Offset::new(lsn, op));
        self.messages.push(Message { at, json: json.into() });
        Some(())
    }

    /// Roughly, the memory that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of_message = |message: &Message| message.json.len().saturating_add(size_of::<Message>());
        self.messages.iter().map(of_message).fold(0, usize::saturating_add)
    }
}

/// An allow-list: what a reply says of the log. The offset, the cursor and the tag are each reader's own, and so is what
/// names a request.
fn shared_headers(headers: &HeaderList) -> HeaderList {
    const SHARED: [&str; 7] = [
        header::HANDLE,
        header::SCHEMA,
        header::UP_TO_DATE,
        header::HAS_DATA,
        header::SERVER,
        header::CACHE_CONTROL,
        header::CONTENT_TYPE,
    ];
    let is_shared = |name: &str| SHARED.iter().any(|shared| name.eq_ignore_ascii_case(shared));
    headers.iter().filter(|(name, _)| is_shared(name)).cloned().collect()
}

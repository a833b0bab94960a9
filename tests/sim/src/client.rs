//! A client: follows a shape's log, keeps its rows, and accepts nothing that does not fit.

use crate::reply::Reply;
use crate::shapes::ShownRow;
use limn_core::{Handle, Offset};
use limn_tests::Rows;
use serde_json::Value;

/// Follows one shape.
#[derive(Debug)]
pub struct Client {
    /// The kind of shape.
    pub kind: usize,
    /// The shape, once it is known.
    pub handle: Option<Handle>,
    /// Up to where it has read.
    pub offset: Offset,
    rows: Rows,
    last: Option<(u64, u64)>,
    /// The LSN of a transaction whose last message has not come yet.
    open: Option<u64>,
    /// Where the segment began that the last changes were from.
    segment: Option<u64>,
    /// The `global_last_seen_lsn` of the newest reply, where that said up-to-date.
    pub up_to_date: Option<u64>,
}

/// `Err` holds the broken rule in words.
pub type Verdict = Result<(), String>;

impl Client {
    /// A client that has read nothing.
    #[must_use]
    pub fn new(kind: usize) -> Self {
        Self {
            kind,
            handle: None,
            offset: Offset::Start,
            rows: Rows::default(),
            last: None,
            open: None,
            segment: None,
            up_to_date: None,
        }
    }

    /// The shape is no more: the client starts over.
    pub fn start_over(&mut self) {
        *self = Self::new(self.kind);
    }

    /// Its rows, by their key on the wire.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &ShownRow)> {
        self.rows.shown()
    }

    /// Takes a reply.
    ///
    /// # Errors
    /// Where its messages do not fit what came before.
    pub fn accept_reply(&mut self, reply: &Reply) -> Verdict {
        match reply {
            Reply::Snapshot { bytes, offset } => self.accept(bytes, *offset, None),
            Reply::Changes { bytes, offset, segment, up_to_date, .. } => {
                if self.segment.replace(*segment).is_some_and(|before| before != *segment) {
                    // The end of a transaction is kept where the last segment had a reply end in its midst, not an older one.
                    self.open = None;
                }
                self.accept(bytes, *offset, *up_to_date)
            }
            Reply::MustRefetch => {
                self.start_over();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes the messages of a reply.
    ///
    /// # Errors
    /// Where they do not fit what came before.
    pub fn accept(&mut self, bytes: &[u8], offset: Offset, up_to_date: Option<u64>) -> Verdict {
        for message in messages(bytes)? {
            self.take(&message).map_err(|what| format!("{what}: {message}"))?;
        }
        if let (Some(_), Some(open)) = (up_to_date, self.open) {
            return Err(format!("up to date inside transaction {open}"));
        }
        (self.offset, self.up_to_date) = (offset, up_to_date);
        Ok(())
    }

    fn take(&mut self, message: &Value) -> Verdict {
        let headers = &message["headers"];
        if let Some(position) = position(headers) {
            if self.last >= Some(position) {
                return Err(format!("comes after {:?}", self.last));
            }
            if self.open.is_some_and(|open| open != position.0) {
                return Err("the transaction before had no last message".to_owned());
            }
            self.last = Some(position);
            self.open = (headers["last"] != true).then_some(position.0);
        }
        self.rows.apply(message)
    }
}

/// The messages in the bytes of a chunk.
///
/// # Errors
/// Where they are no JSON.
pub fn messages(bytes: &[u8]) -> Result<Vec<Value>, String> {
    let Some((b',', inside)) = bytes.split_first() else { return Ok(Vec::new()) };
    let array = [b"[", inside, b"]"].concat();
    serde_json::from_slice(&array).map_err(|error| format!("{error}: {}", String::from_utf8_lossy(bytes)))
}

/// The position of a change that came by the WAL.
#[must_use]
pub fn position(headers: &Value) -> Option<(u64, u64)> {
    Some((headers["lsn"].as_str()?.parse().ok()?, headers["op_position"].as_u64()?))
}

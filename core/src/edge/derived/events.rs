//! A stream of events, split into its events as it comes in (protocol §6.3).

use super::{Derivation, Underived};
use crate::protocol::message::push_event;

/// The beginning of an event with a message.
const DATA: &[u8] = b"data: ";
/// The end of an event.
const END: &[u8] = b"\n\n";

/// A stream of a base's events on its way to a reader of a derived shape.
#[derive(Debug, Default)]
pub struct Events {
    begun: Vec<u8>,
}

impl Events {
    /// Appends what the bytes that follow are to a derived shape.
    ///
    /// # Errors
    /// [`Underived`]: the stream has to end. An event of more than `longest` bytes is no message.
    pub fn push(
        &mut self,
        derivation: &mut Derivation,
        chunk: &[u8],
        longest: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Underived> {
        self.begun.extend_from_slice(chunk);
        let mut done = 0;
        while let Some(length) = event_length(self.begun.get(done..).unwrap_or_default()) {
            let event = self.begun.get(done..done + length).unwrap_or_default();
            done += length;
            match event.strip_prefix(DATA).and_then(|rest| rest.strip_suffix(END)) {
                Some(message) => derivation.map(message, &mut |message| push_event(out, message))?,
                // A comment, which keeps the connection.
                None => out.extend_from_slice(event),
            }
        }
        self.begun.drain(..done);
        if self.begun.len() > longest { Err(Underived::Unreadable) } else { Ok(()) }
    }
}

fn event_length(bytes: &[u8]) -> Option<usize> {
    let ends = bytes.windows(END.len()).position(|window| window == END)?;
    Some(ends + END.len())
}

//! The newest replies of the origin, one behind the other without a gap: what a client lacks that was here a moment ago.

use super::told::Told;
use crate::Offset;
use crate::protocol::message::push_event;
use std::collections::VecDeque;
use std::sync::Arc;

/// The memory that the replies of one shape take, past the newest of them.
pub const WINDOW_BYTES_MAX: usize = 1 << 20;

/// The replies, from the oldest to the newest.
#[derive(Debug, Default)]
pub struct Window {
    replies: VecDeque<Step>,
    bytes: usize,
}

/// A reply, and the offset that it begins at.
#[derive(Debug)]
struct Step {
    from: Offset,
    told: Arc<Told>,
}

/// The part of the log that a client lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The messages, in their order.
    pub messages: Vec<Arc<[u8]>>,
    /// The newest reply: it says where the part ends, and whether the log ends there.
    pub last: Arc<Told>,
}

impl Window {
    /// Appends the reply to a request at `from`, and forgets the oldest ones past [`WINDOW_BYTES_MAX`].
    pub fn push(&mut self, from: Offset, told: Arc<Told>) {
        if self.replies.back().is_some_and(|newest| newest.told.to != from) {
            self.clear();
        }
        self.bytes = self.bytes.saturating_add(told.bytes());
        self.replies.push_back(Step { from, told });
        while self.bytes > WINDOW_BYTES_MAX && self.replies.len() > 1 {
            let Some(oldest) = self.replies.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.told.bytes());
        }
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.replies.clear();
        self.bytes = 0;
    }

    /// The part that a client at `offset` lacks; nothing where a part of that is no longer here, or cannot be told apart.
    #[must_use]
    pub fn after(&self, offset: Offset) -> Option<Part> {
        let first = self.replies.iter().position(|step| step.from <= offset && offset < step.told.to)?;
        let last = Arc::clone(&self.replies.back()?.told);
        let mut messages = Vec::new();
        for step in self.replies.iter().skip(first) {
            for message in &step.told.messages {
                if offset <= step.from || message.at? > offset {
                    messages.push(Arc::clone(&message.json));
                }
            }
        }
        let says_something = !messages.is_empty() || last.up_to_date.is_some();
        says_something.then_some(Part { messages, last })
    }
}

impl Part {
    /// Nothing but what `told` says of the log's end.
    #[must_use]
    pub const fn empty(told: Arc<Told>) -> Self {
        Self { messages: Vec::new(), last: told }
    }

    /// The part as the body of a reply.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let messages = self.messages.iter().chain(&self.last.up_to_date);
        let mut body = vec![b'['];
        for message in messages {
            if body.len() > 1 {
                body.push(b',');
            }
            body.extend_from_slice(message);
        }
        body.push(b']');
        body
    }

    /// The part as events.
    #[must_use]
    pub fn events(&self) -> Vec<u8> {
        let mut events = Vec::new();
        self.messages
            .iter()
            .chain(&self.last.up_to_date)
            .for_each(|message| push_event(&mut events, message));
        events
    }
}

#[cfg(test)]
mod tests {
    use super::super::told::Reply;
    use super::*;
    use crate::protocol::header;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn at(tx: u64) -> Offset {
        Offset::new(tx, 0)
    }

    /// A reply with one message for each position, which says that nothing is left.
    fn told(positions: &[u64]) -> Arc<Told> {
        let messages = positions.iter().map(|tx| {
            format!(r#"{{"headers":{{"operation":"insert","lsn":"{tx}","op_position":0}},"value":{{"a":"}}]\""}}}}"#)
        });
        let up_to_date = r#"{"headers":{"control":"up-to-date","global_last_seen_lsn":"9"}}"#.to_owned();
        let body = format!("[{}]", messages.chain([up_to_date]).collect::<Vec<_>>().join(","));
        let offset = positions.last().map_or_else(|| "1_0".to_owned(), |tx| format!("{tx}_0"));
        let headers = vec![(header::OFFSET.to_owned(), offset), (header::CURSOR.to_owned(), "7".to_owned())];
        Arc::new(Told::parse(&Reply { status: 200, headers, body: body.into_bytes() }).unwrap())
    }

    fn positions(part: Option<Part>) -> Option<Vec<u64>> {
        let position = |json: &Arc<[u8]>| {
            let message: serde_json::Value = serde_json::from_slice(json).unwrap();
            message["headers"]["lsn"].as_str().unwrap().parse().unwrap()
        };
        part.map(|part| part.messages.iter().map(position).collect())
    }

    #[test]
    fn a_client_is_given_what_it_lacks_and_no_more() {
        let mut window = Window::default();
        window.push(at(1), told(&[2, 3]));
        window.push(at(3), told(&[5, 6, 7]));
        for (offset, expected) in [
            (0, None),
            (1, Some(vec![2, 3, 5, 6, 7])),
            (2, Some(vec![3, 5, 6, 7])),
            (3, Some(vec![5, 6, 7])),
            (4, Some(vec![5, 6, 7])),
            (6, Some(vec![7])),
            (7, None),
        ] {
            assert_eq!(positions(window.after(at(offset))), expected, "{offset}");
        }
    }

    #[test]
    fn replies_with_a_gap_between_them_are_not_joined() {
        let mut window = Window::default();
        window.push(at(1), told(&[2]));
        window.push(at(4), told(&[5]));
        assert_eq!(positions(window.after(at(1))), None);
        assert_eq!(positions(window.after(at(4))), Some(vec![5]));
    }

    #[test]
    fn messages_without_a_place_are_not_cut() {
        let json = r#"[{"headers":{"event":"move-in"}},{"headers":{"control":"up-to-date"}}]"#;
        let headers = vec![(header::OFFSET.to_owned(), "5_0".to_owned())];
        let moved = Told::parse(&Reply { status: 200, headers, body: json.into() }).unwrap();
        let mut window = Window::default();
        window.push(at(1), Arc::new(moved));
        assert_eq!(window.after(at(1)).map(|part| part.messages.len()), Some(1));
        assert_eq!(window.after(at(2)), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut window = Window::default();
        for tx in 1..20_000 {
            window.push(at(tx), told(&[tx + 1]));
        }
        assert!(window.bytes <= WINDOW_BYTES_MAX && window.replies.len() < 20_000);
        assert_eq!(positions(window.after(at(1))), None);
        assert_eq!(positions(window.after(at(19_999))), Some(vec![20_000]));
    }

    #[test]
    fn bodies_and_events_hold_the_messages_as_they_came() {
        let told = told(&[2]);
        let mut window = Window::default();
        window.push(at(1), Arc::clone(&told));
        let part = window.after(at(1)).unwrap();
        let body: Vec<serde_json::Value> = serde_json::from_slice(&part.body()).unwrap();
        assert_eq!(body.len(), 2);
        assert_eq!(body[1]["headers"]["control"], "up-to-date");
        let events = String::from_utf8(part.events()).unwrap();
        assert_eq!(events.matches("data: {").count(), 2);
        assert_eq!(told.headers, []);
        assert_eq!(Part::empty(told).body().iter().filter(|byte| **byte == b'{').count(), 2);
    }
}

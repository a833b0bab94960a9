//! The body of a shape's reply, split into its messages as it comes in.
//!
//! A body is a JSON array of objects, `[{…},{…}]`. [`Messages`] looks at brackets and strings only: what a message says,
//! and whether it is JSON at all inside its braces, is for its reader. What stands between the messages is held to the
//! form, so a page of an intermediary, or an object in place of the array, is no body.

/// A splitter's state between two chunks.
#[derive(Debug, Clone)]
pub struct Messages {
    /// The most bytes of a message.
    longest: usize,
    place: Place,
    /// The beginning of a message that the chunks so far have not ended.
    begun: Vec<u8>,
}

/// The next byte's place in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the array.
    Before,
    /// Behind `[`.
    Opened,
    /// Behind a message.
    Behind,
    /// Behind a comma.
    Next,
    /// In a message, this many brackets deep, and perhaps in a string.
    Inside { depth: usize, text: Text },
    /// Behind the array.
    Closed,
    /// Behind an error.
    Broken,
}

/// A bracket means something outside of strings only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Outside,
    Quoted,
    /// Behind a backslash.
    Escaped,
}

/// The bytes are no body that a shape's reply can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not an array of objects.
    #[error("the body is not an array of messages")]
    NotMessages,
    /// A message has more bytes than it may.
    #[error("a message is longer than {0} bytes")]
    TooLong(usize),
}

impl Messages {
    /// At the beginning of a body whose messages have at most `longest` bytes each.
    #[must_use]
    pub const fn new(longest: usize) -> Self {
        Self { longest, place: Place::Before, begun: Vec::new() }
    }

    /// Hands each whole message (the bytes from `{` to its `}`) that ends in `chunk` to `each`.
    ///
    /// # Errors
    /// [`Malformed`]; then also for all that follows. Messages before the fault have been handed over.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), Malformed> {
        let mut from = 0;
        for (at, byte) in chunk.iter().enumerate() {
            let was = self.place;
            self.place = was.behind(*byte);
            match (was, self.place) {
                (_, Place::Broken) => return self.fail(Malformed::NotMessages),
                (Place::Inside { .. }, Place::Behind) => {
                    self.end(chunk.get(from..=at).unwrap_or_default(), &mut each)?;
                }
                (Place::Inside { .. }, _) => {}
                (_, Place::Inside { .. }) => from = at,
                _ => {}
            }
        }
        if matches!(self.place, Place::Inside { .. }) {
            let rest = chunk.get(from..).unwrap_or_default();
            self.measure(rest)?;
            self.begun.extend_from_slice(rest);
        }
        Ok(())
    }

    /// The array was closed and nothing is left over.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.place == Place::Closed
    }

    /// Hands over the message that ends with these bytes.
    fn end(&mut self, bytes: &[u8], each: &mut impl FnMut(&[u8])) -> Result<(), Malformed> {
        self.measure(bytes)?;
        if self.begun.is_empty() {
            each(bytes);
        } else {
            self.begun.extend_from_slice(bytes);
            each(&self.begun);
            self.begun.clear();
        }
        Ok(())
    }

    fn measure(&mut self, more: &[u8]) -> Result<(), Malformed> {
        let is_short = self.begun.len().checked_add(more.len()).is_some_and(|length| length <= self.longest);
        if is_short { Ok(()) } else { self.fail(Malformed::TooLong(self.longest)) }
    }

    fn fail(&mut self, error: Malformed) -> Result<(), Malformed> {
        self.place = Place::Broken;
        self.begun = Vec::new();
        Err(error)
    }
}

impl Place {
    /// The place behind a byte that stands here.
    const fn behind(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Inside { depth, text }, byte) => inside(depth, text, byte),
            (Self::Broken, _) => Self::Broken,
            (place, b' ' | b'\n' | b'\r' | b'\t') => place,
            (Self::Before, b'[') => Self::Opened,
            (Self::Opened | Self::Next, b'{') => Self::Inside { depth: 1, text: Text::Outside },
            (Self::Opened | Self::Behind, b']') => Self::Closed,
            (Self::Behind, b',') => Self::Next,
            _ => Self::Broken,
        }
    }
}

const fn inside(depth: usize, text: Text, byte: u8) -> Place {
    let (depth, text) = match (text, byte) {
        (Text::Escaped, _) => (depth, Text::Quoted),
        (Text::Quoted, b'\\') => (depth, Text::Escaped),
        (Text::Quoted, b'"') => (depth, Text::Outside),
        (Text::Outside, b'"') => (depth, Text::Quoted),
        (Text::Outside, b'{' | b'[') => (depth.saturating_add(1), text),
        (Text::Outside, b'}' | b']') => (depth.saturating_sub(1), text),
        _ => (depth, text),
    };
    match (depth, byte) {
        (0, b'}') => Place::Behind,
        (0, _) => Place::Broken,
        _ => Place::Inside { depth, text },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const BODY: &str = concat!(
        r#"[{"key":"\"public\".\"t\"/\"1\"","value":{"a":"}]{[","b":"\\"},"headers":{"txids":[1,2]}}"#,
        "\n, ",
        r#"{"key":"\\\"","value":{"a":null}},{},{"headers":{"control":"up-to-date"}}]"#,
        "\n"
    );
    const EXPECTED: [&str; 4] = [
        r#"{"key":"\"public\".\"t\"/\"1\"","value":{"a":"}]{[","b":"\\"},"headers":{"txids":[1,2]}}"#,
        r#"{"key":"\\\"","value":{"a":null}}"#,
        "{}",
        r#"{"headers":{"control":"up-to-date"}}"#,
    ];

    /// What is handed over of a body that comes in these chunks, and how it ends.
    fn split<'a>(
        longest: usize,
        chunks: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Vec<String>, Result<bool, Malformed>) {
        let mut messages = Messages::new(longest);
        let mut all = Vec::new();
        for chunk in chunks {
            let each = |message: &[u8]| all.push(String::from_utf8_lossy(message).into_owned());
            if let Err(error) = messages.push(chunk, each) {
                return (all, Err(error));
            }
        }
        (all, Ok(messages.is_complete()))
    }

    fn whole(body: &str) -> (Vec<String>, Result<bool, Malformed>) {
        split(1_000, [body.as_bytes()])
    }

    #[test]
    fn a_body_may_be_cut_anywhere() {
        let body = BODY.as_bytes();
        for first in 0..=body.len() {
            for second in first..=body.len() {
                let chunks = [&body[..first], &body[first..second], &body[second..]];
                let (messages, ended) = split(1_000, chunks);
                assert_eq!((ended, messages), (Ok(true), EXPECTED.map(str::to_owned).to_vec()));
            }
        }
        for size in 1..body.len() {
            let (messages, ended) = split(1_000, body.chunks(size));
            assert_eq!((ended, messages), (Ok(true), EXPECTED.map(str::to_owned).to_vec()), "{size}");
        }
    }

    #[test]
    fn an_empty_array_has_no_messages() {
        for body in ["[]", " [ ]\r\n", "[\t]"] {
            assert_eq!(whole(body), (Vec::new(), Ok(true)), "{body}");
        }
    }

    #[test]
    fn a_truncated_body_is_not_complete() {
        let body = BODY.trim_end().as_bytes();
        for length in 0..body.len() {
            let (messages, ended) = split(1_000, [&body[..length]]);
            assert_eq!(ended, Ok(false), "{length}");
            assert_eq!(messages, EXPECTED[..messages.len()], "{length}");
        }
    }

    #[test]
    fn what_is_no_array_of_objects_is_refused() {
        for body in [
            "<html>",
            "{}",
            "{\"message\":\"x\"}",
            "\"[]\"",
            "[1]",
            "[,]",
            "[{},]",
            "[{}{}]",
            "[[{}]]",
            "[{]",
            "[{\"a\":[1]]]",
            "[]]",
            "[]x",
            "[{}]{}",
            "\u{feff}[]",
        ] {
            assert_eq!(whole(body).1, Err(Malformed::NotMessages), "{body}");
        }
    }

    #[test]
    fn after_a_fault_there_are_no_more_messages() {
        let mut messages = Messages::new(10);
        assert_eq!(messages.push(b"[{}x", |_| {}), Err(Malformed::NotMessages));
        assert_eq!(messages.push(b",{}]", |_| panic!("a message")), Err(Malformed::NotMessages));
        assert!(!messages.is_complete());
    }

    #[test]
    fn a_message_may_be_as_long_as_it_says() {
        let body = br#"[{"a":"12"},{"a":"123"}]"#;
        for size in 1..=body.len() {
            assert_eq!(split(11, body.chunks(size)).1, Ok(true), "{size}");
            let (messages, ended) = split(10, body.chunks(size));
            assert_eq!((messages.len(), ended), (1, Err(Malformed::TooLong(10))), "{size}");
        }
        // One that never ends is refused before it is gathered.
        let endless =
            std::iter::repeat_n(b"[{\"a\":\"".as_slice(), 1).chain(std::iter::repeat(b"x".as_slice()));
        assert_eq!(split(1_000, endless).1, Err(Malformed::TooLong(1_000)));
    }

    #[test]
    fn any_bytes_are_taken() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let alphabet = b"[]{}\",\\ \xff:a";
        for _ in 0..20_000 {
            let mut bytes = b"[{".to_vec();
            for _ in 0..24 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                bytes.push(alphabet[(seed % alphabet.len() as u64) as usize]);
            }
            let at_once = split(16, [bytes.as_slice()]);
            assert_eq!(split(16, bytes.chunks(1)).0.len(), at_once.0.len(), "{bytes:?}");
        }
    }
}

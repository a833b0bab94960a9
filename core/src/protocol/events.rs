//! Stored items as server-sent events (protocol §6.3): one event per item, nothing re-encoded.

/// Turns the bytes of a log, items that are each preceded by a comma, into events.
///
/// The bytes may come in pieces of any size. Items are JSON objects without raw line breaks (JSON escapes
/// them inside strings), so that an item is one `data:` line.
#[derive(Debug, Clone, Default)]
pub struct EventFramer {
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl EventFramer {
    /// Appends the events for the next piece to `out`.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let mut rest = piece;
        while !rest.is_empty() {
            rest = if self.depth == 0 { self.start(rest, out) } else { self.go_on(rest, out) };
        }
    }

    /// Between items: skips the comma, and begins an event at the brace.
    fn start<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let brace = memchr::memchr(b'{', bytes);
        let Some((_, rest)) = brace.and_then(|at| bytes.split_at_checked(at + 1)) else { return &[] };
        out.extend_from_slice(b"data: {");
        self.depth = 1;
        rest
    }

    /// Inside an item: copies up to its end or to the end of the piece.
    fn go_on<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let end = bytes.iter().position(|&byte| self.ends_with(byte)).map_or(bytes.len(), |at| at + 1);
        let (inside, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        out.extend_from_slice(inside);
        if self.depth == 0 {
            out.extend_from_slice(b"\n\n");
        }
        rest
    }

    /// Takes one byte of an item; true where it is the last.
    const fn ends_with(&mut self, byte: u8) -> bool {
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = byte == b'\\' && !self.escaped;
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' => self.depth += 1,
            b'}' => self.depth -= 1,
            _ => {}
        }
        self.depth == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn pieces_of_any_size_give_the_same_events() {
        let items = [r#"{"a":"}\"{","h":{}}"#, r#"{"k":"\\","v":{"x":{"y":",{"}}}"#, "{}"];
        let log: String = items.iter().map(|item| format!(",{item}")).collect();
        let events: String = items.iter().map(|item| format!("data: {item}\n\n")).collect();
        for size in 1..=log.len() {
            let (mut framer, mut out) = (EventFramer::default(), Vec::new());
            log.as_bytes().chunks(size).for_each(|piece| framer.push(piece, &mut out));
            assert_eq!(String::from_utf8(out).unwrap(), events, "pieces of {size}");
        }
    }
}

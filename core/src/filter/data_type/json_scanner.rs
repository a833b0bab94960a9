//! Reads JSON's grammar, into a document or over it.

use super::json::{Json, key_order};
use super::number::Numeric;

/// Deeper documents are refused, since reading them takes stack.
const MAX_DEPTH: usize = 256;

/// Where reading has come to in a text.
pub(crate) struct Scanner<'t> {
    pub text: &'t str,
    pub at: usize,
}

impl<'t> Scanner<'t> {
    pub(crate) fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    pub(crate) fn skip_blanks(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    /// The byte, after blanks.
    fn eat(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let found = self.peek() == byte;
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str, value: Json) -> Option<Json> {
        let found = self.text.get(self.at..)?.starts_with(word);
        self.at += word.len();
        found.then_some(value)
    }

    pub(crate) fn value(&mut self, depth: usize) -> Option<Json> {
        self.skip_blanks();
        match self.peek() {
            _ if depth > MAX_DEPTH => None,
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(Json::String),
            b'n' => self.word("null", Json::Null),
            b't' => self.word("true", Json::Bool(true)),
            b'f' => self.word("false", Json::Bool(false)),
            _ => Numeric::parse(self.number()?).map(Json::Number),
        }
    }

    fn array(&mut self, depth: usize) -> Option<Json> {
        self.at += 1;
        let mut elements = Vec::new();
        if self.eat(b']') {
            return Some(Json::Array(elements));
        }
        loop {
            elements.push(self.value(depth + 1)?);
            if self.eat(b']') {
                return Some(Json::Array(elements));
            }
            self.eat(b',').then_some(())?;
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json> {
        self.at += 1;
        let mut members: Vec<(String, Json)> = Vec::new();
        if self.eat(b'}') {
            return Some(Json::Object(members));
        }
        loop {
            let key = self.key()?;
            members.push((key, self.value(depth + 1)?));
            if self.eat(b'}') {
                return Some(Json::Object(in_key_order(members)));
            }
            self.eat(b',').then_some(())?;
        }
    }

    /// `"key":`
    fn key(&mut self) -> Option<String> {
        self.skip_blanks();
        let key = self.string()?;
        self.eat(b':').then_some(key)
    }

    pub(crate) fn string(&mut self) -> Option<String> {
        if self.peek() != b'"' {
            return None;
        }
        self.at += 1;
        let mut value = String::new();
        loop {
            let symbol = self.text.get(self.at..)?.chars().next()?;
            self.at += symbol.len_utf8();
            match symbol {
                '"' => return Some(value),
                '\\' => value.push(self.escape()?),
                control if control < ' ' => return None,
                plain => value.push(plain),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let byte = self.peek();
        self.at += 1;
        Some(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\x08',
            b'f' => '\x0c',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.code_unit()?;
                if (0xd800..0xdc00).contains(&first) {
                    self.text.get(self.at..)?.starts_with("\\u").then_some(())?;
                    self.at += 2;
                    let second = self.code_unit()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                    char::from_u32(0x10000 + ((first - 0xd800) << 10) + second)?
                } else {
                    char::from_u32(first).filter(|symbol| *symbol != '\0')?
                }
            }
            _ => return None,
        })
    }

    fn code_unit(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        let hexadecimal = digits.bytes().all(|b| b.is_ascii_hexdigit());
        hexadecimal.then(|| u32::from_str_radix(digits, 16).ok())?
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Option<&'t str> {
        let start = self.at;
        self.at += usize::from(self.peek() == b'-');
        let leading_zero = self.peek() == b'0';
        let whole = self.digits();
        if whole == 0 || (leading_zero && whole > 1) {
            return None;
        }
        if self.peek() == b'.' {
            self.at += 1;
            (self.digits() > 0).then_some(())?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), b'+' | b'-'));
            (self.digits() > 0).then_some(())?;
        }
        self.text.get(start..self.at)
    }

    /// The parts up to the byte that ends the array or object.
    pub(crate) fn each_part(&mut self, end: u8, mut part: impl FnMut(Option<&str>, &'t str)) -> Option<()> {
        if self.eat(end) {
            return Some(());
        }
        loop {
            let key = if end == b'}' { Some(self.key()?) } else { None };
            self.skip_blanks();
            let start = self.at;
            self.skip_value()?;
            part(key.as_deref(), self.text.get(start..self.at)?);
            if self.eat(end) {
                return Some(());
            }
            self.eat(b',').then_some(())?;
        }
    }

    /// Over a value that is known to be well formed.
    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    self.at += 1;
                    depth += 1;
                }
                b'}' | b']' => {
                    self.at += 1;
                    depth = depth.checked_sub(1)?;
                }
                0 => return None,
                b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                _ => {
                    while !matches!(self.peek(), 0 | b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r') {
                        self.at += 1;
                    }
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

/// Sorts the members of an object once, after all of them were read: to insert each at its place would move all that
/// follow it. Of members with the same key the last one counts, as in `jsonb`.
fn in_key_order(mut members: Vec<(String, Json)>) -> Vec<(String, Json)> {
    // The sort is stable, so that from the back the first of equal keys is the last one of the text.
    members.sort_by(|(left, _), (right, _)| key_order(left, right));
    members.reverse();
    members.dedup_by(|(dropped, _), (kept, _)| dropped == kept);
    members.reverse();
    members
}

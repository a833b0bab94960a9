//! The text form of arrays: bounds, braces, quotes.

use super::array::Dimension;
use super::ty::Type;
use super::value::Value;
use crate::filter::error::EvalError;

/// `MAXDIM`
const MAX_DIMENSIONS: usize = 6;

pub(crate) fn write_element(text: &mut String, element: &[u8]) {
    let element = String::from_utf8_lossy(element);
    let special = |b: u8| is_blank(b) || b"\"\\{},".contains(&b);
    if !element.is_empty() && !element.eq_ignore_ascii_case("null") && !element.bytes().any(special) {
        return text.push_str(&element);
    }
    quote_element(text, &element);
}

/// Writes an element in quotes, which its type's text may need or not: Postgres reads both alike.
pub(crate) fn quote_element(text: &mut String, element: &str) {
    text.push('"');
    for symbol in element.chars() {
        if matches!(symbol, '"' | '\\') {
            text.push('\\');
        }
        text.push(symbol);
    }
    text.push('"');
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

const INVALID: EvalError = EvalError::InvalidValue { ty: "array" };

pub(crate) struct Reader<'a> {
    pub element: &'a Type,
    pub text: &'a str,
    pub at: usize,
    pub elements: Vec<Value<'static>>,
    /// Of each level met so far.
    pub lengths: Vec<usize>,
}

impl Reader<'_> {
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    pub(crate) fn skip_blanks(&mut self) {
        while is_blank(self.peek()) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte;
        self.at += usize::from(found);
        found
    }

    /// `[0:1][1:2]=`, where it is there.
    pub(crate) fn bounds(&mut self) -> Option<Option<Vec<Dimension>>> {
        self.skip_blanks();
        if self.peek() != b'[' {
            return Some(None);
        }
        let (given, _) = self.text.get(self.at..)?.split_once('=')?;
        self.at += given.len() + 1;
        let mut dimensions = Vec::new();
        for range in given.trim().strip_suffix(']')?.split(']') {
            let (lower, upper) = range.strip_prefix('[')?.split_once(':')?;
            let (lower, upper) = (lower.parse::<i32>().ok()?, upper.parse::<i32>().ok()?);
            let length = usize::try_from(i64::from(upper) - i64::from(lower) + 1).ok()?;
            dimensions.push(Dimension { lower, length });
        }
        (dimensions.len() <= MAX_DIMENSIONS).then_some(Some(dimensions))
    }

    /// `{…}` at a level; every one of a level has the same length.
    pub(crate) fn braces(&mut self, level: usize) -> Result<(), EvalError> {
        if level >= MAX_DIMENSIONS || !self.eat(b'{') {
            return Err(INVALID);
        }
        let first_of_level = self.lengths.len() == level;
        if first_of_level {
            self.lengths.push(0);
        }
        let mut count = 0;
        self.skip_blanks();
        while !self.eat(b'}') {
            if count > 0 && !self.eat(b',') {
                return Err(INVALID);
            }
            self.skip_blanks();
            if self.peek() == b'{' {
                // Beside an element there are no arrays.
                let beside_element = !self.elements.is_empty() && self.lengths.len() == level + 1;
                (!beside_element).then_some(()).ok_or(INVALID)?;
                self.braces(level + 1)?;
            } else if self.lengths.len() > level + 1 {
                return Err(INVALID);
            } else {
                let element = self.element()?;
                self.elements.push(element);
            }
            self.skip_blanks();
            count += 1;
        }
        let length = self.lengths.get_mut(level).ok_or(INVALID)?;
        if first_of_level {
            *length = count;
        }
        if *length == count && (count > 0 || level == 0) { Ok(()) } else { Err(INVALID) }
    }

    fn element(&mut self) -> Result<Value<'static>, EvalError> {
        let quoted = self.eat(b'"');
        let (mut text, mut kept) = (String::new(), 0);
        loop {
            let rest = self.text.get(self.at..).ok_or(INVALID)?;
            let symbol = rest.chars().next().ok_or(INVALID)?;
            match symbol {
                '\\' => {
                    let escaped = rest.chars().nth(1).ok_or(INVALID)?;
                    self.at += 1 + escaped.len_utf8();
                    text.push(escaped);
                    kept = text.len();
                    continue;
                }
                '"' if quoted => {
                    self.at += 1;
                    break;
                }
                '"' | '{' if !quoted => return Err(INVALID),
                ',' | '}' if !quoted => break,
                _ => {}
            }
            self.at += symbol.len_utf8();
            text.push(symbol);
            if quoted || !u8::try_from(symbol).is_ok_and(is_blank) {
                kept = text.len();
            }
        }
        text.truncate(kept);
        if !quoted && text.is_empty() {
            return Err(INVALID);
        }
        if !quoted && text.eq_ignore_ascii_case("null") {
            return Ok(Value::Null);
        }
        Value::parse(self.element, text.as_bytes()).map(Value::into_owned)
    }
}

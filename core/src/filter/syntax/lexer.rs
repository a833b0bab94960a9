//! Tokens of SQL, by the rules of Postgres's `scan.l` with `standard_conforming_strings` on.

use crate::filter::error::{FilterError, Reason};
use crate::filter::limits::SYNTAX_CURSOR_OFFSET;
use crate::pg::relation::quote_identifier;

/// Longer identifiers are cut, as Postgres does (`NAMEDATALEN - 1`).
const MAX_IDENTIFIER_BYTES: usize = 63;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub kind: TokenKind,
    pub start: usize,
    pub end: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// An unquoted word in lower case: keyword or identifier.
    Word(String),
    /// A quoted identifier.
    Quoted(String),
    /// The value of a string literal.
    Text(String),
    /// `B'…'` or `X'…'`, with the letter in upper case.
    Bits(String),
    /// Decimal digits, perhaps with a dot and an exponent; other notations are already converted.
    Number(String),
    /// `$n`
    Param(u32),
    /// An operator, with `!=` spelled `<>`.
    Op(String),
    /// One of `( ) [ ] , ; . :`
    Punct(char),
    /// `::`
    Cast,
    /// `=>`, `:=`, `..`: tokens of the language that no expression uses.
    Other,
    /// After the last token.
    End,
}

/// All tokens, the last one [`TokenKind::End`].
pub(crate) fn tokenize(text: &str) -> Result<Vec<Token>, FilterError> {
    let mut lexer = Lexer { text, bytes: text.as_bytes(), at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks()?;
        let start = lexer.at;
        let kind = lexer.token()?;
        let done = kind == TokenKind::End;
        tokens.push(Token { kind, start, end: lexer.at });
        if done {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn rest(&self, from: usize) -> &'a str {
        self.text.get(from..).unwrap_or("")
    }

    fn error(&self, what: &'static str, start: usize) -> FilterError {
        let near = self.rest(start).to_owned();
        FilterError::at(start + SYNTAX_CURSOR_OFFSET, Reason::Lexical { what, near })
    }

    /// Blanks, `-- …` and nested `/* … */`.
    fn skip_blanks(&mut self) -> Result<(), FilterError> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, _) => self.at += 1,
                (b'-', b'-') => self.skip_line(),
                (b'/', b'*') => self.skip_comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn skip_line(&mut self) {
        while !matches!(self.peek(0), b'\n' | b'\r') && self.at < self.bytes.len() {
            self.at += 1;
        }
    }

    fn skip_comment(&mut self) -> Result<(), FilterError> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => (self.at, depth) = (self.at + 2, depth + 1),
                (b'*', b'/') => (self.at, depth) = (self.at + 2, depth - 1),
                _ if self.at >= self.bytes.len() => return Err(self.error("unterminated /* comment", start)),
                _ => self.at += 1,
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<TokenKind, FilterError> {
        let start = self.at;
        let byte = self.peek(0);
        if start >= self.bytes.len() {
            return Ok(TokenKind::End);
        }
        match (byte, self.peek(1)) {
            (b'e' | b'E', b'\'') => self.escape_string(start),
            (b'b' | b'B' | b'x' | b'X', b'\'') => self.bits(start, byte),
            (b'u' | b'U', b'&') if self.peek(2) == b'\'' => {
                self.at += 2;
                let raw = self.plain_string(start)?;
                self.unicode_escapes(start, &raw).map(TokenKind::Text)
            }
            (b'u' | b'U', b'&') if self.peek(2) == b'"' => {
                self.at += 2;
                let raw = self.quoted_run(start, b'"', "unterminated quoted identifier")?;
                let name = self.unicode_escapes(start, &raw)?;
                self.identifier(start, name)
            }
            (b'\'', _) => self.plain_string(start).map(TokenKind::Text),
            (b'"', _) => {
                let name = self.quoted_run(start, b'"', "unterminated quoted identifier")?;
                self.identifier(start, name)
            }
            (b'$', b'0'..=b'9') => self.param(start),
            (b'$', _) => self.dollar_string(start),
            (b'0'..=b'9', _) | (b'.', b'0'..=b'9') => self.number(start),
            (b'.', b'.') => self.other(2),
            (b':', b':') => {
                self.at += 2;
                Ok(TokenKind::Cast)
            }
            (b':', b'=') => self.other(2),
            (b'(' | b')' | b'[' | b']' | b',' | b';' | b'.' | b':', _) => {
                self.at += 1;
                Ok(TokenKind::Punct(char::from(byte)))
            }
            _ if is_operator_byte(byte) => Ok(self.operator()),
            _ if is_word_start(byte) => Ok(self.word()),
            _ => {
                let near = self.rest(start).chars().take(1).collect();
                Err(FilterError::at(start + SYNTAX_CURSOR_OFFSET, Reason::Syntax(near)))
            }
        }
    }

    fn other(&mut self, length: usize) -> Result<TokenKind, FilterError> {
        self.at += length;
        Ok(TokenKind::Other)
    }

    fn word(&mut self) -> TokenKind {
        let start = self.at;
        while is_word_part(self.peek(0)) {
            self.at += 1;
        }
        let word = self.text.get(start..self.at).unwrap_or("").to_ascii_lowercase();
        TokenKind::Word(cut_identifier(word))
    }

    fn identifier(&self, start: usize, name: String) -> Result<TokenKind, FilterError> {
        if name.is_empty() {
            return Err(self.error("zero-length delimited identifier", start));
        }
        Ok(TokenKind::Quoted(cut_identifier(name)))
    }

    /// From an opening quote to its end; a doubled quote stands for itself.
    fn quoted_run(&mut self, start: usize, quote: u8, what: &'static str) -> Result<String, FilterError> {
        self.at += 1;
        let mut value = String::new();
        loop {
            let from = self.at;
            let Some(length) = memchr::memchr(quote, self.bytes.get(from..).unwrap_or_default()) else {
                self.at = self.bytes.len();
                return Err(self.error(what, start));
            };
            self.at = from + length + 1;
            value.push_str(self.text.get(from..from + length).unwrap_or(""));
            if self.peek(0) != quote {
                return Ok(value);
            }
            value.push(char::from(quote));
            self.at += 1;
        }
    }

    /// `'…'`, continued by another one after a line break.
    fn plain_string(&mut self, start: usize) -> Result<String, FilterError> {
        let mut value = self.quoted_run(start, b'\'', "unterminated quoted string")?;
        while self.continues() {
            value.push_str(&self.quoted_run(start, b'\'', "unterminated quoted string")?);
        }
        Ok(value)
    }

    /// Moves to the next quote where only blanks with a line break lie between.
    fn continues(&mut self) -> bool {
        let blanks = self.bytes.get(self.at..).unwrap_or_default();
        let length = blanks.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let broken = blanks.iter().take(length).any(|b| matches!(b, b'\n' | b'\r'));
        let found = broken && self.peek(length) == b'\'';
        if found {
            self.at += length;
        }
        found
    }

    /// From the letter to the closing quote.
    fn bits(&mut self, start: usize, letter: u8) -> Result<TokenKind, FilterError> {
        self.at += 1;
        let digits = self.quoted_run(start, b'\'', "unterminated bit string literal")?;
        let binary = letter.eq_ignore_ascii_case(&b'b');
        let is_digit = |b: u8| if binary { matches!(b, b'0' | b'1') } else { b.is_ascii_hexdigit() };
        if !digits.bytes().all(is_digit) {
            return Err(self.error("invalid bit string literal", start));
        }
        Ok(TokenKind::Bits(format!("{}'{digits}'", if binary { 'B' } else { 'X' })))
    }

    fn escape_string(&mut self, start: usize) -> Result<TokenKind, FilterError> {
        self.at += 2;
        let mut value = Vec::new();
        loop {
            match self.peek(0) {
                b'\'' if self.peek(1) == b'\'' => {
                    value.push(b'\'');
                    self.at += 2;
                }
                b'\'' => {
                    self.at += 1;
                    if !self.continues() {
                        break;
                    }
                    self.at += 1;
                }
                b'\\' => self.escape(start, &mut value)?,
                _ if self.at >= self.bytes.len() => {
                    return Err(self.error("unterminated quoted string", start));
                }
                byte => {
                    value.push(byte);
                    self.at += 1;
                }
            }
        }
        match String::from_utf8(value) {
            Ok(text) if !text.contains('\0') => Ok(TokenKind::Text(text)),
            _ => Err(self.error("invalid byte sequence for encoding \"UTF8\"", start)),
        }
    }

    /// One backslash sequence of an `E'…'` string.
    fn escape(&mut self, start: usize, value: &mut Vec<u8>) -> Result<(), FilterError> {
        let byte = self.peek(1);
        self.at += 2;
        match byte {
            b'b' => value.push(0x08),
            b'f' => value.push(0x0c),
            b'n' => value.push(b'\n'),
            b'r' => value.push(b'\r'),
            b't' => value.push(b'\t'),
            b'0'..=b'7' => {
                self.at -= 1;
                let code = self.digits(8, 3).unwrap_or(0);
                value.push(u8::try_from(code & 0xff).unwrap_or(0));
            }
            b'x' if self.peek(0).is_ascii_hexdigit() => {
                let code = self.digits(16, 2).unwrap_or(0);
                value.push(u8::try_from(code).unwrap_or(0));
            }
            b'u' | b'U' => {
                let length = if byte == b'u' { 4 } else { 8 };
                let from = self.at;
                let code = self.digits(16, length).filter(|_| self.at == from + length);
                let Some(symbol) = code.and_then(char::from_u32) else {
                    return Err(self.error("invalid Unicode escape", start));
                };
                value.extend_from_slice(symbol.encode_utf8(&mut [0; 4]).as_bytes());
            }
            0 if self.at > self.bytes.len() => return Err(self.error("unterminated quoted string", start)),
            _ => value.push(byte),
        }
        Ok(())
    }

    /// At most `limit` digits of `radix`.
    fn digits(&mut self, radix: u32, limit: usize) -> Option<u32> {
        let mut code = None;
        for _ in 0..limit {
            let Some(digit) = char::from(self.peek(0)).to_digit(radix) else { break };
            code = Some(code.unwrap_or(0_u32).wrapping_mul(radix).wrapping_add(digit));
            self.at += 1;
        }
        code
    }

    /// `\0061`, `\+000061` and `\\` of `U&'…'`.
    fn unicode_escapes(&self, start: usize, raw: &str) -> Result<String, FilterError> {
        let mut value = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some((before, after)) = rest.split_once('\\') {
            value.push_str(before);
            let (digits, skip) = match after.as_bytes().first() {
                Some(b'\\') => {
                    value.push('\\');
                    rest = after.get(1..).unwrap_or("");
                    continue;
                }
                Some(b'+') => (after.get(1..7), 7),
                _ => (after.get(..4), 4),
            };
            let code = digits
                .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|d| u32::from_str_radix(d, 16).ok());
            match code.and_then(char::from_u32).filter(|c| *c != '\0') {
                Some(symbol) => value.push(symbol),
                None => return Err(self.error("invalid Unicode escape", start)),
            }
            rest = after.get(skip..).unwrap_or("");
        }
        value.push_str(rest);
        Ok(value)
    }

    /// `$tag$…$tag$`
    fn dollar_string(&mut self, start: usize) -> Result<TokenKind, FilterError> {
        let mut length = 1;
        while is_word_part(self.peek(length)) && self.peek(length) != b'$' {
            length += 1;
        }
        if self.peek(length) != b'$' || self.peek(1).is_ascii_digit() {
            let near = "$".to_owned();
            return Err(FilterError::at(start + SYNTAX_CURSOR_OFFSET, Reason::Syntax(near)));
        }
        let body = start + length + 1;
        let tag = self.text.get(start..body).unwrap_or("");
        let Some(size) = self.rest(body).find(tag) else {
            return Err(self.error("unterminated dollar-quoted string", start));
        };
        self.at = body + size + tag.len();
        Ok(TokenKind::Text(self.text.get(body..body + size).unwrap_or("").to_owned()))
    }

    fn param(&mut self, start: usize) -> Result<TokenKind, FilterError> {
        self.at += 1;
        let from = self.at;
        while self.peek(0).is_ascii_digit() {
            self.at += 1;
        }
        if is_word_start(self.peek(0)) {
            return Err(self.junk("trailing junk after parameter", start));
        }
        match self.text.get(from..self.at).unwrap_or("").parse() {
            Ok(number) => Ok(TokenKind::Param(number)),
            Err(_) => Err(self.junk("parameter number too large", start)),
        }
    }

    fn junk(&mut self, what: &'static str, start: usize) -> FilterError {
        while is_word_part(self.peek(0)) {
            self.at += 1;
        }
        let near = self.text.get(start..self.at).unwrap_or("").to_owned();
        FilterError::at(start + SYNTAX_CURSOR_OFFSET, Reason::Lexical { what, near })
    }

    fn number(&mut self, start: usize) -> Result<TokenKind, FilterError> {
        let radix = match (self.peek(0), self.peek(1)) {
            (b'0', b'x' | b'X') => 16,
            (b'0', b'o' | b'O') => 8,
            (b'0', b'b' | b'B') => 2,
            _ => 10,
        };
        if radix != 10 {
            return self.radix_number(start, radix);
        }
        self.digit_run();
        if self.peek(0) == b'.' && self.peek(1) != b'.' {
            self.at += 1;
            self.digit_run();
        }
        let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
        if matches!(self.peek(0), b'e' | b'E') && self.peek(1 + sign).is_ascii_digit() {
            self.at += 1 + sign;
            self.digit_run();
        }
        if is_word_start(self.peek(0)) {
            return Err(self.junk("trailing junk after numeric literal", start));
        }
        Ok(TokenKind::Number(self.text.get(start..self.at).unwrap_or("").replace('_', "")))
    }

    /// Digits, with single underscores between them.
    fn digit_run(&mut self) {
        while self.peek(0).is_ascii_digit() || (self.peek(0) == b'_' && self.peek(1).is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn radix_number(&mut self, start: usize, radix: u32) -> Result<TokenKind, FilterError> {
        self.at += 2;
        let from = self.at;
        while is_word_part(self.peek(0)) {
            self.at += 1;
        }
        let digits = self.text.get(from..self.at).unwrap_or("").replace('_', "");
        match num_bigint::BigUint::parse_bytes(digits.as_bytes(), radix) {
            Some(value) => Ok(TokenKind::Number(value.to_string())),
            None => Err(self.junk("trailing junk after numeric literal", start)),
        }
    }

    /// The longest run of operator bytes, ended by a comment, without a trailing `+` or `-` unless the
    /// operator holds a byte that no SQL-standard operator has.
    fn operator(&mut self) -> TokenKind {
        let bytes = self.bytes.get(self.at..).unwrap_or_default();
        let mut length = bytes.iter().take_while(|b| is_operator_byte(**b)).count();
        let run = bytes.get(..length).unwrap_or_default();
        length = run.windows(2).position(|pair| matches!(pair, b"--" | b"/*")).unwrap_or(length);
        while length > 1
            && matches!(run.get(length - 1), Some(b'+' | b'-'))
            && !run.iter().take(length - 1).any(|b| b"~!@#^&|`?%".contains(b))
        {
            length -= 1;
        }
        let op = self.text.get(self.at..self.at + length).unwrap_or("");
        self.at += length;
        match op {
            "!=" => TokenKind::Op("<>".to_owned()),
            "=>" => TokenKind::Other,
            _ => TokenKind::Op(op.to_owned()),
        }
    }
}

/// How a name is spelled in messages: quoted only where it must be.
pub(crate) fn spelled(name: &str) -> String {
    let plain = name.bytes().enumerate().all(|(i, b)| {
        matches!(b, b'a'..=b'z' | b'_') || b >= 0x80 || (i > 0 && (b.is_ascii_digit() || b == b'$'))
    });
    if plain && !name.is_empty() { name.to_owned() } else { quote_identifier(name) }
}

/// Cuts at a character's boundary.
pub(crate) fn cut_identifier(mut name: String) -> String {
    if name.len() > MAX_IDENTIFIER_BYTES {
        let end = (0..=MAX_IDENTIFIER_BYTES).rev().find(|i| name.is_char_boundary(*i)).unwrap_or(0);
        name.truncate(end);
    }
    name
}

fn is_operator_byte(byte: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&byte)
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_word_part(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn kinds(text: &str) -> Vec<TokenKind> {
        let mut kinds: Vec<_> = tokenize(text).expect("lexes").into_iter().map(|token| token.kind).collect();
        assert_eq!(kinds.pop(), Some(TokenKind::End));
        kinds
    }

    fn one(text: &str) -> TokenKind {
        let mut kinds = kinds(text);
        assert_eq!(kinds.len(), 1, "{text}: {kinds:?}");
        kinds.remove(0)
    }

    #[test]
    fn strings_in_all_spellings() {
        for (text, value) in [
            ("'a''b'", "a'b"),
            ("'a' \n 'b'", "ab"),
            (r"'a\b'", r"a\b"),
            (r"E'a\n\t\x41\101\u00e9\'\\'", "a\n\tAAé'\\"),
            (r"U&'\0061\+000062\\'", "ab\\"),
            ("$$a'b$$", "a'b"),
            ("$x$a$$b$x$", "a$$b"),
        ] {
            assert_eq!(one(text), TokenKind::Text(value.to_owned()), "{text}");
        }
    }

    #[test]
    fn numbers_in_all_spellings() {
        for (text, digits) in
            [("1_000", "1000"), ("0x0A", "10"), ("0b11", "3"), (".5", ".5"), ("5.", "5."), ("1e-5", "1e-5")]
        {
            assert_eq!(one(text), TokenKind::Number(digits.to_owned()), "{text}");
        }
        assert!(tokenize("1a").is_err());
        assert!(tokenize("0x").is_err());
        assert!(tokenize("$1a").is_err());
    }

    #[test]
    fn operators_end_where_postgres_ends_them() {
        let op = |text: &str| TokenKind::Op(text.to_owned());
        let number = || TokenKind::Number("1".to_owned());
        assert_eq!(kinds("=-1"), [op("="), op("-"), number()]);
        assert_eq!(kinds("@-1"), [op("@-"), number()]);
        assert_eq!(kinds("=--1"), [op("=")]);
        assert_eq!(kinds("*/**/1"), [op("*"), number()]);
        assert_eq!(kinds("!="), [op("<>")]);
        assert_eq!(kinds("|/1"), [op("|/"), number()]);
    }

    #[test]
    fn identifiers_fold_and_are_cut() {
        assert_eq!(one("AbC_$1"), TokenKind::Word("abc_$1".to_owned()));
        assert_eq!(one("\"A\"\"b\""), TokenKind::Quoted("A\"b".to_owned()));
        assert_eq!(one(&"é".repeat(40)), TokenKind::Word("é".repeat(31)));
        assert_eq!(spelled("a b"), "\"a b\"");
    }

    #[test]
    fn nested_comments_are_blanks() {
        assert!(kinds("/* a /* b */ c */ -- d").is_empty());
        assert!(tokenize("/* a /* b */").is_err());
    }
}

//! `bytea`, bit strings and `"char"`: the types whose values are bytes or bits rather than characters.

/// `bytea` in hexadecimal notation, where blanks may separate the pairs, or with escapes.
pub(crate) fn parse(text: &[u8]) -> Option<Vec<u8>> {
    match text.strip_prefix(b"\\x") {
        Some(digits) => parse_hex(digits),
        None => parse_escaped(text),
    }
}

fn parse_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    let mut rest = digits.iter();
    while let Some(byte) = rest.next() {
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            continue;
        }
        bytes.push(digit(*byte)? << 4 | digit(*rest.next()?)?);
    }
    Some(bytes)
}

fn parse_escaped(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    while let Some((first, rest)) = text.split_first() {
        text = rest;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        match rest {
            [b'\\', rest @ ..] => {
                bytes.push(b'\\');
                text = rest;
            }
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                text = rest;
            }
            _ => return None,
        }
    }
    Some(bytes)
}

/// With `bytea_output = hex`.
pub(crate) fn format(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("\\x");
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(digit), 16));
        }
    }
    text
}

/// The digits of a bit string, which may be written `b…` or, hexadecimal, `x…`.
pub(crate) fn parse_bits(text: &str) -> Option<String> {
    if let Some(digits) = text.strip_prefix(['x', 'X']) {
        let group = |digit: char| digit.to_digit(16).map(|digit| format!("{digit:04b}"));
        return digits.chars().map(group).collect();
    }
    let digits = text.strip_prefix(['b', 'B']).unwrap_or(text);
    digits.bytes().all(|b| matches!(b, b'0' | b'1')).then(|| digits.to_owned())
}

/// The byte of a `"char"`: the first of a text, or three octal digits after a backslash.
pub(crate) fn parse_char(text: &[u8]) -> u8 {
    match text {
        [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7'] => {
            (a - b'0') << 6 | (b - b'0') << 3 | (c - b'0')
        }
        _ => text.first().copied().unwrap_or(0),
    }
}

pub(crate) fn format_char(byte: i64) -> Vec<u8> {
    u8::try_from(byte).ok().filter(|byte| *byte != 0).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn bytea_in_both_notations() {
        assert_eq!(parse(b"\\x00fF a0"), Some(vec![0, 255, 160]));
        assert_eq!(parse(b"a\\\\\\001"), Some(vec![b'a', b'\\', 1]));
        for bad in [&b"\\x0"[..], b"\\xgg", b"\\x0 0", b"a\\", b"\\9"] {
            assert_eq!(parse(bad), None);
        }
        assert_eq!(format(&[0, 255]), "\\x00ff");
    }

    #[test]
    fn bits_and_chars() {
        assert_eq!(parse_bits("x1F").as_deref(), Some("00011111"));
        assert_eq!(parse_bits("b101").as_deref(), Some("101"));
        assert_eq!(parse_bits("102"), None);
        assert_eq!((parse_char(b"xyz"), parse_char(b""), parse_char(b"\\377")), (b'x', 0, 255));
    }
}

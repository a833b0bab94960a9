//! A message of a log, as far as a derivation looks into it: the parts of a change, and their values as they are spelled.

use super::Underived;
use std::borrow::Cow;

/// A message's parts, as they are spelled.
#[derive(Debug, Clone, Copy)]
pub(super) enum Message<'a> {
    /// A row comes, changes or goes.
    Change(Change<'a>),
    /// Something else.
    Control,
}

/// A change of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) old_value: Option<&'a [u8]>,
    pub(super) headers: Headers<'a>,
}

/// The headers of a change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Headers<'a> {
    raw: &'a [u8],
    pub(super) operation: Operation,
    /// The keys that the halves of a key change name.
    pub(super) key_change_to: Option<&'a [u8]>,
    pub(super) key_change_from: Option<&'a [u8]>,
}

/// The row comes, changes or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Insert,
    Update,
    Delete,
}

impl Operation {
    const fn as_json(self) -> &'static [u8] {
        match self {
            Self::Insert => b"\"insert\"",
            Self::Update => b"\"update\"",
            Self::Delete => b"\"delete\"",
        }
    }
}

impl<'a> Message<'a> {
    pub(super) fn read(message: &'a [u8]) -> Result<Self, Underived> {
        let (mut key, mut value, mut old_value, mut headers) = (None, None, None, None);
        let mut members = Members::of(message)?;
        while let Some((name, member)) = members.next()? {
            match name {
                b"\"key\"" => key = Some(member),
                b"\"value\"" => value = Some(member),
                b"\"old_value\"" => old_value = Some(member),
                b"\"headers\"" => headers = Some(member),
                _ => {}
            }
        }
        let headers = headers.ok_or(Underived::Unreadable)?;
        match (key, value) {
            (Some(key), Some(value)) => {
                let headers = Headers::read(headers)?;
                Ok(Self::Change(Change { key, value, old_value, headers }))
            }
            _ if has_member(headers, b"\"control\"")? => Ok(Self::Control),
            _ => Err(Underived::Unreadable),
        }
    }
}

impl<'a> Headers<'a> {
    fn read(raw: &'a [u8]) -> Result<Self, Underived> {
        let (mut operation, mut key_change_to, mut key_change_from) = (None, None, None);
        let mut members = Members::of(raw)?;
        while let Some((name, member)) = members.next()? {
            match name {
                b"\"operation\"" => {
                    let all = [Operation::Insert, Operation::Update, Operation::Delete];
                    operation = all.into_iter().find(|known| known.as_json() == member);
                }
                b"\"key_change_to\"" => key_change_to = Some(member),
                b"\"key_change_from\"" => key_change_from = Some(member),
                // Rows that depend on other tables are told of by more than changes.
                b"\"tags\"" => return Err(Underived::Unreadable),
                _ => {}
            }
        }
        let operation = operation.ok_or(Underived::Unreadable)?;
        Ok(Self { raw, operation, key_change_to, key_change_from })
    }

    /// Appends the headers with another operation; `linked` are those that name the other half of a key change.
    pub(super) fn push(
        &self,
        out: &mut Vec<u8>,
        operation: Operation,
        linked: bool,
    ) -> Result<(), Underived> {
        out.push(b'{');
        let (mut members, mut first) = (Members::of(self.raw)?, true);
        while let Some((name, member)) = members.next()? {
            let member = match name {
                b"\"key_change_to\"" | b"\"key_change_from\"" if !linked => continue,
                b"\"operation\"" => operation.as_json(),
                _ => member,
            };
            push_member(out, &mut first, name, member);
        }
        out.push(b'}');
        Ok(())
    }
}

fn has_member(object: &[u8], wanted: &[u8]) -> Result<bool, Underived> {
    let mut members = Members::of(object)?;
    while let Some((name, _)) = members.next()? {
        if name == wanted {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Appends `name:value`, behind a comma unless it is the first.
pub(super) fn push_member(out: &mut Vec<u8>, first: &mut bool, name: &[u8], value: &[u8]) {
    if !std::mem::take(first) {
        out.push(b',');
    }
    out.extend_from_slice(name);
    out.push(b':');
    out.extend_from_slice(value);
}

/// A name and its value.
pub(super) type Member<'a> = (&'a [u8], &'a [u8]);

/// The members of an object: names with their quotes, and values, as they are spelled.
pub(super) struct Members<'a> {
    rest: &'a [u8],
    begun: bool,
}

impl<'a> Members<'a> {
    pub(super) fn of(object: &'a [u8]) -> Result<Self, Underived> {
        let rest = object.trim_ascii_start().strip_prefix(b"{").ok_or(Underived::Unreadable)?;
        Ok(Self { rest, begun: false })
    }

    /// The next member; `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<Member<'a>>, Underived> {
        let mut rest = self.rest.trim_ascii_start();
        if rest.first() == Some(&b'}') {
            return Ok(None);
        }
        if std::mem::replace(&mut self.begun, true) {
            rest = rest.strip_prefix(b",").ok_or(Underived::Unreadable)?.trim_ascii_start();
        }
        let (name, rest) = cut(rest, text_length(rest)?)?;
        let rest = rest.trim_ascii_start().strip_prefix(b":").ok_or(Underived::Unreadable)?;
        let rest = rest.trim_ascii_start();
        let (value, rest) = cut(rest, value_length(rest)?)?;
        self.rest = rest;
        Ok(Some((name, value)))
    }
}

fn cut(bytes: &[u8], length: usize) -> Result<(&[u8], &[u8]), Underived> {
    bytes.split_at_checked(length).ok_or(Underived::Unreadable)
}

/// The length of the string that the bytes begin with, quotes included.
fn text_length(bytes: &[u8]) -> Result<usize, Underived> {
    let mut escaped = false;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' if at == 0 => {}
            _ if at == 0 => break,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Ok(at + 1),
            _ => {}
        }
    }
    Err(Underived::Unreadable)
}

/// The length of the value that the bytes begin with.
fn value_length(bytes: &[u8]) -> Result<usize, Underived> {
    let (mut at, mut depth) = (0_usize, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at += text_length(bytes.get(at..).unwrap_or_default())? - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 0 => depth -= 1,
            b',' | b'}' | b']' if depth == 0 => {
                return if at > 0 { Ok(at) } else { Err(Underived::Unreadable) };
            }
            _ => {}
        }
        at += 1;
        let ends = matches!(byte, b'"' | b'}' | b']');
        if depth == 0 && ends {
            return Ok(at);
        }
    }
    Err(Underived::Unreadable)
}

/// The text that a value of a row has; `None` for NULL.
pub(super) fn text(value: &[u8]) -> Result<Option<Cow<'_, [u8]>>, Underived> {
    if value == b"null" {
        return Ok(None);
    }
    let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let inner = inner.ok_or(Underived::Unreadable)?;
    if !inner.contains(&b'\\') {
        return Ok(Some(Cow::Borrowed(inner)));
    }
    let text: String = serde_json::from_slice(value).map_err(|_| Underived::Unreadable)?;
    Ok(Some(Cow::Owned(text.into_bytes())))
}

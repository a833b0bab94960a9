//! One row of a subquery's result, in a form that compares as its values do.
//!
//! ```text
//! member = cell*
//! cell   = 0                            SQL NULL
//!        | 1 length:u32 bytes           the value's text, little endian
//! ```
//!
//! Texts are brought to one form by [`Dependency::key`](crate::filter::Dependency::key) first, so that equal
//! values have equal texts.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Borrow;

/// A row of a subquery's result.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member(Box<[u8]>);

impl Member {
    /// The member with these values.
    pub fn new<'a>(cells: impl IntoIterator<Item = Option<&'a [u8]>>) -> Self {
        let mut bytes = Vec::new();
        cells.into_iter().for_each(|cell| push_cell(&mut bytes, cell));
        Self(bytes.into())
    }

    /// Its values in order.
    #[must_use]
    pub fn cells(&self) -> Cells<'_> {
        Cells(&self.0)
    }

    /// True where a value is NULL.
    #[must_use]
    pub fn has_null(&self) -> bool {
        self.cells().any(|cell| cell.is_none())
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.0.len()
    }

    /// Every member that has NULL in the place of some of this one's values, and this one.
    pub fn with_nulls(&self) -> impl Iterator<Item = Self> + '_ {
        let count = self.cells().count();
        (0..1_u32 << count.min(COLUMNS_MAX)).map(|mask| {
            let kept = |(i, cell): (usize, Option<_>)| cell.filter(|_| mask & (1 << i) == 0);
            Self::new(self.cells().enumerate().map(|cell| kept(cell).map(|text: &[u8]| text)))
        })
    }
}

/// Columns of a subquery whose combinations with NULL are spelled out.
pub const COLUMNS_MAX: usize = 4;

/// Appends a value to a member in the making.
pub fn push_cell(out: &mut Vec<u8>, cell: Option<&[u8]>) {
    match cell {
        None => out.push(0),
        Some(text) => {
            out.push(1);
            let length = u32::try_from(text.len()).expect("a value is at most 1 GB");
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(text);
        }
    }
}

/// The values of an encoded member.
#[derive(Debug, Clone)]
pub struct Cells<'a>(pub &'a [u8]);

impl<'a> Iterator for Cells<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&kind, rest) = self.0.split_first()?;
        if kind == 0 {
            self.0 = rest;
            return Some(None);
        }
        let (length, rest) = rest.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.0 = rest;
        Some(Some(text))
    }
}

impl Borrow<[u8]> for Member {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// A list of strings and nulls: Postgres's texts are UTF-8.
impl Serialize for Member {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.cells().map(|cell| cell.map(String::from_utf8_lossy)))
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let cells: Vec<Option<String>> = Deserialize::deserialize(deserializer)?;
        Ok(Self::new(cells.iter().map(|cell| cell.as_deref().map(str::as_bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn member(cells: &[Option<&str>]) -> Member {
        Member::new(cells.iter().map(|cell| cell.map(str::as_bytes)))
    }

    #[test]
    fn values_come_back_as_they_went_in() {
        for cells in [vec![Some("a"), None, Some("")], vec![None], vec![Some("ü/\0")]] {
            let made = member(&cells);
            let read: Vec<_> =
                made.cells().map(|cell| cell.map(|t| std::str::from_utf8(t).unwrap())).collect();
            assert_eq!(read, cells);
            let json = serde_json::to_string(&made).unwrap();
            assert_eq!(serde_json::from_str::<Member>(&json).unwrap(), made);
        }
    }

    #[test]
    fn a_value_and_its_neighbour_are_kept_apart() {
        assert_ne!(member(&[Some("a"), Some("b")]), member(&[Some("ab"), Some("")]));
        assert_ne!(member(&[None]), member(&[Some("")]));
    }

    #[test]
    fn a_member_takes_its_texts_and_what_tells_them_apart() {
        let lengths = [&[None][..], &[Some("")], &[Some("abc")], &[None, Some("abc")]];
        assert_eq!(lengths.map(|cells| member(cells).len_bytes()), [1, 5, 8, 9]);
    }

    #[test]
    fn nulls_take_every_place() {
        let all: Vec<_> = member(&[Some("a"), Some("b")]).with_nulls().collect();
        let expected = [
            member(&[Some("a"), Some("b")]),
            member(&[None, Some("b")]),
            member(&[Some("a"), None]),
            member(&[None, None]),
        ];
        assert_eq!(all, expected);
    }
}

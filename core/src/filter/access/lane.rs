//! The expressions that an index evaluates for every row, each once for all clauses that ask it.

use super::key::{self, Form};
use crate::filter::data_type::ty::Type;
use crate::filter::data_type::value::Value;
use crate::filter::eval::expr::Expr;
use crate::filter::eval::text::lower_char;
use crate::filter::eval::value;
use crate::filter::sql::canonical;
use crate::pg::{Collation, Row};
use std::str;

/// An expression of a clause, and what of its value counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe<'a> {
    pub(super) expr: &'a Expr,
    pub(super) reading: Reading,
}

/// The part of a value that an index reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Reading {
    /// Its key.
    Key(Form),
    /// The keys of an array's elements.
    Elements(Form),
    /// Its text, in which pieces are looked for.
    Text(Fold),
    /// Only that there is one, or none.
    Presence,
}

/// The differences in case that count in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Fold {
    /// All.
    Exact,
    /// Nothing of ASCII's.
    Ascii,
    /// Nothing.
    Unicode,
}

/// The name by which equal probes of several clauses find each other: the canonical text of the expression, and what of
/// its value counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LaneName(String, Reading);

/// A probe of its own.
#[derive(Debug)]
pub(crate) struct Lane {
    expr: Expr,
    reading: Reading,
}

/// The result of reading a row by a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// NULL.
    Null,
    /// A value.
    Value,
    /// Nothing that core understands: a clause that asks for it fails on the row, unless another term decides.
    Failed,
}

impl Probe<'_> {
    /// The name of its lane.
    pub(crate) fn name(&self) -> LaneName {
        LaneName(canonical::text(self.expr), self.reading)
    }

    /// The lane itself.
    pub(crate) fn lane(&self) -> Lane {
        Lane { expr: self.expr.clone(), reading: self.reading }
    }
}

impl Fold {
    /// That of a pattern.
    pub(super) fn new(fold_case: Option<Collation>) -> Self {
        match fold_case {
            None => Self::Exact,
            Some(Collation::C) => Self::Ascii,
            Some(_) => Self::Unicode,
        }
    }

    fn push(self, text: &str, out: &mut Vec<u8>) {
        let collation = match self {
            Self::Exact => return out.extend_from_slice(text.as_bytes()),
            Self::Ascii => Collation::C,
            Self::Unicode => Collation::CodePoint,
        };
        let mut bytes = [0; 4];
        for symbol in text.chars() {
            if symbol.is_ascii() {
                out.push(u8::try_from(symbol.to_ascii_lowercase()).unwrap_or_default());
            } else {
                let folded = lower_char(symbol, collation).encode_utf8(&mut bytes);
                out.extend_from_slice(folded.as_bytes());
            }
        }
    }
}

impl Lane {
    /// Reads a row; the key, or the text, goes into `out`.
    pub(crate) fn read<R: Row + ?Sized>(&self, row: &R, out: &mut Vec<u8>) -> Sight {
        if let Expr::Column { index, ty, .. } = &self.expr {
            let Some(text) = row.text(*index) else { return Sight::Null };
            match self.reading {
                Reading::Presence | Reading::Elements(_) => return Sight::Value,
                Reading::Key(Form::Label) => {
                    key::push_text(text, out);
                    return Sight::Value;
                }
                // Without a look at the bytes, which evaluation does not give either.
                Reading::Key(Form::Text) if matches!(ty, Type::Text | Type::Varchar) => {
                    key::push_text(text, out);
                    return Sight::Value;
                }
                Reading::Key(_) | Reading::Text(_) => {}
            }
        }
        let value = match value(&self.expr, row) {
            Ok(Value::Null) => return Sight::Null,
            Ok(value) => value,
            Err(_) => return Sight::Failed,
        };
        let is_read = match (self.reading, &value) {
            (Reading::Key(form), value) => form.push(value, out).is_ok(),
            (Reading::Text(fold), Value::Text(text)) => match str::from_utf8(text) {
                Ok(text) => {
                    fold.push(text, out);
                    true
                }
                Err(_) => false,
            },
            (Reading::Text(_), _) => false,
            (Reading::Presence | Reading::Elements(_), _) => true,
        };
        if is_read { Sight::Value } else { Sight::Failed }
    }

    /// Calls `each` with the key of every element that the row's array has; `key` is room for it.
    pub(crate) fn elements<R: Row + ?Sized>(
        &self,
        row: &R,
        key: &mut Vec<u8>,
        mut each: impl FnMut(&[u8]),
    ) -> Sight {
        let Reading::Elements(form) = self.reading else { return Sight::Failed };
        let array = match value(&self.expr, row) {
            Ok(Value::Null) => return Sight::Null,
            Ok(Value::Array(array)) => array,
            Ok(_) | Err(_) => return Sight::Failed,
        };
        for element in array.elements.iter().filter(|element| **element != Value::Null) {
            key.clear();
            if form.push(element, key).is_err() {
                return Sight::Failed;
            }
            each(key);
        }
        Sight::Value
    }
}

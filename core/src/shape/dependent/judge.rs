//! Whether a row belongs to a shape with subqueries, and the tags by which clients can tell when it no longer
//! does (protocol §4.8).

use super::member::push_cell;
use super::view::View;
use crate::filter::{Condition, EvalError, SubqueryFilter};
use crate::pg::Row;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::Arc;

/// Bytes of a hashed value, before they are written as hexadecimal digits.
const HASH_BYTES: usize = 16;

/// The judge of one shape's rows.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) filter: Arc<SubqueryFilter>,
    /// Makes equal values of two shapes look different.
    salt: Box<str>,
}

/// Which positions of the filter are true of a row: bit `i` for position `i`. A position that is NULL is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Active(pub(super) u128);

/// The tags of a row: one for each disjunct, as the inside of a JSON string.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tags(Vec<String>);

impl Judge {
    pub(super) fn new(filter: Arc<SubqueryFilter>, salt: &str) -> Self {
        Self { filter, salt: salt.into() }
    }

    /// Judges each position of the filter.
    pub(super) fn active(&self, views: &[View], row: &impl Row) -> Result<Active, EvalError> {
        let mut active = Active::default();
        let mut value = Vec::new();
        for (position, part) in self.filter.positions().iter().enumerate() {
            let is_true = match &part.condition {
                Condition::Plain(filter) => filter.evaluate(row)? == Some(true),
                Condition::Member { dependency, columns } => {
                    self.encode(*dependency, columns, row, &mut value);
                    let contained = views.get(*dependency).map_or(Some(false), |view| view.contains(&value));
                    contained == Some(!part.negated)
                }
            };
            active.0 |= u128::from(is_true) << position;
        }
        Ok(active)
    }

    /// Whether a position is true of rows that hold a value.
    pub(super) fn is_true(&self, views: &[View], position: usize, value: &[u8]) -> bool {
        let Some(part) = self.filter.positions().get(position) else { return false };
        let Condition::Member { dependency, .. } = &part.condition else { return false };
        let contained = views.get(*dependency).map_or(Some(false), |view| view.contains(value));
        contained == Some(!part.negated)
    }

    /// True where some disjunct is true in all its positions.
    pub(super) fn includes(&self, active: Active) -> bool {
        self.filter.disjuncts().iter().any(|range| range.clone().all(|position| active.has(position)))
    }

    /// The tags of a row: a slot for each position, those of other disjuncts empty.
    pub(super) fn tags(&self, row: &impl Row) -> Tags {
        let positions = self.filter.positions();
        let mut value = Vec::new();
        let tag = |range: &std::ops::Range<usize>| {
            let mut tag = String::new();
            for (position, part) in positions.iter().enumerate() {
                if position > 0 {
                    tag.push('/');
                }
                if !range.contains(&position) {
                    continue;
                }
                match &part.condition {
                    Condition::Plain(_) => tag.push('1'),
                    Condition::Member { dependency, columns } => {
                        self.encode(*dependency, columns, row, &mut value);
                        self.push_hash(&value, &mut tag);
                    }
                }
            }
            tag
        };
        Tags(self.filter.disjuncts().iter().map(tag).collect())
    }

    /// Appends what stands for a value in tags and patterns.
    pub(super) fn push_hash(&self, value: &[u8], out: &mut String) {
        let mut hasher = Sha256::new();
        hasher.update(self.salt.as_bytes());
        hasher.update([0]);
        // Each cell brings its length along: no two values are the same bytes.
        hasher.update(value);
        for byte in hasher.finalize().iter().take(HASH_BYTES) {
            write!(out, "{byte:02x}").expect("writing to a string never fails");
        }
    }

    /// The value that a row holds against a subquery's members, encoded as they are.
    fn encode(&self, dependency: usize, columns: &[usize], row: &impl Row, out: &mut Vec<u8>) {
        out.clear();
        let Some(dependency) = self.filter.dependencies().get(dependency) else { return };
        for (index, column) in columns.iter().enumerate() {
            let text = row.text(*column).map(|text| dependency.key(index, text));
            push_cell(out, text.as_deref());
        }
    }
}

impl Active {
    pub(super) const fn has(self, position: usize) -> bool {
        self.0 >> position & 1 == 1
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Tags {
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Those that the other row does not have.
    pub(super) fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        self.iter().filter(|tag| !other.0.iter().any(|known| known == tag))
    }
}

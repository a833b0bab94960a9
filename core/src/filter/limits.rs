//! How large a clause may be, and where its positions are counted from.

use super::error::FilterError;

/// A longer clause is refused before it is read.
pub const MAX_BYTES: usize = 65_536;
/// Levels of operators inside operators. Chains of AND and OR count once.
pub const MAX_DEPTH: usize = 48;
/// Operators, columns and literals of a clause; casts are not counted.
pub const MAX_TERMS: usize = 20_000;
/// Subqueries of a clause, those in subqueries included.
pub const MAX_SUBQUERIES: usize = 100;
/// Alternatives of a clause with subqueries, once it is an OR of ANDs.
pub const MAX_DISJUNCTS: usize = 100;
/// Terms of all alternatives together: every row of the shape carries the truth of each.
pub const MAX_POSITIONS: usize = 500;
/// Levels of the parser's own calls: parentheses and prefixes come on top of [`MAX_DEPTH`].
pub(super) const MAX_NESTING: usize = 2 * MAX_DEPTH + 8;
/// Syntax errors count the bytes of `SELECT 1 WHERE ` before the clause.
pub(super) const SYNTAX_CURSOR_OFFSET: usize = 15;

/// A clause of a request may be [`MAX_BYTES`] long.
pub(super) fn check_size(text: &str) -> Result<(), FilterError> {
    if text.len() > MAX_BYTES { Err(FilterError::TooLarge { size: text.len() }) } else { Ok(()) }
}

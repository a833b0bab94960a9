//! Two clauses about the rows of one table, joined to one that is true where both are.

use super::error::FilterError;
use super::limits::check_size;
use super::syntax::ast::{Kind, Node};
use super::syntax::lexer::{TokenKind, tokenize};
use super::syntax::parse::{Subqueries, parse};
use crate::pg::QualifiedName;
use std::fmt::Write as _;

/// A clause that others may narrow and never widen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence<'a> {
    /// The table whose rows it is about.
    pub table: &'a QualifiedName,
    /// The clause, which [`Fence::check`] has taken, if rows are fenced at all.
    pub clause: Option<&'a str>,
    /// How many parameters it has: those of a clause that narrows it are numbered behind them.
    pub params: u32,
    /// The columns that a clause which narrows it may name; all of them where none are listed.
    pub columns: Option<&'a [String]>,
}

/// Why a clause may not narrow another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarrowingError {
    /// It is not one whole expression about the row alone.
    #[error("{0}")]
    Unreadable(#[from] FilterError),
    /// It names a column that it may not.
    #[error("column {0:?} may not be named")]
    Column(String),
    /// It names a parameter that cannot be.
    #[error("there is no parameter ${0}")]
    Param(u32),
}

impl Fence<'_> {
    /// Looks whether the fence's own clause can be read, and has no other parameters than its own.
    ///
    /// # Errors
    /// [`NarrowingError`].
    pub fn check(&self) -> Result<(), NarrowingError> {
        let Some(clause) = self.clause else { return Ok(()) };
        check_size(clause)?;
        parse(clause, Subqueries::Accepted, Some(self.table))?;
        let is_known = |number: &u32| (1..=self.params).contains(number);
        params(clause)?
            .find(|number| !is_known(number))
            .map_or(Ok(()), |number| Err(NarrowingError::Param(number)))
    }

    /// The clause that is true where the fence's and `clause` are, whose `$1` becomes the one behind the fence's
    /// last.
    ///
    /// # Errors
    /// [`NarrowingError`]: each of the two has to be a whole expression for itself, so that neither can end the
    /// parentheses that it stands in.
    pub fn narrowed(&self, clause: &str) -> Result<String, NarrowingError> {
        check_size(clause)?;
        let node = parse(clause, Subqueries::Refused, Some(self.table))?;
        if let Some(allowed) = self.columns {
            check_columns(&node, allowed)?;
        }
        let clause = self.renumbered(clause)?;
        Ok(match self.clause {
            // A comment may end a clause; a new line ends the comment.
            Some(own) => format!("({own}\n) AND ({clause}\n)"),
            None => clause,
        })
    }

    fn renumbered(&self, clause: &str) -> Result<String, NarrowingError> {
        let (mut out, mut copied) = (String::with_capacity(clause.len()), 0);
        for token in tokenize(clause)? {
            let TokenKind::Param(number) = token.kind else { continue };
            let moved = number.checked_add(self.params).filter(|_| number > 0);
            let moved = moved.ok_or(NarrowingError::Param(number))?;
            out.push_str(clause.get(copied..token.start).unwrap_or_default());
            let _ = write!(out, "${moved}");
            copied = token.end;
        }
        out.push_str(clause.get(copied..).unwrap_or_default());
        Ok(out)
    }
}

/// The numbers of a clause's parameters, in the order in which they stand.
fn params(clause: &str) -> Result<impl Iterator<Item = u32>, FilterError> {
    Ok(tokenize(clause)?.into_iter().filter_map(|token| match token.kind {
        TokenKind::Param(number) => Some(number),
        _ => None,
    }))
}

/// Looks at the last part of every name: the others are the table's, and a table's name alone, which means the whole
/// row, is no column's.
fn check_columns(node: &Node, allowed: &[String]) -> Result<(), NarrowingError> {
    if let Kind::Column(parts) = &node.kind
        && let Some(name) = parts.last()
        && !allowed.contains(name)
    {
        return Err(NarrowingError::Column(name.clone()));
    }
    node.children().into_iter().try_for_each(|child| check_columns(child, allowed))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn narrowed(
        own: &str,
        params: u32,
        columns: Option<&[String]>,
        clause: &str,
    ) -> Result<String, NarrowingError> {
        let table = QualifiedName::new("public", "t");
        let fence = Fence { table: &table, clause: Some(own), params, columns };
        fence.check()?;
        fence.narrowed(clause)
    }

    #[test]
    fn both_clauses_hold_and_parameters_follow() {
        assert_eq!(
            narrowed("a = $1 OR b = $2", 2, None, "c = $1 AND d = '$1' AND \"$1\" < $12 -- $1").unwrap(),
            "(a = $1 OR b = $2\n) AND (c = $3 AND d = '$1' AND \"$1\" < $14 -- $1\n)"
        );
        assert_eq!(narrowed("a -- x", 0, None, "t.b").unwrap(), "(a -- x\n) AND (t.b\n)");
    }

    #[test]
    fn a_clause_cannot_leave_its_parentheses() {
        for clause in [
            "true) OR (true",
            "true) OR true --",
            "true /* ",
            "true; SELECT 1",
            "",
            ")",
            "true\0",
            "'",
            "a = $tag$ ) OR true $tag",
            "id IN (SELECT id FROM other)",
            "EXISTS (SELECT 1)",
            "(SELECT true)",
        ] {
            let narrowed = narrowed("a", 0, None, clause);
            assert!(matches!(narrowed, Err(NarrowingError::Unreadable(_))), "{clause}: {narrowed:?}");
        }
    }

    #[test]
    fn a_parameter_cannot_become_one_of_the_fence() {
        assert_eq!(narrowed("a = $1", 1, None, "b = $0"), Err(NarrowingError::Param(0)));
        assert_eq!(narrowed("a = $1", 1, None, "b = $4294967295"), Err(NarrowingError::Param(u32::MAX)));
        assert_eq!(narrowed("a = $2", 1, None, "b"), Err(NarrowingError::Param(2)));
        assert_eq!(narrowed("a = $0", 1, None, "b"), Err(NarrowingError::Param(0)));
    }

    #[test]
    fn only_listed_columns_may_be_named() {
        let allowed = ["id".to_owned(), "Name".to_owned()];
        let narrowed = |clause: &str| narrowed("tenant = 1", 0, Some(&allowed), clause);
        for clause in ["id = 1", "t.id > 2 AND \"Name\" LIKE 'a%'", "public.t.ID IS NULL", "true"] {
            assert!(narrowed(clause).is_ok(), "{clause}");
        }
        for (clause, named) in [
            ("name = 'a'", "name"),
            ("id = 1 OR salary > 1", "salary"),
            ("t.salary > 1", "salary"),
            ("CASE WHEN id = 1 THEN salary > 1 END", "salary"),
            ("id = ANY (ARRAY[salary])", "salary"),
            ("coalesce(id, salary) = 1", "salary"),
            ("t IS NOT NULL", "t"),
            ("(t).salary = 1", "t"),
            ("ctid = '(0,1)'", "ctid"),
        ] {
            assert_eq!(narrowed(clause), Err(NarrowingError::Column(named.to_owned())), "{clause}");
        }
    }
}

//! The WHERE clause: parsed with Postgres's own precedence, checked against a relation's columns, evaluated
//! over rows in text format, and written back as canonical SQL for the snapshot query.
//!
//! The canonical text makes Postgres compute the snapshot with the very types and values that core uses for
//! changes, so both must agree; what core could not evaluate exactly is refused, with an error that tells
//! whether Postgres could. Texts have an order and a case here only under collations that go by code point.
//!
//! It is a compiler, and its folders are the passes; each imports only those before it: `syntax` (text to nodes),
//! `data_type` (types, values, which operators and casts exist), `eval` (typed expressions and their evaluation),
//! `check` (nodes to expressions), `sql` (back to text). `resolver` reads a clause with subqueries, and [`Clause`] is
//! what a request's clause turns out to be.

mod access;
mod alike;
mod check;
mod clause;
mod data_type;
mod error;
mod eval;
mod limits;
mod membership;
mod narrowing;
mod resolver;
mod sql;
mod subquery;
mod syntax;
mod text;

#[cfg(test)]
mod tests;

pub(crate) use access::{AT, Access, Lane, LaneName, Place, Probe, Sight};
pub use clause::{Clause, subquery_tables};
pub(crate) use data_type::array_text::quote_element;
pub use error::{EvalError, FilterError, Reason};
pub use limits::{MAX_BYTES, MAX_DEPTH, MAX_DISJUNCTS, MAX_POSITIONS, MAX_SUBQUERIES, MAX_TERMS};
pub use membership::Equal;
pub use narrowing::{Fence, NarrowingError};
pub use sql::postgres::{Claims, PostgresFilter, PurityClaim, STABLE_FUNCTIONS, Signature};
pub use subquery::{Condition, Dependency, Position, SubqueryFilter};
pub use syntax::order_by::{OrderBy, OrderByError};
pub use syntax::subject::Subject;
pub use text::FilterText;

use crate::pg::{Column, Row};
use data_type::operator::{Comparison, Order};
use data_type::ty::Type;
use data_type::value::Value;
use eval::expr::Expr;
use limits::check_size;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use syntax::parse::{self, Subqueries};

/// A WHERE clause that was parsed and checked. Two filters are equal when their canonical texts and the
/// positions of their columns are.
#[derive(Debug, Clone)]
pub struct Filter {
    expr: Expr,
    text: Arc<FilterText>,
}

impl Filter {
    /// Reads a clause. `columns` are the relation's columns in table order, `params` the values of `$1`, `$2`, …
    ///
    /// # Errors
    /// Everything that is wrong with the clause, in the words of the 400 answer. An empty or blank clause is a
    /// syntax error here; for requests it counts as absent.
    pub fn parse(
        text: &str,
        params: &BTreeMap<u32, String>,
        columns: &[Column],
    ) -> Result<Self, FilterError> {
        check_size(text)?;
        Self::read(text, params, columns)
    }

    /// Reads a text that [`Filter::sql`] wrote, which may be longer than what requests may send.
    ///
    /// # Errors
    /// As [`Filter::parse`], when the columns are no longer what they were.
    pub fn restore(sql: &str, columns: &[Column]) -> Result<Self, FilterError> {
        Self::read(sql, &BTreeMap::new(), columns)
    }

    /// Reads a clause whose columns may be qualified by the table's name.
    ///
    /// # Errors
    /// As [`Filter::parse`].
    pub fn parse_about(
        text: &str,
        params: &BTreeMap<u32, String>,
        table: Subject<'_>,
    ) -> Result<Self, FilterError> {
        check_size(text)?;
        let node = parse::parse(text, Subqueries::Refused, table.name)?;
        check::Checker::new(table.columns, params).clause(&node).map(Self::of)
    }

    fn read(text: &str, params: &BTreeMap<u32, String>, columns: &[Column]) -> Result<Self, FilterError> {
        let node = parse::parse(text, Subqueries::Refused, None)?;
        check::Checker::new(columns, params).clause(&node).map(Self::of)
    }

    fn of(expr: Expr) -> Self {
        let mut columns = BTreeSet::new();
        expr.collect_columns(&mut columns);
        let text = FilterText::new(&sql::canonical::text(&expr), columns.into_iter().collect());
        Self { text, expr }
    }

    /// The canonical text: columns quoted, parameters inlined as `'v'::type`, constants folded, operations in
    /// parentheses, operands in their order. It belongs into parentheses before AND or NOT.
    #[must_use]
    pub fn sql(&self) -> &str {
        self.text.sql()
    }

    /// The clause as its text, which outlives what was read from it.
    #[must_use]
    pub const fn text(&self) -> &Arc<FilterText> {
        &self.text
    }

    /// Whether a row satisfies the clause: it belongs to the shape only on `Some(true)`.
    ///
    /// # Errors
    /// When Postgres would fail on the row, or a value is in a form that core does not read.
    pub fn evaluate<R: Row + ?Sized>(&self, row: &R) -> Result<Option<bool>, EvalError> {
        eval::truth(&self.expr, row)
    }

    /// Positions of the columns that the clause mentions, sorted.
    #[must_use]
    pub fn columns(&self) -> &[usize] {
        self.text.columns()
    }

    /// A column whose text must be equal to one value in every row that satisfies the clause.
    #[must_use]
    pub fn equality(&self) -> Option<Equality> {
        find_equality(&self.expr).map(|(column, text)| Equality { column, text })
    }

    /// True where it is plain to see that every row which satisfies this clause satisfies the other one, too: each of the
    /// terms that the other joins by AND is one of this one's, in the same canonical text.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        let own: Vec<String> = self.terms().iter().map(sql::canonical::text).collect();
        other.terms().iter().all(|term| own.contains(&sql::canonical::text(term)))
    }

    fn terms(&self) -> &[Expr] {
        match &self.expr {
            Expr::And(terms) => terms,
            other => std::slice::from_ref(other),
        }
    }

    /// The places at which an index finds the clause; `None` where it has to be evaluated for every row.
    pub(crate) fn access(&self) -> Option<Access<'_>> {
        Access::of(&self.expr)
    }

    /// The same of rows that satisfy all these clauses.
    pub(crate) fn access_of_all<'a>(filters: impl IntoIterator<Item = &'a Self>) -> Option<Access<'a>> {
        Access::all(filters.into_iter().map(|filter| &filter.expr))
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Filter {}

/// The oid of a type of Postgres's own whose values core reads, by its name in the catalog.
#[must_use]
pub fn known_type_oid(name: &str) -> Option<u32> {
    data_type::ty::SCALARS.iter().find(|ty| ty.catalog_name() == name)?.oid()
}

/// `column = literal`, as the text Postgres sends for the column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Equality {
    /// The column's position in table order.
    pub column: usize,
    /// The text it must have.
    pub text: String,
}

fn find_equality(expr: &Expr) -> Option<(usize, String)> {
    match expr {
        Expr::And(terms) => terms.iter().find_map(find_equality),
        Expr::Column { index, ty: Type::Bool, .. } => Some((*index, "t".to_owned())),
        Expr::Compare { op: Comparison::Equal, order, left, right } => {
            let ((Expr::Column { index, ty, .. }, Expr::Const { value, .. })
            | (Expr::Const { value, .. }, Expr::Column { index, ty, .. })) = (&**left, &**right)
            else {
                return None;
            };
            Some((*index, equal_text(ty, *order, value)?))
        }
        _ => None,
    }
}

/// The one text that equal values of a column have, where there is only one.
fn equal_text(column: &Type, order: Order, value: &Value<'static>) -> Option<String> {
    let plain = Order::Text { trim_left: false, trim_right: false };
    match (column, value) {
        (Type::Int2 | Type::Int4 | Type::Int8, Value::Int(value)) if order == Order::Natural => {
            Some(value.to_string())
        }
        (Type::Enum(of), Value::Int(ordinal)) if order == Order::Natural => {
            Some(of.label(*ordinal).to_owned())
        }
        (Type::Bool, Value::Bool(value)) => Some(if *value { "t" } else { "f" }.to_owned()),
        (Type::Uuid, Value::Uuid(_)) => {
            String::from_utf8(value.borrowed().text(&Type::Uuid).into_owned()).ok()
        }
        (Type::Text | Type::Varchar, Value::Text(text)) if order == plain => {
            String::from_utf8(text.to_vec()).ok()
        }
        _ => None,
    }
}

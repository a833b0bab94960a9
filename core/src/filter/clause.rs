//! A WHERE clause of any kind.

use super::Filter;
use super::error::FilterError;
use super::limits::check_size;
use super::resolver::Resolver;
use super::sql::postgres::PostgresFilter;
use super::subquery::{Dependency, SubqueryFilter};
use super::syntax::ast::{Kind, Node};
use super::syntax::parse::{self, Subqueries};
use super::syntax::subject::Subject;
use super::text::FilterText;
use crate::pg::{Column, QualifiedName, Relation};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A WHERE clause, by what decides whether a row satisfies it. Whoever judges rows by it shares it.
#[derive(Debug, Clone)]
pub enum Clause {
    /// The row alone.
    Plain(Arc<Filter>),
    /// The same, as it is kept of a shape whose rows others judge.
    AtRest(Arc<FilterText>),
    /// The row and the rows of other tables.
    Subqueries(Arc<SubqueryFilter>),
    /// The row alone, but only Postgres knows how.
    Postgres(Arc<PostgresFilter>),
}

impl Clause {
    /// Reads a clause about the rows of `table`. `params` are the values of `$1`, `$2`, …,
    /// `inner` the tables that [`subquery_tables`] names, as far as they exist.
    ///
    /// # Errors
    /// As [`Filter::parse`].
    pub fn parse<'a>(
        text: &str,
        params: &BTreeMap<u32, String>,
        table: impl Into<Subject<'a>>,
        inner: &[Arc<Relation>],
    ) -> Result<Self, FilterError> {
        check_size(text)?;
        Self::restore(text, params, table, inner)
    }

    /// Reads a clause about the row alone.
    ///
    /// # Errors
    /// As [`Filter::parse`].
    pub fn parse_plain(
        text: &str,
        params: &BTreeMap<u32, String>,
        table: Subject<'_>,
    ) -> Result<Self, FilterError> {
        check_size(text)?;
        Self::read(text, params, table, &[], Subqueries::Refused)
    }

    /// Reads a text that [`Clause::sql`] wrote, which may be longer than what requests may send.
    pub(super) fn restore<'a>(
        text: &str,
        params: &BTreeMap<u32, String>,
        table: impl Into<Subject<'a>>,
        inner: &[Arc<Relation>],
    ) -> Result<Self, FilterError> {
        Self::read(text, params, table.into(), inner, Subqueries::Accepted)
    }

    fn read(
        text: &str,
        params: &BTreeMap<u32, String>,
        Subject { name, columns }: Subject<'_>,
        inner: &[Arc<Relation>],
        subqueries: Subqueries,
    ) -> Result<Self, FilterError> {
        let node = parse::parse(text, subqueries, name)?;
        match Resolver::new(columns, params, inner).clause(&node) {
            Err(error) if !error.needs_postgres() => Err(error),
            Err(error) if node.has_subquery() => Err(FilterError::BesideSubquery(Box::new(error))),
            Err(error) => PostgresFilter::new(&node, params, columns, error)
                .map(|filter| Self::Postgres(Arc::new(filter))),
            Ok(clause) => Ok(clause),
        }
    }

    /// The canonical text, for the snapshot query's WHERE. It belongs into parentheses before AND or NOT.
    #[must_use]
    pub fn sql(&self) -> &str {
        match self {
            Self::Plain(filter) => filter.sql(),
            Self::AtRest(text) => text.sql(),
            Self::Subqueries(filter) => filter.sql(),
            Self::Postgres(filter) => filter.sql(),
        }
    }

    /// Positions of the columns of the table itself that the clause mentions, sorted.
    #[must_use]
    pub fn columns(&self) -> &[usize] {
        match self {
            Self::Plain(filter) => filter.columns(),
            Self::AtRest(text) => text.columns(),
            Self::Subqueries(filter) => filter.columns(),
            Self::Postgres(filter) => filter.columns(),
        }
    }

    /// The clause in as little memory as it can be kept in.
    #[must_use]
    pub fn at_rest(self) -> Self {
        match self {
            Self::Plain(filter) => Self::AtRest(Arc::clone(filter.text())),
            other => other,
        }
    }

    /// The filter of a clause for which the row alone decides, and core knows how. `columns` are those of its relation.
    ///
    /// # Errors
    /// Where a clause at rest was read for other columns.
    pub fn plain(&self, columns: &[Column]) -> Result<Option<Arc<Filter>>, FilterError> {
        match self {
            Self::Plain(filter) => Ok(Some(Arc::clone(filter))),
            Self::AtRest(text) => text.read(columns).map(|filter| Some(Arc::new(filter))),
            Self::Subqueries(_) | Self::Postgres(_) => Ok(None),
        }
    }

    /// The filter of a clause with subqueries.
    #[must_use]
    pub fn subqueries(&self) -> Option<&SubqueryFilter> {
        match self {
            Self::Plain(_) | Self::AtRest(_) | Self::Postgres(_) => None,
            Self::Subqueries(filter) => Some(filter),
        }
    }

    /// The filter of a clause that only Postgres evaluates.
    #[must_use]
    pub fn postgres(&self) -> Option<&PostgresFilter> {
        match self {
            Self::Plain(_) | Self::AtRest(_) | Self::Subqueries(_) => None,
            Self::Postgres(filter) => Some(filter),
        }
    }

    /// The subqueries at any depth, those in a subquery right behind it.
    #[must_use]
    pub fn dependencies(&self) -> Vec<&Dependency> {
        let outermost = self.subqueries().into_iter().flat_map(SubqueryFilter::dependencies);
        outermost.flat_map(Dependency::with_inner).collect()
    }
}

/// The tables that subqueries of a clause name, at any depth, each once, in order of appearance. Nothing is
/// looked up: a table may not exist.
///
/// # Errors
/// Where the clause cannot be parsed.
pub fn subquery_tables(text: &str) -> Result<Vec<QualifiedName>, FilterError> {
    check_size(text)?;
    let mut tables = Vec::new();
    collect_tables(&parse::parse(text, Subqueries::Accepted, None)?, &mut tables);
    Ok(tables)
}

fn collect_tables(node: &Node, tables: &mut Vec<QualifiedName>) {
    if let Kind::Member { query, .. } = &node.kind
        && !tables.contains(&query.table)
    {
        tables.push(query.table.clone());
    }
    for child in node.children() {
        collect_tables(child, tables);
    }
}

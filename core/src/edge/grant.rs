//! What a token allows, and a request as it is allowed.
//!
//! A token names shapes that its bearer may ask for (`shape`), or tables of which its bearer sees a part (`impose`). In
//! the second case the request goes on as one for that part: with the token's clause before the client's own, and
//! the token's columns. So no spelling of a request reads a row or a column outside of it:
//!
//! * the client's clause must be one whole expression, without subqueries, which read other tables;
//! * where the token lists columns it names no other column, since what it is true for would tell of them.

use super::token::TokenError;
use crate::filter::{Fence, NarrowingError};
use crate::pg::QualifiedName;
use crate::protocol::identifier::{parse_columns, parse_table};
use crate::protocol::query::{Query, Value};
use crate::protocol::request::read_definition;
use crate::protocol::{DefinitionRequest, Method, Parameter, Replica, RequestError};
use std::collections::BTreeMap;

/// The shapes that a token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    allowed: Vec<Rule>,
    imposed: Vec<Rule>,
}

/// A shape, or a part of a table, as a token names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    table: QualifiedName,
    where_clause: Option<String>,
    /// The values of `$1`, `$2`, …
    params: Vec<String>,
    columns: Option<Vec<String>>,
    replica: Option<Replica>,
}

/// A request that the token does not allow: the reply is 403, but for the first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It cannot be read, as the origin would say too: the reply is 400.
    #[error("{0}")]
    BadRequest(RequestError),
    /// It is no read.
    #[error("the token allows reading only")]
    Writes,
    /// The table is not named in the token.
    #[error("the token allows no shape of {0}")]
    Table(QualifiedName),
    /// The token's shape of that table is another one.
    #[error("the token allows another shape of {table}: `{part}` differs")]
    Shape {
        /// The table.
        table: QualifiedName,
        /// The parameter that differs.
        part: Parameter,
    },
    /// A column that the token does not list.
    #[error("the token does not allow column {0:?}")]
    Column(String),
    /// The clause may not stand behind the token's.
    #[error("the token allows no such `where`: {0}")]
    Clause(NarrowingError),
}

impl Grant {
    /// What a token allows that names these shapes and these parts of tables.
    ///
    /// # Errors
    /// It allows nothing, or a table has two parts.
    pub fn new(allowed: Vec<Rule>, imposed: Vec<Rule>) -> Result<Self, TokenError> {
        if allowed.is_empty() && imposed.is_empty() {
            return Err(TokenError::Claims("neither `shape` nor `impose` names a table".to_owned()));
        }
        for (at, rule) in imposed.iter().enumerate() {
            if imposed.iter().take(at).any(|other| other.table == rule.table) {
                return Err(TokenError::Claims(format!("`impose` names {} twice", rule.table)));
            }
        }
        Ok(Self { allowed, imposed })
    }

    /// The parameters with which the request goes on: its own, or with what the token imposes on it.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn judge(&self, method: Method, query: &Query) -> Result<Query, Denied> {
        if !matches!(method, Method::Get | Method::Head | Method::Post) {
            return Err(Denied::Writes);
        }
        let asked = read_definition(query).map_err(Denied::BadRequest)?;
        let mut difference = None;
        for rule in self.allowed.iter().filter(|rule| rule.table == asked.table) {
            match rule.difference(&asked) {
                None => return Ok(rule.bounded(query.clone())),
                Some(part) => difference = difference.or(Some(part)),
            }
        }
        if let Some(rule) = self.imposed.iter().find(|rule| rule.table == asked.table) {
            return rule.imposed(query, &asked);
        }
        let table = asked.table;
        Err(match difference {
            Some(part) => Denied::Shape { table, part },
            None => Denied::Table(table),
        })
    }
}

impl Rule {
    /// A rule from its parts as requests spell them.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn new(
        table: &str,
        where_clause: Option<String>,
        params: Vec<String>,
        columns: Option<&str>,
        replica: Option<&str>,
    ) -> Result<Self, TokenError> {
        let unreadable =
            |part: &str, error: &dyn std::fmt::Display| TokenError::Claims(format!("`{part}`: {error}"));
        let table = parse_table(table).map_err(|error| unreadable("table", &error))?;
        let columns =
            columns.map(parse_columns).transpose().map_err(|error| unreadable("columns", &error))?;
        let replica = match replica {
            None => None,
            Some("default") => Some(Replica::Default),
            Some("full") => Some(Replica::Full),
            Some(_) => return Err(unreadable("replica", &"must be `default` or `full`")),
        };
        let rule = Self { table, where_clause, params, columns, replica };
        rule.fence().check().map_err(|error| unreadable("where", &error))?;
        Ok(rule)
    }

    fn fence(&self) -> Fence<'_> {
        Fence {
            table: &self.table,
            clause: self.where_clause.as_deref(),
            params: u32::try_from(self.params.len()).unwrap_or(u32::MAX),
            columns: self.columns.as_deref(),
        }
    }

    /// The first part in which the shape that is asked for is not this one.
    fn difference(&self, asked: &DefinitionRequest) -> Option<Parameter> {
        let own = |(number, value): (&String, &String)| {
            let at = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            at.is_some_and(|at| self.params.get(at) == Some(value))
        };
        let same_params = asked.params.len() == self.params.len() && asked.params.iter().all(own);
        let has_other_params = asked.where_clause.is_some() && !same_params;
        let differences = [
            (asked.where_clause != self.where_clause, Parameter::Where),
            (has_other_params, Parameter::Params),
            (!is_same_set(asked.columns.as_deref(), self.columns.as_deref()), Parameter::Columns),
            (self.replica.is_some_and(|replica| replica != asked.replica), Parameter::Replica),
        ];
        differences.into_iter().find(|(differs, _)| *differs).map(|(_, part)| part)
    }

    /// The request as one for this part of the table.
    fn imposed(&self, query: &Query, asked: &DefinitionRequest) -> Result<Query, Denied> {
        let mut query = query.clone();
        if let Some(columns) = &self.columns {
            let wanted = asked.columns.as_ref().unwrap_or(columns);
            if let Some(hidden) = wanted.iter().find(|name| !columns.contains(name)) {
                return Err(Denied::Column(hidden.clone()));
            }
            query.set(Parameter::Columns, Some(names(wanted)));
        }
        let narrowed = asked.where_clause.as_deref().map(|clause| self.fence().narrowed(clause));
        let narrowed = narrowed.transpose().map_err(Denied::Clause)?;
        if let Some(clause) = narrowed.or_else(|| self.where_clause.clone()) {
            query.set(Parameter::Where, Some(Value::Text(clause)));
            query.set(Parameter::Params, Some(Value::Map(self.params_before(asked))));
        }
        if let Some(replica) = self.replica {
            query.set(Parameter::Replica, Some(Value::Text(replica.as_str().to_owned())));
        }
        Ok(self.bounded(query))
    }

    /// This rule's parameters, and the client's behind them. One whose number the origin would refuse stays as it is.
    fn params_before(&self, asked: &DefinitionRequest) -> BTreeMap<String, Value> {
        let asked = if asked.where_clause.is_some() { Some(&asked.params) } else { None };
        let moved = |name: &String| {
            let number: usize =
                name.parse().ok().filter(|number: &usize| *number > 0 && number.to_string() == *name)?;
            Some(number.checked_add(self.params.len())?.to_string())
        };
        let behind =
            asked.into_iter().flatten().map(|(name, value)| (moved(name).unwrap_or(name.clone()), value));
        let own = (1..).map(|number: usize| number.to_string()).zip(&self.params);
        // The rule's own come last: whatever a client names, they are not replaced.
        behind.chain(own).map(|(name, value)| (name, Value::Text(value.clone()))).collect()
    }

    /// A read of rows beside the log sorts and filters by the columns of the rule only.
    fn bounded(&self, mut query: Query) -> Query {
        if let Some(columns) = &self.columns
            && query.asks_for_subset()
        {
            query.set(Parameter::QueryableColumns, Some(names(columns)));
        }
        query
    }
}

/// True where both list the same columns, in whatever order, or none.
fn is_same_set(one: Option<&[String]>, other: Option<&[String]>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => {
            one.iter().all(|name| other.contains(name)) && other.iter().all(|name| one.contains(name))
        }
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// Column names as they are.
fn names(columns: &[String]) -> Value {
    Value::List(columns.iter().map(|name| Value::Text(name.clone())).collect())
}

#[cfg(test)]
mod tests;

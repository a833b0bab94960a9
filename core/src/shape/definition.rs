//! The definition of a shape: a request that the catalog has confirmed.

mod resolver;

pub use resolver::StoredResolver;

use super::dependent::{Tagger, View};
use super::generated::GeneratedColumns;
use crate::filter::{Clause, Dependency, FilterError, SubqueryFilter};
use crate::pg::copy::ProjectedRow;
use crate::pg::{Column, Relation};
use crate::protocol::RequestError;
use crate::protocol::request::{DefinitionRequest, LogMode, Replica, numbered};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Room for most identities.
const IDENTITY_BYTES: usize = 256;
const NO_COMPACTION: &str = "can't be enabled for shapes with subqueries";

/// A subset of one table. Requests that resolve to equal definitions share one shape.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The table, as the catalog described it when the request was resolved.
    pub relation: Arc<Relation>,
    /// Which columns are shown.
    pub projection: Arc<Projection>,
    /// Which rows belong to the shape; all where absent.
    pub filter: Option<Clause>,
    /// How much of a row an update or a delete shows.
    pub replica: Replica,
    /// Whether the log begins with the rows that exist.
    pub log_mode: LogMode,
}

/// The selected columns. They include the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projection {
    /// Positions in [`Relation::columns`], ascending.
    pub columns: Vec<usize>,
    /// True where no columns were named: such a shape follows the table when it gains or loses some.
    pub all: bool,
}

impl Definition {
    /// Checks a request against the table it names, in the order of protocol §2.3. `inner` are the tables that its
    /// subqueries name ([`subquery_tables`](crate::filter::subquery_tables)), as far as they exist. `generated_columns` says which generated columns changes will have.
    ///
    /// # Errors
    /// The texts of the 400, under `columns`, `queryable_columns`, `params`, `where` or `table`.
    pub fn resolve(
        request: &DefinitionRequest,
        relation: &Arc<Relation>,
        generated_columns: &GeneratedColumns,
        inner: &[Arc<Relation>],
    ) -> Result<Self, RequestError> {
        let projection = resolve_projection(request, relation, generated_columns)?;
        let filter = match &request.where_clause {
            None => None,
            Some(text) => {
                let params = numbered(&request.params).map_err(|text| RequestError::new("params", text))?;
                let filter =
                    Clause::parse(text, &params, &**relation, inner).map_err(|error| refusal(&error))?;
                if request.compaction && filter.subqueries().is_some() {
                    return Err(RequestError::new("experimental_compaction", NO_COMPACTION));
                }
                generated_columns.check_read(filter.columns(), relation)?;
                for dependency in filter.dependencies() {
                    generated_columns.check_read(&dependency.used_columns(), &dependency.relation)?;
                }
                Some(filter)
            }
        };
        Ok(Self {
            relation: Arc::clone(relation),
            projection: Arc::new(projection),
            filter,
            replica: request.replica,
            log_mode: request.log_mode,
        })
    }

    /// The definition in as little memory as it can be kept in: its clause is read again where somebody asks more of it
    /// than its text.
    #[must_use]
    pub fn at_rest(self) -> Self {
        Self { filter: self.filter.map(Clause::at_rest), ..self }
    }

    /// The canonical text of the definition: equal texts mean one shape (protocol §8.1).
    ///
    /// Spelling does not count (case and quotes of names, order of columns, blanks in the clause); the
    /// tables' oids do, since a table made anew under an old name is another one.
    ///
    /// # Panics
    /// Never: it is made of plain data.
    #[must_use]
    pub fn identity(&self) -> String {
        let mut columns: Vec<&str> = self.columns().map(|column| column.name.as_str()).collect();
        columns.sort_unstable();
        let key = if self.relation.has_primary_key() { self.relation.key_columns() } else { Vec::new() };
        let identity = (
            self.relation.oid,
            &self.relation.name.schema,
            &self.relation.name.name,
            names(&self.relation, &key),
            columns,
            self.projection.all,
            self.filter.as_ref().map(Clause::sql),
            self.inner_relations().iter().map(|relation| relation.oid).collect::<Vec<_>>(),
            self.replica.as_str(),
            self.log_mode.as_str(),
        );
        // A start asks for those of all shapes.
        let mut text = Vec::with_capacity(IDENTITY_BYTES);
        serde_json::to_writer(&mut text, &identity).expect("names and texts are plain data");
        String::from_utf8(text).expect("JSON is UTF-8")
    }

    /// True where the definition means the same of the table as it is now: name, key, and every column that
    /// is shown or asked for are what they were; a shape of all columns still has them all.
    #[must_use]
    pub fn still_holds(&self, now: &Relation) -> bool {
        let then = &self.relation;
        let mut filtered = self.filter.iter().flat_map(Clause::columns);
        let mut used = self.projection.columns.iter().chain(filtered.clone());
        let used_columns_stay = used.all(|index| stays(then, *index, now))
            && filtered.all(|index| self.is_judged_alike(*index, now));
        let key = |relation: &Relation| {
            let names = names(relation, &relation.key_columns()).into_iter().map(str::to_owned);
            (relation.has_primary_key(), names.collect::<Vec<_>>())
        };
        let all_columns_stay = !self.projection.all || then.columns.len() == now.columns.len();
        // Without a primary key every column is one, so that a new column changes the key as well.
        then.oid == now.oid
            && then.name == now.name
            && then.has_children == now.has_children
            && used_columns_stay
            && all_columns_stay
            && key(then) == key(now)
    }

    /// Whether the clause judges a column's values as it did. A new label of an enum may stand between others. It does not
    /// matter where the clause demands one label of the column, since rows with another one are not looked at, nor where
    /// Postgres judges the rows.
    fn is_judged_alike(&self, index: usize, now: &Relation) -> bool {
        if is_compared_alike(&self.relation, index, now, false) {
            return true;
        }
        let any_labels = match &self.filter {
            Some(Clause::Postgres(_)) => true,
            Some(Clause::Subqueries(_)) | None => false,
            Some(clause) => {
                let filter = clause.plain(&self.relation.columns).ok().flatten();
                let equality = filter.and_then(|filter| filter.equality());
                equality.is_some_and(|equality| equality.column == index)
            }
        };
        any_labels && is_compared_alike(&self.relation, index, now, true)
    }

    /// The same of a table that subqueries read: its name and every column that they mention.
    #[must_use]
    pub fn inner_still_holds(&self, now: &Relation) -> bool {
        self.dependencies().iter().filter(|dependency| dependency.relation.oid == now.oid).all(|dependency| {
            let then = &dependency.relation;
            let used = dependency.used_columns();
            let filtered: Vec<usize> = dependency.filter.iter().flat_map(Clause::columns).copied().collect();
            let is_alike = |index: &usize| {
                stays(then, *index, now) && is_compared_alike(then, *index, now, !filtered.contains(index))
            };
            then.name == now.name && used.iter().all(is_alike)
        })
    }

    /// Every table that decides what the shape shows: its own, and those that subqueries read.
    #[must_use]
    pub fn relations(&self) -> Vec<Arc<Relation>> {
        [vec![Arc::clone(&self.relation)], self.inner_relations()].concat()
    }

    /// The tables that subqueries read, at any depth, each once, in order of appearance.
    #[must_use]
    pub fn inner_relations(&self) -> Vec<Arc<Relation>> {
        let mut relations: Vec<Arc<Relation>> = Vec::new();
        for dependency in self.dependencies() {
            if relations.iter().all(|known| known.oid != dependency.relation.oid) {
                relations.push(Arc::clone(&dependency.relation));
            }
        }
        relations
    }

    /// Every column that queries for the shape's rows read, with its table: what is shown, what the filter mentions, and
    /// what subqueries read.
    #[must_use]
    pub fn columns_read(&self) -> Vec<(&Relation, &Column)> {
        let mentioned = self.filter.iter().flat_map(Clause::columns);
        let own: BTreeSet<usize> = self.projection.columns.iter().chain(mentioned).copied().collect();
        let mut read: Vec<(&Relation, usize)> =
            own.into_iter().map(|index| (self.relation.as_ref(), index)).collect();
        for dependency in self.dependencies() {
            let used = dependency.used_columns();
            read.extend(used.into_iter().map(|index| (dependency.relation.as_ref(), index)));
        }
        read.into_iter().filter_map(|(table, index)| Some((table, table.columns.get(index)?))).collect()
    }

    /// The subqueries at any depth, those in a subquery right behind it.
    #[must_use]
    pub fn dependencies(&self) -> Vec<&Dependency> {
        self.filter.iter().flat_map(Clause::dependencies).collect()
    }

    /// The subqueries of the filter itself, without those inside them.
    #[must_use]
    pub fn subqueries(&self) -> &[Dependency] {
        let filter = self.filter.as_ref().and_then(Clause::subqueries);
        filter.map_or(&[], SubqueryFilter::dependencies)
    }

    /// True where readers have to get every change of a row by itself: moves refer to what a row was, and an update under
    /// `replica=full` says it, which one that took others in could not.
    #[must_use]
    pub fn tells_each_change(&self) -> bool {
        self.replica == Replica::Full || !self.subqueries().is_empty()
    }

    /// The tagger for the rows of a snapshot in which the subqueries return `views`; nothing where there is
    /// none. `salt` is the shape's handle.
    #[must_use]
    pub fn tagger(&self, salt: &str, views: Vec<View>) -> Option<Tagger> {
        let filter = self.filter.as_ref().and_then(Clause::subqueries)?;
        Some(Tagger::new(filter, salt, views))
    }

    /// The columns that a snapshot or a subset reads, in the order of its query: the selected ones in table order,
    /// and behind them those that only tags need.
    fn read_columns(&self) -> Vec<usize> {
        let mut columns = self.projection.columns.clone();
        let tagged =
            self.filter.as_ref().and_then(Clause::subqueries).map_or(&[][..], SubqueryFilter::columns);
        columns.extend(tagged.iter().filter(|column| !self.projection.columns.contains(column)));
        columns.extend(self.relation.child_position());
        columns
    }

    /// For each column of the table, its place in a row of such a query.
    #[must_use]
    pub fn places(&self) -> Vec<Option<usize>> {
        ProjectedRow::places(&self.read_columns(), self.relation.columns.len() + 1)
    }

    /// The query for the rows of the initial snapshot: the selected columns in table order, without order of
    /// rows. Under [`LogMode::ChangesOnly`] the snapshot has no rows, and nobody needs to ask.
    #[must_use]
    pub fn snapshot_sql(&self) -> String {
        let mut sql = self.select();
        if let Some(filter) = &self.filter {
            sql.push_str(" WHERE ");
            sql.push_str(filter.sql());
        }
        sql
    }

    /// The columns that are read of every row, as SQL.
    pub(super) fn select(&self) -> String {
        format!("SELECT {} FROM {}", self.relation.select_list(&self.read_columns()), self.relation.name)
    }

    /// The selected columns in table order.
    pub fn columns(&self) -> impl Iterator<Item = &Column> {
        self.projection.columns.iter().filter_map(|index| self.relation.columns.get(*index))
    }
}

fn resolve_projection(
    request: &DefinitionRequest,
    relation: &Relation,
    generated_columns: &GeneratedColumns,
) -> Result<Projection, RequestError> {
    let table: Vec<&str> = relation.columns.iter().map(|column| column.name.as_str()).collect();
    if let Some(queryable) = &request.queryable_columns {
        check_names("queryable_columns", "queryable columns", queryable, &table, relation)?;
    }
    if let Some(columns) = &request.columns {
        let allowed = match &request.queryable_columns {
            Some(queryable) => queryable.iter().map(String::as_str).collect(),
            None => table,
        };
        check_names("columns", "columns", columns, &allowed, relation)?;
    }
    let named = request.columns.as_ref().or(request.queryable_columns.as_ref());
    let selected = |column: &Column| named.is_none_or(|names| names.contains(&column.name));
    let positions = relation.columns.iter().enumerate().filter(|(_, column)| selected(column));
    let projection = Projection { columns: positions.map(|(i, _)| i).collect(), all: named.is_none() };
    generated_columns.check_shown(&projection.columns, projection.all, relation)?;
    Ok(projection)
}

/// Names must include the key, and each must be allowed, once.
fn check_names(
    parameter: &'static str,
    noun: &str,
    given: &[String],
    allowed: &[&str],
    relation: &Relation,
) -> Result<(), RequestError> {
    let mut missing = names(relation, &relation.key_columns());
    missing.retain(|name| !given.iter().any(|given| given == name));
    if !missing.is_empty() {
        let missing = missing.join(", ");
        let text = format!("The list of {noun} must include all primary key columns, missing: {missing}");
        return Err(RequestError::new(parameter, text));
    }
    let mut left = allowed.to_vec();
    let unknown: Vec<&str> = given
        .iter()
        .map(String::as_str)
        .filter(|name| match left.iter().position(|candidate| candidate == name) {
            Some(index) => {
                left.swap_remove(index);
                false
            }
            None => true,
        })
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let text = format!("The following {noun} are not found on the table: {}", unknown.join(", "));
    Err(RequestError::new(parameter, text))
}

/// Whether a column is under its name what it was, and its values have the texts that they had.
fn stays(then: &Relation, index: usize, now: &Relation) -> bool {
    let Some(column) = then.columns.get(index) else { return false };
    let other = now.column_index(&column.name).and_then(|index| now.columns.get(index));
    other.is_some_and(|other| {
        column.type_oid == other.type_oid
            && column.generated == other.generated
            && column.typing.parts.keeps_texts(&other.typing.parts)
    })
}

/// Whether values of a column compare as they did, and SQL that names its type still does; with `any_labels` an enum may
/// have got more of them.
fn is_compared_alike(then: &Relation, index: usize, now: &Relation, any_labels: bool) -> bool {
    let Some(column) = then.columns.get(index) else { return false };
    let other = now.column_index(&column.name).and_then(|index| now.columns.get(index));
    other.is_some_and(|other| {
        let (then, now) = (&column.typing, &other.typing);
        let same_kind = match any_labels {
            true => then.kind.without_labels() == now.kind.without_labels(),
            false => then.kind == now.kind,
        };
        same_kind
            && column.type_name == other.type_name
            && (&then.schema, then.collation, &then.collation_name)
                == (&now.schema, now.collation, &now.collation_name)
    })
}

fn refusal(error: &FilterError) -> RequestError {
    match error {
        FilterError::UnknownTable(name) => RequestError::unknown_table(name),
        FilterError::UnknownColumns(_) => RequestError::new("columns", error.to_string()),
        _ => RequestError::new("where", error.to_string()),
    }
}

fn names<'a>(relation: &'a Relation, columns: &[usize]) -> Vec<&'a str> {
    columns.iter().filter_map(|index| relation.columns.get(*index)).map(|c| c.name.as_str()).collect()
}

#[cfg(test)]
mod tests;

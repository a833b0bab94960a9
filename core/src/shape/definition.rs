//! What a shape is: a request that the catalog has confirmed.

use super::dependent::{Tagger, View};
use crate::filter::{Clause, Dependency, FilterError, SubqueryFilter};
use crate::pg::copy::ProjectedRow;
use crate::pg::relation::quote_identifier;
use crate::pg::{Column, Relation};
use crate::protocol::RequestError;
use crate::protocol::request::{DefinitionRequest, LogMode, Replica};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The first version of Postgres that can replicate generated columns, as `server_version_num`.
const GENERATED_COLUMNS_SINCE: u32 = 180_000;

const NO_COMPACTION: &str = "can't be enabled for shapes with subqueries";

/// A subset of one table. Requests that resolve to equal definitions share one shape.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The table, as the catalog described it when the request was resolved.
    pub relation: Arc<Relation>,
    /// Which columns are shown.
    pub projection: Projection,
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
    /// subqueries name ([`subquery_tables`](crate::filter::subquery_tables)), as far as they exist.
    ///
    /// # Errors
    /// The texts of the 400, under `columns`, `queryable_columns`, `params`, `where` or `table`.
    pub fn resolve(
        request: &DefinitionRequest,
        relation: &Arc<Relation>,
        server_version_num: u32,
        inner: &[Arc<Relation>],
    ) -> Result<Self, RequestError> {
        let generated_columns = server_version_num >= GENERATED_COLUMNS_SINCE;
        let projection = resolve_projection(request, relation, generated_columns)?;
        let filter = match &request.where_clause {
            None => None,
            Some(text) => {
                let params = numbered(&request.params).map_err(|text| RequestError::new("params", text))?;
                let filter = Clause::parse(text, &params, &relation.columns, inner)
                    .map_err(|error| refusal(&error))?;
                if request.compaction && filter.subqueries().is_some() {
                    return Err(RequestError::new("experimental_compaction", NO_COMPACTION));
                }
                if !generated_columns {
                    check_clause_reads_none_generated(&filter, relation)?;
                }
                Some(filter)
            }
        };
        Ok(Self {
            relation: Arc::clone(relation),
            projection,
            filter,
            replica: request.replica,
            log_mode: request.log_mode,
        })
    }

    /// The canonical text of the definition: equal texts mean one shape (protocol §8.1).
    ///
    /// Spelling does not count (case and quotes of names, order of columns, blanks in the clause); the
    /// tables' oids do, since a table made anew under an old name is another one.
    #[must_use]
    pub fn identity(&self) -> String {
        let mut columns: Vec<&str> = self.columns().map(|column| column.name.as_str()).collect();
        columns.sort_unstable();
        let key = if self.relation.has_primary_key() { self.relation.key_columns() } else { Vec::new() };
        json!([
            self.relation.oid,
            self.relation.name.schema,
            self.relation.name.name,
            names(&self.relation, &key),
            columns,
            self.projection.all,
            self.filter.as_ref().map(Clause::sql),
            self.inner_relations().iter().map(|relation| relation.oid).collect::<Vec<_>>(),
            self.replica.as_str(),
            self.log_mode.as_str(),
        ])
        .to_string()
    }

    /// True where the definition means the same of the table as it is now: name, key, and every column that
    /// is shown or asked for are what they were; a shape of all columns still has them all.
    #[must_use]
    pub fn still_holds(&self, now: &Relation) -> bool {
        let then = &self.relation;
        let mut filtered = self.filter.iter().flat_map(Clause::columns);
        let mut used = self.projection.columns.iter().chain(filtered.clone());
        let used_columns_stay = used.all(|index| stays(then, *index, now))
            && filtered.all(|index| is_ordered_alike(then, *index, now));
        let key = |relation: &Relation| {
            let names = names(relation, &relation.key_columns()).into_iter().map(str::to_owned);
            (relation.has_primary_key(), names.collect::<Vec<_>>())
        };
        let all_columns_stay = !self.projection.all || then.columns.len() == now.columns.len();
        // Without a primary key every column is one, so that a new column changes the key as well.
        then.oid == now.oid
            && then.name == now.name
            && used_columns_stay
            && all_columns_stay
            && key(then) == key(now)
    }

    /// The same of a table that subqueries read: its name and every column that they mention.
    #[must_use]
    pub fn inner_still_holds(&self, now: &Relation) -> bool {
        self.dependencies().iter().filter(|dependency| dependency.relation.oid == now.oid).all(|dependency| {
            let then = &dependency.relation;
            let used = dependency.used_columns();
            then.name == now.name
                && used.iter().all(|index| stays(then, *index, now) && is_ordered_alike(then, *index, now))
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

    /// What adds tags to the rows of a snapshot in which the subqueries return `views`; nothing where there is
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
        columns
    }

    /// For each column of the table, its place in a row of such a query.
    #[must_use]
    pub fn places(&self) -> Vec<Option<usize>> {
        ProjectedRow::places(&self.read_columns(), self.relation.columns.len())
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

    /// What is read of every row of the table, as SQL.
    pub(super) fn select(&self) -> String {
        let columns = self.read_columns().into_iter().filter_map(|index| self.relation.columns.get(index));
        let columns: Vec<String> = columns.map(|column| quote_identifier(&column.name)).collect();
        format!("SELECT {} FROM {}", columns.join(", "), self.relation.name)
    }

    /// The selected columns in table order.
    pub fn columns(&self) -> impl Iterator<Item = &Column> {
        self.projection.columns.iter().filter_map(|index| self.relation.columns.get(*index))
    }
}

fn resolve_projection(
    request: &DefinitionRequest,
    relation: &Relation,
    generated_columns: bool,
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
    if !generated_columns {
        check_none_generated(&projection, relation)?;
    }
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

fn check_none_generated(projection: &Projection, relation: &Relation) -> Result<(), RequestError> {
    let mut generated = projection.columns.clone();
    generated.retain(|index| relation.columns.get(*index).is_some_and(|column| column.generated));
    if generated.is_empty() {
        return Ok(());
    }
    let mut text = format!(
        "The following columns are generated and cannot be included in the shape: {}",
        names(relation, &generated).join(", ")
    );
    if projection.all {
        text.push_str(
            ". You can exclude them from the shape by explicitly listing which columns to fetch \
             in the 'columns' query param",
        );
    }
    Err(RequestError::new("columns", text))
}

/// Whether a column is under its name what it was.
fn stays(then: &Relation, index: usize, now: &Relation) -> bool {
    let Some(column) = then.columns.get(index) else { return false };
    let other = now.column_index(&column.name).and_then(|index| now.columns.get(index));
    other.is_some_and(|other| column.type_oid == other.type_oid && column.generated == other.generated)
}

/// Whether texts of a column compare as they did.
fn is_ordered_alike(then: &Relation, index: usize, now: &Relation) -> bool {
    let Some(column) = then.columns.get(index) else { return false };
    let other = now.column_index(&column.name).and_then(|index| now.columns.get(index));
    let collation = |column: &Column| (column.typing.collation, column.typing.collation_name.clone());
    other.is_some_and(|other| collation(column) == collation(other))
}

fn refusal(error: &FilterError) -> RequestError {
    match error {
        FilterError::UnknownTable(name) => RequestError::unknown_table(name),
        FilterError::UnknownColumns(_) => RequestError::new("columns", error.to_string()),
        _ => RequestError::new("where", error.to_string()),
    }
}

/// The stream would never show such columns, and no row could be judged.
fn check_clause_reads_none_generated(clause: &Clause, relation: &Relation) -> Result<(), RequestError> {
    check_reads_none_generated(clause.columns(), relation)?;
    clause.dependencies().iter().try_for_each(|dependency| {
        check_reads_none_generated(&dependency.used_columns(), &dependency.relation)
    })
}

fn check_reads_none_generated(columns: &[usize], relation: &Relation) -> Result<(), RequestError> {
    let mut generated = columns.to_vec();
    generated.retain(|index| relation.columns.get(*index).is_some_and(|column| column.generated));
    if generated.is_empty() {
        return Ok(());
    }
    let text = format!(
        "The following columns are generated and cannot be used in a where clause: {}",
        names(relation, &generated).join(", ")
    );
    Err(RequestError::new("where", text))
}

/// Placeholders by number. Keys count from 1 without a gap; only their plain spelling (`1`, not `01`) names a
/// placeholder.
pub(super) fn numbered(params: &BTreeMap<String, String>) -> Result<BTreeMap<u32, String>, &'static str> {
    let numbers: Option<Vec<u32>> = params.keys().map(|key| number(key)).collect();
    let mut numbers = numbers.ok_or("Parameters can only use numbers as keys")?;
    numbers.sort_unstable();
    if !numbers.iter().copied().eq((1..).take(numbers.len())) {
        return Err("Parameters must be numbered sequentially, starting from 1");
    }
    let plain = params.iter().filter(|(key, _)| !key.starts_with('0'));
    Ok(plain.filter_map(|(key, value)| Some((number(key)?, value.clone()))).collect())
}

/// Numbers too large to be anyone's are still numbers.
fn number(key: &str) -> Option<u32> {
    let digits = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| key.parse().unwrap_or(u32::MAX))
}

fn names<'a>(relation: &'a Relation, columns: &[usize]) -> Vec<&'a str> {
    columns.iter().filter_map(|index| relation.columns.get(*index)).map(|c| c.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::{QualifiedName, oid};
    use crate::protocol::request::parse_shape_request;
    use crate::protocol::route::Method;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const VERSION: u32 = 150_018;

    fn column(name: &str, type_oid: u32, type_name: &str, pk_index: Option<u32>) -> Column {
        Column {
            name: name.to_owned(),
            type_oid,
            type_name: type_name.to_owned(),
            element_oid: type_oid,
            dims: 0,
            type_mod: -1,
            not_null: pk_index.is_some(),
            pk_index,
            generated: false,
            typing: crate::pg::Typing::default(),
        }
    }

    /// `CREATE TABLE t (id int PRIMARY KEY, a text, n int)`
    fn relation() -> Relation {
        Relation {
            oid: 16_400,
            name: QualifiedName::new("public", "t"),
            columns: vec![
                column("id", oid::INT4, "int4", Some(0)),
                column("a", oid::TEXT, "text", None),
                column("n", oid::INT4, "int4", None),
            ],
        }
    }

    fn with_generated() -> Relation {
        let mut relation = relation();
        relation.columns[2].generated = true;
        relation
    }

    fn request(query: &str) -> DefinitionRequest {
        parse_shape_request(Method::Get, &format!("table=t&offset=-1&{query}")).unwrap().definition
    }

    fn resolve_on(relation: Relation, query: &str) -> Result<Definition, RequestError> {
        Definition::resolve(&request(query), &Arc::new(relation), VERSION, &[])
    }

    fn resolve(query: &str) -> Definition {
        resolve_on(relation(), query).unwrap()
    }

    fn refused_on(relation: Relation, query: &str, parameter: &str, text: &str) {
        let error = resolve_on(relation, query).unwrap_err();
        assert_eq!(error.texts(parameter), [text], "{query}: {error}");
    }

    fn refused(query: &str, parameter: &str, text: &str) {
        refused_on(relation(), query, parameter, text);
    }

    #[test]
    fn columns_must_include_the_key() {
        let text = "The list of columns must include all primary key columns, missing: id";
        refused("columns=a", "columns", text);
        refused("columns=zzz", "columns", text);
        let mut keyless = relation();
        keyless.columns[0].pk_index = None;
        let text = "The list of columns must include all primary key columns, missing: a, n";
        refused_on(keyless, "columns=id", "columns", text);
    }

    #[test]
    fn columns_must_be_on_the_table_once() {
        let text = "The following columns are not found on the table: zzz, yyy";
        refused("columns=id,zzz,yyy", "columns", text);
        refused("columns=id,id", "columns", "The following columns are not found on the table: id");
        let text = "The following columns are not found on the table: zz";
        refused("columns=id,zz&where=zz%3D1", "columns", text);
    }

    #[test]
    fn generated_columns_need_a_server_that_replicates_them() {
        let text = "The following columns are generated and cannot be included in the shape: n";
        refused_on(with_generated(), "columns=id,n", "columns", text);
        let hint = ". You can exclude them from the shape by explicitly listing which columns to fetch \
                    in the 'columns' query param";
        refused_on(with_generated(), "", "columns", &format!("{text}{hint}"));
        assert_eq!(resolve_on(with_generated(), "columns=id,a").unwrap().projection.columns, [0, 1]);
        let newer = Definition::resolve(&request(""), &Arc::new(with_generated()), 180_000, &[]).unwrap();
        assert_eq!(newer.projection.columns, [0, 1, 2]);
    }

    #[test]
    fn a_clause_on_a_generated_column_could_never_match() {
        let text = "The following columns are generated and cannot be used in a where clause: n";
        refused_on(with_generated(), "columns=id,a&where=n%3D1", "where", text);
    }

    #[test]
    fn queryable_columns_bound_the_selection() {
        refused(
            "queryable_columns=a",
            "queryable_columns",
            "The list of queryable columns must include all primary key columns, missing: id",
        );
        refused(
            "queryable_columns=id,zzz",
            "queryable_columns",
            "The following queryable columns are not found on the table: zzz",
        );
        let text = "The following columns are not found on the table: n";
        refused("queryable_columns=id,a&columns=id,n", "columns", text);
        let selected = resolve("queryable_columns=id,a").projection;
        assert_eq!(selected, Projection { columns: vec![0, 1], all: false });
        assert!(resolve_on(relation(), "queryable_columns=id,a&where=n%3D10").is_ok());
    }

    #[test]
    fn params_count_from_one_where_there_is_a_clause() {
        let gap = "Parameters must be numbered sequentially, starting from 1";
        for query in
            ["params[2]=1", "params[0]=1", "params[1]=1&params[3]=1", "params[1]=1&params[99999999999]=1"]
        {
            refused(&format!("where=n%3D1&{query}"), "params", gap);
        }
        refused("where=n%3D1&params[x]=1", "params", "Parameters can only use numbers as keys");
        for query in ["params[2]=1", "params[x]=1", "where=n%3D$1&params[1]=10&params[2]=zzz"] {
            assert!(resolve_on(relation(), query).is_ok(), "{query}");
        }
        let text = "At location 2: parameter $1 was not provided";
        refused("where=n%3D$1&params[01]=10", "where", text);
    }

    #[test]
    fn the_clause_is_refused_in_its_own_words() {
        refused("where=zzz%20%3D%201", "where", "At location 0: unknown reference zzz");
        refused("where=1", "where", "WHERE clause must return a boolean");
    }

    #[test]
    fn spelling_does_not_make_another_shape() {
        let identity = |query: &str| resolve(query).identity();
        assert_eq!(identity("columns=a,id"), identity("columns=%22id%22,A"));
        assert_eq!(identity("where=n+%3D+1+AND+a+%3D+'x'"), identity("where=n%3D1++and+(%22a%22+%3D+'x')"));
        assert_eq!(identity("where=n+%3D+$1&params[1]=5"), identity("where=n+%3D+'5'::int4"));
        assert_eq!(identity("replica=default&log=full"), identity(""));
        assert_eq!(identity("params[2]=1"), identity(""));
    }

    #[test]
    fn what_clients_see_makes_another_shape() {
        let queries = [
            "",
            "columns=id,a",
            "columns=id,a,n",
            "replica=full",
            "log=changes_only",
            "where=n%3D1",
            "where=n%3D5",
            "where=a%3D'x'+AND+n%3D1",
            "where=n%3D1+AND+a%3D'x'",
        ];
        let mut identities: Vec<String> = queries.iter().map(|query| resolve(query).identity()).collect();
        let recreated = Relation { oid: 16_401, ..relation() };
        identities.push(resolve_on(recreated, "").unwrap().identity());
        let mut rekeyed = relation();
        rekeyed.columns[1].pk_index = Some(1);
        identities.push(resolve_on(rekeyed, "").unwrap().identity());
        let count = identities.len();
        identities.sort_unstable();
        identities.dedup();
        assert_eq!(identities.len(), count);
    }

    #[test]
    fn the_snapshot_query_selects_in_table_order() {
        assert_eq!(resolve("columns=n,id").snapshot_sql(), r#"SELECT "id", "n" FROM "public"."t""#);
        let filtered = resolve("where=n%3D1");
        let clause = filtered.filter.as_ref().unwrap().sql();
        let expected = format!(r#"SELECT "id", "a", "n" FROM "public"."t" WHERE {clause}"#);
        assert_eq!(filtered.snapshot_sql(), expected);
    }

    /// `CREATE TABLE q (id int PRIMARY KEY, a text, n int)`
    fn inner() -> Relation {
        Relation { oid: 16_500, name: QualifiedName::new("public", "q"), ..relation() }
    }

    fn resolve_with(inner: Relation, query: &str) -> Result<Definition, RequestError> {
        Definition::resolve(&request(query), &Arc::new(relation()), VERSION, &[Arc::new(inner)])
    }

    const NESTED: &str = "where=n+IN+(SELECT+id+FROM+q+WHERE+a+IN+(SELECT+a+FROM+q+WHERE+id=1))";

    #[test]
    fn subqueries_are_refused_where_their_tables_are_named() {
        let refused = |inner: Relation, query: &str, parameter: &str, text: &str| {
            let error = resolve_with(inner, query).unwrap_err();
            assert_eq!(error.texts(parameter), [text], "{query}: {error}");
        };
        let text = "Table \"public\".\"zz\" does not exist. If the table name contains capitals or special characters \
                    you must quote it.";
        refused(inner(), "where=n+IN+(SELECT+id+FROM+zz)", "table", text);
        let text = "The following columns are not found on the table: zz";
        refused(inner(), "where=n+IN+(SELECT+zz+FROM+q)", "columns", text);
        let mut generated = inner();
        generated.columns[2].generated = true;
        let text = "can't be enabled for shapes with subqueries";
        let query = "where=n+IN+(SELECT+id+FROM+q)&experimental_compaction=true";
        refused(inner(), query, "experimental_compaction", text);
        let text = "The following columns are generated and cannot be used in a where clause: n";
        refused(generated.clone(), "where=id+IN+(SELECT+id+FROM+q+WHERE+n=1)", "where", text);
        assert!(resolve_with(generated, "where=id+IN+(SELECT+id+FROM+q)").is_ok());
    }

    #[test]
    fn an_inner_table_made_anew_is_another_shape() {
        let identity = |oid| resolve_with(Relation { oid, ..inner() }, NESTED).unwrap().identity();
        assert_eq!(identity(16_500), identity(16_500));
        assert_ne!(identity(16_500), identity(16_501));
        let definition = resolve_with(inner(), NESTED).unwrap();
        assert_eq!(definition.inner_relations(), [Arc::new(inner())]);
        assert_eq!(definition.dependencies().len(), 2);
        let snapshot = definition.snapshot_sql();
        assert!(
            snapshot.ends_with(&format!(" WHERE {}", definition.filter.as_ref().unwrap().sql())),
            "{snapshot}"
        );
    }

    #[test]
    fn inner_tables_hold_while_what_is_used_of_them_does() {
        let definition = resolve_with(inner(), NESTED).unwrap();
        let after = |change: fn(&mut Relation)| {
            let mut now = inner();
            change(&mut now);
            definition.inner_still_holds(&now)
        };
        assert!(after(|_| ()));
        assert!(after(|now| now.columns.truncate(2)), "nobody asks for `n`");
        assert!(after(|now| now.columns.swap(0, 2)));
        assert!(!after(|now| now.columns[1].name = "b".to_owned()));
        assert!(!after(|now| now.columns[0].type_oid = oid::INT8));
        assert!(!after(|now| now.name.name = "r".to_owned()));
        assert!(!after(|now| now.columns[1].typing.collation = crate::pg::Collation::C));
        assert!(after(|now| (now.oid, now.columns) = (1, Vec::new())), "another table");
    }
}

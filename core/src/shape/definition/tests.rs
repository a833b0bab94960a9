//! Requests against a table's description: what they resolve to, and what is refused.

use super::*;
use crate::pg::{QualifiedName, oid};
use crate::protocol::request::parse_shape_request;
use crate::protocol::route::Method;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn column(name: &str, type_oid: u32, type_name: &str, pk_index: Option<u32>) -> Column {
    Column { not_null: pk_index.is_some(), pk_index, ..Column::new(name, type_oid, type_name) }
}

/// `CREATE TABLE t (id int PRIMARY KEY, a text, n int)`
fn relation() -> Relation {
    Relation::new(
        16_400,
        QualifiedName::new("public", "t"),
        vec![
            column("id", oid::INT4, "int4", Some(0)),
            column("a", oid::TEXT, "text", None),
            column("n", oid::INT4, "int4", None),
        ],
    )
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
    Definition::resolve(&request(query), &Arc::new(relation), &GeneratedColumns::Never, &[])
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
    let on = |generated: &GeneratedColumns, relation: Relation, query| {
        Definition::resolve(&request(query), &Arc::new(relation), generated, &[])
    };
    let newer = on(&GeneratedColumns::Stored, with_generated(), "").unwrap();
    assert_eq!(newer.projection.columns, [0, 1, 2]);

    let mut on_read = with_generated();
    on_read.columns[2].is_virtual = true;
    let error = on(&GeneratedColumns::Stored, on_read.clone(), "where=n%3D1&columns=id").unwrap_err();
    let advice =
        ". Postgres computes a VIRTUAL column when it is read, and does not replicate it; make it STORED";
    let clause = "The following columns are generated and cannot be used in a where clause: n";
    assert_eq!(error.texts("where"), [format!("{clause}{advice}")]);
    let error = on(&GeneratedColumns::Stored, on_read, "").unwrap_err();
    assert_eq!(error.texts("columns"), [format!("{text}{hint}{advice}")]);

    let left_out = GeneratedColumns::LeftOut { publication: "p q".to_owned() };
    let error = on(&left_out, with_generated(), "columns=id,n").unwrap_err();
    let advice = ". The publication leaves them out; run: \
                  ALTER PUBLICATION \"p q\" SET (publish_generated_columns = stored)";
    assert_eq!(error.texts("columns"), [format!("{text}{advice}")]);
    assert!(on(&left_out, with_generated(), "columns=id,a").is_ok());
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
    assert_eq!(*selected, Projection { columns: vec![0, 1], all: false });
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
    Definition::resolve(&request(query), &Arc::new(relation()), &GeneratedColumns::Never, &[Arc::new(inner)])
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

#[test]
fn a_definition_holds_while_what_it_shows_and_asks_for_does() {
    let after = |query: &str, change: fn(&mut Relation)| {
        let mut now = relation();
        change(&mut now);
        resolve(query).still_holds(&now)
    };
    let some = "columns=id,a&where=n=1";
    let add = |now: &mut Relation| now.columns.push(column("b", oid::TEXT, "text", None));
    assert!(after(some, |_| ()) && after("", |_| ()));
    assert!(after(some, add) && after(some, |now| now.columns.swap(1, 2)));
    assert!(after("columns=id,a", |now| now.columns.truncate(2)), "nobody asks for `n`");
    type Change = fn(&mut Relation);
    let changes: [(&str, Change); 9] = [
        ("another table", |now| now.oid = 1),
        ("its name", |now| now.name.name = "r".to_owned()),
        ("children", |now| now.has_children = !now.has_children),
        ("a shown column's name", |now| now.columns[1].name = "b".to_owned()),
        ("a shown column's type", |now| now.columns[1].type_oid = oid::VARCHAR),
        ("the clause's column", |now| now.columns.truncate(2)),
        ("how that compares", |now| now.columns[2].typing.collation = crate::pg::Collation::C),
        ("the key", |now| now.columns[1].pk_index = Some(1)),
        ("that there is a key", |now| now.columns[0].pk_index = None),
    ];
    for (what, change) in changes {
        assert!(!after(some, change), "{what}");
    }
    assert!(!after("", add), "it shows all columns");
}

#[test]
fn logs_that_tell_each_change_are_known() {
    let inner = Relation { name: QualifiedName::new("public", "u"), oid: 2, ..relation() };
    let with_subquery = resolve_with(inner, "where=id+IN+(SELECT+id+FROM+u)").unwrap();
    assert!(with_subquery.tells_each_change());
    assert!(resolve("replica=full").tells_each_change());
    assert!(!resolve("where=n%3D1").tells_each_change());
}

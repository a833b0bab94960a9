//! The query for a subset of a shape: its own filter, order and bounds on top of the shape's.

use super::definition::Definition;
use crate::filter::{Clause, FilterError, OrderBy, PostgresFilter, Reason, Subject};
use crate::protocol::RequestError;
use crate::protocol::request::numbered;
use crate::protocol::subset::SubsetRequest;

/// A subset that was checked against its shape's table. Everything in it was parsed and is written anew: no
/// text of the request reaches Postgres but inside a literal.
#[derive(Debug, Clone)]
pub struct SubsetQuery {
    sql: String,
    filter: Option<Clause>,
}

impl SubsetQuery {
    /// Checks what is asked for. `queryable` are the names of the columns that clauses may use; all where absent.
    ///
    /// # Errors
    /// The texts of the 400, under `subset.params`, `subset.where` or `subset.order_by`.
    pub fn resolve(
        request: &SubsetRequest,
        definition: &Definition,
        queryable: Option<&[String]>,
    ) -> Result<Self, RequestError> {
        let mut columns = definition.relation.columns.clone();
        columns.retain(|column| queryable.is_none_or(|names| names.contains(&column.name)));
        let table = Subject { name: Some(&definition.relation.name), columns: &columns };
        let filter = resolve_filter(request, table)?;
        let order_by = match &request.order_by {
            None => None,
            Some(text) => {
                let parsed = OrderBy::parse(text, table, definition.projection.columns.len());
                Some(parsed.map_err(|error| RequestError::new("subset.order_by", error.to_string()))?)
            }
        };
        let mut sql = definition.select();
        let filters = definition.filter.iter().map(Clause::sql).chain(filter.iter().map(Clause::sql));
        push_filters(&mut sql, filters);
        if let Some(order_by) = order_by {
            sql.push_str(&format!(" ORDER BY {}", order_by.sql()));
        }
        for (word, number) in [("LIMIT", request.limit), ("OFFSET", request.offset)] {
            if let Some(number) = number {
                sql.push_str(&format!(" {word} {number}"));
            }
        }
        Ok(Self { sql, filter })
    }

    /// The subset's own clause, where only Postgres can say what it means: it must confirm what the clause claims
    /// before the query is run.
    #[must_use]
    pub fn postgres(&self) -> Option<&PostgresFilter> {
        self.filter.as_ref().and_then(Clause::postgres)
    }

    /// The query: the shape's columns in table order.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }
}

fn resolve_filter(request: &SubsetRequest, table: Subject<'_>) -> Result<Option<Clause>, RequestError> {
    let Some(text) = &request.where_clause else { return Ok(None) };
    let params = numbered(&request.params).map_err(|text| RequestError::new("subset.params", text))?;
    let filter = Clause::parse_plain(text, &params, table);
    filter.map(Some).map_err(|error| RequestError::new("subset.where", refusal(&error)))
}

fn refusal(error: &FilterError) -> String {
    match error {
        FilterError::At { reason: Reason::Unsupported("SubLink"), .. } => {
            "Subqueries are not allowed in subsets".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Each filter in parentheses: an OR in the one must not let rows past the other.
fn push_filters<'a>(sql: &mut String, filters: impl Iterator<Item = &'a str>) {
    for (word, filter) in ["WHERE", "AND"].iter().zip(filters) {
        sql.push_str(&format!(" {word} ({filter})"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::{Column, QualifiedName, Relation, oid};
    use crate::protocol::query::Query;
    use crate::protocol::request::parse_shape_request;
    use crate::protocol::route::Method;
    use crate::shape::GeneratedColumns;
    use std::sync::Arc;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn column(name: &str, type_oid: u32, type_name: &str, pk_index: Option<u32>) -> Column {
        Column { not_null: pk_index.is_some(), pk_index, ..Column::new(name, type_oid, type_name) }
    }

    /// `CREATE TABLE t (id int PRIMARY KEY, a text, n int)`
    fn resolve(query: &str) -> Result<SubsetQuery, RequestError> {
        let columns = vec![
            column("id", oid::INT4, "int4", Some(0)),
            column("a", oid::TEXT, "text", None),
            column("n", oid::INT4, "int4", None),
        ];
        let relation = Arc::new(Relation::new(16_400, QualifiedName::new("public", "t"), columns));
        let query = format!("table=t&offset=-1&{query}");
        let request = parse_shape_request(Method::Get, &query).unwrap().definition;
        let definition = Definition::resolve(&request, &relation, &GeneratedColumns::Never, &[]).unwrap();
        let subset = SubsetRequest::read(&Query::parse(&query).unwrap()).unwrap().unwrap();
        SubsetQuery::resolve(&subset, &definition, request.queryable_columns.as_deref())
    }

    fn sql(query: &str) -> String {
        resolve(query).unwrap().sql
    }

    fn refused(query: &str, parameter: &str, text: &str) {
        let error = resolve(query).unwrap_err();
        assert_eq!(error.texts(parameter), [text], "{query}: {error}");
    }

    const ALL: &str = r#"SELECT "id", "a", "n" FROM "public"."t""#;

    #[test]
    fn what_only_postgres_evaluates_is_to_be_confirmed() {
        let subset = resolve("subset__where=soundex(a)=$1&subset__params[1]=A000").unwrap();
        assert_eq!(subset.sql(), format!(r#"{ALL} WHERE (("soundex"("a")) = ('A000'))"#));
        assert!(subset.postgres().is_some());
        assert!(resolve("subset__where=n=1").unwrap().postgres().is_none());
        let hidden = "queryable_columns=id&subset__where=soundex(a)='A000'";
        refused(hidden, "subset.where", "At location 8: unknown reference a");
    }

    #[test]
    fn each_part_is_there_where_it_was_asked_for() {
        assert_eq!(sql("subset__where="), ALL);
        assert_eq!(sql("subset__where=TRUE"), format!("{ALL} WHERE (true)"));
        assert_eq!(
            sql("subset__order_by=n+desc,a&subset__limit=2&subset__offset=4"),
            format!(r#"{ALL} ORDER BY "n" DESC, "a" LIMIT 2 OFFSET 4"#)
        );
        assert_eq!(sql("where=n=1&subset__x="), format!(r#"{ALL} WHERE ("n" = 1)"#));
    }

    #[test]
    fn neither_filter_opens_the_other() {
        assert_eq!(
            sql("where=id=1+OR+id=2&subset__where=n=20+OR+n=10"),
            format!(r#"{ALL} WHERE (("id" = 1) OR ("id" = 2)) AND (("n" = 20) OR ("n" = 10))"#)
        );
    }

    #[test]
    fn params_become_literals() {
        let sql = sql("subset__where=a=$1&subset__params[1]=x'%20OR%20TRUE--");
        assert_eq!(sql, format!(r#"{ALL} WHERE ("a" = 'x'' OR TRUE--'::text)"#));
        let gap = "Parameters must be numbered sequentially, starting from 1";
        refused("subset__where=a=$2&subset__params[2]=x", "subset.params", gap);
        assert!(resolve("subset__params[x]=1").is_ok(), "nobody looks at them");
    }

    #[test]
    fn clauses_are_refused_in_their_own_words() {
        refused("subset__where=n", "subset.where", "WHERE clause must return a boolean");
        refused(
            "subset__order_by=n%2B1",
            "subset.order_by",
            "At location 19: A_Expr expressions are not allowed in ORDER BY clauses",
        );
        for clause in ["id+IN+(SELECT+1)", "EXISTS+(SELECT+1)", "id=ANY(SELECT+1)", "(SELECT+TRUE)"] {
            refused(
                &format!("subset__where={clause}"),
                "subset.where",
                "Subqueries are not allowed in subsets",
            );
        }
    }

    #[test]
    fn only_queryable_columns_can_be_used() {
        let shape = "columns=id&queryable_columns=id,n";
        assert_eq!(
            sql(&format!("{shape}&subset__where=n>15&subset__order_by=n")),
            r#"SELECT "id" FROM "public"."t" WHERE ("n" > 15) ORDER BY "n""#
        );
        refused(
            &format!("{shape}&subset__where=a='x'"),
            "subset.where",
            "At location 0: unknown reference a",
        );
        let text = "At location 18: unknown reference a";
        refused(&format!("{shape}&subset__order_by=a"), "subset.order_by", text);
        assert!(resolve("columns=id&subset__where=n>15").is_ok(), "without a list every column is");
    }
}

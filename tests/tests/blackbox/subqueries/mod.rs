//! Items 197–203 and 207–210: shapes whose clause asks other tables (204–206: `subquery_clauses`). What a client rebuilds from their messages is judged
//! against SQL after every write.

mod inner_tables;
mod logic;
mod moves;
mod restart;
mod workload;

use super::open;
use limn_tests::{Follower, Limn, Sql, encode};
use serde_json::Value;

/// Rows of `ITEM` ask `PROJ`, whose rows ask `ORG`, whose rows ask `REGION`.
const TABLES: &str = "
    CREATE TABLE REGION (name text, open bool);
    CREATE TABLE ORG (id int, region text);
    CREATE TABLE PROJ (id int, org_id int, active bool, code text);
    CREATE TABLE ITEM (id int PRIMARY KEY, proj_id int, alt_id int, code text);
    INSERT INTO REGION VALUES ('north', true), ('south', false);
    INSERT INTO ORG VALUES (1, 'north'), (2, 'south');
    INSERT INTO PROJ VALUES (1, 1, true, 'x'), (2, 2, false, 'y'), (3, 1, true, 'z');
    INSERT INTO ITEM VALUES (1, 1, 2, 'x'), (2, 2, 1, 'y'), (3, 3, 3, 'z'), (4, NULL, 1, NULL)";

const IN_ACTIVE: &str = "proj_id IN (SELECT id FROM PROJ WHERE active)";
const NOT_IN_ACTIVE: &str = "proj_id NOT IN (SELECT id FROM PROJ WHERE active)";

/// Tables of its own, and a shape of `ITEM` that is followed.
struct Followed<'a> {
    server: &'a Limn,
    sql: Sql,
    name: &'a str,
    clause: String,
    shape: Follower,
}

/// On the server that most tests share.
async fn follow<'a>(name: &'a str, clause: &str) -> Followed<'a> {
    Followed::start(open().await, name, clause, "").await
}

/// The same, its rows asking a `PROJ` that has the partitions `PROJ_one` and `PROJ_rest`.
async fn partitioned<'a>(server: &'a Limn, name: &'a str) -> Followed<'a> {
    let columns = "(id int, org_id int, active bool, code text)";
    let whole = format!("CREATE TABLE PROJ {columns};");
    let parts = format!(
        "CREATE TABLE PROJ {columns} PARTITION BY LIST (id);
         CREATE TABLE PROJ_one PARTITION OF PROJ FOR VALUES IN (1, 2);
         CREATE TABLE PROJ_rest PARTITION OF PROJ DEFAULT;"
    );
    assert!(TABLES.contains(&whole));
    Followed::start_on(server, name, &TABLES.replace(&whole, &parts), IN_ACTIVE, "").await
}

impl<'a> Followed<'a> {
    /// `name` begins the tables' names; `parameters` are further ones of the shape.
    async fn start(server: &'a Limn, name: &'a str, clause: &str, parameters: &str) -> Self {
        Self::start_on(server, name, TABLES, clause, parameters).await
    }

    async fn start_on(server: &'a Limn, name: &'a str, tables: &str, clause: &str, parameters: &str) -> Self {
        let sql = server.sql().await;
        sql.execute(&named(name, tables)).await;
        let clause = named(name, clause);
        let query = format!("table={name}_item&where={}{parameters}", encode(&clause));
        let shape = server.follow(&query).await;
        Self { server, sql, name, clause, shape }
    }

    /// Tables go by their roles: `ITEM`, `PROJ`, `ORG`, `REGION`.
    async fn write(&self, sql: &str) {
        self.sql.execute(&named(self.name, sql)).await;
    }

    /// Writes, and reads until it must have arrived: the rows are those of SQL. Returns what came.
    async fn after(&mut self, sql: &str) -> Vec<Value> {
        self.write(sql).await;
        self.judge().await
    }

    async fn judge(&mut self) -> Vec<Value> {
        let lsn = self.server.barrier(&self.sql).await;
        let mut came = self.shape.sync_to(lsn).await;
        came.retain(|message| message["headers"]["control"] != "up-to-date");
        let asked = format!("SELECT * FROM {}_item WHERE {}", self.name, self.clause);
        let mut expected = self.sql.rows(&asked).await;
        expected.sort();
        assert_eq!(self.shape.rows(), expected, "{}", self.clause);
        came
    }

    /// The ids of the rows it shows, in order.
    fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> =
            self.shape.rows().into_iter().filter_map(|mut row| row.remove("id")?).collect();
        ids.sort_by_key(|id| (id.len(), id.clone()));
        ids
    }

    /// The snapshot, which is the same at any time.
    async fn snapshot(&self) -> Vec<Value> {
        let query = format!("table={}_item&where={}&offset=-1", self.name, encode(&self.clause));
        let Value::Array(messages) = self.server.get(&query).await.json() else { unreachable!("no array") };
        messages
    }
}

fn named(name: &str, sql: &str) -> String {
    let roles = ["ITEM", "PROJ", "ORG", "REGION"];
    roles
        .iter()
        .fold(sql.to_owned(), |sql, role| sql.replace(role, &format!("{name}_{}", role.to_lowercase())))
}

/// The row with that id among the messages.
fn row<'a>(messages: &'a [Value], id: &str) -> &'a Value {
    let found = messages.iter().find(|message| message["value"]["id"] == id);
    found.unwrap_or_else(|| unreachable!("no row {id} in {messages:?}"))
}

/// The only tag of a row.
fn tag(row: &Value) -> &str {
    let tags = row["headers"]["tags"].as_array().expect("rows have tags");
    assert_eq!(tags.len(), 1, "{row}");
    tags[0].as_str().expect("tags are texts")
}

/// What a message is: an operation with its row, an event, or a control message.
fn kind(message: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let headers = &message["headers"];
    match headers.get("operation") {
        Some(operation) => format!("{} {}", text(operation), text(&message["value"]["id"])),
        None => text(&headers["event"]) + &text(&headers["control"]),
    }
}

fn kinds(messages: &[Value]) -> Vec<String> {
    messages.iter().map(kind).collect()
}

//! A table in a real Postgres, its rows in text form as the replication stream has them, and one clause judged
//! by both sides.

use limn_core::filter::{EvalError, Filter, PostgresFilter};
use limn_core::pg::{QualifiedName, Relation, Row};
use limn_origin::postgres::{catalog, confirm};
use limn_tests::Cluster;
use std::sync::Arc;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// What the origin sets on every session.
const SETTINGS: &str = "SET DateStyle = 'ISO, DMY'; SET TimeZone = 'UTC'; SET IntervalStyle = iso_8601;
    SET extra_float_digits = 1; SET bytea_output = hex";

/// The table's rows, the first column being an integer that names the row.
pub struct Table {
    client: Client,
    pub relation: Relation,
    pub rows: Vec<Texts>,
}

/// A row's values in Postgres's text form.
#[derive(Debug)]
pub struct Texts(pub Vec<Option<String>>);

impl Row for Texts {
    fn text(&self, column: usize) -> Option<&[u8]> {
        self.0.get(column)?.as_deref().map(str::as_bytes)
    }
}

impl Texts {
    pub fn id(&self) -> i64 {
        self.0[0].as_deref().and_then(|id| id.parse().ok()).expect("an integer")
    }
}

impl Table {
    /// Runs statements in a new database that orders texts by code point, and reads the table.
    pub async fn create(statements: &[String], name: &str) -> Self {
        let database = Cluster::shared().await.database().await;
        let collated = format!("{}_c", database.name);
        let sql = database.connect().await;
        sql.execute(&format!(
            "CREATE DATABASE {collated} TEMPLATE template0 LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'"
        ))
        .await;
        let url = database.url().replace(&format!("/{}?", database.name), &format!("/{collated}?"));
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("connects");
        tokio::spawn(connection);
        client.batch_execute(SETTINGS).await.expect("settings");
        for statement in statements {
            client
                .batch_execute(statement)
                .await
                .unwrap_or_else(|error| unreachable!("{statement}: {error:?}"));
        }
        let name = QualifiedName::new("public", name);
        let description =
            catalog::describe(&client, &name).await.expect("answers").expect("the table exists");
        let mut table =
            Self { client, relation: Arc::unwrap_or_clone(description.relation), rows: Vec::new() };
        table.rows = table.read(&format!("SELECT * FROM {name} ORDER BY 1")).await.expect("rows");
        table
    }

    /// Runs a statement and reads the rows anew.
    pub async fn change(&mut self, statement: &str) {
        self.client
            .batch_execute(statement)
            .await
            .unwrap_or_else(|error| unreachable!("{statement}: {error:?}"));
        let all = format!("SELECT * FROM {} ORDER BY 1", self.relation.name);
        self.rows = self.read(&all).await.expect("rows");
    }

    async fn read(&self, sql: &str) -> Result<Vec<Texts>, String> {
        let messages = self.client.simple_query(sql).await;
        let messages = messages.map_err(|error| {
            error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
        })?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some(Texts((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()))
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The ids of the rows for which Postgres holds a condition to be true, or its error.
    pub async fn select(&self, condition: &str) -> Result<Vec<i64>, String> {
        let id = &self.relation.columns[0].name;
        let sql = format!("SELECT {id} FROM {} WHERE ({condition}) ORDER BY 1", self.relation.name);
        Ok(self.read(&sql).await?.iter().map(Texts::id).collect())
    }

    /// What Postgres answers for every row: `t`, `f`, `None` for NULL; or its error.
    pub async fn truths(&self, condition: &str) -> Result<Vec<Option<bool>>, String> {
        let id = &self.relation.columns[0].name;
        let sql = format!("SELECT ({condition}) FROM {} ORDER BY {id}", self.relation.name);
        Ok(self.read(&sql).await?.iter().map(|row| row.0[0].as_deref().map(|truth| truth == "t")).collect())
    }

    /// The same of one row only.
    pub async fn truth(&self, condition: &str, id: i64) -> Result<Option<bool>, String> {
        let column = &self.relation.columns[0].name;
        let sql = format!("SELECT ({condition}) FROM {} WHERE {column} = {id}", self.relation.name);
        Ok(self.read(&sql).await?[0].0[0].as_deref().map(|truth| truth == "t"))
    }

    /// Has Postgres confirm a clause that only it can evaluate.
    pub async fn confirm(&self, filter: &PostgresFilter) -> Result<(), String> {
        confirm::confirm(&self.client, &self.relation, filter).await.map_err(|error| error.to_string())
    }

    /// The ids of the rows that satisfy a clause when Postgres is given their texts.
    pub async fn judge(&self, filter: &PostgresFilter) -> Result<Vec<i64>, String> {
        let texts = |column: &usize| self.rows.iter().map(|row| row.0[*column].clone()).collect();
        let arrays: Vec<Vec<Option<String>>> = filter.columns().iter().map(texts).collect();
        let parameters: Vec<(&(dyn ToSql + Sync), Type)> =
            arrays.iter().map(|array| (array as &(dyn ToSql + Sync), Type::TEXT_ARRAY)).collect();
        let judged = self.client.query_typed(&filter.batch_sql(&self.relation), &parameters).await;
        let judged = judged.map_err(|error| {
            error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
        })?;
        assert_eq!(judged.len(), self.rows.len(), "one answer a row");
        let inside = self.rows.iter().zip(&judged).filter(|(_, truth)| truth.get::<_, bool>(0));
        Ok(inside.map(|(row, _)| row.id()).collect())
    }

    /// What core answers for every row.
    pub fn evaluate(&self, filter: &Filter) -> Vec<Result<Option<bool>, EvalError>> {
        self.rows.iter().map(|row| filter.evaluate(row)).collect()
    }
}

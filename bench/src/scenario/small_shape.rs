//! Many reads of a small shape.

use super::Scenario;
use crate::client::Log;
use crate::figures::Unit;
use crate::subject::Subject;
use limn_tests::Sql;
use std::time::{Duration, Instant};

/// Connections that ask for the initial reply of one shape in a closed loop.
pub struct SmallShape;

const CONNECTIONS: usize = 64;
const ROWS: u32 = 500;
const QUERY: &str = "table=items";
const TIME: Duration = Duration::from_secs(3);

impl Scenario for SmallShape {
    const TITLE: &str = "64 connections read a shape of 500 rows: replies";
    const UNIT: Unit = Unit::PerSecond;

    async fn fill(&self, sql: &Sql) {
        sql.execute("CREATE TABLE items (id int PRIMARY KEY, note text)").await;
        let rows = format!("SELECT i, repeat('x', 100) FROM generate_series(1, {ROWS}) i");
        sql.execute(&format!("INSERT INTO items {rows}")).await;
    }

    async fn set_up(&self, subject: &mut Subject) {
        subject.connect().await.read_to_end(&mut Log::new(QUERY)).await;
    }

    async fn run(&self, subject: &mut Subject, _run: usize) -> f64 {
        let mut readers = Vec::new();
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(subject.connect().await);
        }
        let begun = Instant::now();
        for mut connection in connections {
            readers.push(tokio::spawn(async move {
                let mut replies = 0_u32;
                while begun.elapsed() < TIME {
                    connection.get(&format!("/v1/shape?{QUERY}&offset=-1")).await;
                    replies += 1;
                }
                replies
            }));
        }
        let mut replies = 0;
        for reader in readers {
            replies += reader.await.expect("a reader ends");
        }
        f64::from(replies) / begun.elapsed().as_secs_f64()
    }
}

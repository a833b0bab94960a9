//! A row of many megabytes that many clients wait for.

use super::{Scenario, milliseconds};
use crate::client::Log;
use crate::figures::Unit;
use crate::subject::Subject;
use limn_tests::Sql;
use std::time::Instant;
use tokio::task::JoinSet;

/// One row that belongs to many shapes, each with a client that waits: from the commit's acknowledgement to the last reply.
pub struct LargeRow {
    /// The number of shapes.
    pub shapes: u32,
}

const ROW_BYTES: usize = 50_000_000;
const PIECE: &str = "0123456789abcdef";

impl Scenario for LargeRow {
    const TITLE: &str = "A row of 50 MB in many shapes: the last client has it";
    const UNIT: Unit = Unit::Milliseconds;

    async fn fill(&self, sql: &Sql) {
        sql.execute("CREATE TABLE items (id serial PRIMARY KEY, n int, note text)").await;
    }

    async fn run(&self, subject: &mut Subject, run: usize) -> f64 {
        let mut clients = Vec::new();
        for shape in 0..self.shapes {
            // The rows of other runs are in none of them.
            let mut log = Log::new(&format!("table=items&where=n%3D{run}+AND+id%3E-{shape}"));
            let mut connection = subject.connect().await;
            connection.read_to_end(&mut log).await;
            clients.push((connection, log));
        }
        let mut waiting = JoinSet::new();
        for (mut connection, mut log) in clients {
            waiting.spawn(async move { connection.wait(&mut log).await });
        }
        subject.limn().wait_parked(u64::from(self.shapes)).await;
        let sql = subject.limn().sql().await;
        subject.note_idle();
        let note = format!("repeat('{PIECE}', {})", ROW_BYTES / PIECE.len());
        sql.execute(&format!("INSERT INTO items (n, note) VALUES ({run}, {note})")).await;
        let committed = Instant::now();
        while let Some(client) = waiting.join_next().await {
            client.expect("a client ends");
        }
        milliseconds(committed.elapsed())
    }
}

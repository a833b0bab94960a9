//! Many clients that wait for one row.

use super::{Scenario, milliseconds};
use crate::client::Log;
use crate::figures::Unit;
use crate::subject::Subject;
use limn_tests::Sql;
use std::time::Instant;
use tokio::task::JoinSet;

/// Long polls on one shape, all answered by one insert: from the commit's acknowledgement to the last reply.
pub struct LiveClients;

const CLIENTS: u32 = 1_000;

impl Scenario for LiveClients {
    const TITLE: &str = "1,000 clients wait for a row: the last one has it";
    const UNIT: Unit = Unit::Milliseconds;

    async fn fill(&self, sql: &Sql) {
        sql.execute("CREATE TABLE items (id serial PRIMARY KEY, note text)").await;
    }

    async fn set_up(&self, subject: &mut Subject) {
        subject.connect().await.read_to_end(&mut Log::new("table=items")).await;
    }

    async fn run(&self, subject: &mut Subject, _run: usize) -> f64 {
        let mut log = Log::new("table=items");
        subject.connect().await.read_to_end(&mut log).await;
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (mut connection, mut log) = (subject.connect().await, log.clone());
            clients.spawn(async move { connection.wait(&mut log).await });
        }
        subject.limn().wait_parked(u64::from(CLIENTS)).await;
        let sql = subject.limn().sql().await;
        sql.execute("INSERT INTO items (note) VALUES ('seen')").await;
        let committed = Instant::now();
        while let Some(client) = clients.join_next().await {
            client.expect("a client ends");
        }
        milliseconds(committed.elapsed())
    }
}

//! The start of a server that has many shapes.

use super::creation;
use super::{Scenario, milliseconds};
use crate::client::{Connection, Log};
use crate::figures::Unit;
use crate::subject::Subject;
use limn_tests::Sql;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// From the start of the process until it answers for one of its shapes, by the handle that it had before.
pub struct Restart {
    /// How many shapes it has.
    pub shapes: usize,
}

/// A shape that is asked for.
const QUERY: &str = "table=items&where=n%3D0";
const POLL: Duration = Duration::from_millis(1);

impl Scenario for Restart {
    const TITLE: &str = "a server that has many shapes of three rows is started: its first answer";
    const UNIT: Unit = Unit::Milliseconds;

    async fn fill(&self, sql: &Sql) {
        creation::fill(sql).await;
    }

    async fn set_up(&self, subject: &mut Subject) {
        creation::make_shapes(subject, self.shapes).await;
    }

    async fn run(&self, subject: &mut Subject, _run: usize) -> f64 {
        let mut log = Log::new(QUERY);
        subject.connect().await.read_to_end(&mut log).await;
        subject.stop().await;
        milliseconds(first_answer(subject, &log).await)
    }
}

/// Starts the server, and waits until it answers for a shape that it had before.
pub(crate) async fn first_answer(subject: &mut Subject, log: &Log) -> Duration {
    let begun = Instant::now();
    subject.spawn();
    let target = log.target(false);
    loop {
        if let Some(mut connection) = Connection::try_open(subject.port()).await {
            let status = connection.status(&target).await;
            assert_ne!(status, 409, "the handle is known");
            if status == 200 {
                return begun.elapsed();
            }
        }
        sleep(POLL).await;
    }
}

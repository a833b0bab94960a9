//! The time from the commit's answer until one client has the row.

use crate::client::Log;
use crate::subject::Subject;
use limn_tests::Sql;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Writes, one after the other.
const WRITES: usize = 1_000;
/// In which the client asks again.
const BETWEEN: Duration = Duration::from_millis(4);

/// The times of all writes, in microseconds, sorted; 0 where the client had the row before the commit's answer.
pub(crate) struct Latency(Vec<f64>);

impl Latency {
    /// Has `write` insert a row of the shape that `query` describes, again and again, and a client wait for it.
    pub(crate) async fn measure(subject: &Subject, query: &str, write: &str) -> Self {
        let mut log = Log::new(query);
        let mut connection = subject.connect().await;
        connection.read_to_end(&mut log).await;
        let (seen, mut answers) = mpsc::unbounded_channel();
        let client = tokio::spawn(async move {
            for _ in 0..WRITES {
                connection.wait(&mut log).await;
                seen.send(Instant::now()).expect("the writer waits");
            }
        });
        let sql: Sql = subject.limn().sql().await;
        let mut times = Vec::with_capacity(WRITES);
        for _ in 0..WRITES {
            sleep(BETWEEN).await;
            sql.execute(write).await;
            let committed = Instant::now();
            let answered = answers.recv().await.expect("the client has the row");
            times.push(answered.saturating_duration_since(committed).as_secs_f64() * 1e6);
        }
        client.await.expect("the client ends");
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    /// The time that so many percent do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        self.0.get(self.0.len() * percent / 100).or(self.0.last()).copied().unwrap_or_default()
    }

    /// As it stands in a line.
    pub(crate) fn text(&self) -> String {
        format!("p50 {:.0}, p99 {:.0} µs", self.percentile(50), self.percentile(99))
    }
}

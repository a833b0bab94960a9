//! What goes on during a soak: clients that wait, writes, and shapes that come and go.

use crate::client::{Connection, Log};
use crate::scenario::creation;
use crate::subject::Subject;
use limn_tests::Sql;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// Every other write is of a row that a client waits for.
const WRITE_EVERY: Duration = Duration::from_millis(5);
const NEW_SHAPE_EVERY: Duration = Duration::from_millis(100);
const ROWS_PER_VALUE: u32 = 3;

/// The sizes of a soak.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Shapes that the server has, each for one value of a column. For each that comes, the least recently read one goes.
    pub shapes: u32,
    /// Clients that wait, each for another of the shapes.
    pub clients: u32,
}

/// The times from a commit's answer until its client had the row, in microseconds.
#[derive(Debug, Default)]
pub struct Latencies(Mutex<Pairs>);

#[derive(Debug, Default)]
struct Pairs {
    /// By client: when the commit was answered, or the client had the row, whichever came first.
    open: HashMap<u32, End>,
    times: Vec<f64>,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Committed(Instant),
    Seen(Instant),
}

impl Sizes {
    /// Values of the column: those of shapes that are there at first, and as many of later ones.
    const fn values(self) -> u32 {
        self.shapes * 2
    }

    const fn value_of_client(self, client: u32) -> u32 {
        client * (self.shapes / self.clients)
    }

    /// The table.
    pub async fn fill(self, sql: &Sql) {
        creation::fill_values(sql, self.values() as usize, ROWS_PER_VALUE as usize).await;
    }

    /// Starts everything; it goes on until the tasks are dropped.
    pub async fn begin(self, subject: &Subject, latencies: &Arc<Latencies>) -> JoinSet<()> {
        let connections = creation::connect(subject, creation::CONNECTIONS).await;
        creation::ask(connections, self.shapes as usize, |n| query(n as u32)).await;
        let sql = subject.limn().sql().await;
        sql.execute(&self.first_write()).await;
        let mut tasks = JoinSet::new();
        for client in 0..self.clients {
            let (mut connection, latencies) = (subject.connect().await, latencies.clone());
            let mut log = Log::new(&query(self.value_of_client(client)));
            connection.read_to_end(&mut log).await;
            tasks.spawn(async move {
                loop {
                    connection.wait(&mut log).await;
                    latencies.add(client, End::Seen(Instant::now()));
                }
            });
        }
        subject.limn().wait_parked(u64::from(self.clients)).await;
        tasks.spawn(self.write(sql, latencies.clone()));
        tasks.spawn(self.come_and_go(subject.connect().await));
        tasks
    }

    /// The first change of a shape makes files for its log: what is sampled begins with them. Those with a client have
    /// theirs within seconds.
    fn first_write(self) -> String {
        let (values, between) = (self.values(), self.shapes / self.clients);
        format!("UPDATE items SET note = 'the first change' WHERE id <= {values} AND n % {between} <> 0")
    }

    async fn write(self, sql: Sql, latencies: Arc<Latencies>) {
        let mut ticks = interval(WRITE_EVERY);
        // A machine that is too slow for the pace writes less, not in bursts.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for n in 0_u32.. {
            ticks.tick().await;
            let client = n % self.clients;
            // Serial ids begin at 1, in the order of the values.
            let id = self.value_of_client(client) + 1;
            sql.execute(&format!("UPDATE items SET note = 'note number {n}' WHERE id = {id}")).await;
            latencies.add(client, End::Committed(Instant::now()));
            ticks.tick().await;
            sql.execute(&self.write_beside(n)).await;
        }
    }

    /// A write to a value for which no client waits: an update, or a row that comes and goes.
    fn write_beside(self, n: u32) -> String {
        let between = self.shapes / self.clients;
        // A prime of its own spreads them over all values.
        let value = n.wrapping_mul(7_919) % self.values();
        let value = if value.is_multiple_of(between) { value + 1 } else { value };
        if n.is_multiple_of(5) {
            return format!(
                "INSERT INTO items (n, note) VALUES ({value}, 'passing'); \
                 DELETE FROM items WHERE n = {value} AND note = 'passing'"
            );
        }
        format!("UPDATE items SET note = 'beside {n}' WHERE id = {}", value + 1)
    }

    async fn come_and_go(self, mut connection: Connection) {
        let mut ticks = interval(NEW_SHAPE_EVERY);
        for n in self.shapes.. {
            ticks.tick().await;
            connection.get(&Log::new(&query(n % self.values())).target(false)).await;
        }
    }
}

fn query(value: u32) -> String {
    format!("table=items&where=n%3D{value}")
}

impl Latencies {
    fn add(&self, client: u32, end: End) {
        let mut pairs = self.pairs();
        let time = match (pairs.open.remove(&client), end) {
            (Some(End::Committed(committed)), End::Seen(seen))
            | (Some(End::Seen(seen)), End::Committed(committed)) => seen.saturating_duration_since(committed),
            _ => {
                pairs.open.insert(client, end);
                return;
            }
        };
        pairs.times.push(time.as_secs_f64() * 1e6);
    }

    /// Those since the last call, sorted.
    pub fn take(&self) -> Vec<f64> {
        let mut times = std::mem::take(&mut self.pairs().times);
        times.sort_by(f64::total_cmp);
        times
    }

    fn pairs(&self) -> MutexGuard<'_, Pairs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_that_between_the_two_ends_whichever_comes_first() {
        let latencies = Latencies::default();
        let begun = Instant::now();
        let later = begun + Duration::from_micros(70);
        latencies.add(1, End::Committed(begun));
        latencies.add(2, End::Seen(begun));
        latencies.add(1, End::Seen(later));
        // The client was faster than the commit's answer.
        latencies.add(2, End::Committed(later));
        let times = latencies.take();
        assert_eq!(times.len(), 2);
        assert!(times[0].abs() < 0.1 && (times[1] - 70.0).abs() < 0.1, "{times:?}");
        assert!(latencies.take().is_empty());
    }

    #[test]
    fn writes_beside_are_of_no_client() {
        let sizes = Sizes { shapes: 100, clients: 10 };
        for n in 0..1_000 {
            let text = sizes.write_beside(n);
            let number = |after: &str| {
                let rest = text.split_once(after)?.1;
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                digits.parse::<u32>().ok()
            };
            let value = number("VALUES (").or_else(|| Some(number("id = ")? - 1)).expect("a value");
            assert!(!value.is_multiple_of(10) && value < sizes.values(), "{text}");
        }
    }
}

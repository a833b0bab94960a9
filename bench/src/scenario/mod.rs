//! The scenarios that are measured.

pub(crate) mod cold_sync;
mod compaction;
pub(crate) mod creation;
mod filters;
mod idle_shapes;
mod large_row;
mod large_transaction;
pub(crate) mod latency;
pub(crate) mod live_clients;
pub(crate) mod restart;
mod small_shape;
mod transactions;

pub use cold_sync::ColdSync;
pub use compaction::Compaction;
pub use creation::{Creation, Crowd};
pub use filters::{Equality, Filters};
pub use idle_shapes::IdleShapes;
pub use large_row::LargeRow;
pub use large_transaction::LargeTransaction;
pub use live_clients::{LiveClients, ParkedMemory, WideWrite};
pub use restart::Restart;
pub use small_shape::{ManyReaders, SmallShape};
pub use transactions::Transactions;

use crate::figures::Unit;
use crate::subject::Subject;
use limn_tests::{Database, Sql};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// Work whose time is measured.
pub trait Scenario {
    /// The work, as a heading.
    const TITLE: &str;
    /// The unit of its figures.
    const UNIT: Unit;

    /// Makes the tables.
    async fn fill(&self, sql: &Sql);

    /// What the server needs before the first run; nothing by default.
    async fn set_up(&self, _subject: &mut Subject) {}

    /// Does the work once, on a server that was just started.
    async fn run(&self, subject: &mut Subject, run: usize) -> f64;

    /// Has Postgres's own tools do the same; `None` where there is nothing that compares.
    async fn floor(&self, _database: &Database) -> Option<f64> {
        None
    }
}

/// How long one of Postgres's programs takes, and how much of that a processor works for it. Its output is thrown away.
/// `None` where it is not installed: beside the server that is measured, or in the path.
async fn times_of(program: &str, arguments: &[&str]) -> Option<Times> {
    let beside = std::env::var("PG_BIN_DIR").map(|dir| format!("{dir}/{program}"));
    let path = beside.ok().filter(|path| Path::new(path).exists()).unwrap_or_else(|| program.to_owned());
    let (begun, before) = (Instant::now(), processor_time_of_children());
    let mut command = Command::new(&path);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status().await {
        Ok(status) => assert!(status.success(), "{path} {arguments:?}: {status}"),
        Err(error) => {
            println!("  no floor: cannot run `{path}`: {error}");
            return None;
        }
    }
    Some(Times { passed: begun.elapsed(), worked: processor_time_of_children() - before })
}

/// Of a program that has ended.
struct Times {
    passed: Duration,
    worked: Duration,
}

/// Of all that have ended.
fn processor_time_of_children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("it has no conditions");
    [usage.user_time(), usage.system_time()]
        .map(|time| Duration::from_micros(time.num_microseconds().unsigned_abs()))
        .iter()
        .sum()
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

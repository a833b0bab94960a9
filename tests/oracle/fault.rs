//! What happens to a server, to Postgres, and to the wire between them.

use crate::outage;
use crate::run::Run;
use limn_tests::{Client, Cluster, Limn, Proxy, Random, Shim};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9`, and a new process.
    Kill,
    /// The same again while the new process starts.
    KillTwice,
    /// Postgres ends its sessions, and starts again.
    PostgresFast,
    /// Postgres ends at once, and starts from its WAL.
    PostgresImmediate,
    /// Postgres ends while the server starts.
    PostgresAndKill,
    /// Every connection to Postgres is cut.
    Cut,
    /// Nothing comes from Postgres for a while, nor goes there.
    Hold,
    /// The same, and then the connections are cut.
    HoldAndCut,
    /// Writes to the storage folder fail, until the server ends.
    DiskFull,
    /// Syncs fail, until the server ends.
    SyncFails,
    /// The clock is some hours ahead from now on.
    ClockAhead,
    /// The clock falls back by some hours.
    ClockBack,
    /// Clients ask for everything and read nothing.
    DeafClients,
    /// The replication slot is dropped while nobody uses it.
    SlotDropped,
    /// A table is removed from the publication.
    TableUnpublished,
    /// The publication is dropped.
    PublicationDropped,
}

/// Those behind which every client goes on.
pub const CRASHES: &[Fault] = &[
    Fault::Kill,
    Fault::Kill,
    Fault::Kill,
    Fault::KillTwice,
    Fault::PostgresFast,
    Fault::PostgresImmediate,
    Fault::PostgresAndKill,
    Fault::Cut,
    Fault::Hold,
    Fault::HoldAndCut,
    Fault::DiskFull,
    Fault::SyncFails,
    Fault::ClockAhead,
    Fault::ClockBack,
    Fault::DeafClients,
];

/// Those that Postgres lost something by: what it lost is read anew.
pub const LOSSES: &[Fault] = &[Fault::SlotDropped, Fault::TableUnpublished, Fault::PublicationDropped];

/// How long a server may take to notice that its disk fails.
const DISK_TIME_MAX: Duration = Duration::from_secs(10);
/// Clients that never read.
const DEAF_CLIENTS: usize = 20;
const HOUR_S: i64 = 3600;

/// Whom faults happen to.
#[derive(Debug)]
pub struct Victim {
    /// Followed by the server.
    pub cluster: Cluster,
    /// The server.
    pub server: Limn,
    /// Between the two.
    pub proxy: Proxy,
    /// The server's disk and clock, where they can be made to fail.
    pub shim: Option<Shim>,
}

impl Victim {
    /// Lets it happen, and returns when the server is active again; `false` where it cannot be made to happen here.
    pub async fn suffer(&mut self, fault: Fault, run: &Arc<Run>, random: &mut Random) -> bool {
        let moment = Duration::from_millis(random.below(400));
        match fault {
            Fault::Kill => {
                self.kill(run).await;
                sleep(moment).await;
            }
            Fault::KillTwice => {
                self.kill(run).await;
                self.server.spawn();
                sleep(moment).await;
                self.kill(run).await;
            }
            Fault::PostgresFast => {
                self.cluster.stop().await;
                sleep(moment).await;
                self.cluster.resume().await;
            }
            Fault::PostgresImmediate => {
                self.cluster.crash().await;
                sleep(moment).await;
                self.cluster.resume().await;
            }
            Fault::PostgresAndKill => {
                self.cluster.crash().await;
                self.kill(run).await;
                self.server.spawn();
                self.cluster.resume().await;
            }
            Fault::Cut => self.proxy.cut(),
            Fault::Hold => self.hold(random).await,
            Fault::HoldAndCut => {
                self.proxy.hold(true);
                sleep(moment).await;
                self.proxy.cut();
                self.proxy.hold(false);
            }
            Fault::DiskFull | Fault::SyncFails => return self.break_disk(fault, run).await,
            Fault::ClockAhead | Fault::ClockBack => {
                let Some(shim) = &self.shim else { return false };
                let hours = 1 + i64::try_from(random.below(30)).expect("is small");
                shim.set_clock(if fault == Fault::ClockAhead { hours } else { -hours } * HOUR_S);
            }
            Fault::DeafClients => deafen(&self.server.client(), run).await,
            Fault::SlotDropped => self.drop_slot(run).await,
            Fault::TableUnpublished => unpublish(run, random).await,
            Fault::PublicationDropped => {
                let sql = outage::connect(&run.database, "").await;
                sql.execute(&format!("DROP PUBLICATION {}", run.publication())).await;
            }
        }
        self.recover().await;
        true
    }

    /// Waits until the server is active, starting it where it does not run.
    async fn recover(&mut self) {
        if self.server.runs() {
            self.server.wait_active().await;
        } else {
            self.server.resume().await;
        }
    }

    async fn kill(&mut self, run: &Run) {
        if self.server.runs() {
            self.server.kill().await;
            run.crashes.note();
        }
    }

    async fn hold(&self, random: &mut Random) {
        self.proxy.hold(true);
        sleep(Duration::from_millis(random.below(2000))).await;
        self.proxy.hold(false);
    }

    /// The disk fails until the server gives up, or has had its chance to.
    async fn break_disk(&mut self, fault: Fault, run: &Run) -> bool {
        let Some(shim) = &self.shim else { return false };
        let set = |fails| match fault {
            Fault::DiskFull => shim.fill_disk(fails),
            _ => shim.fail_syncs(fails),
        };
        set(true);
        let started = Instant::now();
        while self.server.runs() && started.elapsed() < DISK_TIME_MAX {
            sleep(Duration::from_millis(20)).await;
        }
        set(false);
        run.crashes.note();
        self.recover().await;
        true
    }

    async fn drop_slot(&mut self, run: &Run) {
        let sql = outage::connect(&run.database, "").await;
        self.kill(run).await;
        let slots = format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '{}'",
            run.database.name
        );
        while sql.try_execute(&slots).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Clients that ask for the longest answers, and leave when the fault is over.
async fn deafen(client: &Client, run: &Run) {
    let mut deaf = Vec::new();
    for number in 0..DEAF_CLIENTS {
        let shape = &run.shapes[run.shapes.len() - 1 - number % run.shapes.len()];
        let target = format!("/v1/shape?{}&offset=-1", shape.query);
        deaf.push(client.ask(&target).await.ok());
    }
    sleep(Duration::from_secs(1)).await;
}

async fn unpublish(run: &Run, random: &mut Random) {
    let sql = outage::connect(&run.database, "").await;
    let table = random.choice(&run.schema.tables);
    let one = table.partitions.last().unwrap_or(&table.name);
    let remove = format!("ALTER PUBLICATION {} DROP TABLE {one}", run.publication());
    // It may not have been published yet.
    let _ = timeout(Duration::from_secs(5), sql.try_execute(&remove)).await;
}

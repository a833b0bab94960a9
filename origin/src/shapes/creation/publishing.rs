//! Publishing a table: one attempt at a time for each, however many shapes wait for it.
//!
//! The application must not notice. A lock that is waited for makes everybody queue behind it who asks for the table
//! next, so each wait is short, and the pauses between are longer than the waits. Nothing is altered that is
//! already as it must be.

use super::facts::RECENT;
use super::flights::{CutOff, Flights};
use super::{Catalog, CreateError, CreatorParts};
use crate::engine::{EngineHandle, Stopped};
use crate::postgres::catalog::{self, Description};
use crate::postgres::lock_holders::{Held, Holder, lock_holders};
use crate::postgres::publication::{Alteration, Altered, Publication, PublicationError};
use crate::postgres::{PostgresConfig, PostgresError, Session};
use crate::random::random;
use crate::shapes::Registry;
use limn_core::shape::DropCause;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

/// How long a new table waits for the transactions that were writing it.
const WRITERS_WAIT: Duration = Duration::from_secs(20);
/// The first pause between two looks at them; doubled up to the last.
const WRITERS_POLL_FIRST: Duration = Duration::from_millis(20);
const WRITERS_POLL_LAST: Duration = Duration::from_millis(200);
/// How long a locked table is tried again.
const LOCKED_TIME_MAX: Duration = Duration::from_secs(20);
/// How often the catalog is asked what is left to alter. Tables are altered a few at a time, so this allows for very many
/// partitions, but not for somebody who undoes it each time.
const ROUNDS_MAX: usize = 10_000;
/// The first pause behind an attempt that found the table locked; doubled up to the last. Each is varied by up to a half.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_LAST: Duration = Duration::from_secs(2);
/// Such a pause ends as soon as nobody holds a lock on the table, but not before this time: others take turns.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// How often it is looked who holds one.
const FREE_POLL: Duration = Duration::from_millis(50);

/// Publishes tables.
#[derive(Clone)]
pub struct Publisher(Arc<Shared>);

struct Shared {
    engine: EngineHandle,
    catalog: Catalog,
    registry: Arc<Registry>,
    config: PostgresConfig,
    publication: Publication,
    /// Sessions beside the catalog's, shared with snapshots.
    sessions: Arc<Semaphore>,
    /// Tables that are being published, by oid.
    flights: Flights<u32, Result<(), Arc<CreateError>>>,
    settled: Mutex<HashMap<u32, Settled>>,
}

/// A table that is published.
#[derive(Clone)]
struct Settled {
    /// What was published, and when the catalog was asked whether it is.
    table: Description,
    asked_at: Instant,
    /// The entries of the publication by which it is.
    memberships: Vec<u32>,
    /// The transactions that were writing it then, as far as they have not ended.
    writers: HashSet<String>,
}

impl Publisher {
    /// A publisher whose sessions for altering tables take turns with those of snapshots.
    pub(super) fn new(
        parts: &CreatorParts,
        engine: EngineHandle,
        catalog: Catalog,
        sessions: Arc<Semaphore>,
    ) -> Self {
        Self(Arc::new(Shared {
            engine,
            catalog,
            registry: parts.registry.clone(),
            config: parts.config.clone(),
            publication: parts.publication.clone(),
            sessions,
            flights: Flights::default(),
            settled: Mutex::default(),
        }))
    }

    /// Sees to it that the stream holds every change of the table that a snapshot taken next will not see.
    pub(super) async fn publish(&self, table: &Description) -> Result<(), CreateError> {
        if self.is_settled(table) { Ok(()) } else { self.publish_or_join(table).await }
    }

    async fn publish_or_join(&self, table: &Description) -> Result<(), CreateError> {
        let flight = self.0.flights.join(table.relation.oid, || {
            let (publisher, table) = (self.clone(), table.clone());
            async move { publisher.publish_now(&table).await.map_err(Arc::new) }
        });
        match flight.await {
            Ok(published) => published.map_err(CreateError::Publishing),
            Err(CutOff) => Err(CreateError::Stopped(Stopped)),
        }
    }

    /// Whether the catalog said a moment ago that the table is published, and nobody is waited for.
    fn is_settled(&self, table: &Description) -> bool {
        let is_recent = |at: Instant| {
            at.elapsed() < RECENT && !self.0.registry.catalog_changes.is_outdated(&table.relation.name, at)
        };
        let settled = self.settled();
        settled.get(&table.relation.oid).is_some_and(|settled| {
            is_recent(settled.asked_at) && settled.writers.is_empty() && settled.table == *table
        })
    }

    /// Sets what publishing a table sets, for partitions that came since.
    ///
    /// # Errors
    /// The reason why it cannot be set.
    pub async fn publish_again(&self, oid: u32) -> Result<(), CreateError> {
        let session = self.0.catalog.session().await?;
        match catalog::describe_oid(&session, oid).await? {
            Some(table) => self.publish_or_join(&table).await,
            None => Ok(()),
        }
    }

    async fn publish_now(&self, table: &Description) -> Result<(), CreateError> {
        let (oid, asked_at) = (table.relation.oid, Instant::now());
        let memberships = self.alter(table).await?;
        let known = self.settled().get(&oid).cloned();
        let writers = match known.filter(|known| known.memberships == memberships) {
            // A wait that timed out goes on with the transactions that are left of it: later ones need none.
            Some(known) => known.writers,
            // Rows that were written before the table was published are decoded as not published, however late their
            // transaction commits. So who holds a lock now, behind the commit that published it, has to end
            // before the snapshot. Who takes a lock later finds the table published.
            None => self.writers(oid).await?.into_iter().map(|holder| holder.transaction).collect(),
        };
        let table_now = table.clone();
        self.settled().insert(oid, Settled { table: table_now, asked_at, memberships, writers });
        self.wait_for_writers(table).await
    }

    /// Alters what is not as it must be; returns the entries of the publication by which the table is published.
    async fn alter(&self, table: &Description) -> Result<Vec<u32>, CreateError> {
        let publication = &self.0.publication;
        let session = self.0.catalog.session().await?;
        let mut deadline = Instant::now() + LOCKED_TIME_MAX;
        let (mut pause, mut was_missing, mut interrupts_at) = (PAUSE_FIRST, false, Instant::now());
        for _ in 0..ROUNDS_MAX {
            let publishing = publication.publishing(&session, table).await?;
            if publishing.statements.is_empty() {
                if was_missing {
                    self.remove_readers(table.relation.oid).await?;
                }
                return Ok(publishing.memberships);
            }
            was_missing |= publishing.is_missing;
            match self.alter_once(&publishing.statements).await? {
                // The next look at the catalog finds all done, or what is left.
                Altered::All | Altered::Outdated => {}
                Altered::Some => {
                    (pause, deadline) = (PAUSE_FIRST, Instant::now() + LOCKED_TIME_MAX);
                    sleep(varied(pause)).await;
                }
                Altered::Locked if Instant::now() + pause > deadline => {
                    let holders = lock_holders(&session, table.relation.oid, Held::Any).await?;
                    return Err(PublicationError::LockTimeout { holders }.into());
                }
                Altered::Locked => {
                    if Instant::now() >= interrupts_at {
                        self.interrupt_autovacuum(table.relation.oid).await?;
                        // By then another of its processes may have come to the table.
                        interrupts_at = Instant::now() + PAUSE_LAST;
                    }
                    self.wait_until_free(table.relation.oid, varied(pause)).await?;
                    pause = (pause * 2).min(PAUSE_LAST);
                }
            }
        }
        Err(CreateError::Changed)
    }

    /// The pause behind an attempt that found the table locked. It ends early where nobody holds a lock any more: a
    /// table that transactions of some length write to all the time is free only for moments.
    async fn wait_until_free(&self, oid: u32, pause: Duration) -> Result<(), PostgresError> {
        let deadline = Instant::now() + pause;
        sleep(PAUSE_MIN).await;
        while Instant::now() < deadline {
            if lock_holders(&*self.0.catalog.session().await?, oid, Held::Any).await?.is_empty() {
                break;
            }
            sleep(FREE_POLL).await;
        }
        Ok(())
    }

    /// In a session of its own, since its waits must not hold questions to the catalog up; it counts as a snapshot's.
    async fn alter_once(&self, statements: &[Alteration]) -> Result<Altered, CreateError> {
        let _permit = self.0.sessions.acquire().await.expect("the semaphore is never closed");
        let session = Session::connect(&self.0.config).await?;
        Ok(self.0.publication.alter(&session, statements).await?)
    }

    async fn interrupt_autovacuum(&self, oid: u32) -> Result<(), PostgresError> {
        let _permit = self.0.sessions.acquire().await.expect("the semaphore is never closed");
        Publication::interrupt_autovacuum(&*Session::connect(&self.0.config).await?, oid).await
    }

    async fn writers(&self, oid: u32) -> Result<Vec<Holder>, PostgresError> {
        lock_holders(&*self.0.catalog.session().await?, oid, Held::ForWriting).await
    }

    async fn wait_for_writers(&self, table: &Description) -> Result<(), CreateError> {
        let oid = table.relation.oid;
        let deadline = Instant::now() + WRITERS_WAIT;
        let mut pause = WRITERS_POLL_FIRST;
        loop {
            let mut open = self.writers(oid).await?;
            {
                let mut settled = self.settled();
                let Some(settled) = settled.get_mut(&oid) else { return Ok(()) };
                open.retain(|holder| settled.writers.contains(&holder.transaction));
                settled.writers = open.iter().map(|holder| holder.transaction.clone()).collect();
            }
            if open.is_empty() {
                return Ok(());
            }
            if Instant::now() + pause > deadline {
                let table = table.relation.name.to_string();
                return Err(PublicationError::WritersStillOpen { table, writers: open }.into());
            }
            sleep(pause).await;
            pause = (pause * 2).min(WRITERS_POLL_LAST);
        }
    }

    /// Removes the shapes that a table's changes did not reach: it had been removed from the publication, and is added again
    /// before the catalog was looked at.
    async fn remove_readers(&self, oid: u32) -> Result<(), Stopped> {
        for shape in self.0.registry.all() {
            let reads = shape.definition.relations().iter().any(|relation| relation.oid == oid);
            if reads && shape.is_readable() {
                self.0.engine.remove(shape.id, DropCause::Unpublished).await?;
            }
        }
        Ok(())
    }

    fn settled(&self) -> MutexGuard<'_, HashMap<u32, Settled>> {
        self.0.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pause between a half and one and a half times as long, by chance.
fn varied(pause: Duration) -> Duration {
    let percent = u32::try_from(random() % 101).unwrap_or(50);
    pause / 2 + pause * percent / 100
}

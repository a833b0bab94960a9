//! What the catalog says of a table, for everybody who asks at about the same time.

use super::catalog::{Catalog, LookupError, unreachable};
use super::flights::Flights;
use crate::postgres::catalog::{self, Description};
use crate::postgres::publication::Publication;
use crate::postgres::{PostgresError, Session, obstacle, rights};
use crate::shapes::Registry;
use limn_core::pg::{QualifiedName, Relation};
use limn_core::protocol::RequestError;
use limn_core::shape::GeneratedColumns;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// For how long facts serve further definitions of the same table. A snapshot finds out where they are outdated, and what
/// they make look wrong is looked at again.
pub(super) const RECENT: Duration = Duration::from_secs(1);

/// What the catalog says of a table.
pub(super) struct TableFacts {
    /// When the catalog was asked: what was committed before is told.
    asked_at: Instant,
    /// The table; `None` where there is none of this name.
    pub description: Option<Description>,
    /// Why no shape can follow a relation of this name.
    pub obstacle: Option<String>,
    /// Whether the role may read all rows and all columns.
    pub is_readable_whole: bool,
    /// What the stream tells of generated columns.
    pub generated: GeneratedColumns,
}

/// Facts of tables, as far as somebody has asked for them lately.
pub(super) struct Facts {
    registry: Arc<Registry>,
    recent: Mutex<HashMap<QualifiedName, Arc<TableFacts>>>,
    flights: Flights<QualifiedName, Result<Arc<TableFacts>, LookupError>>,
    /// The newest description of each table, by its oid, for as long as a shape has it.
    described: Mutex<HashMap<u32, Weak<Relation>>>,
}

impl Facts {
    /// No facts yet. The shapes of `registry` tell what has changed.
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, recent: Mutex::default(), flights: Flights::default(), described: Mutex::default() }
    }

    /// What the catalog said of a table at `since` or later.
    pub(super) async fn since(
        &self,
        catalog: &Catalog,
        name: &QualifiedName,
        since: Instant,
    ) -> Result<Arc<TableFacts>, LookupError> {
        let changes = &self.registry.catalog_changes;
        let is_believed =
            |facts: &TableFacts| facts.asked_at >= since && !changes.is_outdated(name, facts.asked_at);
        loop {
            let recent = self.recent().get(name).cloned();
            if let Some(facts) = recent.filter(|facts| is_believed(facts)) {
                return Ok(facts);
            }
            let flight = self.flights.join(name.clone(), || {
                let (catalog, name) = (catalog.clone(), name.clone());
                async move { catalog.ask_facts(&name).await.map_err(|error| unreachable(&error)) }
            });
            let facts = flight.await??;
            self.remember(name, &facts);
            // What others had begun to ask before may be too old.
            if is_believed(&facts) {
                return Ok(facts);
            }
        }
    }

    fn remember(&self, name: &QualifiedName, facts: &Arc<TableFacts>) {
        let mut recent = self.recent();
        recent.retain(|_, facts| facts.asked_at.elapsed() < RECENT);
        recent.insert(name.clone(), facts.clone());
    }

    /// Lets the shapes of a table that has not changed share one description.
    pub(super) fn share_description(&self, facts: &mut TableFacts) {
        let Some(table) = &mut facts.description else { return };
        let mut described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        match described.get(&table.relation.oid).and_then(Weak::upgrade) {
            Some(known) if known == table.relation => table.relation = known,
            _ => {
                described.retain(|_, known| known.strong_count() > 0);
                described.insert(table.relation.oid, Arc::downgrade(&table.relation));
            }
        }
    }

    fn recent(&self) -> MutexGuard<'_, HashMap<QualifiedName, Arc<TableFacts>>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TableFacts {
    /// Asks the catalog.
    pub(super) async fn ask(
        session: &Session,
        publication: &Publication,
        name: &QualifiedName,
    ) -> Result<Self, PostgresError> {
        let asked_at = Instant::now();
        let description = catalog::describe(session, name).await?;
        let obstacle = obstacle::find(session, name).await?.map(|obstacle| obstacle.to_string());
        let is_readable_whole = match &description {
            Some(table) => rights::denials(session, &[(table.relation.oid, None)]).await?.is_empty(),
            None => false,
        };
        let generated = publication.generated_columns(session).await?;
        Ok(Self { asked_at, description, obstacle, is_readable_whole, generated })
    }

    /// Refuses what no shape can follow: relations that are not tables, and tables whose rows are in no WAL.
    pub(super) fn check_followable(&self) -> Result<(), LookupError> {
        match &self.obstacle {
            Some(text) => Err(LookupError::Unfollowable(RequestError::new("table", text.clone()))),
            None => Ok(()),
        }
    }
}

//! Resolves definitions: asks Postgres which table a request means, and whether a shape can follow it.
//!
//! All questions share one session. None of them waits for a lock there: what one definition waits for must not hold
//! another one's questions up.

use super::clause;
use super::facts::{Facts, RECENT, TableFacts};
use super::flights::{CutOff, Flights};
use crate::postgres::catalog::{self, Description};
use crate::postgres::confirm::{self, Unconfirmed};
use crate::postgres::lock_holders::{self, Held, is_locked, lock_holders};
use crate::postgres::publication::Publication;
use crate::postgres::{PostgresConfig, PostgresError, Session, sqlstate};
use crate::shapes::Registry;
use limn_core::filter::{Clause, PostgresFilter};
use limn_core::pg::{QualifiedName, Relation};
use limn_core::protocol::RequestError;
use limn_core::protocol::reply::Unavailable;
use limn_core::protocol::request::DefinitionRequest;
use limn_core::shape::Definition;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long finding out what a request means may take, with the wait for a connection.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(30);
/// How long Postgres may wait for a lock while it confirms a clause: others' questions wait meanwhile.
const CONFIRM_LOCK_MS_MAX: u32 = 20;
/// How long a clause is tried again whose table is locked.
const CONFIRM_TIME_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether the table is still locked.
const LOCKED_POLL: Duration = Duration::from_millis(100);
/// When a client may ask again after one of these limits.
const RETRY_S: u64 = 5;

/// Asks the catalog.
#[derive(Clone)]
pub struct Catalog(Arc<Shared>);

struct Shared {
    config: PostgresConfig,
    publication: Publication,
    registry: Arc<Registry>,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    /// By request key: of a crowd that asks for the same definition, only the first asks Postgres.
    lookups: Flights<String, Result<Arc<Resolved>, LookupError>>,
    facts: Facts,
    /// Waits for tables' locks, by oid.
    unlocked: Flights<u32, Result<(), LookupError>>,
}

/// A definition that the catalog has confirmed, and its tables.
#[derive(Debug)]
pub struct Resolved {
    /// The definition, with names resolved by the catalog.
    pub definition: Definition,
    /// The tables that it reads.
    pub tables: Tables,
}

/// The tables of a definition, as the catalog describes them.
#[derive(Debug)]
pub struct Tables {
    /// The one whose rows it shows.
    pub own: Description,
    /// Those that subqueries read.
    pub inner: Vec<Description>,
}

/// A definition leads to no shape.
#[derive(Debug, Clone)]
pub enum LookupError {
    /// The request is at fault.
    Request(RequestError),
    /// The request names a relation that no shape can follow, though it may have been one that can before.
    Unfollowable(RequestError),
    /// A state that passes.
    Unavailable(Unavailable),
    /// A fault of the server.
    Failed(String),
}

impl LookupError {
    fn retry(text: impl Into<String>) -> Self {
        Self::Unavailable(Unavailable { known: true, ..Unavailable::new(text, RETRY_S) })
    }
}

impl From<CutOff> for LookupError {
    fn from(error: CutOff) -> Self {
        Self::Failed(format!("Cannot verify the shape: {error}"))
    }
}

impl Catalog {
    pub(super) fn new(config: PostgresConfig, publication: Publication, registry: Arc<Registry>) -> Self {
        let shared = Shared {
            config,
            publication,
            facts: Facts::new(registry.clone()),
            registry,
            session: tokio::sync::Mutex::default(),
            lookups: Flights::default(),
            unlocked: Flights::default(),
        };
        Self(Arc::new(shared))
    }

    /// The session for questions to the catalog.
    ///
    /// # Errors
    /// Where Postgres cannot be reached.
    pub async fn session(&self) -> Result<Arc<Session>, PostgresError> {
        let mut current = self.0.session.lock().await;
        if let Some(session) = current.as_ref().filter(|session| !session.is_closed()) {
            return Ok(session.clone());
        }
        let session = Session::connect(&self.0.config).await?;
        session.batch_execute(&format!("SET lock_timeout = {CONFIRM_LOCK_MS_MAX}")).await?;
        let session = Arc::new(session);
        *current = Some(session.clone());
        Ok(session)
    }

    /// A table as it is now.
    ///
    /// # Errors
    /// Where the catalog cannot be asked.
    pub async fn describe(&self, oid: u32) -> Result<Option<Arc<Relation>>, PostgresError> {
        let described = catalog::describe_oid(&*self.session().await?, oid).await?;
        Ok(described.map(|table| table.relation))
    }

    /// A table by its name.
    ///
    /// # Errors
    /// [`LookupError`]
    pub async fn describe_by_name(&self, name: &QualifiedName) -> Result<Arc<Relation>, LookupError> {
        let facts = self.facts(name, Instant::now()).await?;
        facts.check_followable()?;
        let described = facts.description.as_ref().map(|table| table.relation.clone());
        described.ok_or_else(|| LookupError::Request(RequestError::unknown_table(name)))
    }

    /// Resolves a request's definition, and has Postgres confirm it; nothing is created.
    ///
    /// # Errors
    /// [`LookupError`]; [`LookupError::Unavailable`] where it takes too long.
    pub async fn resolve(&self, request: &DefinitionRequest) -> Result<Arc<Resolved>, LookupError> {
        let flight = self.0.lookups.join(request.request_key(), || {
            let (catalog, request) = (self.clone(), request.clone());
            async move {
                let resolved = timeout(LOOKUP_TIME_MAX, catalog.resolve_now(&request)).await;
                resolved.unwrap_or_else(|_| {
                    Err(LookupError::retry("Verifying the shape in the database took too long"))
                })
            }
        });
        flight.await?
    }

    async fn resolve_now(&self, request: &DefinitionRequest) -> Result<Arc<Resolved>, LookupError> {
        let now = Instant::now();
        match self.resolve_since(request, now.checked_sub(RECENT).unwrap_or(now)).await {
            // By what the catalog said a moment ago. Somebody may have mended it since.
            Err(LookupError::Request(_) | LookupError::Unfollowable(_)) => {
                self.resolve_since(request, now).await
            }
            resolved => resolved,
        }
    }

    /// Resolves a definition by what the catalog said at `since` or later.
    async fn resolve_since(
        &self,
        request: &DefinitionRequest,
        since: Instant,
    ) -> Result<Arc<Resolved>, LookupError> {
        let own = self.facts(&request.table, since).await?;
        own.check_followable()?;
        let table = own.description.as_ref().filter(|table| !table.relation.columns.is_empty());
        let Some(table) = table else {
            return Err(LookupError::Request(RequestError::unknown_table(&request.table)));
        };
        let relation = &table.relation;
        let mut facts = Vec::new();
        for name in clause::inner_names(request) {
            facts.push(self.facts(&name, since).await?);
        }
        let inner: Vec<Description> = facts.iter().filter_map(|facts| facts.description.clone()).collect();
        let relations: Vec<_> = inner.iter().map(|table| table.relation.clone()).collect();
        let definition = Definition::resolve(request, relation, &own.generated, &relations);
        // Where a subquery names something that no shape can follow, its columns are of no interest.
        facts.iter().try_for_each(|facts| facts.check_followable())?;
        let definition = definition.map_err(LookupError::Request)?;
        clause::check_only(&definition, &inner)?;
        if self.0.registry.by_identity(&definition.identity()).is_none() {
            if !facts.iter().chain([&own]).all(|facts| facts.is_readable_whole) {
                self.check_rights(&definition).await?;
            }
            if let Some(filter) = definition.filter.as_ref().and_then(Clause::postgres) {
                self.confirm(relation, filter, "where").await?;
            }
        }
        Ok(Arc::new(Resolved { definition, tables: Tables { own: table.clone(), inner } }))
    }

    async fn facts(&self, name: &QualifiedName, since: Instant) -> Result<Arc<TableFacts>, LookupError> {
        self.0.facts.since(self, name, since).await
    }

    /// Asks for the facts of a table, as they are now.
    pub(super) async fn ask_facts(&self, name: &QualifiedName) -> Result<Arc<TableFacts>, PostgresError> {
        let session = self.session().await?;
        let mut facts = TableFacts::ask(&session, &self.0.publication, name).await?;
        self.0.facts.share_description(&mut facts);
        Ok(Arc::new(facts))
    }

    /// Has Postgres confirm what the clause of a request's parameter claims. That takes a lock on the table, which is
    /// waited for without keeping the session.
    ///
    /// # Errors
    /// [`LookupError`]; [`LookupError::Unavailable`] with who holds the lock where it is held for long.
    pub async fn confirm(
        &self,
        relation: &Relation,
        filter: &PostgresFilter,
        parameter: &'static str,
    ) -> Result<(), LookupError> {
        let deadline = Instant::now() + CONFIRM_TIME_MAX;
        loop {
            let session = self.session().await.map_err(|error| unreachable(&error))?;
            match confirm::confirm(&session, relation, filter).await {
                Ok(()) => return Ok(()),
                Err(Unconfirmed::Refused(reason)) => {
                    return Err(clause::refused(relation, filter, parameter, reason));
                }
                Err(Unconfirmed::Postgres(error))
                    if error.code() == Some(sqlstate::LOCK_NOT_AVAILABLE) && Instant::now() < deadline =>
                {
                    self.wait_unlocked(relation).await?;
                }
                Err(Unconfirmed::Postgres(error)) => return Err(unreachable(&error)),
            }
        }
    }

    /// Waits until nobody keeps a table from being read: one look for all who wait for the same table.
    async fn wait_unlocked(&self, relation: &Relation) -> Result<(), LookupError> {
        let flight = self.0.unlocked.join(relation.oid, || {
            let (catalog, oid, name) = (self.clone(), relation.oid, relation.name.clone());
            async move {
                let waited = timeout(CONFIRM_TIME_MAX, catalog.poll_unlocked(oid)).await;
                let result = match waited {
                    Ok(result) => result.map(|()| None),
                    Err(_) => catalog.lock_holders(oid).await.map(Some),
                };
                match result.map_err(|error| unreachable(&error))? {
                    None => Ok(()),
                    Some(holders) => {
                        Err(LookupError::retry(format!("Cannot verify the shape: {name} is locked{holders}")))
                    }
                }
            }
        });
        flight.await?
    }

    async fn poll_unlocked(&self, oid: u32) -> Result<(), PostgresError> {
        loop {
            sleep(LOCKED_POLL).await;
            if !is_locked(&*self.session().await?, oid).await? {
                return Ok(());
            }
        }
    }

    async fn lock_holders(&self, oid: u32) -> Result<String, PostgresError> {
        let holders = lock_holders(&*self.session().await?, oid, Held::Any).await?;
        Ok(lock_holders::describe(&holders))
    }
}

/// The reply to a request where a question to Postgres failed.
pub(crate) fn unreachable(error: &PostgresError) -> LookupError {
    if error.code() == Some(sqlstate::LOCK_NOT_AVAILABLE) {
        LookupError::retry("Cannot verify the shape: what it reads in the database is locked by others")
    } else if error.is_transient() {
        let text = "Cannot connect to the database to verify the shape. Please try again later.";
        LookupError::Unavailable(Unavailable::new(text, 1))
    } else {
        LookupError::Failed(error.to_string())
    }
}

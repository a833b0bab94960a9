//! The engine's connection to Postgres: made, lost, and made again.

use super::pulse::Pulse;
use crate::health::preflight::{self, Checked, PreflightError};
use crate::observe::spans;
use crate::postgres::catalog::{self, Description};
use crate::postgres::publication::{Publication, PublicationError};
use crate::postgres::slot::{self, SlotError};
use crate::postgres::{
    PostgresConfig, PostgresError, ReplicationConnection, ReplicationError, ReplicationStream, Session,
};
use crate::postgres::{slot_wait, snapshot};
use crate::store::{self, Folder};
use futures::FutureExt as _;
use futures::future::RemoteHandle;
use limn_core::Lsn;
use limn_core::protocol::FaultCode;
use limn_core::shape::DropCause;
use limn_core::shape::postgres_judged::RowsQuestion;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::{ToSql, Type};

/// The pause before the first new attempt; it doubles up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(5);
/// How often it is looked whether a commit is visible, and for how long; with synchronous replication a
/// standby may keep it from being so.
const VISIBLE_POLL: Duration = Duration::from_millis(2);
const VISIBLE_WAIT: Duration = Duration::from_secs(1);
/// How long creating the slot may take without a word.
const SLOT_PATIENCE: Duration = Duration::from_secs(2);
/// How long Postgres may work on a question about the catalog or about rows, while the stream waits. A clause that needs
/// longer is refused, so that one shape does not hold up all others.
const QUESTION_MS_MAX: u32 = 10_000;
/// No relation has this oid.
const NO_OID: u32 = 0;
/// News that an attempt to connect may have to tell before it ends.
const NEWS_MAX: usize = 4;

/// The database, publication and slot to follow.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where Postgres is.
    pub config: PostgresConfig,
    /// Which tables are published.
    pub publication: Publication,
    /// The replication slot's name.
    pub slot: String,
    /// Whether the slot goes with the connection.
    pub temporary_slot: bool,
    /// Whether publication and replica identities are somebody else's business.
    pub manual: bool,
    /// Whose shapes follow the slot.
    pub folder: Arc<Folder>,
}

/// A stream that has started.
pub(super) struct Connected {
    pub(super) stream: ReplicationStream,
    /// Which Postgres it comes from.
    pub(super) origin: store::SourceIdentity,
    /// The publication that it carries, by oid.
    pub(super) publication: Option<u32>,
    /// Why nothing connects the slot with what was stored before, where that is so.
    pub(super) breach: Option<DropCause>,
    /// What Postgres has forgotten already.
    pub(super) confirmed: Lsn,
    /// Where the WAL ended just now.
    pub(super) wal_position: Lsn,
}

/// An event of the replication connection.
pub(super) enum LinkEvent {
    Connected(Box<Connected>),
    /// Another instance holds the lock.
    Waiting,
    /// Bytes have come: work off the stream's frames.
    Bytes {
        after_silence: bool,
    },
    /// The server did not answer in time. The connection is kept: a walsender that stands still also holds
    /// the slot, and one that decodes a long transaction would have to begin it again.
    Silent,
    /// The connection is being made, and what was served before cannot be continued.
    Unsound(FaultCode),
    /// There is no stream; a new connection is on its way. Names what somebody must mend, where a new
    /// attempt alone will not help.
    Failed(Option<FaultCode>),
    /// The first connection cannot be made until somebody changes something.
    Fatal(String),
}

/// The connection's state machine.
pub struct Link {
    source: Source,
    state: State,
    /// What the attempt to connect tells meanwhile.
    news: (mpsc::Sender<LinkEvent>, mpsc::Receiver<LinkEvent>),
    pause: Duration,
    was_connected: bool,
    pulse: Pulse,
    /// For questions to the catalog.
    session: Option<Session>,
    /// The same, while it is made ready.
    readying: Option<RemoteHandle<Option<Session>>>,
}

enum State {
    Connecting(RemoteHandle<Result<(Connected, Session), ConnectError>>),
    Streaming(ReplicationStream),
    /// The engine has the stream in its hands.
    Taken,
}

#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    #[error(transparent)]
    Publication(#[from] PublicationError),
    #[error(transparent)]
    Slot(#[from] SlotError),
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    #[error(transparent)]
    Replication(#[from] ReplicationError),
    #[error("cannot use the storage folder: {0}")]
    Folder(#[from] io::Error),
}

impl Link {
    /// Begins to connect; nothing has to be ready for the stream yet.
    #[must_use]
    pub fn connect(source: Source) -> Self {
        let news = mpsc::channel(NEWS_MAX);
        let attempt = Attempt { source: source.clone(), news: news.0.clone(), afresh: false };
        let state = State::Connecting(attempt.start(Duration::ZERO));
        let (pulse, pause) = (Pulse::default(), PAUSE_FIRST);
        Self { source, state, news, pause, was_connected: false, pulse, session: None, readying: None }
    }

    /// Where Postgres is.
    pub(super) const fn config(&self) -> &PostgresConfig {
        &self.source.config
    }

    /// Waits for the next event. Cancel-safe.
    pub(super) async fn next(&mut self) -> LinkEvent {
        if self.source.config.scarcity.is_scarce() {
            // Others wait for it; the walsender's signs of life lead here every few seconds.
            (self.session, self.readying) = (None, None);
        }
        match &mut self.state {
            State::Connecting(attempt) => {
                let result = tokio::select! {
                    biased;
                    Some(event) = self.news.1.recv() => return event,
                    result = attempt => result,
                };
                self.handle_attempt(result)
            }
            State::Streaming(stream) => match fill(stream, self.pulse.deadline()).await {
                None => {
                    self.pulse.handle_silence();
                    LinkEvent::Silent
                }
                Some(Ok(())) => LinkEvent::Bytes { after_silence: self.pulse.handle_heard() },
                Some(Err(error)) => {
                    tracing::warn!(%error, "the replication stream ended; connecting again");
                    self.reconnect();
                    LinkEvent::Failed(None)
                }
            },
            State::Taken => std::future::pending().await,
        }
    }

    /// The stream, until it is given back.
    pub(super) fn take_streaming(&mut self) -> Option<ReplicationStream> {
        match std::mem::replace(&mut self.state, State::Taken) {
            State::Streaming(stream) => Some(stream),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Gives the stream back.
    pub(super) fn set_streaming(&mut self, stream: ReplicationStream) {
        self.state = State::Streaming(stream);
    }

    /// A relation and where it belongs, as the transaction `xid` left it; `None` where it has gone.
    ///
    /// The stream tells a commit before Postgres lets others see it, so that a partition made by that very
    /// transaction may not be there yet: waits until it is.
    ///
    /// # Errors
    /// Where the catalog cannot be asked.
    pub(super) async fn describe(
        &mut self,
        oid: u32,
        xid: Option<u32>,
    ) -> Result<Option<Description>, PostgresError> {
        let session = self.session().await?;
        if let Some(xid) = xid {
            wait_visible(&session, xid).await?;
        }
        let described = catalog::describe_oid(&session, oid).await?;
        self.session = Some(session);
        Ok(described)
    }

    /// Which rows of a question satisfy its clause, in their order.
    ///
    /// # Errors
    /// Where Postgres cannot be asked, or fails on a row.
    pub(super) async fn judge(&mut self, question: &RowsQuestion) -> Result<Vec<bool>, PostgresError> {
        let session = self.session().await?;
        let parameters: Vec<(&(dyn ToSql + Sync), Type)> =
            question.columns.iter().map(|values| (values as &(dyn ToSql + Sync), Type::TEXT_ARRAY)).collect();
        let rows = session.query_typed(&question.sql, &parameters).await?;
        let answers: Vec<bool> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        self.session = Some(session);
        if answers.len() != question.rows() {
            let text = format!("{} of {} rows were judged", answers.len(), question.rows());
            return Err(PostgresError::Protocol(text));
        }
        Ok(answers)
    }

    /// The session for questions, which the caller gives back while it is good.
    async fn session(&mut self) -> Result<Session, PostgresError> {
        if let Some(readying) = self.readying.take() {
            self.session = readying.await;
        }
        match self.session.take().filter(|session| !session.is_closed()) {
            Some(session) => Ok(session),
            None => {
                let session = Session::connect(&self.source.config).await?;
                limit_questions(&session).await?;
                Ok(session)
            }
        }
    }

    /// Makes the session by which the stream was started ready for questions: the stream stands still while Postgres
    /// answers one, and a first one has it read much of the catalog.
    fn ready(&mut self, session: Session) {
        let ready = async move {
            limit_questions(&session).await.ok()?;
            snapshot::current_bounds(&session).await.ok()?;
            catalog::describe_oid(&session, NO_OID).await.ok()?;
            Some(session)
        };
        let (task, readying) = ready.remote_handle();
        tokio::spawn(task);
        self.readying = Some(readying);
    }

    /// The server was asked for a sign of life.
    pub(super) fn handle_asked(&mut self) {
        self.pulse.handle_asked(Instant::now());
    }

    /// Starts a new connection.
    pub(super) fn reconnect(&mut self) {
        self.start_attempt(false);
    }

    /// Starts a new connection with a new slot.
    pub(super) fn start_over(&mut self) {
        self.start_attempt(true);
    }

    fn start_attempt(&mut self, afresh: bool) {
        let (source, news) = (self.source.clone(), self.news.0.clone());
        self.state = State::Connecting(Attempt { source, news, afresh }.start(self.pause));
        self.pulse = Pulse::default();
        self.pause = (self.pause * 2).min(PAUSE_LAST);
    }

    fn handle_attempt(&mut self, result: Result<(Connected, Session), ConnectError>) -> LinkEvent {
        match result {
            Ok((connected, session)) => {
                self.ready(session);
                self.pulse = Pulse::default();
                tracing::info!(slot = self.source.slot, "following Postgres");
                self.pause = PAUSE_FIRST;
                self.was_connected = true;
                LinkEvent::Connected(Box::new(connected))
            }
            Err(error) if !self.was_connected && error.needs_a_person() => {
                LinkEvent::Fatal(error.to_string())
            }
            Err(error) => {
                tracing::warn!(%error, "cannot follow Postgres yet; trying again");
                let unsound = error.needs_a_person().then(|| error.subject());
                self.reconnect();
                LinkEvent::Failed(unsound)
            }
        }
    }
}

impl ConnectError {
    /// What it is about, as a code for `/v1/health`.
    const fn subject(&self) -> FaultCode {
        match self {
            Self::Preflight(_) | Self::Postgres(_) => FaultCode::Postgres,
            Self::Publication(_) => FaultCode::Publication,
            Self::Slot(_) | Self::Replication(_) => FaultCode::Slot,
            Self::Folder(_) => FaultCode::Storage,
        }
    }

    /// True where the same attempt will fail again until somebody changes something.
    fn needs_a_person(&self) -> bool {
        match self {
            Self::Preflight(error) => !error.is_transient(),
            Self::Publication(PublicationError::Postgres(error)) | Self::Postgres(error) => {
                !error.is_transient()
            }
            Self::Publication(_) => true,
            Self::Slot(SlotError::Postgres(error)) => !error.is_transient(),
            Self::Slot(_) => true,
            Self::Replication(error) => matches!(error, ReplicationError::Configuration(_)),
            Self::Folder(_) => true,
        }
    }
}

/// Lets no question last long.
async fn limit_questions(session: &Session) -> Result<(), PostgresError> {
    session.batch_execute(&format!("SET statement_timeout = {QUESTION_MS_MAX}")).await?;
    Ok(())
}

async fn wait_visible(session: &Session, xid: u32) -> Result<(), PostgresError> {
    let wait = async {
        while !snapshot::current_bounds(session).await?.contains(xid) {
            tokio::time::sleep(VISIBLE_POLL).await;
        }
        Ok(())
    };
    // A standby that is away may keep a commit from being seen for long: the catalog as it is must do then.
    tokio::time::timeout(VISIBLE_WAIT, wait).await.unwrap_or(Ok(()))
}

/// Waits for bytes; `None` where none come before the deadline. Cancel-safe.
async fn fill(
    stream: &mut ReplicationStream,
    deadline: Option<Instant>,
) -> Option<Result<(), ReplicationError>> {
    match deadline {
        Some(deadline) => timeout_at(deadline, stream.fill()).await.ok(),
        None => Some(stream.fill().await),
    }
}

/// One attempt to connect.
struct Attempt {
    source: Source,
    news: mpsc::Sender<LinkEvent>,
    /// The slot has missed what nobody can tell: it has to go.
    afresh: bool,
}

impl Attempt {
    /// Connects after a pause, takes the lock, and starts the stream; in a task of its own, since who waits for it may
    /// have other things to do. It ends where nobody waits any more.
    fn start(self, pause: Duration) -> RemoteHandle<Result<(Connected, Session), ConnectError>> {
        let connect = async move {
            tokio::time::sleep(pause).await;
            spans::connect(&self.source.slot, self.connect_now()).await
        };
        let (task, handle) = connect.remote_handle();
        tokio::spawn(task);
        handle
    }

    async fn connect_now(&self) -> Result<(Connected, Session), ConnectError> {
        let source = &self.source;
        let checked = preflight::check(&source.config, source.publication.name(), source.manual).await?;
        let Checked { server, session, replication: mut connection } = checked;
        let mut session = Some(session);
        let on_wait = || {
            // The wait may be long, and others may need it.
            session = None;
            self.tell(LinkEvent::Waiting);
        };
        slot::lock(&mut connection, &source.slot, on_wait).await?;
        let session = match session {
            Some(session) => session,
            None => Session::connect(&source.config).await?,
        };
        // Nobody else serves what follows the slot: all that was served before is before this position.
        let system = connection.identify_system().await?;
        let publication = source.publication.ensure(&session, server.version_num).await?;
        let is_another =
            publication.created || self.afresh || is_another_publication(source, &session).await?;
        if is_another {
            // The slot would go on from before the publication existed, and miss what was published since.
            slot::drop_if_exists(&mut connection, &source.slot).await?;
        }
        let code = if is_another { FaultCode::Publication } else { FaultCode::SlotLost };
        let slot = self.ensure_slot(&mut connection, code).await?;
        let continues = claim_slot(source, &session).await?;
        let breach = match (slot.created, continues) {
            (true, _) => Some(DropCause::SlotLost),
            (false, false) => Some(DropCause::OtherStorage),
            (false, true) => None,
        };
        // From 18 on the stream does not end where its publication goes: only who looks finds another one.
        let publication = source.publication.oid(&session).await?;
        let stream = connection.start(&source.slot, source.publication.name(), Lsn::ZERO).await?;
        let connected = Connected {
            stream,
            origin: store::SourceIdentity {
                system_id: system.system_id,
                timeline: system.timeline,
                slot: source.slot.clone(),
            },
            publication,
            breach,
            confirmed: slot.confirmed_flush,
            wal_position: system.wal_position,
        };
        Ok((connected, session))
    }

    /// Finds the slot, or creates it; says `code` where that takes its time.
    async fn ensure_slot(
        &self,
        connection: &mut ReplicationConnection,
        code: FaultCode,
    ) -> Result<slot::Slot, ConnectError> {
        let name = &self.source.slot;
        match slot::find(connection, name).await {
            Ok(Some(confirmed_flush)) => return Ok(slot::Slot { created: false, confirmed_flush }),
            Ok(None) => {}
            Err(SlotError::Invalidated { reason, .. }) => {
                tracing::warn!(slot = name, reason, "the slot is invalidated; every shape starts afresh");
                slot::drop_if_exists(connection, name).await?;
            }
            Err(error) => return Err(error.into()),
        }
        self.tell_unsound(code)?;
        Ok(create_slot(connection, &self.source).await?)
    }

    /// Says that shapes that are served cannot be continued; a new folder has none.
    fn tell_unsound(&self, code: FaultCode) -> Result<(), ConnectError> {
        if self.source.folder.origin()?.is_some() {
            self.tell(LinkEvent::Unsound(code));
        }
        Ok(())
    }

    fn tell(&self, event: LinkEvent) {
        // Nobody listens where the engine ends; where it does, there is room for the few that one attempt tells.
        let _ = self.news.try_send(event);
    }
}

/// True where the publication has lost the note that we left at it: it was dropped and created again, and
/// changes between the two are in no stream.
async fn is_another_publication(source: &Source, session: &Session) -> Result<bool, ConnectError> {
    let was_noted = source.folder.claim()?.is_used();
    Ok(was_noted
        && source.publication.noted(session).await?.is_none()
        && source.publication.is_ours(session).await?)
}

/// Notes in the database that the slot is followed from our folder; false where somebody else has
/// followed it since we did, and what that one confirmed will not come again.
///
/// A publication of another owner, such as a superuser's FOR ALL TABLES, is followed without a note: its comment is
/// not ours to write, and what it says is not ours.
async fn claim_slot(source: &Source, session: &Session) -> Result<bool, ConnectError> {
    if !source.publication.is_ours(session).await? {
        tracing::warn!(
            publication = source.publication.name(),
            "the publication belongs to another role, so that it cannot be noted there which storage folder follows it: \
             never start an older copy of the folder on this slot"
        );
        return Ok(true);
    }
    let before = source.folder.claim()?;
    let found = source.publication.noted(session).await?;
    let continues = found.is_none_or(|found| before.continues(&found));
    let claim = source.folder.advance_claim()?;
    source.publication.note(session, &claim.text()).await?;
    Ok(continues)
}

/// Creating a slot waits for every transaction that is writing, however long: says for whom meanwhile.
async fn create_slot(
    connection: &mut ReplicationConnection,
    source: &Source,
) -> Result<slot::Slot, SlotError> {
    let pid = connection.pid().await?;
    let ensure = slot::ensure(connection, &source.slot, source.temporary_slot);
    tokio::pin!(ensure);
    let mut told = None;
    loop {
        if let Ok(slot) = tokio::time::timeout(SLOT_PATIENCE, &mut ensure).await {
            return slot;
        }
        let awaited = tokio::select! {
            slot = &mut ensure => return slot,
            awaited = awaited_by(source, pid) => awaited,
        };
        if told.as_ref() != Some(&awaited) {
            let slot = &source.slot;
            tracing::warn!(slot, "still creating the replication slot: Postgres waits for {awaited}");
            told = Some(awaited);
        }
    }
}

/// Whom a process of Postgres waits for, with what ends it.
async fn awaited_by(source: &Source, pid: i32) -> String {
    let asked = async {
        let session = Session::connect(&source.config).await?;
        slot_wait::awaited_by(&session, pid).await
    };
    let writers = asked.await.unwrap_or_default();
    let texts: Vec<String> =
        writers.iter().map(|writer| format!("{writer} (`{}` ends it)", writer.remedy())).collect();
    match texts.is_empty() {
        true => "open transactions: see `limn check`".to_owned(),
        false => texts.join(", "),
    }
}

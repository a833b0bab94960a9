//! The origin as one process: core's machines, and around them the steps that `limn-origin` takes with files,
//! connection and requests. Nothing here waits: each step is a call, and the world decides which comes next.

mod commit_log;
mod creation;
mod engine;
mod move_session;
mod standby;

use crate::client::Verdict;
use crate::fault::{Fault, Faults};
use crate::files::Files;
use crate::judge::Event;
use crate::judge::limits::check_tails;
use crate::postgres::{Frame, Postgres};
use crate::random::Random;
use crate::settings::Settings;
use crate::shapes::KINDS;
use commit_log::CommitLog;
use creation::Creations;
use engine::Engine;
use limn_core::journal::record::CreatedShape;
use limn_core::journal::recovery::RecoveredShape;
use limn_core::log::reading::{Answer, Look, Mode, Next, Part, Refuse, Standing};
use limn_core::log::{Clock, Read, Reading, ShapeLog};
use limn_core::pg::{SnapshotBounds, SnapshotFilter};
use limn_core::shape::{Definition, DropCause};
use limn_core::store::{Limits, SharedShape, Writer};
use limn_core::{Handle, HandleClock, Lsn, Offset, ShapeId};
use limn_disk::{CommitWriter, Layout, Packs, Recovered, RecoveryError, segment};
pub use standby::Standby;
use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// A time at which every wait of a request is over.
const PATIENCE: Duration = Duration::from_secs(60);

/// A shape as the process holds it.
#[derive(Debug)]
struct Shape {
    created: CreatedShape,
    handle: Handle,
    dir: PathBuf,
    kind: usize,
    log: RefCell<ShapeLog>,
    is_readable: Cell<bool>,
    /// True once its snapshot is durable, and the engine knows that.
    is_durable: Cell<bool>,
    /// A planted bug: everything is shown at once.
    publishes: bool,
}

impl SharedShape for Shape {
    fn with_log<T>(&self, change: impl FnOnce(&mut ShapeLog) -> T) -> T {
        let outcome = change(&mut self.log.borrow_mut());
        if self.publishes {
            self.log.borrow_mut().commit();
        }
        outcome
    }

    fn created(&self) -> CreatedShape {
        self.created.clone()
    }
}

impl Shape {
    fn definition(&self) -> &'static Definition {
        &KINDS[self.kind].definition
    }

    /// A shape as a commit log tells of it.
    fn new(created: CreatedShape, handle: Handle, log: ShapeLog, publishes: bool) -> Self {
        let dir = layout().shape_dir(handle);
        let known = KINDS.iter().position(|kind| kind.request == created.request);
        let kind = known.expect("only known kinds are asked for");
        let (is_readable, is_durable) = (Cell::new(false), Cell::new(false));
        Self { created, handle, dir, kind, log: RefCell::new(log), is_readable, is_durable, publishes }
    }

    fn restore(shape: RecoveredShape, publishes: bool) -> Self {
        let shape = Self::new(shape.created, shape.handle, shape.log, publishes);
        shape.is_readable.set(true);
        shape.is_durable.set(true);
        shape
    }
}

/// The answer to a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A whole chunk of the snapshot.
    Snapshot {
        /// Its bytes, each message behind a comma.
        bytes: Vec<u8>,
        /// Where the reader is after it.
        offset: Offset,
    },
    /// Items of the log, perhaps none.
    Changes {
        /// Their bytes, each item behind a comma.
        bytes: Vec<u8>,
        /// Where the reader is after them.
        offset: Offset,
        /// True where they can never change.
        closed: bool,
        /// What `global_last_seen_lsn` says, where the reply says that nothing follows.
        up_to_date: Option<u64>,
    },
    /// The shape is no more.
    MustRefetch,
    /// Not now: the client shall ask again.
    Unavailable,
    /// Nothing was ever there, says the server that has caught up.
    OutOfBounds,
    /// The shape's files do not hold what the process believes.
    Unreadable,
}

/// The process.
#[derive(Debug)]
pub struct Origin {
    engine: Engine,
    creations: Creations,
    next_id: u32,
    handles: HandleClock,
    faults: Faults,
}

impl Origin {
    /// Starts the process on what the disk holds.
    ///
    /// # Errors
    /// Where the disk fails: the process ends.
    pub fn start(files: &Files, settings: &Settings, faults: Faults) -> io::Result<Self> {
        files.set_starting(true);
        let (chunk_bytes_max, limits) = (settings.chunk_bytes_max, settings.limits);
        let recovered = limn_disk::recover(files, &layout(), chunk_bytes_max, limits.tail_bytes_max);
        files.set_starting(false);
        let recovered = recovered.map_err(reason)?;
        let handles = match faults.has(Fault::ForgetsHandles) {
            true => HandleClock::default(),
            false => HandleClock::after(recovered.store.last_handle_us),
        };
        let forgets = faults.has(Fault::ForgetsPassedOverHandles);
        let last_handle_us = if forgets { recovered.store.last_handle_us } else { handles.last_us() };
        let commit_writer = CommitWriter::start(files.clone(), layout(), &recovered, last_handle_us)?;
        let packs = Packs::new(files.clone(), layout(), &recovered, settings.pack_bytes_max);
        let Recovered { store, next_file } = recovered;
        let processed = Lsn::new(store.processed);
        let mut writer = Writer::new(settings.limits, next_file, store.tables, processed);
        for shape in store.shapes {
            let mut filter = shape.filter.clone();
            if faults.has(Fault::ForgetsSnapshotFilter) {
                let bounds = SnapshotBounds { xmin: 0, xmax: 0, xip: Vec::new() };
                filter = SnapshotFilter { bounds, ends_at: 0 };
            }
            let (id, state, is_joined) = (shape.created.id, shape.dependent.clone(), shape.is_joined);
            let salt = shape.handle.to_string();
            let shape = Rc::new(Shape::restore(shape, faults.has(Fault::PublishesFragments)));
            let definition = shape.definition();
            writer.restore(id, (shape, definition), &salt, (filter, is_joined), state);
        }
        let commit_log = CommitLog::new(commit_writer);
        let disk = (commit_log, packs);
        let engine = Engine::new(files.clone(), faults, writer, disk, processed);
        let creations = Creations::new(settings.snapshots, chunk_bytes_max);
        Ok(Self { engine, creations, next_id: store.next_id, handles, faults })
    }

    /// The newest shape of a kind, which is made where there is none; `None` while that is not possible.
    /// `clock_us` is what the system's clock says.
    pub fn find_or_create(&mut self, kind: usize, clock_us: u64) -> Option<Handle> {
        let shapes = self.shapes().filter(|shape| shape.kind == kind);
        let making = self.creations.iter().filter(|creation| creation.kind == kind);
        let known = shapes.map(|shape| shape.handle).chain(making.map(|creation| creation.handle)).max();
        if known.is_some() || !self.engine.is_active {
            return known;
        }
        let id = ShapeId(self.next_id);
        self.next_id += 1;
        let handle = Handle::new(5_000 + kind as u64, self.handles.next_us(clock_us));
        self.creations.begin(id, kind, handle);
        Some(handle)
    }

    /// The reply to a client's request.
    #[must_use]
    pub fn read(&self, handle: Handle, after: Offset) -> Reply {
        if self.creations.iter().any(|creation| creation.handle == handle && !creation.is_registered) {
            return Reply::Unavailable;
        }
        match self.shapes().find(|shape| shape.handle == handle) {
            None => Reply::MustRefetch,
            Some(shape) if !shape.is_readable.get() => Reply::Unavailable,
            Some(shape) => {
                let standing = if self.engine.is_active { Standing::Active } else { Standing::Away };
                read_shape(&self.engine.files, shape, after, (standing, self.engine.processed))
                    .unwrap_or(Reply::Unreadable)
            }
        }
    }

    /// Deletes a shape as a client may ask; `None` where it is not there.
    ///
    /// # Errors
    /// Where the disk fails: the process ends.
    pub fn delete(&mut self, handle: Handle) -> io::Result<Option<()>> {
        let Some(id) = self.shapes().find(|shape| shape.handle == handle).map(|shape| shape.created.id)
        else {
            return Ok(None);
        };
        self.engine.writer.remove(id, DropCause::Deleted);
        self.engine.execute()?;
        Ok(Some(()))
    }

    /// Connects to Postgres where there is no connection.
    pub fn connect(&mut self, postgres: &Postgres) {
        if self.engine.link.is_none() {
            self.engine.handle_connected(postgres);
        }
    }

    /// The connection breaks.
    pub fn disconnect(&mut self) {
        self.engine.handle_disconnect();
    }

    /// Postgres crashes: every connection breaks.
    pub fn handle_postgres_crash(&mut self) {
        self.disconnect();
        self.engine.move_session.handle_postgres_crash();
    }

    /// The session in which moves are made takes its next step.
    ///
    /// # Errors
    /// Where the disk fails: the process ends.
    pub fn step_move(&mut self, postgres: &mut Postgres, random: &mut Random) -> io::Result<()> {
        self.engine.step_move(postgres, random);
        self.engine.end_turn(postgres)
    }

    /// Reads a frame of the stream, where there is one. The turn goes on.
    ///
    /// # Errors
    /// Where the disk fails: the process ends.
    pub fn read_frame(&mut self, postgres: &Postgres) -> io::Result<bool> {
        let frame = self.engine.link.as_mut().and_then(|link| link.next(postgres));
        frame.as_ref().map_or(Ok(()), |frame| self.engine.handle_frame(frame))?;
        Ok(frame.is_some())
    }

    /// No more frames are at hand.
    ///
    /// # Errors
    /// Where the disk fails: the process ends.
    pub fn end_turn(&mut self, postgres: &mut Postgres) -> io::Result<()> {
        self.engine.end_turn(postgres)
    }

    /// A keepalive comes.
    ///
    /// # Errors
    /// Where the disk fails: the process ends.
    pub fn read_keepalive(&mut self, postgres: &mut Postgres) -> io::Result<()> {
        let Some(link) = &self.engine.link else { return Ok(()) };
        let frame = match self.faults.has(Fault::BelievesKeepalives) {
            true => Frame::Keepalive(postgres.wal_end()),
            false => link.keepalive(postgres),
        };
        self.engine.handle_frame(&frame)?;
        self.engine.end_turn(postgres)
    }

    /// What has happened since this was last asked.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.engine.events)
    }

    /// The commit log's writer takes a group.
    ///
    /// # Errors
    /// Where the disk fails: the process ends.
    pub fn write_group(&mut self, pieces_max: usize) -> io::Result<()> {
        self.engine.commit_log.write_group(pieces_max)
    }

    /// The thread that writes tails takes some.
    ///
    /// # Errors
    /// Where the disk fails: the process ends.
    pub fn write_tails(&mut self, count: usize) -> io::Result<()> {
        self.engine.write_tails(count)?;
        self.engine.execute()
    }

    /// The engine hears what is durable.
    ///
    /// # Errors
    /// Where the disk fails: the process ends.
    pub fn handle_durable(&mut self, postgres: &mut Postgres) -> io::Result<()> {
        self.engine.handle_durable();
        self.engine.end_turn(postgres)
    }

    /// The engine's clock ticks.
    ///
    /// # Errors
    /// Where the disk fails: the process ends.
    pub fn handle_tick(&mut self, postgres: &mut Postgres) -> io::Result<()> {
        self.engine.handle_tick(self.handles.last_us())?;
        self.engine.end_turn(postgres)
    }

    /// The segments of a checkpoint are synced.
    ///
    /// # Errors
    /// Where the disk fails: the process ends.
    pub fn sync_segments(&mut self) -> io::Result<()> {
        self.engine.sync_segments()
    }

    /// Goes on with the making of one of the shapes that are being made.
    ///
    /// # Errors
    /// Where the power is off: the process ends. Any other failure ends only the making.
    pub fn create(&mut self, postgres: &mut Postgres, random: &mut Random) -> io::Result<()> {
        self.creations.step(&mut self.engine, postgres, random)?;
        self.engine.end_turn(postgres)
    }

    /// The handles that a crash now may take away: shapes whose snapshot is not durable.
    #[must_use]
    pub fn unfinished(&mut self) -> Vec<Handle> {
        self.engine.handle_end();
        let shapes = self.shapes().filter(|shape| !shape.is_durable.get()).map(|shape| shape.handle);
        shapes.chain(self.creations.iter().map(|creation| creation.handle)).collect()
    }

    fn shapes(&self) -> impl Iterator<Item = &Rc<Shape>> {
        let logs = self.engine.writer.logs();
        logs.ids().into_iter().filter_map(|id| logs.shape(id))
    }

    /// Checks what the process holds in memory.
    ///
    /// # Errors
    /// Where that is more than its limits say.
    pub fn check_tails(&self, limits: &Limits) -> Verdict {
        if self.engine.is_writing() {
            return Ok(());
        }
        let shapes: Vec<_> = self.shapes().map(|shape| (shape.handle, shape.log.borrow())).collect();
        let logs: Vec<_> = shapes.iter().map(|(handle, log)| (*handle, &**log)).collect();
        check_tails(&logs, limits)
    }

    /// The commit LSN of the last transaction that every shape shows.
    #[must_use]
    pub const fn processed(&self) -> u64 {
        self.engine.processed.as_u64()
    }

    /// True while connected and caught up.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.engine.is_active
    }

    /// True where nothing is under way any more.
    #[must_use]
    pub fn is_idle(&self, postgres: &Postgres) -> bool {
        let sent = self.engine.link.as_ref().is_some_and(|link| link.is_idle(postgres));
        let carried_out = !self.engine.is_writing()
            && self.engine.commit_log.is_idle()
            && self.engine.move_session.is_idle();
        sent && self.creations.is_idle() && carried_out
    }
}

/// The paths on the disk.
pub fn layout() -> Layout {
    Layout::new(PathBuf::new())
}

/// The error with which the process ends.
fn reason(error: RecoveryError) -> io::Error {
    match error {
        RecoveryError::Io { source, .. } => source,
        RecoveryError::Record { .. } => io::Error::other(error),
    }
}

/// Reads a shape's log as a request does, on a server that stands so and has published up to `processed`.
fn read_shape(
    files: &Files,
    shape: &Shape,
    after: Offset,
    (standing, processed): (Standing, Lsn),
) -> io::Result<Reply> {
    let clock = Clock { processed, is_current: standing.is_current() };
    let log = shape.log.borrow();
    let mut read = log.read(after, clock);
    if read == Read::Search {
        let entries = log.searched_items();
        let position = segment::find(files, &shape.dir, entries, after)?;
        read = log.read_at(after, position, clock);
    }
    let mut look = Look { now: Duration::ZERO, read: Some(read), standing, is_stopping: false };
    let mut reading = Reading::new(Mode::CatchUp, PATIENCE, false);
    let mut next = reading.next(&look, false);
    if let Next::Wait(_) = next {
        // Nothing happens while the request waits.
        look.now = PATIENCE;
        next = reading.next(&look, false);
    }
    Ok(match next {
        Next::Send(Answer::Part { part, offset, closed, up_to_date }) => {
            let up_to_date = up_to_date.map(Lsn::as_u64);
            match part {
                Part::Snapshot(range) => {
                    let (path, at) = segment::snapshot_place(&shape.dir, log.snapshot().pack);
                    let range = at + range.start..at + range.end;
                    Reply::Snapshot { bytes: files.part(&path, range)?, offset }
                }
                Part::Changes(range) => {
                    let flushed = range.start..range.end.min(log.flushed_bytes());
                    let mut bytes = match flushed.is_empty() {
                        true => Vec::new(),
                        false => files.part(&segment::log_path(&shape.dir), flushed)?,
                    };
                    bytes.extend(log.tail_part(range).to_vec());
                    Reply::Changes { bytes, offset, closed, up_to_date }
                }
                Part::Nothing => Reply::Changes { bytes: Vec::new(), offset, closed, up_to_date },
            }
        }
        Next::Refuse(Refuse::OutOfBounds) => Reply::OutOfBounds,
        Next::Send(_) | Next::Wait(_) | Next::Refuse(_) => Reply::Unavailable,
    })
}

//! The origin as one process: core's machines and `limn_disk`, on the model's ports. Each call is a step that does not
//! wait, and the world decides which comes next. `Err`: the disk fails, and the process ends.

mod creation;
mod engine;
mod request;
mod standby;

use crate::fault::Faults;
use crate::faulty::{Log, MoveSession, Writer, recover, start_commit_log};
use crate::files::Files;
use crate::judge::Event;
use crate::postgres::Walsender;
use crate::settings::Settings;
use crate::shapes::{KINDS, Kind};
use creation::{Creation, Run};
use limn_core::journal::Ticket;
use limn_core::journal::record::CreatedShape;
use limn_core::log::ShapeLog;
use limn_core::store::{
    self, NamedShape, Piece, SegmentSync, SegmentWork, ShapeIdentity, SharedShape, Snapshots, TailWrite,
};
use limn_core::{Handle, HandleClock, Lsn};
use limn_disk::{CommitWriter, Layout, Packs, Recovered};
pub use standby::Standby;
use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

/// A shape as a process holds it.
#[derive(Debug)]
pub struct Shape {
    created: CreatedShape,
    pub handle: Handle,
    kind: usize,
    pub log: Log,
    is_readable: Cell<bool>,
    pub is_durable: Cell<bool>,
}

impl Shape {
    fn new(created: CreatedShape, handle: Handle, log: Log, is_there: bool) -> Self {
        let kind = KINDS.iter().position(|kind| kind.request == created.request);
        let kind = kind.expect("only known kinds are asked for");
        let (is_readable, is_durable) = (Cell::new(is_there), Cell::new(is_there));
        Self { created, handle, kind, log, is_readable, is_durable }
    }

    fn kind(&self) -> &'static Kind {
        &KINDS[self.kind]
    }

    fn dir(&self) -> PathBuf {
        layout().shape_dir(self.handle)
    }
}

impl SharedShape for Shape {
    fn with_log<T>(&self, change: impl FnOnce(&mut ShapeLog) -> T) -> T {
        self.log.change(change)
    }

    fn created(&self) -> CreatedShape {
        self.created.clone()
    }
}

impl NamedShape for Shape {
    fn identity(&self) -> ShapeIdentity<'_> {
        ShapeIdentity { id: self.created.id, handle: self.handle, definition: &self.kind().definition }
    }
}

/// The process.
#[derive(Debug)]
pub struct Origin {
    files: Files,
    faults: Faults,
    settings: Settings,
    pub writer: Writer<Rc<Shape>>,
    /// Pieces for the commit log's thread, who that is, and the last ticket that it has reported.
    pub commit_queue: VecDeque<Piece>,
    commit_writer: CommitWriter<Files>,
    pub durable: Ticket,
    packs: Packs<Files>,
    /// Tails that another thread is about to write.
    pub writing: VecDeque<TailWrite<Rc<Shape>>>,
    pub segment_work: VecDeque<SegmentWork<Rc<Shape>>>,
    /// The file whose checkpoint waits for segments to be synced.
    syncing: Option<SegmentSync<Rc<Shape>>>,
    pub move_session: MoveSession,
    pub snapshots: Snapshots<Vec<u32>, Rc<Creation>>,
    runs: Vec<Run>,
    pub link: Option<Walsender>,
    pub processed: Lsn,
    pub is_active: bool,
    next_id: u32,
    handles: HandleClock,
    pub events: Vec<Event>,
}

impl Origin {
    /// Starts the process on what the disk holds.
    pub fn start(files: &Files, settings: &Settings, faults: Faults) -> io::Result<Self> {
        let recovered = recover(files, &layout(), settings, faults)?;
        let handles = HandleClock::after(recovered.store.last_handle_us);
        let commit_writer = start_commit_log(files, layout(), &recovered, &handles, faults)?;
        let packs = Packs::new(files.clone(), layout(), &recovered, settings.pack_bytes_max);
        let Recovered { store, next_file } = recovered;
        let processed = Lsn::new(store.processed);
        let writer = store::Writer::new(settings.limits, next_file, store.tables, processed);
        let mut writer = Writer::new(writer, faults);
        for it in store.shapes {
            let (id, salt) = (it.created.id, it.handle.to_string());
            let shape = Rc::new(Shape::new(it.created, it.handle, Log::of_first(it.log, faults), true));
            let definition = &shape.kind().definition;
            writer.restore(id, (shape.clone(), definition), &salt, (it.filter, it.is_joined), it.dependent);
        }
        Ok(Self {
            files: files.clone(),
            faults,
            settings: settings.clone(),
            writer,
            commit_queue: VecDeque::new(),
            commit_writer,
            durable: Ticket::ZERO,
            packs,
            writing: VecDeque::new(),
            segment_work: VecDeque::new(),
            syncing: None,
            move_session: MoveSession::new(faults),
            snapshots: Snapshots::new(settings.snapshots),
            runs: Vec::new(),
            link: None,
            processed,
            is_active: false,
            next_id: store.next_id,
            handles,
            events: Vec::new(),
        })
    }

    /// The shapes that the writer knows.
    pub fn shapes(&self) -> impl Iterator<Item = &Rc<Shape>> {
        let logs = self.writer.logs();
        logs.ids().into_iter().filter_map(|id| logs.shape(id))
    }
}

/// The paths on the disk.
pub fn layout() -> Layout {
    Layout::new(PathBuf::new())
}

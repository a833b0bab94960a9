//! The origin as one process: core's machines and `limn_disk`, on the model's ports. Each call is a step that does not
//! wait, and the world decides which comes next. `Err`: the disk fails, and the process ends.

mod creation;
mod engine;

use crate::fault::Faults;
use crate::faulty::{MoveSession, Shape, Writer, recover, start_commit_log};
use crate::files::{File, Files, layout};
use crate::front::Front;
use crate::judge::Event;
use crate::postgres::Walsender;
use crate::settings::Settings;
use crate::threads::Threads;
use creation::Run;
use limn_core::log::reading::Standing;
use limn_core::store::{self, Snapshots};
use limn_core::{HandleClock, Lsn};
use limn_disk::{Packs, Recovered};
use std::io;
use std::rc::Rc;

/// The process.
#[derive(Debug)]
pub struct Origin {
    files: Files,
    faults: Faults,
    settings: Settings,
    pub writer: Writer<Rc<Shape>>,
    pub threads: Threads,
    pub front: Front,
    pub move_session: MoveSession,
    pub snapshots: Snapshots<Vec<u32>, Rc<Shape>, File>,
    runs: Vec<Run>,
    pub link: Option<Walsender>,
    next_id: u32,
    pub handles: HandleClock,
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
        let mut front = Front::new(files, Standing::Away, Lsn::new(store.processed), faults);
        let writer = store::Writer::new(settings.limits, next_file, store.tables, front.processed);
        let mut writer = Writer::new(writer, faults);
        for found in store.shapes {
            let made = found.make(|kept, log| {
                let shape = Shape::of_first(kept.created(), (kept.handle, log), true, faults);
                (shape.clone(), shape.kind.definition.clone())
            });
            front.shapes.push(made.shape.clone());
            writer.restore(made);
        }
        Ok(Self {
            files: files.clone(),
            faults,
            settings: settings.clone(),
            writer,
            threads: Threads::new(files, commit_writer, packs),
            front,
            move_session: MoveSession::new(faults),
            snapshots: Snapshots::new(settings.snapshots),
            runs: Vec::new(),
            link: None,
            next_id: store.next_id,
            handles,
            events: Vec::new(),
        })
    }
}

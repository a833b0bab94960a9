//! The process as the judge sees it: what it does and holds, and what is under way.

use super::Event;
use crate::faulty::Shape;
use crate::origin::Origin;
use crate::postgres::Postgres;
use limn_core::Handle;
use limn_core::log::reading::Standing;
use limn_core::store::{Effect, NewShapes, Piece, Report};
use std::rc::Rc;

impl Event {
    /// What an effect tells the judge.
    pub fn of(effect: &Effect<Rc<Shape>>) -> Option<Self> {
        match effect {
            Effect::CommitLog(Piece::Append { bytes, .. }) => Some(Self::Queued(bytes.clone())),
            Effect::Dropped { shape, cause } => Some(Self::Dropped(shape.handle, *cause)),
            _ => None,
        }
    }

    /// What the news of new shapes tell the judge, once the writer has noted them.
    pub fn of_new(new: &NewShapes<Rc<Shape>>) -> Option<Self> {
        match new {
            NewShapes::Taken { shape, .. } => Some(Self::Snapshot(shape.handle, shape.kind.number as usize)),
            _ => None,
        }
    }
}

impl Origin {
    /// The events since this was last asked.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The handles that a crash now may take away: shapes whose snapshot is not durable.
    pub fn unfinished(&mut self) -> Vec<Handle> {
        self.writer.handle_report(Report::Synced(self.threads.durable));
        while let Some(effect) = self.writer.poll_effect() {
            if let Effect::SnapshotDurable { shape } = effect {
                shape.is_durable.set(true);
            }
        }
        let unfinished = self.front.shapes.iter().filter(|shape| !shape.is_durable.get());
        unfinished.chain(self.snapshots.iter()).map(|shape| shape.handle).collect()
    }

    /// The commit LSN of the last transaction that every shape shows.
    pub const fn processed(&self) -> u64 {
        self.front.processed.as_u64()
    }

    /// True while connected and caught up.
    pub fn is_active(&self) -> bool {
        self.front.standing == Standing::Active
    }

    /// True while tails are on their way to the disk, or held back from it.
    pub fn is_writing(&self) -> bool {
        self.threads.are_writing() || self.writer.logs().is_tail_held()
    }

    /// True where nothing is under way any more.
    pub fn is_idle(&self, postgres: &Postgres) -> bool {
        let sent = self.link.as_ref().is_some_and(|link| link.is_idle(postgres));
        let queues = self.threads.pieces.is_empty() && !self.is_writing() && self.move_session.is_idle();
        sent && queues && self.snapshots.is_idle()
    }
}

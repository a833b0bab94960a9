//! The process as the judge sees it: what it holds, and what is under way.

use super::Event;
use crate::origin::Origin;
use crate::postgres::Postgres;
use limn_core::Handle;
use limn_core::store::{Effect, Report};

impl Origin {
    /// The events since this was last asked.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The handles that a crash now may take away: shapes whose snapshot is not durable.
    pub fn unfinished(&mut self) -> Vec<Handle> {
        self.writer.handle_report(Report::Synced(self.durable));
        while let Some(effect) = self.writer.poll_effect() {
            if let Effect::SnapshotDurable { shape } = effect {
                shape.is_durable.set(true);
            }
        }
        let shapes = self.shapes().filter(|shape| !shape.is_durable.get()).map(|shape| shape.handle);
        shapes.chain(self.snapshots.iter().map(|creation| creation.handle)).collect()
    }

    /// The commit LSN of the last transaction that every shape shows.
    pub const fn processed(&self) -> u64 {
        self.processed.as_u64()
    }

    /// True while connected and caught up.
    pub const fn is_active(&self) -> bool {
        self.is_active
    }

    /// True while tails are on their way to the disk, or held back from it.
    pub fn is_writing(&self) -> bool {
        !self.writing.is_empty() || !self.segment_work.is_empty() || self.writer.logs().is_tail_held()
    }

    /// True where nothing is under way any more.
    pub fn is_idle(&self, postgres: &Postgres) -> bool {
        let sent = self.link.as_ref().is_some_and(|link| link.is_idle(postgres));
        let queues = self.commit_queue.is_empty() && !self.is_writing() && self.move_session.is_idle();
        sent && queues && self.snapshots.is_idle()
    }
}

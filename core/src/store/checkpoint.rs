//! Checkpoints: a new file of the commit log begins with everything that is true, so that the older files can go.
//!
//! A checkpoint believes the segments, and therefore takes two waits: every tail must be written before it, and every
//! segment that has grown be synced after it, before the older files are deleted.

use super::effect::{Effect, SharedShape};
use super::file_work::{Piece, SegmentSync};
use super::logs::Logs;
use crate::ShapeId;
use crate::journal::record::encode_checkpoint;
use crate::journal::{KeptCheckpoint, KeptLog, KeptShape};
use crate::protocol::kept_request::Families;
use crate::shape::dependent::DependentState;
use std::borrow::Cow;

/// How far the next checkpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checkpointing {
    /// None is under way.
    Idle,
    /// The tails are being written.
    Flushing,
    /// It is written; this file may replace the older ones once the segments are synced.
    Syncing(u64),
}

impl<S: SharedShape + Clone> Logs<S> {
    /// Begins a checkpoint where the commit log's file is long enough.
    pub fn begin_checkpoint(&mut self) {
        if self.checkpointing == Checkpointing::Idle && self.file_bytes > self.limits.commit_file_bytes_max {
            self.checkpointing = Checkpointing::Flushing;
            self.flush_tails();
        }
    }

    /// Writes the checkpoint that was begun, where every tail has been written. To be called between transactions, when
    /// no transaction is left in the logs that was cut off. `dependent` gives what is kept of a shape's subqueries,
    /// `last_handle_us` is the newest time that a handle carries.
    pub fn continue_checkpoint(
        &mut self,
        last_handle_us: u64,
        dependent: impl Fn(ShapeId) -> Option<DependentState>,
    ) {
        if self.checkpointing != Checkpointing::Flushing || self.tails.are_on_their_way() {
            return;
        }
        if self.tails.len_bytes() > 0 {
            // More has come meanwhile.
            return self.flush_tails();
        }
        self.end_turn();
        self.push_checkpoint(last_handle_us, dependent);
        let Some((ticket, checkpoint)) = self.pending.take() else { return };
        self.file_number += 1;
        self.file_bytes = 0;
        let file = self.file_number;
        self.effects.push_back(Effect::CommitLog(Piece::StartFile { number: file, ticket, checkpoint }));
        let shapes = self.take_grown();
        self.effects.push_back(Effect::SyncSegments(SegmentSync { file, shapes }));
        self.checkpointing = Checkpointing::Syncing(file);
    }

    /// The segments that [`Effect::SyncSegments`] named are durable.
    pub fn handle_segments_synced(&mut self, file: u64) {
        if self.checkpointing == Checkpointing::Syncing(file) {
            self.checkpointing = Checkpointing::Idle;
            self.effects.push_back(Effect::CommitLog(Piece::DeleteBefore { number: file }));
        }
    }

    pub(super) fn push_checkpoint(
        &mut self,
        last_handle_us: u64,
        dependent: impl Fn(ShapeId) -> Option<DependentState>,
    ) {
        let ids = self.ids();
        let Self { pending, shapes, tables, processed, .. } = self;
        tables.forget_unused();
        let mut families = Families::default();
        let shape = |id| {
            let tracked = shapes.get(&id)?;
            let log = tracked.shape.with_log(|log| KeptLog::of(log))?;
            let (created, filter) = (tracked.shape.created(), tracked.filter().cloned());
            let handle = created.handle.parse().ok()?;
            let shape = Cow::Owned(KeptShape::of(created, handle, &mut families));
            let (is_joined, dependent) = (tracked.is_joined, Cow::Owned(dependent(id).unwrap_or_default()));
            Some(KeptCheckpoint { shape, filter, log, is_joined, dependent })
        };
        let positions = (processed.as_u64(), last_handle_us);
        pending.push_with(|out| {
            encode_checkpoint(out, positions, ids.into_iter().filter_map(shape), tables);
        });
    }

    /// The shapes whose segments were written to since the last checkpoint.
    fn take_grown(&mut self) -> Vec<S> {
        let ids = self.ids().into_iter();
        let grown = ids.filter_map(|id| {
            let tracked = self.shapes.get_mut(&id)?;
            std::mem::take(&mut tracked.has_grown).then(|| tracked.shape.clone())
        });
        grown.collect()
    }
}

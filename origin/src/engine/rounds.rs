//! Shapes with subqueries: the rounds in which their moves are made, and what of their logs is whole.

use super::Engine;
use anyhow::{Context, Result};
use limn_core::journal::record::{Record, ShapeViews};
use limn_core::pg::SnapshotFilter;
use limn_core::shape::RotationCause;
use limn_core::shape::dependent::{Late, View};
use limn_core::{Offset, ShapeId};

impl Engine {
    /// A shape's snapshot is known, with what its subqueries return in it.
    pub(super) fn handle_views(
        &mut self,
        id: ShapeId,
        filter: &SnapshotFilter,
        views: Vec<View>,
    ) -> Result<()> {
        self.logs.record(&Record::Views(ShapeViews { id, views: views.clone() }));
        self.router.handle_dependent_snapshot(id, filter, views);
        self.take_late()?;
        self.logs.handle_views(id);
        Ok(())
    }

    /// The round's snapshot is open: it must hold every transaction that was read, since what a move does not
    /// bring has to be in the logs already.
    pub(super) fn handle_round_opened(&mut self, filter: SnapshotFilter) -> Result<()> {
        let end = Offset::new(self.logs.status.processed(), 0);
        let is_complete = self.logs.status.recent().seen_up_to(end, &filter.bounds) == end;
        self.router.rounds().handle_opened(filter, is_complete);
        self.advance_round()
    }

    pub(super) fn handle_round_answered(&mut self, answers: &[Vec<u8>]) -> Result<()> {
        self.router.handle_answers(answers);
        self.take_late()
    }

    pub(super) fn handle_round_failed(&mut self, refused: Option<(usize, RotationCause)>) -> Result<()> {
        self.router.rounds().handle_failed(refused);
        self.take_late()
    }

    /// Lets a round go on where the stream has come up to its snapshot.
    pub(super) fn advance_round(&mut self) -> Result<()> {
        if !self.router.in_transaction() {
            self.router.rounds().handle_position(self.received);
        }
        self.take_late()
    }

    /// Hands on what the round needs next.
    pub(super) fn request_round(&mut self) {
        while let Some(request) = self.router.rounds().poll_request() {
            self.mover.request(request);
        }
    }

    /// Appends what comes beside the stream's fragments. To be called before the fragment is appended, whose
    /// items come behind.
    pub(super) fn take_late(&mut self) -> Result<()> {
        for late in self.router.take_late() {
            match late {
                Late::Transaction(fragment) => self.logs.backfill(fragment),
                Late::Move(made) => self.logs.append_move(made),
                Late::Whole(id, up_to) => {
                    self.logs.set_whole(id, up_to);
                    Ok(())
                }
            }
            .context("cannot write to the storage folder")?;
        }
        self.remove_rotated();
        Ok(())
    }
}

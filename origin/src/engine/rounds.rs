//! Shapes with subqueries: the rounds in which their moves are made, and what of their logs is whole.

use super::Engine;
use limn_core::ShapeId;
use limn_core::journal::record::{Record, ShapeViews, stored_bound};
use limn_core::pg::SnapshotFilter;
use limn_core::shape::RotationCause;
use limn_core::shape::dependent::{Late, View};

impl Engine {
    /// A shape's snapshot is known, with what its subqueries return in it.
    pub(super) fn handle_views(&mut self, id: ShapeId, filter: &SnapshotFilter, views: Vec<View>) {
        self.logs.record(&Record::Views(ShapeViews { id, views: views.clone() }));
        self.router.handle_dependent_snapshot(id, filter, views);
        self.take_late();
        self.logs.handle_views(id);
    }

    /// The round's snapshot is open: it must hold every transaction that was read, since what a move does not
    /// bring has to be in the logs already.
    pub(super) fn handle_round_opened(&mut self, filter: SnapshotFilter) {
        let is_complete = self.logs.are_logs_in(&filter.bounds);
        self.router.rounds().handle_opened(filter, is_complete);
        self.advance_round();
    }

    pub(super) fn handle_round_answered(&mut self, answers: &[Vec<u8>]) {
        self.router.handle_answers(answers);
        self.take_late();
    }

    pub(super) fn handle_round_failed(&mut self, refused: Option<(usize, RotationCause)>) {
        self.router.rounds().handle_failed(refused);
        self.take_late();
    }

    /// Lets a round go on where the stream has come up to its snapshot.
    pub(super) fn advance_round(&mut self) {
        if !self.router.in_transaction() {
            self.router.rounds().handle_position(self.received);
        }
        self.take_late();
    }

    /// Hands on what the round needs next.
    pub(super) fn request_round(&mut self) {
        while let Some(request) = self.router.rounds().poll_request() {
            self.mover.request(request);
        }
    }

    /// Appends what comes beside the stream's fragments. To be called before the fragment is appended, whose
    /// items come behind.
    pub(super) fn take_late(&mut self) {
        for late in self.router.take_late() {
            match late {
                Late::Transaction(fragment) => self.logs.backfill(fragment),
                Late::Move(made) => {
                    self.logs.append_move(made);
                    self.executor.metrics.moves.inc();
                }
                Late::Whole(id, up_to) => self.logs.set_visible_up_to(id, stored_bound(up_to)),
            }
        }
        self.remove_rotated();
    }
}

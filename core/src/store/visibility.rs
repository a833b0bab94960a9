//! Up to where readers may see a log that has moves.

use crate::Lsn;
use crate::journal::Ticket;
use std::collections::VecDeque;

/// The commit LSN up to which readers may see a shape's log; `None` means: to its end.
///
/// A lower bound holds at once; where a change still waits for its ticket, it takes that one's place. A higher bound
/// holds once its record is durable: a move is not a function of the WAL, so a crash could take it back, and a second
/// process reads the same folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Visibility {
    /// In memory of its own: hardly any shape has one.
    bounds: Option<Box<Bounds>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Bounds {
    up_to: Option<Lsn>,
    /// The bounds that hold once a ticket is durable, oldest first.
    later: VecDeque<(Ticket, Option<Lsn>)>,
}

impl Visibility {
    /// The bound that a restart found.
    pub(super) fn new(up_to: Option<Lsn>) -> Self {
        let bound = |up_to| Box::new(Bounds { up_to: Some(up_to), later: VecDeque::new() });
        Self { bounds: up_to.map(bound) }
    }

    /// The bound that holds now.
    pub(super) fn up_to(&self) -> Option<Lsn> {
        self.bounds.as_ref()?.up_to
    }

    /// True where the log is visible to its end, and stays so.
    pub(super) const fn is_unbounded(&self) -> bool {
        self.bounds.is_none()
    }

    /// Sets the bound; `ticket` is that of the record which says so. It replaces the newest one that does not hold
    /// yet.
    pub(super) fn set(&mut self, up_to: Option<Lsn>, ticket: Ticket) {
        let bounds = self.bounds.get_or_insert_default();
        match bounds.later.back_mut() {
            Some(later) => *later = (ticket, up_to),
            None if is_lower(up_to, bounds.up_to) => bounds.up_to = up_to,
            None => bounds.later.push_back((ticket, up_to)),
        }
    }

    /// A move was appended: the bound stays until `ticket` is durable, with which the move is.
    pub(super) fn handle_move(&mut self, ticket: Ticket) {
        let bounds = self.bounds.get_or_insert_default();
        let up_to = bounds.later.back().map_or(bounds.up_to, |(_, up_to)| *up_to);
        bounds.later.push_back((ticket, up_to));
    }

    /// Everything up to `durable` is durable. True where something became visible by it.
    pub(super) fn handle_synced(&mut self, durable: Ticket) -> bool {
        let Some(bounds) = &mut self.bounds else { return false };
        let mut is_raised = false;
        while let Some((_, up_to)) = bounds.later.pop_front_if(|(ticket, _)| *ticket <= durable) {
            bounds.up_to = up_to;
            is_raised = true;
        }
        if bounds.up_to.is_none() && bounds.later.is_empty() {
            self.bounds = None;
        }
        is_raised
    }
}

fn is_lower(bound: Option<Lsn>, other: Option<Lsn>) -> bool {
    match (bound, other) {
        (Some(bound), Some(other)) => bound < other,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const fn lsn(position: u64) -> Option<Lsn> {
        Some(Lsn::new(position))
    }

    const fn ticket(number: u64) -> Ticket {
        Ticket::new(number)
    }

    #[test]
    fn a_bound_is_lowered_at_once_and_raised_once_that_is_durable() {
        let mut visibility = Visibility::default();
        assert!(visibility.is_unbounded());
        visibility.set(lsn(90), ticket(3));
        assert_eq!((visibility.up_to(), visibility.is_unbounded()), (lsn(90), false));
        visibility.set(lsn(95), ticket(4));
        visibility.set(lsn(80), ticket(5));
        assert_eq!(visibility.up_to(), lsn(90), "a lower bound that waits behind a higher one replaces it");
        assert!(!visibility.handle_synced(ticket(4)));
        assert!(visibility.handle_synced(ticket(5)));
        assert_eq!(visibility.up_to(), lsn(80));
        visibility.set(lsn(70), ticket(6));
        assert_eq!(visibility.up_to(), lsn(70));
    }

    #[test]
    fn the_end_is_visible_again_once_that_is_durable() {
        let mut visibility = Visibility::new(lsn(90));
        visibility.set(None, ticket(2));
        assert_eq!((visibility.up_to(), visibility.is_unbounded()), (lsn(90), false));
        assert!(visibility.handle_synced(ticket(2)));
        assert!(visibility.is_unbounded());
        assert!(!visibility.handle_synced(ticket(3)));
    }

    #[test]
    fn a_move_waits_with_the_bound_that_held_before_it() {
        let mut visibility = Visibility::new(lsn(90));
        visibility.handle_move(ticket(2));
        assert!(visibility.handle_synced(ticket(2)), "the move is durable: its items can be shown");
        assert_eq!(visibility.up_to(), lsn(90));
        visibility.set(lsn(95), ticket(3));
        visibility.handle_move(ticket(4));
        visibility.set(None, ticket(4));
        assert!(visibility.handle_synced(ticket(3)));
        assert_eq!(visibility.up_to(), lsn(95));
        assert!(visibility.handle_synced(ticket(4)));
        assert!(visibility.is_unbounded());
    }
}

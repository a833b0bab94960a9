//! Why a row of a shape with subqueries is in it (protocol §4.8), and the moves that change it.
//!
//! A filter is an OR of ANDs. Its conditions are numbered through: the *positions*. A row has a *tag* for each AND, with
//! a slot for each position; slots of conditions that are not part of that AND are empty. A condition on a
//! subquery has the hash of the row's value there, so that a move can name all rows of a value.

use std::collections::{BTreeMap, HashSet};

/// The tags of a row, and which positions hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    tags: Vec<Box<str>>,
    active: Vec<bool>,
}

/// The tags and conditions that a change gives its row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags {
    /// The tags that the row has.
    pub tags: Vec<Box<str>>,
    /// Those that it had before and has no longer.
    pub removed: Vec<Box<str>>,
    /// The truth of each position; nothing where it stays.
    pub active: Option<Vec<bool>>,
}

/// Rows leave or come because another table has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberMove {
    /// Whether the conditions hold from now on, or no longer.
    pub holds: bool,
    /// By position: the values whose rows are concerned.
    pub patterns: BTreeMap<usize, HashSet<Box<str>>>,
}

impl Membership {
    /// That of a row that comes with these tags; nothing for a shape without tags.
    pub(super) fn of(tags: Tags) -> Option<Box<Self>> {
        let active = tags.active.unwrap_or_default();
        (!tags.tags.is_empty()).then(|| Box::new(Self { tags: tags.tags, active }))
    }

    /// The membership after an update.
    pub(super) fn updated(before: Option<Box<Self>>, change: Tags) -> Option<Box<Self>> {
        let Some(mut membership) = before else { return Self::of(change) };
        membership.tags.retain(|tag| !change.removed.contains(tag) && !change.tags.contains(tag));
        membership.tags.extend(change.tags);
        membership.active = change.active.unwrap_or(membership.active);
        Some(membership)
    }

    /// True where a move concerns the row.
    pub(super) fn is_concerned(&self, moved: &MemberMove) -> bool {
        self.concerned(moved).next().is_some()
    }

    /// Carries out a move.
    pub(super) fn handle_move(&mut self, moved: &MemberMove) {
        let positions: Vec<usize> = self.concerned(moved).collect();
        for position in positions {
            if let Some(active) = self.active.get_mut(position) {
                *active = moved.holds;
            }
        }
    }

    /// True where all conditions of some tag hold.
    pub(super) fn is_shown(&self) -> bool {
        let holds = |position: usize| self.active.get(position).copied().unwrap_or(false);
        self.tags.iter().any(|tag| slots(tag).all(|(position, _)| holds(position)))
    }

    fn concerned<'a>(&'a self, moved: &'a MemberMove) -> impl Iterator<Item = usize> + 'a {
        let named = |(position, value): (usize, &str)| {
            moved.patterns.get(&position)?.contains(value).then_some(position)
        };
        self.tags.iter().flat_map(|tag| slots(tag)).filter_map(named)
    }
}

/// The conditions of a tag: their positions, and what the row has there.
fn slots(tag: &str) -> impl Iterator<Item = (usize, &str)> {
    tag.split('/').enumerate().filter(|(_, slot)| !slot.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn tags(tags: &[&str], removed: &[&str], active: Option<&[bool]>) -> Tags {
        let owned = |tags: &[&str]| tags.iter().map(|tag| (*tag).into()).collect();
        Tags { tags: owned(tags), removed: owned(removed), active: active.map(<[bool]>::to_vec) }
    }

    fn membership(all: &[&str], active: &[bool]) -> Box<Membership> {
        Membership::of(tags(all, &[], Some(active))).unwrap()
    }

    fn moved(holds: bool, patterns: &[(usize, &str)]) -> MemberMove {
        let mut moved = MemberMove { holds, patterns: BTreeMap::new() };
        for (position, value) in patterns {
            moved.patterns.entry(*position).or_default().insert((*value).into());
        }
        moved
    }

    #[test]
    fn one_tag_whose_conditions_all_hold_is_enough() {
        assert!(membership(&["x/1//", "//y/1"], &[true, true, false, true]).is_shown());
        assert!(!membership(&["x/1//", "//y/1"], &[true, false, false, true]).is_shown());
        assert!(!membership(&["x/y"], &[true]).is_shown(), "what is not told does not hold");
        assert_eq!(Membership::of(Tags::default()), None);
    }

    #[test]
    fn a_move_switches_the_positions_that_have_the_value() {
        let mut row = membership(&["x/", "/y"], &[true, true]);
        assert!(!row.is_concerned(&moved(false, &[(0, "y"), (1, "x"), (7, "x")])));
        row.handle_move(&moved(false, &[(0, "x"), (0, "z")]));
        assert_eq!((row.active.as_slice(), row.is_shown()), ([false, true].as_slice(), true));
        row.handle_move(&moved(false, &[(1, "y")]));
        assert!(!row.is_shown());
        row.handle_move(&moved(true, &[(0, "x")]));
        assert!(row.is_shown());
    }

    #[test]
    fn an_update_replaces_tags_and_truths() {
        let before = || Some(membership(&["x"], &[true]));
        let after = Membership::updated(before(), tags(&["y"], &["x"], Some(&[false])));
        assert_eq!(after, Some(membership(&["y"], &[false])));
        assert_eq!(Membership::updated(before(), Tags::default()), before());
        assert_eq!(
            Membership::updated(None, tags(&["y"], &[], Some(&[true]))),
            Some(membership(&["y"], &[true]))
        );
    }
}

//! The shapes of a table by what their clauses demand of a row: a change finds those that it may concern, however many
//! there are. What a clause demands is [`Access`], and each kind of demand is a family with a structure of its own.
//!
//! A shape stands in all the places of its clause. Of a row, each expression that some place asks for is read once, as a
//! *lane*; where it cannot be read, every shape that asks for it is a candidate, and its clause decides.

mod candidates;
mod intervals;
mod lanes;
mod pieces;
#[cfg(test)]
mod tests;
mod values;

pub(super) use candidates::{Candidate, Candidates, Find, Side};
pub(super) use values::Values;

use super::row::Row;
use crate::ShapeId;
use crate::filter::{Access, Place, Sight};
use intervals::Intervals;
use lanes::{LaneIndex, Lanes, Seen};
use pieces::Pieces;
use std::collections::{BTreeMap, BTreeSet};

/// Shapes by what they demand.
#[derive(Debug, Default)]
pub(super) struct Index {
    lanes: Lanes,
    /// By the lanes whose keys make the key.
    equal: BTreeMap<Box<[LaneIndex]>, Values>,
    elements: BTreeMap<LaneIndex, Values>,
    intervals: BTreeMap<LaneIndex, Intervals>,
    pieces: BTreeMap<LaneIndex, Pieces>,
    presence: BTreeMap<LaneIndex, Presence>,
    /// Room for a key.
    key: Vec<u8>,
}

/// Shapes that ask whether there is a value.
#[derive(Debug, Default)]
struct Presence {
    null: BTreeSet<ShapeId>,
    filled: BTreeSet<ShapeId>,
}

impl Index {
    /// Adds a shape at its places.
    pub(super) fn insert(&mut self, id: ShapeId, access: &Access<'_>) {
        for place in &access.places {
            match place {
                Place::Equal(probes, key) => {
                    let lanes = probes.iter().map(|probe| self.lanes.take(probe)).collect();
                    self.equal.entry(lanes).or_default().insert(key, id);
                }
                Place::Element(probe, key) => {
                    self.elements.entry(self.lanes.take(probe)).or_default().insert(key, id);
                }
                Place::Between(probe, low, high) => {
                    let intervals = self.intervals.entry(self.lanes.take(probe)).or_default();
                    intervals.insert(low, high.as_deref(), id);
                }
                Place::Piece(probe, piece) => {
                    self.pieces.entry(self.lanes.take(probe)).or_default().insert(piece, id);
                }
                Place::Null(probe) => {
                    self.presence.entry(self.lanes.take(probe)).or_default().null.insert(id);
                }
                Place::Filled(probe) => {
                    self.presence.entry(self.lanes.take(probe)).or_default().filled.insert(id);
                }
            }
        }
    }

    /// Removes a shape from its places, in logarithmic time.
    pub(super) fn remove(&mut self, id: ShapeId, access: &Access<'_>) {
        for place in &access.places {
            match place {
                Place::Equal(probes, key) => {
                    let lanes: Box<[LaneIndex]> =
                        probes.iter().map_while(|probe| self.lanes.give_back(probe)).collect();
                    change(&mut self.equal, &lanes, |values| values.remove(key, id), Values::is_empty);
                }
                Place::Element(probe, key) => {
                    let Some(lane) = self.lanes.give_back(probe) else { continue };
                    change(&mut self.elements, &lane, |values| values.remove(key, id), Values::is_empty);
                }
                Place::Between(probe, low, high) => {
                    let Some(lane) = self.lanes.give_back(probe) else { continue };
                    let remove = |intervals: &mut Intervals| intervals.remove(low, high.as_deref(), id);
                    change(&mut self.intervals, &lane, remove, Intervals::is_empty);
                }
                Place::Piece(probe, piece) => {
                    let Some(lane) = self.lanes.give_back(probe) else { continue };
                    change(&mut self.pieces, &lane, |pieces| pieces.remove(piece, id), Pieces::is_empty);
                }
                Place::Null(probe) => {
                    let Some(lane) = self.lanes.give_back(probe) else { continue };
                    let remove = |presence: &mut Presence| _ = presence.null.remove(&id);
                    change(&mut self.presence, &lane, remove, Presence::is_empty);
                }
                Place::Filled(probe) => {
                    let Some(lane) = self.lanes.give_back(probe) else { continue };
                    let remove = |presence: &mut Presence| _ = presence.filled.remove(&id);
                    change(&mut self.presence, &lane, remove, Presence::is_empty);
                }
            }
        }
    }

    /// Adds the shapes that a change may concern, each once.
    pub(super) fn find(&mut self, old: Option<&Row<'_>>, new: Option<&Row<'_>>, out: &mut Candidates) {
        for (side, row) in [(Side::Old, old), (Side::New, new)] {
            let Some(row) = row else { continue };
            self.lanes.read(row);
            self.find_equal(side, out);
            self.find_elements(row, side, out);
            self.find_by_lane(side, out);
        }
        out.merge();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.equal.is_empty()
            && self.elements.is_empty()
            && self.intervals.is_empty()
            && self.pieces.is_empty()
            && self.presence.is_empty()
    }

    fn find_equal(&mut self, side: Side, out: &mut Candidates) {
        for (lanes, values) in &self.equal {
            self.key.clear();
            let sight = lanes.iter().map(|lane| self.lanes.seen(*lane)).fold(Sight::Value, |all, seen| {
                self.key.extend_from_slice(seen.bytes);
                match (all, seen.sight) {
                    // No value is equal to NULL, whatever the others are.
                    (Sight::Null, _) | (_, Sight::Null) => Sight::Null,
                    (Sight::Failed, _) | (_, Sight::Failed) => Sight::Failed,
                    (Sight::Value, Sight::Value) => Sight::Value,
                }
            });
            match sight {
                Sight::Null => {}
                Sight::Value => values.get(&self.key).for_each(|id| out.push(id, side, Find::There)),
                Sight::Failed => values.all().for_each(|id| out.push(id, side, Find::Unknown)),
            }
        }
    }

    fn find_elements(&mut self, row: &Row<'_>, side: Side, out: &mut Candidates) {
        for (lane, values) in &self.elements {
            let look_up = |key: &[u8]| values.get(key).for_each(|id| out.push(id, side, Find::There));
            if self.lanes.elements(*lane, row, &mut self.key, look_up) == Sight::Failed {
                values.all().for_each(|id| out.push(id, side, Find::Unknown));
            }
        }
    }

    fn find_by_lane(&mut self, side: Side, out: &mut Candidates) {
        for (lane, intervals) in &self.intervals {
            let Seen { sight, bytes } = self.lanes.seen(*lane);
            match sight {
                Sight::Null => {}
                Sight::Value => {
                    self.key.clear();
                    self.key.extend_from_slice(bytes);
                    self.key.push(crate::filter::AT);
                    intervals.around(&self.key, &mut |id| out.push(id, side, Find::There));
                }
                Sight::Failed => intervals.all(&mut |id| out.push(id, side, Find::Unknown)),
            }
        }
        for (lane, pieces) in &mut self.pieces {
            let Seen { sight, bytes } = self.lanes.seen(*lane);
            match sight {
                Sight::Null => {}
                Sight::Value => pieces.find(bytes, &mut |id| out.push(id, side, Find::There)),
                Sight::Failed => pieces.all().for_each(|id| out.push(id, side, Find::Unknown)),
            }
        }
        for (lane, presence) in &self.presence {
            let ids = match self.lanes.seen(*lane).sight {
                Sight::Null => &presence.null,
                Sight::Value | Sight::Failed => &presence.filled,
            };
            ids.iter().for_each(|id| out.push(*id, side, Find::There));
        }
    }
}

impl Presence {
    fn is_empty(&self) -> bool {
        self.null.is_empty() && self.filled.is_empty()
    }
}

/// Changes a family, and forgets it once it is empty.
fn change<K: Ord, F>(
    families: &mut BTreeMap<K, F>,
    key: &K,
    change: impl FnOnce(&mut F),
    is_empty: impl FnOnce(&F) -> bool,
) {
    let Some(family) = families.get_mut(key) else { return };
    change(family);
    if is_empty(family) {
        families.remove(key);
    }
}

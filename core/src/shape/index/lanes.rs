//! Reads from every row each expression that some clause asks for, once.

use crate::filter::{Lane, LaneName, Probe, Sight};
use crate::shape::row::Row;
use std::collections::HashMap;

/// The lanes of a table, and what they read of the row that is looked at.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    names: HashMap<LaneName, LaneIndex>,
    lanes: Vec<Option<Used>>,
    /// Places without a lane.
    free: Vec<usize>,
}

/// A lane's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneIndex(usize);

#[derive(Debug)]
struct Used {
    lane: Lane,
    /// The number of places on it.
    places: usize,
    sight: Sight,
    bytes: Vec<u8>,
}

/// The value that a lane has read from the row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) sight: Sight,
    /// The key or the text.
    pub(super) bytes: &'a [u8],
}

impl Lanes {
    /// The lane of a place that comes.
    pub(super) fn take(&mut self, probe: &Probe<'_>) -> LaneIndex {
        let name = probe.name();
        let known = self.names.get(&name).copied();
        let index = known.unwrap_or_else(|| {
            let free = self.free.pop().unwrap_or(self.lanes.len());
            let used = Used { lane: probe.lane(), places: 0, sight: Sight::Null, bytes: Vec::new() };
            match self.lanes.get_mut(free) {
                Some(room) => *room = Some(used),
                None => self.lanes.push(Some(used)),
            }
            self.names.insert(name, LaneIndex(free));
            LaneIndex(free)
        });
        if let Some(Some(used)) = self.lanes.get_mut(index.0) {
            used.places += 1;
        }
        index
    }

    /// The lane of a place that goes; without any the lane goes too.
    pub(super) fn give_back(&mut self, probe: &Probe<'_>) -> Option<LaneIndex> {
        let name = probe.name();
        let index = self.names.get(&name).copied()?;
        let room = self.lanes.get_mut(index.0)?;
        let places = room.as_mut().map_or(0, |used| {
            used.places = used.places.saturating_sub(1);
            used.places
        });
        if places == 0 {
            *room = None;
            self.free.push(index.0);
            self.names.remove(&name);
        }
        Some(index)
    }

    /// Reads a row.
    pub(super) fn read(&mut self, row: &Row<'_>) {
        for used in self.lanes.iter_mut().flatten() {
            used.bytes.clear();
            used.sight = used.lane.read(row, &mut used.bytes);
        }
    }

    /// The value that was read last.
    pub(super) fn seen(&self, index: LaneIndex) -> Seen<'_> {
        match self.lanes.get(index.0) {
            Some(Some(used)) => Seen { sight: used.sight, bytes: &used.bytes },
            _ => Seen { sight: Sight::Failed, bytes: &[] },
        }
    }

    /// Calls `each` with the keys of an array's elements; `key` is room for one.
    pub(super) fn elements(
        &self,
        index: LaneIndex,
        row: &Row<'_>,
        key: &mut Vec<u8>,
        each: impl FnMut(&[u8]),
    ) -> Sight {
        match self.lanes.get(index.0) {
            Some(Some(used)) => used.lane.elements(row, key, each),
            _ => Sight::Failed,
        }
    }
}

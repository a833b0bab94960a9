//! Terms of an AND that make one place together: the values of several columns, the bounds of one.

use super::lane::{LaneName, Probe};
use super::{Access, Place};

/// Such terms on their way.
#[derive(Default)]
pub(super) struct Combined<'a> {
    equal: Vec<Equal<'a>>,
    equal_terms: usize,
    ranges: Vec<Range<'a>>,
    /// Two values are demanded of one probe.
    is_contradictory: bool,
}

struct Equal<'a> {
    name: LaneName,
    probe: Probe<'a>,
    key: Vec<u8>,
}

struct Range<'a> {
    name: LaneName,
    probe: Probe<'a>,
    low: Vec<u8>,
    high: Option<Vec<u8>>,
    terms: usize,
}

impl<'a> Combined<'a> {
    /// Takes the places of a term; gives them back where they do not combine with others.
    pub(super) fn take(&mut self, mut access: Access<'a>) -> Option<Access<'a>> {
        if access.places.len() != 1 {
            return Some(access);
        }
        match access.places.pop()? {
            Place::Equal(probes, key) => {
                let [probe] = probes.as_slice() else {
                    access.places.push(Place::Equal(probes, key));
                    return Some(access);
                };
                self.take_equal(*probe, key);
            }
            Place::Between(probe, low, high) => self.take_range(probe, low, high),
            other => {
                access.places.push(other);
                return Some(access);
            }
        }
        None
    }

    fn take_equal(&mut self, probe: Probe<'a>, key: Vec<u8>) {
        let name = probe.name();
        self.equal_terms += 1;
        match self.equal.iter().find(|known| known.name == name) {
            Some(known) => self.is_contradictory |= known.key != key,
            None => self.equal.push(Equal { name, probe, key }),
        }
    }

    fn take_range(&mut self, probe: Probe<'a>, low: Vec<u8>, high: Option<Vec<u8>>) {
        let name = probe.name();
        let Some(known) = self.ranges.iter_mut().find(|known| known.name == name) else {
            return self.ranges.push(Range { name, probe, low, high, terms: 1 });
        };
        known.terms += 1;
        if low > known.low {
            known.low = low;
        }
        known.high = match (known.high.take(), high) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    /// The places, each with the number of terms that it stands for.
    pub(super) fn finish(mut self) -> impl Iterator<Item = (Access<'a>, usize)> {
        self.equal.sort_by(|one, other| one.name.cmp(&other.name));
        let (probes, keys): (Vec<_>, Vec<_>) =
            self.equal.into_iter().map(|equal| (equal.probe, equal.key)).unzip();
        let equal = (!probes.is_empty()).then(|| {
            let place = Place::Equal(probes, keys.concat());
            // No row satisfies a contradiction.
            let places = if self.is_contradictory { Vec::new() } else { vec![place] };
            (Access::exact(places), self.equal_terms)
        });
        let range = |range: Range<'a>| {
            (Access::exact(vec![Place::Between(range.probe, range.low, range.high)]), range.terms)
        };
        equal.into_iter().chain(self.ranges.into_iter().map(range))
    }
}

//! Shapes by a piece of text: those whose clause demands that it stands somewhere in a text.
//!
//! All pieces are looked for at once (Aho and Corasick). A machine for that cannot be changed, only made anew; so pieces
//! that come are looked for one by one at first. When there are some of them, the next look makes a machine of them,
//! together with those of the machines that are not much larger: so there are as many machines as a logarithm, and each
//! piece gets into a new one as often. A machine of [`MACHINE_PIECES_MAX`] pieces is left alone, and a look makes one
//! machine at most, so that none takes long.

use super::values::{Ids, Key};
use crate::ShapeId;
use aho_corasick::automaton::Automaton as _;
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};
use std::collections::HashMap;

/// So many pieces are looked for one by one.
const FRESH_MAX: usize = 16;
/// Pieces of a machine that is not made larger.
const MACHINE_PIECES_MAX: usize = 8_192;

/// Shapes by piece.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    places: HashMap<Key, usize>,
    slots: Vec<Slot>,
    /// Slots without a piece.
    free: Vec<usize>,
    /// Slots of pieces that no machine looks for.
    fresh: Vec<usize>,
    /// The largest first.
    machines: Vec<Machine>,
    /// Pieces for which no shape asks any more. Their slots stay theirs until a machine is made without them.
    unused: usize,
    /// The number of looks so far.
    looks: u64,
}

#[derive(Debug)]
struct Slot {
    piece: Key,
    ids: Option<Ids>,
    /// The last look that found the piece.
    found: u64,
}

#[derive(Debug)]
struct Machine {
    /// `None` where these pieces are too much for one: then they are looked for one by one.
    automaton: Option<NFA>,
    /// The slots of its pieces, in their order.
    slots: Vec<usize>,
}

impl Pieces {
    pub(super) fn insert(&mut self, piece: &[u8], id: ShapeId) {
        if let Some(slot) = self.places.get(piece).and_then(|place| self.slots.get_mut(*place)) {
            match &mut slot.ids {
                Some(ids) => ids.insert(id),
                None => {
                    slot.ids = Some(Ids::One(id));
                    self.unused -= 1;
                }
            }
            return;
        }
        let slot = Slot { piece: Key::from(piece), ids: Some(Ids::One(id)), found: 0 };
        let place = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(place) {
            Some(room) => *room = slot,
            None => self.slots.push(slot),
        }
        self.places.insert(Key::from(piece), place);
        self.fresh.push(place);
    }

    pub(super) fn remove(&mut self, piece: &[u8], id: ShapeId) {
        let slot = self.places.get(piece).and_then(|place| self.slots.get_mut(*place));
        let Some(slot) = slot else { return };
        if slot.ids.as_mut().is_some_and(|ids| ids.remove(id)) {
            slot.ids = None;
            self.unused += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unused == self.places.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = ShapeId> {
        self.slots.iter().filter_map(|slot| slot.ids.as_ref()).flat_map(Ids::iter)
    }

    /// Calls `each` with the shapes whose piece stands in a text.
    pub(super) fn find(&mut self, text: &[u8], each: &mut impl FnMut(ShapeId)) {
        self.make_machine();
        self.looks += 1;
        let (slots, look) = (&mut self.slots, self.looks);
        // Whether it is the first time in this look that the piece is met.
        let mut meet = |place: usize, is_there: &dyn Fn(&[u8]) -> bool| {
            let Some(slot) = slots.get_mut(place) else { return false };
            let is_first = slot.found < look && is_there(slot.piece.as_bytes());
            if is_first {
                slot.found = look;
                slot.ids.iter().flat_map(Ids::iter).for_each(&mut *each);
            }
            is_first
        };
        let stands = |piece: &[u8]| memchr::memmem::find(text, piece).is_some();
        for machine in &self.machines {
            let Some(automaton) = &machine.automaton else {
                machine.slots.iter().for_each(|place| _ = meet(*place, &stands));
                continue;
            };
            // Of pieces that are in each other, many end everywhere in a long text.
            let mut left = machine.slots.len();
            matches(automaton, text, |pattern| {
                let place = machine.slots.get(pattern).copied();
                left -= usize::from(place.is_some_and(|place| meet(place, &|_| true)));
                left > 0
            });
        }
        self.fresh.iter().for_each(|place| _ = meet(*place, &stands));
    }

    /// Has a machine look for pieces that are looked for one by one, or gives one up of whose pieces most are unused.
    fn make_machine(&mut self) {
        if self.unused > self.places.len() / 2
            && let Some(mostly_unused) =
                self.machines.iter().position(|machine| self.is_mostly_unused(machine))
        {
            let machine = self.machines.remove(mostly_unused);
            self.fresh.extend(machine.slots);
        }
        if self.fresh.len() <= FRESH_MAX {
            return;
        }
        let left = self.fresh.len().saturating_sub(MACHINE_PIECES_MAX);
        let mut slots = self.fresh.split_off(left);
        slots.retain(|place| self.is_used(*place) || self.forget(*place));
        while let Some(machine) = self.machines.pop_if(|machine| {
            machine.slots.len() <= 2 * slots.len() && machine.slots.len() + slots.len() <= MACHINE_PIECES_MAX
        }) {
            slots.extend(machine.slots);
            slots.retain(|place| self.is_used(*place) || self.forget(*place));
        }
        if slots.is_empty() {
            return;
        }
        let pieces =
            slots.iter().filter_map(|place| self.slots.get(*place)).map(|slot| slot.piece.as_bytes());
        let automaton = NFA::builder().match_kind(MatchKind::Standard).prefilter(false).build(pieces).ok();
        let place = self.machines.partition_point(|machine| machine.slots.len() >= slots.len());
        self.machines.insert(place, Machine { automaton, slots });
    }

    fn is_used(&self, place: usize) -> bool {
        self.slots.get(place).is_some_and(|slot| slot.ids.is_some())
    }

    fn is_mostly_unused(&self, machine: &Machine) -> bool {
        machine.slots.iter().filter(|place| !self.is_used(**place)).count() * 2 > machine.slots.len()
    }

    /// Forgets an unused piece; gives false.
    fn forget(&mut self, place: usize) -> bool {
        if let Some(slot) = self.slots.get_mut(place) {
            self.places.remove(slot.piece.as_bytes());
            slot.piece = Key::from(&[][..]);
            self.free.push(place);
            self.unused -= 1;
        }
        false
    }
}

/// Calls `each` with the number of every pattern that stands in a text, wherever it ends, until it gives false.
fn matches(automaton: &NFA, text: &[u8], mut each: impl FnMut(usize) -> bool) {
    let Ok(mut state) = automaton.start_state(Anchored::No) else { return };
    for byte in text {
        state = automaton.next_state(Anchored::No, state, *byte);
        if automaton.is_match(state) {
            for index in 0..automaton.match_len(state) {
                if !each(automaton.match_pattern(state, index).as_usize()) {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn find(pieces: &mut Pieces, text: &str) -> Vec<ShapeId> {
        let mut found = Vec::new();
        pieces.find(text.as_bytes(), &mut |id| found.push(id));
        found.sort_unstable();
        found
    }

    /// Numbers that look random.
    fn numbers() -> impl FnMut(usize) -> usize {
        let mut state = 1_u64;
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        }
    }

    #[test]
    fn pieces_come_and_go_as_in_a_list() {
        let mut next = numbers();
        let mut text = |length: usize| -> String {
            (0..=next(length)).map(|_| ["a", "b", "c", "é"][next(4)]).collect()
        };
        let texts: Vec<(String, String)> = (0..6_000).map(|_| (text(5), text(20))).collect();
        let (mut pieces, mut list) = (Pieces::default(), BTreeSet::<(String, ShapeId)>::new());
        let (mut next, mut found) = (numbers(), 0);
        for (round, (piece, text)) in texts.into_iter().enumerate() {
            let id = ShapeId(u32::try_from(next(3)).unwrap_or_default());
            // Long times of growth and of decline.
            if next(10) < if round / 1_000 % 2 == 0 { 8 } else { 2 } {
                pieces.insert(piece.as_bytes(), id);
                list.insert((piece, id));
            } else if let Some((piece, id)) = list.range((piece, id)..).next().cloned() {
                pieces.remove(piece.as_bytes(), id);
                list.remove(&(piece, id));
            }
            if next(3) > 0 {
                continue;
            }
            let mut expected: Vec<ShapeId> =
                list.iter().filter(|(piece, _)| text.contains(piece)).map(|known| known.1).collect();
            expected.sort_unstable();
            found += expected.len();
            assert_eq!(find(&mut pieces, &text), expected, "in round {round}");
        }
        assert!(found > 1_000, "{found}");
        for (piece, id) in list {
            pieces.remove(piece.as_bytes(), id);
        }
        assert!(pieces.is_empty() && find(&mut pieces, "abc").is_empty());
    }

    /// Each look after a new piece might make one machine of all.
    #[test]
    fn many_pieces_are_made_in_time_and_take_few_machines() {
        let mut pieces = Pieces::default();
        for n in 0..10_000_u32 {
            pieces.insert(format!("piece {n}.").as_bytes(), ShapeId(n));
            if n % 4 == 0 {
                assert_eq!(find(&mut pieces, &format!("a piece {n}.")), [ShapeId(n)]);
            }
        }
        assert!(pieces.machines.len() < 16, "{}", pieces.machines.len());
        assert!(pieces.machines.iter().all(|machine| machine.slots.len() <= MACHINE_PIECES_MAX));
        for n in 0..9_500 {
            pieces.remove(format!("piece {n}.").as_bytes(), ShapeId(n));
        }
        (0..20).for_each(|_| assert_eq!(find(&mut pieces, "a piece 9700."), [ShapeId(9_700)]));
        assert!(pieces.places.len() < 2_000, "{}", pieces.places.len());
    }

    /// Each of them ends at almost every byte.
    #[test]
    fn pieces_in_pieces_are_found_in_time() {
        let mut pieces = Pieces::default();
        let text = "a".repeat(1_000_000);
        (0..1_000_u32).for_each(|n| pieces.insert(&text.as_bytes()[..n as usize + 1], ShapeId(n)));
        assert_eq!(find(&mut pieces, &text).len(), 1_000);
    }

    /// As after a start: no look makes machines of all of them.
    #[test]
    fn a_look_makes_one_machine() {
        let mut pieces = Pieces::default();
        (0..50_000_u32).for_each(|n| pieces.insert(format!("piece {n}.").as_bytes(), ShapeId(n)));
        for looks in 1..10 {
            assert_eq!(find(&mut pieces, "a piece 1. and a piece 49999."), [ShapeId(1), ShapeId(49_999)]);
            assert_eq!(pieces.machines.len(), looks.min(7));
        }
        assert!(pieces.fresh.len() <= FRESH_MAX);
    }
}

//! A view: the result of a subquery up to where a shape's log has come, and SQL's IN over it.

use super::member::{Cells, Member, push_cell};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Members that a view may hold: beyond it a shape is refused, or starts over.
pub const MEMBERS_MAX: usize = 2_000_000;

/// A set of members. Duplicates of the subquery's rows do not count: IN does not see them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    plain: HashSet<Member>,
    /// Members with a NULL in them, by the places of their NULLs.
    with_null: BTreeMap<Nulls, HashSet<Member>>,
    projections: Projections,
}

/// Which values are NULL, in order.
type Nulls = Vec<bool>;

/// What members look like without some of their values, so that a comparison with NULLs is a look-up: a view may have
/// millions of members. Each is made when it is first asked for, and follows the members from then on.
#[derive(Debug, Default)]
struct Projections(Mutex<HashMap<Nulls, HashMap<Nulls, Counted>>>);

/// How many members look like this.
type Counted = HashMap<Box<[u8]>, usize>;

/// Members that a view gains and loses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewChange {
    /// Members that come.
    pub enter: Vec<Member>,
    /// Members that go.
    pub leave: Vec<Member>,
}

impl View {
    /// Adds a member; false where it was there.
    pub fn insert(&mut self, member: Member) -> bool {
        if self.has(&member) {
            return false;
        }
        self.projections.count(&member, |count| *count += 1);
        if member.has_null() {
            self.with_null.entry(nulls(member.cells())).or_default().insert(member)
        } else {
            self.plain.insert(member)
        }
    }

    /// True where the very member is there.
    #[must_use]
    pub fn has(&self, member: &Member) -> bool {
        if !member.has_null() {
            return self.plain.contains(member);
        }
        self.with_null.get(&nulls(member.cells())).is_some_and(|members| members.contains(member))
    }

    fn remove(&mut self, member: &Member) {
        if !self.has(member) {
            return;
        }
        self.projections.count(member, |count| *count = count.saturating_sub(1));
        if !member.has_null() {
            self.plain.remove(member);
            return;
        }
        let nulls = nulls(member.cells());
        if let Some(members) = self.with_null.get_mut(&nulls) {
            members.remove(member);
            if members.is_empty() {
                self.with_null.remove(&nulls);
            }
        }
    }

    /// Takes a change over.
    pub fn apply(&mut self, change: &ViewChange) {
        change.leave.iter().for_each(|member| self.remove(member));
        change.enter.iter().for_each(|member| {
            self.insert(member.clone());
        });
    }

    /// `value IN (members)`, in SQL's three-valued logic (the Postgres documentation, *Subquery Expressions*):
    /// a NULL on either side leaves open what it might be equal to.
    #[must_use]
    pub fn contains(&self, value: &[u8]) -> Option<bool> {
        if self.plain.contains(value) {
            return Some(true);
        }
        let nulls = nulls(Cells(value));
        let is_plain = !nulls.contains(&true);
        let open = !is_plain && self.projections.has(&vec![false; nulls.len()], &self.plain, &nulls, value)
            || self.with_null.iter().any(|(of, members)| self.projections.has(of, members, &nulls, value));
        if open { None } else { Some(false) }
    }

    /// The members, in no order.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.plain.iter().chain(self.with_null.values().flatten())
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.plain.len() + self.with_null.values().map(HashSet::len).sum::<usize>()
    }

    /// True where there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ViewChange {
    /// True where nothing comes and nothing goes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.enter.is_empty() && self.leave.is_empty()
    }

    /// The change that takes this one back.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self { enter: self.leave.clone(), leave: self.enter.clone() }
    }
}

impl FromIterator<Member> for View {
    fn from_iter<I: IntoIterator<Item = Member>>(members: I) -> Self {
        let mut view = Self::default();
        members.into_iter().for_each(|member| {
            view.insert(member);
        });
        view
    }
}

/// As the list of its members, sorted: the same view is the same bytes.
impl Serialize for View {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sorted: BTreeSet<&Member> = self.members().collect();
        serializer.collect_seq(sorted)
    }
}

impl<'de> Deserialize<'de> for View {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Member>::deserialize(deserializer)?.into_iter().collect())
    }
}

impl Projections {
    /// Whether a comparison of some member with the value is not false: no pair of values is known to differ. All these
    /// members have their NULLs at the places `of`, and the value has `nulls`.
    fn has(&self, of: &Nulls, members: &HashSet<Member>, nulls: &Nulls, value: &[u8]) -> bool {
        let left_out: Nulls = of.iter().zip(nulls).map(|(left, right)| *left || *right).collect();
        let looked_for = project(Cells(value), &left_out);
        let mut projections = self.lock();
        let of = projections.entry(of.clone()).or_default();
        let counted = of.entry(left_out).or_insert_with_key(|left_out| {
            let mut counted = Counted::new();
            for member in members {
                *counted.entry(project(member.cells(), left_out)).or_default() += 1;
            }
            counted
        });
        counted.contains_key(&looked_for)
    }

    /// Counts a member that comes or goes.
    fn count(&mut self, member: &Member, mut change: impl FnMut(&mut usize)) {
        let projections = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if projections.is_empty() {
            return;
        }
        for (left_out, counted) in projections.get_mut(&nulls(member.cells())).into_iter().flatten() {
            let projection = project(member.cells(), left_out);
            let count = counted.entry(projection.clone()).or_default();
            change(count);
            if *count == 0 {
                counted.remove(&projection);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Nulls, HashMap<Nulls, Counted>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// They are made again when they are asked for.
impl Clone for Projections {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// They say nothing that the members do not say.
impl PartialEq for Projections {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Projections {}

fn nulls(cells: Cells<'_>) -> Nulls {
    cells.map(|cell| cell.is_none()).collect()
}

/// The values without those at some places.
fn project(cells: Cells<'_>, left_out: &Nulls) -> Box<[u8]> {
    let mut bytes = Vec::new();
    for (cell, left_out) in cells.zip(left_out) {
        if !left_out {
            push_cell(&mut bytes, cell);
        }
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn member(cells: &[Option<&str>]) -> Member {
        Member::new(cells.iter().map(|cell| cell.map(str::as_bytes)))
    }

    fn view(members: &[&[Option<&str>]]) -> View {
        members.iter().map(|cells| member(cells)).collect()
    }

    fn contains(view: &View, cells: &[Option<&str>]) -> Option<bool> {
        view.contains(std::borrow::Borrow::<[u8]>::borrow(&member(cells)))
    }

    #[test]
    fn one_column_is_judged_as_in_sql() {
        let members = view(&[&[Some("1")], &[Some("2")]]);
        assert_eq!(contains(&members, &[Some("1")]), Some(true));
        assert_eq!(contains(&members, &[Some("3")]), Some(false));
        assert_eq!(contains(&members, &[None]), None);
        assert_eq!(contains(&View::default(), &[None]), Some(false), "nothing is in an empty set");
        assert!(View::default().is_empty() && !members.is_empty());
        let open = view(&[&[Some("1")], &[None]]);
        assert_eq!(contains(&open, &[Some("1")]), Some(true));
        assert_eq!(contains(&open, &[Some("3")]), None);
    }

    #[test]
    fn rows_are_judged_as_in_sql() {
        let members = view(&[&[Some("1"), Some("a")], &[Some("2"), None]]);
        assert_eq!(contains(&members, &[Some("1"), Some("a")]), Some(true));
        assert_eq!(contains(&members, &[Some("1"), Some("b")]), Some(false));
        assert_eq!(contains(&members, &[Some("2"), Some("b")]), None);
        assert_eq!(contains(&members, &[Some("1"), None]), None);
        assert_eq!(contains(&members, &[Some("3"), None]), Some(false));
    }

    /// Every combination of members and values, against a comparison one by one; also when members come and go.
    #[test]
    fn nulls_are_judged_as_one_by_one() {
        let cells = [None, Some("1"), Some("2")];
        let all: Vec<Member> =
            cells.iter().flat_map(|left| cells.map(|right| member(&[*left, right]))).collect();
        let may_equal = |left: &Member, right: &Member| {
            let mut pairs = left.cells().zip(right.cells());
            pairs.all(|(left, right)| left.is_none() || right.is_none() || left == right)
        };
        let mut changing = View::default();
        for chosen in 0..1_u32 << all.len() {
            let members: Vec<&Member> =
                (0..).zip(&all).filter(|(i, _)| chosen & (1 << i) != 0).map(|(_, member)| member).collect();
            let leave = changing.members().filter(|member| !members.contains(member)).cloned().collect();
            changing.apply(&ViewChange { enter: members.iter().copied().cloned().collect(), leave });
            for value in &all {
                let expected = if !value.has_null() && members.contains(&value) {
                    Some(true)
                } else if members.iter().any(|member| may_equal(member, value)) {
                    None
                } else {
                    Some(false)
                };
                let bytes = std::borrow::Borrow::<[u8]>::borrow(value);
                assert_eq!(changing.contains(bytes), expected, "{value:?} in {members:?}");
                assert_eq!(changing.clone().contains(bytes), expected, "{value:?} in {members:?}, anew");
            }
        }
    }

    /// Compared one by one, this would take minutes.
    #[test]
    fn many_members_are_judged_in_time() {
        let (few, many) = (2_000, 100_000);
        let texts: Vec<String> = (0..many).map(|i| i.to_string()).collect();
        let members = texts.iter().map(|text| member(&[Some(text), Some("x")]));
        let members: View = members.chain([member(&[None, Some("y")])]).collect();
        for text in &texts[..few] {
            assert_eq!(contains(&members, &[Some(text), None]), None);
            assert_eq!(contains(&members, &[None, Some(text)]), Some(false));
            assert_eq!(contains(&members, &[Some(text), Some("y")]), None);
        }
    }

    #[test]
    fn a_change_is_taken_over() {
        let mut members = view(&[&[Some("1")], &[None]]);
        let change = ViewChange { enter: vec![member(&[Some("2")])], leave: vec![member(&[None])] };
        members.apply(&change);
        assert_eq!(members, view(&[&[Some("1")], &[Some("2")]]));
        let json = serde_json::to_string(&members).unwrap();
        assert_eq!(json, r#"[["1"],["2"]]"#);
        assert_eq!(serde_json::from_str::<View>(&json).unwrap(), members);
    }
}

//! What one shape believes a subquery to return, and SQL's IN over it.

use super::member::{Cells, Member};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet};

/// Members that a view may hold: beyond it a shape is refused, or starts over.
pub const MEMBERS_MAX: usize = 2_000_000;

/// A set of members. Duplicates of the subquery's rows do not count: IN does not see them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    plain: HashSet<Member>,
    /// Members with a NULL in them: few, and compared one by one.
    with_null: BTreeSet<Member>,
}

/// What a view gains and loses.
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
        if member.has_null() { self.with_null.insert(member) } else { self.plain.insert(member) }
    }

    /// True where the very member is there.
    #[must_use]
    pub fn has(&self, member: &Member) -> bool {
        if member.has_null() { self.with_null.contains(member) } else { self.plain.contains(member) }
    }

    /// Takes a change over.
    pub fn apply(&mut self, change: &ViewChange) {
        for member in &change.leave {
            if member.has_null() {
                self.with_null.remove(member);
            } else {
                self.plain.remove(member);
            }
        }
        change.enter.iter().for_each(|member| {
            self.insert(member.clone());
        });
    }

    /// `value IN (members)`, in SQL's three-valued logic (the Postgres documentation, *Subquery Expressions*):
    /// a NULL on either side leaves open what it might be equal to.
    #[must_use]
    pub fn contains(&self, value: &[u8]) -> Option<bool> {
        if Cells(value).any(|cell| cell.is_none()) {
            let open = self.members().any(|member| may_equal(member, value));
            return if open { None } else { Some(false) };
        }
        if self.plain.contains(value) {
            return Some(true);
        }
        let open = self.with_null.iter().any(|member| may_equal(member, value));
        if open { None } else { Some(false) }
    }

    /// The members, in no order.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.plain.iter().chain(&self.with_null)
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.plain.len() + self.with_null.len()
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

/// Whether a comparison of two rows is not false: no pair of values is known to differ.
fn may_equal(member: &Member, value: &[u8]) -> bool {
    member.cells().zip(Cells(value)).all(|(left, right)| match (left, right) {
        (Some(left), Some(right)) => left == right,
        _ => true,
    })
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

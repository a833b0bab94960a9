//! The OR of ANDs that becomes of a clause with subqueries says what the clause said, in SQL's logic with NULL.

use super::super::*;
use super::columns as outer_columns;
use super::subqueries::{inner, parse_with};
use proptest::prelude::*;

/// A clause and what it says for a truth of each leaf.
#[derive(Debug, Clone)]
enum Logic {
    Leaf,
    Not(Box<Logic>),
    And(Vec<Logic>),
    Or(Vec<Logic>),
}

impl Logic {
    /// Every leaf gets a number of its own; even ones are subqueries, odd ones plain.
    fn write(&self, next: &mut usize) -> String {
        let mut joined = |parts: &[Self], word: &str| {
            let parts: Vec<String> = parts.iter().map(|part| part.write(next)).collect();
            format!("({})", parts.join(word))
        };
        match self {
            Self::And(parts) => joined(parts, " AND "),
            Self::Or(parts) => joined(parts, " OR "),
            Self::Not(part) => format!("(NOT {})", part.write(next)),
            Self::Leaf => {
                *next += 1;
                let n = *next - 1;
                if n.is_multiple_of(2) {
                    format!("a IN (SELECT id FROM proj WHERE org = {n})")
                } else {
                    format!("c = {n}")
                }
            }
        }
    }

    fn truth(&self, leaves: &mut impl Iterator<Item = Option<bool>>) -> Option<bool> {
        match self {
            Self::Leaf => leaves.next().flatten(),
            Self::Not(part) => part.truth(leaves).map(|truth| !truth),
            Self::And(parts) => {
                let truths: Vec<_> = parts.iter().map(|part| part.truth(leaves)).collect();
                and(&truths)
            }
            Self::Or(parts) => {
                let truths: Vec<_> =
                    parts.iter().map(|part| part.truth(leaves).map(|truth| !truth)).collect();
                and(&truths).map(|truth| !truth)
            }
        }
    }
}

fn and(truths: &[Option<bool>]) -> Option<bool> {
    if truths.contains(&Some(false)) { Some(false) } else { (!truths.contains(&None)).then_some(true) }
}

fn logic() -> impl Strategy<Value = Logic> {
    Just(Logic::Leaf).prop_recursive(4, 8, 3, |inner| {
        let parts = prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            inner.prop_map(|part| Logic::Not(Box::new(part))),
            parts.clone().prop_map(Logic::And),
            parts.prop_map(Logic::Or),
        ]
    })
}

/// The number of the leaf that a dependency is.
fn leaf(dependency: &Dependency) -> usize {
    dependency.sql.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap()
}

proptest! {
    /// Only the leaves' truths are made up: plain leaves are evaluated, `c` being NULL or a number.
    #[test]
    fn the_or_of_ands_says_what_the_clause_says(
        logic in logic(),
        members in prop::collection::vec(prop::option::of(any::<bool>()), 64),
        c in prop::option::of(0_usize..12),
    ) {
        let mut count = 0;
        let text = logic.write(&mut count);
        let filter = match parse_with(&text, &[]) {
            Ok(Clause::Subqueries(filter)) => filter,
            Ok(_) => return Err(TestCaseError::fail(text)),
            Err(error) => {
                prop_assert!(error.to_string().contains("too complex"), "{}: {}", text, error);
                return Ok(());
            }
        };
        let truth_of = |n: usize| if n.is_multiple_of(2) { members[n] } else { c.map(|c| c == n) };
        let expected = logic.truth(&mut (0..count).map(truth_of)) == Some(true);
        let digits = c.map(|c| c.to_string());
        let row = OneColumn(digits.as_deref().map(str::as_bytes));
        let holds = |position: &Position| match &position.condition {
            Condition::Plain(filter) => filter.evaluate(&row).unwrap() == Some(true),
            Condition::Member { dependency, .. } => {
                members[leaf(&filter.dependencies()[*dependency])] == Some(!position.negated)
            }
        };
        let belongs = filter.disjuncts().iter().any(|range| filter.positions()[range.clone()].iter().all(holds));
        prop_assert_eq!(belongs, expected, "{}", text);
        let again = Clause::restore(filter.sql(), &BTreeMap::new(), &outer_columns(), &inner()).unwrap();
        prop_assert_eq!(again.sql(), filter.sql());
    }
}

/// Column `c` of the outer table.
struct OneColumn<'a>(Option<&'a [u8]>);

impl Row for OneColumn<'_> {
    fn text(&self, column: usize) -> Option<&[u8]> {
        if column == 2 { self.0 } else { None }
    }
}

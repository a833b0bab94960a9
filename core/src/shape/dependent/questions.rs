//! What a move asks Postgres, all of it inside one snapshot.

use super::held::Candidate;
use super::member::Member;
use crate::filter::{Condition, Dependency, SubqueryFilter};
use crate::pg::Relation;
use crate::pg::relation::{quote_identifier, quote_literal};

/// The names under which a question sees a subquery's columns.
const ALIAS: &str = "c";

/// Which of the candidates a subquery returns now; all its rows where any may have changed.
pub(super) fn members(dependency: &Dependency, candidate: &Candidate) -> String {
    let count = dependency.columns.len();
    let names: Vec<String> = (0..count).map(|index| format!("{ALIAS}{index}")).collect();
    let mut sql = format!("SELECT DISTINCT * FROM ({}) AS m({})", dependency.sql, names.join(", "));
    if !candidate.whole {
        sql.push_str(" WHERE ");
        sql.push_str(&any_of(&names, &candidate.members));
    }
    sql
}

/// The rows that the filter takes and that hold one of the values which have just come to satisfy one of its
/// positions.
pub(super) fn rows(
    relation: &Relation,
    filter: &SubqueryFilter,
    columns: &[usize],
    entering: &[(usize, Member)],
) -> String {
    let name = |column: &usize| relation.columns.get(*column).map(|column| quote_identifier(&column.name));
    let holds = |position: usize| {
        let Some(Condition::Member { columns, .. }) = filter.positions().get(position).map(|p| &p.condition)
        else {
            return None;
        };
        let names: Vec<String> = columns.iter().filter_map(name).collect();
        let members = entering.iter().filter(|(at, _)| *at == position).map(|(_, member)| member);
        let mut members = members.peekable();
        members.peek()?;
        Some(any_of(&names, members))
    };
    let holds: Vec<String> = (0..filter.positions().len()).filter_map(holds).collect();
    let (selected, holds) = (relation.select_list(columns), holds.join(" OR "));
    format!("SELECT {selected} FROM {} WHERE ({}) AND ({holds})", relation.name, filter.sql())
}

/// `names` hold one of the members, NULLs compared as values. One column becomes a list, which an index serves.
fn any_of<'a>(names: &[String], members: impl IntoIterator<Item = &'a Member>) -> String {
    let mut list = Vec::new();
    let mut terms = Vec::new();
    for member in members {
        match (names, member.cells().next()) {
            ([_], Some(Some(text))) => list.push(literal(text)),
            _ => terms.push(same_row(names, member)),
        }
    }
    if let ([name], false) = (names, list.is_empty()) {
        terms.push(format!("{name} IN ({})", list.join(", ")));
    }
    if terms.is_empty() { "false".to_owned() } else { format!("({})", terms.join(" OR ")) }
}

fn same_row(names: &[String], member: &Member) -> String {
    let same = |(name, cell): (&String, Option<&[u8]>)| match cell {
        None => format!("{name} IS NULL"),
        Some(text) => format!("{name} = {}", literal(text)),
    };
    let terms: Vec<String> = names.iter().zip(member.cells()).map(same).collect();
    format!("({})", terms.join(" AND "))
}

/// Without a type of its own: it takes the one of the column that it is compared with.
fn literal(text: &[u8]) -> String {
    quote_literal(&String::from_utf8_lossy(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn member(cells: &[Option<&str>]) -> Member {
        Member::new(cells.iter().map(|cell| cell.map(str::as_bytes)))
    }

    #[test]
    fn one_column_is_a_list_and_null_a_term() {
        let members = [member(&[Some("1")]), member(&[None]), member(&[Some("it's")])];
        assert_eq!(any_of(&names(&["\"a\""]), &members), "((\"a\" IS NULL) OR \"a\" IN ('1', 'it''s'))");
    }

    #[test]
    fn rows_are_compared_value_by_value() {
        let members = [member(&[Some("1"), None]), member(&[Some("2"), Some("\\")])];
        let expected = "((a = '1' AND b IS NULL) OR (a = '2' AND b = E'\\\\'))";
        assert_eq!(any_of(&names(&["a", "b"]), &members), expected);
        assert_eq!(any_of(&names(&["a"]), &[]), "false");
    }
}

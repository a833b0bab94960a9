//! The questions of a move to Postgres, as SQL; all are asked inside one snapshot.

use super::held::AffectedMembers;
use super::member::Member;
use crate::filter::{Condition, Dependency, SubqueryFilter, quote_element};
use crate::pg::Relation;
use crate::pg::relation::{Column, quote_identifier, quote_literal};
use std::collections::BTreeSet;

/// The names under which a question sees a subquery's columns.
const ALIAS: &str = "c";
/// Members of several columns that a question compares as rows. Postgres takes a kilobyte and more for each such term: of
/// more members, a question compares each column with one list, and gets more rows than it needs.
const TERMS_MAX: usize = 100;

/// A column that a question compares.
#[derive(Debug)]
struct Compared {
    /// Its name as SQL.
    name: String,
    /// Its values are arrays, which no operator compares with a list.
    is_array: bool,
}

impl Compared {
    fn new(name: String, column: &Column) -> Self {
        Self { name, is_array: column.type_oid != column.element_oid }
    }
}

/// Which of the affected members a subquery returns now, and others that it returns; all its rows where any may have changed.
pub(super) fn members(dependency: &Dependency, affected: &AffectedMembers) -> String {
    let columns = dependency.columns.iter().filter_map(|column| dependency.relation.columns.get(*column));
    let numbered =
        columns.enumerate().map(|(index, column)| Compared::new(format!("{ALIAS}{index}"), column));
    let columns: Vec<Compared> = numbered.collect();
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let mut sql = format!("SELECT DISTINCT * FROM ({}) AS m({})", dependency.sql, names.join(", "));
    if !affected.whole {
        sql.push_str(" WHERE ");
        sql.push_str(&any_of(&columns, &affected.members.iter().collect::<Vec<_>>()));
    }
    sql
}

/// The rows that the filter takes and that hold one of the values which have just come to satisfy one of its
/// positions; others that it takes may be among them.
pub(super) fn rows(
    relation: &Relation,
    filter: &SubqueryFilter,
    columns: &[usize],
    entering: &[(usize, Member)],
) -> String {
    let compared = |column: &usize| {
        let column = relation.columns.get(*column)?;
        Some(Compared::new(quote_identifier(&column.name), column))
    };
    let holds = |position: usize| {
        let Some(Condition::Member { columns, .. }) = filter.positions().get(position).map(|p| &p.condition)
        else {
            return None;
        };
        let columns: Vec<Compared> = columns.iter().filter_map(compared).collect();
        let members = entering.iter().filter(|(at, _)| *at == position).map(|(_, member)| member);
        let members: Vec<&Member> = members.collect();
        (!members.is_empty()).then(|| any_of(&columns, &members))
    };
    let holds: Vec<String> = (0..filter.positions().len()).filter_map(holds).collect();
    let (selected, holds) = (relation.select_list(columns), holds.join(" OR "));
    format!("SELECT {selected} FROM {} WHERE ({}) AND ({holds})", relation.name, filter.sql())
}

/// `columns` hold one of the members, NULLs compared as values. It may hold for further rows.
fn any_of(columns: &[Compared], members: &[&Member]) -> String {
    let has_list = matches!(columns, [Compared { is_array: false, .. }]);
    let terms = if members.is_empty() {
        "false".to_owned()
    } else if has_list || members.len() > TERMS_MAX {
        let lists = columns.iter().enumerate().map(|(index, column)| one_of(column, index, members));
        lists.collect::<Vec<_>>().join(" AND ")
    } else {
        members.iter().map(|member| same_row(columns, member)).collect::<Vec<_>>().join(" OR ")
    };
    format!("({terms})")
}

/// A column holds what one of the members has there. An index serves the list; without one Postgres looks each value up by
/// its hash.
fn one_of(column: &Compared, index: usize, members: &[&Member]) -> String {
    let cells: BTreeSet<Option<&[u8]>> =
        members.iter().filter_map(|member| member.cells().nth(index)).collect();
    let mut terms = Vec::new();
    if cells.contains(&None) {
        terms.push(format!("{} IS NULL", column.name));
    }
    if cells.iter().any(Option::is_some) {
        if column.is_array {
            return "true".to_owned();
        }
        terms.push(format!("{} = ANY ({})", column.name, list(cells.into_iter().flatten())));
    }
    format!("({})", terms.join(" OR "))
}

fn same_row(columns: &[Compared], member: &Member) -> String {
    let same = |(column, cell): (&Compared, Option<&[u8]>)| match cell {
        None => format!("{} IS NULL", column.name),
        Some(text) => format!("{} = {}", column.name, quote_literal(&String::from_utf8_lossy(text))),
    };
    let terms: Vec<String> = columns.iter().zip(member.cells()).map(same).collect();
    format!("({})", terms.join(" AND "))
}

/// An array as one literal. Like the literal of one value it has no type of its own: Postgres gives it that of the column.
fn list<'a>(texts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut array = String::from("{");
    for (index, text) in texts.enumerate() {
        if index > 0 {
            array.push(',');
        }
        quote_element(&mut array, &String::from_utf8_lossy(text));
    }
    array.push('}');
    quote_literal(&array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::oid;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn compared(names: &[&str]) -> Vec<Compared> {
        names.iter().map(|name| Compared { name: (*name).to_owned(), is_array: false }).collect()
    }

    fn member(cells: &[Option<&str>]) -> Member {
        Member::new(cells.iter().map(|cell| cell.map(str::as_bytes)))
    }

    /// `any_of` about members of owned cells.
    fn any_of_all(columns: &[Compared], members: &[Member]) -> String {
        any_of(columns, &members.iter().collect::<Vec<_>>())
    }

    #[test]
    fn one_column_is_a_list_and_null_a_term() {
        let members = [member(&[Some("1")]), member(&[None]), member(&[Some("it's")])];
        let expected = "((\"a\" IS NULL OR \"a\" = ANY ('{\"1\",\"it''s\"}')))";
        assert_eq!(any_of_all(&compared(&["\"a\""]), &members), expected);
        assert_eq!(any_of_all(&compared(&["a"]), &[member(&[None])]), "((a IS NULL))");
    }

    #[test]
    fn what_an_array_would_read_is_escaped() {
        let members = [member(&[Some("a\"b\\c,{}")]), member(&[Some("NULL")]), member(&[Some("")])];
        let expected = r#"((a = ANY (E'{"","NULL","a\\"b\\\\c,{}"}')))"#;
        assert_eq!(any_of_all(&compared(&["a"]), &members), expected);
    }

    #[test]
    fn few_rows_are_compared_value_by_value() {
        let members = [member(&[Some("1"), None]), member(&[Some("2"), Some("\\")])];
        let expected = "((a = '1' AND b IS NULL) OR (a = '2' AND b = E'\\\\'))";
        assert_eq!(any_of_all(&compared(&["a", "b"]), &members), expected);
        assert_eq!(any_of_all(&compared(&["a"]), &[]), "(false)");
    }

    #[test]
    fn of_many_rows_each_column_is_compared_with_a_list() {
        let many = |count: usize| -> Vec<Member> {
            (0..count).map(|n| member(&[Some(&n.to_string()), (n % 2 == 0).then_some("even")])).collect()
        };
        let columns = compared(&["a", "b"]);
        assert_eq!(any_of_all(&columns, &many(TERMS_MAX)).matches(" AND ").count(), TERMS_MAX);
        let sql = any_of_all(&columns, &many(TERMS_MAX + 1));
        assert!(sql.starts_with("((a = ANY ('{\"0\",\"1\",\"10\","), "{sql}");
        assert!(sql.ends_with("\"}')) AND (b IS NULL OR b = ANY ('{\"even\"}')))"), "{sql}");
    }

    /// `int4[]` in `pg_type`.
    const INT4_ARRAY: u32 = 1007;

    /// `int4[] = ANY (…)` is no operator of Postgres.
    #[test]
    fn arrays_are_compared_one_by_one_or_not_at_all() {
        let column = Column { element_oid: oid::INT4, ..Column::new("a", INT4_ARRAY, "int4") };
        let columns = [Compared::new("a".to_owned(), &column)];
        let many = |count: usize| -> Vec<Member> {
            (0..count).map(|n| member(&[Some(&format!("{{{n}}}"))])).collect()
        };
        assert_eq!(any_of_all(&columns, &many(2)), "((a = '{0}') OR (a = '{1}'))");
        assert_eq!(any_of_all(&columns, &many(TERMS_MAX + 1)), "(true)");
    }
}

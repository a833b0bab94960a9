//! What a shape shows at one moment, small enough to be kept for every commit.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash as _, Hasher as _};

/// Names of columns that come and go during a run begin with this.
pub const EXTRA: &str = "extra";

/// Above this many rows only their digests are kept.
const ROWS_MAX: usize = 2000;

/// How many differing rows a report shows.
const DIFFERENCES_MAX: usize = 6;

/// Rows without their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    columns: BTreeSet<String>,
    count: u64,
    /// Sum of the hashes of the rows.
    whole: u64,
    /// The same, without columns that come and go.
    core: u64,
    rows: Vec<String>,
}

/// How two states differ.
#[derive(Debug, PartialEq, Eq)]
pub enum Likeness {
    /// Not at all.
    Equal,
    /// One has columns that the other does not have; all others are equal.
    OtherColumns,
    /// In rows.
    Different,
}

impl State {
    /// No rows of these columns.
    pub fn of_columns<'a>(columns: impl Iterator<Item = &'a str>) -> Self {
        Self { columns: columns.map(str::to_owned).collect(), ..Self::default() }
    }

    /// Adds a row; its cells come in the order of their columns' names.
    pub fn add<'a>(&mut self, cells: impl Iterator<Item = (&'a str, Option<&'a str>)>) {
        let (mut row, mut core) = (String::new(), DefaultHasher::new());
        for (name, value) in cells {
            let start = row.len();
            let _ = match value {
                Some(value) => write!(row, "{name}={value}\u{1f}"),
                None => write!(row, "{name}\u{1f}"),
            };
            if !name.starts_with(EXTRA) {
                row[start..].hash(&mut core);
            }
        }
        let mut whole = DefaultHasher::new();
        row.hash(&mut whole);
        self.whole = self.whole.wrapping_add(whole.finish());
        self.core = self.core.wrapping_add(core.finish());
        self.count += 1;
        if self.rows.len() < ROWS_MAX {
            self.rows.push(row);
        }
    }

    /// Compares with another one.
    pub fn likeness(&self, other: &Self) -> Likeness {
        if (self.count, self.core) != (other.count, other.core) {
            Likeness::Different
        } else if self.count > 0 && self.columns != other.columns {
            Likeness::OtherColumns
        } else if self.whole == other.whole {
            Likeness::Equal
        } else {
            Likeness::Different
        }
    }

    /// The rows that only one of both has; `None` where there are too many to tell.
    pub fn difference<'a>(&'a self, other: &'a Self) -> Option<(Vec<&'a str>, Vec<&'a str>)> {
        let is_whole = |state: &Self| state.rows.len() as u64 == state.count;
        if !is_whole(self) || !is_whole(other) {
            return None;
        }
        let (ours, theirs): (BTreeSet<&str>, BTreeSet<&str>) =
            (self.rows.iter().map(String::as_str).collect(), other.rows.iter().map(String::as_str).collect());
        Some((ours.difference(&theirs).copied().collect(), theirs.difference(&ours).copied().collect()))
    }

    /// The difference from what SQL says, for people.
    pub fn explain(&self, sql: &Self) -> String {
        let counts = format!("the client has {} rows, SQL says {}", self.count, sql.count);
        let Some((extra, missing)) = self.difference(sql) else { return counts };
        let list = |what: &str, rows: &[&str]| {
            let shown = rows.iter().take(DIFFERENCES_MAX).map(|row| shortened(row));
            let lines: String = shown.map(|row| format!("\n    {what}: {row}")).collect();
            let rest = rows.len().saturating_sub(DIFFERENCES_MAX);
            if rest > 0 { format!("{lines}\n    and {rest} more") } else { lines }
        };
        format!("{counts}{}{}", list("only the client", &extra), list("only SQL", &missing))
    }
}

fn shortened(row: &str) -> String {
    let cell = |cell: &str| match cell.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &cell[..end]),
        None => cell.to_owned(),
    };
    format!("{:?}", row.split_terminator('\u{1f}').map(cell).collect::<Vec<_>>().join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(columns: &[&str], rows: &[&[Option<&str>]]) -> State {
        let mut state = State::of_columns(columns.iter().copied());
        for row in rows {
            state.add(columns.iter().copied().zip(row.iter().copied()));
        }
        state
    }

    #[test]
    fn order_does_not_matter_and_null_is_no_text() {
        let one = state(&["a"], &[&[Some("1")], &[None]]);
        assert_eq!(one.likeness(&state(&["a"], &[&[None], &[Some("1")]])), Likeness::Equal);
        assert_eq!(one.likeness(&state(&["a"], &[&[Some("")], &[Some("1")]])), Likeness::Different);
        assert_eq!(one.likeness(&state(&["a"], &[&[None]])), Likeness::Different);
    }

    #[test]
    fn a_column_that_came_is_told_from_a_row_that_differs() {
        let before = state(&["a"], &[&[Some("1")]]);
        let after = state(&["a", "extra1"], &[&[Some("1"), None]]);
        assert_eq!(before.likeness(&after), Likeness::OtherColumns);
        assert_eq!(before.likeness(&state(&["a", "extra1"], &[&[Some("2"), None]])), Likeness::Different);
    }

    #[test]
    fn a_report_names_the_rows() {
        let text = state(&["a"], &[&[Some("1")]]).explain(&state(&["a"], &[&[Some("2")]]));
        assert!(text.contains("only the client: \"a=1\"") && text.contains("only SQL: \"a=2\""), "{text}");
    }
}

//! A change as the bytes that clients read (protocol §4).
//!
//! One [`ItemFormat`] exists per (relation, projection, replica mode); a change is encoded once per
//! format and outcome, and every shape that shares the format shares the bytes. Headers come last in an
//! item, so that `"last":true` can be spliced in before the closing braces ([`LAST_SUFFIX`]).

use crate::pg::{Relation, Row};
use crate::protocol::request::Replica;
use crate::protocol::subset::SnapshotMark;

/// The end of every item.
pub const ITEM_SUFFIX: &[u8] = b"}}";
/// The end of the last item of a transaction in one shape.
pub const LAST_SUFFIX: &[u8] = b",\"last\":true}}";

/// Where in the WAL a change stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangePosition {
    /// The transaction's commit LSN.
    pub lsn: u64,
    /// The change's number inside the transaction (protocol §3.1).
    pub op: u64,
    /// The transaction's 32-bit id.
    pub xid: u32,
}

/// Everything about an item that does not depend on the row: names, key, selected columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemFormat {
    /// `"public"."t"`, JSON-escaped, without surrounding quotes.
    key_prefix: Vec<u8>,
    /// `["public","t"]`
    relation: Vec<u8>,
    /// Positions of the key columns, in key order.
    key: Vec<usize>,
    /// [`Relation::child_position`]
    child: Option<usize>,
    /// Selected columns with their name as a JSON string and a colon.
    columns: Vec<(usize, Vec<u8>)>,
    replica: Replica,
}

impl ItemFormat {
    /// The format of items of `relation` that show the columns at `projection`.
    #[must_use]
    pub fn new(relation: &Relation, projection: &[usize], replica: Replica) -> Self {
        let mut key_prefix = Vec::new();
        escape_into(&mut key_prefix, relation.name.to_string().as_bytes());
        let mut names = Vec::new();
        names.push(b'[');
        push_json_string(&mut names, relation.name.schema.as_bytes());
        names.push(b',');
        push_json_string(&mut names, relation.name.name.as_bytes());
        names.push(b']');
        let columns = projection.iter().filter_map(|&index| {
            let mut name = Vec::new();
            push_json_string(&mut name, relation.columns.get(index)?.name.as_bytes());
            name.push(b':');
            Some((index, name))
        });
        Self {
            key_prefix,
            relation: names,
            key: relation.key_columns(),
            child: relation.child_position(),
            columns: columns.collect(),
            replica,
        }
    }

    /// Appends a row of the initial snapshot.
    pub fn push_snapshot_row(&self, out: &mut Vec<u8>, row: &impl Row) {
        self.push_head(out, row);
        self.push_row(out, row, |_| true);
        self.push_snapshot_headers(out);
        out.extend_from_slice(ITEM_SUFFIX);
    }

    /// Appends a row of a subset: as in the snapshot, with the mark of its query.
    pub fn push_subset_row(&self, out: &mut Vec<u8>, row: &impl Row, mark: SnapshotMark) {
        self.push_head(out, row);
        self.push_row(out, row, |_| true);
        self.push_snapshot_headers(out);
        out.extend_from_slice(b",\"snapshot_mark\":");
        push_decimal(out, mark.as_u64());
        out.extend_from_slice(ITEM_SUFFIX);
    }

    /// Appends a row that a move of a subquery brings in (protocol §4.8).
    pub fn push_moved_row(&self, out: &mut Vec<u8>, row: &impl Row) {
        self.push_head(out, row);
        self.push_row(out, row, |_| true);
        self.push_snapshot_headers(out);
        out.extend_from_slice(b",\"is_move_in\":true");
        out.extend_from_slice(ITEM_SUFFIX);
    }

    /// Appends an insert: the full row.
    pub fn push_insert(&self, out: &mut Vec<u8>, new: &impl Row, at: ChangePosition) {
        self.push_head(out, new);
        self.push_row(out, new, |_| true);
        self.push_change_headers(out, b"insert", at);
        out.extend_from_slice(ITEM_SUFFIX);
    }

    /// Appends an update whose key stays; false, and nothing appended, where no selected column changed.
    pub fn push_update(&self, out: &mut Vec<u8>, old: &impl Row, new: &impl Row, at: ChangePosition) -> bool {
        let changed = |column: usize| old.text(column) != new.text(column);
        if !self.columns.iter().any(|(column, _)| changed(*column)) {
            return false;
        }
        self.push_update_anyway(out, old, new, at);
        true
    }

    /// Appends an update whose key stays, even where no selected column changed: what does not show in the row
    /// may show in headers that are added.
    pub fn push_update_anyway(&self, out: &mut Vec<u8>, old: &impl Row, new: &impl Row, at: ChangePosition) {
        let changed = |column: usize| old.text(column) != new.text(column);
        self.push_head(out, new);
        match self.replica {
            Replica::Default => {
                self.push_row(out, new, |column| changed(column) || self.key.contains(&column));
            }
            Replica::Full => {
                self.push_row(out, new, |_| true);
                out.extend_from_slice(b",\"old_value\":");
                self.push_row(out, old, changed);
            }
        }
        self.push_change_headers(out, b"update", at);
        out.extend_from_slice(ITEM_SUFFIX);
    }

    /// Appends a delete: the key, or the whole old row under `replica=full`.
    pub fn push_delete(&self, out: &mut Vec<u8>, old: &impl Row, at: ChangePosition) {
        self.push_delete_row(out, old);
        self.push_change_headers(out, b"delete", at);
        out.extend_from_slice(ITEM_SUFFIX);
    }

    /// Appends the first half of a key change: the old row goes, and says where to.
    pub fn push_delete_of_key_change(
        &self,
        out: &mut Vec<u8>,
        old: &impl Row,
        new: &impl Row,
        at: ChangePosition,
    ) {
        self.push_delete_row(out, old);
        self.push_change_headers(out, b"delete", at);
        out.extend_from_slice(b",\"key_change_to\":");
        self.push_key(out, new);
        out.extend_from_slice(ITEM_SUFFIX);
    }

    /// Appends the second half of a key change: the new row comes, and says where from. Its `op` is one
    /// past the change's (protocol §4.3).
    pub fn push_insert_of_key_change(
        &self,
        out: &mut Vec<u8>,
        old: &impl Row,
        new: &impl Row,
        at: ChangePosition,
    ) {
        self.push_head(out, new);
        self.push_row(out, new, |_| true);
        self.push_change_headers(out, b"insert", ChangePosition { op: at.op + 1, ..at });
        out.extend_from_slice(b",\"key_change_from\":");
        self.push_key(out, old);
        out.extend_from_slice(ITEM_SUFFIX);
    }

    /// True where the two rows have different keys.
    pub fn key_differs(&self, old: &impl Row, new: &impl Row) -> bool {
        self.key.iter().any(|&column| old.text(column) != new.text(column))
    }

    fn push_delete_row(&self, out: &mut Vec<u8>, old: &impl Row) {
        self.push_head(out, old);
        let full = self.replica == Replica::Full;
        self.push_row(out, old, |column| full || self.key.contains(&column));
    }

    /// `{"key":…,"value":`
    fn push_head(&self, out: &mut Vec<u8>, row: &impl Row) {
        out.extend_from_slice(b"{\"key\":");
        self.push_key(out, row);
        out.extend_from_slice(b",\"value\":");
    }

    fn push_key(&self, out: &mut Vec<u8>, row: &impl Row) {
        out.push(b'"');
        out.extend_from_slice(&self.key_prefix);
        // Without quotes: no value looks like it.
        if let Some(oid) = self.child.and_then(|child| row.text(child)) {
            out.push(b'/');
            out.extend_from_slice(oid);
        }
        for &column in &self.key {
            match row.text(column) {
                None => out.extend_from_slice(b"/_"),
                Some(text) => push_key_part(out, text),
            }
        }
        out.push(b'"');
    }

    fn push_row(&self, out: &mut Vec<u8>, row: &impl Row, wanted: impl Fn(usize) -> bool) {
        out.push(b'{');
        let mut first = true;
        for (column, name) in &self.columns {
            if !wanted(*column) {
                continue;
            }
            if !first {
                out.push(b',');
            }
            first = false;
            out.extend_from_slice(name);
            match row.text(*column) {
                None => out.extend_from_slice(b"null"),
                Some(text) => push_json_string(out, text),
            }
        }
        out.push(b'}');
    }

    /// All headers of a row that was read from the table but the closing braces.
    fn push_snapshot_headers(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"headers\":{\"operation\":\"insert\",\"relation\":");
        out.extend_from_slice(&self.relation);
    }

    /// All headers of a WAL change but the closing braces.
    fn push_change_headers(&self, out: &mut Vec<u8>, operation: &[u8], at: ChangePosition) {
        out.extend_from_slice(b",\"headers\":{\"operation\":\"");
        out.extend_from_slice(operation);
        out.extend_from_slice(b"\",\"txids\":[");
        push_decimal(out, u64::from(at.xid));
        out.extend_from_slice(b"],\"relation\":");
        out.extend_from_slice(&self.relation);
        out.extend_from_slice(b",\"lsn\":\"");
        push_decimal(out, at.lsn);
        out.extend_from_slice(b"\",\"op_position\":");
        push_decimal(out, at.op);
    }
}

/// `/"text"` with every `/` doubled, as part of a JSON string.
fn push_key_part(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(b"/\\\"");
    let mut rest = text;
    while let Some(slash) = memchr::memchr(b'/', rest) {
        let (before, after) = rest.split_at(slash + 1);
        escape_into(out, before);
        out.push(b'/');
        rest = after;
    }
    escape_into(out, rest);
    out.extend_from_slice(b"\\\"");
}

fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

/// Appends `text` as a JSON string. Bytes that are not UTF-8 pass through: Postgres converts to UTF-8,
/// the client encoding of every session.
pub fn push_json_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    escape_into(out, text);
    out.push(b'"');
}

/// Appends `text` with JSON's escapes (RFC 8259 §7), copying runs that need none as a whole.
fn escape_into(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| needs_escape(byte)) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&byte, after)) = tail.split_first() else { return };
        push_escape(out, byte);
        rest = after;
    }
    out.extend_from_slice(rest);
}

const fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn push_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 0xF)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::{Column, QualifiedName, oid};
    use serde_json::{Value, json};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    struct Texts(Vec<Option<&'static str>>);

    impl Row for Texts {
        fn text(&self, column: usize) -> Option<&[u8]> {
            self.0.get(column).copied().flatten().map(str::as_bytes)
        }
    }

    fn relation() -> Relation {
        let column = |name: &str, pk_index| Column { pk_index, ..Column::new(name, oid::TEXT, "text") };
        Relation::new(
            1,
            QualifiedName::new("public", "crate"),
            vec![column("id", Some(0)), column("label", None), column("note", None)],
        )
    }

    const AT: ChangePosition = ChangePosition { lsn: 29_360_128, op: 4, xid: 90412 };

    fn parse(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    fn format(replica: Replica) -> ItemFormat {
        ItemFormat::new(&relation(), &[0, 1, 2], replica)
    }

    #[test]
    fn snapshot_rows_have_no_position() {
        let mut out = Vec::new();
        format(Replica::Default).push_snapshot_row(&mut out, &Texts(vec![Some("7"), Some("bo\"lts"), None]));
        assert_eq!(
            parse(&out),
            json!({"key": "\"public\".\"crate\"/\"7\"", "value": {"id": "7", "label": "bo\"lts", "note": null},
                "headers": {"operation": "insert", "relation": ["public", "crate"]}})
        );
    }

    #[test]
    fn rows_of_a_subset_carry_its_mark() {
        let mark = SnapshotMark::from_random(u64::MAX);
        let mut out = Vec::new();
        format(Replica::Full).push_subset_row(&mut out, &Texts(vec![Some("7"), None, None]), mark);
        assert_eq!(
            parse(&out)["headers"],
            json!({"operation": "insert", "relation": ["public", "crate"], "snapshot_mark": 2_147_483_647_u32})
        );
    }

    #[test]
    fn a_default_update_shows_key_and_changes() {
        let (old, new) =
            (Texts(vec![Some("7"), Some("a"), Some("x")]), Texts(vec![Some("7"), Some("b"), Some("x")]));
        let mut out = Vec::new();
        assert!(format(Replica::Default).push_update(&mut out, &old, &new, AT));
        assert_eq!(
            parse(&out),
            json!({"key": "\"public\".\"crate\"/\"7\"", "value": {"id": "7", "label": "b"},
                "headers": {"operation": "update", "txids": [90412], "relation": ["public", "crate"],
                    "lsn": "29360128", "op_position": 4}})
        );
    }

    #[test]
    fn a_full_update_shows_the_row_and_what_was() {
        let (old, new) =
            (Texts(vec![Some("7"), Some("a"), Some("x")]), Texts(vec![Some("7"), None, Some("x")]));
        let mut out = Vec::new();
        assert!(format(Replica::Full).push_update(&mut out, &old, &new, AT));
        let item = parse(&out);
        assert_eq!(item["value"], json!({"id": "7", "label": null, "note": "x"}));
        assert_eq!(item["old_value"], json!({"label": "a"}));
    }

    #[test]
    fn an_update_of_unselected_columns_is_nothing() {
        let format = ItemFormat::new(&relation(), &[0, 1], Replica::Default);
        let (old, new) =
            (Texts(vec![Some("7"), Some("a"), Some("x")]), Texts(vec![Some("7"), Some("a"), Some("y")]));
        let mut out = Vec::new();
        assert!(!format.push_update(&mut out, &old, &new, AT));
        assert!(out.is_empty());
    }

    #[test]
    fn a_delete_shows_the_key_or_the_row() {
        let old = Texts(vec![Some("7"), Some("a"), None]);
        let mut out = Vec::new();
        format(Replica::Default).push_delete(&mut out, &old, AT);
        assert_eq!(parse(&out)["value"], json!({"id": "7"}));
        out.clear();
        format(Replica::Full).push_delete(&mut out, &old, AT);
        assert_eq!(parse(&out)["value"], json!({"id": "7", "label": "a", "note": null}));
    }

    #[test]
    fn a_key_change_is_a_pair_that_names_each_other() {
        let (old, new) = (Texts(vec![Some("7"), Some("a"), None]), Texts(vec![Some("8"), Some("a"), None]));
        let format = format(Replica::Default);
        assert!(format.key_differs(&old, &new));
        let mut out = Vec::new();
        format.push_delete_of_key_change(&mut out, &old, &new, AT);
        let delete = parse(&out);
        assert_eq!(delete["key"], "\"public\".\"crate\"/\"7\"");
        assert_eq!(delete["headers"]["key_change_to"], "\"public\".\"crate\"/\"8\"");
        assert_eq!(delete["headers"]["op_position"], 4);
        out.clear();
        format.push_insert_of_key_change(&mut out, &old, &new, AT);
        let insert = parse(&out);
        assert_eq!(insert["headers"]["key_change_from"], "\"public\".\"crate\"/\"7\"");
        assert_eq!(insert["headers"]["op_position"], 5);
        assert_eq!(insert["value"], json!({"id": "8", "label": "a", "note": null}));
    }

    #[test]
    fn keys_double_slashes_and_mark_nulls() {
        let mut relation = relation();
        relation.columns.iter_mut().for_each(|column| column.pk_index = None);
        relation.name = QualifiedName::new("s.77a", "a/b\"c.d");
        let mut out = Vec::new();
        ItemFormat::new(&relation, &[0, 1, 2], Replica::Default)
            .push_snapshot_row(&mut out, &Texts(vec![Some("a//b\n"), None, Some("q\"")]));
        assert_eq!(parse(&out)["key"], "\"s.77a\".\"a/b\"\"c.d\"/\"a////b\n\"/_/\"q\"\"");
    }

    #[test]
    fn last_is_spliced_before_the_closing_braces() {
        let mut out = Vec::new();
        format(Replica::Default).push_insert(&mut out, &Texts(vec![Some("7"), None, None]), AT);
        assert!(out.ends_with(ITEM_SUFFIX));
        out.truncate(out.len() - ITEM_SUFFIX.len());
        out.extend_from_slice(LAST_SUFFIX);
        assert_eq!(parse(&out)["headers"]["last"], true);
    }

    #[test]
    fn strings_are_escaped_as_serde_json_does() {
        for code in 0..=0x2FF_u32 {
            let text: String = ['a', char::from_u32(code).unwrap(), 'b'].iter().collect();
            let mut out = Vec::new();
            push_json_string(&mut out, text.as_bytes());
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
        // Those that have one are written in their short form.
        for (text, escaped) in
            [("\"", r#""\"""#), ("\\", r#""\\""#), ("\n", r#""\n""#), ("\r", r#""\r""#), ("\t", r#""\t""#)]
        {
            let mut out = Vec::new();
            push_json_string(&mut out, text.as_bytes());
            assert_eq!(out, escaped.as_bytes());
        }
    }
}

//! The derived shape's messages beside those that the origin gives the same shape, over random tables, clauses, columns
//! and changes.

use super::{Base, Derivation};
use crate::filter::{Filter, Subject};
use crate::log::item::{ChangePosition, ItemFormat, LAST_SUFFIX};
use crate::pg::{Column, QualifiedName, Relation, Row, oid};
use crate::protocol::query::Query;
use crate::protocol::request::{DefinitionRequest, Replica, read_definition};
use crate::shape::schema_header::schema_header;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Ten thousand take seconds where the code is optimised.
const CASES: u64 = if cfg!(debug_assertions) { 1_000 } else { 10_000 };

const CLAUSES: [&str; 18] = [
    "a = 1",
    "a > 1",
    "a IS NULL",
    "a IN (0, 2) AND c",
    "NOT c",
    "b = 'x'",
    "b LIKE '%\"%'",
    "b <> E'\\\\' AND a < 3",
    "b IS NOT NULL OR a = 2",
    "t.a BETWEEN 1 AND 2",
    "n > 1.5",
    "n * a = 2",
    "coalesce(a, 2) = 2",
    "l @> '{1}'",
    "2 = ANY (l)",
    "k = 1",
    "k <> 2 AND (a = 1 OR c)",
    "true",
];

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }
}

type Cells = Vec<Option<&'static str>>;

struct Texts(Cells);

impl Row for Texts {
    fn text(&self, column: usize) -> Option<&[u8]> {
        self.0.get(column).copied().flatten().map(str::as_bytes)
    }
}

/// A table, two shapes of it, and what both logs have come to.
struct Case {
    relation: Relation,
    base: ItemFormat,
    narrow: ItemFormat,
    filter: Option<Filter>,
    base_filter: Option<Filter>,
    base_messages: Vec<Vec<u8>>,
    narrow_messages: Vec<Vec<u8>>,
}

fn relation(random: &mut Random) -> Relation {
    let mut k = Column::new("k", oid::INT4, "int4");
    let has_key = random.below(4) > 0;
    k.pk_index = has_key.then_some(0);
    let mut s = Column::new("s/\"", oid::TEXT, "text");
    s.pk_index = (has_key && random.below(2) == 0).then_some(1);
    let list = Column { type_oid: 1_007, dims: 1, ..Column::new("l", oid::INT4, "int4") };
    let columns = vec![
        Column::new("n", oid::NUMERIC, "numeric"),
        k,
        Column::new("a", oid::INT4, "int4"),
        Column::new("b", oid::TEXT, "text"),
        s,
        Column::new("c", oid::BOOL, "bool"),
        list,
        Column::new("mood", 70_000, "mood"),
    ];
    Relation::new(1, QualifiedName::new("public", "t"), columns)
}

fn row(random: &mut Random) -> Cells {
    vec![
        random.pick(&[None, Some("1.50"), Some("2")]),
        random.pick(&[Some("1"), Some("2"), Some("3")]),
        random.pick(&[None, Some("0"), Some("1"), Some("2"), Some("3")]),
        random.pick(&[None, Some("x"), Some("\"ä\n"), Some("\\"), Some("}{,]")]),
        random.pick(&[Some("p"), Some("q/r"), Some("\"")]),
        random.pick(&[None, Some("t"), Some("f")]),
        random.pick(&[None, Some("{}"), Some("{1,2}"), Some("{2}")]),
        random.pick(&[None, Some("ok")]),
    ]
}

/// Some of the columns, the key among them; nothing for all.
fn columns(random: &mut Random, relation: &Relation) -> Option<Vec<String>> {
    if random.below(2) == 0 {
        return None;
    }
    let key: BTreeSet<usize> = relation.key_columns().into_iter().collect();
    let all = relation.columns.iter().enumerate();
    let chosen = all.filter(|(index, _)| key.contains(index) || random.below(2) == 0);
    Some(chosen.map(|(_, column)| column.name.clone()).collect())
}

fn positions(relation: &Relation, names: Option<&[String]>) -> Vec<usize> {
    let is_shown = |column: &Column| names.is_none_or(|names| names.contains(&column.name));
    let all = relation.columns.iter().enumerate();
    all.filter(|(_, column)| is_shown(column)).map(|(index, _)| index).collect()
}

/// The messages that the origin sends of a change to a shape, as `shape::routing` and `shape::encode` have it.
fn encode(
    format: &ItemFormat,
    filter: Option<&Filter>,
    (old, new): (Option<&Texts>, Option<&Texts>),
    at: ChangePosition,
    out: &mut Vec<Vec<u8>>,
) {
    let belongs = |row: &&Texts| filter.is_none_or(|filter| filter.evaluate(*row).unwrap() == Some(true));
    let mut push = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut item = Vec::new();
        write(&mut item);
        if !item.is_empty() {
            out.push(item);
        }
    };
    match (old.filter(belongs), new.filter(belongs)) {
        (None, None) => {}
        (None, Some(new)) => push(&|item| format.push_insert(item, new, at)),
        (Some(old), None) => push(&|item| format.push_delete(item, old, at)),
        (Some(old), Some(new)) if format.key_differs(old, new) => {
            push(&|item| format.push_delete_of_key_change(item, old, new, at));
            push(&|item| format.push_insert_of_key_change(item, old, new, at));
        }
        (Some(old), Some(new)) => push(&|item| _ = format.push_update(item, old, new, at)),
    }
}

impl Case {
    fn snapshot(&mut self, rows: &[Cells]) {
        let shapes = [
            (&self.base, &self.base_filter, &mut self.base_messages),
            (&self.narrow, &self.filter, &mut self.narrow_messages),
        ];
        for (format, filter, out) in shapes {
            for row in rows.iter().map(|row| Texts(row.clone())) {
                if filter.as_ref().is_none_or(|filter| filter.evaluate(&row).unwrap() == Some(true)) {
                    let mut item = Vec::new();
                    format.push_snapshot_row(&mut item, &row);
                    out.push(item);
                }
            }
            out.push(
                br#"{"headers":{"control":"snapshot-end","xmin":"1","xmax":"2","xip_list":[]}}"#.to_vec(),
            );
        }
    }

    fn change(&mut self, old: Option<&Cells>, new: Option<&Cells>, at: ChangePosition) {
        let (old, new) = (old.cloned().map(Texts), new.cloned().map(Texts));
        let rows = (old.as_ref(), new.as_ref());
        encode(&self.base, self.base_filter.as_ref(), rows, at, &mut self.base_messages);
        encode(&self.narrow, self.filter.as_ref(), rows, at, &mut self.narrow_messages);
    }

    /// The key of a row, which no two rows of a table have in common.
    fn key(&self, row: &Cells) -> Cells {
        self.relation.key_columns().into_iter().map(|column| row[column]).collect()
    }
}

/// Marks the last message of each transaction, as the log does.
fn mark_last(messages: &mut [Vec<u8>]) {
    let lsn = |message: &[u8]| -> Option<String> {
        let message: Value = serde_json::from_slice(message).unwrap();
        Some(message["headers"]["lsn"].as_str()?.to_owned())
    };
    let lsns: Vec<Option<String>> = messages.iter().map(|message| lsn(message)).collect();
    for (index, message) in messages.iter_mut().enumerate() {
        if lsns[index].is_some() && lsns.get(index + 1).is_none_or(|next| *next != lsns[index]) {
            message.truncate(message.len() - 2);
            message.extend_from_slice(LAST_SUFFIX);
        }
    }
}

fn definition(query: &str) -> DefinitionRequest {
    read_definition(&Query::parse(query).unwrap()).unwrap()
}

/// A random history of a table whose base is narrowed to what a random request asks for.
fn case(random: &mut Random) -> (Case, Derivation) {
    let relation = relation(random);
    let base_columns = columns(random, &relation);
    let visible = positions(&relation, base_columns.as_deref());
    let visible_columns: Vec<Column> = visible.iter().map(|index| relation.columns[*index].clone()).collect();
    let parse = |clause: &str, columns: &[Column]| {
        Filter::parse_about(clause, &BTreeMap::new(), Subject { name: Some(&relation.name), columns })
    };
    let base_clause = (random.below(3) == 0).then(|| random.pick(&CLAUSES));
    let base_clause = base_clause.filter(|clause| parse(clause, &visible_columns).is_ok());
    let clauses: Vec<&str> =
        CLAUSES.into_iter().filter(|clause| parse(clause, &visible_columns).is_ok()).collect();
    let clause = (random.below(5) > 0).then(|| random.pick(&clauses));
    let clause = match (base_clause, clause) {
        (Some(base), Some(clause)) => Some(format!("({base}) AND ({clause})")),
        (base, clause) => base.or(clause).map(str::to_owned),
    };
    let mut wanted = definition("table=t");
    wanted.where_clause = clause.clone();
    wanted.replica = random.pick(&[Replica::Default, Replica::Full]);
    let chosen = columns(random, &relation);
    wanted.columns = chosen.map(|chosen| {
        let is_visible = |name: &String| visible_columns.iter().any(|column| column.name == *name);
        chosen.into_iter().filter(is_visible).collect()
    });
    if wanted.columns.is_none() {
        wanted.columns.clone_from(&base_columns);
    }
    let base = Base {
        table: relation.name.clone(),
        columns: base_columns,
        where_clause: base_clause.map(str::to_owned),
    };
    let schema = schema_header(&visible_columns);
    let derivation = Derivation::new(&base, &wanted, &schema).unwrap();
    let shown = positions(&relation, wanted.columns.as_deref());
    let told = schema_header(shown.iter().map(|index| &relation.columns[*index]));
    let parsed = |header: &str| -> Value { serde_json::from_str(header).unwrap() };
    assert_eq!(parsed(derivation.schema()), parsed(&told));
    let whole = |clause: Option<&str>| clause.map(|clause| parse(clause, &relation.columns).unwrap());
    let case = Case {
        base: ItemFormat::new(&relation, &visible, Replica::Full),
        narrow: ItemFormat::new(&relation, &shown, wanted.replica),
        filter: whole(clause.as_deref()),
        base_filter: whole(base_clause),
        relation,
        base_messages: Vec::new(),
        narrow_messages: Vec::new(),
    };
    (case, derivation)
}

fn play(case: &mut Case, random: &mut Random) {
    let mut rows: Vec<Cells> = Vec::new();
    for _ in 0..random.below(4) {
        let row = row(random);
        if rows.iter().all(|known| case.key(known) != case.key(&row)) {
            rows.push(row);
        }
    }
    case.snapshot(&rows);
    let mut at = ChangePosition { lsn: 100, op: 0, xid: 7 };
    for _ in 0..6 + random.below(10) {
        if random.below(2) == 0 {
            at = ChangePosition { lsn: at.lsn + 8, op: 0, xid: at.xid + 1 };
        }
        let mut new = row(random);
        let which = if rows.is_empty() { None } else { Some(random.below(rows.len() as u64) as usize) };
        match (random.below(5), which) {
            (0, Some(which)) => {
                let old = rows.swap_remove(which);
                case.change(Some(&old), None, at);
            }
            (1..=3, Some(which)) => {
                // Some columns stay as they are, most often the key.
                let old = rows[which].clone();
                for (column, cell) in new.iter_mut().enumerate() {
                    let is_key = case.relation.columns[column].pk_index.is_some();
                    if random.below(2) == 0 || is_key && random.below(4) > 0 {
                        *cell = old[column];
                    }
                }
                let others = rows.iter().enumerate().filter(|(index, _)| *index != which);
                if others.into_iter().all(|(_, known)| case.key(known) != case.key(&new)) {
                    case.change(Some(&old), Some(&new), at);
                    rows[which] = new;
                }
            }
            _ => {
                if rows.iter().all(|known| case.key(known) != case.key(&new)) {
                    case.change(None, Some(&new), at);
                    rows.push(new);
                }
            }
        }
        at.op += 2;
    }
    mark_last(&mut case.base_messages);
}

/// A message but for what names its place in the log: half of a pair has the other half's place, and what ends a
/// transaction depends on what is shown.
fn placeless(message: &[u8]) -> Value {
    let mut message: Value = serde_json::from_slice(message).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(message));
    });
    if let Some(headers) = message["headers"].as_object_mut() {
        headers.remove("op_position");
        headers.remove("last");
    }
    message
}

/// The rows that a client has at the end, and that nothing comes that is there, or goes or changes that is not.
fn materialised<'a>(messages: impl IntoIterator<Item = &'a Value>) -> BTreeMap<String, Value> {
    let mut rows: BTreeMap<String, Value> = BTreeMap::new();
    for message in messages {
        let Some(key) = message["key"].as_str() else { continue };
        match message["headers"]["operation"].as_str().unwrap() {
            "insert" => assert_eq!(rows.insert(key.to_owned(), message["value"].clone()), None),
            "delete" => assert_ne!(rows.remove(key), None),
            _ => {
                let row = rows.get_mut(key).unwrap().as_object_mut().unwrap();
                row.extend(message["value"].as_object().unwrap().clone());
            }
        }
    }
    rows
}

#[test]
fn derived_messages_are_those_of_the_origin() {
    for seed in 1..=CASES {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (mut case, mut derivation) = case(&mut random);
        play(&mut case, &mut random);
        let mut derived = Vec::new();
        let mut each = |message: &[u8]| derived.push(placeless(message));
        for message in &case.base_messages {
            derivation.map(message, &mut each).unwrap();
        }
        derivation.end(&mut each);
        let expected: Vec<Value> = case.narrow_messages.iter().map(|message| placeless(message)).collect();
        assert_eq!(derived, expected, "seed {seed}");
        assert_eq!(materialised(&derived), materialised(&expected), "seed {seed}");
        let body = derivation.body(case.base_messages.iter().map(Vec::as_slice)).unwrap();
        let body: Vec<Value> = serde_json::from_slice(&body.unwrap()).unwrap();
        assert_eq!(body.len(), expected.len(), "seed {seed}");
    }
}

//! Clauses and rows that look random, of few values, so that they meet often.

use crate::pg::{Collation, Column, TypeKind, Typing, oid};

const MOOD: u32 = 20_001;
const INT4_ARRAY: u32 = 1007;
const TEXT_ARRAY: u32 = 1009;

/// A column: name, type, element, the type's name, texts that its values have, and that clauses compare with.
pub(super) type Kind = (&'static str, u32, u32, &'static str, &'static [&'static str]);

pub(super) const KINDS: &[Kind] = &[
    ("id", oid::INT4, oid::INT4, "int4", &["1"]),
    ("i", oid::INT4, oid::INT4, "int4", &["-2147483648", "-1", "0", "1", "2", "3", "5", "2147483647"]),
    (
        "b",
        oid::INT8,
        oid::INT8,
        "int8",
        &["-5", "0", "1", "2", "9223372036854775807", "-9223372036854775808"],
    ),
    (
        "n",
        oid::NUMERIC,
        oid::NUMERIC,
        "numeric",
        &["-1.50", "-1.5", "0", "0.00", "1", "1.0", "1.50", "10", "100.00", "1e2", "NaN", "Infinity"],
    ),
    (
        "x",
        oid::FLOAT8,
        oid::FLOAT8,
        "float8",
        &["-Infinity", "-1.5", "-0", "0", "1", "1e300", "Infinity", "NaN"],
    ),
    ("t", oid::TEXT, oid::TEXT, "text", TEXTS),
    ("v", oid::VARCHAR, oid::VARCHAR, "varchar", TEXTS),
    ("l", oid::TEXT, oid::TEXT, "text", TEXTS),
    ("p", oid::BPCHAR, oid::BPCHAR, "bpchar", &["", "a", "a ", "a   ", "ab  ", "abc", "B   "]),
    ("f", oid::BOOL, oid::BOOL, "bool", &["t", "f"]),
    ("d", oid::DATE, oid::DATE, "date", &["2024-02-28", "2024-02-29", "2024-03-01", "infinity", "-infinity"]),
    (
        "ts",
        oid::TIMESTAMP,
        oid::TIMESTAMP,
        "timestamp",
        &["2024-02-29 00:00:00", "2024-02-28 23:59:59.999999", "2024-03-01 12:00:00", "infinity"],
    ),
    (
        "tz",
        oid::TIMESTAMPTZ,
        oid::TIMESTAMPTZ,
        "timestamptz",
        &[
            "2024-02-29 00:00:00+00",
            "2024-02-29 02:00:00+02",
            "2024-02-28 23:00:00-01",
            "2024-03-01 00:00:00+00",
        ],
    ),
    ("k", oid::TIME, oid::TIME, "time", &["00:00:00", "10:30:00", "24:00:00"]),
    (
        "u",
        oid::UUID,
        oid::UUID,
        "uuid",
        &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12"],
    ),
    ("g", oid::INTERVAL, oid::INTERVAL, "interval", &["1 day", "24:00:00", "1 mon", "30 days"]),
    (
        "ia",
        INT4_ARRAY,
        oid::INT4,
        "int4",
        &["{}", "{1}", "{1,2}", "{2,NULL}", "{{1,2},{3,5}}", "[0:1]={3,1}"],
    ),
    ("ta", TEXT_ARRAY, oid::TEXT, "text", &["{}", "{a}", "{a,ab}", "{NULL}", "{\"a \",b}", "{\"\"}"]),
    ("e", MOOD, MOOD, "mood", &["sad", "ok", "happy"]),
];

const TEXTS: &[&str] =
    &["", "a", "A", "ab", "abc", "Abcd", "a ", "a%c", "b", "xabcx", "é", "É", "aéb", "ABCABC", "\u{10ffff}"];

const PATTERNS: &[&str] = &[
    "%", "", "a", "a%", "ab%", "abc%", "%a", "%b%", "%abc%", "%bc%", "a_c%", "%a%c%", "_", "%é%", "É%", "A%",
    r"a\%c", r"a\%%", "%X%", "abc_", "%_%",
];

/// Numbers that look random.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % count
    }

    pub(super) fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

pub(super) fn columns() -> Vec<Column> {
    let column = |(index, (name, type_oid, element_oid, type_name, _)): (usize, &Kind)| {
        let kind = match *name {
            "e" => TypeKind::Enum { labels: ["sad", "ok", "happy"].map(str::to_owned).to_vec() },
            _ => TypeKind::Base,
        };
        let collation = if *name == "l" { Collation::Linguistic } else { Collation::CodePoint };
        Column {
            element_oid: *element_oid,
            dims: u32::from(type_oid != element_oid),
            typing: Typing { schema: "public".to_owned(), kind, collation, ..Typing::default() },
            pk_index: (index == 0).then_some(0),
            not_null: index == 0,
            ..Column::new(*name, *type_oid, *type_name)
        }
    };
    KINDS.iter().enumerate().map(column).collect()
}

/// A clause, of several levels.
pub(super) fn clause(random: &mut Random, levels: usize) -> String {
    if levels == 0 || random.chance(3) {
        return term(random);
    }
    let arm = |random: &mut Random| format!("({})", clause(random, levels - 1));
    match random.below(8) {
        0 | 1 => format!("{} AND {}", arm(random), arm(random)),
        2 => format!("{} AND {} AND {}", arm(random), arm(random), arm(random)),
        3 | 4 => format!("{} OR {}", arm(random), arm(random)),
        5 => format!("NOT {}", arm(random)),
        6 => format!("{} {}", arm(random), random.of(&["IS TRUE", "IS NOT TRUE", "IS FALSE", "IS UNKNOWN"])),
        _ => format!("{} {}", arm(random), random.of(&["IS NOT FALSE", "IS NOT UNKNOWN", "IS NULL"])),
    }
}

fn term(random: &mut Random) -> String {
    let kind = random.of(KINDS);
    match random.below(12) {
        0 => composite(random),
        1 | 2 => like(random),
        3 => array(random),
        4 => odd(random),
        5 => random
            .of(&["f", "NOT f", "f IS TRUE", "f IS NOT TRUE", "f IS UNKNOWN", "f = true", "f <> false"])
            .to_owned(),
        6 => {
            let test =
                random.of(&["IS NULL", "IS NOT NULL", "IS NOT DISTINCT FROM NULL", "IS DISTINCT FROM NULL"]);
            format!("{} {test}", kind.0)
        }
        _ => comparison(random, &kind),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn literal(random: &mut Random, kind: &Kind) -> String {
    if random.chance(12) { "NULL".to_owned() } else { quoted(random.of(kind.4)) }
}

fn literals(random: &mut Random, kind: &Kind) -> String {
    let count = 1 + random.below(4);
    (0..count).map(|_| literal(random, kind)).collect::<Vec<_>>().join(", ")
}

fn comparison(random: &mut Random, kind: &Kind) -> String {
    let (name, op) = (kind.0, random.of(&["=", "=", "=", "<", "<=", ">", ">=", "<>"]));
    let value = literal(random, kind);
    let not = random.of(&["", "", "NOT "]);
    match random.below(8) {
        0..=2 => format!("{name} {op} {value}"),
        3 => format!("{value} {op} {name}"),
        4 => format!("{name} {not}IN ({})", literals(random, kind)),
        5 => {
            let symmetric = random.of(&["", "", "SYMMETRIC "]);
            format!("{name} {not}BETWEEN {symmetric}{value} AND {}", literal(random, kind))
        }
        6 => {
            let (op, of) = random.of(&[("=", "ANY"), ("=", "ANY"), ("<>", "ALL"), ("<", "ANY")]);
            format!("{name} {op} {of} (ARRAY[{}])", literals(random, kind))
        }
        _ => format!("{name} IS {not}DISTINCT FROM {value}"),
    }
}

fn composite(random: &mut Random) -> String {
    let [a, b] = [random.of(KINDS), random.of(KINDS)];
    let [left, right] = [literal(random, &a), literal(random, &b)];
    match random.below(4) {
        0 => format!("({}, {}) = ({left}, {right})", a.0, b.0),
        1 => format!("({}, {}) {} ({left}, {right})", a.0, b.0, random.of(&["<", ">=", ">", "<="])),
        2 => format!(
            "({}, {}) IN (({left}, {right}), ({}, {}))",
            a.0,
            b.0,
            literal(random, &a),
            literal(random, &b)
        ),
        _ => format!("{} = {left} AND {} = {right}", a.0, b.0),
    }
}

fn like(random: &mut Random) -> String {
    let column = random.of(&["t", "t", "v", "p", "l", "lower(t)"]);
    let pattern = quoted(random.of(PATTERNS));
    match random.below(10) {
        0 => format!("{column} NOT LIKE {pattern}"),
        1 => format!("{column} NOT ILIKE {pattern}"),
        2..=5 => format!("{column} LIKE {pattern}"),
        6 | 7 => format!("{column} ILIKE {pattern}"),
        8 => format!("{column} ^@ {}", quoted(random.of(TEXTS))),
        _ => format!("{column} LIKE ANY (ARRAY[{pattern}, {}])", quoted(random.of(PATTERNS))),
    }
}

fn array(random: &mut Random) -> String {
    let name = random.of(&["ia", "ta"]);
    let (ints, texts) = (random.of(&["1", "2", "5", "NULL"]), random.of(&["a", "ab", "a ", ""]));
    let element = if name == "ia" { ints.to_owned() } else { quoted(texts) };
    let all = KINDS.iter().find(|kind| kind.0 == name).map_or(&[][..], |kind| kind.4);
    let constant = quoted(random.of(all));
    match random.below(7) {
        0 => format!("{element} = ANY ({name})"),
        1 => format!("{name} {} {constant}", random.of(&["=", "<", "<>"])),
        2 => format!("{constant} <@ {name}"),
        3 => format!("{name} <@ {constant}"),
        4 => format!("{name} && {constant}"),
        5 => format!("{element} = ALL ({name})"),
        _ => format!("{name} @> {constant}"),
    }
}

/// Other expressions, and operands of several types.
fn odd(random: &mut Random) -> String {
    let op = random.of(&["=", "=", "<", ">", ">=", "<>"]);
    let term = random.of(&[
        "i {} 1.0",
        "i {} 1.5::float8",
        "b {} 1.5",
        "n {} 1",
        "n {} 1::float8",
        "x {} 1.50",
        "d {} '2024-02-29 00:00:00'::timestamp",
        "ts {} '2024-02-29'::date",
        "p {} 'a'::text",
        "p {} 'a  '::varchar",
        "v {} 'a '::bpchar",
        "t {} 'a '::bpchar",
        "lower(t) {} 'ab'",
        "lower(v) {} 'abc'",
        "i % 3 {} 1",
        "i::int8 + b % 5 {} 3",
        "length(t) {} 2",
        "coalesce(i, 0) {} 0",
        "t {} v",
        "i {} b",
        "ia[1] {} 1",
        "extract(year from d) {} 2024",
        "upper(t) || 'x' {} 'ABx'",
        "i::text {} '1'",
        "CASE WHEN f THEN i ELSE 0 END {} 1",
        "(i = 1) {} f",
    ]);
    term.replace("{}", op)
}

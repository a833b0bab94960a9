//! Types of columns: values that are likely to be told apart wrongly, and conditions on them.

use limn_tests::Random;

/// A type, with what is needed to write about it.
#[derive(Debug)]
pub struct Kind {
    /// As Postgres calls it.
    pub sql: &'static str,
    values: &'static [&'static str],
    /// Conditions; `{c}` is the column, `{v}` a value.
    conditions: &'static [&'static str],
}

/// The types that every database has besides Postgres's own.
pub const DEFINITIONS: &str = "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
    CREATE TYPE pair AS (a int4, b text); CREATE DOMAIN short AS varchar(9);
    CREATE TYPE tone AS ENUM ('low', 'mid', 'high', 'old'); CREATE DOMAIN feeling AS tone;
    CREATE TYPE couple AS (a int4, b text); CREATE DOMAIN brief AS varchar(9)";

const TEXTS: &[&str] = &[
    "",
    "a",
    "b",
    "ab",
    "abc",
    "ABC",
    "abc ",
    "a%c",
    "a_c",
    "a\\c",
    "a\nc",
    "a\tb",
    "äöü",
    "日本",
    "it's",
    "x\"y",
    "a/b",
    "a//b",
    "_",
    "null",
    "NULL",
    "{}",
    "a,b",
    "\u{1F980}",
    "\r\n",
    "ok",
];

const WHOLE: Kind = Kind {
    sql: "int4",
    values: &["0", "1", "2", "3", "5", "8", "13", "-1", "-30", "40", "1000"],
    conditions: &[
        "{c} = {v}",
        "{c} > {v}",
        "{c} <= {v}",
        "{c} <> {v}",
        "{c} IN ({v}, {v}, {v})",
        "{c} NOT IN ({v}, {v})",
        "{c} BETWEEN {v} AND {v}",
        "{c} % 3 = 1",
        "{c} + 1 < {v}",
        "{c} IS DISTINCT FROM {v}",
        "{c} = ANY ('{1,2,3,NULL}')",
    ],
};

const TEXT: Kind = Kind {
    sql: "text",
    values: TEXTS,
    conditions: &[
        "{c} = {v}",
        "{c} <> {v}",
        "{c} >= {v}",
        "{c} LIKE 'a%'",
        "{c} NOT LIKE '%b%'",
        "{c} ILIKE 'AB_'",
        "{c} IN ({v}, {v})",
        "lower({c}) = 'abc'",
        "length({c}) > 2",
        "{c} || 'x' > {v}",
        "{c} IS NOT DISTINCT FROM {v}",
    ],
};

/// What columns other than keys are.
pub const KINDS: &[Kind] = &[
    WHOLE,
    TEXT,
    Kind {
        sql: "int8",
        values: &[
            "0",
            "1",
            "-2",
            "3000000000",
            "9007199254740993",
            "9223372036854775807",
            "-9223372036854775808",
        ],
        conditions: &["{c} = {v}", "{c} >= {v}", "{c} < {v}", "{c} IN ({v}, {v})"],
    },
    Kind {
        sql: "numeric",
        values: &[
            "0",
            "1",
            "1.50",
            "1.5",
            "-2.25",
            "0.1",
            "123456789012345678901234567890.5",
            "NaN",
            "Infinity",
            "0.000000001",
        ],
        conditions: &["{c} = {v}", "{c} > {v}", "{c} <= 1.5", "{c} * 2 > {v}", "{c} BETWEEN -1 AND {v}"],
    },
    Kind {
        sql: "numeric(8,2)",
        values: &["0", "1.5", "-2.25", "99.99", "2.5", "100000"],
        conditions: &["{c} = {v}", "{c} < 10", "{c} + 1 > {v}"],
    },
    Kind {
        sql: "float8",
        values: &["0", "-0", "1.5", "-2.5", "0.1", "1e10", "1e-7", "NaN", "Infinity", "-Infinity"],
        conditions: &["{c} = {v}", "{c} > {v}", "{c} <= 0.1"],
    },
    Kind {
        sql: "bool",
        values: &["t", "f"],
        conditions: &["{c}", "NOT {c}", "{c} IS NOT TRUE", "{c} = {v}", "{c} IS UNKNOWN"],
    },
    Kind {
        sql: "varchar(20)",
        values: TEXTS,
        conditions: &["{c} = {v}", "{c} < {v}", "{c} LIKE '%b'", "{c} <> 'a'"],
    },
    Kind {
        sql: "char(5)",
        values: &["", "a", "abc", "ab c", "äö", " x"],
        conditions: &["{c} = {v}", "{c} > {v}"],
    },
    Kind {
        sql: "uuid",
        values: &[
            "00000000-0000-0000-0000-000000000000",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ],
        conditions: &["{c} = {v}", "{c} > {v}", "{c} IN ({v}, {v})"],
    },
    Kind {
        sql: "date",
        values: &["2026-01-31", "2024-02-29", "1999-12-31", "0044-03-15 BC", "infinity", "-infinity"],
        conditions: &["{c} = {v}", "{c} > {v}", "{c} <> {v}", "{c} + 1 > {v}"],
    },
    Kind {
        sql: "timestamp",
        values: &[
            "2026-01-31 10:00",
            "2026-02-28 23:59:59.999999",
            "0044-03-15 12:00 BC",
            "infinity",
            "1999-12-31",
        ],
        conditions: &["{c} = {v}", "{c} < {v}", "{c} IS DISTINCT FROM {v}"],
    },
    Kind {
        sql: "timestamptz",
        values: &[
            "2026-01-31 10:00+00",
            "2026-01-31 11:00+01",
            "1999-12-31 00:00-08",
            "-infinity",
            "0044-03-15 12:00:00+00 BC",
        ],
        conditions: &["{c} = {v}", "{c} >= {v}", "{c} <> {v}"],
    },
    Kind {
        sql: "interval",
        values: &["0", "1 day", "24 hours", "1 mon", "30 days", "-1 year -2 mons +3 days -04:05:06.789"],
        conditions: &["{c} = {v}", "{c} > {v}"],
    },
    Kind {
        sql: "jsonb",
        values: &[
            "{}",
            "null",
            "[1, 2, {\"a\": null}]",
            "{\"a\": 1, \"b\": [\"x\", \"é\\n\"]}",
            "{\"a\": \"1\"}",
            "1.50",
            "\"a\\\\b\"",
        ],
        conditions: &["{c} ->> 'a' = '1'", "{c} @> '{\"a\": 1}'", "{c} = {v}", "{c} ? 'b'"],
    },
    Kind {
        sql: "json",
        values: &["{\"a\" : 1}", "[ 1,  2 ]", "\"é\\n\""],
        conditions: &["{c} ->> 'a' = '1'"],
    },
    Kind { sql: "bytea", values: &["\\x", "\\x00ff", "\\x616263"], conditions: &["{c} = {v}", "{c} > {v}"] },
    Kind {
        sql: "int4[]",
        values: &["{}", "{1,2,3}", "{4}", "{NULL,1}", "{{1,2},{3,4}}", "[0:1]={7,8}"],
        conditions: &[
            "{c} @> '{1}'",
            "{c} && '{1,4}'",
            "3 = ANY ({c})",
            "cardinality({c}) > 1",
            "{c} = {v}",
            "{c}[1] = 1",
        ],
    },
    Kind {
        sql: "text[]",
        values: &[
            "{}",
            "{a,b}",
            "{\"a b\",\"x,y\",\"q\\\"t\",\"back\\\\s\",NULL,\"NULL\",\"\"}",
            "{{a,b},{c,d}}",
        ],
        conditions: &["{c} @> '{a}'", "'b' = ANY ({c})", "{c} && '{c,\"a b\"}'"],
    },
    Kind {
        sql: "mood",
        values: &["sad", "ok", "happy"],
        conditions: &["{c} = {v}", "{c} > 'sad'", "{c}::text LIKE 'h%'", "{c} IN ({v}, {v})"],
    },
    Kind {
        sql: "inet",
        values: &["10.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32"],
        conditions: &["{c} = {v}", "{c} < {v}"],
    },
    Kind { sql: "pair", values: &["(1,x)", "(2,)", "(,\"a b\")"], conditions: &[] },
    Kind { sql: "short", values: &["a", "abc", ""], conditions: &["{c} = {v}", "{c} LIKE 'a%'"] },
    Kind { sql: "int4range", values: &["[1,5)", "empty", "(,)"], conditions: &[] },
];

/// What columns of keys are; their values never run out.
pub const KEY_KINDS: &[Kind] = &[
    WHOLE,
    TEXT,
    Kind { sql: "int8", values: &[], conditions: &["{c} < {v}", "{c} = {v}", "{c} > {v}"] },
    Kind { sql: "uuid", values: &[], conditions: &["{c} > {v}", "{c} < {v}"] },
    Kind { sql: "numeric", values: &["1", "1.0", "1.00", "2", "2.50"], conditions: &["{c} > {v}"] },
    Kind { sql: "date", values: &[], conditions: &["{c} > {v}", "{c} = {v}"] },
    Kind { sql: "bool", values: &["t", "f"], conditions: &["{c}", "NOT {c}"] },
];

/// The last of them, which makes a key of two columns and few values.
pub const BOOLEAN_KEY: &Kind = &Kind { sql: "bool", values: &["t", "f"], conditions: &["{c}", "NOT {c}"] };

/// The type of a column that distinguishes the rows of a table without a key.
pub const DISTINCT: &Kind = &WHOLE;

/// How many values a key's column takes; small enough that writers meet each other.
const KEYS: u64 = 40;

impl Kind {
    /// A type, values, and conditions in which `{c}` is the column and `{v}` a value.
    pub const fn of(
        sql: &'static str,
        values: &'static [&'static str],
        conditions: &'static [&'static str],
    ) -> Self {
        Self { sql, values, conditions }
    }

    /// A value as a literal of SQL, sometimes NULL.
    pub fn nullable(&self, random: &mut Random) -> String {
        if random.below(6) == 0 { "NULL".to_owned() } else { self.value(random) }
    }

    /// A value as a literal of SQL. A text is now and then so long that Postgres stores it apart from its row.
    pub fn value(&self, random: &mut Random) -> String {
        if self.sql == "text" && random.below(8) == 0 {
            let from = random.below(50);
            return format!(
                "(SELECT string_agg(md5(i::text), '') FROM generate_series({from}, {from} + 120) i)"
            );
        }
        quoted(random.choice::<&str>(self.values))
    }

    /// A value of a key, likewise.
    pub fn key_value(&self, random: &mut Random) -> String {
        let number = random.below(KEYS);
        match self.sql {
            "int4" | "int8" => number.to_string(),
            "uuid" => format!("'00000000-0000-4000-8000-{number:012x}'"),
            "date" => format!("'2026-02-{:02}'", 1 + number % 28),
            "text" => {
                let text = random.choice::<&str>(self.values);
                quoted(&if random.below(2) == 0 { format!("{text}{number}") } else { (*text).to_owned() })
            }
            _ => quoted(random.choice::<&str>(self.values)),
        }
    }

    /// A condition on a column of this type.
    pub fn condition(&self, column: &str, is_key: bool, random: &mut Random) -> String {
        if self.conditions.is_empty() || random.below(10) == 0 {
            return format!("{column} {}", random.choice(&["IS NULL", "IS NOT NULL"]));
        }
        let mut text = random.choice::<&str>(self.conditions).replace("{c}", column);
        while text.contains("{v}") {
            let value = self.constant(is_key, random);
            text = text.replacen("{v}", &value, 1);
        }
        text
    }

    /// A value that may stand in a clause.
    pub fn constant(&self, is_key: bool, random: &mut Random) -> String {
        if is_key { self.key_value(random) } else { quoted(random.choice::<&str>(self.values)) }
    }
}

/// `text` as a literal.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

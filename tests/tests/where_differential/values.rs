//! Values that are likely to be told apart wrongly: edges of types, odd texts, NULLs in arrays.

use limn_tests::Random;

/// A column of the random table.
pub struct Column {
    pub name: &'static str,
    pub sql_type: &'static str,
    /// Values as Postgres reads them, without quotes.
    pub values: &'static [&'static str],
}

const SMALL: &[&str] = &["0", "1", "2", "-1", "3", "7", "10", "-30", "100"];
const INTS: &[&str] = &["0", "1", "2", "3", "-1", "-30", "10", "12", "1000", "2147483647", "-2147483648"];
const BIGS: &[&str] = &["0", "1", "-2", "5", "100", "3000000000", "9007199254740993", "9223372036854775807"];
const NUMERICS: &[&str] = &[
    "0",
    "1",
    "1.50",
    "1.5",
    "-2.25",
    "0.1",
    "2.5",
    "-0.5",
    "9007199254740993",
    "123456789012345678901234567890.5",
    "NaN",
    "Infinity",
    "-Infinity",
    "0.000000001",
    "1e10",
    "99.995",
];
const FLOATS: &[&str] = &[
    "0",
    "-0",
    "1",
    "1.5",
    "-2.5",
    "0.1",
    "2.5",
    "3.5",
    "1e10",
    "1e-7",
    "NaN",
    "Infinity",
    "-Infinity",
    "16777217",
];
const TEXTS: &[&str] = &[
    "",
    "a",
    "b",
    "ab",
    "abc",
    "ABC",
    "Abc",
    "abc ",
    " abc",
    "a%c",
    "a_c",
    "a\\c",
    "abc\n",
    "a\nc",
    "äöü",
    "ÀÉß",
    "10",
    "-3",
    "2.5",
    "t",
    "null",
    "NULL",
    "a,b",
    "ok",
    "sad",
    "日本",
    "ǆ",
    "x\"y",
    "{}",
    "2026-01-31",
];
const UUIDS: &[&str] = &[
    "00000000-0000-0000-0000-000000000000",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "B0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
];
const DATES: &[&str] = &[
    "2026-01-31",
    "2026-02-28",
    "2024-02-29",
    "1999-12-31",
    "2000-01-01",
    "0044-03-15 BC",
    "0001-01-01",
    "infinity",
    "-infinity",
    "2026-12-28",
    "1969-12-31",
];
const TIMES: &[&str] = &["00:00", "10:00", "23:59:59", "24:00", "10:00:00.123456", "12:30"];
const TIMESTAMPS: &[&str] = &[
    "2026-01-31 10:00",
    "2026-01-31",
    "2026-02-28 23:59:59.999999",
    "1999-12-31",
    "0044-03-15 12:00 BC",
    "infinity",
    "-infinity",
    "2024-02-29 10:00:00.5",
    "2026-08-19 04:05:06",
];
const ZONED: &[&str] = &[
    "2026-01-31 10:00+00",
    "2026-01-31 11:00+01",
    "2026-02-28 23:59:59+05:30",
    "1999-12-31 00:00-08",
    "infinity",
    "-infinity",
    "0044-03-15 12:00:00+00 BC",
];
const INTERVALS: &[&str] = &[
    "0",
    "1 day",
    "24 hours",
    "1 mon",
    "30 days",
    "-1 year -2 mons +3 days -04:05:06.789",
    "36:00",
    "1 mon 2 days 03:00",
    "P1DT12H",
    "-1 day",
    "00:00:00.000001",
    "1 year",
    "35 days -27:00",
];
const INT_ARRAYS: &[&str] = &[
    "{}",
    "{1,2,3}",
    "{4}",
    "{NULL,1}",
    "{{1,2},{3,4}}",
    "[0:1]={7,8}",
    "{1}",
    "{NULL}",
    "{1,1,2}",
    "[-1:0][2:2]={{1},{2}}",
];
const TEXT_ARRAYS: &[&str] = &[
    "{}",
    "{a,b}",
    "{c}",
    r#"{"a b","x,y","q\"t","back\\s",NULL,"NULL",""}"#,
    "{ab,Ab}",
    "{NULL}",
    "{{a,b},{c,d}}",
    "[2:3]={a,b}",
    "{a%,_}",
];
const DOCUMENTS: &[&str] = &[
    "{}",
    "[]",
    "null",
    "true",
    "1",
    "1.0",
    "\"a\"",
    r#"{"a": 1}"#,
    r#"{"a":1.00,"b":[1,2,{"c":null}]}"#,
    r#"{"b":{"a":"x"},"a":null}"#,
    r#"["a","b",1]"#,
    "[[1,2],[3]]",
    r#"{"a":"é\n\"q\"","k":12345678901234567890.123}"#,
    r#"[1, 1.50, "1", null, false]"#,
    r#"{"a":{"b":{"c":[10,20,30]}}}"#,
];

/// Every type that a filter can read, and some that it can only ask for NULL.
pub const COLUMNS: &[Column] = &[
    column("b", "bool", &["t", "f"]),
    column("b2", "bool", &["t", "f"]),
    column("i2", "int2", SMALL),
    column("i4", "int4", INTS),
    column("j4", "int4", SMALL),
    column("i8", "int8", BIGS),
    column("num", "numeric", NUMERICS),
    column("num2", "numeric(10,2)", &["0", "1.50", "-2.25", "99.99", "2.5"]),
    column("f4", "float4", FLOATS),
    column("f8", "float8", FLOATS),
    column("t", "text", TEXTS),
    column("t2", "text", TEXTS),
    column("vc", "varchar(20)", TEXTS),
    column("bc", "char(5)", &["", "a", "abc", "ab c", "ÄÖ", "xy", " x"]),
    column("nm", "name", &["abc", "ABC", "x y", "b"]),
    column("tc", "text COLLATE \"C\"", TEXTS),
    column("u", "uuid", UUIDS),
    column("d", "date", DATES),
    column("d2", "date", DATES),
    column("tm", "time", TIMES),
    column("ts", "timestamp", TIMESTAMPS),
    column("ts2", "timestamp", TIMESTAMPS),
    column("tz", "timestamptz", ZONED),
    column("tmz", "timetz", &["10:00+00", "11:00+01", "23:59+05:30", "00:00-08"]),
    column("iv", "interval", INTERVALS),
    column("iv2", "interval", INTERVALS),
    column("ia", "int4[]", INT_ARRAYS),
    column("ia2", "int4[]", INT_ARRAYS),
    column("ta", "text[]", TEXT_ARRAYS),
    column("va", "varchar[]", &["{a,b}", "{}", "{NULL,\"x y\"}"]),
    column("na", "numeric[]", &["{1.0,2}", "{NaN}", "{}", "{NULL,1.50}"]),
    column("da", "date[]", &["{2026-01-31}", "{infinity,NULL}", "{}"]),
    column("en", "mood", &["sad", "ok", "happy"]),
    column("ena", "mood[]", &["{ok}", "{sad,happy}", "{NULL}", "{}"]),
    column("js", "json", DOCUMENTS),
    column("jb", "jsonb", DOCUMENTS),
    column("jb2", "jsonb", DOCUMENTS),
    column("byt", "bytea", &["\\x", "\\x00ff", "\\x01", "\\x616263"]),
    column("ip", "inet", &["10.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32", "::1.2.3.4"]),
    column("net", "cidr", &["10.0.0.0/8", "10.0.0.1/32", "::/0"]),
    column("ch", "\"char\"", &["x", "y", "Z"]),
    column("o", "oid", &["0", "7", "4294967295"]),
    column("bt", "bit(3)", &["101", "110", "000"]),
    column("vb", "varbit", &["", "1", "10", "1010"]),
    column("dm", "posint", &["1", "5", "2147483647"]),
    column("dt", "short_text", &["a", "abc", ""]),
    column("cp", "pair", &["(1,x)", "(2,)", "(,)", "(,\"\")"]),
    column("r", "int4range", &["[1,5)", "empty", "(,)"]),
    column("mny", "money", &["1.50", "-2"]),
];

const fn column(name: &'static str, sql_type: &'static str, values: &'static [&'static str]) -> Column {
    Column { name, sql_type, values }
}

/// The statements that make the table `d`.
pub fn schema() -> Vec<String> {
    let columns: Vec<String> = COLUMNS.iter().map(|c| format!("{} {}", c.name, c.sql_type)).collect();
    vec![
        "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')".to_owned(),
        "CREATE DOMAIN posint AS int4 CHECK (value > 0)".to_owned(),
        "CREATE DOMAIN short_text AS varchar(9)".to_owned(),
        "CREATE TYPE pair AS (a int4, b text)".to_owned(),
        format!("CREATE TABLE d (id int4 PRIMARY KEY, {})", columns.join(", ")),
    ]
}

/// One statement that replaces all rows.
pub fn rows(random: &mut Random, count: u64) -> String {
    let row = |id: u64, random: &mut Random| {
        let values = COLUMNS.iter().map(|column| {
            if random.below(5) == 0 {
                "NULL".to_owned()
            } else {
                quoted(random.choice::<&str>(column.values))
            }
        });
        let values: Vec<String> = values.collect();
        format!("({id}, {})", values.join(", "))
    };
    let rows: Vec<String> = (1..=count).map(|id| row(id, random)).collect();
    format!("TRUNCATE d; INSERT INTO d VALUES {}", rows.join(", "))
}

/// A value of a column's type as a literal.
pub fn literal(random: &mut Random, column: &str) -> String {
    let column = COLUMNS.iter().find(|known| known.name == column).expect("a column of the table");
    quoted(random.choice::<&str>(column.values))
}

pub fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

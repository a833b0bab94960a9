//! The schema header: what a client must know of the selected columns to read their values (protocol §5.2).

use crate::pg::{Collation, Column, oid};
use serde_json::{Map, Value};
use std::fmt::Write;

/// The size of the length word that the type modifiers of `varchar`, `bpchar` and `numeric` include.
const HEADER_BYTES: i32 = 4;
/// In an interval's type modifier: all fields.
const INTERVAL_ALL_FIELDS: i32 = 0x7FFF;
/// In an interval's type modifier: no precision given.
const INTERVAL_FULL_PRECISION: i32 = 0xFFFF;

/// The fields of an interval and their bits (`utils/datetime.h`), from coarse to fine.
const INTERVAL_FIELDS: [(i32, &str); 6] = [
    (1 << 2, "YEAR"),
    (1 << 1, "MONTH"),
    (1 << 3, "DAY"),
    (1 << 10, "HOUR"),
    (1 << 11, "MINUTE"),
    (1 << 12, "SECOND"),
];

/// The JSON object from column name to description, in ASCII, as a header must be.
#[must_use]
pub fn schema_header<'a>(columns: impl IntoIterator<Item = &'a Column>) -> String {
    let described = columns.into_iter().map(|column| (column.name.clone(), Value::Object(describe(column))));
    ascii(&Value::Object(described.collect()).to_string())
}

fn describe(column: &Column) -> Map<String, Value> {
    let mut facts = Map::new();
    facts.insert("type".to_owned(), column.type_name.clone().into());
    // Some statements create array columns without declaring a dimension: they are arrays all the same.
    if column.element_oid != column.type_oid {
        facts.insert("dims".to_owned(), column.dims.max(1).into());
    }
    if let Some(index) = column.pk_index {
        facts.insert("pk_index".to_owned(), index.into());
    }
    if column.not_null {
        facts.insert("not_null".to_owned(), true.into());
    }
    // Whoever judges rows by the header has to know that equal texts may differ in their bytes.
    if column.typing.collation == Collation::Nondeterministic {
        facts.insert("collation".to_owned(), "nondeterministic".into());
    }
    describe_modifier(column, &mut facts);
    facts
}

/// The type modifier in words; its meaning is the type's own.
fn describe_modifier(column: &Column, facts: &mut Map<String, Value>) {
    let modifier = column.type_mod;
    if modifier < 0 {
        return;
    }
    let mut fact = |name: &str, value: i32| drop(facts.insert(name.to_owned(), value.into()));
    match column.element_oid {
        oid::VARCHAR => fact("max_length", modifier - HEADER_BYTES),
        oid::BPCHAR => fact("length", modifier - HEADER_BYTES),
        oid::BIT | oid::VARBIT => fact("length", modifier),
        oid::TIME | oid::TIMETZ | oid::TIMESTAMP | oid::TIMESTAMPTZ => fact("precision", modifier),
        oid::NUMERIC => {
            let packed = modifier - HEADER_BYTES;
            fact("precision", (packed >> 16) & 0xFFFF);
            // Eleven bits with a sign: scales may be negative since Postgres 15.
            fact("scale", ((packed & 0x7FF) ^ 0x400) - 0x400);
        }
        oid::INTERVAL => {
            let precision = modifier & INTERVAL_FULL_PRECISION;
            if precision != INTERVAL_FULL_PRECISION {
                fact("precision", precision);
            }
            if let Some(fields) = interval_fields((modifier >> 16) & INTERVAL_ALL_FIELDS) {
                facts.insert("fields".to_owned(), fields.into());
            }
        }
        _ => fact("type_mod", modifier),
    }
}

/// `YEAR`, `DAY TO SECOND`…; nothing where all fields are allowed.
fn interval_fields(mask: i32) -> Option<String> {
    if mask == INTERVAL_ALL_FIELDS {
        return None;
    }
    let mut fields = INTERVAL_FIELDS.iter().filter(|(bit, _)| mask & bit != 0).map(|(_, name)| *name);
    let first = fields.next()?;
    Some(fields.next_back().map_or_else(|| first.to_owned(), |last| format!("{first} TO {last}")))
}

/// JSON with every other character escaped: names may hold any, headers may not.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && c != '\u{7f}' {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}").expect("writing to a string never fails");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn column(name: &str, type_name: &str, type_oid: u32, type_mod: i32) -> Column {
        Column { type_mod, ..Column::new(name, type_oid, type_name) }
    }

    fn array(dims: u32, element: Column) -> Column {
        Column { type_oid: element.type_oid + 100_000, dims, ..element }
    }

    fn header(columns: &[Column]) -> Value {
        serde_json::from_str(&schema_header(columns)).unwrap()
    }

    #[test]
    fn keys_and_nullability_are_told() {
        let mut id = column("id", "int4", oid::INT4, -1);
        id.pk_index = Some(1);
        id.not_null = true;
        let expected =
            json!({"id": {"type": "int4", "pk_index": 1, "not_null": true}, "x": {"type": "mood66"}});
        assert_eq!(header(&[id, column("x", "mood66", 16_500, -1)]), expected);
    }

    /// The modifiers are those that Postgres stores for the columns of the recorded item 66.
    #[test]
    fn modifiers_are_told_in_the_words_of_the_type() {
        let columns = [
            column("v", "varchar", oid::VARCHAR, 44),
            column("v2", "varchar", oid::VARCHAR, -1),
            column("num", "numeric", oid::NUMERIC, (8 << 16 | 2) + 4),
            column("num0", "numeric", oid::NUMERIC, -1),
            column("ts3", "timestamp", oid::TIMESTAMP, 3),
            column("tz", "timestamptz", oid::TIMESTAMPTZ, 3),
            column("ti", "time", oid::TIME, 2),
            column("iv", "interval", oid::INTERVAL, -1),
            column("iv2", "interval", oid::INTERVAL, 4 << 16 | 0xFFFF),
            column("iv3", "interval", oid::INTERVAL, (8 | 7 << 10) << 16 | 3),
            column("iv4", "interval", oid::INTERVAL, 0x7FFF << 16 | 2),
            column("bt", "bit", oid::BIT, 5),
            column("vb7", "varbit", oid::VARBIT, 7),
            column("ch", "bpchar", oid::BPCHAR, 9),
            column("other", "geography", 17_000, 12),
        ];
        let expected = json!({
            "v": {"type": "varchar", "max_length": 40},
            "v2": {"type": "varchar"},
            "num": {"type": "numeric", "precision": 8, "scale": 2},
            "num0": {"type": "numeric"},
            "ts3": {"type": "timestamp", "precision": 3},
            "tz": {"type": "timestamptz", "precision": 3},
            "ti": {"type": "time", "precision": 2},
            "iv": {"type": "interval"},
            "iv2": {"type": "interval", "fields": "YEAR"},
            "iv3": {"type": "interval", "fields": "DAY TO SECOND", "precision": 3},
            "iv4": {"type": "interval", "precision": 2},
            "bt": {"type": "bit", "length": 5},
            "vb7": {"type": "varbit", "length": 7},
            "ch": {"type": "bpchar", "length": 5},
            "other": {"type": "geography", "type_mod": 12},
        });
        assert_eq!(header(&columns), expected);
    }

    #[test]
    fn arrays_tell_their_dimensions_and_their_elements_modifier() {
        let columns = [
            array(1, column("tags", "text", oid::TEXT, -1)),
            array(2, column("mat", "int4", oid::INT4, -1)),
            array(1, column("va", "varchar", oid::VARCHAR, 14)),
            array(0, column("odd", "text", oid::TEXT, -1)),
        ];
        let expected = json!({
            "tags": {"type": "text", "dims": 1},
            "mat": {"type": "int4", "dims": 2},
            "va": {"type": "varchar", "max_length": 10, "dims": 1},
            "odd": {"type": "text", "dims": 1},
        });
        assert_eq!(header(&columns), expected);
    }

    /// Electric reports these two by their raw modifier.
    #[test]
    fn zero_is_a_precision_and_no_length_is_none() {
        let columns = [
            column("ts0", "timestamp", oid::TIMESTAMP, 0),
            column("vb", "varbit", oid::VARBIT, -1),
            column("neg", "numeric", oid::NUMERIC, (3 << 16 | (0x7FF & -2)) + 4),
        ];
        let expected = json!({
            "ts0": {"type": "timestamp", "precision": 0},
            "vb": {"type": "varbit"},
            "neg": {"type": "numeric", "precision": 3, "scale": -2},
        });
        assert_eq!(header(&columns), expected);
    }

    #[test]
    fn a_collation_is_told_where_equal_texts_may_differ() {
        let mut loose = column("loose", "text", oid::TEXT, -1);
        loose.typing.collation = Collation::Nondeterministic;
        let mut plain = column("plain", "text", oid::TEXT, -1);
        plain.typing.collation = Collation::Linguistic;
        let expected =
            json!({"loose": {"type": "text", "collation": "nondeterministic"}, "plain": {"type": "text"}});
        assert_eq!(header(&[loose, plain]), expected);
    }

    #[test]
    fn any_name_fits_into_a_header() {
        let names = ["naïve 🦀", "a\"b\\c", "line\nbreak", "del\u{7f}"];
        let columns: Vec<Column> = names.iter().map(|name| column(name, "text", oid::TEXT, -1)).collect();
        let text = schema_header(&columns);
        assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text}");
        let parsed: Value = serde_json::from_str(&text).unwrap();
        assert!(names.iter().all(|name| parsed.get(name).is_some()));
    }
}

//! The columns of a shape, as its schema header tells of them.

use crate::filter::known_type_oid;
use crate::pg::{Collation, Column, Typing};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The columns of a shape.
#[derive(Debug)]
pub(super) struct Schema<'a> {
    /// The facts of each, as they are spelled.
    facts: BTreeMap<String, &'a serde_json::value::RawValue>,
    /// The columns in the order of their names, as a clause is checked against them.
    pub(super) columns: Vec<Column>,
}

/// The facts of a column on which a clause depends.
#[derive(Deserialize)]
struct Facts {
    #[serde(rename = "type")]
    type_name: String,
    dims: Option<u32>,
    pk_index: Option<u32>,
    #[serde(default)]
    collation: Option<String>,
}

/// The oid that stands for every array type: which one it is, is never asked.
const SOME_ARRAY: u32 = 0;
/// The oid that stands for every type whose values core does not read.
const UNKNOWN: u32 = u32::MAX;

impl<'a> Schema<'a> {
    pub(super) fn read(header: &'a str) -> Option<Self> {
        let facts: BTreeMap<String, &serde_json::value::RawValue> = serde_json::from_str(header).ok()?;
        let columns: Option<Vec<Column>> = facts
            .iter()
            .map(|(name, raw)| Some(column(name, serde_json::from_str(raw.get()).ok()?)))
            .collect();
        Some(Self { columns: columns?, facts })
    }

    /// True where core reads the values of a column.
    pub(super) fn is_known(column: &Column) -> bool {
        column.element_oid != UNKNOWN
    }

    /// The header of a shape that shows some of the columns.
    pub(super) fn narrowed(&self, shown: impl Fn(&str) -> bool) -> String {
        let mut out = String::from("{");
        for (name, facts) in self.facts.iter().filter(|(name, _)| shown(name)) {
            if out.len() > 1 {
                out.push(',');
            }
            push_ascii(&mut out, name);
            out.push(':');
            out.push_str(facts.get());
        }
        out.push('}');
        out
    }
}

/// A header does not tell how texts are ordered, so that only equality is known: a clause that needs an order is not
/// judged here.
fn column(name: &str, facts: Facts) -> Column {
    let element_oid = known_type_oid(&facts.type_name).unwrap_or(UNKNOWN);
    let collation = match facts.collation.as_deref() {
        None => Collation::Linguistic,
        Some(_) => Collation::Nondeterministic,
    };
    Column {
        type_oid: if facts.dims.is_some() { SOME_ARRAY } else { element_oid },
        element_oid,
        dims: facts.dims.unwrap_or(0),
        pk_index: facts.pk_index,
        typing: Typing { collation, ..Typing::default() },
        ..Column::new(name, element_oid, facts.type_name)
    }
}

/// Appends a name as a JSON string, in ASCII, as a header must be.
fn push_ascii(out: &mut String, name: &str) {
    out.push('"');
    for c in name.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| push_unit(out, *unit)),
        }
    }
    out.push('"');
}

fn push_unit(out: &mut String, unit: u16) {
    out.push_str("\\u");
    for shift in [12, 8, 4, 0] {
        out.extend(char::from_digit(u32::from(unit >> shift & 0xF), 16));
    }
}

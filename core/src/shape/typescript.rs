//! A table's row as a TypeScript type, as the official client parses values (protocol §10.1).

use crate::pg::{Column, Relation, oid};
use std::fmt::Write;

/// Declares the row type of a table; its name is the table's in camel case.
#[must_use]
pub fn row_type(relation: &Relation) -> String {
    let mut text =
        format!("/** A row of {}. */\nexport type {} = {{\n", relation.name, type_name(&relation.name.name));
    for column in &relation.columns {
        let null = if column.not_null { "" } else { " | null" };
        let _ = writeln!(text, "  {}: {}{null}", property(&column.name), value_type(column));
    }
    text.push_str("}\n");
    text
}

/// The type of one value. What the client does not parse arrives as Postgres's text.
fn value_type(column: &Column) -> String {
    let scalar = match column.element_oid {
        oid::INT2 | oid::INT4 | oid::FLOAT4 | oid::FLOAT8 => "number",
        oid::INT8 => "bigint",
        oid::BOOL => "boolean",
        oid::JSON | oid::JSONB => "unknown",
        _ => "string",
    };
    if column.element_oid == column.type_oid {
        return scalar.to_owned();
    }
    // An array may hold NULLs, and any declared depth is advice to Postgres only.
    let depth = usize::try_from(column.dims.max(1)).unwrap_or(1);
    format!("{}{scalar} | null{}", "(".repeat(depth), ")[]".repeat(depth))
}

fn type_name(table: &str) -> String {
    let mut name: String = table
        .split(|c: char| !c.is_alphanumeric())
        .flat_map(|word| {
            let mut letters = word.chars();
            letters.next().into_iter().flat_map(char::to_uppercase).chain(letters)
        })
        .collect();
    if name.starts_with(|c: char| !c.is_alphabetic()) {
        name.insert_str(0, "Table");
    }
    name
}

/// A property name: bare where TypeScript allows it, else as a string.
fn property(name: &str) -> String {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let bare = starts && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if bare { name.to_owned() } else { serde_json::Value::from(name).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::QualifiedName;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn column(name: &str, element_oid: u32, dims: u32, not_null: bool) -> Column {
        let type_oid = if dims > 0 { 1 } else { element_oid };
        Column { element_oid, dims, not_null, ..Column::new(name, type_oid, "t") }
    }

    #[test]
    fn a_row_is_declared_as_the_client_parses_it() {
        let columns = vec![
            column("id", oid::INT8, 0, true),
            column("odd name", oid::TEXT, 0, false),
            column("tags", oid::TEXT, 1, true),
            column("grid", oid::INT4, 2, false),
            column("doc", oid::JSONB, 0, false),
        ];
        let relation = Relation::new(1, QualifiedName::new("public", "order_lines"), columns);
        let expected = "/** A row of \"public\".\"order_lines\". */\n\
                        export type OrderLines = {\n\
                        \x20 id: bigint\n\
                        \x20 \"odd name\": string | null\n\
                        \x20 tags: (string | null)[]\n\
                        \x20 grid: ((number | null)[])[] | null\n\
                        \x20 doc: unknown | null\n\
                        }\n";
        assert_eq!(row_type(&relation), expected);
    }

    #[test]
    fn names_are_names_in_typescript() {
        assert_eq!(type_name("order_lines"), "OrderLines");
        assert_eq!(type_name("2fa-codes"), "Table2faCodes");
        assert_eq!(property("a\"b"), "\"a\\\"b\"");
        assert_eq!(property("1st"), "\"1st\"");
    }
}

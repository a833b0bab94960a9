//! The words of Postgres's grammar that cannot be a column's name without quotes (`kwlist.h`, the categories
//! `RESERVED_KEYWORD` and `TYPE_FUNC_NAME_KEYWORD`).

/// Sorted, for the binary search.
const NOT_A_COLUMN: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
];

/// The words that may also name a function (`left(t, 1)`).
const FUNCTION_NAMES: &[&str] = &[
    "authorization",
    "binary",
    "collation",
    "concurrently",
    "cross",
    "current_schema",
    "freeze",
    "full",
    "ilike",
    "inner",
    "is",
    "isnull",
    "join",
    "left",
    "like",
    "natural",
    "notnull",
    "outer",
    "overlaps",
    "right",
    "similar",
    "tablesample",
    "verbose",
];

pub(crate) fn can_name_column(word: &str) -> bool {
    NOT_A_COLUMN.binary_search(&word).is_err()
}

pub(crate) fn can_name_function(word: &str) -> bool {
    can_name_column(word) || FUNCTION_NAMES.binary_search(&word).is_ok()
}

/// The constructs that look like a name or a call but have a node of their own, and that node's name. The
/// second part tells whether a parenthesis must follow.
pub(crate) fn construct(word: &str) -> Option<(&'static str, bool)> {
    Some(match word {
        "case" => ("CaseExpr", false),
        "array" => ("A_ArrayExpr", false),
        "default" => ("SetToDefault", false),
        "current_date" | "current_time" | "current_timestamp" | "localtime" | "localtimestamp"
        | "current_user" | "session_user" | "system_user" | "user" | "current_role" | "current_catalog" => {
            ("SQLValueFunction", false)
        }
        "coalesce" => ("CoalesceExpr", true),
        "greatest" | "least" => ("MinMaxExpr", true),
        "row" => ("RowExpr", true),
        "grouping" => ("GroupingFunc", true),
        "xmlconcat" | "xmlelement" | "xmlforest" | "xmlparse" | "xmlpi" | "xmlroot" => ("XmlExpr", true),
        "xmlserialize" => ("XmlSerialize", true),
        _ => return None,
    })
}

/// The words that end an expression and begin another clause of a SELECT.
pub(crate) fn begins_clause(word: &str) -> bool {
    matches!(
        word,
        "order"
            | "limit"
            | "offset"
            | "fetch"
            | "group"
            | "having"
            | "window"
            | "for"
            | "union"
            | "intersect"
            | "except"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn lists_are_sorted() {
        assert!(NOT_A_COLUMN.is_sorted());
        assert!(FUNCTION_NAMES.is_sorted());
        assert!(!can_name_column("order"));
        assert!(can_name_column("time"));
        assert!(can_name_function("left"));
    }
}

//! What the catalog says of a column's type beyond its oid: its kind, and how its texts are ordered.

use super::relation::QualifiedName;
use serde::{Deserialize, Serialize};

/// Facts about a column's type, or about the element type where the column is an array.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Typing {
    /// The schema of the type (`pg_namespace.nspname`).
    pub schema: String,
    /// `pg_type.typtype`, with what belongs to it.
    pub kind: TypeKind,
    /// How texts of the column compare. For a type without collation that of the database, which is what its
    /// values have once they are cast to text.
    pub collation: Collation,
    /// The name of the column's collation where it is not the database's own.
    pub collation_name: Option<QualifiedName>,
}

/// `pg_type.typtype`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TypeKind {
    /// An ordinary type.
    #[default]
    Base,
    /// An enum.
    Enum {
        /// The labels in the order of the type (`pg_enum.enumsortorder`).
        labels: Vec<String>,
    },
    /// A domain.
    Domain(Box<DomainBase>),
    /// A row type.
    Composite,
    /// A range, a multirange, or a kind that a later version of Postgres brings.
    Other,
}

/// The type under a domain, domains over domains resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainBase {
    /// `pg_type.oid`
    pub type_oid: u32,
    /// The name of the type, or of the element where it is an array.
    pub type_name: String,
    /// The element type's oid where the base is an array, else equal to `type_oid`.
    pub element_oid: u32,
    /// The schema of the type, or of the element where it is an array.
    pub schema: String,
    /// The kind of the type, or of the element where it is an array.
    pub kind: TypeKind,
}

/// What is known of a collation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Collation {
    /// Ordered by code point, case by Unicode's simple mapping: `C.UTF-8`.
    #[default]
    CodePoint,
    /// Ordered by bytes, only ASCII has case: `C`, `POSIX`.
    C,
    /// A language's: only equality is known, which is that of the bytes.
    Linguistic,
    /// Not even equality is that of the bytes.
    Nondeterministic,
}

impl Collation {
    /// The collation of a provider (`collprovider`: `c`, `i`, `b`) with its names for order and case.
    #[must_use]
    pub fn classify(provider: u8, deterministic: bool, order: &str, case: &str) -> Self {
        let plain = |name: &str| name == "C" || name == "POSIX";
        let code_point = |name: &str| {
            let name = name.to_ascii_lowercase();
            name == "c.utf-8" || name == "c.utf8"
        };
        match provider {
            _ if !deterministic => Self::Nondeterministic,
            b'b' | b'c' if plain(order) && plain(case) => Self::C,
            b'b' | b'c' if (plain(order) || code_point(order)) && code_point(case) => Self::CodePoint,
            _ => Self::Linguistic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn collations_by_their_names() {
        assert_eq!(Collation::classify(b'c', true, "C", "C"), Collation::C);
        assert_eq!(Collation::classify(b'c', true, "C.utf8", "C.UTF-8"), Collation::CodePoint);
        assert_eq!(Collation::classify(b'c', true, "en_US.UTF-8", "C"), Collation::Linguistic);
        assert_eq!(Collation::classify(b'i', true, "C", "C"), Collation::Linguistic);
        assert_eq!(Collation::classify(b'c', false, "C", "C"), Collation::Nondeterministic);
    }

    #[test]
    fn facts_that_are_missing_have_defaults() {
        let typing: Typing = serde_json::from_str(r#"{"schema":"public"}"#).expect("reads");
        assert_eq!(typing, Typing { schema: "public".to_owned(), ..Typing::default() });
    }
}

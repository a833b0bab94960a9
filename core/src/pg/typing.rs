//! A column's type beyond its oid, as the catalog describes it: its kind, and how its texts are ordered.

use super::relation::QualifiedName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// The enums and row types that decide the texts of values. Empty for Postgres's own types, and unknown of relations that were
    /// stored by older versions.
    #[serde(skip_serializing_if = "TypeParts::is_empty")]
    pub parts: TypeParts,
}

/// Enums and row types of which a type is made, at any depth: the type itself, the element of an array, what lies under
/// a domain or a range, the fields of a row.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TypeParts {
    /// The labels of its enums, by `pg_enum.oid`.
    pub labels: BTreeMap<u32, String>,
    /// The fields of its row types: relation, number and type of each (`pg_attribute`), as text.
    pub fields: Vec<String>,
}

impl TypeParts {
    /// True where nothing can change the values' texts, or where it is not known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// True where values that were written before have the texts that they had: labels may come, none may be renamed,
    /// and row types have the fields that they had.
    #[must_use]
    pub fn keeps_texts(&self, now: &Self) -> bool {
        let is_kept = |(oid, label): (&u32, &String)| now.labels.get(oid) == Some(label);
        self.is_empty() || (self.fields == now.fields && self.labels.iter().all(is_kept))
    }
}

impl TypeKind {
    /// The kind of the type, or of the type under a domain, without the labels that an enum has.
    #[must_use]
    pub fn without_labels(&self) -> Self {
        match self {
            Self::Enum { .. } => Self::Enum { labels: Vec::new() },
            Self::Domain(base) => Self::Domain(Box::new(DomainBase {
                kind: base.kind.without_labels(),
                ..base.as_ref().clone()
            })),
            other => other.clone(),
        }
    }
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

impl DomainBase {
    /// True where the base is an enum, not an array of one.
    #[must_use]
    pub fn is_enum(&self) -> bool {
        self.type_oid == self.element_oid && matches!(self.kind, TypeKind::Enum { .. })
    }
}

/// How texts of a collation compare.
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
    fn texts_stay_where_labels_come_and_change_where_one_is_renamed() {
        let parts = |labels: &[(u32, &str)], fields: &[&str]| TypeParts {
            labels: labels.iter().map(|(oid, label)| (*oid, (*label).to_owned())).collect(),
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        };
        let then = parts(&[(1, "a"), (2, "b")], &["9:1:23"]);
        assert!(then.keeps_texts(&parts(&[(1, "a"), (2, "b"), (3, "c")], &["9:1:23"])));
        assert!(!then.keeps_texts(&parts(&[(1, "a"), (2, "c")], &["9:1:23"])));
        assert!(!then.keeps_texts(&parts(&[(1, "c"), (2, "b"), (3, "a")], &["9:1:23"])));
        assert!(!then.keeps_texts(&parts(&[(1, "a"), (2, "b")], &["9:1:23", "9:2:23"])));
        assert!(TypeParts::default().keeps_texts(&then), "what was stored before is not known");
    }

    #[test]
    fn facts_that_are_missing_have_defaults() {
        let typing: Typing = serde_json::from_str(r#"{"schema":"public"}"#).expect("reads");
        assert_eq!(typing, Typing { schema: "public".to_owned(), ..Typing::default() });
    }
}

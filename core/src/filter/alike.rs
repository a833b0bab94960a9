//! Clauses that are read by another one. Shapes that a start finds are many, and most of their clauses compare the same
//! column with a constant of their own: of these one is parsed and checked.
//!
//! Only `column = constant` is read so, spelled without quotes and casts: there the constant decides nothing but the
//! value.

use super::Filter;
use super::data_type::operator::Comparison;
use super::data_type::ty::Type;
use super::data_type::value::Value;
use super::eval::expr::Expr;

/// Integers of so many digits have one type.
const DIGITS_OF_INT4: usize = 9;

impl Filter {
    /// The clause `text` by this one, whose text was `known`, where both compare the same column with an integer.
    #[must_use]
    pub fn with_integer(&self, known: &str, text: &str) -> Option<Self> {
        let (known, (column, constant)) = (comparison(known)?, comparison(text)?);
        if known.0 != column {
            return None;
        }
        let (before, now) = (integer(known.1)?, integer(constant)?);
        let is_wide = |ty: &Type| matches!(ty, Type::Int4 | Type::Int8);
        self.with_constant(|column, ty, value| match value {
            Value::Int(value) if is_wide(column) && is_wide(ty) && *value == before => Some(Value::Int(now)),
            _ => None,
        })
    }

    /// The clause by this one, which has the same text: that compares a column with `$1`, whose value is `param`.
    #[must_use]
    pub fn with_param(&self, text: &str, param: &str) -> Option<Self> {
        let (_, constant) = comparison(text)?;
        if constant != "$1" {
            return None;
        }
        // A constant of another type may have been cast for the comparison.
        self.with_constant(|column, ty, _| Value::literal(ty, param).filter(|_| column == ty))
    }

    fn with_constant(
        &self,
        constant: impl FnOnce(&Type, &Type, &Value<'static>) -> Option<Value<'static>>,
    ) -> Option<Self> {
        let Expr::Compare { op: Comparison::Equal, order, left, right } = &self.expr else { return None };
        let (Expr::Column { ty: column, .. }, Expr::Const { ty, value }) = (&**left, &**right) else {
            return None;
        };
        let right = Box::new(Expr::Const { value: constant(column, ty, value)?, ty: ty.clone() });
        let (op, order, left) = (Comparison::Equal, *order, left.clone());
        Some(Self::of(Expr::Compare { op, order, left, right }))
    }
}

/// The two sides of `name = constant`.
fn comparison(text: &str) -> Option<(&str, &str)> {
    let (name, constant) = text.split_once('=')?;
    let (name, constant) = (name.trim_matches(' '), constant.trim_matches(' '));
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some((name, constant))
}

/// An integer as it is usually spelled.
fn integer(text: &str) -> Option<i64> {
    let is_usual = text == "0" || !text.starts_with('0');
    let is_short = text.len() <= DIGITS_OF_INT4 && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_usual && is_short).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::{Column, oid};
    use std::collections::BTreeMap;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const TYPES: [(&str, u32, &str); 11] = [
        ("small", oid::INT2, "int2"),
        ("n", oid::INT4, "int4"),
        ("big", oid::INT8, "int8"),
        ("number", oid::NUMERIC, "numeric"),
        ("real", oid::FLOAT8, "float8"),
        ("t", oid::TEXT, "text"),
        ("v", oid::VARCHAR, "varchar"),
        ("b", oid::BOOL, "bool"),
        ("u", oid::UUID, "uuid"),
        ("day", oid::DATE, "date"),
        ("moment", oid::TIMESTAMPTZ, "timestamptz"),
    ];

    fn columns() -> Vec<Column> {
        TYPES.iter().map(|(name, oid, ty)| Column::new(*name, *oid, *ty)).collect()
    }

    fn parse(text: &str, param: Option<&str>) -> Option<Filter> {
        let params = param.map(|param| BTreeMap::from([(1, param.to_owned())])).unwrap_or_default();
        Filter::parse(text, &params, &columns()).ok()
    }

    /// All that can be told of a clause.
    fn told(filter: &Filter) -> String {
        format!("{} {:?} {:?} {:?}", filter.sql(), filter.columns(), filter.access(), filter.expr)
    }

    #[test]
    fn a_clause_is_what_parsing_makes_of_it() {
        let texts = ["n = 17", "n=0", " N =999999999", "n = 1000000000", "n = 017", "n = -1", "n = 1 + 1"];
        let others =
            ["n = 5::int8", "n = '5'", "n = 5 OR n = 6", "5 = n", "big = 5", "n = 5 -- 6", "big=7", "n ="];
        let all = || texts.iter().chain(&others);
        let mut alike = 0;
        for known in all() {
            let Some(filter) = parse(known, None) else { continue };
            for text in all() {
                let Some(other) = filter.with_integer(known, text) else { continue };
                alike += 1;
                assert_eq!(told(&other), told(&parse(text, None).expect(text)), "{text} by {known}");
            }
        }
        assert!(alike >= 4, "{alike}");
    }

    #[test]
    fn a_parameter_is_what_parsing_makes_of_it() {
        let uuid = "11111111-2222-3333-4444-555555555555";
        let params =
            ["17", "0", "-5", "40000", "1e3", "t", "", " a'b", "infinity", "2024-02-29", uuid, "99999999999"];
        let mut alike = BTreeMap::<&str, usize>::new();
        for (name, ..) in TYPES {
            let texts = [format!("{name} = $1"), format!("{name}=$1"), format!("{name} <> $1")];
            for (text, known) in texts.iter().flat_map(|text| params.iter().map(move |known| (text, known))) {
                let Some(filter) = parse(text, Some(known)) else { continue };
                for param in params {
                    let Some(other) = filter.with_param(text, param) else { continue };
                    *alike.entry(name).or_default() += 1;
                    let parsed = parse(text, Some(param)).expect("a literal of the type");
                    assert_eq!(told(&other), told(&parsed), "{text} with {param} by {known}");
                }
            }
        }
        assert!(["n", "big", "t", "u"].iter().all(|name| alike.contains_key(name)), "{alike:?}");
    }
}

//! Query strings, parsed by the rules of protocol §2.1: `a[b]=c` nests, `a[]=c` lists, the last duplicate
//! wins, a stray percent sign stands for itself.

use super::parameter::{Parameter, SUBSET_PREFIX};
use percent_encoding::{percent_decode, percent_decode_str};
use std::collections::BTreeMap;

/// Brackets nested deeper than this are kept as part of the innermost key.
const NESTING_MAX: usize = 4;

/// The parameters of one request, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    parameters: BTreeMap<String, Value>,
}

/// The value of one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `a=text`, and `a` alone (the empty text).
    Text(String),
    /// `a[]=first&a[]=second`
    List(Vec<Value>),
    /// `a[key]=value`
    Map(BTreeMap<String, Value>),
}

/// The query is no text: a name or value is not UTF-8 once decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not valid UTF-8 once decoded")]
pub struct QueryError;

/// The value is a list or a map where one text is due.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is invalid")]
pub struct NotScalar;

impl Query {
    /// Parses the part of the request target after `?`, without it.
    ///
    /// # Errors
    /// A name or a value is not UTF-8.
    pub fn parse(raw: &str) -> Result<Self, QueryError> {
        let mut query = Self::default();
        for (name, value) in pairs(raw) {
            let name = String::from_utf8(name).map_err(|_| QueryError)?;
            let value = String::from_utf8(value).map_err(|_| QueryError)?;
            query.insert(&name, value);
        }
        Ok(query)
    }

    /// The parameter's value, whatever its form.
    #[must_use]
    pub fn value(&self, parameter: Parameter) -> Option<&Value> {
        self.parameters.get(parameter.as_str())
    }

    /// The parameter's text; an empty or blank one counts as absent.
    ///
    /// # Errors
    /// The value is a list or a map.
    pub fn text(&self, parameter: Parameter) -> Result<Option<&str>, NotScalar> {
        scalar(self.value(parameter))
    }

    /// All parameters in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.parameters.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// True where it asks for some of the shape's rows beside the log.
    #[must_use]
    pub fn asks_for_subset(&self) -> bool {
        self.parameters.keys().any(|name| name.starts_with(SUBSET_PREFIX))
    }

    /// Takes the subset's parameters away.
    pub(super) fn remove_subset(&mut self) {
        self.parameters.retain(|name, _| !name.starts_with(SUBSET_PREFIX));
    }

    /// Puts a value in the place of the parameter's, or takes it away.
    pub fn set(&mut self, parameter: Parameter, value: Option<Value>) {
        self.set_named(parameter.as_str(), value);
    }

    /// The same for a parameter of any name.
    pub(super) fn set_named(&mut self, name: &str, value: Option<Value>) {
        match value {
            Some(value) => drop(self.parameters.insert(name.to_owned(), value)),
            None => drop(self.parameters.remove(name)),
        }
    }

    fn insert(&mut self, name: &str, text: String) {
        let (first, path) = key_path(name);
        insert_at(&mut self.parameters, first, &path, text);
    }
}

fn scalar(value: Option<&Value>) -> Result<Option<&str>, NotScalar> {
    match value {
        None => Ok(None),
        Some(Value::Text(text)) if text.trim().is_empty() => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(Value::List(_) | Value::Map(_)) => Err(NotScalar),
    }
}

/// The decoded name and value of each part of a raw query, in order. Empty parts are left out.
pub fn pairs(raw: &str) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    raw.split('&').filter(|part| !part.is_empty()).map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(name, true), decode(value, true))
    })
}

/// Decodes `%XX`, and `+` to a space where `plus_is_space`. A percent sign without two hexadecimal digits
/// stands for itself.
#[must_use]
pub fn decode(text: &str, plus_is_space: bool) -> Vec<u8> {
    if !plus_is_space {
        return percent_decode_str(text).collect();
    }
    let spaced: Vec<u8> = text.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }).collect();
    percent_decode(&spaced).collect()
}

/// `a[b][]` as `a` and `b`, `` (a list). A name whose brackets do not close at its end is plain.
fn key_path(name: &str) -> (&str, Vec<&str>) {
    let Some((first, brackets)) = name.strip_suffix(']').and_then(|open| open.split_once('[')) else {
        return (name, Vec::new());
    };
    if first.is_empty() {
        return (name, Vec::new());
    }
    (first, brackets.splitn(NESTING_MAX, "][").collect())
}

fn insert_at(map: &mut BTreeMap<String, Value>, key: &str, path: &[&str], text: String) {
    let [next, rest @ ..] = path else {
        map.insert(key.to_owned(), Value::Text(text));
        return;
    };
    if next.is_empty() {
        // Items of a list are texts: what nests below `[]` has no meaning in this protocol.
        match map.get_mut(key) {
            Some(Value::List(items)) => items.push(Value::Text(text)),
            _ => drop(map.insert(key.to_owned(), Value::List(vec![Value::Text(text)]))),
        }
        return;
    }
    // A later duplicate of another form replaces the earlier one.
    if !matches!(map.get(key), Some(Value::Map(_))) {
        map.insert(key.to_owned(), Value::Map(BTreeMap::new()));
    }
    if let Some(Value::Map(inner)) = map.get_mut(key) {
        insert_at(inner, next, rest, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// The rules are those of any name.
    fn named<'q>(query: &'q Query, name: &str) -> Option<&'q Value> {
        query.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    fn named_text<'q>(query: &'q Query, name: &str) -> Result<Option<&'q str>, NotScalar> {
        scalar(named(query, name))
    }

    fn text(value: &str) -> Value {
        Value::Text(value.to_owned())
    }

    fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
        Value::Map(entries.map(|(key, value)| (key.to_owned(), value)).into())
    }

    #[test]
    fn names_and_values_are_decoded() {
        let query = Query::parse("table=my+t%61ble&wh%65re=a%3D%27x%26y%27&").unwrap();
        assert_eq!(named_text(&query, "table"), Ok(Some("my table")));
        assert_eq!(named_text(&query, "where"), Ok(Some("a='x&y'")));
    }

    #[test]
    fn blank_is_absent_and_nothing_else_is_trimmed() {
        let query = Query::parse("a=&b=%20+&c&d=%20x").unwrap();
        for name in ["a", "b", "c", "nope"] {
            assert_eq!(named_text(&query, name), Ok(None), "{name}");
        }
        assert_eq!(named_text(&query, "d"), Ok(Some(" x")));
        assert_eq!(named(&query, "c"), Some(&text("")));
    }

    #[test]
    fn brackets_nest_and_list() {
        let query = Query::parse("params%5B1%5D=a&params[2]=b&columns[]=x&columns[]=y&m[a][b]=1").unwrap();
        assert_eq!(named(&query, "params"), Some(&map([("1", text("a")), ("2", text("b"))])));
        assert_eq!(named(&query, "columns"), Some(&Value::List(vec![text("x"), text("y")])));
        assert_eq!(named(&query, "m"), Some(&map([("a", map([("b", text("1"))]))])));
        assert_eq!(named_text(&query, "columns"), Err(NotScalar));
    }

    #[test]
    fn the_last_duplicate_wins_whatever_its_form() {
        let query = Query::parse("t=1&t=2&p[1]=a&p=2&q=1&q[1]=a&p2[1]=a&p2[1]=b").unwrap();
        assert_eq!(named(&query, "t"), Some(&text("2")));
        assert_eq!(named(&query, "p"), Some(&text("2")));
        assert_eq!(named(&query, "q"), Some(&map([("1", text("a"))])));
        assert_eq!(named(&query, "p2"), Some(&map([("1", text("b"))])));
    }

    #[test]
    fn odd_spellings_stand_for_themselves() {
        let query = Query::parse("a=%zz&b=100%&c=%4&[x]=1&d[=2&e]=3&f[x]y=4").unwrap();
        let spelled: Vec<_> = query.iter().collect();
        assert_eq!(named_text(&query, "a"), Ok(Some("%zz")));
        assert_eq!(named_text(&query, "b"), Ok(Some("100%")));
        assert_eq!(named_text(&query, "c"), Ok(Some("%4")));
        assert_eq!(named_text(&query, "[x]"), Ok(Some("1")));
        assert_eq!(spelled.len(), 7);
    }

    #[test]
    fn what_is_not_utf8_is_an_error() {
        assert_eq!(Query::parse("table=%ff"), Err(QueryError));
        assert_eq!(Query::parse("%ff=1"), Err(QueryError));
    }

    #[test]
    fn nesting_is_bounded() {
        let depth = |brackets: usize| {
            let query = Query::parse(&format!("a{}=1", "[b]".repeat(brackets))).unwrap();
            let mut value = named(&query, "a");
            let mut depth = 0;
            while let Some(Value::Map(entries)) = value {
                depth += 1;
                value = entries.values().next();
            }
            depth
        };
        assert_eq!(depth(NESTING_MAX - 1), NESTING_MAX - 1);
        assert_eq!(depth(NESTING_MAX), NESTING_MAX);
        assert_eq!(depth(NESTING_MAX + 1), NESTING_MAX, "what is left is part of the innermost key");
        assert_eq!(depth(5_000), NESTING_MAX);
    }
}

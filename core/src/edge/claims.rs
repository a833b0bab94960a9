//! What a genuine token says: until when, by whom, for whom, and which shapes its bearer may read.

use super::grant::{Grant, Rule};
use super::token::TokenError;
use crate::pg::relation::quote_identifier;
use serde_json::Value;

/// Clocks of two machines differ by this much, in seconds.
pub const LEEWAY_S: u64 = 60;

/// The claims of one token (RFC 7519 §4.1), and Limn's own: `tenant`, `shape`, `impose`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// When it ends, in seconds since 1970: live replies end then too.
    pub expires_s: u64,
    /// Whose copies its bearer shares: requests of other tenants never see them.
    pub tenant: Option<String>,
    /// What its bearer may read.
    pub grant: Grant,
}

/// What a token must say beside that, where the deployment asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expected {
    /// `iss`
    pub issuer: Option<String>,
    /// One of `aud`.
    pub audience: Option<String>,
}

/// The members of a shape. One that is not among them is refused: a misspelled one would open what it was to close.
const SHAPE_MEMBERS: [&str; 6] = ["namespace", "table", "where", "params", "columns", "replica"];

impl Claims {
    /// Reads the claims of a token whose signature was checked. `now_s` is the time in seconds since 1970.
    ///
    /// # Errors
    /// [`TokenError`]: it is over, not meant for here, or says something that cannot be read.
    pub fn parse(json: &[u8], expected: &Expected, now_s: u64) -> Result<Self, TokenError> {
        let body: Value = serde_json::from_slice(json).map_err(|error| unreadable(error.to_string()))?;
        let date = |name: &str| match body.get(name) {
            None => Ok(None),
            Some(date) => {
                date.as_f64().map(|date| Some(seconds(date))).ok_or_else(|| no_such("a number", name))
            }
        };
        let expires_s = date("exp")?.ok_or_else(|| unreadable("`exp` is missing".to_owned()))?;
        if expires_s.saturating_add(LEEWAY_S) <= now_s {
            return Err(TokenError::Expired);
        }
        if date("nbf")?.is_some_and(|begins| begins > now_s.saturating_add(LEEWAY_S)) {
            return Err(TokenError::NotYetValid);
        }
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        if expected.issuer.is_some() && expected.issuer.as_deref() != text("iss") {
            return Err(TokenError::Issuer);
        }
        let is_meant =
            |audience: &String| list(body.get("aud")).iter().any(|it| it.as_str() == Some(audience));
        if !expected.audience.as_ref().is_none_or(is_meant) {
            return Err(TokenError::Audience);
        }
        let tenant = match body.get("tenant") {
            None => None,
            Some(Value::String(tenant)) if !tenant.is_empty() => Some(tenant.clone()),
            Some(_) => return Err(no_such("a text that is not empty", "tenant")),
        };
        let rules = |name: &str| list(body.get(name)).iter().map(rule).collect::<Result<Vec<_>, _>>();
        let grant = Grant::new(rules("shape")?, rules("impose")?)?;
        Ok(Self { expires_s, tenant, grant })
    }
}

/// A shape as a token spells it.
fn rule(claim: &Value) -> Result<Rule, TokenError> {
    let members = claim.as_object().ok_or_else(|| no_such("an object", "shape"))?;
    if let Some(name) = members.keys().find(|name| !SHAPE_MEMBERS.contains(&name.as_str())) {
        return Err(unreadable(format!("a shape has no member `{name}`")));
    }
    let text = |name: &str| match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(no_such("a text", name)),
    };
    let table = text("table")?.ok_or_else(|| no_such("a text", "table"))?;
    let table = match text("namespace")? {
        Some(schema) => format!("{}.{}", quote_identifier(schema), quote_identifier(table)),
        None => table.to_owned(),
    };
    let columns = match members.get("columns") {
        None => None,
        Some(Value::Array(names)) => {
            let names = names.iter().map(|name| name.as_str().map(quote_identifier));
            Some(
                names
                    .collect::<Option<Vec<_>>>()
                    .ok_or_else(|| no_such("a list of texts", "columns"))?
                    .join(","),
            )
        }
        Some(_) => text("columns")?.map(str::to_owned),
    };
    let params =
        params(members.get("params")).ok_or_else(|| no_such("a list or an object of values", "params"))?;
    Rule::new(&table, text("where")?.map(str::to_owned), params, columns.as_deref(), text("replica")?)
}

/// The values of `$1`, `$2`, …, in their order or by their numbers.
fn params(claim: Option<&Value>) -> Option<Vec<String>> {
    match claim {
        None => Some(Vec::new()),
        Some(Value::Array(values)) => values.iter().map(param).collect(),
        Some(Value::Object(values)) => {
            let numbers = (1..=values.len()).map(|number| values.get(&number.to_string()));
            numbers.map(|value| value.and_then(param)).collect()
        }
        Some(_) => None,
    }
}

fn param(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// One value, or several of them.
fn list(claim: Option<&Value>) -> &[Value] {
    match claim {
        Some(Value::Array(several)) => several,
        claim => claim.map_or(&[], std::slice::from_ref),
    }
}

fn unreadable(text: String) -> TokenError {
    TokenError::Claims(text)
}

fn no_such(expected: &str, name: &str) -> TokenError {
    unreadable(format!("`{name}` is not {expected}"))
}

/// A `NumericDate`, which may have a fraction; what lies outside of the range becomes its end.
fn seconds(date: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, which is what is due"
    )]
    let seconds = date as u64;
    seconds
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const NOW: u64 = 1_800_000_000;

    fn claims(json: &str) -> Result<Claims, TokenError> {
        Claims::parse(json.as_bytes(), &Expected::default(), NOW)
    }

    fn expecting(json: &str) -> Result<(), TokenError> {
        let expected = Expected { issuer: Some("me".to_owned()), audience: Some("limn".to_owned()) };
        Claims::parse(json.as_bytes(), &expected, NOW).map(drop)
    }

    #[test]
    fn a_token_ends_and_begins() {
        let dated =
            |dates: &str| claims(&format!(r#"{{{dates},"shape":{{"table":"t"}}}}"#)).map(|it| it.expires_s);
        assert_eq!(dated(r#""exp":1800000001"#), Ok(1_800_000_001));
        assert_eq!(dated(r#""exp":1799999940.5"#), Err(TokenError::Expired));
        assert_eq!(dated(r#""exp":1799999941"#), Ok(1_799_999_941));
        assert_eq!(dated(r#""exp":-1"#), Err(TokenError::Expired));
        assert_eq!(dated(r#""exp":1e300"#), Ok(u64::MAX));
        assert_eq!(dated(r#""exp":1800000001,"nbf":1800000060"#), Ok(1_800_000_001));
        assert_eq!(dated(r#""exp":1800000001,"nbf":1800000061"#), Err(TokenError::NotYetValid));
        for unreadable in [r#""exp":"1800000001""#, r#""iat":1"#, r#""exp":null"#] {
            assert!(matches!(dated(unreadable), Err(TokenError::Claims(_))), "{unreadable}");
        }
    }

    #[test]
    fn who_made_it_and_for_whom_is_checked_where_it_is_asked_for() {
        let shape = r#""exp":1800000001,"shape":{"table":"t"}"#;
        assert_eq!(expecting(&format!(r#"{{{shape},"iss":"me","aud":"limn"}}"#)), Ok(()));
        assert_eq!(expecting(&format!(r#"{{{shape},"iss":"me","aud":["x","limn"]}}"#)), Ok(()));
        for audience in [r#""aud":"x""#, r#""aud":[]"#, r#""sub":"limn""#] {
            let json = format!(r#"{{{shape},"iss":"me",{audience}}}"#);
            assert_eq!(expecting(&json), Err(TokenError::Audience), "{audience}");
        }
        for issuer in [r#""iss":"Me""#, r#""sub":"me""#] {
            let json = format!(r#"{{{shape},{issuer},"aud":"limn"}}"#);
            assert_eq!(expecting(&json), Err(TokenError::Issuer), "{issuer}");
        }
    }

    #[test]
    fn a_token_that_allows_nothing_or_is_misspelled_is_refused() {
        for claim in [
            r#""sub":"1""#,
            r#""shape":[]"#,
            r#""shape":"t""#,
            r#""shape":{"table":"t","column":["id"]}"#,
            r#""shape":{"where":"true"}"#,
            r#""shape":{"table":"a.b.c"}"#,
            r#""shape":{"table":"t","columns":"a b"}"#,
            r#""shape":{"table":"t","columns":[]}"#,
            r#""shape":{"table":"t","params":{"1":{}}}"#,
            r#""shape":{"table":"t","replica":"most"}"#,
            r#""impose":{"table":"t","where":"a ="}"#,
            r#""impose":{"table":"t","where":"a = $2","params":["x"]}"#,
            r#""impose":[{"table":"t","where":"a"},{"table":"public.t","where":"b"}]"#,
            r#""tenant":"","shape":{"table":"t"}"#,
        ] {
            let refused = claims(&format!(r#"{{"exp":1800000001,{claim}}}"#));
            assert!(matches!(refused, Err(TokenError::Claims(_))), "{claim}: {refused:?}");
        }
    }

    #[test]
    fn shapes_are_spelled_as_requests_or_as_names() {
        let grant = |claim: &str| claims(&format!(r#"{{"exp":1800000001,"shape":{claim}}}"#)).unwrap().grant;
        assert_eq!(
            grant(
                r#"{"namespace":"s","table":"My t","columns":["A,b"],"params":[1,true],"where":"a=$1 or $2"}"#
            ),
            grant(
                r#"[{"table":"s.\"My t\"","columns":"\"A,b\"","params":{"1":"1","2":"true"},"where":"a=$1 or $2"}]"#
            )
        );
        assert_ne!(grant(r#"{"table":"t"}"#), grant(r#"{"table":"\"T\""}"#));
    }
}

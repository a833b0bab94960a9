//! What a genuine token says: until when, by whom, for whom, and which shapes its bearer may read.

use super::grant::{Grant, Rule};
use super::token::TokenError;
use serde::Deserialize;
use std::collections::BTreeMap;

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

#[derive(Deserialize)]
struct Body {
    exp: Option<f64>,
    nbf: Option<f64>,
    iss: Option<String>,
    aud: Option<OneOrMany<String>>,
    tenant: Option<String>,
    shape: Option<OneOrMany<ShapeClaim>>,
    impose: Option<OneOrMany<ShapeClaim>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

/// A shape as a token spells it. A member that is not known is refused: a misspelled one would open what it was to
/// close.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShapeClaim {
    /// The schema, for a `table` without one.
    namespace: Option<String>,
    table: String,
    #[serde(rename = "where")]
    where_clause: Option<String>,
    #[serde(default)]
    params: Params,
    columns: Option<OneOrMany<String>>,
    replica: Option<String>,
}

/// The values of `$1`, `$2`, …, in their order or by their numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Params {
    InOrder(Vec<Param>),
    ByNumber(BTreeMap<String, Param>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Param {
    Text(String),
    Flag(bool),
    Number(serde_json::Number),
}

impl Claims {
    /// Reads the claims of a token whose signature was checked. `now_s` is the time in seconds since 1970.
    ///
    /// # Errors
    /// [`TokenError`]: it is over, not meant for here, or says something that cannot be read.
    pub fn parse(json: &[u8], expected: &Expected, now_s: u64) -> Result<Self, TokenError> {
        let body: Body =
            serde_json::from_slice(json).map_err(|error| TokenError::Claims(error.to_string()))?;
        let expires_s = body.exp.ok_or_else(|| TokenError::Claims("`exp` is missing".to_owned()))?;
        let expires_s = seconds(expires_s);
        if expires_s.saturating_add(LEEWAY_S) <= now_s {
            return Err(TokenError::Expired);
        }
        if body.nbf.is_some_and(|begins| seconds(begins) > now_s.saturating_add(LEEWAY_S)) {
            return Err(TokenError::NotYetValid);
        }
        if expected.issuer.is_some() && expected.issuer != body.iss {
            return Err(TokenError::Issuer);
        }
        let audiences = list(body.aud);
        if expected.audience.as_ref().is_some_and(|audience| !audiences.contains(audience)) {
            return Err(TokenError::Audience);
        }
        if body.tenant.as_deref() == Some("") {
            return Err(TokenError::Claims("`tenant` is empty".to_owned()));
        }
        let rules = |claims: Option<OneOrMany<ShapeClaim>>| {
            list(claims).into_iter().map(ShapeClaim::rule).collect::<Result<Vec<_>, _>>()
        };
        let grant = Grant::new(rules(body.shape)?, rules(body.impose)?)?;
        Ok(Self { expires_s, tenant: body.tenant, grant })
    }
}

impl ShapeClaim {
    fn rule(self) -> Result<Rule, TokenError> {
        let table = match self.namespace {
            Some(schema) => format!("{}.{}", quoted(&schema), quoted(&self.table)),
            None => self.table,
        };
        let columns = self.columns.map(|columns| match columns {
            OneOrMany::Many(names) => names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(","),
            OneOrMany::One(text) => text,
        });
        let params = match self.params {
            Params::InOrder(values) => (1..).map(|number: u32| number.to_string()).zip(values).collect(),
            Params::ByNumber(values) => values,
        };
        let params = params.into_iter().map(|(number, value)| (number, value.text()));
        Rule::new(&table, self.where_clause, params.collect(), columns.as_deref(), self.replica.as_deref())
    }
}

impl Default for Params {
    fn default() -> Self {
        Self::InOrder(Vec::new())
    }
}

impl Param {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Flag(flag) => flag.to_string(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// A name that is given as it is, in the spelling of a request.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn list<T>(claim: Option<OneOrMany<T>>) -> Vec<T> {
    match claim {
        None => Vec::new(),
        Some(OneOrMany::One(one)) => vec![one],
        Some(OneOrMany::Many(many)) => many,
    }
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

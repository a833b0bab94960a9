//! The shared secret: who may use the shape route, and how to keep the secret out of logs (protocol §1.2).

use super::parameter::Parameter;
use super::query::{Query, Value, decode, pairs};
use subtle::{Choice, ConstantTimeEq};

/// Names of parameters whose values never reach a log, in lower case.
const SECRET_PARAMETERS: [&str; 6] = ["secret", "api_secret", "token", "access_token", "api_key", "password"];
const MASK: &str = "***";
/// The parameter that carries a token where a header cannot: a browser sends no preflight for it.
const TOKEN: &str = "token";

/// True where the request proves that it knows `secret`.
///
/// The parameter `secret` decides where it is present, even empty or wrong; else `api_secret` where that is;
/// else an `Authorization: Bearer` header. The time this takes does not depend on what `secret` is.
#[must_use]
pub fn authorize(secret: &str, query: &str, authorization: Option<&str>) -> bool {
    let presented = |parameter: Parameter| {
        let wanted = parameter.as_str().as_bytes();
        pairs(query).filter(|(name, _)| name == wanted).map(|(_, value)| value).last()
    };
    let presented = presented(Parameter::Secret)
        .or_else(|| presented(Parameter::ApiSecret))
        .or_else(|| authorization.and_then(bearer).map(|token| token.as_bytes().to_vec()));
    presented.is_some_and(|presented| equals(secret.as_bytes(), &presented))
}

/// The token that a request carries: the parameter `token` where it is present, else an `Authorization: Bearer`
/// header.
#[must_use]
pub fn presented_token(query: &Query, authorization: Option<&str>) -> Option<String> {
    match query.iter().find(|(name, _)| *name == TOKEN) {
        Some((_, Value::Text(token))) => Some(token.clone()),
        Some(_) => None,
        None => authorization.and_then(bearer).map(str::to_owned),
    }
}

/// The raw query with the values of secret-like parameters replaced.
#[must_use]
pub fn mask_secrets(query: &str) -> String {
    let masked = query.split('&').map(|part| match part.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}={MASK}"),
        _ => part.to_owned(),
    });
    masked.collect::<Vec<_>>().join("&")
}

/// True for the name of a secret-like parameter. A secret in brackets (`token[x]=…`) is one too.
pub(super) fn is_secret(raw_name: &str) -> bool {
    let name = decode(raw_name, true);
    let plain = name.split(|byte| *byte == b'[').next().unwrap_or_default();
    SECRET_PARAMETERS.iter().any(|secret| plain.eq_ignore_ascii_case(secret.as_bytes()))
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Compares without stopping at the first difference: the loop runs over what the caller sent, so its length
/// says nothing about the secret's. An empty secret equals nothing.
fn equals(secret: &[u8], presented: &[u8]) -> bool {
    let mut same = secret.len().ct_eq(&presented.len()) & !secret.len().ct_eq(&0);
    let mut repeated = secret.iter().cycle();
    for byte in presented {
        same &= repeated.next().map_or(Choice::from(0), |expected| expected.ct_eq(byte));
    }
    same.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_secret_is_taken_from_one_place_only() {
        for query in ["secret=s3cret", "api_secret=s3cret", "a=1&secret=x&secret=s3cret", "secret=%733cret"] {
            assert!(authorize("s3cret", query, None), "{query}");
        }
        assert!(authorize("s3cret", "secret=s3cret&api_secret=wrong", None));
        assert!(authorize("s3cret", "table=%ff", Some("Bearer s3cret")));
        assert!(authorize("s3cret", "", Some("bearer s3cret")));
    }

    #[test]
    fn a_wrong_place_is_not_made_good_by_another() {
        for query in
            ["secret=wrong&api_secret=s3cret", "secret=&api_secret=s3cret", "secret&api_secret=s3cret"]
        {
            assert!(!authorize("s3cret", query, Some("Bearer s3cret")), "{query}");
        }
        assert!(!authorize("s3cret", "api_secret=wrong", Some("Bearer s3cret")));
    }

    #[test]
    fn anything_else_is_refused() {
        for query in
            ["", "secret=s3cre", "secret=s3crets3cret", "secret=S3CRET", "Secret=s3cret", "secret[]=s3cret"]
        {
            assert!(!authorize("s3cret", query, None), "{query}");
        }
        for header in ["s3cret", "Basic s3cret", "Bearer", "Bearer  ", "Bearer s3cret x"] {
            assert!(!authorize("s3cret", "", Some(header)), "{header}");
        }
        assert!(!authorize("", "secret=", None));
    }

    #[test]
    fn a_token_is_taken_from_one_place_only() {
        let presented = |query: &str, header| presented_token(&Query::parse(query).unwrap(), header);
        let header = Some("Bearer h");
        assert_eq!(presented("token=q", header).as_deref(), Some("q"));
        assert_eq!(presented("a=1", header).as_deref(), Some("h"));
        assert_eq!(presented("token[]=q", header), None);
        assert_eq!(presented("Token=q", None), None);
        assert_eq!(presented("", Some("Basic h")), None);
    }

    #[test]
    fn secrets_are_masked_however_they_are_spelled() {
        assert_eq!(
            mask_secrets(
                "table=t&SECRET=a&api%5Fsecret=b&token[x]=c&where=secret%3D1&password&access_token="
            ),
            "table=t&SECRET=***&api%5Fsecret=***&token[x]=***&where=secret%3D1&password&access_token=***"
        );
    }
}

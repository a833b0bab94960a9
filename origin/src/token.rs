//! `limn token`: makes a token for the edge worker, to try one out or to give one to a program.

use crate::config::parse_duration;
use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use clap::Args;
use limn_core::edge::{Algorithm, Claims, Expected, KeySet};
use ring::hmac;
use serde_json::{Map, Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Options of `limn token`: what the token allows, until when, and who signs it.
#[derive(Debug, Clone, Args)]
pub struct TokenOptions {
    /// Secret that the worker knows as LIMN_JWT_SECRET: at least 32 bytes
    #[arg(long, env = "LIMN_JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub jwt_secret: String,

    /// Table that may be read, spelled as in a shape's `table`
    #[arg(long, value_name = "TABLE")]
    pub table: String,

    /// Clause of the rows that may be read
    #[arg(long = "where", value_name = "CLAUSE")]
    pub where_clause: Option<String>,

    /// Value of the next of `$1`, `$2`, … in `--where`; may be given several times
    #[arg(long = "param", value_name = "VALUE")]
    pub params: Vec<String>,

    /// Columns that may be read, separated by commas; the primary key must be among them
    #[arg(long, value_name = "NAMES")]
    pub columns: Option<String>,

    /// Put clause and columns before whatever is asked for. Without this the request must ask for exactly them
    #[arg(long)]
    pub impose: bool,

    /// Whose copies in the worker's cache the bearer shares
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,

    /// How long the token is valid
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = parse_duration)]
    pub expires: Duration,

    /// `iss` of the token, where the worker expects one
    #[arg(long, env = "LIMN_JWT_ISSUER", value_name = "NAME")]
    pub issuer: Option<String>,

    /// `aud` of the token, where the worker expects one
    #[arg(long, env = "LIMN_JWT_AUDIENCE", value_name = "NAME")]
    pub audience: Option<String>,
}

/// A token with these claims, signed by HS256.
///
/// # Errors
/// The secret is too short, or the worker would not understand a claim.
pub fn make(options: &TokenOptions) -> Result<String> {
    KeySet::of_secret(options.jwt_secret.as_bytes())
        .map_err(|error| anyhow::anyhow!("LIMN_JWT_SECRET {error}; `openssl rand -hex 32` makes one"))?;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
    let claims = claims(options, now_s).to_string();
    Claims::parse(claims.as_bytes(), &Expected::default(), now_s)
        .map_err(|error| anyhow::anyhow!("no such token can be used: {error}"))?;
    let header = json!({ "alg": Algorithm::Hs256.as_str(), "typ": "JWT" }).to_string();
    let [header, claims] = [&header, &claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
    let key = hmac::Key::new(hmac::HMAC_SHA256, options.jwt_secret.as_bytes());
    let signature = hmac::sign(&key, format!("{header}.{claims}").as_bytes());
    Ok(format!("{header}.{claims}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}

fn claims(options: &TokenOptions, now_s: u64) -> Value {
    let shape = members([
        ("table", Some(json!(options.table))),
        ("where", options.where_clause.as_ref().map(|clause| json!(clause))),
        ("params", (!options.params.is_empty()).then(|| json!(options.params))),
        ("columns", options.columns.as_ref().map(|columns| json!(columns))),
    ]);
    members([
        ("iat", Some(json!(now_s))),
        ("exp", Some(json!(now_s.saturating_add(options.expires.as_secs())))),
        ("iss", options.issuer.as_ref().map(|issuer| json!(issuer))),
        ("aud", options.audience.as_ref().map(|audience| json!(audience))),
        ("tenant", options.tenant.as_ref().map(|tenant| json!(tenant))),
        (if options.impose { "impose" } else { "shape" }, Some(shape)),
    ])
}

/// An object of the members that there are.
fn members<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect::<Map<_, _>>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use limn_core::edge::SignedToken;
    use limn_core::protocol::Method;
    use limn_core::protocol::query::Query;

    fn options() -> TokenOptions {
        TokenOptions {
            jwt_secret: "0123456789abcdef0123456789abcdef".to_owned(),
            table: "items".to_owned(),
            where_clause: Some("owner = $1".to_owned()),
            params: vec!["7".to_owned()],
            columns: None,
            impose: true,
            tenant: Some("acme".to_owned()),
            expires: Duration::from_secs(60),
            issuer: None,
            audience: None,
        }
    }

    #[test]
    fn a_token_says_what_it_was_made_for() {
        let token = make(&options()).unwrap();
        let token = SignedToken::parse(&token).unwrap();
        assert_eq!((token.algorithm(), token.signature().len()), (Algorithm::Hs256, 32));
        let claims = Claims::parse(token.claims(true).unwrap(), &Expected::default(), 0).unwrap();
        assert_eq!(claims.tenant.as_deref(), Some("acme"));
        let judged = claims.grant.judge(Method::Get, &Query::parse("table=items").unwrap()).unwrap();
        assert!(judged.iter().any(|(name, _)| name == "where"));
    }

    #[test]
    fn what_the_worker_would_refuse_is_not_signed() {
        let refused = |options: TokenOptions| make(&options).unwrap_err().to_string();
        let short = refused(TokenOptions { jwt_secret: "short".to_owned(), ..options() });
        assert!(short.contains("at least 32"), "{short}");
        let clause = refused(TokenOptions { where_clause: Some("owner =".to_owned()), ..options() });
        assert!(clause.contains("`where`"), "{clause}");
    }
}

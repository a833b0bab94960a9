//! The keys that tokens may be signed with: a JSON Web Key Set (RFC 7517), or one shared secret.
//!
//! Each key is for one algorithm, which follows from its kind and never from the token: so a token that names another
//! algorithm for a known key, such as HS256 for a public RSA key, finds no key.

use super::token::{Algorithm, SignedToken, TokenError};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A shared secret of fewer bytes can be found by trying (RFC 7518 §3.2).
pub const SECRET_BYTES_MIN: usize = 32;
/// An RSA key of fewer bytes is not taken (RFC 7518 §3.3).
const RSA_BYTES_MIN: usize = 256;
/// A set of more keys is not taken: each one without an id is tried for every token.
pub const KEYS_MAX: usize = 64;

/// Where a set of keys comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The deployment's own secrets.
    Secret,
    /// An address that anybody may read: a shared secret in it is none.
    Public,
}

/// A key, for one algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    jwk: String,
}

/// Keys that tokens may be signed with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// A set of keys that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not JSON of the form `{"keys": [...]}`.
    #[error("is no JSON Web Key Set: {0}")]
    NotASet(String),
    /// No key in it is for signatures that are taken.
    #[error("holds no key for HS256, ES256, EdDSA or RS256")]
    Empty,
    /// More than [`KEYS_MAX`].
    #[error("holds more than {KEYS_MAX} keys")]
    TooMany,
    /// A shared secret of fewer than [`SECRET_BYTES_MIN`] bytes.
    #[error("is too short: {0} bytes, at least {SECRET_BYTES_MIN} are needed")]
    ShortSecret(usize),
}

impl KeySet {
    /// The set of one shared secret, for HS256.
    ///
    /// # Errors
    /// [`KeySetError::ShortSecret`].
    pub fn of_secret(secret: &[u8]) -> Result<Self, KeySetError> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeySetError::ShortSecret(secret.len()));
        }
        let jwk = json!({ "kty": "oct", "k": BASE64_URL_SAFE_NO_PAD.encode(secret) }).to_string();
        Ok(Self { keys: vec![Key { id: None, algorithm: Algorithm::Hs256, jwk }] })
    }

    /// Reads a set. Keys of other kinds and for other purposes are passed over (RFC 7517 §5).
    ///
    /// # Errors
    /// [`KeySetError`].
    pub fn parse(text: &str, source: Source) -> Result<Self, KeySetError> {
        let set: Value =
            serde_json::from_str(text).map_err(|error| KeySetError::NotASet(error.to_string()))?;
        let keys = set.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or_else(|| KeySetError::NotASet("it has no list `keys`".to_owned()))?;
        if keys.len() > KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        let keys: Vec<Key> = keys.iter().filter_map(|jwk| Key::read(jwk, source)).collect();
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(Self { keys }) }
    }

    /// The keys that may have signed the token: those for its algorithm, of its `kid` where both name one.
    ///
    /// # Errors
    /// [`TokenError::UnknownKey`]: none of them may have.
    pub fn candidates(&self, token: &SignedToken<'_>) -> Result<Vec<&Key>, TokenError> {
        let may_have = |key: &&Key| {
            let is_named = key.id.as_deref().zip(token.key_id()).is_none_or(|(own, named)| own == named);
            key.algorithm == token.algorithm() && is_named
        };
        let candidates: Vec<&Key> = self.keys.iter().filter(may_have).collect();
        if candidates.is_empty() { Err(TokenError::UnknownKey) } else { Ok(candidates) }
    }
}

impl Key {
    /// The algorithm that it is for.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key as JSON, with the members that make it and no other: what a platform imports.
    #[must_use]
    pub fn jwk(&self) -> &str {
        &self.jwk
    }

    /// Of a private key the secret members stay where they are.
    fn read(jwk: &Value, source: Source) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| Some(BASE64_URL_SAFE_NO_PAD.decode(text(name)?).ok()?.len());
        let (algorithm, members): (_, &[&str]) = match (text("kty")?, text("crv")) {
            ("EC", Some("P-256")) => (Algorithm::Es256, &["kty", "crv", "x", "y"]),
            ("OKP", Some("Ed25519")) => (Algorithm::EdDsa, &["kty", "crv", "x"]),
            ("RSA", None) if bytes("n")? >= RSA_BYTES_MIN => (Algorithm::Rs256, &["kty", "n", "e"]),
            ("oct", None) if source == Source::Secret && bytes("k")? >= SECRET_BYTES_MIN => {
                (Algorithm::Hs256, &["kty", "k"])
            }
            _ => return None,
        };
        // RFC 9864 gives Ed25519 a name of its own.
        let is_named =
            |name: &str| name == algorithm.as_str() || (algorithm == Algorithm::EdDsa && name == "Ed25519");
        if text("use").is_some_and(|purpose| purpose != "sig") || !text("alg").is_none_or(is_named) {
            return None;
        }
        let members = members.iter().map(|name| Some(((*name).to_owned(), json!(text(name)?))));
        let jwk = Value::Object(members.collect::<Option<_>>()?).to_string();
        Some(Self { id: text("kid").map(str::to_owned), algorithm, jwk })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const EC: &str =
        r#"{"kty":"EC","crv":"P-256","x":"eA","y":"eQ","kid":"e","alg":"ES256","use":"sig","d":"ZA"}"#;
    const OKP: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"eA","kid":"o","alg":"Ed25519"}"#;

    fn rsa(bytes: usize, more: &str) -> String {
        let modulus = BASE64_URL_SAFE_NO_PAD.encode(vec![1; bytes]);
        format!(r#"{{"kty":"RSA","n":"{modulus}","e":"AQAB"{more}}}"#)
    }

    fn set(keys: &[&str], source: Source) -> Result<KeySet, KeySetError> {
        KeySet::parse(&format!(r#"{{"keys":[{}]}}"#, keys.join(",")), source)
    }

    fn algorithms(keys: &[&str], source: Source) -> Vec<Algorithm> {
        set(keys, source).map_or(Vec::new(), |set| set.keys.iter().map(Key::algorithm).collect())
    }

    fn found(set: &KeySet, header: &str) -> Vec<Option<String>> {
        let encoded = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let text = format!("{}.{}.{}", encoded(header), encoded("{}"), encoded("s"));
        let token = SignedToken::parse(&text).unwrap();
        set.candidates(&token).map_or(Vec::new(), |keys| keys.iter().map(|key| key.id.clone()).collect())
    }

    #[test]
    fn a_key_is_for_the_algorithm_of_its_kind() {
        let rsa = rsa(256, "");
        assert_eq!(
            algorithms(&[EC, OKP, &rsa], Source::Public),
            [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256]
        );
    }

    #[test]
    fn only_the_public_members_are_handed_on() {
        let set = set(&[EC], Source::Public).unwrap();
        assert_eq!(set.keys[0].jwk(), r#"{"crv":"P-256","kty":"EC","x":"eA","y":"eQ"}"#);
    }

    #[test]
    fn keys_that_are_not_for_such_signatures_are_passed_over() {
        let (short, encrypting, other) =
            (rsa(255, ""), rsa(256, r#","use":"enc""#), rsa(256, r#","alg":"HS256""#));
        for key in [
            r#"{"kty":"EC","crv":"P-384","x":"eA","y":"eQ"}"#,
            r#"{"kty":"EC","crv":"P-256","x":"eA"}"#,
            r#"{"kty":"new"}"#,
            r#"{"kty":"oct","k":"c2hvcnQ"}"#,
            &short,
            &encrypting,
            &other,
        ] {
            assert_eq!(algorithms(&[key, OKP], Source::Secret), [Algorithm::EdDsa], "{key}");
            assert_eq!(set(&[key], Source::Secret), Err(KeySetError::Empty), "{key}");
        }
    }

    #[test]
    fn a_shared_secret_that_anybody_can_read_is_none() {
        let secret = format!(r#"{{"kty":"oct","k":"{}"}}"#, BASE64_URL_SAFE_NO_PAD.encode([7; 32]));
        assert_eq!(algorithms(&[&secret], Source::Secret), [Algorithm::Hs256]);
        assert_eq!(set(&[&secret], Source::Public), Err(KeySetError::Empty));
    }

    #[test]
    fn a_token_finds_keys_of_its_algorithm_and_id() {
        let keys = set(&[EC, OKP, &rsa(256, "")], Source::Public).unwrap();
        let id = |id: &str| Some(id.to_owned());
        assert_eq!(found(&keys, r#"{"alg":"ES256","kid":"e"}"#), [id("e")]);
        assert_eq!(found(&keys, r#"{"alg":"EdDSA"}"#), [id("o")]);
        assert_eq!(found(&keys, r#"{"alg":"RS256","kid":"any"}"#), [None]);
        // The algorithm of another kind of key, whatever the id.
        for header in [r#"{"alg":"ES256","kid":"o"}"#, r#"{"alg":"HS256","kid":"e"}"#, r#"{"alg":"HS256"}"#] {
            assert_eq!(found(&keys, header), Vec::<Option<String>>::new(), "{header}");
        }
    }

    #[test]
    fn secrets_that_can_be_guessed_are_refused() {
        assert_eq!(KeySet::of_secret(&[1; 31]), Err(KeySetError::ShortSecret(31)));
        assert_eq!(found(&KeySet::of_secret(&[1; 32]).unwrap(), r#"{"alg":"HS256","kid":"x"}"#), [None]);
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["", "[]", "{}", r#"{"keys":1}"#] {
            assert!(matches!(KeySet::parse(text, Source::Secret), Err(KeySetError::NotASet(_))), "{text}");
        }
        assert_eq!(set(&[OKP; KEYS_MAX + 1], Source::Secret), Err(KeySetError::TooMany));
    }
}

//! A JSON Web Token (RFC 7519) in the compact form of RFC 7515, read before its signature is checked.

use crate::named_enum::named_enum;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

/// Platforms take headers of this size, and no token that says what a client may read needs more.
pub const TOKEN_BYTES_MAX: usize = 8_192;

named_enum! {
    /// How a token is signed (RFC 7518 §3.1, RFC 8037 §3.1). `none` is not among them.
    pub enum Algorithm {
        /// HMAC with SHA-256 and a shared secret.
        Hs256 = "HS256",
        /// ECDSA with P-256 and SHA-256.
        Es256 = "ES256",
        /// Ed25519.
        EdDsa = "EdDSA",
        /// RSASSA-PKCS1-v1_5 with SHA-256.
        Rs256 = "RS256",
    }
}

/// A token that cannot be taken: the reply is 401. The texts go to the client and to nobody else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The request carries none.
    #[error("a token is required: send `Authorization: Bearer <token>`")]
    Missing,
    /// Longer than [`TOKEN_BYTES_MAX`].
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// Not `header.claims.signature` in base64url, or one of the first two is no JSON as it should be.
    #[error("the token is no JSON Web Token: {0}")]
    Malformed(&'static str),
    /// Signed in a way that is not taken, `none` included.
    #[error("the token's `alg` is not one of HS256, ES256, EdDSA, RS256")]
    Algorithm,
    /// It asks for extensions that must be understood (RFC 7515 §4.1.11).
    #[error("the token has a `crit` header, which is not supported")]
    Critical,
    /// No key is known that may have signed it.
    #[error("the token's key is not known here")]
    UnknownKey,
    /// No key that may have signed it has.
    #[error("the token's signature is wrong")]
    Signature,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come (`nbf`).
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It was made by somebody else (`iss`).
    #[error("the token's `iss` is not the one that is expected")]
    Issuer,
    /// It was made for somebody else (`aud`).
    #[error("the token's `aud` is not the one that is expected")]
    Audience,
    /// A claim that Limn reads has a form that it cannot.
    #[error("the token's claims cannot be read: {0}")]
    Claims(String),
}

/// A token whose signature is still to be checked: nothing that it says can be read before that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedToken<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    signed: &'a str,
    signature: Vec<u8>,
    claims: Vec<u8>,
}

impl Algorithm {
    /// The one of that exact name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.as_str() == name)
    }
}

impl<'a> SignedToken<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`TokenError`], but those that need the keys or the time.
    pub fn parse(text: &'a str) -> Result<Self, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let three = TokenError::Malformed("it has not three parts between dots");
        let (signed, signature) = text.rsplit_once('.').ok_or(three.clone())?;
        let (header, claims) = signed.split_once('.').ok_or(three.clone())?;
        if claims.contains('.') {
            return Err(three);
        }
        // Members that are not read here mean nothing to us (RFC 7515 §4).
        let header: Value = serde_json::from_slice(&decode(header)?).unwrap_or_default();
        let member = |name: &str| header.get(name).and_then(Value::as_str);
        let algorithm = member("alg").ok_or(TokenError::Malformed("its header is no JSON with `alg`"))?;
        if header.get("crit").is_some() {
            return Err(TokenError::Critical);
        }
        Ok(Self {
            algorithm: Algorithm::from_name(algorithm).ok_or(TokenError::Algorithm)?,
            key_id: member("kid").map(str::to_owned),
            signed,
            signature: decode(signature)?,
            claims: decode(claims)?,
        })
    }

    /// How it says that it is signed.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Which key it names.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// The bytes that are signed.
    #[must_use]
    pub const fn signed(&self) -> &'a str {
        self.signed
    }

    /// The signature.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The claims as JSON, once somebody has checked the signature; `is_genuine` is what they found.
    ///
    /// # Errors
    /// The signature is wrong.
    pub fn claims(&self, is_genuine: bool) -> Result<&[u8], TokenError> {
        if is_genuine { Ok(&self.claims) } else { Err(TokenError::Signature) }
    }
}

/// The bytes of a part. Padding, blanks and other alphabets are refused, so that a token has one spelling.
fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed("a part is not in base64url"))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn encoded(text: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(text)
    }

    fn parsed(header: &str) -> Result<Algorithm, TokenError> {
        let text = format!("{}.{}.{}", encoded(header), encoded("{}"), encoded("signature"));
        SignedToken::parse(&text).map(|token| token.algorithm())
    }

    /// The example of RFC 7515 §A.1.
    #[test]
    fn a_token_is_taken_apart() {
        let text = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogIm\
                    h0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let token = SignedToken::parse(text).unwrap();
        assert_eq!((token.algorithm(), token.key_id()), (Algorithm::Hs256, None));
        assert_eq!(token.signature().len(), 32);
        assert!(text.starts_with(token.signed()));
        assert!(token.claims(true).unwrap().starts_with(b"{\"iss\":\"joe\""));
        assert_eq!(token.claims(false), Err(TokenError::Signature));
    }

    #[test]
    fn only_four_ways_of_signing_are_taken() {
        for algorithm in Algorithm::ALL {
            assert_eq!(parsed(&format!(r#"{{"alg":"{algorithm}","kid":"k"}}"#)), Ok(*algorithm));
        }
        // Of two members of one name the last counts, as everywhere else.
        assert_eq!(parsed(r#"{"alg":"HS256","alg":"none"}"#), Err(TokenError::Algorithm));
        for other in ["none", "None", "NONE", "nOnE", "", "HS256 ", "hs256", "HS512", "PS256"] {
            assert_eq!(parsed(&format!(r#"{{"alg":"{other}"}}"#)), Err(TokenError::Algorithm), "{other}");
        }
    }

    #[test]
    fn headers_that_cannot_be_understood_are_refused() {
        for header in ["", "1", "{}", r#"{"alg":1}"#, r#"{"alg":"HS256"}x"#] {
            assert!(matches!(parsed(header), Err(TokenError::Malformed(_))), "{header}");
        }
        assert_eq!(parsed(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#), Err(TokenError::Critical));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = format!("{}.{}.{}", encoded(r#"{"alg":"HS256"}"#), encoded("{}"), encoded("s"));
        assert!(SignedToken::parse(&good).is_ok());
        for text in
            ["", ".", "..", "a.b.c", &good.replace('.', ""), &format!("{good}.x"), &format!("{good}=")]
        {
            assert!(matches!(SignedToken::parse(text), Err(TokenError::Malformed(_))), "{text}");
        }
        assert_eq!(SignedToken::parse(&"x".repeat(TOKEN_BYTES_MAX + 1)), Err(TokenError::TooLong));
    }
}

//! Checks tokens by the platform's WebCrypto, with keys that are given or that an address tells.

use crate::config::{Keys, Tokens};
use crate::timing::now_ms;
use limn_core::edge::key_set::KEYS_MAX;
use limn_core::edge::{Algorithm, Claims, Key, KeySet, SignedToken, Source, TokenError};
use std::cell::RefCell;
use std::collections::HashMap;
use web_sys::{CryptoKey, SubtleCrypto, WorkerGlobalScope};
use worker::js_sys::{self, Array, Object, Reflect, Uint8Array};
use worker::wasm_bindgen::{JsCast, JsValue};
use worker::wasm_bindgen_futures::JsFuture;
use worker::{Error, Fetch, Request, Result};

/// For how long a key set is taken as it was read.
const KEYS_FRESH_MS: u64 = 600_000;
/// How soon it is read again for a key that it does not hold: keys are rotated, and anybody can name an unknown one.
const KEYS_RETRY_MS: u64 = 30_000;

/// Why there are no claims.
#[derive(Debug)]
pub enum Refusal {
    /// The token cannot be taken.
    Token(TokenError),
    /// The keys cannot be read.
    Keys(Error),
}

/// A key set as it was read from its address.
struct Read {
    keys: KeySet,
    asked_ms: u64,
}

thread_local! {
    /// Key sets by their addresses. What one request has read serves others: only values cross, no promise does.
    static READ: RefCell<HashMap<String, Read>> = RefCell::default();
    /// Keys of the platform, by what they were made of; past `KEYS_MAX` all are made anew.
    static IMPORTED: RefCell<HashMap<String, CryptoKey>> = RefCell::default();
}

/// The claims of a genuine token that is valid now.
pub async fn claims(tokens: &Tokens, token: Option<&str>) -> std::result::Result<Claims, Refusal> {
    let token = SignedToken::parse(token.ok_or(TokenError::Missing)?)?;
    let now_ms = now_ms();
    let keys = match &tokens.keys {
        Keys::Given(keys) => keys.clone(),
        Keys::At(url) => keys_for(url, &token, now_ms).await.map_err(Refusal::Keys)?,
    };
    let mut is_genuine = false;
    for key in keys.candidates(&token)? {
        // A key that the platform does not take has signed nothing.
        is_genuine |= verify(key, &token).await.unwrap_or(false);
    }
    Ok(Claims::parse(token.claims(is_genuine)?, &tokens.expected, now_ms / 1_000)?)
}

/// The keys at an address, read again where they are old or do not hold what the token names.
async fn keys_for(url: &str, token: &SignedToken<'_>, now_ms: u64) -> Result<KeySet> {
    let known = READ.with_borrow_mut(|read| {
        let read = read.get_mut(url)?;
        let age_ms = now_ms.saturating_sub(read.asked_ms);
        let due_ms = if read.keys.candidates(token).is_ok() { KEYS_FRESH_MS } else { KEYS_RETRY_MS };
        if age_ms < due_ms {
            return Some((read.keys.clone(), false));
        }
        // Others go on with what there is until this request has read them.
        read.asked_ms = now_ms;
        Some((read.keys.clone(), true))
    });
    match known {
        Some((keys, false)) => Ok(keys),
        Some((keys, true)) => Ok(read_keys(url, now_ms).await.unwrap_or_else(|error| {
            worker::console_error!("the keys at `{url}` were not read again: {error}");
            keys
        })),
        None => read_keys(url, now_ms).await,
    }
}

async fn read_keys(url: &str, now_ms: u64) -> Result<KeySet> {
    let mut reply = Fetch::Request(Request::from(web_sys::Request::new_with_str(url)?)).send().await?;
    if reply.status_code() != 200 {
        return Err(Error::RustError(format!("status {}", reply.status_code())));
    }
    let text = reply.text().await?;
    let keys = KeySet::parse(&text, Source::Public).map_err(|error| Error::RustError(error.to_string()))?;
    let read = Read { keys: keys.clone(), asked_ms: now_ms };
    READ.with_borrow_mut(|all| all.insert(url.to_owned(), read));
    Ok(keys)
}

/// True where this key has signed the token.
async fn verify(key: &Key, token: &SignedToken<'_>) -> Result<bool> {
    let subtle = subtle()?;
    let key = import(&subtle, key).await?;
    let algorithm = parameters(token.algorithm())?;
    let (signature, signed) =
        (Uint8Array::from(token.signature()), Uint8Array::from(token.signed().as_bytes()));
    let verified =
        subtle.verify_with_object_and_js_u8_array_and_js_u8_array(&algorithm, &key, &signature, &signed);
    Ok(JsFuture::from(verified.map_err(Error::from)?).await?.is_truthy())
}

/// The platform's key, made ready once.
async fn import(subtle: &SubtleCrypto, key: &Key) -> Result<CryptoKey> {
    // A key of one kind is for one algorithm, so its text names both.
    if let Some(ready) = IMPORTED.with_borrow(|imported| imported.get(key.jwk()).cloned()) {
        return Ok(ready);
    }
    let jwk: Object = js_sys::JSON::parse(key.jwk())?.dyn_into().map_err(Error::from)?;
    let usages = Array::of1(&JsValue::from_str("verify"));
    let algorithm = parameters(key.algorithm())?;
    let imported = subtle.import_key_with_object("jwk", &jwk, &algorithm, false, &usages);
    let imported: CryptoKey = JsFuture::from(imported.map_err(Error::from)?).await?.unchecked_into();
    IMPORTED.with_borrow_mut(|all| {
        if all.len() >= KEYS_MAX {
            all.clear();
        }
        all.insert(key.jwk().to_owned(), imported.clone());
    });
    Ok(imported)
}

/// What WebCrypto calls the algorithm, for import and verification alike.
fn parameters(algorithm: Algorithm) -> Result<Object> {
    let members: &[(&str, &str)] = match algorithm {
        Algorithm::Hs256 => &[("name", "HMAC"), ("hash", "SHA-256")],
        Algorithm::Es256 => &[("name", "ECDSA"), ("namedCurve", "P-256"), ("hash", "SHA-256")],
        Algorithm::EdDsa => &[("name", "Ed25519")],
        Algorithm::Rs256 => &[("name", "RSASSA-PKCS1-v1_5"), ("hash", "SHA-256")],
    };
    let object = Object::new();
    for (name, value) in members {
        Reflect::set(&object, &JsValue::from_str(name), &JsValue::from_str(value))?;
    }
    Ok(object)
}

fn subtle() -> Result<SubtleCrypto> {
    let global: WorkerGlobalScope = js_sys::global().unchecked_into();
    Ok(global.crypto()?.subtle())
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

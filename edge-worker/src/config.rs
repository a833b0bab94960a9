//! The worker's settings, from the variables and secrets of its deployment.

use limn_core::edge::{Bases, BasesError, Expected, KeySet, KeySetError, Source};

/// Where the origin is and what protects it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The origin's address, without a slash at its end.
    pub origin_url: String,
    /// What the origin is told, and readers must know unless they show tokens.
    pub secret: Option<String>,
    /// How readers' tokens are checked, where they have to show one.
    pub tokens: Option<Tokens>,
    /// The shapes that others are derived of.
    pub derive: Bases,
}

/// How tokens are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Where the keys are.
    pub keys: Keys,
    /// What a token must say beside its signature.
    pub expected: Expected,
}

/// The keys that tokens may be signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// These.
    Given(KeySet),
    /// Those of the key set at this address.
    At(String),
}

/// Why the worker cannot serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// `ORIGIN_URL` is not set.
    OriginMissing,
    /// `ORIGIN_URL` is no address: this is its value.
    OriginInvalid(String),
    /// `LIMN_SECRET` is set to nothing: neither open nor closed.
    SecretEmpty,
    /// More than one variable says where tokens' keys are.
    KeysTwice,
    /// The keys in this variable cannot be used.
    Keys(&'static str, KeySetError),
    /// `LIMN_JWKS_URL` is no address that a key set may come from: this is its value.
    KeysUrl(String),
    /// This variable says what tokens must say, and nothing says how they are signed.
    NoKeys(&'static str),
    /// `LIMN_DERIVE` names no shapes.
    Derive(BasesError),
}

/// The shared secret of HS256.
const JWT_SECRET: &str = "LIMN_JWT_SECRET";
/// A key set itself.
const JWKS: &str = "LIMN_JWKS";
/// The address of a key set.
const JWKS_URL: &str = "LIMN_JWKS_URL";
/// The `iss` that tokens must have.
const JWT_ISSUER: &str = "LIMN_JWT_ISSUER";
/// The `aud` that tokens must have.
const JWT_AUDIENCE: &str = "LIMN_JWT_AUDIENCE";
/// The shapes that others are derived of.
const DERIVE: &str = "LIMN_DERIVE";

impl Config {
    /// Reads the settings by name.
    ///
    /// # Errors
    /// One of them is missing or has no meaning.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let origin_url = variable("ORIGIN_URL").filter(|url| !url.is_empty());
        let origin_url = origin_url.ok_or(ConfigError::OriginMissing)?;
        if !origin_url.starts_with("http://") && !origin_url.starts_with("https://") {
            return Err(ConfigError::OriginInvalid(origin_url));
        }
        let secret = variable("LIMN_SECRET");
        if secret.as_deref().is_some_and(str::is_empty) {
            return Err(ConfigError::SecretEmpty);
        }
        let derive = Bases::parse(&variable(DERIVE).unwrap_or_default()).map_err(ConfigError::Derive)?;
        let tokens = Tokens::from_variables(variable)?;
        Ok(Self { origin_url: origin_url.trim_end_matches('/').to_owned(), secret, tokens, derive })
    }
}

impl Tokens {
    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, ConfigError> {
        let expected = Expected { issuer: variable(JWT_ISSUER), audience: variable(JWT_AUDIENCE) };
        let given = [JWT_SECRET, JWKS, JWKS_URL].map(|name| variable(name).map(|value| (name, value)));
        let mut given = given.into_iter().flatten();
        let Some((name, value)) = given.next() else {
            let unused = [(JWT_ISSUER, &expected.issuer), (JWT_AUDIENCE, &expected.audience)];
            let unused = unused.into_iter().find(|(_, value)| value.is_some());
            return unused.map_or(Ok(None), |(name, _)| Err(ConfigError::NoKeys(name)));
        };
        if given.next().is_some() {
            return Err(ConfigError::KeysTwice);
        }
        let keys = match name {
            JWT_SECRET => KeySet::of_secret(value.as_bytes()).map(Keys::Given),
            JWKS => KeySet::parse(&value, Source::Secret).map(Keys::Given),
            _ if !is_trustworthy(&value) => return Err(ConfigError::KeysUrl(value)),
            _ => Ok(Keys::At(value)),
        };
        Ok(Some(Self { keys: keys.map_err(|error| ConfigError::Keys(name, error))?, expected }))
    }
}

/// True for an address on whose way nobody changes what it answers: `https`, or this machine.
fn is_trustworthy(url: &str) -> bool {
    let Some(plain) = url.strip_prefix("http://") else { return url.starts_with("https://") };
    let authority = plain.split(['/', '?', '#']).next().unwrap_or_default();
    let port = ["127.0.0.1", "localhost", "[::1]"].iter().find_map(|host| authority.strip_prefix(host));
    let digits = port.and_then(|port| if port.is_empty() { Some(port) } else { port.strip_prefix(':') });
    digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OriginMissing => f.write_str("`ORIGIN_URL` is not set"),
            Self::OriginInvalid(url) => {
                write!(f, "`ORIGIN_URL` is `{url}`, expected `http://…` or `https://…`")
            }
            Self::SecretEmpty => {
                f.write_str("`LIMN_SECRET` is empty; set it to the origin's secret or remove it")
            }
            Self::KeysTwice => {
                write!(
                    f,
                    "set only one of `{JWT_SECRET}`, `{JWKS}` and `{JWKS_URL}`: tokens have one source of keys"
                )
            }
            Self::Derive(error) => write!(f, "`{DERIVE}`: {error}"),
            Self::Keys(name, error) => write!(f, "`{name}` {error}"),
            Self::KeysUrl(url) => {
                write!(f, "`{JWKS_URL}` is `{url}`, expected `https://…`, or `http://` on this machine")
            }
            Self::NoKeys(name) => {
                write!(
                    f,
                    "`{name}` is set, but none of `{JWT_SECRET}`, `{JWKS}` and `{JWKS_URL}`: no token is asked for"
                )
            }
        }
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Config::from_variables(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_origin_is_needed_and_the_secret_is_not() {
        let open = config(&[("ORIGIN_URL", "http://127.0.0.1:3000/")]);
        assert_eq!(
            open,
            Ok(Config {
                origin_url: "http://127.0.0.1:3000".to_owned(),
                secret: None,
                tokens: None,
                derive: Bases::default()
            })
        );
        let closed = config(&[("ORIGIN_URL", "https://o.example"), ("LIMN_SECRET", "s")]);
        assert_eq!(closed.map(|config| config.secret), Ok(Some("s".to_owned())));
    }

    #[test]
    fn settings_without_meaning_are_refused() {
        assert_eq!(config(&[]), Err(ConfigError::OriginMissing));
        assert_eq!(config(&[("ORIGIN_URL", "")]), Err(ConfigError::OriginMissing));
        assert_eq!(config(&[("ORIGIN_URL", "o:1")]), Err(ConfigError::OriginInvalid("o:1".to_owned())));
        let empty_secret = config(&[("ORIGIN_URL", "http://o"), ("LIMN_SECRET", "")]);
        assert_eq!(empty_secret, Err(ConfigError::SecretEmpty));
    }

    #[test]
    fn tokens_have_one_source_of_keys() {
        let with = |variables: &[(&str, &str)]| {
            let origin = [("ORIGIN_URL", "http://o")];
            config(&[&origin, variables].concat())
        };
        let secret = "0123456789abcdef0123456789abcdef";
        let tokens = with(&[(JWT_SECRET, secret), (JWT_ISSUER, "me")]).unwrap().tokens.unwrap();
        assert_eq!(tokens.keys, Keys::Given(KeySet::of_secret(secret.as_bytes()).unwrap()));
        assert_eq!(tokens.expected.issuer.as_deref(), Some("me"));
        assert_eq!(with(&[(JWT_SECRET, secret), (JWKS_URL, "https://k")]), Err(ConfigError::KeysTwice));
        assert_eq!(
            with(&[(JWT_SECRET, "short")]),
            Err(ConfigError::Keys(JWT_SECRET, KeySetError::ShortSecret(5)))
        );
        assert_eq!(with(&[(JWKS, r#"{"keys":[]}"#)]), Err(ConfigError::Keys(JWKS, KeySetError::Empty)));
        assert_eq!(with(&[(JWT_AUDIENCE, "me")]), Err(ConfigError::NoKeys(JWT_AUDIENCE)));
    }

    #[test]
    fn keys_come_only_from_where_nobody_can_change_them() {
        for url in
            ["https://k/.well-known/jwks.json", "http://127.0.0.1:8/a", "http://localhost", "http://[::1]:8"]
        {
            assert!(is_trustworthy(url), "{url}");
        }
        for url in ["http://k", "http://127.0.0.1.evil", "http://localhost:80@evil", "ftp://k", ""] {
            assert!(!is_trustworthy(url), "{url}");
        }
    }
}

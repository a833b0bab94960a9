//! The parts of a connection URL.

use super::config::{ConfigError, Host};
use std::path::PathBuf;

/// Parameters that decide what is said here, or change nothing where they are left out.
const KNOWN: [&str; 13] = [
    "channel_binding",
    "dbname",
    "host",
    "password",
    "port",
    "ssl",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "sslsni",
    "user",
];

/// Parameters of libpq by which less would be accepted than without them: to pass over them is not safe.
const REFUSED: [&str; 8] = [
    "require_auth",
    "requirepeer",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslpassword",
];

/// The URL's parts, still percent-encoded.
pub(super) struct UrlParts<'a> {
    user: &'a str,
    password: Option<&'a str>,
    host: &'a str,
    port: Option<&'a str>,
    database: &'a str,
    query: &'a str,
}

impl<'a> UrlParts<'a> {
    /// Splits a URL; blanks and quotation marks around it, as files of variables leave them, do not count.
    pub(super) fn split(url: &'a str) -> Result<Self, ConfigError> {
        let url = url.trim();
        let quoted = |mark| url.strip_prefix(mark).and_then(|rest| rest.strip_suffix(mark));
        let url = quoted('"').or_else(|| quoted('\'')).unwrap_or(url);
        let schemes = ["postgresql://", "postgres://"];
        let Some(rest) = schemes.into_iter().find_map(|scheme| url.strip_prefix(scheme)) else {
            return Err(ConfigError::Malformed(match url.contains("://") || !url.contains('=') {
                true => "it must start with `postgresql://`",
                false => "`key=value` pairs are not understood, it must start with `postgresql://`",
            }));
        };
        let parts = Self::split_rest(rest)?;
        if parts.parameter("replication").is_some() {
            return Err(ConfigError::Replication);
        }
        let plausible = parts.user().is_ok_and(|user| !user.is_empty()) && parts.port(1).is_ok();
        // What follows a raw `/` in a password passes for the database: a host after an `@`, and a database again.
        let is_cut = parts.database.rsplit_once('@').is_some_and(|(_, rest)| rest.contains('/'));
        match raw_character(rest) {
            Some(character) if !plausible || is_cut => Err(ConfigError::RawCharacter(character)),
            _ => Ok(parts),
        }
    }

    fn split_rest(rest: &'a str) -> Result<Self, ConfigError> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        // A password may hold a raw `@`, a host never does.
        let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let (host, port) = split_address(address)?;
        Ok(Self { user, password, host, port, database, query })
    }

    /// Says which parameters are passed over.
    ///
    /// # Errors
    /// Where one must not be.
    pub(super) fn check_parameters(&self) -> Result<(), ConfigError> {
        for (name, value) in self.parameters() {
            if REFUSED.contains(&name) || (name, value) == ("gssencmode", "require") {
                return Err(ConfigError::Unsupported(name.to_owned()));
            }
            if !KNOWN.contains(&name) {
                tracing::warn!(parameter = name, "passing over a parameter of the database URL");
            }
        }
        Ok(())
    }

    /// The last value of a query key.
    pub(super) fn parameter(&self, key: &str) -> Option<&'a str> {
        self.parameters().filter_map(|(name, value)| (name == key).then_some(value)).last()
    }

    /// The same, decoded.
    pub(super) fn decoded(&self, key: &str) -> Result<Option<String>, ConfigError> {
        self.parameter(key).map(decoded).transpose()
    }

    /// `sslmode`, which JDBC calls `ssl=true`.
    pub(super) fn ssl_mode(&self) -> Option<&'a str> {
        self.parameter("sslmode").or_else(|| (self.parameter("ssl") == Some("true")).then_some("require"))
    }

    pub(super) fn user(&self) -> Result<String, ConfigError> {
        let user = decoded(self.either(self.user, "user"))?;
        match user.is_empty() {
            true => Err(ConfigError::Malformed("the user is missing")),
            false => Ok(user),
        }
    }

    /// An empty password is none.
    pub(super) fn password(&self) -> Result<Option<String>, ConfigError> {
        let password = decoded(self.either(self.password.unwrap_or_default(), "password"))?;
        Ok((!password.is_empty()).then_some(password))
    }

    pub(super) fn database(&self) -> Result<String, ConfigError> {
        decoded(self.either(self.database, "dbname"))
    }

    pub(super) fn host(&self) -> Result<Host, ConfigError> {
        let host = decoded(self.either(self.host, "host"))?;
        match host.as_str() {
            "" => Err(ConfigError::Malformed("the host is missing")),
            several if several.contains(',') => Err(ConfigError::Malformed("only one host can be given")),
            directory if directory.starts_with('/') => Ok(Host::Unix(PathBuf::from(host))),
            _ => Ok(Host::Tcp(host)),
        }
    }

    pub(super) fn port(&self, default: u16) -> Result<u16, ConfigError> {
        match self.either(self.port.unwrap_or_default(), "port") {
            "" => Ok(default),
            port => match port.parse() {
                Ok(port) if port > 0 => Ok(port),
                _ => Err(ConfigError::Malformed("the port must be a number from 1 to 65535")),
            },
        }
    }

    fn parameters(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.query.split('&').filter_map(|pair| pair.split_once('='))
    }

    /// A part of the URL itself, or the parameter that stands for it.
    fn either(&self, part: &'a str, key: &str) -> &'a str {
        if part.is_empty() { self.parameter(key).unwrap_or_default() } else { part }
    }
}

/// The first character behind which a URL's login cannot go on, where an `@` behind it says that it does.
fn raw_character(rest: &str) -> Option<char> {
    let end = rest.find(['/', '?'])?;
    let (login, after) = (rest.get(..end)?, rest.get(end..)?);
    (login.contains(':') && after.contains('@')).then(|| after.chars().next()).flatten()
}

fn split_address(address: &str) -> Result<(&str, Option<&str>), ConfigError> {
    if let Some(bracketed) = address.strip_prefix('[') {
        let (host, rest) =
            bracketed.split_once(']').ok_or(ConfigError::Malformed("an IPv6 address must end in `]`"))?;
        return Ok((host, rest.strip_prefix(':')));
    }
    Ok(match address.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (address, None),
    })
}

/// Undoes percent-encoding; a `%` that starts no escape is an error, since a password is at stake.
fn decoded(text: &str) -> Result<String, ConfigError> {
    const BAD_ESCAPE: ConfigError =
        ConfigError::Malformed("a `%` must be followed by two hexadecimal digits, as in `%25`");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('%') {
        bytes.extend(plain.bytes());
        let digits = escaped.get(..2).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or(BAD_ESCAPE)?);
        rest = escaped.get(2..).unwrap_or_default();
    }
    bytes.extend(rest.bytes());
    String::from_utf8(bytes).map_err(|_| ConfigError::Malformed("it must be UTF-8 once decoded"))
}

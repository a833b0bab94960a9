//! Where Postgres is and how to log in: the connection URL.

use super::tcp::TcpOptions;
use super::tls;
use rustls::ClientConfig;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DEFAULT_PORT: u16 = 5432;

/// A parsed connection URL. `Debug` and `Display` hide the password.
#[derive(Clone)]
pub struct PostgresConfig {
    /// Where to connect to.
    pub host: Host,
    /// The port; for a socket directory, the number in the socket's name.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The password, where the URL has one.
    pub password: Option<String>,
    /// The database.
    pub database: String,
    /// Whether the connection is encrypted.
    pub encryption: Encryption,
    /// Try IPv6 addresses before IPv4 ones.
    pub prefer_ipv6: bool,
    /// The kernel's timers.
    pub tcp: TcpOptions,
    pub(super) tls: Arc<ClientConfig>,
}

/// Where Postgres listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A host name or an address.
    Tcp(String),
    /// The directory of a Unix socket.
    Unix(PathBuf),
}

/// `sslmode`, with libpq's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Never.
    Disable,
    /// Only where the server refuses a plain connection.
    Allow,
    /// Where the server can.
    Prefer,
    /// Always; the certificate is verified only where a CA file is given.
    Require,
}

/// The URL cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not a Postgres URL at all.
    #[error("the database URL must look like `postgresql://user:password@host:5432/database`: {0}")]
    Malformed(&'static str),
    /// An unknown `sslmode`.
    #[error("`sslmode={0}` is not one of `disable`, `allow`, `prefer`, `require`")]
    UnknownSslMode(String),
    /// `verify-ca` or `verify-full` without a certificate to verify with.
    #[error(
        "`sslmode={0}` needs the CA certificate's file: set the CA certificate file and `sslmode=require`"
    )]
    VerifyWithoutCa(String),
    /// A CA file together with `sslmode=disable`.
    #[error("a CA certificate file contradicts `sslmode=disable`: leave one of them out")]
    CaWithoutTls,
    /// The CA file cannot be used.
    #[error("cannot use the CA certificate file `{path}`: {reason}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `replication=` is ours to set.
    #[error("the database URL must not contain `replication=`")]
    Replication,
}

impl PostgresConfig {
    /// Parses `postgres[ql]://user[:password]@host[:port]/database?sslmode=…`.
    ///
    /// A host that starts with `/` (percent-encoded, or as `?host=/path`) is a socket directory.
    /// With a CA file the server's certificate and name are verified, whatever `sslmode` says.
    ///
    /// # Errors
    /// [`ConfigError`], one sentence fit for a user.
    pub fn parse(url: &str, ca_file: Option<&Path>, prefer_ipv6: bool) -> Result<Self, ConfigError> {
        let parts = UrlParts::split(url)?;
        let user = decoded(parts.user)?;
        if user.is_empty() {
            return Err(ConfigError::Malformed("the user is missing"));
        }
        let database = decoded(parts.database)?;
        Ok(Self {
            host: host(&parts)?,
            port: port(&parts)?,
            password: parts.password.map(decoded).transpose()?,
            database: if database.is_empty() { user.clone() } else { database },
            user,
            encryption: encryption(parts.parameter("sslmode"), ca_file)?,
            prefer_ipv6,
            tcp: TcpOptions::default(),
            tls: tls::client_config(ca_file)?,
        })
    }
}

impl fmt::Display for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = if self.password.is_some() { ":***" } else { "" };
        let Self { user, host, port, database, .. } = self;
        write!(f, "postgresql://{user}{password}@{host}:{port}/{database}")
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresConfig({self}, {:?})", self.encryption)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(name) if name.contains(':') => write!(f, "[{name}]"),
            Self::Tcp(name) => f.write_str(name),
            Self::Unix(directory) => write!(f, "{}", directory.display()),
        }
    }
}

/// The URL's parts, still percent-encoded.
struct UrlParts<'a> {
    user: &'a str,
    password: Option<&'a str>,
    host: &'a str,
    port: Option<&'a str>,
    database: &'a str,
    query: &'a str,
}

impl<'a> UrlParts<'a> {
    fn split(url: &'a str) -> Result<Self, ConfigError> {
        let rest = ["postgresql://", "postgres://"]
            .into_iter()
            .find_map(|scheme| url.strip_prefix(scheme))
            .ok_or(ConfigError::Malformed("it must start with `postgresql://`"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        // A password may hold a raw `@`, a host never does.
        let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let (host, port) = split_address(address)?;
        let parts = Self { user, password, host, port, database, query };
        if parts.parameter("replication").is_some() {
            return Err(ConfigError::Replication);
        }
        Ok(Self { user: parts.parameter("user").filter(|_| user.is_empty()).unwrap_or(user), ..parts })
    }

    /// The last value of a query key.
    fn parameter(&self, key: &str) -> Option<&'a str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .filter_map(|(name, value)| (name == key).then_some(value))
            .next_back()
    }
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

fn host(parts: &UrlParts<'_>) -> Result<Host, ConfigError> {
    let host = match parts.host {
        "" => parts.parameter("host").unwrap_or_default(),
        host => host,
    };
    let host = decoded(host)?;
    match host.as_str() {
        "" => Err(ConfigError::Malformed("the host is missing")),
        several if several.contains(',') => Err(ConfigError::Malformed("only one host can be given")),
        directory if directory.starts_with('/') => Ok(Host::Unix(PathBuf::from(host))),
        _ => Ok(Host::Tcp(host)),
    }
}

fn port(parts: &UrlParts<'_>) -> Result<u16, ConfigError> {
    match parts.port.or_else(|| parts.parameter("port")) {
        None | Some("") => Ok(DEFAULT_PORT),
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(ConfigError::Malformed("the port must be a number from 1 to 65535")),
        },
    }
}

fn encryption(mode: Option<&str>, ca_file: Option<&Path>) -> Result<Encryption, ConfigError> {
    match (mode, ca_file) {
        (Some("disable"), None) => Ok(Encryption::Disable),
        (Some("disable"), Some(_)) => Err(ConfigError::CaWithoutTls),
        (None | Some("allow" | "prefer" | "require" | "verify-ca" | "verify-full"), Some(_)) => {
            Ok(Encryption::Require)
        }
        (Some("allow"), None) => Ok(Encryption::Allow),
        (None | Some("prefer"), None) => Ok(Encryption::Prefer),
        (Some("require"), None) => Ok(Encryption::Require),
        (Some(mode @ ("verify-ca" | "verify-full")), None) => {
            Err(ConfigError::VerifyWithoutCa(mode.to_owned()))
        }
        (Some(mode), _) => Err(ConfigError::UnknownSslMode(mode.to_owned())),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<PostgresConfig, ConfigError> {
        PostgresConfig::parse(url, None, false)
    }

    fn parsed(url: &str) -> PostgresConfig {
        parse(url).expect(url)
    }

    #[test]
    fn reads_every_part() {
        let config = parsed("postgres://me%40x:p%3A%2Fw%25@db.example:6432/app%20db?sslmode=require&x=1");
        assert_eq!(config.user, "me@x");
        assert_eq!(config.password.as_deref(), Some("p:/w%"));
        assert_eq!(config.host, Host::Tcp("db.example".to_owned()));
        assert_eq!((config.port, config.database.as_str()), (6432, "app db"));
        assert_eq!(config.encryption, Encryption::Require);
    }

    #[test]
    fn fills_in_what_is_left_out() {
        let config = parsed("postgresql://me@localhost");
        assert_eq!((config.port, config.database.as_str()), (5432, "me"));
        assert_eq!((config.password, config.encryption), (None, Encryption::Prefer));
    }

    #[test]
    fn hosts_are_names_addresses_or_socket_directories() {
        let unix = Host::Unix(PathBuf::from("/run/pg"));
        assert_eq!(parsed("postgres://me@/db?host=/run/pg").host, unix);
        assert_eq!(parsed("postgres:///db?host=/run/pg&user=me&port=5433").host, unix);
        assert_eq!(parsed("postgres://me@%2Frun%2Fpg:5433/db").host, unix);
        let v6 = parsed("postgres://me@[::1]:5433/db");
        assert_eq!((v6.host, v6.port), (Host::Tcp("::1".to_owned()), 5433));
        assert_eq!(parsed("postgres://me:a@b@h/db").password.as_deref(), Some("a@b"));
    }

    #[test]
    fn encryption_follows_mode_and_ca_file() {
        for (mode, expected) in [
            ("disable", Encryption::Disable),
            ("allow", Encryption::Allow),
            ("prefer", Encryption::Prefer),
            ("require", Encryption::Require),
        ] {
            let url = format!("postgres://me@h/db?sslmode={mode}");
            assert_eq!(parsed(&url).encryption, expected);
        }
        let ca = Some(Path::new("ca.pem"));
        assert_eq!(encryption(Some("verify-full"), ca), Ok(Encryption::Require));
        assert_eq!(encryption(None, ca), Ok(Encryption::Require));
        assert_eq!(encryption(Some("disable"), ca), Err(ConfigError::CaWithoutTls));
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        for (url, part) in [
            ("mysql://me@h/db", "must start with `postgresql://`"),
            ("postgres://h/db", "the user is missing"),
            ("postgres://me@/db", "the host is missing"),
            ("postgres://me@a,b/db", "only one host"),
            ("postgres://me@h:0/db", "the port must be"),
            ("postgres://me@h:x/db", "the port must be"),
            ("postgres://me@[::1/db", "must end in `]`"),
            ("postgres://me:50%@h/db", "two hexadecimal digits"),
            ("postgres://me:%€@h/db", "two hexadecimal digits"),
            ("postgres://me:%ff@h/db", "must be UTF-8"),
            ("postgres://me@h/db?sslmode=on", "`sslmode=on` is not one of"),
            ("postgres://me@h/db?sslmode=verify-full", "needs the CA certificate's file"),
            ("postgres://me@h/db?replication=database", "must not contain `replication=`"),
        ] {
            let error = parse(url).expect_err(url).to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    #[test]
    fn the_password_is_never_shown() {
        let config = parsed("postgres://me:hunter2@h/db");
        assert_eq!(config.to_string(), "postgresql://me:***@h:5432/db");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn an_unreadable_ca_file_is_named() {
        let error = PostgresConfig::parse("postgres://me@h/db", Some(Path::new("/no/ca.pem")), false)
            .expect_err("no such file");
        assert!(error.to_string().contains("/no/ca.pem"), "{error}");
    }
}

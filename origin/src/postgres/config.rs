//! Where Postgres is and how to log in: the connection URL.

use super::scarcity::Scarcity;
use super::tcp::TcpOptions;
use super::tls::{self, Roots, TlsOptions};
use super::url::UrlParts;
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
    /// `sslnegotiation=direct`: encryption begins without asking for it (Postgres 17 and newer).
    pub is_direct: bool,
    /// Whether a login is bound to the encrypted connection.
    pub channel_binding: Binding,
    /// Try IPv6 addresses before IPv4 ones.
    pub prefer_ipv6: bool,
    /// The kernel's timers.
    pub tcp: TcpOptions,
    /// Whether Postgres has run out of connections for us.
    pub scarcity: Scarcity,
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

/// `sslmode`, as far as it says whether to encrypt; what is verified is decided with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Never.
    Disable,
    /// Only where the server refuses a plain connection.
    Allow,
    /// Where the server can.
    Prefer,
    /// Always.
    Require,
}

/// `channel_binding`, with libpq's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// Never.
    Disable,
    /// Where both sides can.
    Prefer,
    /// Only logins that are bound.
    Require,
}

/// The verification of the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verified {
    Nothing,
    Chain,
    ChainAndName,
}

/// The URL cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not a Postgres URL at all.
    #[error("the database URL must look like `postgresql://user:password@host:5432/database`: {0}")]
    Malformed(&'static str),
    /// A character of the password ends it.
    #[error(
        "the database URL must look like `postgresql://user:password@host:5432/database`: the password seems to \
         hold a `{0}`, which must be written as `%{code:02X}`",
        code = u32::from(*.0)
    )]
    RawCharacter(char),
    /// An unknown `sslmode`.
    #[error(
        "`sslmode={0}` is not one of `disable`, `allow`, `prefer`, `require`, `verify-ca`, `verify-full`"
    )]
    UnknownSslMode(String),
    /// What node-postgres calls `require`.
    #[error(
        "`sslmode=no-verify` is understood by node-postgres alone: write `sslmode=require`, which encrypts and \
         does not verify the certificate where no CA file is given"
    )]
    NoVerify,
    /// Another parameter with a value that it does not have.
    #[error("`{name}={value}` in the database URL must be one of {expected}")]
    UnknownValue {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: String,
        /// The accepted values.
        expected: &'static str,
    },
    /// A parameter by which the connection would be safer, and which is not supported.
    #[error("`{0}` in the database URL is not supported: leave it out")]
    Unsupported(String),
    /// `verify-ca` or `verify-full` without a certificate to verify with.
    #[error(
        "`sslmode={0}` needs the CA certificate's file: add `sslrootcert=FILE`, or `sslrootcert=system` for the \
         CAs of the operating system, or give `--database-ca-certificate-file`"
    )]
    VerifyWithoutCa(String),
    /// A CA file together with `sslmode=disable`.
    #[error("a CA certificate file contradicts `sslmode=disable`: leave one of them out")]
    CaWithoutTls,
    /// The system's CAs vouch for names.
    #[error(
        "`sslrootcert=system` verifies the server's name: it needs `sslmode=verify-full`, or no `sslmode`"
    )]
    SystemWithoutName,
    /// A certificate without its key, or the other way round.
    #[error("`sslcert` and `sslkey` in the database URL need each other")]
    HalfAnIdentity,
    /// Direct encryption with a mode that may do without.
    #[error("`sslnegotiation=direct` needs `sslmode=require`, `verify-ca` or `verify-full`")]
    DirectWithoutTls,
    /// A file of certificates or keys cannot be used.
    #[error("cannot use the certificate file `{path}`: {reason}")]
    CertificateFile {
        /// The file.
        path: PathBuf,
        /// The mistake in it.
        reason: String,
    },
    /// `replication=` is ours to set.
    #[error("the database URL must not contain `replication=`")]
    Replication,
}

impl PostgresConfig {
    /// Parses `postgres[ql]://user[:password]@host[:port]/database?sslmode=…`; blanks and quotation marks around it do
    /// not matter.
    ///
    /// A host that starts with `/` (percent-encoded, or as `?host=/path`) is a socket directory. What is verified of the
    /// server's certificate is libpq's rule, `ca_file` being `sslrootcert`; without `sslmode`, it is all of it.
    ///
    /// # Errors
    /// [`ConfigError`], one sentence fit for a user.
    pub fn parse(url: &str, ca_file: Option<&Path>, prefer_ipv6: bool) -> Result<Self, ConfigError> {
        let parts = UrlParts::split(url)?;
        parts.check_parameters()?;
        let user = parts.user()?;
        let host = parts.host()?;
        let roots = match (parts.decoded("sslrootcert")?.as_deref(), ca_file) {
            (Some("system"), _) => Some(Roots::System),
            (Some(file), _) if !file.is_empty() => Some(Roots::File(file.into())),
            (_, file) => file.map(|file| Roots::File(file.to_owned())),
        };
        let (encryption, verified) = encryption(parts.ssl_mode(), roots.as_ref())?;
        let is_direct = is_direct(parts.parameter("sslnegotiation"), encryption)?;
        let identity = match (parts.decoded("sslcert")?, parts.decoded("sslkey")?) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (None, None) => None,
            _ => return Err(ConfigError::HalfAnIdentity),
        };
        let name = match &host {
            Host::Tcp(name) if verified == Verified::ChainAndName => Some(name.clone()),
            _ => None,
        };
        let options = TlsOptions {
            roots: roots.filter(|_| verified != Verified::Nothing),
            host: name,
            identity,
            sni: parts.parameter("sslsni") != Some("0"),
            is_direct,
        };
        let database = parts.database()?;
        Ok(Self {
            host,
            port: parts.port(DEFAULT_PORT)?,
            password: parts.password()?,
            database: if database.is_empty() { user.clone() } else { database },
            user,
            encryption,
            is_direct,
            channel_binding: binding(parts.parameter("channel_binding"))?,
            prefer_ipv6,
            tcp: TcpOptions::default(),
            scarcity: Scarcity::new(),
            tls: tls::client_config(options)?,
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

/// libpq's rule (the Postgres documentation, *Protection Provided in Different Modes*): with a CA file, every mode
/// verifies the chain. Where a file was given and no mode, the name is verified too, and nothing is unencrypted.
fn encryption(mode: Option<&str>, roots: Option<&Roots>) -> Result<(Encryption, Verified), ConfigError> {
    use Verified::{Chain, ChainAndName, Nothing};
    Ok(match (mode, roots) {
        (Some("no-verify"), _) => return Err(ConfigError::NoVerify),
        (Some("disable"), None) => (Encryption::Disable, Nothing),
        (Some("disable"), Some(_)) => return Err(ConfigError::CaWithoutTls),
        (None | Some("verify-full"), Some(_)) => (Encryption::Require, ChainAndName),
        (Some("allow" | "prefer" | "require" | "verify-ca"), Some(Roots::System)) => {
            return Err(ConfigError::SystemWithoutName);
        }
        (Some("allow" | "prefer" | "require" | "verify-ca"), Some(Roots::File(_))) => {
            (Encryption::Require, Chain)
        }
        (Some("allow"), None) => (Encryption::Allow, Nothing),
        (None | Some("prefer"), None) => (Encryption::Prefer, Nothing),
        (Some("require"), None) => (Encryption::Require, Nothing),
        (Some(mode @ ("verify-ca" | "verify-full")), None) => {
            return Err(ConfigError::VerifyWithoutCa(mode.to_owned()));
        }
        (Some(mode), _) => return Err(ConfigError::UnknownSslMode(mode.to_owned())),
    })
}

fn is_direct(negotiation: Option<&str>, encryption: Encryption) -> Result<bool, ConfigError> {
    let (name, expected) = ("sslnegotiation", "`postgres`, `direct`");
    match (negotiation, encryption) {
        (None | Some("postgres"), _) => Ok(false),
        (Some("direct"), Encryption::Require) => Ok(true),
        (Some("direct"), _) => Err(ConfigError::DirectWithoutTls),
        (Some(value), _) => Err(ConfigError::UnknownValue { name, value: value.to_owned(), expected }),
    }
}

fn binding(value: Option<&str>) -> Result<Binding, ConfigError> {
    let (name, expected) = ("channel_binding", "`disable`, `prefer`, `require`");
    match value {
        None | Some("prefer") => Ok(Binding::Prefer),
        Some("disable") => Ok(Binding::Disable),
        Some("require") => Ok(Binding::Require),
        Some(value) => Err(ConfigError::UnknownValue { name, value: value.to_owned(), expected }),
    }
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
    fn what_others_write_into_urls_is_read() {
        for url in [
            "  postgres://me:p@h/db\n",
            "\"postgres://me:p@h/db\"",
            "postgres://me:p@h/db?schema=public&pgbouncer=true&connection_limit=5&connect_timeout=10",
            "postgres://me:p@h/db?application_name=a@b&target_session_attrs=read-write&options=-c%20x%3Dy",
            "postgres://h/db?user=me&password=p",
            "postgres://me:p@h?dbname=db",
        ] {
            let config = parsed(url);
            assert_eq!(config.to_string(), "postgresql://me:***@h:5432/db", "{url}");
        }
        assert_eq!(parsed("postgres://me:@h/db").password, None, "an empty one is none");
        assert_eq!(parsed("postgres://me:a#b:c@h/db").password.as_deref(), Some("a#b:c"));
        assert_eq!(parsed("postgres://me@h/db?ssl=true").encryption, Encryption::Require);
        let direct =
            parsed("postgres://me@h/db?sslmode=require&sslnegotiation=direct&channel_binding=require");
        assert_eq!((direct.is_direct, direct.channel_binding), (true, Binding::Require));
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
        let (file, system) = (Roots::File("ca.pem".into()), Roots::System);
        let all = Ok((Encryption::Require, Verified::ChainAndName));
        let chain = Ok((Encryption::Require, Verified::Chain));
        assert_eq!(
            [None, Some("verify-full")].map(|mode| encryption(mode, Some(&file))),
            [all.clone(), all.clone()]
        );
        for mode in ["allow", "prefer", "require", "verify-ca"] {
            assert_eq!(encryption(Some(mode), Some(&file)), chain, "{mode}");
            assert_eq!(encryption(Some(mode), Some(&system)), Err(ConfigError::SystemWithoutName), "{mode}");
        }
        assert_eq!(encryption(None, Some(&system)), all);
        assert_eq!(encryption(Some("disable"), Some(&file)), Err(ConfigError::CaWithoutTls));
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
            (
                "postgres://me:hunter/2@h/db",
                "the password seems to hold a `/`, which must be written as `%2F`",
            ),
            ("postgres://me:5/2@h/db", "written as `%2F`"),
            ("postgres://me:hun@ter/2@h/db", "written as `%2F`"),
            ("postgres://me:hunter?2@h:1/db", "written as `%3F`"),
            ("postgres://me:hunter#2/x@h:1/db", "written as `%2F`"),
            ("host=h user=me password=hunter2", "`key=value` pairs"),
            ("postgres://me@h/db?sslmode=no-verify", "write `sslmode=require`"),
            ("postgres://me@h/db?sslcert=a.crt", "`sslcert` and `sslkey`"),
            ("postgres://me@h/db?sslcrl=a.crl", "`sslcrl` in the database URL is not supported"),
            ("postgres://me@h/db?channel_binding=yes", "one of `disable`, `prefer`, `require`"),
            ("postgres://me@h/db?sslnegotiation=direct", "needs `sslmode=require`"),
        ] {
            let error = parse(url).expect_err(url).to_string();
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("hunter"), "{url}: {error}");
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

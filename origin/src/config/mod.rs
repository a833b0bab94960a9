//! What `limn serve` can be told: by option, by `LIMN_*` variable, or by the names that Electric documents.

use crate::http::{AdmissionLimits, Settings};
use crate::postgres::PostgresConfig;
use crate::postgres::publication::Publication;
use anyhow::{Context, Result, bail};
use clap::{ArgAction, Args, Command};
use limn_core::protocol::cache::CachePolicy;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Options of `limn serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeOptions {
    /// Postgres to follow: `postgres://user:password@host:port/database`
    #[arg(long, env = "LIMN_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,

    /// Where queries go instead, such as a connection pooler
    #[arg(long, env = "LIMN_POOLED_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub pooled_database_url: Option<String>,

    /// Verify Postgres's certificate against this CA
    #[arg(long, env = "LIMN_DATABASE_CA_CERTIFICATE_FILE", value_name = "FILE")]
    pub database_ca_certificate_file: Option<PathBuf>,

    /// Prefer IPv6 to reach Postgres
    #[arg(long, env = "LIMN_DATABASE_USE_IPV6", action = ArgAction::Set, default_value_t = false,
          num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub database_use_ipv6: bool,

    /// Port of the HTTP API
    #[arg(long, short, env = "LIMN_PORT", default_value_t = 3000)]
    pub port: u16,

    /// Address to listen on
    #[arg(long, env = "LIMN_HOST", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED), value_name = "ADDRESS")]
    pub host: IpAddr,

    /// Serve Prometheus metrics at `/metrics` on this port (off by default)
    #[arg(long, env = "LIMN_METRICS_PORT", value_name = "PORT")]
    pub metrics_port: Option<u16>,

    /// Where shapes are kept
    #[arg(long, env = "LIMN_STORAGE_DIR", default_value = "./persistent", value_name = "DIR")]
    pub storage_dir: PathBuf,

    /// Secret that every request must carry, as `?secret=` or `Authorization: Bearer`
    #[arg(long, env = "LIMN_SECRET", hide_env_values = true)]
    pub secret: Option<String>,

    /// Serve everybody without a secret
    #[arg(long, env = "LIMN_INSECURE", action = ArgAction::Set, default_value_t = false,
          num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub insecure: bool,

    /// Suffix of the publication's and the slot's names
    #[arg(long, env = "LIMN_REPLICATION_STREAM_ID", default_value = "default", value_name = "ID")]
    pub replication_stream_id: String,

    /// Never alter the publication or a replica identity
    #[arg(long, env = "LIMN_MANUAL_TABLE_PUBLISHING", action = ArgAction::Set, default_value_t = false,
          num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub manual_table_publishing: bool,

    /// Drop the replication slot when the server ends; shapes then start afresh
    #[arg(long, env = "LIMN_TEMPORARY_SLOT", action = ArgAction::Set, default_value_t = false,
          num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub temporary_slot: bool,

    /// Allow `DELETE /v1/shape`
    #[arg(long, env = "LIMN_ALLOW_SHAPE_DELETION", action = ArgAction::Set, default_value_t = false,
          num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub allow_shape_deletion: bool,

    /// How long a live request waits, in milliseconds
    #[arg(long, env = "LIMN_LONG_POLL_TIMEOUT", default_value_t = 20_000, value_name = "MS")]
    pub long_poll_timeout_ms: u64,

    /// How long caches may keep a part of a log, in seconds
    #[arg(long, env = "LIMN_CACHE_MAX_AGE", default_value_t = 60, value_name = "S")]
    pub cache_max_age_s: u64,

    /// How long caches may serve it stale meanwhile, in seconds
    #[arg(long, env = "LIMN_CACHE_STALE_AGE", default_value_t = 300, value_name = "S")]
    pub cache_stale_age_s: u64,

    /// Shapes to keep; beyond it the least recently read ones go (unlimited by default)
    #[arg(long, env = "LIMN_MAX_SHAPES", value_name = "N")]
    pub max_shapes: Option<usize>,

    /// Requests under way at one time, such as `{"initial":300,"existing":10000}`
    #[arg(
        long,
        env = "LIMN_MAX_CONCURRENT_REQUESTS",
        value_name = "JSON",
        default_value = r#"{"initial":300,"existing":10000}"#
    )]
    pub max_concurrent_requests: AdmissionLimits,

    /// Bytes at which a chunk of a log closes
    #[arg(
        long,
        env = "LIMN_SHAPE_CHUNK_BYTES_THRESHOLD",
        default_value_t = 10_485_760,
        value_name = "BYTES"
    )]
    pub chunk_bytes_max: u64,
}

/// Electric's documented names for options that have them, besides `ELECTRIC_<name>` for `LIMN_<name>`.
const OTHER_NAMES: [(&str, &str); 7] = [
    ("LIMN_DATABASE_URL", "DATABASE_URL"),
    ("LIMN_POOLED_DATABASE_URL", "ELECTRIC_QUERY_DATABASE_URL"),
    ("LIMN_METRICS_PORT", "ELECTRIC_PROMETHEUS_PORT"),
    ("LIMN_MAX_SHAPES", "ELECTRIC_EXPERIMENTAL_MAX_SHAPES"),
    ("LIMN_TEMPORARY_SLOT", "CLEANUP_REPLICATION_SLOTS_ON_SHUTDOWN"),
    ("LIMN_ALLOW_SHAPE_DELETION", "ELECTRIC_ENABLE_INTEGRATION_TESTING"),
    ("LIMN_DATABASE_URL", "ELECTRIC_DATABASE_URL"),
];

/// Lets every option that is not given take its value from Electric's name for it.
///
/// `variable` reads the environment; `LIMN_*` wins over `ELECTRIC_*`, options win over both.
#[must_use]
pub fn with_electric_names(command: Command, variable: impl Fn(&str) -> Option<String>) -> Command {
    let aliases: Vec<(clap::Id, String)> = command
        .get_arguments()
        .filter_map(|argument| {
            let limn = argument.get_env()?.to_str()?;
            let same = limn.strip_prefix("LIMN_").map(|name| format!("ELECTRIC_{name}"));
            let others = OTHER_NAMES.iter().filter(|(ours, _)| *ours == limn);
            let names = same.into_iter().chain(others.map(|(_, theirs)| (*theirs).to_owned()));
            let value = names.filter_map(|name| variable(&name)).find(|value| !value.is_empty())?;
            Some((argument.get_id().clone(), value))
        })
        .collect();
    aliases.into_iter().fold(command, |command, (id, value)| {
        let value: &'static str = Box::leak(value.into_boxed_str());
        command.mut_arg(id, |argument| argument.default_value(value))
    })
}

/// Options that were checked against each other.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Where the replication stream comes from.
    pub replication: PostgresConfig,
    /// Where queries go.
    pub queries: PostgresConfig,
    /// Which tables are published.
    pub publication: Publication,
    /// The replication slot.
    pub slot: String,
    /// Whether the slot goes with the server.
    pub temporary_slot: bool,
    /// Whether publication and replica identities are somebody else's business.
    pub manual: bool,
    /// Where to listen.
    pub address: SocketAddr,
    /// Where to serve metrics.
    pub metrics_address: Option<SocketAddr>,
    /// Where shapes are kept.
    pub storage_dir: PathBuf,
    /// Bytes at which a chunk closes.
    pub chunk_bytes_max: u64,
    /// Shapes to keep.
    pub shapes_max: Option<usize>,
    /// Requests under way at one time.
    pub admission: AdmissionLimits,
    /// How requests are answered.
    pub http: Settings,
}

impl ServeOptions {
    /// The options of a server that only this machine reaches, without a secret.
    #[must_use]
    pub fn for_dev() -> Self {
        let matches = Self::augment_args(Command::new("dev").ignore_errors(true)).get_matches_from(["dev"]);
        let defaults = <Self as clap::FromArgMatches>::from_arg_matches(&matches);
        let defaults = defaults.expect("every option has a default or is optional");
        Self { host: IpAddr::V4(Ipv4Addr::LOCALHOST), insecure: true, secret: None, ..defaults }
    }

    /// Checks the options.
    ///
    /// # Errors
    /// One sentence that says what to change.
    pub fn check(self) -> Result<ServeConfig> {
        let url = self.database_url.as_deref().context(
            "no database: give `--database-url postgres://user:password@host:5432/database`, or set DATABASE_URL",
        )?;
        let secret = self.secret.filter(|secret| !secret.is_empty());
        match (&secret, self.insecure) {
            (None, false) => bail!(
                "neither a secret nor `--insecure`: give `--secret SECRET` (or LIMN_SECRET), or `--insecure` to serve everybody"
            ),
            (Some(_), true) => bail!("both `--secret` and `--insecure` are given: give one of them"),
            _ => {}
        }
        let ca_file = self.database_ca_certificate_file.as_deref();
        let postgres = |url: &str| PostgresConfig::parse(url, ca_file, self.database_use_ipv6);
        let stream_id = &self.replication_stream_id;
        if stream_id.is_empty()
            || !stream_id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        {
            bail!("invalid replication stream id `{stream_id}`: use lower case letters, digits and `_`");
        }
        let replication = postgres(url).context("invalid DATABASE_URL")?;
        let queries = match self.pooled_database_url.as_deref() {
            Some(url) => postgres(url).context("invalid pooled database URL")?,
            None => replication.clone(),
        };
        let manual = self.manual_table_publishing;
        Ok(ServeConfig {
            replication,
            queries,
            publication: Publication::new(format!("electric_publication_{stream_id}"), manual),
            slot: format!("electric_slot_{stream_id}"),
            temporary_slot: self.temporary_slot,
            manual,
            address: SocketAddr::new(self.host, self.port),
            metrics_address: self.metrics_port.map(|port| SocketAddr::new(self.host, port)),
            storage_dir: self.storage_dir,
            chunk_bytes_max: self.chunk_bytes_max.max(1),
            shapes_max: self.max_shapes,
            admission: self.max_concurrent_requests,
            http: Settings {
                secret,
                allow_shape_deletion: self.allow_shape_deletion,
                long_poll_timeout: Duration::from_millis(self.long_poll_timeout_ms),
                cache: CachePolicy {
                    max_age_s: self.cache_max_age_s,
                    stale_age_s: self.cache_stale_age_s,
                    ..CachePolicy::default()
                },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches;

    fn parse(arguments: &[&str], environment: &[(&str, &str)]) -> ServeOptions {
        let variable = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let command = with_electric_names(ServeOptions::augment_args(Command::new("serve")), variable);
        let arguments = ["serve"].iter().chain(arguments);
        ServeOptions::from_arg_matches(&command.get_matches_from(arguments)).unwrap()
    }

    const URL: &str = "postgres://u@h/d";

    #[test]
    fn electrics_names_are_understood_and_options_win() {
        let environment = [
            ("DATABASE_URL", URL),
            ("ELECTRIC_PORT", "4000"),
            ("ELECTRIC_INSECURE", "true"),
            ("ELECTRIC_ENABLE_INTEGRATION_TESTING", "true"),
            ("ELECTRIC_PROMETHEUS_PORT", "9090"),
        ];
        let options = parse(&[], &environment);
        assert_eq!((options.port, options.insecure, options.metrics_port), (4000, true, Some(9090)));
        assert!(options.allow_shape_deletion);
        assert_eq!(options.database_url.as_deref(), Some(URL));
        assert_eq!(parse(&["--port", "5000"], &environment).port, 5000);
    }

    #[test]
    fn a_secret_or_insecure_but_not_both() {
        let check = |arguments: &[&str]| parse(arguments, &[("DATABASE_URL", URL)]).check().map(|_| ());
        assert!(check(&[]).unwrap_err().to_string().contains("--insecure"));
        assert!(check(&["--secret", "s", "--insecure"]).is_err());
        assert!(check(&["--secret", "s"]).is_ok());
        assert!(check(&["--insecure"]).is_ok());
    }

    #[test]
    fn no_database_says_what_to_give() {
        let error = parse(&["--insecure"], &[]).check().unwrap_err();
        assert!(error.to_string().contains("--database-url"));
    }
}

//! The options of `limn serve`: by flag, by `LIMN_*` variable, or by the names that Electric documents.

mod duration;
mod electric;
mod options;

pub(crate) use duration::parse_duration;
pub use electric::{value_of, with_electric_names, without_effect};
pub use options::{ServeOptions, StorageKind};

use crate::http::{AdmissionLimits, Settings};
use crate::postgres::publication::Publication;
use crate::postgres::{PostgresConfig, TcpOptions};
use crate::random::random;
use crate::store::Scratch;
use anyhow::{Context, Result, bail};
use clap::{Args, Command};
use limn_core::protocol::cache::CachePolicy;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Options that were checked against each other.
#[derive(Debug)]
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
    /// Keeps the folder for as long as the server runs, where it is to go with it.
    pub scratch: Option<Scratch>,
    /// Bytes at which a chunk closes.
    pub chunk_bytes_max: u64,
    /// Connections for queries.
    pub connections: Connections,
    /// Shapes to keep.
    pub shapes_max: Option<usize>,
    /// Requests under way at one time.
    pub admission: AdmissionLimits,
    /// How requests are answered.
    pub http: Settings,
}

/// How many connections may be open for what, beside the one for replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Snapshots that are taken at one time.
    pub snapshots: usize,
    /// Subset queries that run at one time.
    pub subsets: usize,
}

/// Connections that are always there: the engine's, that of its moves, that of the looks at the catalog, and that of new shapes.
const STANDING_CONNECTIONS: usize = 4;

impl Connections {
    /// Shares out a number of connections, which is at least six.
    #[must_use]
    pub fn of(total: usize) -> Self {
        let rest = total.saturating_sub(STANDING_CONNECTIONS);
        let snapshots = (rest / 3).max(1);
        Self { snapshots, subsets: rest.saturating_sub(snapshots).max(1) }
    }
}

impl ServeOptions {
    /// The options of a server that only this machine reaches, without a secret.
    #[must_use]
    pub fn for_dev() -> Self {
        let matches = Self::augment_args(Command::new("dev").ignore_errors(true)).get_matches_from(["dev"]);
        let defaults = <Self as clap::FromArgMatches>::from_arg_matches(&matches);
        let defaults = defaults.expect("every option has a default or is optional");
        Self { host: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), insecure: true, secret: None, ..defaults }
    }

    /// Checks the options.
    ///
    /// # Errors
    /// One sentence that says what to change.
    pub fn check(self) -> Result<ServeConfig> {
        let url = self.database_url.as_deref().context(
            "no database: give `--database-url postgres://user:password@host:5432/database`, or set DATABASE_URL",
        )?;
        let secret = self.secret.clone().filter(|secret| !secret.is_empty());
        match (&secret, self.insecure) {
            (None, false) => bail!(
                "neither a secret nor `--insecure`: give `--secret SECRET` (or LIMN_SECRET), or `--insecure` to serve everybody"
            ),
            (Some(_), true) => bail!("both `--secret` and `--insecure` are given: give one of them"),
            _ => {}
        }
        let replication = self.postgres(url).context("invalid DATABASE_URL")?;
        let queries = match self.pooled_database_url.as_deref() {
            Some(url) => self.postgres(url).context("invalid pooled database URL")?,
            None => replication.clone(),
        };
        let scratch = match self.storage {
            StorageKind::FastFile => None,
            StorageKind::Memory => Some(Scratch::new("memory")?),
        };
        let storage_dir = scratch.as_ref().map(|scratch| scratch.path().join("storage"));
        let (manual, host) = (self.manual_table_publishing, self.host());
        Ok(ServeConfig {
            replication,
            queries,
            slot: self.slot()?,
            publication: Publication::new(
                format!("electric_publication_{}", self.replication_stream_id),
                manual,
            ),
            temporary_slot: self.temporary_slot,
            manual,
            address: SocketAddr::new(host, self.port),
            metrics_address: self.metrics_port.map(|port| SocketAddr::new(host, port)),
            storage_dir: storage_dir.unwrap_or(self.storage_dir),
            scratch,
            chunk_bytes_max: self.chunk_bytes_max.max(1),
            connections: Connections::of(self.db_pool_size as usize),
            shapes_max: self.max_shapes,
            admission: self.max_concurrent_requests,
            http: Settings {
                secret,
                allow_shape_deletion: self.allow_shape_deletion,
                long_poll_timeout: self.long_poll_timeout,
                send_timeout: self.tcp_send_timeout,
                read_timeout: self.tcp_read_timeout,
                shutdown_grace: self.shutdown_grace,
                cache: CachePolicy {
                    max_age_s: self.cache_max_age_s,
                    stale_age_s: self.cache_stale_age_s,
                    ..CachePolicy::default()
                },
            },
        })
    }

    fn postgres(&self, url: &str) -> Result<PostgresConfig> {
        let ca_file = self.database_ca_certificate_file.as_deref();
        let mut config = PostgresConfig::parse(url, ca_file, self.database_use_ipv6)?;
        if config.password.is_none() {
            config.password = std::env::var("PGPASSWORD").ok().filter(|password| !password.is_empty());
        }
        config.tcp = TcpOptions {
            keepalive_idle: self.database_tcp_keepalive_idle,
            keepalive_interval: self.database_tcp_keepalive_interval,
            keepalive_count: self.database_tcp_keepalive_count,
            user_timeout: self.database_tcp_user_timeout,
        };
        Ok(config)
    }

    fn host(&self) -> IpAddr {
        self.host.unwrap_or(match self.listen_on_ipv6 {
            // On the usual systems that includes IPv4.
            true => Ipv6Addr::UNSPECIFIED.into(),
            false => Ipv4Addr::UNSPECIFIED.into(),
        })
    }

    fn slot(&self) -> Result<String> {
        let id = &self.replication_stream_id;
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            bail!("invalid replication stream id `{id}`: use lower case letters, digits and `_`");
        }
        Ok(match self.temporary_slot && self.temporary_slot_random_name {
            true => format!("electric_slot_{:016x}{:016x}", random(), random()),
            false => format!("electric_slot_{id}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches;
    use std::time::Duration;

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
    fn a_temporary_slot_may_be_named_by_chance() {
        let slot = |arguments: &[&str]| {
            let always = ["--insecure", "--replication-stream-id", "a"];
            let arguments: Vec<&str> = always.iter().chain(arguments).copied().collect();
            parse(&arguments, &[("DATABASE_URL", URL)]).check().unwrap().slot
        };
        assert_eq!(slot(&["--temporary-slot-random-name"]), "electric_slot_a", "only a temporary one");
        let by_chance = ["--temporary-slot", "--temporary-slot-random-name"];
        let (one, other) = (slot(&by_chance), slot(&by_chance));
        assert_eq!((one.len(), one == other), ("electric_slot_".len() + 32, false));
    }

    #[test]
    fn the_storage_may_be_for_this_process_only() {
        let environment =
            [("DATABASE_URL", URL), ("ELECTRIC_STORAGE", "MEMORY"), ("ELECTRIC_INSECURE", "true")];
        let config = parse(&[], &environment).check().unwrap();
        let folder = config.scratch.as_ref().unwrap().path().to_owned();
        assert!(config.storage_dir.starts_with(&folder) && folder.is_dir());
        drop(config);
        assert!(!folder.exists());
        assert_eq!("FAST_FILE".parse(), Ok(StorageKind::FastFile));
        assert!("LEGACY_FILE".parse::<StorageKind>().is_err());
    }

    #[test]
    fn connections_are_shared_out() {
        assert_eq!(Connections::of(28), Connections { snapshots: 8, subsets: 16 });
        assert_eq!(Connections::of(6), Connections { snapshots: 1, subsets: 1 });
    }

    #[test]
    fn timers_and_addresses_by_electrics_names() {
        let environment = [
            ("DATABASE_URL", URL),
            ("ELECTRIC_INSECURE", "true"),
            ("ELECTRIC_LISTEN_ON_IPV6", "true"),
            ("ELECTRIC_LONG_POLL_TIMEOUT", "4000"),
            ("ELECTRIC_TCP_SEND_TIMEOUT", "1m"),
            ("ELECTRIC_DATABASE_TCP_USER_TIMEOUT", "10s"),
            ("ELECTRIC_DATABASE_TCP_KEEPALIVE_COUNT", "4"),
        ];
        let config = parse(&[], &environment).check().unwrap();
        assert_eq!(config.address, "[::]:3000".parse().unwrap());
        assert_eq!(config.http.long_poll_timeout, Duration::from_secs(4));
        assert_eq!(config.http.send_timeout, Duration::from_secs(60));
        assert_eq!(config.queries.tcp.user_timeout, Some(Duration::from_secs(10)));
        assert_eq!(config.replication.tcp.keepalive_count, Some(4));
        let local = parse(&["--host", "127.0.0.1"], &environment).check().unwrap();
        assert_eq!(local.address.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn no_database_says_what_to_give() {
        let error = parse(&["--insecure"], &[]).check().unwrap_err();
        assert!(error.to_string().contains("--database-url"));
    }
}

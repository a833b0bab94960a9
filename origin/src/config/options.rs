//! The options of `limn serve`, as they are given.

use super::duration::parse_duration;
use crate::http::AdmissionLimits;
use clap::{ArgAction, Args};
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
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

    /// Connections for queries: of the catalog, snapshots and subsets together
    #[arg(long, env = "LIMN_DB_POOL_SIZE", default_value_t = 28, value_name = "N",
          value_parser = clap::value_parser!(u32).range(6..))]
    pub db_pool_size: u32,

    /// How long a connection to Postgres is silent before TCP probes it
    #[arg(long, env = "LIMN_DATABASE_TCP_KEEPALIVE_IDLE", value_name = "DURATION", value_parser = parse_duration, default_value = "30s")]
    pub database_tcp_keepalive_idle: Duration,

    /// The time between two probes (the operating system's by default)
    #[arg(long, env = "LIMN_DATABASE_TCP_KEEPALIVE_INTERVAL", value_name = "DURATION", value_parser = parse_duration)]
    pub database_tcp_keepalive_interval: Option<Duration>,

    /// Unanswered probes after which a connection is given up (the operating system's by default)
    #[arg(long, env = "LIMN_DATABASE_TCP_KEEPALIVE_COUNT", value_name = "N")]
    pub database_tcp_keepalive_count: Option<u32>,

    /// How long bytes to Postgres may stay unacknowledged (the operating system's by default; Linux only)
    #[arg(long, env = "LIMN_DATABASE_TCP_USER_TIMEOUT", value_name = "DURATION", value_parser = parse_duration)]
    pub database_tcp_user_timeout: Option<Duration>,

    /// Port of the HTTP API
    #[arg(long, short, env = "LIMN_PORT", default_value_t = 3000)]
    pub port: u16,

    /// Address to listen on [default: 0.0.0.0]
    #[arg(long, env = "LIMN_HOST", value_name = "ADDRESS")]
    pub host: Option<IpAddr>,

    /// Listen on all IPv6 addresses too, where no address is given
    #[arg(long, env = "LIMN_LISTEN_ON_IPV6", action = ArgAction::Set, default_value_t = false,
          num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub listen_on_ipv6: bool,

    /// How long a client may leave sent bytes unacknowledged (Linux only)
    #[arg(long, env = "LIMN_TCP_SEND_TIMEOUT", value_name = "DURATION", value_parser = parse_duration, default_value = "30s")]
    pub tcp_send_timeout: Duration,

    /// How long a connection may wait for its next request, and its head may take
    #[arg(long, env = "LIMN_TCP_READ_TIMEOUT", value_name = "DURATION", value_parser = parse_duration, default_value = "60s")]
    pub tcp_read_timeout: Duration,

    /// How long new connections are answered after SIGTERM, while health says `stopping`
    #[arg(long, env = "LIMN_SHUTDOWN_GRACE", value_name = "DURATION", value_parser = parse_duration, default_value = "1s")]
    pub shutdown_grace: Duration,

    /// Serve Prometheus metrics at `/metrics` on this port (off by default)
    #[arg(long, env = "LIMN_METRICS_PORT", value_name = "PORT")]
    pub metrics_port: Option<u16>,

    /// Send spans to an OTLP collector, such as `http://127.0.0.1:4318` (off by default)
    #[arg(long, env = "LIMN_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,

    /// Where shapes are kept
    #[arg(long, env = "LIMN_STORAGE_DIR", default_value = "./persistent", value_name = "DIR")]
    pub storage_dir: PathBuf,

    /// `fast_file` keeps shapes in the folder, `memory` for this process only, in a temporary one
    #[arg(long, env = "LIMN_STORAGE", default_value = "fast_file", value_name = "KIND")]
    pub storage: StorageKind,

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

    /// With `--temporary-slot`: name it by chance, so that servers do not wait for one another
    #[arg(long, env = "LIMN_TEMPORARY_SLOT_RANDOM_NAME", action = ArgAction::Set, default_value_t = false,
          num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub temporary_slot_random_name: bool,

    /// Allow `DELETE /v1/shape`
    #[arg(long, env = "LIMN_ALLOW_SHAPE_DELETION", action = ArgAction::Set, default_value_t = false,
          num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub allow_shape_deletion: bool,

    /// How long a live request waits
    #[arg(long, alias = "long-poll-timeout-ms", env = "LIMN_LONG_POLL_TIMEOUT", default_value = "20s",
          value_name = "DURATION", value_parser = parse_duration)]
    pub long_poll_timeout: Duration,

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

/// Where shapes are kept, by Electric's names for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageKind {
    /// In the storage folder.
    FastFile,
    /// Nowhere that outlives the process.
    Memory,
}

impl FromStr for StorageKind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "fast_file" => Ok(Self::FastFile),
            "memory" => Ok(Self::Memory),
            _ => Err("expected `fast_file` or `memory`"),
        }
    }
}

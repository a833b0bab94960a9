//! Everything that talks to Postgres.
//!
//! Two kinds of connection share one address, one way to encrypt and one set of session settings:
//! ordinary sessions (tokio-postgres) for the catalog and for snapshots, and one replication
//! connection of our own, because no client library reads the stream without copying it.

pub mod catalog;
mod certificates;
pub mod config;
pub mod confirm;
pub mod conflict;
pub mod error;
pub mod lock_holders;
pub mod obstacle;
mod pool;
mod prepared;
pub mod publication;
pub mod replication;
pub mod rights;
mod scarcity;
pub mod session;
mod settings;
pub mod slot;
pub mod slot_wait;
pub mod snapshot;
mod socket;
pub mod sqlstate;
mod tcp;
mod tls;
mod url;
mod wire;

pub use config::{ConfigError, PostgresConfig};
pub use error::{PostgresError, ServerError};
pub use pool::SessionPool;
pub use replication::{Frame, ReplicationConnection, ReplicationError, ReplicationStream};
pub use scarcity::Scarcity;
pub use session::Session;
pub use tcp::TcpOptions;

/// Our name in `pg_stat_activity.application_name`.
const APPLICATION_NAME: &str = "limn";

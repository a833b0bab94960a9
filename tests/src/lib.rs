//! What the black-box tests stand on: temporary Postgres servers, the `limn` program, an HTTP client, and
//! [`Follower`], which turns a shape's log back into rows.
//!
//! Nothing here knows Limn's code. Everything started here ends with the test process, however that ends.

mod event_client;
mod events;
mod eventually;
mod follower;
mod http;
mod limn;
mod log_checker;
mod postgres;
mod process;
mod proxy;
mod random;
mod rows;
mod scratch;
mod shim;

pub use event_client::EventClient;
pub use events::{Events, Opened};
pub use eventually::{Deadline, PATIENCE, eventually};
pub use follower::{Follower, Step};
pub use http::{Client, Request, Response, encode, parse_begun};
pub use limn::{DevServer, Limn, binary, command};
pub use log_checker::{LogChecker, up_to_date_lsn};
pub use postgres::{Cluster, Database, Row, Sql};
pub use process::{Process, Signal, command_lines_with, peak_memory_kb, processor_time, signal};
pub use proxy::Proxy;
pub use random::Random;
pub use rows::{Rows, is_change};
pub use scratch::{free_port, keep_logs, new_folder};
pub use shim::Shim;

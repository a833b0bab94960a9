//! The replication stream.

use crate::fault::{Fault, Faults};
use crate::postgres::{Frame, Postgres, Walsender};

/// The keepalive that comes now ([`Walsender::keepalive`]).
#[must_use]
pub fn keepalive(link: &Walsender, postgres: &Postgres, faults: Faults) -> Frame {
    match faults.has(Fault::BelievesKeepalives) {
        true => Frame::Keepalive(postgres.wal_end()),
        false => link.keepalive(postgres),
    }
}

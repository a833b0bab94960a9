//! `limn_origin::postgres` against a real server.

mod catalog;
mod certificates;
mod conflicts;
mod connecting;
mod publishing;
mod server;
mod streaming;

use limn_core::pgoutput::{Cell, Message, decode};
use limn_origin::postgres::{Frame, ReplicationStream};
use std::time::Duration;
use tokio::time::timeout;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A committed transaction as the stream told it.
#[derive(Debug)]
struct Transaction {
    xid: u32,
    commit: limn_core::Lsn,
    end: limn_core::Lsn,
    /// The cells of inserted rows, as text.
    inserted: Vec<Vec<Option<String>>>,
}

/// Reads the next transaction that has rows.
async fn next_transaction(stream: &mut ReplicationStream) -> Transaction {
    timeout(PATIENCE, read_transaction(stream)).await.expect("a transaction comes in time")
}

async fn read_transaction(stream: &mut ReplicationStream) -> Transaction {
    let mut xid = 0;
    let mut inserted = Vec::new();
    loop {
        while let Some(frame) = stream.frame().expect("the stream goes on") {
            let Frame::XLogData { data, .. } = frame else { continue };
            match decode(data).expect("Postgres's own message") {
                Message::Begin(begin) => xid = begin.xid,
                Message::Insert { new, .. } => inserted.push(new.iter().map(text).collect()),
                Message::Commit(commit) if !inserted.is_empty() => {
                    return Transaction { xid, commit: commit.lsn, end: commit.end_lsn, inserted };
                }
                _ => {}
            }
        }
        stream.fill().await.expect("the stream goes on");
    }
}

fn text(cell: Cell<'_>) -> Option<String> {
    match cell {
        Cell::Null => None,
        Cell::UnchangedToast => Some("(unchanged)".to_owned()),
        Cell::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
    }
}

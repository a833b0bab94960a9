//! Setting again what a table lost, without keeping a look at the other tables waiting.

use crate::shapes::creation::Publisher;
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Tables that are mended at one time; further ones wait for the next look.
const MENDING_MAX: usize = 16;
/// How long a look waits for what it began to mend: mostly nobody holds a lock.
const MEND_WAIT: Duration = Duration::from_millis(200);

/// Tables whose publishing is being set again, and why that failed for others.
#[derive(Default)]
pub(super) struct Mending {
    tasks: JoinSet<(u32, Result<(), String>)>,
    /// True where the last attempt has ended.
    tables: HashMap<u32, Attempt>,
}

#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    UnderWay,
    Done,
    Failed(String),
}

impl Mending {
    /// Begins to publish these tables again, and waits a moment for it. A table that is still under way is not begun twice.
    pub(super) async fn mend(&mut self, publisher: &Publisher, oids: &[u32]) {
        self.tables.retain(|oid, attempt| *attempt == Attempt::UnderWay || oids.contains(oid));
        for oid in oids.iter().copied() {
            if self.tasks.len() >= MENDING_MAX {
                break;
            }
            if self.tables.get(&oid) == Some(&Attempt::UnderWay) {
                continue;
            }
            self.tables.insert(oid, Attempt::UnderWay);
            let publisher = publisher.clone();
            self.tasks.spawn(async move {
                (oid, publisher.publish_again(oid).await.map_err(|error| error.to_string()))
            });
        }
        let wait = async {
            while let Some(ended) = self.tasks.join_next().await {
                let Ok((oid, result)) = ended else { continue };
                self.tables.insert(oid, result.map_or_else(Attempt::Failed, |()| Attempt::Done));
            }
        };
        // What takes longer is looked at next time.
        let _ = timeout(MEND_WAIT, wait).await;
    }

    /// Whether the last attempt succeeded.
    pub(super) fn is_done(&self, oid: u32) -> bool {
        self.tables.get(&oid) == Some(&Attempt::Done)
    }

    /// Why the last attempt failed.
    pub(super) fn error(&self, oid: u32) -> Option<&str> {
        match self.tables.get(&oid) {
            Some(Attempt::Failed(error)) => Some(error),
            _ => None,
        }
    }
}

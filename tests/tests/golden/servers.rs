//! The servers that the transcripts of a file are replayed against: one for each configuration, all on one
//! Postgres, each with a database of its own.

use crate::transcript::Transcript;
use futures::FutureExt;
use limn_tests::{Cluster, Database, Limn};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::panic::AssertUnwindSafe;
use tokio::sync::Mutex;

/// See the module.
#[derive(Debug)]
pub struct Servers {
    _cluster: Cluster,
    servers: BTreeMap<Key, Server>,
}

/// One of them.
#[derive(Debug)]
pub struct Server {
    /// The server.
    pub limn: Limn,
    /// Its database.
    pub database: Database,
    /// Held while tables are made, some of which several transcripts make.
    pub setup: Mutex<()>,
}

/// The configuration; and the title, where transcripts cannot share a server.
type Key = (BTreeMap<String, String>, String);

impl Servers {
    /// Starts those that the transcripts need.
    pub async fn start(transcripts: &[Transcript]) -> Self {
        let cluster = Cluster::start(&[]).await;
        let mut servers = BTreeMap::new();
        for transcript in transcripts {
            let Some(options) = options(transcript) else { continue };
            if let Entry::Vacant(place) = servers.entry(key(transcript)) {
                let database = cluster.database().await;
                let options: Vec<&str> = options.iter().map(String::as_str).collect();
                // One that cannot start is the failure of its transcripts only.
                let started = AssertUnwindSafe(Limn::start(&database, &options)).catch_unwind().await;
                if let Ok(limn) = started {
                    place.insert(Server { limn, database, setup: Mutex::default() });
                }
            }
        }
        Self { _cluster: cluster, servers }
    }

    /// The one for that transcript, unless it needs a setting that Limn does not have, or did not start.
    pub fn of(&self, transcript: &Transcript) -> Option<&Server> {
        self.servers.get(&key(transcript))
    }
}

fn key(transcript: &Transcript) -> Key {
    // All of these use the same table.
    let alone = transcript.file == "lifecycle";
    (transcript.config.clone(), if alone { transcript.title.clone() } else { String::new() })
}

/// The recorded settings as options of `limn serve`.
fn options(transcript: &Transcript) -> Option<Vec<String>> {
    let mut options = Vec::new();
    for (name, value) in &transcript.config {
        let (option, takes_value) = match name.as_str() {
            "ELECTRIC_INSECURE" => continue,
            "ELECTRIC_SECRET" => ("--secret", true),
            "ELECTRIC_ENABLE_INTEGRATION_TESTING" => ("--allow-shape-deletion", false),
            "ELECTRIC_SHAPE_CHUNK_BYTES_THRESHOLD" => ("--chunk-bytes-max", true),
            "ELECTRIC_LONG_POLL_TIMEOUT" => ("--long-poll-timeout-ms", true),
            "ELECTRIC_MANUAL_TABLE_PUBLISHING" => ("--manual-table-publishing", false),
            _ => return None,
        };
        options.push(option.to_owned());
        if takes_value {
            options.push(value.clone());
        }
    }
    Some(options)
}

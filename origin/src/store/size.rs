//! How much the storage folder holds.

use super::Folder;
use crate::observe::Metrics;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often the storage folder is measured.
const PERIOD: Duration = Duration::from_secs(15);

/// Measures the storage folder for as long as the server runs.
pub async fn run(folder: Arc<Folder>, metrics: Arc<Metrics>) {
    let layout = folder.layout();
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let parts = [("commit", layout.commit_dir()), ("shapes", layout.shapes_dir())];
        let measured = tokio::task::spawn_blocking(move || parts.map(|(part, dir)| (part, bytes_in(&dir))));
        for (part, bytes) in measured.await.into_iter().flatten() {
            match bytes {
                Ok(bytes) => metrics.stores(part, bytes),
                Err(error) => tracing::debug!(part, %error, "cannot measure the storage folder"),
            }
        }
    }
}

/// The bytes of all files in a folder, two levels deep at most; what goes meanwhile does not count.
fn bytes_in(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let Ok(entry) = entry else { continue };
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += bytes_in(&entry.path()).unwrap_or(0),
            Ok(metadata) => bytes += metadata.len(),
            Err(_) => {}
        }
    }
    Ok(bytes)
}

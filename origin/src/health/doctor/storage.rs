//! The judgement on the storage folder. Nothing in it is changed, and a server may be using it.

use super::report::Report;
use crate::postgres::replication::SystemIdentity;
use crate::store::inspect::{Inspected, inspect};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use std::path::Path;

/// Free space below which the next snapshot may fail.
const FREE_BYTES_LOW: u64 = 1 << 30;
/// Free space below which the commit log may fail.
const FREE_BYTES_MIN: u64 = 128 << 20;

/// Judges the folder; returns the tables that have shapes in it.
pub fn judge(
    report: &mut Report,
    path: &Path,
    server: Option<&SystemIdentity>,
    slot: &str,
) -> Vec<(u32, String)> {
    let tables = match inspect(path) {
        Ok(Inspected::Absent) => {
            report.ok("storage", format!("`{}` does not exist yet: `limn serve` makes it", path.display()));
            Vec::new()
        }
        Ok(Inspected::Ours { origin, in_use, tables }) => {
            let mut distinct = tables.clone();
            distinct.sort();
            distinct.dedup();
            let used = if in_use { ", and a server uses it" } else { "" };
            let text = format!(
                "`{}` holds {} shapes of {} tables{used}",
                path.display(),
                tables.len(),
                distinct.len()
            );
            let strange = origin.filter(|origin| {
                origin.slot != slot || server.is_some_and(|server| server.system_id != origin.system_id)
            });
            match strange {
                Some(_) => report.warning(
                    "storage",
                    format!("{text}; they come from another database or slot, and start over"),
                    None,
                ),
                None => report.ok("storage", text),
            }
            distinct
        }
        Err(error) => {
            report.error("storage", error.to_string(), None);
            Vec::new()
        }
    };
    judge_disk(report, path);
    tables
}

/// The disk below the folder, or below where it would be made.
fn judge_disk(report: &mut Report, path: &Path) {
    let existing = path.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("."));
    let shown = existing.display();
    if let Err(error) = access(existing, AccessFlags::W_OK | AccessFlags::X_OK) {
        let run = format!("chown \"$(id -un)\" '{shown}' && chmod u+rwx '{shown}'");
        report.error("storage_writable", format!("`{shown}` cannot be written: {error}"), Some(run));
        return;
    }
    report.ok("storage_writable", format!("`{shown}` can be written"));
    let free = match statvfs(existing) {
        // Blocks are counted in 32 bits on some systems.
        #[allow(clippy::useless_conversion)]
        Ok(disk) => u64::from(disk.blocks_available()).saturating_mul(disk.fragment_size()),
        Err(error) => {
            report.warning(
                "storage_free",
                format!("cannot ask for the free space of `{shown}`: {error}"),
                None,
            );
            return;
        }
    };
    let text = format!("{} MiB free", free >> 20);
    match free {
        free if free < FREE_BYTES_MIN => report.error(
            "storage_free",
            format!(
                "{text}: the server ends when the disk is full; make room, or choose another `--storage-dir`"
            ),
            None,
        ),
        free if free < FREE_BYTES_LOW => {
            report.warning("storage_free", format!("{text}: snapshots need room"), None);
        }
        _ => report.ok("storage_free", text),
    }
}

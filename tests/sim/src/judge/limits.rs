//! Measures what the process keeps in memory and on the disk against `limn_core::store::Limits`.

use super::Verdict;
use crate::files::Files;
use limn_core::Handle;
use limn_core::journal::Record;
use limn_core::journal::record::{FRAME_HEAD_BYTES, payload_bytes, read_frame};
use limn_core::log::{Rope, ShapeLog};
use limn_core::store::Limits;
use limn_disk::{Files as _, Layout};
use std::io;
use std::ops::Deref;

/// Checks the logs of all shapes, of which nothing is on its way to the disk: what is counts only once it is there.
///
/// # Errors
/// Where one tail, or all of them, are too long.
pub fn check_tails(logs: &[(Handle, impl Deref<Target = ShapeLog>)], limits: &Limits) -> Verdict {
    let tail =
        |log: &ShapeLog| log.flushable().last().map_or(0, |last| (last.end - log.flushed_bytes()) as usize);
    let (each_max, all_max) = (limits.tail_bytes_max, limits.tails_bytes_max);
    if let Some((handle, _)) = logs.iter().find(|(_, log)| tail(log) > each_max) {
        return Err(format!("the tail of {handle} has more than {each_max} bytes"));
    }
    let all: usize = logs.iter().map(|(_, log)| tail(log)).sum();
    if all > all_max { Err(format!("all tails have {all} bytes, at most {all_max}")) } else { Ok(()) }
}

/// Checks a piece for the commit log. Only the records that come with every transaction count: behind others nothing is
/// handed on at once.
///
/// # Errors
/// Where too many bytes of records were gathered before the last of them.
pub fn check_piece(piece: &Rope, limits: &Limits) -> Verdict {
    let bytes = piece.to_vec();
    let (mut rest, mut gathered, mut last) = (&bytes[..], 0, 0);
    while let Some((payload, length)) = read_frame(rest) {
        if let Ok(Record::Items(_) | Record::Commit(_) | Record::Backfill(_)) = Record::decode(payload) {
            gathered += last;
            last = length;
        }
        rest = &rest[length..];
    }
    let max = limits.pending_bytes_max;
    match gathered > max {
        true => Err(format!("{gathered} bytes of records were gathered, at most {max}")),
        false => Ok(()),
    }
}

/// Checks the commit log's files where nothing is under way any more.
///
/// # Errors
/// Where the disk fails.
pub fn check_commit_log(files: &Files, layout: &Layout, limits: &Limits) -> io::Result<Verdict> {
    let numbers = layout.commit_files(files)?;
    let [number] = numbers[..] else {
        return Ok(Err(format!("the commit log has the files {numbers:?}: one would do")));
    };
    let path = layout.commit_file(number);
    let head = files.part(&path, 0..4)?.first_chunk().copied().unwrap_or_default();
    let checkpoint = (FRAME_HEAD_BYTES + payload_bytes(head)) as u64;
    let behind = files.len(&files.open(&path)?)? - checkpoint;
    let max = limits.commit_file_bytes_max;
    Ok(match behind > max {
        true => Err(format!("the commit log has {behind} bytes behind its checkpoint, at most {max}")),
        false => Ok(()),
    })
}

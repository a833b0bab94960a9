//! The commit log's queue and its writer, as in `limn_origin::store::commit_log`.

use super::Faults;
use crate::disk::{Disk, DiskError};
use crate::fault::Fault;
use std::collections::VecDeque;

const FOLDER: &str = "commit";

/// The queue, and the thread that empties it: here a step of its own, [`CommitLog::write_group`].
#[derive(Debug)]
pub(super) struct CommitLog {
    queue: VecDeque<Piece>,
    last_ticket: u64,
    /// What the writer has reported.
    durable: u64,
    file_number: u64,
    file_bytes: u64,
    /// The file that the writer has open.
    path: String,
    faults: Faults,
}

#[derive(Debug)]
enum Piece {
    Bytes(u64, Vec<u8>),
    NewFile(u64),
    Forget(Vec<String>),
}

impl CommitLog {
    /// Starts file `number`; older files are then of no use.
    pub(super) fn start(
        disk: &mut Disk,
        number: u64,
        checkpoint: &[u8],
        faults: Faults,
    ) -> Result<Self, DiskError> {
        let older: Vec<String> = files(disk).into_iter().map(|(_, path)| path).collect();
        let path = path_of(number);
        disk.create(&path)?;
        disk.append(&path, checkpoint)?;
        disk.sync(&path)?;
        if !faults.has(Fault::CommitFileNameNotSynced) {
            disk.sync_folder(FOLDER)?;
        }
        older.iter().filter(|old| **old != path).try_for_each(|old| disk.remove(old))?;
        // What recovery left out is in none of the new file's records: the older ones must not come back.
        if !faults.has(Fault::OlderFilesComeBack) {
            disk.sync_folder(FOLDER)?;
        }
        let queue = VecDeque::new();
        Ok(Self { queue, last_ticket: 0, durable: 0, file_number: number, file_bytes: 0, path, faults })
    }

    pub(super) const fn last_ticket(&self) -> u64 {
        self.last_ticket
    }

    pub(super) const fn durable(&self) -> u64 {
        self.durable
    }

    /// Bytes behind the checkpoint of the current file.
    pub(super) const fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn append(&mut self, bytes: Vec<u8>) {
        self.last_ticket += 1;
        self.file_bytes += bytes.len() as u64;
        self.queue.push_back(Piece::Bytes(self.last_ticket, bytes));
    }

    /// Goes on with a new file that begins with `checkpoint`.
    pub(super) fn rotate(&mut self, checkpoint: Vec<u8>) -> u64 {
        self.file_number += 1;
        self.queue.push_back(Piece::NewFile(self.file_number));
        self.append(checkpoint);
        self.file_bytes = 0;
        self.file_number
    }

    /// Deletes the files before `number`.
    pub(super) fn forget_before(&mut self, disk: &Disk, number: u64) {
        let old = files(disk).into_iter().filter(|(file, _)| *file < number);
        self.queue.push_back(Piece::Forget(old.map(|(_, path)| path).collect()));
    }

    /// Writes up to `pieces_max` of what is queued, and syncs once.
    pub(super) fn write_group(&mut self, disk: &mut Disk, pieces_max: usize) -> Result<(), DiskError> {
        let mut group = Vec::new();
        let mut last_ticket = None;
        for _ in 0..pieces_max {
            match self.queue.pop_front() {
                None => break,
                Some(Piece::Bytes(ticket, bytes)) => {
                    group.extend(bytes);
                    last_ticket = Some(ticket);
                }
                Some(Piece::NewFile(number)) => {
                    self.write_and_sync(disk, &mut group)?;
                    self.path = path_of(number);
                    disk.create(&self.path)?;
                    if !self.faults.has(Fault::CommitFileNameNotSynced) {
                        disk.sync_folder(FOLDER)?;
                    }
                }
                Some(Piece::Forget(files)) => {
                    // The checkpoint that makes them superfluous may be in this very group.
                    if !self.faults.has(Fault::ForgetsFilesFirst) {
                        self.write_and_sync(disk, &mut group)?;
                    }
                    files.iter().try_for_each(|path| forget(disk, path))?;
                }
            }
        }
        self.write_and_sync(disk, &mut group)?;
        self.durable = last_ticket.unwrap_or(self.durable);
        Ok(())
    }

    fn write_and_sync(&self, disk: &mut Disk, group: &mut Vec<u8>) -> Result<(), DiskError> {
        if group.is_empty() {
            return Ok(());
        }
        disk.append(&self.path, &std::mem::take(group))?;
        if self.faults.has(Fault::ReportsBeforeSync) { Ok(()) } else { disk.sync(&self.path) }
    }
}

/// A file that is gone already was named twice, by two checkpoints in a row.
fn forget(disk: &mut Disk, path: &str) -> Result<(), DiskError> {
    match disk.remove(path) {
        Err(DiskError::NotFound) => Ok(()),
        removed => removed,
    }
}

/// The commit log's files with their numbers, oldest first.
pub(super) fn files(disk: &Disk) -> Vec<(u64, String)> {
    let number = |path: &str| path.strip_prefix("commit/")?.strip_suffix(".log")?.parse().ok();
    disk.list(FOLDER).filter_map(|path| Some((number(path)?, path.to_owned()))).collect()
}

fn path_of(number: u64) -> String {
    format!("{FOLDER}/{number:012}.log")
}

//! The commit log's queue and its writer, as in `limn_origin::store::commit_log`.

use super::Faults;
use crate::disk::{Disk, DiskError};
use crate::fault::Fault;
use limn_core::journal::Ticket;
use std::collections::VecDeque;

const FOLDER: &str = "commit";

/// The queue, and the thread that empties it: here a step of its own, [`CommitLog::write_group`].
#[derive(Debug)]
pub(super) struct CommitLog {
    queue: VecDeque<Piece>,
    /// The last ticket that the writer has reported as durable.
    durable: Ticket,
    /// The file that the writer has open.
    path: String,
    faults: Faults,
}

#[derive(Debug)]
enum Piece {
    Append(Ticket, Vec<u8>),
    StartFile(u64),
    DeleteBefore(u64),
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
        Ok(Self { queue: VecDeque::new(), durable: Ticket::ZERO, path, faults })
    }

    pub(super) const fn durable(&self) -> Ticket {
        self.durable
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn append(&mut self, ticket: Ticket, bytes: Vec<u8>) {
        self.queue.push_back(Piece::Append(ticket, bytes));
    }

    pub(super) fn start_file(&mut self, number: u64, ticket: Ticket, checkpoint: Vec<u8>) {
        self.queue.push_back(Piece::StartFile(number));
        self.append(ticket, checkpoint);
    }

    pub(super) fn delete_before(&mut self, number: u64) {
        self.queue.push_back(Piece::DeleteBefore(number));
    }

    /// Writes up to `pieces_max` of what is queued, and syncs once.
    pub(super) fn write_group(&mut self, disk: &mut Disk, pieces_max: usize) -> Result<(), DiskError> {
        let mut group = Vec::new();
        let mut last_ticket = None;
        for _ in 0..pieces_max {
            match self.queue.pop_front() {
                None => break,
                Some(Piece::Append(ticket, bytes)) => {
                    group.extend(bytes);
                    last_ticket = Some(ticket);
                }
                Some(Piece::StartFile(number)) => {
                    self.write_and_sync(disk, &mut group)?;
                    self.path = path_of(number);
                    disk.create(&self.path)?;
                    if !self.faults.has(Fault::CommitFileNameNotSynced) {
                        disk.sync_folder(FOLDER)?;
                    }
                }
                Some(Piece::DeleteBefore(number)) => {
                    // The checkpoint that makes them superfluous may be in this very group.
                    if !self.faults.has(Fault::ForgetsFilesFirst) {
                        self.write_and_sync(disk, &mut group)?;
                    }
                    let older = files(disk).into_iter().filter(|(file, _)| *file < number);
                    older.map(|(_, path)| path).try_for_each(|path| disk.remove(&path))?;
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

/// The commit log's files with their numbers, oldest first.
pub(super) fn files(disk: &Disk) -> Vec<(u64, String)> {
    let number = |path: &str| path.strip_prefix("commit/")?.strip_suffix(".log")?.parse().ok();
    disk.list(FOLDER).filter_map(|path| Some((number(path)?, path.to_owned()))).collect()
}

fn path_of(number: u64) -> String {
    format!("{FOLDER}/{number:012}.log")
}

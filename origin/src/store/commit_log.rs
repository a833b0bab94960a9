//! The commit log: everything goes through one file and one fsync at a time.
//!
//! A thread of its own writes what is queued and syncs it; what is queued meanwhile forms the next group.
//! Under load groups grow by themselves, at rest a transaction is durable after one sync. The queue is
//! bounded: when the disk is slower than Postgres, the stream is read more slowly.

use super::folder::{Folder, sync_dir};
use crate::metrics::CommitMetrics;
use crate::spans;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Instant;
use tokio::sync::{mpsc, watch};

/// Pieces that may wait for the writer.
const QUEUE_PIECES_MAX: usize = 64;
/// Bytes that one group gathers before it is synced.
const GROUP_BYTES_MAX: usize = 4 << 20;

/// The engine's end of the commit log.
#[derive(Debug)]
pub struct CommitLog {
    queue: mpsc::Sender<Piece>,
    last_ticket: u64,
    file_number: u64,
    file_bytes: u64,
    writer: Option<JoinHandle<()>>,
}

/// How far the commit log is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durable {
    /// Everything up to and including this ticket.
    Ticket(u64),
    /// Writing failed; nothing more will become durable.
    Failed(String),
}

enum Piece {
    Bytes { ticket: u64, bytes: Vec<u8> },
    NewFile { path: PathBuf },
    Forget { files: Vec<PathBuf> },
}

impl CommitLog {
    /// Starts file `number` of the folder, whose first record is `checkpoint`, and waits until it is
    /// durable; older files are then of no use and are deleted.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn start(
        folder: &Folder,
        number: u64,
        checkpoint: &[u8],
        metrics: CommitMetrics,
    ) -> io::Result<(Self, watch::Receiver<Durable>)> {
        let older = folder.commit_files()?;
        let mut file = create(&folder.commit_file(number))?;
        file.write_all(checkpoint)?;
        file.sync_data()?;
        sync_dir(&folder.commit_dir())?;
        older.iter().filter(|(old, _)| *old != number).try_for_each(|(_, path)| fs::remove_file(path))?;
        // What recovery left out is in none of the new file's records: the older ones must not come back.
        sync_dir(&folder.commit_dir())?;
        let (queue, pieces) = mpsc::channel(QUEUE_PIECES_MAX);
        let (report, durable) = watch::channel(Durable::Ticket(0));
        let writer = thread::Builder::new()
            .name("commit-log".to_owned())
            .spawn(move || Writer { pieces, report, file, metrics }.run())?;
        let log = Self { queue, last_ticket: 0, file_number: number, file_bytes: 0, writer: Some(writer) };
        Ok((log, durable))
    }

    /// The ticket of what was appended last; tickets count up by one.
    #[must_use]
    pub const fn last_ticket(&self) -> u64 {
        self.last_ticket
    }

    /// Queues records and returns their ticket; waits where the queue is full.
    pub async fn append(&mut self, bytes: Vec<u8>) -> u64 {
        self.last_ticket += 1;
        self.file_bytes += bytes.len() as u64;
        // A writer that has gone has reported why; its tickets simply never become durable.
        let _ = self.queue.send(Piece::Bytes { ticket: self.last_ticket, bytes }).await;
        self.last_ticket
    }

    /// Bytes behind the checkpoint of the current file: a large checkpoint alone calls for no other one.
    #[must_use]
    pub const fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Goes on with a new file that begins with `checkpoint`. The older files stay until
    /// [`forget_before`](Self::forget_before).
    pub async fn rotate(&mut self, folder: &Folder, checkpoint: Vec<u8>) -> u64 {
        self.file_number += 1;
        let _ = self.queue.send(Piece::NewFile { path: folder.commit_file(self.file_number) }).await;
        self.append(checkpoint).await;
        self.file_bytes = 0;
        self.file_number
    }

    /// Deletes the files before `number`: the segments hold what they said.
    ///
    /// # Errors
    /// Where the folder cannot be listed.
    pub async fn forget_before(&self, folder: &Folder, number: u64) -> io::Result<()> {
        let old = folder.commit_files()?.into_iter().filter(|(file, _)| *file < number);
        let _ = self.queue.send(Piece::Forget { files: old.map(|(_, path)| path).collect() }).await;
        Ok(())
    }

    /// Writes and syncs what is queued, and ends the writer.
    pub async fn close(mut self) {
        drop(self.queue);
        if let Some(writer) = self.writer.take() {
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
    }
}

struct Writer {
    pieces: mpsc::Receiver<Piece>,
    report: watch::Sender<Durable>,
    file: File,
    metrics: CommitMetrics,
}

impl Writer {
    fn run(mut self) {
        while let Some(first) = self.pieces.blocking_recv() {
            let queued = self.pieces.len() + 1;
            self.metrics.queued.set(i64::try_from(queued).unwrap_or(i64::MAX));
            let written = self.write_group(first);
            self.metrics.queued.set(i64::try_from(self.pieces.len()).unwrap_or(i64::MAX));
            match written {
                Ok(ticket) => self.report_ticket(ticket),
                Err(error) => {
                    self.report.send_replace(Durable::Failed(error.to_string()));
                    return;
                }
            }
        }
    }

    fn report_ticket(&self, ticket: Option<u64>) {
        if let Some(ticket) = ticket {
            self.report.send_replace(Durable::Ticket(ticket));
        }
    }

    /// Writes `first` and what else is queued, syncs once, and returns the last ticket of the group.
    fn write_group(&mut self, first: Piece) -> io::Result<Option<u64>> {
        let mut next = Some(first);
        let mut group = Vec::new();
        let mut last_ticket = None;
        while let Some(piece) = next {
            match piece {
                Piece::Bytes { ticket, mut bytes } => {
                    group.append(&mut bytes);
                    last_ticket = Some(ticket);
                }
                Piece::NewFile { path } => {
                    self.write_and_sync(&mut group)?;
                    self.file = create(&path)?;
                    path.parent().map_or(Ok(()), sync_dir)?;
                }
                Piece::Forget { files } => {
                    // The checkpoint that makes them superfluous may be in this very group.
                    self.write_and_sync(&mut group)?;
                    files.iter().try_for_each(forget)?;
                }
            }
            next = if group.len() < GROUP_BYTES_MAX { self.pieces.try_recv().ok() } else { None };
        }
        self.write_and_sync(&mut group)?;
        Ok(last_ticket)
    }

    fn write_and_sync(&mut self, group: &mut Vec<u8>) -> io::Result<()> {
        if group.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        spans::commit_sync(group.len(), || {
            self.file.write_all(group)?;
            self.file.sync_data()
        })?;
        group.clear();
        self.metrics.sync_seconds.observe(started.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Deletes a file; one that is gone already was named twice, by two checkpoints in a row.
fn forget(path: &PathBuf) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn create(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().create(true).write(true).truncate(true).open(path)
}

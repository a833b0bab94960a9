//! The commit log: everything goes through one file and one fsync at a time.
//!
//! A thread of its own writes what is queued and syncs it; what is queued meanwhile forms the next group.
//! Under load groups grow by themselves, at rest a transaction is durable after one sync. The queue is
//! bounded: when the disk is slower than Postgres, the stream is read more slowly.

use super::folder::{Folder, sync_dir};
use crate::observe::{CommitMetrics, spans};
use limn_core::journal::Ticket;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
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
    writer: Option<JoinHandle<()>>,
}

/// How far the commit log is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durable {
    /// Everything up to and including this ticket.
    Ticket(Ticket),
    /// Writing failed; nothing more will become durable.
    Failed(String),
}

enum Piece {
    Append { ticket: Ticket, bytes: Vec<u8> },
    StartFile { number: u64 },
    DeleteBefore { number: u64 },
}

impl CommitLog {
    /// Starts file `number` of the folder, whose first record is `checkpoint`, and waits until it is
    /// durable; older files are then of no use and are deleted.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn start(
        folder: &Arc<Folder>,
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
        let (report, durable) = watch::channel(Durable::Ticket(Ticket::ZERO));
        let writer = Writer { folder: folder.clone(), pieces, report, file, metrics };
        let writer = thread::Builder::new().name("commit-log".to_owned()).spawn(move || writer.run())?;
        Ok((Self { queue, writer: Some(writer) }, durable))
    }

    /// Queues records; waits where the queue is full.
    pub async fn append(&self, ticket: Ticket, bytes: Vec<u8>) {
        self.queue(Piece::Append { ticket, bytes }).await;
    }

    /// Goes on with file `number`, which begins with `checkpoint`. The older files stay until
    /// [`delete_before`](Self::delete_before).
    pub async fn start_file(&self, number: u64, ticket: Ticket, checkpoint: Vec<u8>) {
        self.queue(Piece::StartFile { number }).await;
        self.append(ticket, checkpoint).await;
    }

    /// Deletes the files before `number`, once what was queued before is durable.
    pub async fn delete_before(&self, number: u64) {
        self.queue(Piece::DeleteBefore { number }).await;
    }

    async fn queue(&self, piece: Piece) {
        // A writer that has gone has reported why; its tickets simply never become durable.
        let _ = self.queue.send(piece).await;
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
    folder: Arc<Folder>,
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

    fn report_ticket(&self, ticket: Option<Ticket>) {
        if let Some(ticket) = ticket {
            self.report.send_replace(Durable::Ticket(ticket));
        }
    }

    /// Writes `first` and what else is queued, syncs once, and returns the last ticket of the group.
    fn write_group(&mut self, first: Piece) -> io::Result<Option<Ticket>> {
        let mut next = Some(first);
        let mut group = Vec::new();
        let mut last_ticket = None;
        while let Some(piece) = next {
            match piece {
                Piece::Append { ticket, mut bytes } => {
                    group.append(&mut bytes);
                    last_ticket = Some(ticket);
                }
                Piece::StartFile { number } => {
                    self.write_and_sync(&mut group)?;
                    self.file = create(&self.folder.commit_file(number))?;
                    sync_dir(&self.folder.commit_dir())?;
                }
                Piece::DeleteBefore { number } => {
                    // The checkpoint that makes them superfluous may be in this very group.
                    self.write_and_sync(&mut group)?;
                    let files = self.folder.commit_files()?;
                    let mut older = files.iter().filter(|(file, _)| *file < number);
                    older.try_for_each(|(_, path)| fs::remove_file(path))?;
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

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).write(true).truncate(true).open(path)
}

//! The commit log's thread and its queue.
//!
//! The thread writes what is queued and syncs it; what is queued meanwhile forms the next group.
//! Under load groups grow by themselves, at rest a transaction is durable after one sync. The queue is
//! bounded: when the disk is slower than Postgres, the stream is read more slowly.
//!
//! Before it: `engine::executor`, with the records of an `Effect::CommitLog`. Behind it: [`limn_disk::CommitWriter`] writes
//! and syncs them. What is durable the engine learns by [`Durable`], and hands to `Logs::handle_synced`.

use crate::observe::{CommitMetrics, spans};
use limn_core::journal::Ticket;
use limn_core::store::Piece;
use limn_disk::{CommitWriter, Layout, Native, Recovered};
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// Pieces that may wait for the writer.
const QUEUE_PIECES_MAX: usize = 64;
/// Bytes that may wait for the writer, or be written: beyond it a piece waits until it is the only one.
const QUEUE_BYTES_MAX: usize = 8 << 20;

/// The engine's end of the commit log.
#[derive(Debug)]
pub struct CommitLog {
    queue: mpsc::Sender<Queued>,
    /// A permit for each byte.
    room: Arc<Semaphore>,
    writer: Option<JoinHandle<()>>,
}

/// A piece, which takes its room until it is written.
#[derive(Debug)]
struct Queued {
    piece: Piece,
    room: Option<OwnedSemaphorePermit>,
}

/// How far the commit log is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durable {
    /// Everything up to and including this ticket.
    Ticket(Ticket),
    /// Writing failed; nothing more will become durable.
    Failed(String),
}

impl CommitLog {
    /// Starts the next file with what was recovered ([`CommitWriter::start`]), and the thread.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn start(
        layout: Layout,
        recovered: &Recovered,
        last_handle_us: u64,
        metrics: CommitMetrics,
    ) -> io::Result<(Self, watch::Receiver<Durable>)> {
        let writer = CommitWriter::start(Native, layout, recovered, last_handle_us)?;
        let (queue, pieces) = mpsc::channel(QUEUE_PIECES_MAX);
        let (report, durable) = watch::channel(Durable::Ticket(Ticket::ZERO));
        let thread = Thread { writer, pieces, report, metrics };
        let writer = thread::Builder::new().name("commit-log".to_owned()).spawn(move || thread.run())?;
        let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX));
        Ok((Self { queue, room, writer: Some(writer) }, durable))
    }

    /// Queues a piece; waits where the queue is full.
    pub async fn queue(&self, piece: Piece) {
        let bytes = match &piece {
            Piece::Append { bytes, .. } | Piece::StartFile { checkpoint: bytes, .. } => bytes.len(),
            Piece::DeleteBefore { .. } => 0,
        };
        let bytes = bytes.min(QUEUE_BYTES_MAX);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(permits).await.ok();
        // A writer that has gone has reported why; its tickets simply never become durable.
        let _ = self.queue.send(Queued { piece, room }).await;
    }

    /// Writes and syncs what is queued, and ends the writer.
    pub async fn close(mut self) {
        drop(self.queue);
        if let Some(writer) = self.writer.take() {
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
    }
}

struct Thread {
    writer: CommitWriter<Native>,
    pieces: mpsc::Receiver<Queued>,
    report: watch::Sender<Durable>,
    metrics: CommitMetrics,
}

impl Thread {
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

    /// Writes `first` and what else is queued, syncs, and returns the last ticket of the group.
    fn write_group(&mut self, first: Queued) -> io::Result<Option<Ticket>> {
        let Self { writer, pieces, metrics, .. } = self;
        let (mut first, mut taken) = (Some(first), Vec::new());
        let next = || {
            let Queued { piece, room } = first.take().or_else(|| pieces.try_recv().ok())?;
            taken.extend(room);
            Some(piece)
        };
        writer.write_group(next, |bytes, write_and_sync| {
            let started = Instant::now();
            spans::commit_sync(bytes, write_and_sync)?;
            metrics.sync_seconds.observe(started.elapsed().as_secs_f64());
            Ok(())
        })
    }
}

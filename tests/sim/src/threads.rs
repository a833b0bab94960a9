//! The threads of a process that write to the disk. Each has a queue, and takes something from it when the world says so.

use crate::faulty::Shape;
use crate::files::{Files, layout};
use limn_core::journal::Ticket;
use limn_core::store::{Piece, Report, SegmentSync, SegmentWork, TailWrite};
use limn_disk::{CommitWriter, Packs, sync_segments, work_on_segment, write_tail};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// One of the threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thread {
    /// Writes the commit log.
    CommitLog,
    /// Writes tails.
    Tails,
    /// Syncs the segments of a checkpoint.
    Sync,
    /// Works on segments.
    Segments,
}

/// All of them, with what is queued.
#[derive(Debug)]
pub struct Threads {
    files: Files,
    commit_writer: CommitWriter<Files>,
    pub packs: Packs<Files>,
    pub pieces: VecDeque<Piece>,
    /// The last ticket that the commit log's thread has reported.
    pub durable: Ticket,
    pub tails: VecDeque<TailWrite<Rc<Shape>>>,
    pub syncs: VecDeque<SegmentSync<Rc<Shape>>>,
    pub segments: VecDeque<SegmentWork<Rc<Shape>>>,
}

impl Threads {
    /// Threads without work.
    #[must_use]
    pub fn new(files: &Files, commit_writer: CommitWriter<Files>, packs: Packs<Files>) -> Self {
        let (pieces, tails, syncs, segments) = Default::default();
        let (files, durable) = (files.clone(), Ticket::ZERO);
        Self { files, commit_writer, packs, pieces, durable, tails, syncs, segments }
    }

    /// One of them does so much of what is queued for it: what it reports.
    ///
    /// # Errors
    /// Where the disk fails. What fails in the work on a segment leaves it as it was, while the power is on.
    pub fn run(&mut self, thread: Thread, count: usize) -> io::Result<Vec<Report>> {
        let Self { files, commit_writer, packs, pieces, durable, tails, syncs, segments } = self;
        match thread {
            Thread::CommitLog => {
                let mut pieces = pieces.drain(..count.min(pieces.len()));
                let written =
                    commit_writer.write_group(|| pieces.next(), |_, write_and_sync| write_and_sync());
                *durable = written?.unwrap_or(*durable);
                Ok(Vec::new())
            }
            Thread::Tails => {
                let due = tails.drain(..count.min(tails.len()));
                due.map(|write| write_tail(files, &layout(), &write)).collect()
            }
            Thread::Sync => {
                let due = syncs.drain(..count.min(syncs.len()));
                due.map(|sync| sync_segments(files, &layout(), &sync)).collect()
            }
            Thread::Segments => {
                let due = segments.drain(..count.min(segments.len()));
                let mut work = |work| {
                    let release_pack = |place| packs.release(place);
                    work_on_segment(files, &layout(), work, || true, release_pack).report
                };
                let reports = due.filter_map(&mut work).collect();
                files.check_power().map(|()| reports)
            }
        }
    }

    /// True where shapes' files are being written, or are about to be.
    #[must_use]
    pub fn are_writing(&self) -> bool {
        !self.tails.is_empty() || !self.segments.is_empty()
    }
}

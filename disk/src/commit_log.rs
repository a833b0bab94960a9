//! The commit log, as it is written: everything goes through one file and one sync at a time.
//!
//! Records come from origin's `store::commit_log` (an `Effect::CommitLog` of [`limn_core::store`]), a start's checkpoint from
//! [`recover`](crate::recover).

use crate::files::write_rope;
use crate::recovery::remove_orphans;
use crate::{Files, Layout, Recovered};
use limn_core::journal::Ticket;
use limn_core::log::Rope;
use limn_core::store::Piece;
use std::io;

/// Bytes that one group gathers before it is synced.
const GROUP_BYTES_MAX: usize = 4 << 20;

/// Writes to the newest file.
#[derive(Debug)]
pub struct CommitWriter<F: Files> {
    files: F,
    layout: Layout,
    file: F::File,
    /// The end of the file.
    at: u64,
}

impl<F: Files> CommitWriter<F> {
    /// Starts the next file with what a start has recovered, durably; older files are then of no use and are removed, like
    /// what is left of shapes that are lost. `last_handle_us` is the newest time of a handle, also of those that the start
    /// passes over: another start before any of them is durable passes over others.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn start(files: F, layout: Layout, recovered: &Recovered, last_handle_us: u64) -> io::Result<Self> {
        let mut checkpoint = Rope::new();
        recovered.store.encode_checkpoint(last_handle_us, &mut checkpoint);
        let (older, number) = (layout.commit_files(&files)?, recovered.next_file);
        let file = files.create(&layout.commit_file(number))?;
        write_rope(&files, &file, &checkpoint, 0)?;
        files.sync(&file)?;
        files.sync_dir(&layout.commit_dir())?;
        let mut older = older.into_iter().filter(|old| *old != number);
        older.try_for_each(|old| files.remove_file(&layout.commit_file(old)))?;
        // Records that recovery left out are in the older files alone: these must not come back.
        files.sync_dir(&layout.commit_dir())?;
        remove_orphans(&files, &layout, &recovered.store.shapes)?;
        Ok(Self { files, layout, file, at: checkpoint.len() as u64 })
    }

    /// Writes the pieces that `next` gives as one group, with one sync at its end, and returns the last ticket that is
    /// durable by it. A group ends where there is no further piece, or before it grows too long.
    ///
    /// `around_sync` is given how many bytes are to be written, and what writes and syncs them.
    ///
    /// # Errors
    /// Whatever the operating system says. Nothing of the group counts as durable then, and nothing else may be written.
    pub fn write_group(
        &mut self,
        mut next: impl FnMut() -> Option<Piece>,
        mut around_sync: impl FnMut(usize, &mut dyn FnMut() -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<Option<Ticket>> {
        let mut group = Rope::new();
        let mut last_ticket = None;
        while group.len() < GROUP_BYTES_MAX
            && let Some(piece) = next()
        {
            match piece {
                Piece::Append { ticket, bytes } => {
                    group.append(bytes);
                    last_ticket = Some(ticket);
                }
                Piece::StartFile { number, ticket, checkpoint } => {
                    self.write_and_sync(&mut group, &mut around_sync)?;
                    self.file = self.files.create(&self.layout.commit_file(number))?;
                    self.at = 0;
                    self.files.sync_dir(&self.layout.commit_dir())?;
                    group.append(checkpoint);
                    last_ticket = Some(ticket);
                }
                Piece::DeleteBefore { number } => {
                    // The checkpoint that makes them superfluous may be in this very group.
                    self.write_and_sync(&mut group, &mut around_sync)?;
                    self.delete_before(number)?;
                }
            }
        }
        self.write_and_sync(&mut group, &mut around_sync)?;
        Ok(last_ticket)
    }

    fn write_and_sync(
        &mut self,
        group: &mut Rope,
        around_sync: &mut impl FnMut(usize, &mut dyn FnMut() -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<()> {
        if group.is_empty() {
            return Ok(());
        }
        let Self { files, file, at, .. } = self;
        let group = std::mem::take(group);
        around_sync(group.len(), &mut || {
            write_rope(files, file, &group, *at)?;
            files.sync(file)
        })?;
        *at += group.len() as u64;
        Ok(())
    }

    fn delete_before(&self, number: u64) -> io::Result<()> {
        let files = self.layout.commit_files(&self.files)?;
        let mut older = files.into_iter().filter(|file| *file < number);
        older.try_for_each(|file| self.files.remove_file(&self.layout.commit_file(file)))
    }
}

//! The shapes of a folder that another process writes to.

use crate::{Files, Layout, Reached, RecoveryError, Tail, segment};
use limn_core::log::shape_log::PackPlace;
use limn_core::store::{Followed, FollowedFiles, Follower, NamedShape};
use std::io;

/// Keeps the shapes of a folder as the process that writes to it has made them durable. Nothing is written.
#[derive(Debug)]
pub struct FollowedFolder<F: Files, O: Followed> {
    tail: Tail<F>,
    follower: Follower<O::Shape>,
    files: ShapeFiles<F>,
    /// Who holds the shapes.
    pub owner: O,
}

#[derive(Debug)]
struct ShapeFiles<F> {
    files: F,
    layout: Layout,
}

impl<F: Files + Clone, O: Followed<Shape: NamedShape>> FollowedFolder<F, O> {
    /// A folder of which nothing was read. Chunks close at `chunk_bytes_max` item bytes; a tail is released where it
    /// passes `tail_bytes_max`.
    #[must_use]
    pub fn new(files: F, layout: Layout, chunk_bytes_max: u64, tail_bytes_max: usize, owner: O) -> Self {
        let tail = Tail::new(files.clone(), layout.clone());
        let follower = Follower::new(chunk_bytes_max, tail_bytes_max);
        Self { tail, follower, files: ShapeFiles { files, layout }, owner }
    }

    /// Takes up everything that has come since.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn follow(&mut self) -> Result<(), RecoveryError> {
        let Self { tail, follower, files, owner } = self;
        follower.begin_turn(files, owner);
        while tail.read(|record| follower.handle_record(record, files, owner))? == Reached::Gap {
            follower.handle_gap();
        }
        follower.end_turn(owner);
        Ok(())
    }

    /// Ends it: the owner takes care of the shapes from now on.
    pub fn into_parts(self) -> (O, impl Iterator<Item = O::Shape>) {
        (self.owner, self.follower.into_shapes())
    }
}

impl<F: Files, S: NamedShape> FollowedFiles<S> for ShapeFiles<F> {
    type Error = io::Error;

    fn release_tail(&self, shape: &S) -> io::Result<()> {
        let dir = self.layout.shape_dir(shape.identity().handle);
        shape.with_log(|log| segment::release_tail(&self.files, &dir, log))
    }

    fn has_snapshot(&self, shape: &S, pack: Option<PackPlace>, content: &[u8]) -> io::Result<bool> {
        segment::has_snapshot(&self.files, &self.layout.shape_dir(shape.identity().handle), pack, content)
    }
}

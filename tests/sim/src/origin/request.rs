//! A client's request, as `limn_origin::http::read` answers it.

use super::{Origin, Shape};
use crate::files::Files;
use crate::reply::Reply;
use limn_core::log::reading::{Answer, Look, Mode, Next, Part, Reading, Refuse, Standing};
use limn_core::log::{Clock, Read};
use limn_core::shape::DropCause;
use limn_core::{Handle, Lsn, Offset};
use limn_disk::{segment, stored_part};
use std::io;
use std::time::Duration;

impl Origin {
    /// The reply to a client's request.
    pub fn read(&self, handle: Handle, after: Offset) -> Reply {
        if self.snapshots.iter().any(|it| it.handle == handle && !it.is_registered.get()) {
            return Reply::Unavailable;
        }
        match self.shapes().find(|shape| shape.handle == handle) {
            None => Reply::MustRefetch,
            Some(shape) if !shape.is_readable.get() => Reply::Unavailable,
            Some(shape) => {
                let standing = if self.is_active { Standing::Active } else { Standing::Away };
                let read = read_shape(&self.files, shape, after, (standing, self.processed));
                read.unwrap_or(Reply::Unreadable)
            }
        }
    }

    /// Deletes a shape as a client may ask, where it is there.
    pub fn delete(&mut self, handle: Handle) -> io::Result<()> {
        let id = self.shapes().find(|shape| shape.handle == handle).map(|shape| shape.created.id);
        id.into_iter().for_each(|id| self.writer.remove(id, DropCause::Deleted));
        self.execute()
    }
}

/// Reads a shape's log as a request does, on a server that stands so and has published up to `processed`.
pub(super) fn read_shape(
    files: &Files,
    shape: &Shape,
    after: Offset,
    (standing, processed): (Standing, Lsn),
) -> io::Result<Reply> {
    let clock = Clock { processed, is_current: standing.is_current() };
    let mut read = shape.log.get().read(after, clock);
    if read == Read::Search {
        let found = segment::find(files, &shape.dir(), shape.log.get().index_search(), after)?;
        read = shape.log.get().read_at(after, found, clock);
    }
    let mut look = Look { now: Duration::ZERO, read: Some(read), standing, is_stopping: false };
    let mut reading = Reading::new(Mode::CatchUp, Duration::ZERO, false);
    let mut next = reading.next(&look, false);
    while let Next::Wait(wait) = next {
        // Nothing happens meanwhile.
        look.now = wait.until;
        next = reading.next(&look, false);
    }
    let Next::Send(Answer::Part { part, offset, closed, up_to_date }) = next else {
        let is_out_of_bounds = next == Next::Refuse(Refuse::OutOfBounds);
        return Ok(if is_out_of_bounds { Reply::OutOfBounds } else { Reply::Unavailable });
    };
    let (file, tail) = shape.log.change(|log| stored_part(|| shape.dir(), log, &part));
    let mut bytes = file.map_or(Ok(Vec::new()), |(path, range)| files.part(&path, range))?;
    tail.append_to(&mut bytes);
    let (up_to_date, segment) = (up_to_date.map(Lsn::as_u64), shape.log.get().start().byte);
    Ok(match part {
        Part::Snapshot(_) => Reply::Snapshot { bytes, offset },
        _ => Reply::Changes { bytes, offset, closed, segment, up_to_date },
    })
}

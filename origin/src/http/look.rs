//! Looks at a shape's log: the input of core's decisions about replies.

use super::Server;
use crate::health::Phase;
use crate::shapes::Shape;
use limn_core::log::reading::{Look, Standing};
use limn_core::log::{Clock, Read};
use limn_core::protocol::request::RequestOffset;
use limn_core::{Lsn, Offset};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

impl Server {
    /// Reads a shape's log after what a client asked for, in a request or a stream that `began` at that time.
    ///
    /// # Errors
    /// Where the segment's index cannot be read.
    pub(super) async fn look(
        &self,
        shape: &Arc<Shape>,
        asked: RequestOffset,
        began: Instant,
    ) -> io::Result<Look> {
        let now = began.elapsed();
        let standing = self.standing(shape);
        let clock = self.clock(standing);
        let read = match asked {
            _ if !shape.is_readable() => None,
            RequestOffset::Now => Some(shape.read_end(clock)),
            RequestOffset::At(after) => Some(shape.read(after, clock).await?),
        };
        Ok(Look { now, read, standing, is_stopping: self.stopping.has_begun() })
    }

    /// The same of a live request that began at this moment; `None` where the disk must be asked.
    pub(super) fn look_in_memory(&self, shape: &Shape, after: Offset) -> Option<Look> {
        let standing = self.standing(shape);
        let clock = self.clock(standing);
        let read = shape.is_readable().then(|| shape.log().read(after, clock));
        let is_stopping = self.stopping.has_begun();
        (read != Some(Read::Search)).then_some(Look { now: Duration::ZERO, read, standing, is_stopping })
    }

    /// The server's state for one shape: its phase, and faults of the shape's tables.
    pub(super) fn standing(&self, shape: &Shape) -> Standing {
        let has_fault = || self.status.table_fault(&shape.definition).is_some();
        match self.status.phase() {
            Phase::Active | Phase::Reading if has_fault() => Standing::Faulty,
            Phase::Active => Standing::Active,
            Phase::Reading => Standing::ReadOnly,
            Phase::Starting | Phase::Waiting | Phase::Unsound(_) => Standing::Away,
        }
    }

    /// The clock for a read. Take it before the log is locked ([`Clock`]).
    pub(super) fn clock(&self, standing: Standing) -> Clock {
        Clock { processed: Lsn::new(self.status.processed()), is_current: standing.is_current() }
    }
}

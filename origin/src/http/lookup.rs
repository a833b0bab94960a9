//! From a request to its shape: found, or created.
//!
//! A handle that a kill, a rotation or an operator took away ends here: the shape is made anew where it is not there, and the
//! 409 of [`find_readable`] names its handle.

use super::{Server, refusal};
use crate::shapes::creation::LookupError;
use crate::shapes::{Failure, Life, Shape};
use limn_core::Offset;
use limn_core::protocol::reply::{Reply, Unavailable};
use limn_core::protocol::request::{DefinitionRequest, RequestOffset, ShapeRequest};
use limn_core::protocol::route::Method;
use std::sync::Arc;
use std::time::Duration;

/// How long a first request waits for the snapshot to begin.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(45);

/// The living shape for a definition, created where there is none; it may not be readable yet.
pub(super) async fn find_or_create(
    server: &Server,
    method: Method,
    request: &DefinitionRequest,
) -> Result<Arc<Shape>, Reply> {
    if let Some(shape) = server.registry.by_spelling(request) {
        return Ok(shape);
    }
    let created = server.creator.find_or_create(request).await;
    created.map_err(|error| refusal::of_lookup(error, &server.settings.cache, method))
}

/// The same for a request that may go on in a shape's log. Whoever follows a table that can no longer be followed is
/// told to start over; the first request of the new start is then refused with the reason.
async fn find_or_create_followed(server: &Server, request: &ShapeRequest) -> Result<Arc<Shape>, Reply> {
    if let Some(shape) = server.registry.by_spelling(&request.definition) {
        return Ok(shape);
    }
    let goes_on = request.handle.is_some() && request.offset != RequestOffset::At(Offset::Start);
    let (cache, method) = (&server.settings.cache, request.method);
    server.creator.find_or_create(&request.definition).await.map_err(|error| match error {
        LookupError::Unfollowable(_) if goes_on => Reply::must_refetch(cache, method, None),
        error => refusal::of_lookup(error, cache, method),
    })
}

/// The same, once the shape can be read. Where its table is found altered while it is made, a client that has nothing of it
/// yet gets it made anew, once.
pub(super) async fn find_readable(server: &Server, request: &ShapeRequest) -> Result<Arc<Shape>, Reply> {
    let shape = find_or_create_followed(server, request).await?;
    if request.handle.as_ref().is_some_and(|handle| *handle != shape.handle.to_string()) {
        return Err(Reply::must_refetch(&server.settings.cache, request.method, Some(shape.handle)));
    }
    let life = wait_made(&shape).await;
    if request.handle.is_some() || life != Life::Failed(Failure::Gone) {
        return check_readable(server, request.method, &shape, life).map(|()| shape);
    }
    let anew = find_or_create_followed(server, request).await?;
    wait_readable(server, request.method, &anew).await?;
    Ok(anew)
}

/// Waits until a shape can be read.
pub(super) async fn wait_readable(server: &Server, method: Method, shape: &Shape) -> Result<(), Reply> {
    check_readable(server, method, shape, wait_made(shape).await)
}

/// Waits until a shape is not being made any more, for some time.
async fn wait_made(shape: &Shape) -> Life {
    let wait = async {
        loop {
            let changed = shape.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match shape.life() {
                Life::Creating => changed.await,
                life => return life,
            }
        }
    };
    tokio::time::timeout(SNAPSHOT_WAIT, wait).await.unwrap_or(Life::Creating)
}

fn check_readable(server: &Server, method: Method, shape: &Shape, life: Life) -> Result<(), Reply> {
    let cache = &server.settings.cache;
    match life {
        Life::Readable => Ok(()),
        Life::Creating => {
            let state = Unavailable { known: true, ..Unavailable::new(TIMED_OUT, 10) };
            Err(Reply::unavailable(cache, method, &state))
        }
        Life::Failed(failure) => Err(refusal::of_creation(&failure, server.successor(shape), cache, method)),
        Life::Removed => Err(Reply::must_refetch(cache, method, server.successor(shape))),
    }
}

const TIMED_OUT: &str = "Snapshot query took too long to begin";

impl Server {
    /// The handle of the shape that has taken this one's place, if there is one.
    pub(super) fn successor(&self, shape: &Shape) -> Option<limn_core::Handle> {
        let successor = self.registry.by_identity(&shape.identity())?;
        (successor.handle != shape.handle).then_some(successor.handle)
    }
}

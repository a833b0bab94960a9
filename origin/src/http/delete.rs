//! `DELETE /v1/shape` (protocol §2.4).

use super::{Server, refusal};
use crate::health::Phase;
use crate::shapes::Life;
use limn_core::protocol::reply::{Reply, Unavailable};
use limn_core::protocol::request::parse_delete_request;
use limn_core::protocol::route::Method;
use limn_core::shape::DropCause;

/// Deletes the shape that the query names by handle, by definition, or by both.
pub(super) async fn delete(server: &Server, query: &str) -> Reply {
    let cache = &server.settings.cache;
    if !server.settings.allow_shape_deletion {
        return Reply::delete_not_allowed(cache);
    }
    let request = match parse_delete_request(query) {
        Ok(request) => request,
        Err(error) => return Reply::bad_request(cache, Method::Delete, &error),
    };
    if server.status.followed().0 == Phase::Reading {
        let text = "Another server writes to the storage folder: delete the shape there";
        return Reply::unavailable(cache, Method::Delete, &Unavailable::new(text, 5));
    }
    let by_handle = request
        .handle
        .as_deref()
        .map(|handle| handle.parse().ok().and_then(|handle| server.registry.by_handle(handle)));
    let shape = match &request.definition {
        None => by_handle.flatten(),
        Some(definition) => {
            let found = match server.registry.by_spelling(definition) {
                Some(shape) => Some(shape),
                None => match server.creator.find(definition).await {
                    Ok(found) => found,
                    Err(error) => return refusal::of_lookup(error, cache, Method::Delete),
                },
            };
            let Some(shape) = found else { return Reply::no_such_shape(cache) };
            if request.handle.is_some_and(|handle| handle != shape.handle.to_string()) {
                return Reply::handle_mismatch(cache);
            }
            Some(shape)
        }
    };
    let Some(shape) = shape else { return Reply::no_such_shape(cache) };
    match server.creator.engine.remove(shape.id, DropCause::Deleted).await {
        Ok(()) => {
            // The engine does not know a shape whose creation has just begun.
            server.registry.remove(&shape);
            shape.set_life(Life::Removed);
            Reply::deleted(cache)
        }
        Err(error) => Reply::unavailable(cache, Method::Delete, &Unavailable::new(error.to_string(), 5)),
    }
}

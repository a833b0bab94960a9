//! The reply to a request that gets no shape: the one map from our errors to replies.

use crate::shapes::Failure;
use crate::shapes::creation::LookupError;
use limn_core::Handle;
use limn_core::protocol::cache::CachePolicy;
use limn_core::protocol::reply::Reply;
use limn_core::protocol::route::Method;

/// A definition that leads to no shape.
pub(super) fn of_lookup(error: LookupError, cache: &CachePolicy, method: Method) -> Reply {
    match error {
        LookupError::Request(error) | LookupError::Unfollowable(error) => {
            Reply::bad_request(cache, method, &error)
        }
        LookupError::Unavailable(state) => Reply::unavailable(cache, method, &state),
        LookupError::Failed(message) => Reply::failed(cache, method, &message),
    }
}

/// A shape that could not be created. `successor` is the shape in its place, where there is one.
pub(super) fn of_creation(
    failure: &Failure,
    successor: Option<Handle>,
    cache: &CachePolicy,
    method: Method,
) -> Reply {
    match failure {
        Failure::Unavailable(state) => Reply::unavailable(cache, method, state),
        Failure::Rows(error) => Reply::bad_request(cache, method, error),
        Failure::Refused(message) => {
            let message = format!("Unexpected error while creating snapshot: {message}");
            Reply::failed(cache, method, &message)
        }
        Failure::Gone => Reply::must_refetch(cache, method, successor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use limn_core::protocol::RequestError;
    use limn_core::protocol::reply::Unavailable;

    #[test]
    fn each_error_has_its_status() {
        let (cache, bad) = (CachePolicy::default(), RequestError::new("where", "no"));
        let away = Unavailable::new("away", 5);
        let lookup = |error| of_lookup(error, &cache, Method::Get).head.status;
        let creation = |failure| of_creation(&failure, None, &cache, Method::Get).head.status;
        let lookups = [
            lookup(LookupError::Request(bad.clone())),
            lookup(LookupError::Unfollowable(bad.clone())),
            lookup(LookupError::Unavailable(away.clone())),
            lookup(LookupError::Failed("ours".to_owned())),
        ];
        assert_eq!(lookups, [400, 400, 503, 500]);
        let creations = [
            creation(Failure::Rows(bad)),
            creation(Failure::Unavailable(away)),
            creation(Failure::Refused("no".to_owned())),
            creation(Failure::Gone),
        ];
        assert_eq!(creations, [400, 503, 500, 409]);
    }
}

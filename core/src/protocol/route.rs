//! Which handler a request line belongs to (protocol §1).

use super::query::decode;

/// The request method, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`: answered as `GET`, without the body.
    Head,
    /// `POST`
    Post,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
    /// Any other.
    Other,
}

/// The handler of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// `/`
    Root,
    /// `/v1/shape`
    Shape,
    /// `/v1/schema`, which Electric does not have.
    Schema,
    /// `/v1/health`
    Health,
    /// Everything else.
    NotFound,
}

impl Method {
    /// The method of that exact name.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }

    /// True for the methods whose replies caches may keep.
    #[must_use]
    pub const fn is_read(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}

impl Route {
    /// The route as the method sees it: a method that the path does not know is [`Route::NotFound`], which
    /// needs no secret.
    #[must_use]
    pub const fn for_method(self, method: Method) -> Self {
        let known = match self {
            Self::Root | Self::Health | Self::Schema => method.is_read(),
            Self::Shape => !matches!(method, Method::Other),
            Self::NotFound => true,
        };
        if known { self } else { Self::NotFound }
    }
}

/// Resolves a request path.
///
/// Empty segments are dropped and every segment is percent-decoded before it is compared, so that no
/// spelling of the shape route gets past a guard that asks for the resolved route. `.`, `..` and `%2F` have no
/// meaning.
#[must_use]
pub fn route(path: &str) -> Route {
    let segments: Vec<Vec<u8>> =
        path.split('/').filter(|part| !part.is_empty()).map(|part| decode(part, false)).collect();
    let segments: Vec<&[u8]> = segments.iter().map(Vec::as_slice).collect();
    match *segments {
        [] => Route::Root,
        [b"v1", b"shape"] => Route::Shape,
        [b"v1", b"schema"] => Route::Schema,
        [b"v1", b"health"] => Route::Health,
        _ => Route::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn every_spelling_of_the_shape_route_is_the_shape_route() {
        for path in [
            "/v1/shape",
            "/v1/shape/",
            "/v1//shape",
            "//v1/shape",
            "/v1/shape//",
            "/v1/%73hape",
            "/%761/shape",
        ] {
            assert_eq!(route(path), Route::Shape, "{path}");
        }
    }

    #[test]
    fn other_paths_are_not() {
        assert_eq!(route("/"), Route::Root);
        assert_eq!(route(""), Route::Root);
        assert_eq!(route("/v1/health/"), Route::Health);
        for path in [
            "/nope",
            "/v1",
            "/v1/shape/x",
            "/v1/Shape",
            "/v1/./shape",
            "/v1%2Fshape",
            "/v1/%zzshape",
            "/v1/sha+pe",
        ] {
            assert_eq!(route(path), Route::NotFound, "{path}");
        }
    }

    #[test]
    fn methods_that_a_path_does_not_know_are_not_found() {
        assert_eq!(Route::Shape.for_method(Method::from_name("PUT")), Route::NotFound);
        assert_eq!(Route::Health.for_method(Method::Post), Route::NotFound);
        assert_eq!(Route::Root.for_method(Method::Post), Route::NotFound);
        assert_eq!(Route::Root.for_method(Method::Head), Route::Root);
        for method in [Method::Get, Method::Head, Method::Post, Method::Delete, Method::Options] {
            assert_eq!(Route::Shape.for_method(method), Route::Shape);
        }
    }
}

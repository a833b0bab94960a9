//! Names of HTTP headers on the wire: the only place that spells them (protocol §5.1). All lower case, as HTTP/2
//! wants them.

/// The incarnation of the shape.
pub const HANDLE: &str = "electric-handle";
/// The position after the reply.
pub const OFFSET: &str = "electric-offset";
/// The selected columns and their types, as JSON.
pub const SCHEMA: &str = "electric-schema";
/// What a live request repeats, so that its URL is new.
pub const CURSOR: &str = "electric-cursor";
/// Present, and empty, where the reply reaches the end of the log.
pub const UP_TO_DATE: &str = "electric-up-to-date";
/// `false` where the reply holds no change by nature.
pub const HAS_DATA: &str = "electric-has-data";
/// `true` on a subset.
pub const SNAPSHOT: &str = "electric-snapshot";
/// `true` on a failure that the server has a name for.
pub const KNOWN_ERROR: &str = "electric-internal-known-error";
/// Who answers.
pub const SERVER: &str = "electric-server";
/// The id by which an answer is found in logs; the caller's own where it sent one.
pub const REQUEST_ID: &str = "x-request-id";
/// `closed` on a chunk that never changes again: the mark that caches go by.
pub const CHUNK: &str = "limn-chunk";
/// The value of [`CHUNK`].
pub const CHUNK_CLOSED: &str = "closed";

/// Who may keep the reply, and for how long.
pub const CACHE_CONTROL: &str = "cache-control";
/// The same for surrogates, which read nothing else.
pub const SURROGATE_CONTROL: &str = "surrogate-control";
/// The same for Cloudflare's cache, which prefers it.
pub const CLOUDFLARE_CACHE_CONTROL: &str = "cloudflare-cdn-cache-control";
/// The codings that the client takes.
pub const ACCEPT_ENCODING: &str = "accept-encoding";
/// The coding of the body.
pub const CONTENT_ENCODING: &str = "content-encoding";
/// The media type.
pub const CONTENT_TYPE: &str = "content-type";
/// The version of the reply.
pub const ETAG: &str = "etag";
/// Versions that the client has.
pub const IF_NONE_MATCH: &str = "if-none-match";
/// Credentials.
pub const AUTHORIZATION: &str = "authorization";
/// How a client has to prove who it is.
pub const WWW_AUTHENTICATE: &str = "www-authenticate";
/// Seconds to wait before trying again.
pub const RETRY_AFTER: &str = "retry-after";
/// Headers of the request that the reply depends on.
pub const VARY: &str = "vary";
/// Whether the connection stays (HTTP/1.1 only).
pub const CONNECTION: &str = "connection";

/// The page that asks.
pub const ORIGIN: &str = "origin";
/// Who may read the reply.
pub const ALLOW_ORIGIN: &str = "access-control-allow-origin";
/// Which headers a page may read.
pub const EXPOSE_HEADERS: &str = "access-control-expose-headers";
/// Which methods a page may use.
pub const ALLOW_METHODS: &str = "access-control-allow-methods";
/// Which headers a page may send.
pub const ALLOW_HEADERS: &str = "access-control-allow-headers";
/// How long a preflight holds.
pub const MAX_AGE: &str = "access-control-max-age";
/// Which headers a page wants to send.
pub const REQUEST_HEADERS: &str = "access-control-request-headers";

/// The value of [`EXPOSE_HEADERS`].
pub const EXPOSED: &str = "electric-cursor,electric-handle,electric-has-data,electric-offset,electric-schema,\
electric-up-to-date,electric-internal-known-error,retry-after,electric-snapshot,etag";

/// The value of [`CONTENT_TYPE`] for everything but streams of events.
pub const JSON: &str = "application/json; charset=utf-8";
/// The value of [`CONTENT_TYPE`] for streams of events.
pub const EVENT_STREAM: &str = "text/event-stream";

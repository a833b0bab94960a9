//! Heads of replies that carry a part of a log, or stand in for one.

use super::ReplyHead;
use crate::protocol::cache::{CachePolicy, Live, ReplyKind, coded_etag, etag};
use crate::protocol::coding::Coding;
use crate::protocol::header;
use crate::protocol::request::{ReadRequest, RequestOffset};
use crate::{Handle, Offset};

/// The part of a log that was read for a request; the methods give the head for each form of reply.
#[derive(Debug, Clone, Copy)]
pub struct LogReply<'a> {
    /// The request that is answered.
    pub request: ReadRequest,
    /// The incarnation that was read.
    pub handle: Handle,
    /// The end of what the reply holds; `electric-offset`, except in the head of an event stream.
    pub offset: Offset,
    /// Where the segment begins that its changes are from, a byte position in the change log: compaction moves that, and
    /// changes which changes a reply holds. 0 before the first compaction, and where it holds no change.
    pub segment_start: u64,
    /// Whether that is the end of the log.
    pub up_to_date: bool,
    /// Whether the reply is a whole chunk that changes no more, but by a compaction.
    pub closed: bool,
    /// The schema header of the shape.
    pub schema: &'a str,
    /// The next cursor ([`next_cursor`](crate::protocol::cache::next_cursor)); used on live replies only.
    pub cursor: u64,
    /// The coding of the body, where it has one.
    pub coding: Option<Coding>,
}

impl LogReply<'_> {
    /// The entity tag of [`LogReply::chunk`], to hold against `if-none-match` before anything is read.
    #[must_use]
    pub fn etag(&self) -> String {
        let plain = etag(self.handle, self.request.offset, (self.offset, self.segment_start), None);
        self.coding.map_or_else(|| plain.clone(), |coding| coded_etag(&plain, coding))
    }

    /// 200 with items of the log, or with none where none are due: non-live, long poll, or stream of events.
    #[must_use]
    pub fn chunk(&self, policy: &CachePolicy) -> ReplyHead {
        self.head(policy, 200, self.etag(), true, self.up_to_date)
    }

    /// 200 for a long poll that ran out, or for `offset=now`: up to date, and no data. `unique` grows with
    /// every reply of this kind.
    #[must_use]
    pub fn nothing_new(&self, policy: &CachePolicy, unique: u64) -> ReplyHead {
        let etag = etag(self.handle, self.request.offset, (self.offset, self.segment_start), Some(unique));
        self.head(policy, 200, etag, false, true)
    }

    /// 200 with a subset. It is plain JSON and never the end of anything, whether or not the request was live;
    /// `offset` is where the client goes on in the log.
    #[must_use]
    pub fn subset(&self, policy: &CachePolicy) -> ReplyHead {
        let mut headers = policy.headers(self.request.method, ReplyKind::Subset);
        headers.push((header::SNAPSHOT, true.to_string()));
        headers.push((header::HANDLE, self.handle.to_string()));
        headers.push((header::OFFSET, self.offset.to_string()));
        if !self.request.live {
            headers.push((header::SCHEMA, self.schema.to_owned()));
        }
        headers.push((header::CONTENT_TYPE, header::JSON.to_owned()));
        ReplyHead { status: 200, headers }
    }

    /// 304: the client has [`LogReply::chunk`] already.
    #[must_use]
    pub fn not_modified(&self, policy: &CachePolicy) -> ReplyHead {
        let mut head = self.head(policy, 304, self.etag(), true, self.up_to_date);
        head.headers.retain(|(name, _)| *name != header::SCHEMA);
        head
    }

    fn head(
        &self,
        policy: &CachePolicy,
        status: u16,
        etag: String,
        has_data: bool,
        up_to_date: bool,
    ) -> ReplyHead {
        let live = self.live();
        let closed = self.closed && has_data && live == Live::No;
        let kind = ReplyKind::Log { offset: self.request.offset, live, closed };
        let mut headers = policy.headers(self.request.method, kind);
        headers.push((header::ETAG, etag));
        headers.push((header::HANDLE, self.handle.to_string()));
        headers.push((header::OFFSET, self.told_offset().to_string()));
        headers.push((header::HAS_DATA, has_data.to_string()));
        if up_to_date {
            headers.push((header::UP_TO_DATE, String::new()));
        }
        if live == Live::No {
            headers.push((header::SCHEMA, self.schema.to_owned()));
        } else {
            headers.push((header::CURSOR, self.cursor.to_string()));
        }
        if closed {
            headers.push((header::CHUNK, header::CHUNK_CLOSED.to_owned()));
        }
        if let (Some(coding), 200) = (self.coding, status) {
            headers.push((header::CONTENT_ENCODING, coding.as_str().to_owned()));
        }
        if live == Live::Events && status == 200 {
            headers.push((header::CONTENT_TYPE, header::EVENT_STREAM.to_owned()));
            headers.push((header::CONNECTION, "keep-alive".to_owned()));
        } else {
            headers.push((header::CONTENT_TYPE, header::JSON.to_owned()));
        }
        ReplyHead { status, headers }
    }

    /// Where a client may go on once it has the head. A stream can break behind any byte, so its head repeats
    /// the offset of the request: the client moves on by the messages that it received.
    const fn told_offset(&self) -> Offset {
        match (self.live(), self.request.offset) {
            (Live::Events, RequestOffset::At(requested)) => requested,
            _ => self.offset,
        }
    }

    const fn live(&self) -> Live {
        match (self.request.live, self.request.live_sse) {
            (true, true) => Live::Events,
            (true, false) => Live::LongPoll,
            (false, _) => Live::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::request::{ShapeRequest, parse_shape_request};
    use crate::protocol::route::Method;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const SCHEMA: &str = r#"{"id":{"type":"int4"}}"#;

    fn request(query: &str) -> ShapeRequest {
        parse_shape_request(Method::Get, &format!("table=t&{query}")).unwrap()
    }

    fn reply(request: &ShapeRequest, offset: Offset, up_to_date: bool) -> LogReply<'static> {
        LogReply {
            request: request.read(),
            handle: Handle::new(2000, 7),
            offset,
            segment_start: 0,
            up_to_date,
            closed: !up_to_date,
            schema: SCHEMA,
            cursor: 40,
            coding: None,
        }
    }

    /// The `electric-*` headers, `etag` and `limn-chunk`, sorted: what the matrix speaks of.
    fn matrix(head: &ReplyHead) -> Vec<(&str, &str)> {
        let spoken_of = |name: &str| name.starts_with("electric-") || name == "etag" || name == "limn-chunk";
        let mut headers: Vec<_> =
            head.headers.iter().map(|(n, v)| (*n, v.as_str())).filter(|(n, _)| spoken_of(n)).collect();
        headers.sort_unstable();
        headers
    }

    #[test]
    fn the_initial_reply_is_never_up_to_date() {
        let request = request("offset=-1");
        let head = reply(&request, Offset::snapshot_chunk(0), false).chunk(&CachePolicy::default());
        let expected = [
            ("electric-handle", "2000-7"),
            ("electric-has-data", "true"),
            ("electric-offset", "0_0"),
            ("electric-schema", SCHEMA),
            ("etag", "\"2000-7:-1:0_0\""),
            ("limn-chunk", "closed"),
        ];
        assert_eq!((head.status, matrix(&head)), (200, expected.to_vec()));
        assert_eq!(head.header("content-type"), Some("application/json; charset=utf-8"));
    }

    #[test]
    fn a_live_reply_has_a_cursor_and_no_schema() {
        let request = request("offset=0_inf&handle=h&live=true");
        let head = reply(&request, Offset::new(12, 3), true).chunk(&CachePolicy::default());
        let expected = [
            ("electric-cursor", "40"),
            ("electric-handle", "2000-7"),
            ("electric-has-data", "true"),
            ("electric-offset", "12_3"),
            ("electric-up-to-date", ""),
            ("etag", "\"2000-7:0_inf:12_3\""),
        ];
        assert_eq!(matrix(&head), expected);
    }

    #[test]
    fn a_timeout_has_no_data_and_a_tag_of_its_own() {
        let request = request("offset=0_inf&handle=h&live=true");
        let head = reply(&request, Offset::SNAPSHOT_END, true).nothing_new(&CachePolicy::default(), 9);
        let expected = [
            ("electric-cursor", "40"),
            ("electric-handle", "2000-7"),
            ("electric-has-data", "false"),
            ("electric-offset", "0_inf"),
            ("electric-up-to-date", ""),
            ("etag", "\"2000-7:0_inf:0_inf:9\""),
        ];
        assert_eq!(matrix(&head), expected);
    }

    #[test]
    fn now_has_a_schema_and_no_data() {
        let request = request("offset=now");
        let head = reply(&request, Offset::new(12, 0), true).nothing_new(&CachePolicy::default(), 9);
        let expected = [
            ("electric-handle", "2000-7"),
            ("electric-has-data", "false"),
            ("electric-offset", "12_0"),
            ("electric-schema", SCHEMA),
            ("electric-up-to-date", ""),
            ("etag", "\"2000-7:now:12_0:9\""),
        ];
        assert_eq!(matrix(&head), expected);
        assert_eq!(head.header("cache-control"), Some("public, max-age=60, stale-while-revalidate=300"));
    }

    #[test]
    fn not_modified_repeats_all_but_the_schema() {
        let request = request("offset=0_inf&handle=h");
        let head = reply(&request, Offset::new(12, 0), true).not_modified(&CachePolicy::default());
        let expected = [
            ("electric-handle", "2000-7"),
            ("electric-has-data", "true"),
            ("electric-offset", "12_0"),
            ("electric-up-to-date", ""),
            ("etag", "\"2000-7:0_inf:12_0\""),
        ];
        assert_eq!((head.status, matrix(&head)), (304, expected.to_vec()));
        assert_eq!(head.header("cache-control"), Some("public, max-age=60, stale-while-revalidate=300"));
    }

    #[test]
    fn a_stream_of_events_says_so() {
        let request = request("offset=0_inf&handle=h&live=true&live_sse=true");
        let head = reply(&request, Offset::SNAPSHOT_END, true).chunk(&CachePolicy::default());
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        assert_eq!(head.header("cache-control"), Some("public, max-age=59"));
        assert_eq!(head.header("electric-cursor"), Some("40"));
        assert_eq!(head.header("electric-schema"), None);
    }

    #[test]
    fn the_head_of_a_stream_names_the_requested_offset() {
        for (query, told) in [
            ("offset=0_inf&handle=h&live=true&live_sse=true", "0_inf"),
            ("offset=12_4&handle=h&live=true&experimental_live_sse=true", "12_4"),
            ("offset=12_4&handle=h&live=true", "30_6"),
        ] {
            let request = request(query);
            let head = reply(&request, Offset::new(30, 6), true).chunk(&CachePolicy::default());
            assert_eq!(head.header("electric-offset"), Some(told), "{query}");
        }
    }

    #[test]
    fn a_subset_says_where_to_go_on_and_nothing_else() {
        let policy = CachePolicy::default();
        let request = request("offset=0_inf&handle=h");
        let head = reply(&request, Offset::SNAPSHOT_END, true).subset(&policy);
        let expected = [
            ("electric-handle", "2000-7"),
            ("electric-offset", "0_inf"),
            ("electric-schema", SCHEMA),
            ("electric-snapshot", "true"),
        ];
        assert_eq!((head.status, matrix(&head)), (200, expected.to_vec()));
        assert_eq!(head.header("cache-control"), Some("no-cache"));
        assert_eq!(head.header("cloudflare-cdn-cache-control"), Some("no-store"));
        for live in ["live=true", "live=true&live_sse=true"] {
            let request = self::request(&format!("offset=0_inf&handle=h&{live}"));
            let head = reply(&request, Offset::SNAPSHOT_END, true).subset(&policy);
            assert_eq!(matrix(&head), [expected[0], expected[1], expected[3]], "{live}");
            assert_eq!(head.header("content-type"), Some(header::JSON));
        }
    }
}

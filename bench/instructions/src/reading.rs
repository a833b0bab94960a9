//! Requests for the chunks of a log, up to the bytes and the head of the reply.

use crate::Work;
use crate::input::{Cells, Random, relation};
use limn_core::log::item::ChangePosition;
use limn_core::log::reading::{Answer, Look, Mode, Next, Part, Standing};
use limn_core::log::segment::{decode_entry, encode_entry, search};
use limn_core::log::shape_log::{Found, SnapshotProgress};
use limn_core::log::{Clock, ItemFormat, Read, Reading, ShapeLog};
use limn_core::protocol::cache::CachePolicy;
use limn_core::protocol::reply::LogReply;
use limn_core::protocol::request::{Replica, RequestOffset, ShapeRequest, parse_shape_request};
use limn_core::protocol::route::Method;
use limn_core::shape::schema_header;
use limn_core::{Handle, Lsn, Offset};
use std::convert::Infallible;
use std::hint::black_box;
use std::time::Duration;

const ITEMS: u64 = 2_000;
const ITEMS_PER_TRANSACTION: u64 = 4;
const CHUNK_BYTES: u64 = 10_000;
/// Bytes of an entry of a segment's index.
const ENTRY_BYTES: usize = 24;
const HANDLE: Handle = Handle::new(0x1234_5678, 1_750_000_000_000_000);
const CLOCK: Clock = Clock { processed: Lsn::new(u64::MAX >> 1), is_current: true };

/// A log, and its segment's index.
struct Log {
    log: ShapeLog,
    index: Vec<u8>,
    schema: String,
}

/// The chunks are in memory: each is asked for by where the one before ends, and from the middle of it.
pub fn from_tail() -> Work {
    Log::new().work()
}

/// The chunks are in a segment: their offsets are searched in its index.
pub fn from_segment() -> Work {
    let mut log = Log::new();
    log.log.flushable().iter().for_each(|mark| encode_entry(&mut log.index, *mark));
    log.log.handle_flushed();
    log.work()
}

impl Log {
    fn new() -> Self {
        let relation = relation();
        let projection: Vec<usize> = (0..relation.columns.len()).collect();
        let format = ItemFormat::new(&relation, &projection, Replica::Default);
        let mut log = ShapeLog::new(CHUNK_BYTES);
        log.handle_snapshot_progress(SnapshotProgress {
            bytes: 100,
            chunk_ends: vec![100],
            complete: true,
            pack: None,
        });
        log.handle_joined();
        let mut random = Random::default();
        for id in 0..ITEMS {
            let at = position(id);
            let mut item = Vec::new();
            format.push_insert(&mut item, &Cells::random(&mut random, id), at);
            log.append(at.lsn, at.op, &item);
            if id % ITEMS_PER_TRANSACTION == ITEMS_PER_TRANSACTION - 1 {
                log.commit();
            }
        }
        Self { log, index: Vec::new(), schema: schema_header(&relation.columns) }
    }

    /// Requests from every 20th item on.
    fn work(mut self) -> Work {
        let starts = (0..ITEMS).step_by(20).map(|id| {
            let at = position(id);
            format!("table=items&handle={HANDLE}&offset={}", Offset::new(at.lsn, at.op))
        });
        let queries: Vec<String> = starts.collect();
        Work::new(queries.len(), move || {
            for query in &queries {
                let request = parse_shape_request(Method::Get, black_box(query)).expect("a request");
                self.answer(&request);
            }
        })
    }

    fn answer(&mut self, request: &ShapeRequest) {
        let RequestOffset::At(after) = request.offset else { unreachable!("each request names its offset") };
        let read = match self.log.read(after, CLOCK) {
            Read::Search => self.search(after),
            read => read,
        };
        let look =
            Look { now: Duration::ZERO, read: Some(read), standing: Standing::Active, is_stopping: false };
        let mut reading = Reading::new(Mode::of(request), Duration::from_secs(20), false);
        let Next::Send(Answer::Part { part, offset, closed, up_to_date }) = reading.next(&look, false) else {
            unreachable!("something follows each offset")
        };
        if let Part::Changes(range) = &part {
            black_box(self.log.shared_tail_part(range.bytes.clone()));
        }
        let reply = LogReply {
            request: request.read(),
            handle: HANDLE,
            offset,
            segment_start: part.segment_start(),
            up_to_date: up_to_date.is_some(),
            closed,
            schema: &self.schema,
            cursor: 0,
            coding: None,
        };
        black_box(reply.chunk(&CachePolicy::default()));
    }

    fn search(&self, after: Offset) -> Read {
        let place = self.log.index_search();
        let entry = |n: u64| {
            let at = n as usize * ENTRY_BYTES;
            let entry = self.index.get(at..at + ENTRY_BYTES).and_then(|entry| entry.try_into().ok());
            Ok::<_, Infallible>(decode_entry(entry.expect("the index has that many entries")))
        };
        let Ok(byte) = search(place.entries, after, entry);
        self.log.read_at(after, Found { start: place.start, byte }, CLOCK)
    }
}

const fn position(id: u64) -> ChangePosition {
    let transaction = id / ITEMS_PER_TRANSACTION;
    ChangePosition {
        lsn: 1_000 + transaction * 100,
        op: id % ITEMS_PER_TRANSACTION * 2,
        xid: 900 + transaction as u32,
    }
}

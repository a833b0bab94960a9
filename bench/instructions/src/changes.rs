//! Changes of the replication stream: decoded, and routed to the shapes that they belong to.

use crate::Work;
use crate::input::{begin, changes, commit, relation};
use limn_core::ShapeId;
use limn_core::pg::{SnapshotBounds, SnapshotFilter};
use limn_core::pgoutput::{Message, decode as decode_frame};
use limn_core::protocol::request::parse_shape_request;
use limn_core::protocol::route::Method;
use limn_core::shape::dependent::DependentState;
use limn_core::shape::{Definition, GeneratedColumns, Router};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::hint::black_box;

const CHANGES: usize = 1_000;
/// Shapes whose clauses an index holds.
const SHAPES: u32 = 10_000;

/// A frame of pgoutput becomes a message, whose cells are looked at.
pub fn decode() -> Work {
    let frames = changes(CHANGES);
    Work::new(frames.len(), move || {
        for frame in &frames {
            let message = decode_frame(black_box(frame)).expect("a frame of pgoutput");
            if let Message::Insert { new, .. } | Message::Update { new, .. } = &message {
                new.iter().for_each(|cell| {
                    black_box(cell);
                });
            }
            black_box(&message);
        }
    })
}

/// A change finds its shapes among 10,000, and is encoded for them.
pub fn route() -> Work {
    let mut router = Router::default();
    let relation = relation();
    for n in 0..SHAPES {
        let query = format!("table=items&offset=-1&{}", definition(n));
        let request = parse_shape_request(Method::Get, &query).expect("a request");
        let definition = Definition::resolve(&request.definition, &relation, &GeneratedColumns::Never, &[]);
        let bounds = SnapshotBounds { xmin: 800, xmax: 800, xip: Vec::new() };
        let filter = SnapshotFilter { bounds, ends_at: 50 };
        let definition = definition.expect("a definition");
        router.add_restored(ShapeId(n), &definition, "", filter, DependentState::default());
    }
    let changes = changes(CHANGES);
    let mut at = 100;
    Work::new(changes.len(), move || {
        at += 100;
        let (begin, commit) = (begin(at), commit(at));
        for frame in begin.iter().chain(&changes).chain([&commit]) {
            let message = decode_frame(frame).expect("a frame of pgoutput");
            router.handle_message(&message).expect("the stream keeps its rules");
        }
        let mut pairs = Vec::new();
        let routed = router.fragment().by_shape(&mut pairs).map(|item| black_box(item.bytes).len());
        assert!(black_box(routed.count()) > CHANGES / 2, "most changes belong to a shape");
        router.clear_fragment();
    })
}

/// Shape number `n`: clauses of all families that an index holds, some of them with columns or all of the old row.
fn definition(n: u32) -> String {
    let (from, other) = (n * 10, n + 1_000_000);
    let clause = match n % 8 {
        0 | 1 => format!("tenant = {n}"),
        2 => format!("tenant = {n} AND NOT done AND price > 1000"),
        3 => format!("title ILIKE '%Word{n}x%'"),
        4 => format!("code LIKE 'p{n}.%'"),
        5 => format!("amount >= {from} AND amount < {}", from + 10),
        6 => format!("tenant IN ({n}, {other}, {})", other + 1_000_000),
        _ => format!("tenant = {n} OR code = 'p{other}.code'"),
    };
    let rest = match n % 10 {
        0 => "&replica=full",
        1 => "&columns=id,title",
        _ => "",
    };
    format!("where={}{rest}", utf8_percent_encode(&clause, NON_ALPHANUMERIC))
}

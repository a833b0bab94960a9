//! Every decision that Limn takes, without IO, clock or async.
//!
//! Modules are listed in their order: each imports only modules that stand before it (`client` none but the
//! positions). [`pgoutput`] decodes Postgres's replication stream, [`filter`] judges rows by a `where` clause,
//! [`shape`] routes changes to shapes and encodes them for the shape logs of [`log`], [`journal`] is the commit log
//! that makes them durable, and [`store`] puts these together: its `Writer` is the write path of a server.
//! [`protocol`] parses requests and builds replies, [`edge`] judges what a token allows, [`client`] follows a shape. Inputs are `handle_*` calls with bytes
//! and times, outputs are values.
//!
//! Frames of the replication stream go in, log items for the clients come out. Here the shape is the whole table
//! `birds`, and its snapshot is behind it:
//!
//! ```
//! use limn_core::ShapeId;
//! use limn_core::pgoutput::decode;
//! use limn_core::shape::Router;
//! # use limn_core::pg::{Column, QualifiedName, Relation, SnapshotBounds, SnapshotFilter, oid};
//! # use limn_core::protocol::request::parse_shape_request;
//! # use limn_core::protocol::route::Method;
//! # use limn_core::shape::dependent::DependentState;
//! # use limn_core::shape::{Definition, GeneratedColumns};
//! # let id = Column { not_null: true, pk_index: Some(0), ..Column::new("id", oid::INT4, "int4") };
//! # let birds = Relation::new(16384, QualifiedName::new("public", "birds"), vec![id]);
//! # let request = parse_shape_request(Method::Get, "table=birds&offset=-1").unwrap();
//! # let birds = Definition::resolve(&request.definition, &birds.into(), &GeneratedColumns::Never, &[]).unwrap();
//! # let bounds = SnapshotBounds { xmin: 800, xmax: 800, xip: Vec::new() };
//! # let snapshot = SnapshotFilter { bounds, ends_at: 50 };
//!
//! let mut router = Router::default();
//! router.add_restored(ShapeId(1), &birds, "", snapshot, DependentState::default());
//!
//! // Transaction 900 begins, the table is described, and the row with the id 7 is inserted.
//! let begin = b"B\0\0\0\0\0\0\0\x64\0\0\0\0\0\0\0\0\0\0\x03\x84";
//! let relation = b"R\0\0\x40\0public\0birds\0f\0\x01\x01id\0\0\0\0\x17\xff\xff\xff\xff";
//! let insert = b"I\0\0\x40\0N\0\x01t\0\0\0\x017";
//! for frame in [begin.as_slice(), relation, insert] {
//!     router.handle_message(&decode(frame)?)?;
//! }
//!
//! let mut pairs = Vec::new();
//! let items: Vec<_> = router.fragment().by_shape(&mut pairs).collect();
//! assert_eq!((items.len(), items[0].shape), (1, ShapeId(1)));
//! assert!(items[0].bytes.starts_with(br#"{"key":"\"public\".\"birds\"/\"7\"","value":{"id":"7"}"#));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/core_alone.rs` goes the whole way, from a request to the logs of two shapes.

pub mod handle;
pub mod lsn;
mod named_enum;
pub mod offset;
mod shape_id;

pub mod pg;
pub mod pgoutput;

pub mod filter;
pub mod protocol;

pub mod edge;

pub mod log;
pub mod shape;

pub mod journal;

pub mod store;

pub mod client;

pub use handle::{Handle, HandleClock};
pub use lsn::Lsn;
pub use offset::{Offset, Op};
pub use shape_id::ShapeId;

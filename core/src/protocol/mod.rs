//! The HTTP protocol as pure decisions: what a request asks, what a reply says, who may cache it.

pub mod auth;
pub mod body;
pub mod cache;
pub mod cache_key;
pub mod cached_reply;
mod cast;
pub mod coding;
pub mod copy_class;
pub mod cors;
pub mod events;
pub mod fault_code;
pub mod header;
pub mod identifier;
pub mod kept_request;
pub mod message;
pub mod parameter;
pub mod query;
pub mod refusal;
pub mod reply;
pub mod request;
pub mod route;
pub mod subset;

pub use cache::CachePolicy;
pub use coding::Coding;
pub use fault_code::FaultCode;
pub use parameter::Parameter;
pub use refusal::RequestError;
pub use reply::{Health, LogReply, Reply, ReplyHead, Unavailable};
pub use request::{DefinitionRequest, DeleteRequest, LogMode, Replica, RequestOffset, ShapeRequest};
pub use route::{Method, Route};
pub use subset::{SnapshotMark, SubsetRequest};

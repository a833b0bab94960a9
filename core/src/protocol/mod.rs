//! The HTTP protocol as pure decisions: what a request asks, what a reply says, who may cache it.

mod cast;
pub mod identifier;
pub mod query;
pub mod refusal;
pub mod request;
pub mod route;

pub use refusal::RequestError;
pub use request::{DefinitionRequest, DeleteRequest, LogMode, Replica, RequestOffset, ShapeRequest};
pub use route::{Method, Route};

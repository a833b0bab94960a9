//! The number by which the engine and the commit log name a shape.

use serde::{Deserialize, Serialize};

/// A shape's number: local to one storage folder, never reused there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShapeId(pub u32);

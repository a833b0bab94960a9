//! Shapes: what they are, and which changes belong to them.

//! The types that core reads: their values and texts, and the operators and casts that exist among them.

pub(super) mod array;
pub(super) mod array_text;
mod bytes;
pub(super) mod calendar;
pub(super) mod call;
pub(super) mod datetime;
pub(super) mod float;
pub(super) mod inet;
pub(super) mod interval;
mod interval_text;
pub(super) mod json;
mod json_scanner;
pub(super) mod number;
pub(super) mod operator;
mod timetz;
pub(super) mod ty;
pub(super) mod value;

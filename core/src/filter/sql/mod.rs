//! From a tree back to SQL: the canonical text of what core evaluates, and the text of what only Postgres can.

pub(super) mod canonical;
mod deparse;
pub(super) mod postgres;

//! The Limn origin: executes what `limn-core` decides, beside Postgres.

pub mod postgres;

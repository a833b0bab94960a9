//! The WHERE clause in core against Postgres itself: the recorded clauses, and random ones.

mod clause;
mod random_clauses;
mod recorded;
mod table;
mod values;

//! The WHERE clause in core against Postgres itself: the recorded clauses, and random ones.

mod clause;
mod in_postgres;
mod random_clauses;
mod recorded;
mod table;
mod values;

//! Core on a virtual clock: its router, its write path, its replay and what keeps them on disk, as they ship, between a
//! model of Postgres and a faulty disk, for as many histories as there are seeds.
//!
//! ```text
//! postgres/  transactions, snapshots, the WAL, a slot that sends pgoutput
//! disk       files whose unsynced writes may be lost, torn or reordered
//! files      the same as the port that `limn_disk` writes to
//! origin/    carries out what core decides, one step at a time
//! faulty/    ports of the origin, with what a planted bug changes
//! threads    queues of what is to be done with the disk
//! front      what clients find at a process
//! reply      what a client gets
//! questions  what the model's Postgres answers to a move
//! client     follows a log and keeps its rows
//! judge/     everything that was ever served, what the rows must be, and what may be kept
//! world      decides by the seed what happens next
//! settings   the limits of a run
//! fault      bugs to plant
//! ```
//!
//! The same seed gives the same history: nothing here reads a clock, starts a thread or iterates over a hash map
//! whose order leaks out.

mod client;
mod disk;
mod fault;
mod faulty;
mod files;
mod front;
mod judge;
mod origin;
mod postgres;
mod questions;
mod random;
mod reply;
mod settings;
mod shapes;
mod threads;
mod trace;
mod world;

pub use fault::Fault;
pub use trace::Trace;
pub use world::{Outcome, run};

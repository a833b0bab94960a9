//! Shapes that nobody reads.

use super::Scenario;
use super::creation;
use crate::figures::Unit;
use crate::subject::Subject;
use limn_tests::Sql;
use std::sync::atomic::{AtomicU64, Ordering};

/// The memory that a server which has just started keeps for each of its shapes.
#[derive(Debug)]
pub struct IdleShapes {
    shapes: usize,
    /// The memory that it has without any, in bytes.
    empty: AtomicU64,
}

impl IdleShapes {
    /// So many shapes of three rows.
    pub const fn new(shapes: usize) -> Self {
        Self { shapes, empty: AtomicU64::new(0) }
    }
}

impl Scenario for IdleShapes {
    const TITLE: &str = "A server that has many shapes of three rows was started: its memory for each";
    const UNIT: Unit = Unit::Bytes;

    async fn fill(&self, sql: &Sql) {
        creation::fill(sql).await;
    }

    async fn set_up(&self, subject: &mut Subject) {
        self.empty.store(subject.memory_bytes(), Ordering::Relaxed);
        creation::make_shapes(subject, self.shapes).await;
    }

    async fn run(&self, subject: &mut Subject, _run: usize) -> f64 {
        let more = subject.memory_bytes().saturating_sub(self.empty.load(Ordering::Relaxed));
        more as f64 / self.shapes as f64
    }
}

//! Shapes beyond the limit: those that were not read for the longest time go.

use super::Registry;
use crate::engine::EngineHandle;
use crate::health::{Phase, Status};
use limn_core::shape::DropCause;
use std::sync::Arc;
use std::time::Duration;

/// How often shapes are counted.
const PERIOD: Duration = Duration::from_secs(60);

/// Keeps the number of shapes at most at `shapes_max`, for as long as the server runs.
pub async fn run(shapes_max: usize, engine: EngineHandle, registry: Arc<Registry>, status: Arc<Status>) {
    let mut tick = tokio::time::interval(PERIOD);
    loop {
        tick.tick().await;
        if status.phase() != Phase::Active {
            continue;
        }
        let mut shapes = registry.all();
        let surplus = shapes.len().saturating_sub(shapes_max);
        shapes.sort_by_key(|shape| shape.last_read());
        for shape in shapes.iter().take(surplus) {
            // The engine ends only with the server.
            let _ = engine.remove(shape.id, DropCause::Expired).await;
        }
    }
}

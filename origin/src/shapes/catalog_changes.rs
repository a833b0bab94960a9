//! What is known of changes of the catalog, by the shapes that they ended, or kept from being made.

use limn_core::pg::QualifiedName;
use limn_core::shape::Definition;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a change is remembered: longer than anything is believed that the catalog said.
const KEPT: Duration = Duration::from_secs(10);

/// Tables of which the catalog says something else since a time.
#[derive(Debug, Default)]
pub struct CatalogChanges(Mutex<HashMap<QualifiedName, Instant>>);

impl CatalogChanges {
    /// A change of the catalog has ended a shape of this definition, or kept it from being made.
    pub fn note(&self, definition: &Definition) {
        let now = Instant::now();
        let mut changes = self.changes();
        changes.retain(|_, at| at.elapsed() < KEPT);
        changes.extend(definition.relations().iter().map(|relation| (relation.name.clone(), now)));
    }

    /// Whether the catalog is known to say something else of this table than it said at `asked_at`.
    #[must_use]
    pub fn is_outdated(&self, name: &QualifiedName, asked_at: Instant) -> bool {
        self.changes().get(name).is_some_and(|changed_at| asked_at <= *changed_at)
    }

    fn changes(&self) -> MutexGuard<'_, HashMap<QualifiedName, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes::registry::tests::{relation, request, shape};

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_before_a_change_is_outdated() {
        let changes = CatalogChanges::default();
        let (definition, other) = (
            shape(&relation(), &request("id=1"), 1, 1).definition.clone(),
            QualifiedName::new("public", "other"),
        );
        let name = definition.relation.name.clone();
        let before = Instant::now();
        assert!(!changes.is_outdated(&name, before));
        tokio::time::advance(Duration::from_millis(1)).await;
        changes.note(&definition);
        assert!(changes.is_outdated(&name, before) && !changes.is_outdated(&other, before));
        assert!(
            changes.is_outdated(&name, Instant::now()),
            "the question may have been answered before the change"
        );
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!changes.is_outdated(&name, Instant::now()));
        tokio::time::advance(KEPT).await;
        changes.note(&shape(&relation(), &request("id=2"), 2, 2).definition);
        assert_eq!(changes.changes().len(), 1, "those of long ago are forgotten");
    }
}

//! Which shapes there are, by everything that a request may know of them.

mod grown;
mod maps;

use grown::Grown;

use super::{CatalogChanges, Schemas, Shape};
use limn_core::protocol::request::DefinitionRequest;
use limn_core::{Handle, HandleClock};
use maps::Maps;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// All shapes that can be found.
#[derive(Debug, Default)]
pub struct Registry {
    /// The schema headers of the shapes.
    pub schemas: Schemas,
    /// What has ended shapes in the catalog.
    pub catalog_changes: CatalogChanges,
    /// The shapes that have grown while live requests wait for that.
    pub grown: Grown,
    maps: Mutex<Maps>,
    handles: Mutex<HandleClock>,
}

impl Registry {
    /// The living shape that this spelling of a definition led to before.
    #[must_use]
    pub fn by_spelling(&self, request: &DefinitionRequest) -> Option<Arc<Shape>> {
        self.maps().by_spelling(request)
    }

    /// The living shape of this handle.
    #[must_use]
    pub fn by_handle(&self, handle: Handle) -> Option<Arc<Shape>> {
        self.maps().by_handle(handle)
    }

    /// The living shape with this identity.
    #[must_use]
    pub fn by_identity(&self, identity: &str) -> Option<Arc<Shape>> {
        self.maps().by_identity(identity)
    }

    /// The living shape with this identity, or else the one that `make` gives; true where it was made.
    pub fn find_or_insert(&self, identity: &str, make: impl FnOnce() -> Arc<Shape>) -> (Arc<Shape>, bool) {
        let mut maps = self.maps();
        if let Some(shape) = maps.by_identity(identity) {
            return (shape, false);
        }
        let shape = make();
        maps.insert(&shape);
        (shape, true)
    }

    /// Makes room for so many further shapes.
    pub fn reserve(&self, shapes: usize) {
        self.maps().reserve(shapes);
    }

    /// Adds a shape that a restart found.
    pub fn insert(&self, shape: &Arc<Shape>) {
        self.maps().insert(shape);
    }

    /// Remembers that a spelling leads to a shape, for as long as the shape is here.
    pub fn remember(&self, request: &DefinitionRequest, shape: &Shape) {
        self.maps().remember(request, shape);
    }

    /// The same for the spelling that the shape itself knows.
    pub fn remember_own(&self, shape: &Shape) {
        self.maps().remember(&shape.request(), shape);
    }

    /// Removes a shape, unless another has taken its place.
    pub fn remove(&self, shape: &Shape) {
        self.maps().remove(shape);
    }

    /// Every living shape.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Shape>> {
        let maps = self.maps();
        maps.all().filter(|shape| shape.is_alive()).cloned().collect()
    }

    /// Every shape that can be read.
    #[must_use]
    pub fn readable(&self) -> Vec<Arc<Shape>> {
        let maps = self.maps();
        maps.all().filter(|shape| shape.is_readable()).cloned().collect()
    }

    /// How many shapes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.maps().len()
    }

    /// True where there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Handles up to this time were given by a process before.
    pub fn reserve_handles(&self, last_us: u64) {
        *self.handles() = HandleClock::after(last_us);
    }

    /// The newest time that a handle carries.
    #[must_use]
    pub fn last_handle_us(&self) -> u64 {
        self.handles().last_us()
    }

    /// A time in microseconds that no handle of this folder carries yet.
    #[must_use]
    pub fn next_handle_us(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        self.handles().next_us(u64::try_from(now).unwrap_or(u64::MAX))
    }

    fn handles(&self) -> MutexGuard<'_, HandleClock> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::maps::SPELLINGS_MAX;
    use super::*;
    use crate::shapes::Life;
    use limn_core::ShapeId;
    use limn_core::journal::record::CreatedShape;
    use limn_core::log::ShapeLog;
    use limn_core::pg::{Column, QualifiedName, Relation, oid};
    use limn_core::protocol::request::parse_shape_request;
    use limn_core::protocol::route::Method;
    use limn_core::shape::{Definition, GeneratedColumns, Router};
    use limn_disk::Layout;
    use std::time::Instant;

    pub(crate) fn request(where_clause: &str) -> DefinitionRequest {
        let query = format!("table=t&offset=-1&where={where_clause}");
        parse_shape_request(Method::Get, &query).expect("a valid request").definition
    }

    pub(crate) fn relation() -> Arc<Relation> {
        let id = Column { not_null: true, pk_index: Some(0), ..Column::new("id", oid::INT4, "int4") };
        Arc::new(Relation::new(1, QualifiedName::new("public", "t"), vec![id]))
    }

    /// A shape of the table, as one incarnation: `handle_us` makes its handle.
    pub(crate) fn shape(
        relation: &Arc<Relation>,
        request: &DefinitionRequest,
        id: u32,
        handle_us: u64,
    ) -> Arc<Shape> {
        let definition = Definition::resolve(request, relation, &GeneratedColumns::Never, &[]);
        let handle = Handle::new(u64::from(id), handle_us);
        let created = CreatedShape {
            id: ShapeId(id),
            handle: handle.to_string(),
            request: request.clone(),
            relation: relation.clone(),
            partitions: Vec::new(),
            inner: Vec::new(),
            inner_partitions: Default::default(),
        };
        let definition = definition.expect("the clause fits the table");
        let schemas = Schemas::default();
        Arc::new(Shape::new(
            schemas.keep(created, handle),
            definition,
            (Layout::new("".into()), &schemas),
            ShapeLog::new(1),
            Life::Readable,
        ))
    }

    #[test]
    fn a_removed_shape_takes_its_spellings_along() {
        let (relation, registry) = (relation(), Registry::default());
        let spellings = [request("id=1"), request("id%20=%201"), request("1=id")];
        let (one, other) = (shape(&relation, &spellings[0], 1, 1), shape(&relation, &request("id=2"), 2, 1));
        registry.insert(&one);
        registry.insert(&other);
        spellings.iter().chain(&spellings).for_each(|spelling| registry.remember(spelling, &one));
        registry.remember(&request("id=2"), &other);
        assert_eq!(registry.maps().spelling_count(), 4, "each once");
        registry.remove(&one);
        assert_eq!(registry.maps().spelling_count(), 1);
        assert_eq!(registry.by_spelling(&request("id=2")).map(|shape| shape.id), Some(other.id));
        registry.remember(&spellings[0], &one);
        assert_eq!(registry.maps().spelling_count(), 1, "nothing leads to a shape that has gone");
    }

    #[test]
    fn spellings_are_forgotten_once_there_are_too_many() {
        let (relation, registry, request) = (relation(), Registry::default(), request("id=1"));
        let shape = shape(&relation, &request, 1, 1);
        registry.insert(&shape);
        registry.remember(&request, &shape);
        let other = |n: usize| DefinitionRequest { where_clause: Some(n.to_string()), ..request.clone() };
        (0..SPELLINGS_MAX).for_each(|n| registry.remember(&other(n), &shape));
        assert!(registry.by_spelling(&other(7)).is_some());
        registry.remember(&other(SPELLINGS_MAX), &shape);
        assert_eq!(registry.maps().spelling_count(), 2, "its own, and the last");
        assert!([&request, &other(SPELLINGS_MAX)].iter().all(|known| registry.by_spelling(known).is_some()));
        assert!(registry.by_spelling(&other(7)).is_none());
    }

    #[test]
    fn a_spelling_outlives_a_shape_whose_successor_it_leads_to() {
        let (relation, registry, request) = (relation(), Registry::default(), request("id=1"));
        let (old, new) = (shape(&relation, &request, 1, 1), shape(&relation, &request, 2, 2));
        for shape in [&old, &new] {
            registry.insert(shape);
            registry.remember(&request, shape);
        }
        registry.remove(&old);
        assert_eq!(registry.by_spelling(&request).map(|shape| shape.id), Some(new.id));
    }

    #[test]
    fn who_takes_a_handle_over_is_found_by_its_spellings() {
        let (relation, registry, request) = (relation(), Registry::default(), request("id=1"));
        let (standby, recovered) = (shape(&relation, &request, 1, 1), shape(&relation, &request, 1, 1));
        registry.insert(&standby);
        registry.remember(&request, &standby);
        registry.insert(&recovered);
        registry.remove(&standby);
        let found = registry.by_spelling(&request).expect("the recovered shape");
        assert!(Arc::ptr_eq(&found, &recovered));
        registry.remove(&recovered);
        assert_eq!(registry.maps().spelling_count(), 0);
    }

    /// `cargo test -p limn-origin dropping_many_shapes -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement: it prints how long dropping all shapes of one table takes"]
    fn dropping_many_shapes_of_one_table_takes() {
        let relation = relation();
        for count in [5_000, 20_000] {
            let (registry, mut router) = (Registry::default(), Router::default());
            let requests: Vec<_> = (0..count).map(|n| request(&format!("id%3E{n}"))).collect();
            let shapes: Vec<_> =
                (0..).zip(&requests).map(|(id, request)| shape(&relation, request, id, 1)).collect();
            for (request, shape) in requests.iter().zip(&shapes) {
                router.add_waiting(shape.id, &shape.definition, "");
                registry.insert(shape);
                registry.remember(request, shape);
            }
            let started = Instant::now();
            shapes.iter().for_each(|shape| router.remove(shape.id));
            let routed = started.elapsed();
            shapes.iter().for_each(|shape| registry.remove(shape));
            println!("{count} shapes: router {routed:?}, registry {:?}", started.elapsed() - routed);
            assert!(registry.is_empty());
        }
    }
}

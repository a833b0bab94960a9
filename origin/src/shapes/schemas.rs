//! Shapes share schema headers and projections, if they show the same columns of a table, and most of their requests.

use limn_core::Handle;
use limn_core::journal::KeptShape;
use limn_core::journal::record::CreatedShape;
use limn_core::pg::Relation;
use limn_core::protocol::kept_request::Families;
use limn_core::shape::{Definition, Projection, schema_header};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The parts that shapes share.
#[derive(Debug, Default)]
pub struct Schemas {
    /// By the oid of the table.
    headers: Mutex<HashMap<u32, Vec<Shared>>>,
    families: Mutex<Families>,
}

#[derive(Debug)]
struct Shared {
    relation: Arc<Relation>,
    projection: Arc<Projection>,
    header: Arc<str>,
}

impl Schemas {
    /// The `electric-schema` header of a definition's shapes.
    pub fn header(&self, definition: &Definition) -> Arc<str> {
        self.share(&mut definition.clone())
    }

    /// A new shape, as it is kept.
    pub fn keep(&self, created: CreatedShape, handle: Handle) -> KeptShape {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        KeptShape::of(created, handle, &mut families)
    }

    /// The same header; the definition's projection becomes that of others with it.
    pub fn share(&self, definition: &mut Definition) -> Arc<str> {
        let Definition { relation, projection, .. } = &mut *definition;
        let mut headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_table = headers.entry(relation.oid).or_default();
        let is_it =
            |known: &&Shared| Arc::ptr_eq(&known.relation, relation) && known.projection == *projection;
        if let Some(known) = of_table.iter().find(is_it) {
            *projection = known.projection.clone();
            return known.header.clone();
        }
        let (relation, projection) = (relation.clone(), projection.clone());
        let header: Arc<str> = schema_header(definition.columns()).into();
        // Those of shapes that have gone.
        of_table.retain(|known| Arc::strong_count(&known.header) > 1);
        of_table.push(Shared { relation, projection, header: header.clone() });
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes::registry::tests::{relation, request};
    use limn_core::shape::GeneratedColumns;

    #[test]
    fn shapes_of_one_description_share_a_header_for_as_long_as_there_are_some() {
        let (schemas, relation) = (Schemas::default(), relation());
        let header = |relation| {
            let definition = Definition::resolve(&request("id=1"), relation, &GeneratedColumns::Never, &[]);
            schemas.header(&definition.expect("the clause fits the table"))
        };
        let first = header(&relation);
        assert!(Arc::ptr_eq(&first, &header(&relation)));
        let altered = Arc::new(Relation { has_children: true, ..relation.as_ref().clone() });
        let second = header(&altered);
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(*first, *schema_header(&relation.columns));
        drop((first, second));
        header(&Arc::new(Relation { has_children: false, ..relation.as_ref().clone() }));
        assert_eq!(schemas.headers.lock().expect("nobody panicked")[&1].len(), 1);
    }
}

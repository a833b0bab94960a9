//! A shape's identity, as the commit log keeps it.

use crate::pg::Relation;
use crate::protocol::request::DefinitionRequest;
use crate::shape::Definition;
use crate::{Handle, ShapeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A shape's identity. In records its tables are named by [`TableRef`](super::tables::TableRef).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedShape<T = Arc<Relation>> {
    /// The number by which other records name it.
    pub id: ShapeId,
    /// Its handle, as text.
    pub handle: String,
    /// The definition as it was asked for.
    pub request: DefinitionRequest,
    /// The table as it was then.
    pub relation: T,
    /// The tables below it, whose rows the shape includes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<u32>,
    /// The tables that its subqueries read, as they were then.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub inner: Vec<T>,
    /// The tables below each of those, whose rows the subqueries include.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inner_partitions: BTreeMap<u32, Vec<u32>>,
}

impl CreatedShape {
    /// A new shape, of tables without partitions.
    #[must_use]
    pub fn new(id: ShapeId, handle: Handle, request: &DefinitionRequest, definition: &Definition) -> Self {
        Self {
            id,
            handle: handle.to_string(),
            request: request.clone(),
            relation: definition.relation.clone(),
            partitions: Vec::new(),
            inner: definition.inner_relations(),
            inner_partitions: BTreeMap::new(),
        }
    }
}

impl<T> CreatedShape<T> {
    /// The same with its tables told in another way; `None` where one cannot be.
    pub fn map_tables<U>(self, mut told: impl FnMut(T) -> Option<U>) -> Option<CreatedShape<U>> {
        let Self { id, handle, request, relation, partitions, inner, inner_partitions } = self;
        let relation = told(relation)?;
        let inner = inner.into_iter().map(told).collect::<Option<_>>()?;
        Some(CreatedShape { id, handle, request, relation, partitions, inner, inner_partitions })
    }
}

#[cfg(test)]
impl CreatedShape {
    /// A shape of a table without columns, for tests that only need some shape.
    pub(crate) fn sample(id: ShapeId) -> Self {
        use crate::pg::QualifiedName;
        use crate::protocol::{request::parse_shape_request, route::Method};

        Self {
            id,
            handle: format!("5000-{}", id.0),
            request: parse_shape_request(Method::Get, "table=t&offset=-1").unwrap().definition,
            relation: Arc::new(Relation::new(1, QualifiedName::new("public", "t"), Vec::new())),
            partitions: Vec::new(),
            inner: Vec::new(),
            inner_partitions: BTreeMap::new(),
        }
    }

    /// The same as a record of an older version tells it.
    pub(crate) fn described(self) -> CreatedShape<super::tables::TableRef> {
        use super::tables::TableRef;

        self.map_tables(|relation| Some(TableRef::Described(Box::new(relation.as_ref().clone())))).unwrap()
    }
}

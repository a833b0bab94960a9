//! A shape's identity, as it is kept in memory: there may be a million of them, most of which differ in the constants
//! of their clause only.

use super::created_shape::CreatedShape;
use crate::log::ShapeLog;
use crate::log::shape_log::{Checkpoint, SmallSnapshot};
use crate::pg::{Relation, SnapshotFilter};
use crate::protocol::kept_request::{Families, KeptRequest};
use crate::shape::dependent::DependentState;
use crate::{Handle, ShapeId};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// [`CreatedShape`] in little memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptShape {
    /// The number by which other records name it.
    pub id: ShapeId,
    /// Its handle.
    pub handle: Handle,
    /// The definition as it was asked for.
    pub request: KeptRequest,
    /// The table as it was then.
    pub relation: Arc<Relation>,
    others: Option<Box<OtherTables>>,
}

/// A shape at a checkpoint, as it is kept in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptCheckpoint<'a> {
    /// The shape.
    pub shape: Cow<'a, KeptShape>,
    /// The transactions that its snapshot holds; absent while the snapshot is not durable.
    pub filter: Option<Arc<SnapshotFilter>>,
    /// Its log.
    pub log: KeptLog,
    /// Whether the stream has come up to its snapshot.
    pub is_joined: bool,
    /// The results of its subqueries, where it has some.
    pub dependent: Cow<'a, DependentState>,
}

/// A log at a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptLog {
    /// It has no changes, and its snapshot is a small one: so are most.
    Unchanged(SmallSnapshot),
    /// Any other.
    Other(Box<Checkpoint>),
}

impl KeptLog {
    /// The state of a log that a restart needs, as [`ShapeLog::checkpoint`] tells it.
    #[must_use]
    pub fn of(log: &ShapeLog) -> Option<Self> {
        let unchanged = log.as_unchanged().map(Self::Unchanged);
        unchanged.or_else(|| log.checkpoint().map(Self::from))
    }

    /// The same as of any log.
    #[must_use]
    pub fn checkpoint(self) -> Checkpoint {
        match self {
            Self::Unchanged(small) => Checkpoint { snapshot: small.progress(), ..Checkpoint::default() },
            Self::Other(checkpoint) => *checkpoint,
        }
    }

    /// The log as it was.
    #[must_use]
    pub fn restore(self, chunk_bytes_max: u64) -> ShapeLog {
        match self {
            Self::Unchanged(small) => ShapeLog::unchanged(chunk_bytes_max, small),
            Self::Other(checkpoint) => ShapeLog::restore(chunk_bytes_max, *checkpoint),
        }
    }
}

impl From<Checkpoint> for KeptLog {
    fn from(checkpoint: Checkpoint) -> Self {
        let small = SmallSnapshot::of(&checkpoint.snapshot).map(Self::Unchanged);
        match small.filter(|small| small.clone().checkpoint() == checkpoint) {
            Some(small) => small,
            None => Self::Other(Box::new(checkpoint)),
        }
    }
}

/// The tables of a shape beside its own. Most shapes have none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct OtherTables {
    /// [`CreatedShape::inner`]
    inner: Vec<Arc<Relation>>,
    /// The tables below its own and below each of those, as far as there are some.
    partitions: BTreeMap<u32, Vec<u32>>,
}

impl KeptShape {
    /// A shape of a table without partitions, whose clause has no subqueries.
    #[must_use]
    pub const fn new(id: ShapeId, handle: Handle, request: KeptRequest, relation: Arc<Relation>) -> Self {
        Self { id, handle, request, relation, others: None }
    }

    /// The shape that a record tells of.
    pub fn of(created: CreatedShape, handle: Handle, families: &mut Families) -> Self {
        let CreatedShape { id, request, relation, partitions, inner, inner_partitions, .. } = created;
        let mut all = inner_partitions;
        all.insert(relation.oid, partitions);
        all.retain(|_, below| !below.is_empty());
        let others = OtherTables { inner, partitions: all };
        let others = (others != OtherTables::default()).then(|| Box::new(others));
        Self { id, handle, request: families.keep(&request), relation, others }
    }

    /// The shape as a record tells of it.
    #[must_use]
    pub fn created(&self) -> CreatedShape {
        let mut inner_partitions = self.partitions();
        CreatedShape {
            id: self.id,
            handle: self.handle.to_string(),
            request: self.request.request(),
            relation: Arc::clone(&self.relation),
            partitions: inner_partitions.remove(&self.relation.oid).unwrap_or_default(),
            inner: self.inner().to_vec(),
            inner_partitions,
        }
    }

    /// The tables that its subqueries read, as they were when it was made.
    #[must_use]
    pub fn inner(&self) -> &[Arc<Relation>] {
        self.others.as_ref().map_or(&[], |others| &others.inner)
    }

    /// The tables below each that it reads, itself or in a subquery; those without any are left out.
    #[must_use]
    pub fn partitions(&self) -> BTreeMap<u32, Vec<u32>> {
        self.others.as_ref().map(|others| others.partitions.clone()).unwrap_or_default()
    }

    /// True where it reads no table but its own, which has no partitions.
    #[must_use]
    pub const fn is_of_one_table(&self) -> bool {
        self.others.is_none()
    }

    /// The tables below `table`, or below its own where none is named, are these now.
    pub fn set_partitions(&mut self, table: Option<u32>, below: &[u32]) {
        let table = table.unwrap_or(self.relation.oid);
        let mut others = self.others.take().unwrap_or_default();
        others.partitions.insert(table, below.to_vec());
        others.partitions.retain(|_, below| !below.is_empty());
        self.others = (*others != OtherTables::default()).then_some(others);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_shape_is_kept_as_it_was_created() {
        let mut families = Families::default();
        let plain = CreatedShape::sample(ShapeId(7));
        let others = CreatedShape {
            partitions: vec![3],
            inner: vec![Arc::clone(&plain.relation)],
            inner_partitions: BTreeMap::from([(2, vec![4])]),
            ..plain.clone()
        };
        for created in [plain, others] {
            let handle = created.handle.parse().unwrap();
            assert_eq!(KeptShape::of(created.clone(), handle, &mut families).created(), created);
        }
    }

    #[test]
    fn partitions_come_and_go() {
        let created = CreatedShape::sample(ShapeId(7));
        let handle = created.handle.parse().unwrap();
        let mut kept = KeptShape::of(created, handle, &mut Families::default());
        let mut set = |table, partitions: &[u32]| {
            kept.set_partitions(table, partitions);
            (kept.partitions(), kept.is_of_one_table())
        };
        assert_eq!(set(None, &[5]), (BTreeMap::from([(1, vec![5])]), false));
        assert_eq!(set(Some(2), &[6]), (BTreeMap::from([(1, vec![5]), (2, vec![6])]), false));
        set(Some(2), &[]);
        assert_eq!(set(Some(1), &[]), (BTreeMap::new(), true));
    }
}

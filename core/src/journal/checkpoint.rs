//! Checkpoints: everything that is true at the beginning of a commit log file. Older versions stored one as it stands here;
//! how one is stored now, `packed` tells.

use super::created_shape::CreatedShape;
use super::kept_shape::{KeptCheckpoint, KeptShape};
use super::tables::{StoredTable, TableRef, Tables};
use crate::log::shape_log::Checkpoint;
use crate::pg::SnapshotFilter;
use crate::protocol::kept_request::Families;
use crate::shape::dependent::DependentState;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// Everything that is true at the beginning of a commit log file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StoreCheckpoint {
    /// The commit LSN of the last transaction before.
    pub processed: u64,
    /// The newest time that a handle carries, also of shapes that are gone: clients and caches still know them.
    #[serde(default)]
    pub last_handle_us: u64,
    /// Every shape; one without a filter is lost unless the end of its snapshot follows.
    pub shapes: Vec<ShapeCheckpoint>,
    /// The tables that they name by numbers.
    #[serde(default)]
    pub tables: Vec<StoredTable>,
}

/// One shape at the beginning of a commit log file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeCheckpoint {
    /// The record with which the shape began.
    pub created: CreatedShape<TableRef>,
    /// The transactions that its snapshot holds; absent while the snapshot is not durable.
    pub filter: Option<SnapshotFilter>,
    /// Its log.
    pub log: Checkpoint,
    /// Whether the stream has come up to its snapshot; where not, [`Record::Joined`](super::Record::Joined) follows once
    /// it has.
    #[serde(default)]
    pub is_joined: bool,
    /// The results of its subqueries, where it has some.
    #[serde(default, skip_serializing_if = "DependentState::is_default")]
    pub dependent: DependentState,
}

impl ShapeCheckpoint {
    /// The shape as it is kept in memory; `None` where nobody was ever given its handle, or nobody has described one of its
    /// tables.
    pub(super) fn keep<'a>(self, tables: &mut Tables, families: &mut Families) -> Option<KeptCheckpoint<'a>> {
        let Self { created, filter, log, is_joined, dependent } = self;
        let handle = created.handle.parse().ok()?;
        let created = created.map_tables(|table| tables.resolve(table))?;
        let shape = Cow::Owned(KeptShape::of(created, handle, families));
        let (filter, log, dependent) = (filter.map(Arc::new), log.into(), Cow::Owned(dependent));
        Some(KeptCheckpoint { shape, filter, log, is_joined, dependent })
    }
}

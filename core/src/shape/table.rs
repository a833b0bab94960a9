//! The shapes of one table, and how a change finds them.
//!
//! Shapes without a filter take every change. A filter that demands something of a row by which it can be looked up puts
//! its shape into the [index](super::index), so that a change finds it however many shapes there are. Every other filter
//! is evaluated for every change.

use super::definition::Definition;
use super::dependent::Level;
use super::filters::{FilterIndex, Filters};
use super::index::{Candidates, Index};
use super::net::NetChanges;
use super::row::Row;
use super::waiting::Waiting;
use crate::ShapeId;
use crate::filter::{Access, Clause, Filter, FilterText, PostgresFilter};
use crate::log::ItemFormat;
use crate::pg::Row as _;
use crate::pg::{Relation, SnapshotFilter};
use crate::pgoutput::RelationMessage;
use crate::protocol::request::Replica;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The shapes that see a table alike (as the same relation description).
#[derive(Debug)]
pub(super) struct Table {
    pub(super) relation: Arc<Relation>,
    /// For each relation whose changes come here (the table itself, its partitions): the position in
    /// `relation` of each column of the stream's tuples.
    pub(super) positions: HashMap<u32, Vec<Option<usize>>>,
    pub(super) formats: Vec<Format>,
    pub(super) routes: BTreeMap<ShapeId, Route>,
    /// The clauses of those that are judged by one.
    pub(super) filters: Filters,
    unfiltered: BTreeSet<ShapeId>,
    index: Index,
    scanned: BTreeSet<ShapeId>,
    /// Shapes with subqueries whose own table it is.
    outer: BTreeMap<ShapeId, Watcher>,
    /// Those whose subqueries read it, perhaps several of a shape.
    inner: BTreeMap<ShapeId, Vec<Watcher>>,
    /// The latter by what the subqueries demand of a row.
    inner_index: Index,
    /// Those of them that nothing finds.
    inner_scanned: BTreeSet<ShapeId>,
    /// Whether two of its rows may hold one key inside a transaction.
    pub(super) has_double_keys: bool,
    /// The open transaction's changes, where they may.
    pub(super) net: NetChanges,
}

/// A shape with subqueries, and what the table is to it.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) id: ShapeId,
    pub(super) level: Level,
    /// The columns that it uses.
    pub(super) columns: Vec<usize>,
    /// True where it shows whatever columns the table has.
    pub(super) all_columns: bool,
    /// The filter of the subquery that reads the table, where the row alone decides.
    pub(super) filter: Option<Arc<Filter>>,
}

impl Watcher {
    /// The places at which an index finds the rows that the subquery may return.
    fn access(&self) -> Option<Access<'_>> {
        self.filter.as_deref().and_then(Filter::access)
    }

    /// False where a change cannot mean anything to the shape: an inner row that keeps all that is used of it.
    pub(super) fn is_concerned(&self, old: Option<&Row<'_>>, new: Option<&Row<'_>>) -> bool {
        match (self.level, old, new) {
            (Level::Inner(_) | Level::Deeper(_), Some(old), Some(new)) => {
                self.columns.iter().any(|column| old.text(*column) != new.text(*column))
            }
            _ => true,
        }
    }
}

#[derive(Debug)]
pub(super) struct Format {
    projection: Vec<usize>,
    replica: Replica,
    pub(super) items: ItemFormat,
}

#[derive(Debug)]
pub(super) struct Route {
    pub(super) filter: RouteFilter,
    pub(super) format: FormatIndex,
    pub(super) joining: Joining,
    all_columns: bool,
}

/// A format's place. There are few of them, and many routes.
#[derive(Debug, Clone, Copy)]
pub(super) struct FormatIndex(u32);

impl FormatIndex {
    pub(super) const fn place(self) -> usize {
        self.0 as usize
    }
}

/// Who judges whether a row belongs to a shape.
#[derive(Debug)]
pub(super) enum RouteFilter {
    /// Every row does.
    All,
    /// The index; core where it cannot tell, which is rare.
    Index(Arc<FilterText>),
    /// Core.
    Core(FilterIndex),
    /// Postgres.
    Postgres(Arc<PostgresFilter>),
}

/// How far a shape's snapshot and the stream are joined.
#[derive(Debug)]
pub(super) enum Joining {
    /// The snapshot's bounds are not known yet.
    Waiting(Box<Waiting>),
    /// Transactions that the snapshot holds may still come.
    Filtering(Arc<SnapshotFilter>),
    /// Every transaction belongs into the log.
    Done,
}

impl Joining {
    /// The position beyond which nothing is in the snapshot, while that has to be looked at.
    pub(super) fn ends_at(&self) -> Option<u64> {
        match self {
            Self::Filtering(filter) => Some(filter.ends_at),
            Self::Waiting(_) | Self::Done => None,
        }
    }
}

impl Table {
    pub(super) fn new(relation: Arc<Relation>) -> Self {
        Self {
            has_double_keys: !relation.key_always_unique,
            relation,
            positions: HashMap::new(),
            formats: Vec::new(),
            routes: BTreeMap::new(),
            filters: Filters::default(),
            unfiltered: BTreeSet::new(),
            index: Index::default(),
            scanned: BTreeSet::new(),
            outer: BTreeMap::new(),
            inner: BTreeMap::new(),
            inner_index: Index::default(),
            inner_scanned: BTreeSet::new(),
            net: NetChanges::default(),
        }
    }

    /// True where the table's changes are told key by key at the end of their transaction. Tables that only subqueries
    /// read have no keys to tell.
    pub(super) fn is_netted(&self) -> bool {
        self.has_double_keys && !(self.routes.is_empty() && self.outer.is_empty())
    }

    /// True where no shape needs the table.
    pub(super) fn is_unused(&self) -> bool {
        self.routes.is_empty() && self.outer.is_empty() && self.inner.is_empty()
    }

    /// The shapes that go where the table's rows cannot be followed any more.
    pub(super) fn shapes(&self) -> impl Iterator<Item = ShapeId> {
        self.routes.keys().copied().chain(self.watchers().map(|watcher| watcher.id))
    }

    /// Those whose own table it is.
    pub(super) fn own_shapes(&self) -> Vec<ShapeId> {
        self.routes.keys().chain(self.outer.keys()).copied().collect()
    }

    pub(super) fn add(&mut self, id: ShapeId, definition: &Definition, joining: Joining) {
        let format = self.format(definition);
        let filter = match &definition.filter {
            Some(Clause::Plain(filter)) => self.place(id, filter),
            Some(Clause::AtRest(text)) => self.place(id, &Arc::new(read(text, &self.relation))),
            Some(Clause::Postgres(filter)) => {
                self.scanned.insert(id);
                RouteFilter::Postgres(Arc::clone(filter))
            }
            // The router keeps shapes with subqueries as watchers.
            Some(Clause::Subqueries(_)) | None => {
                self.unfiltered.insert(id);
                RouteFilter::All
            }
        };
        let all_columns = definition.projection.all;
        self.routes.insert(id, Route { filter, format, joining, all_columns });
    }

    /// Puts a shape into the index, or among those that are judged.
    fn place(&mut self, id: ShapeId, filter: &Arc<Filter>) -> RouteFilter {
        match filter.access() {
            Some(access) => {
                self.index.insert(id, &access);
                if access.exact {
                    return RouteFilter::Index(Arc::clone(filter.text()));
                }
            }
            None => _ = self.scanned.insert(id),
        }
        RouteFilter::Core(self.filters.take(filter))
    }

    pub(super) fn watchers(&self) -> impl Iterator<Item = &Watcher> {
        self.outer.values().chain(self.inner.values().flatten())
    }

    /// The subqueries of a shape that read the table.
    pub(super) fn inner_of(&self, id: ShapeId) -> &[Watcher] {
        self.inner.get(&id).map_or(&[], Vec::as_slice)
    }

    pub(super) fn watch(&mut self, watcher: Watcher) {
        if watcher.level == Level::Outer {
            self.outer.insert(watcher.id, watcher);
            return;
        }
        match watcher.access() {
            Some(access) => self.inner_index.insert(watcher.id, &access),
            None => _ = self.inner_scanned.insert(watcher.id),
        }
        self.inner.entry(watcher.id).or_default().push(watcher);
    }

    /// Forgets a shape in logarithmic time: a TRUNCATE may drop every shape of the table at once.
    pub(super) fn remove(&mut self, id: ShapeId) {
        self.outer.remove(&id);
        self.inner_scanned.remove(&id);
        for watcher in self.inner.remove(&id).unwrap_or_default() {
            if let Some(access) = watcher.access() {
                self.inner_index.remove(id, &access);
            }
        }
        let Some(route) = self.routes.remove(&id) else { return };
        let filter = match route.filter {
            RouteFilter::All | RouteFilter::Postgres(_) => None,
            RouteFilter::Index(text) => Some(Arc::new(read(&text, &self.relation))),
            RouteFilter::Core(index) => self.filters.give_back(index),
        };
        match filter.as_deref().and_then(Filter::access) {
            Some(access) => self.index.remove(id, &access),
            None => {
                self.unfiltered.remove(&id);
                self.scanned.remove(&id);
            }
        }
    }

    /// The clause of a shape whose rows only Postgres can judge, and the query by which it does.
    pub(super) fn postgres_filter(&self, id: ShapeId) -> Option<(&PostgresFilter, String)> {
        match &self.routes.get(&id)?.filter {
            RouteFilter::Postgres(filter) => Some((filter, filter.batch_sql(&self.relation))),
            RouteFilter::All | RouteFilter::Index(_) | RouteFilter::Core(_) => None,
        }
    }

    /// Collects the shapes that `old` or `new` may belong to, each once.
    pub(super) fn candidates(&mut self, old: Option<&Row<'_>>, new: Option<&Row<'_>>, out: &mut Candidates) {
        out.clear();
        self.filters.begin_change();
        self.index.find(old, new, out);
        self.unfiltered.iter().chain(&self.scanned).for_each(|id| out.push_unknown(*id));
    }

    /// Collects the shapes of whose subqueries `old` or `new` may change the result, each once.
    pub(super) fn inner_candidates(
        &mut self,
        old: Option<&Row<'_>>,
        new: Option<&Row<'_>>,
        out: &mut Candidates,
    ) {
        out.clear();
        self.inner_scanned.iter().for_each(|id| out.push_unknown(*id));
        self.inner_index.find(old, new, out);
    }

    /// Learns the order of columns in the tuples of a relation: the table itself or a partition.
    pub(super) fn learn_positions(&mut self, oid: u32, message: &Seen) {
        let columns = &self.relation.columns;
        let position = |(name, type_oid): &(String, u32)| {
            columns.iter().position(|column| column.name == *name && column.type_oid == *type_oid)
        };
        self.positions.insert(oid, message.columns.iter().map(position).collect());
    }

    /// Learns what the table itself looks like now, and names the shapes for which it is no longer what
    /// it was.
    pub(super) fn handle_relation(&mut self, message: &Seen) -> Vec<ShapeId> {
        let oid = self.relation.oid;
        self.learn_positions(oid, message);
        let name = &self.relation.name;
        if name.schema != message.schema || name.name != message.name {
            return self.shapes().collect();
        }
        self.changed(oid, true)
    }

    /// Learns what a table looks like whose rows belong to this one. A change of this table's columns shows there, since
    /// nothing is written to itself. `same_columns`: the child can have no others.
    pub(super) fn handle_child(&mut self, oid: u32, message: &Seen, same_columns: bool) -> Vec<ShapeId> {
        self.learn_positions(oid, message);
        self.changed(oid, same_columns)
    }

    /// The shapes that miss a column of theirs in the tuples of relation `oid`, or are to have every column and do not.
    fn changed(&self, oid: u32, same_columns: bool) -> Vec<ShapeId> {
        let positions = self.positions.get(&oid).map_or(&[][..], Vec::as_slice);
        let other_columns = same_columns && !self.has_same_columns(positions);
        let key = self.relation.key_columns();
        let changed = |route: &Route| {
            let format = self.formats.get(route.format.place()).map(|format| format.projection.as_slice());
            let used = format.unwrap_or_default().iter().chain(&key);
            let filtered = self.filter_columns(route);
            let lost = used.chain(filtered).any(|column| !positions.contains(&Some(*column)));
            lost || (route.all_columns && other_columns)
        };
        let routes = self.routes.iter().filter(|(_, route)| changed(route)).map(|(id, _)| *id);
        let watcher_changed = |watcher: &&Watcher| {
            let lost = watcher.columns.iter().any(|column| !positions.contains(&Some(*column)));
            lost || (watcher.all_columns && other_columns)
        };
        routes.chain(self.watchers().filter(watcher_changed).map(|watcher| watcher.id)).collect()
    }

    /// The columns that a shape's filter mentions.
    fn filter_columns<'a>(&'a self, route: &'a Route) -> &'a [usize] {
        match &route.filter {
            RouteFilter::All => &[],
            RouteFilter::Index(text) => text.columns(),
            RouteFilter::Core(index) => self.filters.get(*index).map_or(&[], Filter::columns),
            RouteFilter::Postgres(filter) => filter.columns(),
        }
    }

    /// True where the stream shows every column that the description has, and no other. A generated column may be
    /// missing, as it was when the shape was made: one that the shape shows is missed as any other.
    fn has_same_columns(&self, positions: &[Option<usize>]) -> bool {
        let seen = |index: usize| positions.contains(&Some(index));
        let all_seen =
            self.relation.columns.iter().enumerate().all(|(i, column)| column.generated || seen(i));
        all_seen && positions.iter().all(Option::is_some)
    }

    fn format(&mut self, definition: &Definition) -> FormatIndex {
        let Definition { projection, replica, .. } = definition;
        let projection = &projection.columns;
        let known = self.formats.iter().position(|f| f.replica == *replica && f.projection == *projection);
        let place = known.unwrap_or_else(|| {
            let items = ItemFormat::new(&self.relation, projection, *replica);
            self.formats.push(Format { projection: projection.clone(), replica: *replica, items });
            self.formats.len() - 1
        });
        FormatIndex(u32::try_from(place).expect("a shape has one format, and a 32-bit number"))
    }
}

/// The clause of a text that was read for the same table before.
pub(super) fn read(text: &FilterText, relation: &Relation) -> Filter {
    text.read(&relation.columns).expect("a canonical text is read for the columns that it was written for")
}

/// The newest relation message of a table, kept for shapes that come later.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    schema: String,
    name: String,
    columns: Vec<(String, u32)>,
}

impl From<&RelationMessage<'_>> for Seen {
    fn from(message: &RelationMessage<'_>) -> Self {
        let columns = message.columns.iter().map(|column| (column.name.to_owned(), column.type_oid));
        Self { schema: message.schema.to_owned(), name: message.name.to_owned(), columns: columns.collect() }
    }
}

//! Shapes that are derived of one base shape: rows that another clause chooses, and fewer columns, of what the base's
//! log tells. A million readers with clauses of their own cost the origin one shape.
//!
//! The base is asked with `replica=full`, at the handle and the offset of the reader's request. An update there has the
//! whole new row and what it was before, so each message alone says what it is to a narrower shape: a row that
//! comes, stays or goes. Therefore a derived reply is a function of the base's reply and of nothing else: the same
//! handle, the same offsets, the same 409; and nothing is kept from one reply to the next.
//!
//! [`bases`] says which request may be derived of what. [`Derivation`] is made of that request and of the base's schema
//! header; where core cannot be sure to judge as Postgres does ([`Passed`]), the request goes on as it is.

pub mod bases;
mod change;
mod events;
mod schema;

#[cfg(test)]
mod differential_tests;
#[cfg(test)]
mod tests;

pub use bases::{Base, Bases, BasesError, Wanted};
pub use events::Events;

use crate::filter::{EvalError, Filter, FilterError, Subject};
use crate::pg::{Column, Row};
use crate::protocol::request::{DefinitionRequest, Replica, numbered};
use change::{Change, Members, Message, Operation, push_member, text};
use schema::Schema;
use std::borrow::Cow;

/// A narrower shape, made of its base's messages.
///
/// The messages of a reply go to [`map`](Self::map) in their order, and [`end`](Self::end) follows the last one.
#[derive(Debug, Clone)]
pub struct Derivation {
    filter: Option<Filter>,
    /// The base's columns, in the order of their names.
    columns: Vec<Shown>,
    shows_all: bool,
    replica: Replica,
    schema: String,
    /// The first half of a key change, until it is known whether the other half is shown, too.
    half: Option<Half>,
    out: Vec<u8>,
}

/// A column of the base.
#[derive(Debug, Clone)]
struct Shown {
    name: String,
    /// Part of the derived shape.
    is_shown: bool,
    is_key: bool,
}

/// A delete, with and without the name of the key that follows.
#[derive(Debug, Clone)]
struct Half {
    key: Vec<u8>,
    linked: Vec<u8>,
    plain: Vec<u8>,
}

/// Why a request is not derived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Passed {
    /// The base's schema header is none.
    #[error("the base's schema cannot be read")]
    Schema,
    /// The base's own clause is not for core to judge, or names a column that the base does not show.
    #[error("the base's clause: {0}")]
    BaseClause(FilterError),
    /// The request's clause is not, or is wrong, which the origin has to say.
    #[error("{0}")]
    Clause(FilterError),
    /// The values of `params` are not numbered as they should be.
    #[error("{0}")]
    Params(&'static str),
    /// The clause asks for a column whose type core does not read.
    #[error("the type of column {0:?} is not known here")]
    Type(String),
    /// The request does not repeat the base's clause, so that it may ask for other rows.
    #[error("the request does not say `{0}`, which the base does")]
    Wider(String),
    /// The request asks for columns that the base does not show, or not for the key.
    #[error("the base does not show the columns of the request")]
    Columns,
}

/// A message that a derivation cannot judge: there is no derived reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Underived {
    /// It is not of the form that Limn's origin gives the messages of such a base.
    #[error("a message of the base is not of the expected form")]
    Unreadable,
    /// It does not say what the row was: its log was compacted by a version that did that.
    #[error("the base's log has updates without old values; delete the base's shape once")]
    NoOldValues,
    /// The clause fails on the row.
    #[error("the clause cannot be evaluated on a row: {0}")]
    Unjudgeable(#[from] EvalError),
}

/// A value of a row, as it is spelled.
struct Field<'a> {
    column: usize,
    name: &'a [u8],
    value: &'a [u8],
    /// The value before the change, where it has changed.
    old: Option<&'a [u8]>,
}

/// Which of a row's two states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Old,
    New,
}

impl Derivation {
    /// The shape that `wanted` asks for, of the base's messages. `schema` is the base's schema header.
    ///
    /// # Errors
    /// [`Passed`].
    pub fn new(base: &Base, wanted: &DefinitionRequest, schema: &str) -> Result<Self, Passed> {
        let schema = Schema::read(schema).ok_or(Passed::Schema)?;
        let subject = Subject { name: Some(&wanted.table), columns: &schema.columns };
        let params = numbered(&wanted.params).map_err(Passed::Params)?;
        let filter = wanted.where_clause.as_deref();
        let filter = filter.map(|clause| Filter::parse_about(clause, &params, subject));
        let filter = filter.transpose().map_err(Passed::Clause)?;
        let asked = filter.iter().flat_map(Filter::columns).filter_map(|index| schema.columns.get(*index));
        if let Some(column) = asked.into_iter().find(|column| !Schema::is_known(column)) {
            return Err(Passed::Type(column.name.clone()));
        }
        if let Some(clause) = base.where_clause() {
            let own = Filter::parse_about(clause, &std::collections::BTreeMap::new(), subject);
            let own = own.map_err(Passed::BaseClause)?;
            if !filter.as_ref().is_some_and(|filter| filter.is_within(&own)) {
                return Err(Passed::Wider(own.sql().to_owned()));
            }
        }
        let columns = shown_columns(&schema.columns, wanted.columns.as_deref(), base)?;
        let is_shown = |name: &str| columns.iter().any(|column| column.is_shown && column.name == name);
        Ok(Self {
            schema: schema.narrowed(is_shown),
            shows_all: columns.iter().all(|column| column.is_shown),
            replica: wanted.replica,
            half: None,
            out: Vec::new(),
            filter,
            columns,
        })
    }

    /// The derived shape's schema header.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Hands what the base's next message is to the derived shape to `each`: nothing, a message, or two.
    ///
    /// # Errors
    /// [`Underived`]: nothing that follows may be derived either.
    pub fn map(&mut self, message: &[u8], each: &mut dyn FnMut(&[u8])) -> Result<(), Underived> {
        let change = match Message::read(message)? {
            Message::Change(change) => change,
            Message::Control => {
                self.end(each);
                each(message);
                return Ok(());
            }
        };
        let fields = self.fields(&change)?;
        match change.headers.operation {
            Operation::Insert => self.insert(&change, &fields, message, each),
            Operation::Update => {
                self.end(each);
                self.update(&change, &fields, message, each)
            }
            Operation::Delete => {
                self.end(each);
                self.delete(&change, &fields, each)
            }
        }
    }

    /// Hands over what is held back at the end of a reply.
    pub fn end(&mut self, each: &mut dyn FnMut(&[u8])) {
        if let Some(half) = self.half.take() {
            each(&half.plain);
        }
    }

    /// The derived body of a reply with these messages, a JSON array; `None` where none of them is one of the derived shape's, so
    /// that there is nothing to answer yet.
    ///
    /// # Errors
    /// [`Underived`].
    pub fn body<'a>(
        &self,
        messages: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Option<Vec<u8>>, Underived> {
        let (mut derivation, mut body) = (self.clone(), Vec::new());
        let mut push = |message: &[u8]| {
            body.push(if body.is_empty() { b'[' } else { b',' });
            body.extend_from_slice(message);
        };
        for message in messages {
            derivation.map(message, &mut push)?;
        }
        derivation.end(&mut push);
        if body.is_empty() {
            return Ok(None);
        }
        body.push(b']');
        Ok(Some(body))
    }

    fn insert(
        &mut self,
        change: &Change<'_>,
        fields: &[Field<'_>],
        message: &[u8],
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Underived> {
        let comes = self.judge(fields, Side::New)?;
        let from = change.headers.key_change_from;
        let is_pair = comes && self.half.as_ref().is_some_and(|half| Some(half.key.as_slice()) == from);
        match self.half.take() {
            Some(half) if is_pair => each(&half.linked),
            Some(half) => each(&half.plain),
            None => {}
        }
        if !comes {
            return Ok(());
        }
        if self.shows_all && is_pair == from.is_some() {
            each(message);
            return Ok(());
        }
        self.begin(change.key, fields, Side::New, |_, _| true);
        self.finish(change, Operation::Insert, is_pair)?;
        each(&self.out);
        Ok(())
    }

    fn update(
        &mut self,
        change: &Change<'_>,
        fields: &[Field<'_>],
        message: &[u8],
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Underived> {
        if change.old_value.is_none() {
            return Err(Underived::NoOldValues);
        }
        match (self.judge(fields, Side::Old)?, self.judge(fields, Side::New)?) {
            (false, false) => return Ok(()),
            (false, true) => {
                self.begin(change.key, fields, Side::New, |_, _| true);
                self.finish(change, Operation::Insert, false)?;
            }
            (true, false) => {
                self.begin_delete(change.key, fields, Side::Old);
                self.finish(change, Operation::Delete, false)?;
            }
            (true, true) => {
                let changed = |field: &Field<'_>| field.old.is_some();
                let shows = |field: &Field<'_>| self.shown(field).is_some_and(|column| column.is_shown);
                if !fields.iter().any(|field| changed(field) && shows(field)) {
                    return Ok(());
                }
                if self.replica == Replica::Full && self.shows_all {
                    each(message);
                    return Ok(());
                }
                self.push_update(change, fields);
                self.finish(change, Operation::Update, false)?;
            }
        }
        each(&self.out);
        Ok(())
    }

    fn push_update(&mut self, change: &Change<'_>, fields: &[Field<'_>]) {
        if self.replica == Replica::Default {
            let is_told = |column: &Shown, field: &Field<'_>| column.is_key || field.old.is_some();
            return self.begin(change.key, fields, Side::New, is_told);
        }
        self.begin(change.key, fields, Side::New, |_, _| true);
        self.out.extend_from_slice(b",\"old_value\":");
        self.push_row(fields, Side::Old, |_, field| field.old.is_some());
    }

    fn delete(
        &mut self,
        change: &Change<'_>,
        fields: &[Field<'_>],
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Underived> {
        if !self.judge(fields, Side::New)? {
            return Ok(());
        }
        self.begin_delete(change.key, fields, Side::New);
        if change.headers.key_change_to.is_none() {
            self.finish(change, Operation::Delete, false)?;
            each(&self.out);
            return Ok(());
        }
        let begun = self.out.clone();
        self.finish(change, Operation::Delete, false)?;
        let plain = std::mem::replace(&mut self.out, begun);
        self.finish(change, Operation::Delete, true)?;
        let linked = std::mem::take(&mut self.out);
        self.half = Some(Half { key: change.key.to_vec(), linked, plain });
        Ok(())
    }

    /// The row's values that are columns of the base, as it has them.
    fn fields<'a>(&self, change: &Change<'a>) -> Result<Vec<Field<'a>>, Underived> {
        let mut fields = Vec::with_capacity(self.columns.len());
        let mut members = Members::of(change.value)?;
        while let Some((name, value)) = members.next()? {
            if let Some(column) = self.column(name)? {
                fields.push(Field { column, name, value, old: None });
            }
        }
        let mut members = Members::of(change.old_value.unwrap_or(b"{}"))?;
        while let Some((name, value)) = members.next()? {
            let field = fields.iter_mut().find(|field| field.name == name);
            field.ok_or(Underived::Unreadable)?.old = Some(value);
        }
        Ok(fields)
    }

    fn column(&self, name: &[u8]) -> Result<Option<usize>, Underived> {
        let name = text(name)?.ok_or(Underived::Unreadable)?;
        Ok(self.columns.binary_search_by(|column| column.name.as_bytes().cmp(&name)).ok())
    }

    fn shown(&self, field: &Field<'_>) -> Option<&Shown> {
        self.columns.get(field.column)
    }

    fn judge(&self, fields: &[Field<'_>], side: Side) -> Result<bool, Underived> {
        let Some(filter) = &self.filter else { return Ok(true) };
        let mut row = Texts(vec![None; self.columns.len()]);
        for index in filter.columns() {
            let field = fields.iter().find(|field| field.column == *index).ok_or(Underived::Unreadable)?;
            if let Some(slot) = row.0.get_mut(*index) {
                *slot = text(field.on(side))?;
            }
        }
        Ok(filter.evaluate(&row)? == Some(true))
    }

    /// Begins a message: `{"key":…,"value":{…}`.
    fn begin(
        &mut self,
        key: &[u8],
        fields: &[Field<'_>],
        side: Side,
        is_told: impl Fn(&Shown, &Field<'_>) -> bool,
    ) {
        self.out.clear();
        self.out.extend_from_slice(b"{\"key\":");
        self.out.extend_from_slice(key);
        self.out.extend_from_slice(b",\"value\":");
        self.push_row(fields, side, is_told);
    }

    fn begin_delete(&mut self, key: &[u8], fields: &[Field<'_>], side: Side) {
        let full = self.replica == Replica::Full;
        self.begin(key, fields, side, |column, _| full || column.is_key);
    }

    fn push_row(&mut self, fields: &[Field<'_>], side: Side, is_told: impl Fn(&Shown, &Field<'_>) -> bool) {
        self.out.push(b'{');
        let mut first = true;
        for field in fields {
            let column = self.columns.get(field.column);
            if column.is_some_and(|column| column.is_shown && is_told(column, field)) {
                push_member(&mut self.out, &mut first, field.name, field.on(side));
            }
        }
        self.out.push(b'}');
    }

    fn finish(&mut self, change: &Change<'_>, operation: Operation, linked: bool) -> Result<(), Underived> {
        self.out.extend_from_slice(b",\"headers\":");
        change.headers.push(&mut self.out, operation, linked)?;
        self.out.push(b'}');
        Ok(())
    }
}

impl<'a> Field<'a> {
    fn on(&self, side: Side) -> &'a [u8] {
        match (side, self.old) {
            (Side::Old, Some(old)) => old,
            _ => self.value,
        }
    }
}

/// The values that a clause asks for, at their places.
struct Texts<'a>(Vec<Option<Cow<'a, [u8]>>>);

impl Row for Texts<'_> {
    fn text(&self, column: usize) -> Option<&[u8]> {
        self.0.get(column)?.as_deref()
    }
}

/// The base's columns, and which of them are shown: those that are asked for, or all where the base shows all, too.
fn shown_columns(columns: &[Column], wanted: Option<&[String]>, base: &Base) -> Result<Vec<Shown>, Passed> {
    // Without a primary key every column is part of the key.
    let has_key = columns.iter().any(|column| column.pk_index.is_some());
    let shown: Vec<Shown> = columns
        .iter()
        .map(|column| Shown {
            name: column.name.clone(),
            is_shown: wanted.is_none_or(|names| names.contains(&column.name)),
            is_key: !has_key || column.pk_index.is_some(),
        })
        .collect();
    let are_there = match wanted {
        None => base.shows_all(),
        Some(names) => {
            let is_there = |name: &String| columns.iter().any(|column| column.name == *name);
            let is_named_once = |name: &String| names.iter().filter(|other| *other == name).count() == 1;
            names.iter().all(|name| is_there(name) && is_named_once(name))
        }
    };
    let shows_key = shown.iter().all(|column| column.is_shown || !column.is_key);
    if are_there && shows_key { Ok(shown) } else { Err(Passed::Columns) }
}

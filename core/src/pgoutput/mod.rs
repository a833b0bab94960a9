//! Messages of the `pgoutput` plugin, decoded without copying (the Postgres documentation,
//! *Logical Replication Message Formats*, protocol version 1).
//!
//! Version 1 sends whole transactions in commit order, so there are no stream or two-phase messages.
//! Column values are in text format; what a value means is the business of the relation description.

mod decode;
#[cfg(test)]
mod tests;
mod tuple;

pub use decode::{COLUMNS_MAX, DecodeError, decode};
pub use tuple::{Cell, Cells, Tuple};

use crate::Lsn;

/// One message of the replication stream, borrowing from the frame it was decoded from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A transaction starts; all that follows belongs to it, up to its commit.
    Begin(Begin),
    /// The transaction is complete.
    Commit(Commit),
    /// The transaction was replicated from elsewhere: says nothing about rows.
    Origin,
    /// A relation and its columns; sent before its first change in a session, and after each DDL.
    Relation(RelationMessage<'a>),
    /// A type outside the catalog's built-in ones: its oid suffices, so the body is dropped.
    Type,
    /// A row was inserted.
    Insert {
        /// `pg_class.oid`
        relation: u32,
        /// The row.
        new: Tuple<'a>,
    },
    /// A row was updated.
    Update {
        /// `pg_class.oid`
        relation: u32,
        /// The row before; absent where the replica identity does not ask for it.
        old: Option<OldTuple<'a>>,
        /// The row after, in which large values that did not change are left out.
        new: Tuple<'a>,
    },
    /// A row was deleted.
    Delete {
        /// `pg_class.oid`
        relation: u32,
        /// The row before.
        old: OldTuple<'a>,
    },
    /// Tables were emptied.
    Truncate {
        /// The oids of the published ones among them.
        relations: Vec<u32>,
    },
    /// A message of `pg_logical_emit_message`; nothing asks for them, so the body is dropped.
    Logical,
}

/// The start of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// Where the transaction's commit record starts.
    pub final_lsn: Lsn,
    /// The transaction's id, 32 bits that wrap around.
    pub xid: u32,
}

/// The end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Where the commit record starts: equal to [`Begin::final_lsn`].
    pub lsn: Lsn,
    /// Where the commit record ends: the position to confirm.
    pub end_lsn: Lsn,
}

/// A relation as the stream describes it: less than the catalog knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationMessage<'a> {
    /// `pg_class.oid`
    pub oid: u32,
    /// The schema; `pg_catalog`, which the wire sends as nothing, is spelled out.
    pub schema: &'a str,
    /// The relation's name.
    pub name: &'a str,
    /// Which columns old tuples hold.
    pub replica_identity: ReplicaIdentity,
    /// The published columns, in the order of the tuples.
    pub columns: Vec<RelationColumn<'a>>,
}

/// One column of a [`RelationMessage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelationColumn<'a> {
    /// True where the replica identity includes the column: under FULL every column is one.
    pub key: bool,
    /// `pg_attribute.attname`
    pub name: &'a str,
    /// `pg_attribute.atttypid`
    pub type_oid: u32,
    /// `pg_attribute.atttypmod`
    pub type_mod: i32,
}

/// `pg_class.relreplident`: what an UPDATE or DELETE writes of the row before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key, where there is one.
    Default,
    /// Nothing.
    Nothing,
    /// Every column.
    Full,
    /// The columns of a chosen unique index.
    Index,
}

impl ReplicaIdentity {
    /// From the catalog's letter.
    #[must_use]
    pub const fn from_catalog(letter: u8) -> Option<Self> {
        Some(match letter {
            b'd' => Self::Default,
            b'n' => Self::Nothing,
            b'f' => Self::Full,
            b'i' => Self::Index,
            _ => return None,
        })
    }
}

/// A row as it was before a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldTuple<'a> {
    /// Every column (identity FULL).
    Full(Tuple<'a>),
    /// The identity's columns; the others are null.
    Key(Tuple<'a>),
}

//! From a frame's bytes to a [`Message`].
//!
//! Frames come from origin's `postgres::replication`; messages go to [`store::Writer`](crate::store::Writer).

use super::{Begin, Commit, Message, OldTuple, RelationColumn, RelationMessage, ReplicaIdentity, Tuple};
use crate::Lsn;

/// Postgres's `MaxTupleAttributeNumber`: no row has more columns.
pub const COLUMNS_MAX: usize = 1664;

/// The frame is not a pgoutput message of protocol version 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field reaches beyond the frame.
    #[error("the message ends {missing} bytes early, at byte {at}")]
    EndsEarly {
        /// Where the field starts, as far as it could be read.
        at: usize,
        /// How many bytes it lacks.
        missing: usize,
    },
    /// The frame goes on after the message.
    #[error("the message is followed by {0} bytes that do not belong to it")]
    TrailingBytes(usize),
    /// The first byte names no message.
    #[error("unknown message `{}`", .0.escape_ascii())]
    UnknownMessage(u8),
    /// The byte before a row says neither new, old nor key.
    #[error("unexpected row `{}`", .0.escape_ascii())]
    UnexpectedTuple(u8),
    /// The byte before a value is not `n`, `u` or `t`.
    #[error("unknown kind of value `{}`", .0.escape_ascii())]
    UnknownCell(u8),
    /// The letter is not one of `pg_class.relreplident`.
    #[error("unknown replica identity `{}`", .0.escape_ascii())]
    UnknownReplicaIdentity(u8),
    /// A row or a relation has more columns than Postgres can store.
    #[error("{count} columns, more than the {limit} that a row can have")]
    TooManyColumns {
        /// How many the message announces.
        count: usize,
        /// [`COLUMNS_MAX`]
        limit: usize,
    },
    /// A name is not UTF-8, or has no end.
    #[error("`{0}` is not a name in UTF-8 that ends in a zero byte")]
    InvalidName(&'static str),
}

/// Decodes one message: the payload of one XLogData frame.
///
/// # Errors
/// Where the bytes are not exactly one message of protocol version 1.
pub fn decode(frame: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut reader = Reader::new(frame);
    let message = match reader.u8()? {
        b'B' => Message::Begin(begin(&mut reader)?),
        b'C' => Message::Commit(commit(&mut reader)?),
        b'R' => Message::Relation(relation(&mut reader)?),
        b'I' => insert(&mut reader)?,
        b'U' => update(&mut reader)?,
        b'D' => delete(&mut reader)?,
        b'T' => truncate(&mut reader)?,
        b'O' => return Ok(Message::Origin),
        b'Y' => return Ok(Message::Type),
        b'M' => return Ok(Message::Logical),
        unknown => return Err(DecodeError::UnknownMessage(unknown)),
    };
    match reader.rest().len() {
        0 => Ok(message),
        more => Err(DecodeError::TrailingBytes(more)),
    }
}

fn begin(reader: &mut Reader<'_>) -> Result<Begin, DecodeError> {
    let final_lsn = reader.lsn()?;
    let _committed_at = reader.u64()?;
    Ok(Begin { final_lsn, xid: reader.u32()? })
}

fn commit(reader: &mut Reader<'_>) -> Result<Commit, DecodeError> {
    let _flags = reader.u8()?;
    let commit = Commit { lsn: reader.lsn()?, end_lsn: reader.lsn()? };
    let _committed_at = reader.u64()?;
    Ok(commit)
}

fn relation<'a>(reader: &mut Reader<'a>) -> Result<RelationMessage<'a>, DecodeError> {
    let oid = reader.u32()?;
    let schema = match reader.name("schema")? {
        "" => "pg_catalog",
        schema => schema,
    };
    let name = reader.name("relation")?;
    let letter = reader.u8()?;
    let replica_identity =
        ReplicaIdentity::from_catalog(letter).ok_or(DecodeError::UnknownReplicaIdentity(letter))?;
    let count = usize::from(reader.u16()?);
    if count > COLUMNS_MAX {
        return Err(DecodeError::TooManyColumns { count, limit: COLUMNS_MAX });
    }
    let columns = (0..count).map(|_| relation_column(reader)).collect::<Result<_, _>>()?;
    Ok(RelationMessage { oid, schema, name, replica_identity, columns })
}

fn relation_column<'a>(reader: &mut Reader<'a>) -> Result<RelationColumn<'a>, DecodeError> {
    Ok(RelationColumn {
        key: reader.u8()? & 1 == 1,
        name: reader.name("column")?,
        type_oid: reader.u32()?,
        type_mod: reader.i32()?,
    })
}

fn insert<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let relation = reader.u32()?;
    match reader.u8()? {
        b'N' => Ok(Message::Insert { relation, new: Tuple::decode(reader)? }),
        other => Err(DecodeError::UnexpectedTuple(other)),
    }
}

fn update<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let relation = reader.u32()?;
    let (old, next) = match reader.u8()? {
        kind @ (b'K' | b'O') => (Some(old_tuple(kind, reader)?), reader.u8()?),
        kind => (None, kind),
    };
    match next {
        b'N' => Ok(Message::Update { relation, old, new: Tuple::decode(reader)? }),
        other => Err(DecodeError::UnexpectedTuple(other)),
    }
}

fn delete<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let relation = reader.u32()?;
    let kind = reader.u8()?;
    Ok(Message::Delete { relation, old: old_tuple(kind, reader)? })
}

fn old_tuple<'a>(kind: u8, reader: &mut Reader<'a>) -> Result<OldTuple<'a>, DecodeError> {
    match kind {
        b'K' => Ok(OldTuple::Key(Tuple::decode(reader)?)),
        b'O' => Ok(OldTuple::Full(Tuple::decode(reader)?)),
        other => Err(DecodeError::UnexpectedTuple(other)),
    }
}

fn truncate<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let count = reader.u32()?;
    let _cascade_and_restart_identity = reader.u8()?;
    // Collecting stops at the frame's end, so a false count cannot make the list large.
    let relations = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
    Ok(Message::Truncate { relations })
}

/// Takes fields off the front of a frame; integers are big-endian.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    frame: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(frame: &'a [u8]) -> Self {
        Self { frame, at: 0 }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.frame.get(self.at..).unwrap_or_default()
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let rest = self.rest();
        let bytes = rest.get(..count).ok_or_else(|| self.lacks(count - rest.len()))?;
        self.at += count;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = self.rest();
        let bytes = rest.first_chunk().ok_or_else(|| self.lacks(N - rest.len()))?;
        self.at += N;
        Ok(*bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A length: 32 bits, which every platform that core is built for can address.
    pub(super) fn length(&mut self) -> Result<usize, DecodeError> {
        self.u32().map(|length| length as usize)
    }

    fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    fn lsn(&mut self) -> Result<Lsn, DecodeError> {
        self.u64().map(Lsn::new)
    }

    fn name(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let end = memchr::memchr(0, self.rest()).ok_or(DecodeError::InvalidName(field))?;
        let bytes = self.bytes(end)?;
        self.at += 1;
        str::from_utf8(bytes).map_err(|_| DecodeError::InvalidName(field))
    }

    const fn lacks(&self, missing: usize) -> DecodeError {
        DecodeError::EndsEarly { at: self.at, missing }
    }
}

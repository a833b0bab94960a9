//! The replication connection: commands first, then the stream of changes (the Postgres
//! documentation, *Streaming Replication Protocol*).
//!
//! The way of a change begins here: `engine::Engine::handle_frames` takes each [`Frame`], has `limn_core::pgoutput` decode
//! it, and hands it to `limn_core::store::Writer`.

use super::config::PostgresConfig;
use super::error::{PostgresError, ServerError};
use super::sqlstate;
use super::wire::{RawMessage, TextRow, Wire, server_error};
use bytes::{Buf, BufMut};
use limn_core::Lsn;
use limn_core::pg::relation::quote_identifier;
use postgres_protocol::message::backend::{COPY_DATA_TAG, ERROR_RESPONSE_TAG, Message};
use postgres_protocol::message::frontend;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep_until, timeout};

/// CopyBothResponse, which the protocol crate does not know.
const COPY_BOTH_TAG: u8 = b'W';
const NOTICE_TAG: u8 = b'N';
const PARAMETER_STATUS_TAG: u8 = b'S';

/// A burst of this many reads …
const BURST_READS: u32 = 16;
/// … within this time …
const BURST_TIME: Duration = Duration::from_millis(2);
/// … that brought fewer frames than this is one wake-up per row: the walsender sends each row by
/// itself, so a keen reader wakes for every one.
const BURST_FRAMES_MIN: u32 = 128;
/// What the reader then waits, so that the socket fills. An idle stream never pays it.
const COALESCE_TIME: Duration = Duration::from_millis(1);

/// Where a read has consumed more than this, its buffer is given back.
const KEPT_BYTES: usize = 1 << 20;

/// How long the server may take to end the stream before the connection is just dropped.
const STOP_TIME_MAX: Duration = Duration::from_secs(2);

/// A replication connection that is ready for commands.
pub struct ReplicationConnection {
    wire: Wire,
}

/// The answer to IDENTIFY_SYSTEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemIdentity {
    /// Identifies the database cluster across copies and restores.
    pub system_id: String,
    /// Changes with each promotion and point-in-time recovery.
    pub timeline: u32,
    /// Up to where the WAL is flushed.
    pub wal_position: Lsn,
}

/// The stream of changes.
///
/// Call [`fill`](Self::fill), then [`frame`](Self::frame) until it says `None`; call
/// [`confirm`](Self::confirm) at least every `wal_sender_timeout / 2`, and when a keepalive asks.
pub struct ReplicationStream {
    wire: Wire,
    slot: String,
    /// How many bytes at the front of the buffer were handed out.
    consumed: usize,
    pace: Pace,
}

/// One unit of the stream, borrowing from its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// One pgoutput message.
    XLogData {
        /// Where in the WAL the message starts.
        wal_start: Lsn,
        /// Up to where the walsender has read.
        wal_end: Lsn,
        /// For [`limn_core::pgoutput::decode`].
        data: &'a [u8],
    },
    /// A sign of life.
    Keepalive {
        /// Up to where the walsender has read: everything before has been sent.
        wal_end: Lsn,
        /// The server wants [`ReplicationStream::confirm`] at once.
        reply_requested: bool,
    },
}

/// Why the stream ended or did not start, by what is to be done.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    /// Connect again.
    #[error("the replication connection was lost: {0}")]
    Disconnected(#[source] PostgresError),
    /// The slot is gone: shapes cannot continue from it.
    #[error("the replication slot `{0}` does not exist")]
    SlotMissing(String),
    /// The slot exists but its WAL does not: shapes cannot continue from it.
    #[error("the replication slot `{slot}` can no longer be read: {reason}")]
    SlotInvalidated {
        /// The slot.
        slot: String,
        /// What Postgres said.
        reason: Box<ServerError>,
    },
    /// Another connection streams from the slot: wait and try again.
    #[error("the replication slot `{0}` is in use by another connection")]
    SlotInUse(String),
    /// Somebody must change something.
    #[error("replication is not possible: {0}")]
    Configuration(#[source] PostgresError),
}

impl ReplicationConnection {
    /// Connects and logs in; the role needs the REPLICATION attribute.
    ///
    /// # Errors
    /// See [`PostgresError::is_transient`].
    pub async fn connect(config: &PostgresConfig) -> Result<Self, PostgresError> {
        Ok(Self { wire: Wire::connect(config).await? })
    }

    /// Which cluster this is, and where its WAL ends.
    ///
    /// # Errors
    /// Where the connection or the answer fails.
    pub async fn identify_system(&mut self) -> Result<SystemIdentity, PostgresError> {
        let rows = self.wire.query("IDENTIFY_SYSTEM").await?;
        let field = |index: usize| rows.first()?.get(index)?.as_deref();
        let identity = || {
            Some(SystemIdentity {
                system_id: field(0)?.to_owned(),
                timeline: field(1)?.parse().ok()?,
                wal_position: field(2)?.parse().ok()?,
            })
        };
        identity().ok_or_else(|| PostgresError::Protocol("not an answer to IDENTIFY_SYSTEM".to_owned()))
    }

    /// The process of Postgres that serves it.
    ///
    /// # Errors
    /// Where the connection or the answer fails.
    pub async fn pid(&mut self) -> Result<i32, PostgresError> {
        let rows = self.wire.query("SELECT pg_backend_pid()").await?;
        let pid = rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok());
        pid.ok_or_else(|| PostgresError::Protocol("not a process's number".to_owned()))
    }

    /// Runs one SQL statement or replication command and returns its rows.
    ///
    /// # Errors
    /// Where the connection or the statement fails; after a statement's failure the connection can
    /// be used further.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<TextRow>, PostgresError> {
        self.wire.query(sql).await
    }

    /// Starts streaming: transactions that commit after `from`, or after what the slot has
    /// confirmed, whichever is later.
    ///
    /// # Errors
    /// Says what to do about it.
    pub async fn start(
        mut self,
        slot: &str,
        publication: &str,
        from: Lsn,
    ) -> Result<ReplicationStream, ReplicationError> {
        // The option is a list of quoted identifiers inside a literal. Replication commands know no
        // E'' strings and take a backslash as it is, so only quotes are doubled.
        let publications = quote_identifier(publication).replace('\'', "''");
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL {from} (proto_version '1', publication_names '{publications}')",
            quote_identifier(slot),
        );
        let begin = async {
            frontend::query(&command, &mut self.wire.outgoing).map_err(super::wire::protocol)?;
            self.wire.flush().await?;
            self.wire.until_copy_both().await
        };
        begin.await.map_err(|error| match error.code() {
            // Before the stream starts, only the slot is looked up.
            Some(sqlstate::UNDEFINED_OBJECT) => ReplicationError::SlotMissing(slot.to_owned()),
            _ => ReplicationError::classify(error, slot),
        })?;
        Ok(ReplicationStream { wire: self.wire, slot: slot.to_owned(), consumed: 0, pace: Pace::default() })
    }
}

impl Wire {
    async fn until_copy_both(&mut self) -> Result<(), PostgresError> {
        loop {
            match RawMessage::peek(&self.incoming)? {
                None => {
                    self.read().await?;
                }
                Some(raw) if raw.tag == COPY_BOTH_TAG => {
                    self.incoming.advance(raw.length());
                    return Ok(());
                }
                // Nobody knows what comes next: each message is looked at by itself.
                Some(raw) if raw.tag == NOTICE_TAG || raw.tag == PARAMETER_STATUS_TAG => {
                    self.incoming.advance(raw.length());
                }
                Some(_) => {
                    let _row_description_or_the_like = self.message().await?;
                }
            }
        }
    }
}

impl ReplicationStream {
    /// Waits until more bytes have come. Cancel-safe.
    ///
    /// While the stream is busy it reads at most about once a millisecond; the first bytes after a
    /// pause are returned at once.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn fill(&mut self) -> Result<(), ReplicationError> {
        self.wire.incoming.advance(self.consumed);
        if self.consumed > KEPT_BYTES {
            // It has held a huge row, for whose memory there may be no use again.
            self.wire.incoming = self.wire.incoming[..].into();
        }
        self.consumed = 0;
        if let Some(deadline) = self.pace.pause(Instant::now()) {
            sleep_until(deadline).await;
        }
        let read = self.wire.read().await;
        self.pace.has_read(Instant::now());
        match read {
            Ok(_) => Ok(()),
            Err(error) => Err(ReplicationError::classify(error, &self.slot)),
        }
    }

    /// The next complete frame, if one has come.
    ///
    /// # Errors
    /// The stream is over.
    pub fn frame(&mut self) -> Result<Option<Frame<'_>>, ReplicationError> {
        let fail = |error| ReplicationError::classify(error, &self.slot);
        loop {
            let unread = self.wire.incoming.get(self.consumed..).unwrap_or_default();
            let Some(raw) = RawMessage::peek(unread).map_err(fail)? else { return Ok(None) };
            let body = self.consumed + RawMessage::BODY..self.consumed + raw.length();
            match raw.tag {
                COPY_DATA_TAG => {
                    self.consumed = body.end;
                    self.pace.frames = self.pace.frames.saturating_add(1);
                    let body = self.wire.incoming.get(body).unwrap_or_default();
                    return Frame::parse(body).map_err(fail).map(Some);
                }
                NOTICE_TAG | PARAMETER_STATUS_TAG => self.consumed = body.end,
                ERROR_RESPONSE_TAG => return Err(fail(stream_error(unread))),
                // CopyDone, CommandComplete: the server ends the stream, as when it shuts down.
                _ => {
                    let ended = std::io::Error::other("the server ended the stream");
                    return Err(fail(PostgresError::Broken(ended)));
                }
            }
        }
    }

    /// Tells the server what was received and what it may forget: everything before `flushed`.
    /// Cancel-safe: a message that was only partly sent is completed by the next call.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn confirm(&mut self, received: Lsn, flushed: Lsn) -> Result<(), ReplicationError> {
        self.send_status(received, flushed, false).await
    }

    /// The same, and asks the server to answer with a keepalive.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn confirm_and_ask(&mut self, received: Lsn, flushed: Lsn) -> Result<(), ReplicationError> {
        self.send_status(received, flushed, true).await
    }

    async fn send_status(
        &mut self,
        received: Lsn,
        flushed: Lsn,
        reply_requested: bool,
    ) -> Result<(), ReplicationError> {
        let mut update = [0_u8; 34];
        let mut fields = update.as_mut_slice();
        fields.put_u8(b'r');
        fields.put_u64(received.as_u64());
        fields.put_u64(flushed.as_u64());
        fields.put_u64(flushed.as_u64());
        fields.put_i64(postgres_time_us(SystemTime::now()));
        fields.put_u8(u8::from(reply_requested));
        frontend::CopyData::new(update.as_slice())
            .expect("the message is short")
            .write(&mut self.wire.outgoing);
        self.wire.flush().await.map_err(|error| ReplicationError::classify(error, &self.slot))
    }

    /// Ends the stream politely, so that the slot is free when this returns; gives up after a
    /// while, since the server also notices a closed connection.
    pub async fn stop(mut self) {
        frontend::copy_done(&mut self.wire.outgoing);
        frontend::terminate(&mut self.wire.outgoing);
        let drain = async {
            self.wire.flush().await?;
            loop {
                self.wire.incoming.clear();
                self.wire.read().await?;
            }
        };
        let _end_of_stream: Result<Result<(), PostgresError>, _> = timeout(STOP_TIME_MAX, drain).await;
    }
}

impl<'a> Frame<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, PostgresError> {
        let parse = || {
            let mut rest = body;
            match rest.try_get_u8().ok()? {
                b'w' => {
                    let wal_start = Lsn::new(rest.try_get_u64().ok()?);
                    let wal_end = Lsn::new(rest.try_get_u64().ok()?);
                    let _sent_at = rest.try_get_u64().ok()?;
                    Some(Self::XLogData { wal_start, wal_end, data: rest })
                }
                b'k' => {
                    let wal_end = Lsn::new(rest.try_get_u64().ok()?);
                    let _sent_at = rest.try_get_u64().ok()?;
                    let reply_requested = rest.try_get_u8().ok()? != 0;
                    Some(Self::Keepalive { wal_end, reply_requested })
                }
                _ => None,
            }
        };
        parse().ok_or_else(|| PostgresError::Protocol("not a frame of the stream".to_owned()))
    }
}

impl ReplicationError {
    /// True where the slot is at a time in which the publication did not exist: it leads nowhere.
    #[must_use]
    pub fn lacks_publication(&self) -> bool {
        matches!(self, Self::Configuration(error) if error.code() == Some(sqlstate::UNDEFINED_OBJECT))
    }

    fn classify(error: PostgresError, slot: &str) -> Self {
        let PostgresError::Server(reason) = error else {
            // Login and TLS failures do not happen on a connection that has started.
            return Self::Disconnected(error);
        };
        match reason.code.as_str() {
            sqlstate::OBJECT_IN_USE => Self::SlotInUse(slot.to_owned()),
            sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE | sqlstate::UNDEFINED_FILE => {
                Self::SlotInvalidated { slot: slot.to_owned(), reason }
            }
            _ => {
                let error = PostgresError::Server(reason);
                match error.is_transient() {
                    true => Self::Disconnected(error),
                    false => Self::Configuration(error),
                }
            }
        }
    }
}

/// Decides when to read lazily.
#[derive(Debug, Default)]
struct Pace {
    reads: u32,
    frames: u32,
    burst_started: Option<Instant>,
    resume_at: Option<Instant>,
}

impl Pace {
    /// Until when the next read should wait. Asked again after a cancelled wait, it says the same.
    fn pause(&mut self, now: Instant) -> Option<Instant> {
        if self.reads >= BURST_READS {
            let fast = self.burst_started.is_some_and(|start| now - start <= BURST_TIME);
            if fast && self.frames < BURST_FRAMES_MIN {
                self.resume_at = Some(now + COALESCE_TIME);
            }
            self.reads = 0;
            self.frames = 0;
        }
        self.resume_at.filter(|resume_at| *resume_at > now)
    }

    fn has_read(&mut self, now: Instant) {
        self.resume_at = None;
        if self.reads == 0 {
            self.burst_started = Some(now);
        }
        self.reads += 1;
    }
}

fn stream_error(message: &[u8]) -> PostgresError {
    match Message::parse(&mut message.into()) {
        Ok(Some(Message::ErrorResponse(body))) => match server_error(body.fields()) {
            Ok((error, _)) => error.into(),
            Err(error) => error,
        },
        Ok(_) => PostgresError::Protocol("not an error".to_owned()),
        Err(error) => super::wire::protocol(error),
    }
}

/// Microseconds since 2000-01-01, the server's own count; only shown in its statistics views.
fn postgres_time_us(now: SystemTime) -> i64 {
    const POSTGRES_EPOCH: Duration = Duration::from_secs(946_684_800);
    now.duration_since(SystemTime::UNIX_EPOCH + POSTGRES_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_parsed_and_truncations_refused() {
        let mut data = vec![b'w'];
        data.extend([1_u64, 2, 3].iter().flat_map(|n| n.to_be_bytes()));
        for end in 0..data.len() {
            assert!(Frame::parse(&data[..end]).is_err());
        }
        data.push(b'B');
        let expected = Frame::XLogData { wal_start: Lsn::new(1), wal_end: Lsn::new(2), data: b"B" };
        assert_eq!(Frame::parse(&data).expect("complete"), expected);
        let mut keepalive = vec![b'k'];
        keepalive.extend([9_u64, 3].iter().flat_map(|n| n.to_be_bytes()));
        keepalive.push(1);
        let expected = Frame::Keepalive { wal_end: Lsn::new(9), reply_requested: true };
        assert_eq!(Frame::parse(&keepalive).expect("complete"), expected);
        assert!(Frame::parse(b"x").is_err());
    }

    #[tokio::test]
    async fn what_comes_before_the_stream_does_not_hold_it_up() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut wire = Wire {
            socket: crate::postgres::socket::Socket::plain(ours),
            incoming: bytes::BytesMut::new(),
            outgoing: bytes::BytesMut::new(),
        };
        // A notice and a parameter, as with `client_min_messages = debug1`, then CopyBothResponse.
        for message in [&b"N\0\0\0\x05\0"[..], b"S\0\0\0\x08a\0b\0", b"W\0\0\0\x07\0\0\0"] {
            tokio::io::AsyncWriteExt::write_all(&mut theirs, message).await.expect("there is room");
        }
        let started = timeout(Duration::from_secs(5), wire.until_copy_both()).await;
        started.expect("nothing else is waited for").expect("the stream has started");
    }

    #[test]
    fn only_a_fast_burst_of_small_reads_pauses() {
        let start = Instant::now();
        let after = |frames: u32, apart: Duration| {
            let mut pace = Pace::default();
            for read in 0..BURST_READS {
                let now = start + apart * read;
                assert_eq!(pace.pause(now), None);
                pace.has_read(now);
            }
            pace.frames = frames;
            pace.pause(start + apart * BURST_READS)
        };
        let fast = Duration::from_micros(10);
        assert_eq!(after(16, fast), Some(start + fast * BURST_READS + COALESCE_TIME));
        assert_eq!(after(1000, fast), None, "reads that bring many frames need no pause");
        assert_eq!(after(16, Duration::from_millis(1)), None, "a slow stream is never delayed");
    }

    #[test]
    fn a_cancelled_pause_does_not_start_again() {
        let now = Instant::now();
        let mut pace = Pace { reads: BURST_READS, burst_started: Some(now), ..Pace::default() };
        let deadline = pace.pause(now);
        assert!(deadline.is_some());
        assert_eq!(pace.pause(now + COALESCE_TIME / 2), deadline);
        assert_eq!(pace.pause(now + COALESCE_TIME), None);
    }

    #[test]
    fn errors_are_sorted_by_what_to_do() {
        let classify = |code: &str| {
            let error = ServerError { code: code.to_owned(), ..ServerError::default() };
            ReplicationError::classify(error.into(), "s1")
        };
        use ReplicationError as E;
        // In the stream it is the publication that does not exist.
        assert!(matches!(classify(sqlstate::UNDEFINED_OBJECT), E::Configuration(_)));
        assert!(matches!(classify(sqlstate::OBJECT_IN_USE), E::SlotInUse(_)));
        assert!(matches!(classify(sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE), E::SlotInvalidated { .. }));
        assert!(matches!(classify(sqlstate::UNDEFINED_FILE), E::SlotInvalidated { .. }));
        assert!(matches!(classify(sqlstate::ADMIN_SHUTDOWN), E::Disconnected(_)));
        assert!(matches!(classify(sqlstate::INSUFFICIENT_PRIVILEGE), E::Configuration(_)));
    }
}

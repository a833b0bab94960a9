//! The frontend/backend protocol as far as a replication connection needs it: start-up, login and
//! simple queries (the Postgres documentation, *Message Flow*).

use super::APPLICATION_NAME;
use super::config::{Binding, PostgresConfig};
use super::error::{PostgresError, ServerError};
use super::settings::{Scope, newer_statement, start_up_options};
use super::socket::Socket;
use bytes::BytesMut;
use futures::FutureExt;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{
    AuthenticationSaslBody, DataRowBody, ErrorFields, Header, Message,
};
use postgres_protocol::message::frontend;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Postgres's own limit on a message: a longer announcement is not one.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// How much a read asks for at least.
pub(super) const READ_BYTES: usize = 128 << 10;

/// How long start-up and login may take.
const LOGIN_SECONDS_MAX: u64 = 30;

/// The tag and a length that counts itself.
const HEADER_BYTES: usize = 5;

/// One row of a simple query's answer, in text format.
pub type TextRow = Vec<Option<String>>;

/// A connection that has logged in and is ready for queries.
pub(super) struct Wire {
    pub(super) socket: Socket,
    pub(super) incoming: BytesMut,
    /// Bytes to write; what is left after a cancelled write is sent by the next one.
    pub(super) outgoing: BytesMut,
}

/// A message in a buffer: its tag and where its body lies.
pub(super) struct RawMessage {
    pub(super) tag: u8,
    pub(super) body_length: usize,
}

impl RawMessage {
    pub(super) const BODY: usize = HEADER_BYTES;

    /// The message that starts here, once it is complete.
    pub(super) fn peek(bytes: &[u8]) -> Result<Option<Self>, PostgresError> {
        let header = Header::parse(bytes).map_err(protocol)?;
        let Some(header) = header else { return Ok(None) };
        let length = usize::try_from(header.len()).unwrap_or(usize::MAX);
        if length > MESSAGE_BYTES_MAX {
            return Err(PostgresError::Protocol(format!("a message of {length} bytes")));
        }
        // `Header::parse` has checked that the length counts itself.
        let body_length = length - 4;
        let complete = bytes.len() >= HEADER_BYTES + body_length;
        Ok(complete.then_some(Self { tag: header.tag(), body_length }))
    }

    pub(super) const fn length(&self) -> usize {
        HEADER_BYTES + self.body_length
    }
}

impl Wire {
    /// Connects and logs in with `replication=database`.
    pub(super) async fn connect(config: &PostgresConfig) -> Result<Self, PostgresError> {
        Socket::log_in(config, |socket| Self::log_in(socket, config).boxed()).await
    }

    async fn log_in(socket: Socket, config: &PostgresConfig) -> Result<Self, PostgresError> {
        let mut wire = Self { socket, incoming: BytesMut::new(), outgoing: BytesMut::new() };
        let limit = Duration::from_secs(LOGIN_SECONDS_MAX);
        timeout(limit, wire.start_up(config))
            .await
            .map_err(|_| PostgresError::Timeout { doing: "logging in", seconds: LOGIN_SECONDS_MAX })??;
        Ok(wire)
    }

    async fn start_up(&mut self, config: &PostgresConfig) -> Result<(), PostgresError> {
        let parameters = [
            ("user", config.user.as_str()),
            ("database", &config.database),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
            ("application_name", APPLICATION_NAME),
            ("options", &start_up_options()),
        ];
        frontend::startup_message(parameters, &mut self.outgoing).map_err(protocol)?;
        self.flush().await?;
        self.authenticate(config).await?;
        self.until_ready(|_| Ok(())).await?;
        self.query(&newer_statement(Scope::Session)).await.map(drop)
    }

    async fn authenticate(&mut self, config: &PostgresConfig) -> Result<(), PostgresError> {
        let password =
            || {
                config.password.as_deref().map(str::as_bytes).ok_or_else(|| {
                    PostgresError::Login("it asks for a password and the URL has none".to_owned())
                })
            };
        let unbound = || {
            match config.channel_binding {
            Binding::Require => Err(PostgresError::Login(
                "it does not bind the login to the encrypted connection, as `channel_binding=require` demands"
                    .to_owned(),
            )),
            Binding::Disable | Binding::Prefer => Ok(()),
        }
        };
        let mut is_bound = false;
        loop {
            match self.message().await? {
                Message::AuthenticationOk => return if is_bound { Ok(()) } else { unbound() },
                Message::AuthenticationCleartextPassword => {
                    unbound()?;
                    frontend::password_message(password()?, &mut self.outgoing).map_err(protocol)?;
                    self.flush().await?;
                }
                Message::AuthenticationMd5Password(body) => {
                    unbound()?;
                    let hash = md5_hash(config.user.as_bytes(), password()?, body.salt());
                    frontend::password_message(hash.as_bytes(), &mut self.outgoing).map_err(protocol)?;
                    self.flush().await?;
                }
                Message::AuthenticationSasl(body) => {
                    let (mechanism, binding) = self.scram_mechanism(&body)?;
                    is_bound = mechanism == SCRAM_SHA_256_PLUS;
                    if !is_bound {
                        unbound()?;
                    }
                    self.scram(mechanism, binding, password()?).await?;
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// SCRAM-SHA-256, bound to the TLS connection where both sides can.
    async fn scram(
        &mut self,
        mechanism: &str,
        binding: ChannelBinding,
        password: &[u8],
    ) -> Result<(), PostgresError> {
        let mut scram = ScramSha256::new(password, binding);
        frontend::sasl_initial_response(mechanism, scram.message(), &mut self.outgoing).map_err(protocol)?;
        self.flush().await?;
        match self.message().await? {
            Message::AuthenticationSaslContinue(body) => {
                scram.update(body.data()).map_err(protocol)?;
            }
            other => return Err(unexpected(&other)),
        }
        frontend::sasl_response(scram.message(), &mut self.outgoing).map_err(protocol)?;
        self.flush().await?;
        match self.message().await? {
            // Proves that the server knows the password too.
            Message::AuthenticationSaslFinal(body) => scram.finish(body.data()).map_err(protocol),
            other => Err(unexpected(&other)),
        }
    }

    fn scram_mechanism(
        &self,
        body: &AuthenticationSaslBody,
    ) -> Result<(&'static str, ChannelBinding), PostgresError> {
        use tokio_postgres::fallible_iterator::FallibleIterator;
        let offered: Vec<&str> = body.mechanisms().collect().map_err(protocol)?;
        let hash = self.socket.server_end_point().map(<[u8]>::to_vec);
        match hash {
            Some(hash) if offered.contains(&SCRAM_SHA_256_PLUS) => {
                Ok((SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash)))
            }
            _ if !offered.contains(&SCRAM_SHA_256) => {
                Err(PostgresError::Login(format!("it offers only {}", offered.join(", "))))
            }
            Some(_) => Ok((SCRAM_SHA_256, ChannelBinding::unrequested())),
            None => Ok((SCRAM_SHA_256, ChannelBinding::unsupported())),
        }
    }

    /// Runs one statement by the simple protocol; all rows are held in memory.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Vec<TextRow>, PostgresError> {
        frontend::query(sql, &mut self.outgoing).map_err(protocol)?;
        self.flush().await?;
        let mut rows = Vec::new();
        self.until_ready(|row| {
            rows.push(text_row(row)?);
            Ok(())
        })
        .await?;
        Ok(rows)
    }

    /// Reads up to ReadyForQuery; an error on the way is returned once the connection is usable.
    async fn until_ready(
        &mut self,
        mut on_row: impl FnMut(&DataRowBody) -> Result<(), PostgresError>,
    ) -> Result<(), PostgresError> {
        let mut failure = None;
        loop {
            match self.message_or_error().await? {
                Ok(Message::ReadyForQuery(_)) => return failure.map_or(Ok(()), Err),
                Ok(Message::DataRow(row)) => on_row(&row)?,
                Ok(_) => {}
                // After a fatal error the server says nothing more and closes.
                Err((error, true)) => return Err(error.into()),
                Err((error, false)) => failure = Some(error.into()),
            }
        }
    }

    /// The next message that is not a notice; an error of the server is an `Err`.
    pub(super) async fn message(&mut self) -> Result<Message, PostgresError> {
        self.message_or_error().await?.map_err(|(error, _)| error.into())
    }

    async fn message_or_error(&mut self) -> Result<Result<Message, (ServerError, bool)>, PostgresError> {
        loop {
            let Some(raw) = RawMessage::peek(&self.incoming)? else {
                self.read().await?;
                continue;
            };
            let mut bytes = self.incoming.split_to(raw.length());
            match Message::parse(&mut bytes).map_err(protocol)? {
                Some(Message::NoticeResponse(_) | Message::ParameterStatus(_)) | None => {}
                Some(Message::ErrorResponse(body)) => {
                    return Ok(Err(server_error(body.fields())?));
                }
                Some(message) => return Ok(Ok(message)),
            }
        }
    }

    /// Reads what there is, at least one byte. Cancel-safe.
    pub(super) async fn read(&mut self) -> Result<usize, PostgresError> {
        self.incoming.reserve(READ_BYTES);
        match self.socket.read_buf(&mut self.incoming).await? {
            0 => Err(PostgresError::Broken(io::ErrorKind::UnexpectedEof.into())),
            count => Ok(count),
        }
    }

    /// Writes all that is outgoing. Cancel-safe: what was not written stays.
    pub(super) async fn flush(&mut self) -> Result<(), PostgresError> {
        self.socket.write_all_buf(&mut self.outgoing).await?;
        Ok(self.socket.flush().await?)
    }
}

/// The error, and whether the server closes the connection after it.
pub(super) fn server_error(mut fields: ErrorFields<'_>) -> Result<(ServerError, bool), PostgresError> {
    use tokio_postgres::fallible_iterator::FallibleIterator;
    let mut error = ServerError::default();
    let mut fatal = false;
    while let Some(field) = fields.next().map_err(protocol)? {
        let value = || String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => error.code = value(),
            b'M' => error.message = value(),
            b'D' => error.detail = Some(value()),
            b'H' => error.hint = Some(value()),
            // The severity that is never translated.
            b'V' => fatal = matches!(field.value_bytes(), b"FATAL" | b"PANIC"),
            _ => {}
        }
    }
    Ok((error, fatal))
}

fn text_row(row: &DataRowBody) -> Result<TextRow, PostgresError> {
    use tokio_postgres::fallible_iterator::FallibleIterator;
    row.ranges()
        .map(|range| {
            let bytes = range.and_then(|range| row.buffer().get(range));
            Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
        })
        .collect()
        .map_err(protocol)
}

fn unexpected(message: &Message) -> PostgresError {
    match message {
        Message::AuthenticationGss
        | Message::AuthenticationSspi
        | Message::AuthenticationKerberosV5
        | Message::AuthenticationScmCredential => PostgresError::Login(
            "it asks for a method other than a password; use SCRAM, MD5 or trust".to_owned(),
        ),
        _ => PostgresError::Protocol("a message that does not belong here".to_owned()),
    }
}

/// Errors of the codec are about what the server sent, not about the connection.
#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` takes")]
pub(super) fn protocol(error: io::Error) -> PostgresError {
    PostgresError::Protocol(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_seen_once_complete() {
        let bytes = b"Z\0\0\0\x05I";
        for end in 0..bytes.len() {
            assert!(RawMessage::peek(&bytes[..end]).expect("well-formed").is_none());
        }
        let raw = RawMessage::peek(bytes).expect("well-formed").expect("complete");
        assert_eq!((raw.tag, raw.body_length, raw.length()), (b'Z', 1, 6));
    }

    #[test]
    fn absurd_lengths_are_refused() {
        assert!(RawMessage::peek(b"d\x7f\xff\xff\xff").is_err());
        assert!(RawMessage::peek(b"d\xff\xff\xff\xff").is_err());
        assert!(RawMessage::peek(b"d\0\0\0\x03").is_err());
    }
}

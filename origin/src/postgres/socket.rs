//! A byte stream to Postgres: TCP or a Unix socket, encrypted or not.

use super::config::{Binding, Encryption, Host, PostgresConfig};
use super::error::PostgresError;
use super::sqlstate;
use super::tls::server_end_point;
use bytes::BytesMut;
use futures::future::BoxFuture;
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

/// How long one address may take, encryption included.
const CONNECT_SECONDS_MAX: u64 = 10;

/// Whether this attempt asks for encryption, and what a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Plain,
    TlsIfOffered,
    Tls,
}

impl Attempt {
    /// The attempts that an `sslmode` allows, in order: the second follows where the server refuses
    /// the first at login.
    const fn of(encryption: Encryption) -> &'static [Self] {
        match encryption {
            Encryption::Disable => &[Self::Plain],
            Encryption::Allow => &[Self::Plain, Self::Tls],
            Encryption::Prefer => &[Self::TlsIfOffered, Self::Plain],
            Encryption::Require => &[Self::Tls],
        }
    }

    /// True where the next attempt may succeed although this one failed: TLS itself failed, or
    /// `pg_hba.conf` has no entry for a connection that is `encrypted` like this one.
    fn may_be_followed_after(self, error: &PostgresError, encrypted: bool) -> bool {
        match error {
            PostgresError::Tls(_) => true,
            PostgresError::Server(error) => {
                error.code == sqlstate::INVALID_AUTHORIZATION_SPECIFICATION
                    && (encrypted || self == Self::Plain)
            }
            _ => false,
        }
    }
}

/// A connected stream, before the start-up message.
pub(super) struct Socket {
    stream: Pin<Box<dyn Stream>>,
    server_end_point: Option<Vec<u8>>,
    encrypted: bool,
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

impl Socket {
    /// Makes the attempts that the `sslmode` allows, each with a login, until one succeeds or fails in a way
    /// that the next one would not mend. Of several refusals the first is told.
    pub(super) async fn log_in<'a, T>(
        config: &'a PostgresConfig,
        log_in: impl Fn(Self) -> BoxFuture<'a, Result<T, PostgresError>>,
    ) -> Result<T, PostgresError> {
        let mut refusal = None;
        for &attempt in Attempt::of(config.encryption) {
            let mut encrypted = true;
            let logged_in = async {
                let socket = Self::connect(config, attempt).await?;
                encrypted = socket.encrypted;
                log_in(socket).await
            };
            match logged_in.await {
                Ok(logged_in) => return Ok(logged_in),
                Err(error) if attempt.may_be_followed_after(&error, encrypted) => {
                    refusal.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(refusal.expect("every `sslmode` allows an attempt, and each leaves a refusal"))
    }

    async fn connect(config: &PostgresConfig, attempt: Attempt) -> Result<Self, PostgresError> {
        match &config.host {
            Host::Unix(directory) => {
                let path = directory.join(format!(".s.PGSQL.{}", config.port));
                let stream = UnixStream::connect(&path).await.map_err(|source| {
                    PostgresError::Unreachable { address: path.display().to_string(), source }
                })?;
                // Never leaves the machine, so libpq does not encrypt it either.
                Ok(Self::plain(stream))
            }
            Host::Tcp(name) => {
                let stream = connect_tcp(config, name).await?;
                let encrypt = Self::negotiate(stream, name, config, attempt);
                timeout(Duration::from_secs(CONNECT_SECONDS_MAX), encrypt).await.map_err(|_| {
                    PostgresError::Timeout { doing: "negotiating encryption", seconds: CONNECT_SECONDS_MAX }
                })?
            }
        }
    }

    /// The hash that ties a login to this connection's certificate, where it is encrypted.
    pub(super) fn server_end_point(&self) -> Option<&[u8]> {
        self.server_end_point.as_deref()
    }

    pub(super) fn plain(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::pin(stream), server_end_point: None, encrypted: false }
    }

    async fn negotiate(
        mut stream: TcpStream,
        name: &str,
        config: &PostgresConfig,
        attempt: Attempt,
    ) -> Result<Self, PostgresError> {
        if attempt == Attempt::Plain {
            return Ok(Self::plain(stream));
        }
        if !config.is_direct {
            let mut request = BytesMut::new();
            frontend::ssl_request(&mut request);
            stream.write_all(&request).await?;
            match (stream.read_u8().await?, attempt) {
                (b'S', _) => {}
                (b'N', Attempt::TlsIfOffered) => return Ok(Self::plain(stream)),
                (b'N', _) => return Err(PostgresError::Tls("the server does not offer it".to_owned())),
                _ => return Err(PostgresError::Protocol("not an answer to SSLRequest".to_owned())),
            }
        }
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| PostgresError::Tls(format!("`{name}` is not a host name")))?;
        let stream = TlsConnector::from(Arc::clone(&config.tls))
            .connect(server, stream)
            .await
            .map_err(|error| PostgresError::Tls(error.to_string()))?;
        if config.is_direct && stream.get_ref().1.alpn_protocol().is_none() {
            let text = "the server does not speak it without negotiation: leave `sslnegotiation=direct` out";
            return Err(PostgresError::Tls(text.to_owned()));
        }
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let is_bound = config.channel_binding != Binding::Disable;
        let server_end_point = certificate.filter(|_| is_bound).and_then(server_end_point);
        Ok(Self { stream: Box::pin(stream), server_end_point, encrypted: true })
    }
}

async fn connect_tcp(config: &PostgresConfig, name: &str) -> Result<TcpStream, PostgresError> {
    let unreachable =
        |source| PostgresError::Unreachable { address: format!("{}:{}", config.host, config.port), source };
    let mut addresses: Vec<_> = lookup_host((name, config.port)).await.map_err(unreachable)?.collect();
    addresses.sort_by_key(|address| address.is_ipv6() != config.prefer_ipv6);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let limit = Duration::from_secs(CONNECT_SECONDS_MAX);
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                config.tcp.apply(&stream)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(unreachable(last))
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(context)
    }
}

impl TlsStream for Socket {
    fn channel_binding(&self) -> ChannelBinding {
        self.server_end_point.clone().map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

/// Tells tokio-postgres that the socket is as encrypted as it will be, so that both kinds of
/// connection share one negotiation and ordinary sessions log in with channel binding too.
pub(super) struct AlreadyNegotiated;

impl TlsConnect<Socket> for AlreadyNegotiated {
    type Stream = Socket;
    type Error = io::Error;
    type Future = Ready<io::Result<Socket>>;

    fn connect(self, socket: Socket) -> Self::Future {
        ready(Ok(socket))
    }
}

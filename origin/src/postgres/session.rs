//! Ordinary sessions: the catalog, the publication and snapshots.

use super::APPLICATION_NAME;
use super::config::{Binding, PostgresConfig};
use super::error::PostgresError;
use super::settings::{Scope, newer_statement, statements};
use super::socket::{AlreadyNegotiated, Socket};
use super::sqlstate;
use futures::FutureExt;
use std::ops::Deref;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation};

/// How long login and settings may take.
const LOGIN_SECONDS_MAX: u64 = 30;

/// How long a session waits where all connections are in use, and the pauses between two attempts.
const FREE_SECONDS_MAX: u64 = 20;
const FREE_POLL_FIRST: Duration = Duration::from_millis(50);
const FREE_POLL_LAST: Duration = Duration::from_secs(1);

/// A logged-in session; it ends when dropped, once the answers on their way have come.
pub struct Session {
    client: Client,
    driver: AbortHandle,
}

impl Session {
    /// Connects, logs in and applies the settings that make values' text the same everywhere. Where all connections
    /// are in use, by `CONNECTION LIMIT` or `max_connections`, it waits for a while until one is free. It logs in again
    /// where the session was ended before it had its settings.
    ///
    /// # Errors
    /// See [`PostgresError::is_transient`].
    pub async fn connect(config: &PostgresConfig) -> Result<Self, PostgresError> {
        let deadline = Instant::now() + Duration::from_secs(FREE_SECONDS_MAX);
        let mut pause = FREE_POLL_FIRST;
        loop {
            match Self::try_connect(config).await {
                Err(error)
                    if matches!(
                        error.code(),
                        Some(sqlstate::TOO_MANY_CONNECTIONS | sqlstate::IDLE_SESSION_TIMEOUT)
                    ) && Instant::now() < deadline =>
                {
                    sleep(pause).await;
                    pause = (pause * 2).min(FREE_POLL_LAST);
                }
                result => return result,
            }
        }
    }

    /// The same without waiting for others.
    ///
    /// # Errors
    /// See [`PostgresError::is_transient`].
    pub async fn try_connect(config: &PostgresConfig) -> Result<Self, PostgresError> {
        let connected = Self::connect_once(config).await;
        if connected.as_ref().is_err_and(|error| error.code() == Some(sqlstate::TOO_MANY_CONNECTIONS)) {
            config.scarcity.handle_refused();
        }
        connected
    }

    async fn connect_once(config: &PostgresConfig) -> Result<Self, PostgresError> {
        Socket::log_in(config, |socket| Self::log_in(config, socket).boxed()).await
    }

    /// Drops the connection without waiting for answers: the way out of a long COPY.
    pub fn abort(&self) {
        self.driver.abort();
    }

    async fn log_in(config: &PostgresConfig, socket: Socket) -> Result<Self, PostgresError> {
        let limit = Duration::from_secs(LOGIN_SECONDS_MAX);
        timeout(limit, Self::start_up(config, socket))
            .await
            .map_err(|_| PostgresError::Timeout { doing: "logging in", seconds: LOGIN_SECONDS_MAX })?
    }

    async fn start_up(config: &PostgresConfig, socket: Socket) -> Result<Self, PostgresError> {
        let mut login = tokio_postgres::Config::new();
        login
            .user(&config.user)
            .dbname(&config.database)
            .application_name(APPLICATION_NAME)
            .ssl_mode(SslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct);
        if config.channel_binding == Binding::Require {
            login.channel_binding(ChannelBinding::Require);
        }
        if let Some(password) = &config.password {
            login.password(password);
        }
        let (client, connection) = login.connect_raw(socket, AlreadyNegotiated).await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a session with Postgres ended");
            }
        });
        // By SET and not at start-up: some poolers refuse start-up options.
        let settings = format!("{}; {}", statements(Scope::Session), newer_statement(Scope::Session));
        client.batch_execute(&settings).await?;
        Ok(Self { client, driver: driver.abort_handle() })
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

//! The errors between us and Postgres.

use super::sqlstate::class;
use std::fmt;
use std::io;

/// The classes of SQLSTATE that pass by themselves.
const TRANSIENT: [&str; 4] = [
    class::CONNECTION_EXCEPTION,
    class::INSUFFICIENT_RESOURCES,
    class::SERVER_INTERVENTION,
    class::TRANSACTION_ROLLBACK,
];

/// A failure of a connection or of a statement.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No connection could be made.
    #[error("cannot connect to Postgres at `{address}`: {source}")]
    Unreachable {
        /// Host and port, or the socket's path.
        address: String,
        /// The last address's failure.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to Postgres broke: {0}")]
    Broken(#[source] io::Error),
    /// The server cannot encrypt, or its certificate is not accepted.
    #[error("cannot encrypt the connection to Postgres: {0}")]
    Tls(String),
    /// The login needs something that the URL does not have or that we do not speak.
    #[error("cannot log in to Postgres: {0}")]
    Login(String),
    /// Postgres answered with an error.
    #[error("{0}")]
    Server(Box<ServerError>),
    /// Postgres sent something that the protocol does not allow here.
    #[error("unexpected answer from Postgres: {0}")]
    Protocol(String),
    /// An answer did not come in time.
    #[error("Postgres did not answer within {seconds} s while {doing}")]
    Timeout {
        /// The work that took too long.
        doing: &'static str,
        /// The limit.
        seconds: u64,
    },
}

/// An ErrorResponse (the Postgres documentation, *Error and Notice Message Fields*).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerError {
    /// The SQLSTATE, five characters.
    pub code: String,
    /// The primary message.
    pub message: String,
    /// Details, where there are any.
    pub detail: Option<String>,
    /// A suggestion, where there is one.
    pub hint: Option<String>,
}

impl PostgresError {
    /// The SQLSTATE of Postgres's answer, where it was one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(&error.code),
            _ => None,
        }
    }

    /// True where the SQLSTATE begins with one of these: whole codes, or [classes](super::sqlstate::class).
    #[must_use]
    pub fn is_of(&self, classes: &[&str]) -> bool {
        self.code().is_some_and(|code| classes.iter().any(|class| code.starts_with(class)))
    }

    /// Postgres's own message without code and details, where it was Postgres that answered.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Server(error) => error.message.clone(),
            other => other.to_string(),
        }
    }

    /// True where the connection or the server as a whole is at fault, not the statement.
    #[must_use]
    pub fn is_of_connection(&self) -> bool {
        !matches!(self, Self::Protocol(_)) && (self.code().is_none() || self.is_transient())
    }

    /// True where the same attempt may succeed later: nobody has to change anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken(_) | Self::Timeout { .. } => true,
            Self::Server(_) => self.is_of(&TRANSIENT),
            Self::Tls(_) | Self::Login(_) | Self::Protocol(_) => false,
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

impl From<ServerError> for PostgresError {
    fn from(error: ServerError) -> Self {
        Self::Server(Box::new(error))
    }
}

impl From<io::Error> for PostgresError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            return Self::from(ServerError {
                code: db.code().code().to_owned(),
                message: db.message().to_owned(),
                detail: db.detail().map(ToOwned::to_owned),
                hint: db.hint().map(ToOwned::to_owned),
            });
        }
        if error.is_closed() {
            return Self::Broken(io::Error::other("the connection is closed"));
        }
        let text = error.to_string();
        match error.into_source().map(|source| source.downcast::<io::Error>()) {
            Some(Ok(source)) => Self::Broken(*source),
            Some(Err(source)) => Self::Protocol(format!("{text}: {source}")),
            None => Self::Protocol(text),
        }
    }
}

//! Why a shape cannot be created, and what those who wait for it are told.

use super::ViewError;
use crate::engine::Stopped;
use crate::postgres::PostgresError;
use crate::postgres::publication::PublicationError;
use crate::postgres::rights::Denial;
use crate::postgres::sqlstate::{self, class};
use crate::shapes::Failure;
use limn_core::filter::EvalError;
use limn_core::protocol::RequestError;
use limn_core::protocol::reply::Unavailable;
use limn_core::shape::Definition;
use std::io;
use std::sync::Arc;

/// Why a shape cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Postgres refused, or is away.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The role may not read a table, or not whole: the text says what to grant.
    #[error("Unable to create initial snapshot: {0}")]
    Denied(Denial),
    /// The table cannot be published.
    #[error(transparent)]
    Publication(#[from] PublicationError),
    /// The table cannot be published, as whoever tried it first found.
    #[error(transparent)]
    Publishing(Arc<CreateError>),
    /// No snapshot of the tables can be taken, for any of the shapes that would have shared it.
    #[error(transparent)]
    Snapshot(Arc<CreateError>),
    /// The task that took the snapshot panicked.
    #[error("the server made a mistake, please retry")]
    CutOff,
    /// What the definition was made for is not what the snapshot shows.
    #[error("the table was altered while the shape was being made")]
    Changed,
    /// What was read from the stream does not show yet.
    #[error("transactions that were committed are not visible: is a synchronous standby away?")]
    CommitsInvisible,
    /// The rows are not what `COPY` sends.
    #[error("cannot read the snapshot: {0}")]
    Copy(String),
    /// The disk refused.
    #[error("cannot write the snapshot: {0}")]
    Disk(#[from] io::Error),
    /// A subquery returns more rows than are kept.
    #[error("{0}")]
    TooManyMembers(String),
    /// A row has no tags that could be told.
    #[error("cannot judge a row of the snapshot: {0}")]
    Row(#[from] EvalError),
    /// The server is about to end.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<ViewError> for CreateError {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Postgres(error) => Self::Postgres(error),
            ViewError::Copy(_) => Self::Copy(error.to_string()),
            ViewError::TooManyMembers => Self::TooManyMembers(error.to_string()),
        }
    }
}

impl CreateError {
    /// The SQLSTATE by which Postgres refused to take the snapshot.
    pub(super) fn snapshot_code(&self) -> Option<&str> {
        match self {
            Self::Postgres(error) => error.code(),
            Self::Snapshot(error) => error.snapshot_code(),
            _ => None,
        }
    }

    /// The reply to those who wait for the shape.
    pub(super) fn failure(&self, definition: &Definition) -> Failure {
        let of_rows = |reason: String| {
            let parameter = if definition.filter.is_some() { "where" } else { "table" };
            Failure::Rows(RequestError::new(parameter, reason))
        };
        let known = |retry_after_s| {
            Failure::Unavailable(Unavailable {
                known: true,
                ..Unavailable::new(self.to_string(), retry_after_s)
            })
        };
        match self {
            Self::Publication(PublicationError::Postgres(error)) | Self::Postgres(error) => {
                if error.is_of(&[sqlstate::INSUFFICIENT_PRIVILEGE]) {
                    let text = format!(
                        "Unable to create initial snapshot: {error}. Make the server's role the table's owner, \
                         or publish by hand and start with --manual-table-publishing"
                    );
                    Failure::Unavailable(Unavailable { known: true, ..Unavailable::new(text, 10) })
                } else if error.is_transient() || error.is_of(&[sqlstate::LOCK_NOT_AVAILABLE]) {
                    known(10)
                } else if matches!(self, Self::Postgres(_)) && error.is_of(&OF_ROWS) {
                    of_rows(error.message())
                } else {
                    Failure::Refused(error.message())
                }
            }
            Self::Publishing(error) | Self::Snapshot(error) => error.failure(definition),
            Self::Changed => Failure::Gone,
            Self::Denied(_) | Self::Publication(_) | Self::Disk(_) | Self::CommitsInvisible => known(10),
            Self::TooManyMembers(_) | Self::Row(_) => of_rows(self.to_string()),
            Self::Copy(_) | Self::CutOff => Failure::Refused(self.to_string()),
            Self::Stopped(_) => known(5),
        }
    }
}

/// The classes of SQLSTATE by which a snapshot query fails because of its clause, or on a row that it reads.
const OF_ROWS: [&str; 9] = [
    class::FEATURE_NOT_SUPPORTED,
    class::CARDINALITY_VIOLATION,
    class::DATA_EXCEPTION,
    class::EXTERNAL_ROUTINE_EXCEPTION,
    class::EXTERNAL_ROUTINE_INVOCATION_EXCEPTION,
    class::INVALID_SCHEMA_NAME,
    class::SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,
    class::PROGRAM_LIMIT_EXCEEDED,
    class::PLPGSQL_ERROR,
];

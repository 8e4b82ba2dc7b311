//! What can go wrong with stored things, grouped by who can cure it.

use std::path::PathBuf;

/// Why the database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Written by a later version of this software.
    #[error("{} has schema version {found}, and this version knows {known} at most", .path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// What it says.
        found: i64,
        /// What we know.
        known: i64,
    },
    /// Somebody else's SQLite database.
    #[error("{} is not a database of SPS", .0.display())]
    Foreign(PathBuf),
    /// SQLite cannot use the file.
    #[error("{}: {}", .path.display(), said(.error))]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What SQLite said. Not among the causes: its own text is told already, and its causes repeat it.
        error: rusqlite::Error,
    },
}

/// Why a change was not made or a question not answered. What was in force before still is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// See there.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Another command has been changing the routes all the while we waited.
    #[error("another command is changing the routes; waited {waited_s} s")]
    Busy {
        /// How long, in seconds.
        waited_s: u64,
    },
    /// More routes with one literal prefix, or of one domain, than a lookup may look at.
    #[error(
        "too many routes begin with `{shared}`: at most {most} may share the digits before the first wildcard, or a domain"
    )]
    Crowded {
        /// The digits or the domain.
        shared: String,
        /// The bound.
        most: usize,
    },
    /// A row that this version cannot read, written by other means than ours.
    #[error("row {id} of table {table} makes no sense: {what}")]
    Row {
        /// Which table.
        table: &'static str,
        /// Which row.
        id: i64,
        /// What is wrong.
        what: String,
    },
    /// The database.
    #[error("{}", said(.0))]
    Sqlite(rusqlite::Error),
    /// The compiled table cannot be opened.
    #[error("route table")]
    OpenMap(#[from] sps_mapped::OpenError),
    /// The compiled table cannot be written; the change is in the database and is published by the next command that
    /// can.
    #[error("route table")]
    PutMap(#[from] sps_mapped::PutError),
    /// The machine refused something else.
    #[error("route table")]
    Io(#[from] std::io::Error),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// What SQLite says in its own words, without the path that it adds when it cannot open a file.
fn said(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(code, Some(text)) => match code.code {
            rusqlite::ErrorCode::CannotOpen => "unable to open the database".into(),
            _ => text.clone(),
        },
        other => other.to_string(),
    }
}

impl Error {
    /// Whether the same call may succeed later.
    pub fn is_temporary(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
        matches!(self, Error::Busy { .. }) || matches!(self.sqlite_code(), Some(DatabaseBusy | DatabaseLocked))
    }

    /// Whether this user may not use the database. What the machine refuses otherwise is an [`std::io::Error`] among
    /// the causes.
    pub fn is_permission(&self) -> bool {
        use rusqlite::ErrorCode::{CannotOpen, PermissionDenied, ReadOnly};
        matches!(self.sqlite_code(), Some(CannotOpen | PermissionDenied | ReadOnly))
    }

    /// Whether a file is there and is not what it should be.
    pub fn is_unreadable(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            Error::Open(OpenError::Newer { .. } | OpenError::Foreign(_)) | Error::Row { .. } => true,
            Error::OpenMap(sps_mapped::OpenError::Foreign { .. } | sps_mapped::OpenError::Damaged { .. }) => true,
            _ => matches!(self.sqlite_code(), Some(DatabaseCorrupt | NotADatabase)),
        }
    }

    fn sqlite_code(&self) -> Option<rusqlite::ErrorCode> {
        match self {
            Error::Sqlite(error) | Error::Open(OpenError::Sqlite { error, .. }) => error.sqlite_error_code(),
            _ => None,
        }
    }
}

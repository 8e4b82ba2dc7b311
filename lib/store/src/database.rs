//! Opening `sps.db`.

use crate::error::OpenError;
use crate::migrate::migrate;
use crate::owner;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// An open `sps.db`. One per thread; any number of processes.
#[derive(Debug)]
pub struct Database {
    pub(crate) db: Connection,
}

/// How long one statement waits for another process's transaction.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

impl Database {
    /// Opens the database, making it and bringing its schema up to date as needed. The folder must exist.
    ///
    /// # Errors
    /// [`OpenError`]; a database written by a later version is left alone.
    pub fn open(path: &Path) -> Result<Database, OpenError> {
        let sqlite = |error| OpenError::Sqlite {
            path: path.into(),
            error,
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut db = Connection::open_with_flags(path, flags).map_err(sqlite)?;
        // Before -wal and -shm come into being: SQLite gives them the owner of the database.
        owner::match_folder(path);
        db.busy_timeout(BUSY_TIMEOUT).map_err(sqlite)?;
        db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))
            .map_err(sqlite)?;
        db.pragma_update(None, "synchronous", "full").map_err(sqlite)?;
        db.set_prepared_statement_cache_capacity(32);
        migrate(&mut db, path)?;
        Ok(Database { db })
    }
}

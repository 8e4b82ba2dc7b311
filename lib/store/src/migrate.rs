//! The schema of `sps.db` and how it came about. Steps are only ever added.

use crate::error::OpenError;
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;

/// "SPS1" in the file's head: tells our databases from others.
const APPLICATION_ID: i64 = 0x5350_5331;

/// Step n leads from schema version n to n + 1.
const STEPS: &[&str] = &[
    "
    CREATE TABLE route (
        -- never used twice, so that a script that remembers an id cannot remove another route
        id         INTEGER PRIMARY KEY AUTOINCREMENT,
        -- the key of the compiled table: 'n' and the digits before the first wildcard, or 'd' and the domain
        map_key    TEXT NOT NULL,
        -- the pattern or domain in full
        selector   TEXT NOT NULL,
        host       TEXT NOT NULL,
        -- 0: none
        port       INTEGER NOT NULL DEFAULT 0 CHECK (port BETWEEN 0 AND 65535),
        -- empty: none
        transport  TEXT NOT NULL DEFAULT '',
        priority   INTEGER NOT NULL DEFAULT 1 CHECK (priority BETWEEN 0 AND 65535),
        weight     INTEGER NOT NULL DEFAULT 1 CHECK (weight BETWEEN 0 AND 65535),
        -- a JSON object: right, method, source, cost, hours
        attributes TEXT NOT NULL DEFAULT '{}',
        UNIQUE (map_key, selector, host, port, transport)
    );
    CREATE TABLE registration (
        id         INTEGER PRIMARY KEY AUTOINCREMENT,
        -- the registry's key
        aor        TEXT NOT NULL,
        -- as the operator wrote it
        to_uri     TEXT NOT NULL,
        contact    TEXT NOT NULL,
        -- thousandths
        q          INTEGER NOT NULL DEFAULT 1000 CHECK (q BETWEEN 0 AND 1000),
        -- a JSON array of URIs, top one first
        path       TEXT NOT NULL DEFAULT '[]',
        -- seconds since 1970
        created_at INTEGER NOT NULL,
        UNIQUE (aor, contact)
    );
    -- counts every commit that changed the routes; the compiled table carries the number it was made from
    CREATE TABLE published (what TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO published VALUES ('route', 0);
",
    "
    CREATE TABLE ban (
        -- ADDRESS/BITS, no bit set behind the prefix
        network    TEXT PRIMARY KEY,
        reason     TEXT NOT NULL DEFAULT '',
        -- seconds since 1970
        created_at INTEGER NOT NULL,
        -- the same; NULL: until it is removed
        until      INTEGER
    ) WITHOUT ROWID;
",
];

/// Brings the schema to the version this program knows, in one transaction.
pub(crate) fn migrate(db: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let known = STEPS.len() as i64;
    let sqlite = |error| OpenError::Sqlite {
        path: path.into(),
        error,
    };
    let pragma = |db: &Connection, name| {
        db.pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .map_err(sqlite)
    };
    if pragma(db, "user_version")? == known && pragma(db, "application_id")? == APPLICATION_ID {
        return Ok(());
    }
    // Two programs may meet a new database at once: what is there is looked at again under the lock.
    let step = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(sqlite)?;
    let found = pragma(&step, "user_version")?;
    if found > known {
        return Err(OpenError::Newer {
            path: path.into(),
            found,
            known,
        });
    }
    let has_tables: bool = step
        .query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))
        .map_err(sqlite)?;
    if has_tables && pragma(&step, "application_id")? != APPLICATION_ID {
        return Err(OpenError::Foreign(path.into()));
    }
    // `found` is not negative in a database of ours.
    for sql in STEPS.iter().skip(found.max(0) as usize) {
        step.execute_batch(sql).map_err(sqlite)?;
    }
    step.pragma_update(None, "application_id", APPLICATION_ID)
        .map_err(sqlite)?;
    step.pragma_update(None, "user_version", known).map_err(sqlite)?;
    step.commit().map_err(sqlite)
}

//! Networks that the operator has banned.

use crate::database::Database;
use crate::error::Error;
use rusqlite::{OptionalExtension, Row, params};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// `ADDRESS/BITS`.
    pub network: String,
    /// Why, in the operator's words; may be empty.
    pub reason: String,
    /// Seconds since 1970.
    pub created_at: u64,
    /// Seconds since 1970; unset: until it is removed.
    pub until: Option<u64>,
}

const COLUMNS: &str = "network, reason, created_at, until";

impl Database {
    /// All bans in force at `now` (seconds since 1970), in the order of their networks as text.
    ///
    /// # Errors
    /// The database's.
    pub fn bans(&self, now: u64) -> Result<Vec<Ban>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM ban WHERE until IS NULL OR until > ? ORDER BY network");
        let mut statement = self.db.prepare_cached(&sql)?;
        let rows = statement.query_map([now], read_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Stores one, replacing the one of the same network; gives that one, if it was in force. Those that have ended by
    /// `wanted.created_at` are forgotten. On the disk when the call returns.
    ///
    /// # Errors
    /// The database's.
    pub fn put_ban(&mut self, wanted: &Ban) -> Result<Option<Ban>, Error> {
        let step = self.db.transaction()?;
        step.prepare_cached("DELETE FROM ban WHERE until <= ?")?
            .execute([wanted.created_at])?;
        let before = step
            .prepare_cached(&format!("SELECT {COLUMNS} FROM ban WHERE network = ?"))?
            .query_row([&wanted.network], read_row)
            .optional()?;
        step.prepare_cached("INSERT OR REPLACE INTO ban (network, reason, created_at, until) VALUES (?, ?, ?, ?)")?
            .execute(params![wanted.network, wanted.reason, wanted.created_at, wanted.until])?;
        step.commit()?;
        Ok(before)
    }

    /// Removes one; whether it was there.
    ///
    /// # Errors
    /// The database's.
    pub fn remove_ban(&mut self, network: &str) -> Result<bool, Error> {
        Ok(self
            .db
            .prepare_cached("DELETE FROM ban WHERE network = ?")?
            .execute([network])?
            != 0)
    }
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<Ban> {
    Ok(Ban {
        network: row.get(0)?,
        reason: row.get(1)?,
        created_at: row.get(2)?,
        until: row.get(3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn bans_are_kept_replaced_and_end() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("sps.db");
        let mut db = Database::open(&path).unwrap();
        let ban = |network: &str, until| Ban {
            network: network.into(),
            reason: "'; DROP TABLE ban; --".into(),
            created_at: 1_000,
            until,
        };
        let (short, long) = (ban("192.0.2.0/24", Some(1_060)), ban("2001:db8::/32", None));
        assert_eq!(db.put_ban(&short).unwrap(), None);
        assert_eq!(db.put_ban(&long).unwrap(), None);
        assert_eq!(db.put_ban(&long).unwrap(), Some(long.clone()));
        let again = Database::open(&path).unwrap();
        assert_eq!(again.bans(1_059).unwrap(), [short.clone(), long.clone()]);
        assert_eq!(again.bans(1_060).unwrap(), std::slice::from_ref(&long));
        let later = Ban {
            created_at: 2_000,
            ..short.clone()
        };
        assert_eq!(db.put_ban(&later).unwrap(), None, "the earlier one has ended");
        assert!(db.remove_ban("2001:db8::/32").unwrap() && !db.remove_ban("2001:db8::/32").unwrap());
    }
}

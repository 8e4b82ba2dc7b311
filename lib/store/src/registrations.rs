//! Static registrations: kept here, put into the registry by `sps-registrar`.

use crate::database::Database;
use crate::error::Error;
use rusqlite::{Row, params};

/// A permanent contact of an AOR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticRegistration {
    /// The registry's key.
    pub aor: String,
    /// The AOR as the operator wrote it.
    pub to_uri: String,
    /// The contact URI.
    pub contact: String,
    /// Thousandths, 0 to 1000.
    pub q: u16,
    /// Path URIs, top one first; mostly none.
    pub path: Vec<String>,
    /// Seconds since 1970.
    pub created_at: u64,
}

const COLUMNS: &str = "id, aor, to_uri, contact, q, path, created_at";

impl Database {
    /// All of them, ordered by AOR and contact.
    ///
    /// # Errors
    /// The database's.
    pub fn static_registrations(&self) -> Result<Vec<StaticRegistration>, Error> {
        self.select_registrations(&format!("SELECT {COLUMNS} FROM registration ORDER BY aor, contact"), [])
    }

    /// Those of one AOR (the registry's key), ordered by contact.
    ///
    /// # Errors
    /// The database's.
    pub fn static_registrations_of(&self, aor: &str) -> Result<Vec<StaticRegistration>, Error> {
        self.select_registrations(
            &format!("SELECT {COLUMNS} FROM registration WHERE aor = ? ORDER BY contact"),
            [aor],
        )
    }

    /// Stores one, replacing the one with the same AOR and contact; `false` if it was there exactly like this. On the disk when
    /// the call returns.
    ///
    /// # Errors
    /// The database's.
    pub fn put_static_registration(&mut self, wanted: &StaticRegistration) -> Result<bool, Error> {
        let path = serde_json::Value::from(wanted.path.clone()).to_string();
        let changed = self
            .db
            .prepare_cached(
                "INSERT INTO registration (aor, to_uri, contact, q, path, created_at) VALUES (?, ?, ?, ?, ?, ?)
                 ON CONFLICT (aor, contact) DO UPDATE SET to_uri = excluded.to_uri, q = excluded.q, path = excluded.path
                 WHERE to_uri <> excluded.to_uri OR q <> excluded.q OR path <> excluded.path",
            )?
            .execute(params![
                wanted.aor,
                wanted.to_uri,
                wanted.contact,
                wanted.q,
                path,
                wanted.created_at
            ])?;
        Ok(changed != 0)
    }

    /// Removes one contact of an AOR, or all of them; how many there were.
    ///
    /// # Errors
    /// The database's.
    pub fn remove_static_registrations(&mut self, aor: &str, contact: Option<&str>) -> Result<usize, Error> {
        Ok(self
            .db
            .prepare_cached("DELETE FROM registration WHERE aor = ?1 AND (?2 IS NULL OR contact = ?2)")?
            .execute(params![aor, contact])?)
    }

    fn select_registrations(&self, sql: &str, of: impl rusqlite::Params) -> Result<Vec<StaticRegistration>, Error> {
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query(of)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(read_row(row)?);
        }
        Ok(found)
    }
}

fn read_row(row: &Row<'_>) -> Result<StaticRegistration, Error> {
    let path: String = row.get(5)?;
    let path = serde_json::from_str(&path).map_err(|error| Error::Row {
        table: "registration",
        id: row.get(0).unwrap_or(0),
        what: error.to_string(),
    })?;
    Ok(StaticRegistration {
        aor: row.get(1)?,
        to_uri: row.get(2)?,
        contact: row.get(3)?,
        q: row.get(4)?,
        path,
        created_at: row.get(6)?,
    })
}

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

    /// Stores one, replacing the one with the same AOR and contact; `false` if it was there exactly like this. On the
    /// disk when the call returns.
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

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn registration(aor: &str, contact: &str) -> StaticRegistration {
        StaticRegistration {
            aor: aor.into(),
            to_uri: aor.to_uppercase(),
            contact: contact.into(),
            q: 500,
            path: vec!["sip:edge;lr".into()],
            created_at: 1_700_000_000,
        }
    }

    #[test]
    fn registrations_are_kept_replaced_and_removed() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("sps.db");
        let mut db = Database::open(&path).unwrap();
        let (a1, a2, b1) = (
            registration("sip:a", "sip:1"),
            registration("sip:a", "sip:2"),
            registration("sip:b", "sip:1"),
        );
        for wanted in [&a2, &b1, &a1] {
            assert!(db.put_static_registration(wanted).unwrap());
            assert!(!db.put_static_registration(wanted).unwrap(), "it is there");
        }
        assert!(
            db.put_static_registration(&StaticRegistration { q: 1000, ..a1.clone() })
                .unwrap()
        );
        let db_again = Database::open(&path).unwrap();
        let all = db_again.static_registrations().unwrap();
        assert_eq!(
            all,
            [StaticRegistration { q: 1000, ..a1.clone() }, a2.clone(), b1.clone()]
        );
        assert_eq!(db_again.static_registrations_of("sip:b").unwrap(), [b1]);
        assert_eq!(db.remove_static_registrations("sip:a", Some("sip:1")).unwrap(), 1);
        assert_eq!(db.static_registrations_of("sip:a").unwrap(), [a2]);
        assert_eq!(db.remove_static_registrations("sip:a", None).unwrap(), 1);
        assert_eq!(db.remove_static_registrations("sip:a", None).unwrap(), 0);
    }

    #[test]
    fn what_looks_like_sql_is_text() {
        let folder = TempDir::new().unwrap();
        let mut db = Database::open(&folder.path().join("sps.db")).unwrap();
        let evil = "sip:x'; DROP TABLE registration; --";
        db.put_static_registration(&registration(evil, evil)).unwrap();
        assert_eq!(db.static_registrations_of(evil).unwrap()[0].contact, evil);
        assert_eq!(db.remove_static_registrations("' OR 1=1 --", None).unwrap(), 0);
    }
}

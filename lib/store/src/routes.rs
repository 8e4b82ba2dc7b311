//! Changing routes: into `sps.db`, and from there into `routes.map`, under one lock.
//!
//! The lock is that of the map's writer, taken before the transaction begins and held until the map is published. So
//! versions go into the map in the order they were committed. Dying between commit and publication leaves a map of an
//! older version, which whoever opens the store next puts right.

use crate::database::Database;
use crate::error::Error;
use crate::route_map::META_VERSION;
use crate::{compile, owner};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use sps_mapped::{OpenError, Reader, TableConf, Writer};
use sps_route::{Attributes, DomainPattern, HopAddress, Pattern, Route, Selector, record};
use sps_wire::flow::Transport;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Routes that can be changed. Any number of processes may hold one; changes wait for each other.
#[derive(Debug)]
pub struct RouteStore {
    database: Database,
    map: PathBuf,
}

/// A route that has no id yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRoute {
    /// What it applies to.
    pub selector: Selector,
    /// Where to.
    pub hop: HopAddress,
    /// By what.
    pub transport: Option<Transport>,
    /// Lower first.
    pub priority: u16,
    /// Share among equals.
    pub weight: u16,
    /// Room for more.
    pub attributes: Attributes,
}

/// Priority and weight of a route that names none.
pub const DEFAULT_PRIORITY: u16 = 1;
/// See [`DEFAULT_PRIORITY`].
pub const DEFAULT_WEIGHT: u16 = 1;

/// What became of a route that was to be added. Two routes are the same if selector, next hop, port and transport are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// It is new.
    New(u64),
    /// It was there exactly like this.
    Same(u64),
    /// It was there with another priority, weight or other attributes, and has the new ones now. This is how it was.
    Changed(Route),
}

/// Whether routes that an import does not name stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportMode {
    /// They stay.
    Merge,
    /// They go.
    Replace,
}

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Imported {
    /// New routes.
    pub added: u64,
    /// Routes with another priority, weight or other attributes than before.
    pub changed: u64,
    /// Routes that were there already.
    pub unchanged: u64,
    /// Routes that went ([`ImportMode::Replace`]).
    pub removed: u64,
}

/// How long a change waits for another process's change. An import of a million routes takes some seconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
const LOCK_POLL: Duration = Duration::from_millis(5);

impl RouteStore {
    /// Opens the store, making what does not exist. A map that lags behind the database is brought up to date, unless
    /// another process is just about to do that.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(db: &Path, map: &Path) -> Result<RouteStore, Error> {
        let store = RouteStore {
            database: Database::open(db)?,
            map: map.into(),
        };
        if !store.is_published()? {
            match store.try_lock() {
                Ok((writer, is_stale)) => store.heal(writer, is_stale)?,
                Err(Error::OpenMap(OpenError::Locked { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(store)
    }

    /// The database, for what else is in it.
    pub fn database(&mut self) -> &mut Database {
        &mut self.database
    }

    /// Calls `each` with every route, by pattern, then in the order they are tried.
    ///
    /// # Errors
    /// The database's, and whatever `each` gives.
    pub fn for_each<E: From<Error>>(&self, mut each: impl FnMut(Route) -> Result<(), E>) -> Result<(), E> {
        let order = "ORDER BY map_key, selector, priority, weight, host, port, transport";
        let mut statement = self.db().prepare(&format!("{SELECT} {order}")).map_err(Error::from)?;
        let mut rows = statement.query([]).map_err(Error::from)?;
        while let Some(row) = rows.next().map_err(Error::from)? {
            each(read_row(row)?)?;
        }
        Ok(())
    }

    /// How many commits have changed the routes: what [`crate::RouteMap::version`] shows once they are in force.
    ///
    /// # Errors
    /// The database's.
    pub fn version(&self) -> Result<u64, Error> {
        read_version(self.db())
    }

    /// Whether there is no route.
    ///
    /// # Errors
    /// The database's.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }

    /// How many routes there are.
    ///
    /// # Errors
    /// The database's.
    pub fn len(&self) -> Result<u64, Error> {
        Ok(self
            .db()
            .query_row("SELECT count(*) FROM route", [], |row| row.get(0))?)
    }

    /// The route with this id.
    ///
    /// # Errors
    /// The database's.
    pub fn route(&self, id: u64) -> Result<Option<Route>, Error> {
        find(self.db(), id)
    }

    /// Whether some route has had this id.
    ///
    /// # Errors
    /// The database's.
    pub fn was_given(&self, id: u64) -> Result<bool, Error> {
        let last: Option<u64> = self
            .db()
            .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'route'", [], |row| {
                row.get(0)
            })
            .optional()?;
        Ok(last.is_some_and(|last| (1..=last).contains(&id)))
    }

    /// Adds a route, or gives the one that is there already a new priority, weight and attributes. In force when the
    /// call returns.
    ///
    /// # Errors
    /// [`Error`]; nothing has changed then, except with [`Error::PutMap`], where it is only not in force yet.
    pub fn add(&mut self, route: &NewRoute) -> Result<Added, Error> {
        self.change_key(|change| {
            let added = put(change, route)?;
            let touched = !matches!(added, Added::Same(_));
            Ok((added, touched.then(|| map_key(&route.selector))))
        })
    }

    /// Removes a route and gives it back; `None` if there is no such id. No longer in force when the call returns.
    ///
    /// # Errors
    /// As [`RouteStore::add`].
    pub fn remove(&mut self, id: u64) -> Result<Option<Route>, Error> {
        self.change_key(|change| {
            let route = find(change, id)?;
            change.prepare_cached("DELETE FROM route WHERE id = ?")?.execute([id])?;
            let touched = route.as_ref().map(|route| map_key(&route.selector));
            Ok((route, touched))
        })
    }

    /// Adds many routes in one transaction, and puts them in force in one step. `on_progress` hears how many routes are
    /// done, first in the database, then in the map; it may run up to twice the number of routes there are.
    ///
    /// # Errors
    /// As [`RouteStore::add`].
    pub fn import(
        &mut self,
        routes: &[NewRoute],
        mode: ImportMode,
        on_progress: &mut dyn FnMut(u64),
    ) -> Result<Imported, Error> {
        let (mut writer, is_stale) = self.lock()?;
        let change = self
            .database
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let imported = put_all(&change, routes, mode, on_progress)?;
        let is_changed = imported.added + imported.changed + imported.removed != 0;
        let version = if is_changed {
            next_version(&change)?
        } else {
            read_version(&change)?
        };
        compile::check_crowds(&change)?;
        change.commit()?;
        if is_changed || is_stale {
            let done = routes.len() as u64;
            compile::everything(self.db(), &mut writer, version, &mut |more| on_progress(done + more))?;
        }
        self.release(writer)?;
        Ok(imported)
    }

    /// Runs a change that touches at most one key of the map, commits, and publishes that key.
    fn change_key<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<(T, Option<String>), Error>,
    ) -> Result<T, Error> {
        let (mut writer, is_stale) = self.lock()?;
        let change = self
            .database
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (outcome, touched) = work(&change)?;
        let compiled = touched.map(|key| compile::key(&change, &key)).transpose()?;
        let version = if compiled.is_some() {
            next_version(&change)?
        } else {
            read_version(&change)?
        };
        change.commit()?;
        match compiled {
            _ if is_stale => compile::everything(self.db(), &mut writer, version, &mut |_| ())?,
            Some(compiled) => compile::publish(&mut writer, compiled, version)?,
            None => {}
        }
        self.release(writer)?;
        Ok(outcome)
    }

    /// Brings the map up to date: what is left to do when a command died between commit and publication.
    fn heal(&self, mut writer: Writer, is_stale: bool) -> Result<(), Error> {
        if is_stale {
            compile::everything(self.db(), &mut writer, read_version(self.db())?, &mut |_| ())?;
        }
        self.release(writer)
    }

    fn db(&self) -> &Connection {
        &self.database.db
    }

    fn is_published(&self) -> Result<bool, Error> {
        match Reader::open(&self.map) {
            Ok(map) => Ok(map.meta(META_VERSION) == read_version(self.db())?),
            Err(OpenError::Missing(_) | OpenError::Damaged { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the map for writing, which is the lock of all changes, and says whether it lags behind the database.
    fn lock(&self) -> Result<(Writer, bool), Error> {
        let give_up_at = Instant::now() + LOCK_TIMEOUT;
        loop {
            match self.try_lock() {
                Err(Error::OpenMap(OpenError::Locked { .. })) if Instant::now() < give_up_at => {
                    std::thread::sleep(LOCK_POLL);
                }
                Err(Error::OpenMap(OpenError::Locked { .. })) => {
                    return Err(Error::Busy {
                        waited_s: LOCK_TIMEOUT.as_secs(),
                    });
                }
                other => return other,
            }
        }
    }

    fn try_lock(&self) -> Result<(Writer, bool), Error> {
        let (writer, report) = Writer::open(&self.map, &TableConf::short_lived())?;
        let is_whole = report.dropped == 0 && report.missing == 0 && report.recreated.is_none();
        let is_stale = !is_whole || writer.meta(META_VERSION) != read_version(self.db())?;
        Ok((writer, is_stale))
    }

    fn release(&self, writer: Writer) -> Result<(), Error> {
        writer.close()?;
        owner::match_folder(&self.map);
        let mut lock = self.map.clone().into_os_string();
        lock.push(".lock");
        owner::match_folder(Path::new(&lock));
        Ok(())
    }
}

/// Stores one route in the open transaction.
fn put(change: &Connection, route: &NewRoute) -> Result<Added, Error> {
    let row = Columns::of(route);
    let inserted = change
        .prepare_cached(
            "INSERT OR IGNORE INTO route (map_key, selector, host, port, transport, priority, weight, attributes)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            row.map_key,
            row.selector,
            row.host,
            row.port,
            row.transport,
            route.priority,
            route.weight,
            row.attributes
        ])?;
    if inserted == 1 {
        return Ok(Added::New(change.last_insert_rowid() as u64));
    }
    let old = change
        .prepare_cached(&format!(
            "{SELECT} WHERE map_key = ? AND selector = ? AND host = ? AND port = ? AND transport = ?"
        ))?
        .query_row(
            params![row.map_key, row.selector, row.host, row.port, row.transport],
            |found| Ok(read_row(found)),
        )??;
    if (old.priority, old.weight, &old.attributes) == (route.priority, route.weight, &route.attributes) {
        return Ok(Added::Same(old.id));
    }
    change
        .prepare_cached("UPDATE route SET priority = ?, weight = ?, attributes = ? WHERE id = ?")?
        .execute(params![route.priority, route.weight, row.attributes, old.id])?;
    Ok(Added::Changed(old))
}

fn put_all(
    change: &Connection,
    routes: &[NewRoute],
    mode: ImportMode,
    on_progress: &mut dyn FnMut(u64),
) -> Result<Imported, Error> {
    let mut imported = Imported::default();
    let mut kept = Vec::new();
    for (done, route) in (1..).zip(routes) {
        let id = match put(change, route)? {
            Added::New(id) => {
                imported.added += 1;
                id
            }
            Added::Same(id) => {
                imported.unchanged += 1;
                id
            }
            Added::Changed(old) => {
                imported.changed += 1;
                old.id
            }
        };
        if mode == ImportMode::Replace {
            kept.push(id);
        }
        on_progress(done);
    }
    if mode == ImportMode::Replace {
        imported.removed = remove_others(change, &kept)?;
    }
    Ok(imported)
}

fn remove_others(change: &Connection, kept: &[u64]) -> Result<u64, Error> {
    change.execute_batch("CREATE TEMP TABLE IF NOT EXISTS kept (id INTEGER PRIMARY KEY); DELETE FROM kept")?;
    let mut keep = change.prepare("INSERT OR IGNORE INTO kept VALUES (?)")?;
    for id in kept {
        keep.execute([id])?;
    }
    Ok(change.execute("DELETE FROM route WHERE id NOT IN (SELECT id FROM kept)", [])? as u64)
}

fn find(db: &Connection, id: u64) -> Result<Option<Route>, Error> {
    // An id beyond what SQLite can hold is the id of no route.
    let Ok(id) = i64::try_from(id) else { return Ok(None) };
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE id = ?"))?;
    statement
        .query_row([id], |row| Ok(read_row(row)))
        .optional()?
        .transpose()
}

pub(crate) fn read_version(db: &Connection) -> Result<u64, Error> {
    Ok(
        db.query_row("SELECT version FROM published WHERE what = 'route'", [], |row| {
            row.get(0)
        })?,
    )
}

fn next_version(change: &Connection) -> Result<u64, Error> {
    change.execute("UPDATE published SET version = version + 1 WHERE what = 'route'", [])?;
    read_version(change)
}

fn map_key(selector: &Selector) -> String {
    // Keys are made of digits, host names and addresses: ASCII.
    String::from_utf8_lossy(&record::key(selector)).into_owned()
}

/// A route as texts and numbers for SQL.
struct Columns {
    map_key: String,
    selector: String,
    host: String,
    port: u16,
    transport: &'static str,
    attributes: String,
}

impl Columns {
    fn of(route: &NewRoute) -> Columns {
        let attributes = route
            .attributes
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into()));
        Columns {
            map_key: map_key(&route.selector),
            selector: route.selector.to_string(),
            host: route.hop.host.to_string(),
            port: route.hop.port.unwrap_or(0),
            transport: route.transport.map_or("", Transport::as_str),
            attributes: serde_json::Value::Object(attributes.collect()).to_string(),
        }
    }
}

pub(crate) const SELECT: &str =
    "SELECT id, map_key, selector, host, port, transport, priority, weight, attributes FROM route";

/// Reads a row of [`SELECT`].
pub(crate) fn read_row(row: &Row<'_>) -> Result<Route, Error> {
    let id: i64 = row.get(0)?;
    let bad = |what: String| Error::Row {
        table: "route",
        id,
        what,
    };
    let map_key = row.get_ref(1)?.as_str().map_err(|error| bad(error.to_string()))?;
    let selector = row.get_ref(2)?.as_str().map_err(|error| bad(error.to_string()))?;
    let selector = match map_key.starts_with('n') {
        true => selector.parse::<Pattern>().map(Selector::Number),
        false => selector.parse::<DomainPattern>().map(Selector::Domain),
    };
    let host = row.get_ref(3)?.as_str().map_err(|error| bad(error.to_string()))?;
    let hop: HopAddress = host
        .parse()
        .map_err(|error: sps_route::BadHop| bad(error.to_string()))?;
    let transport = row.get_ref(5)?.as_str().map_err(|error| bad(error.to_string()))?;
    let attributes = row.get_ref(8)?.as_str().map_err(|error| bad(error.to_string()))?;
    Ok(Route {
        id: id as u64,
        selector: selector.map_err(|error| bad(error.to_string()))?,
        hop: HopAddress {
            port: Some(row.get(4)?).filter(|port| *port != 0),
            ..hop
        },
        transport: match transport {
            "" => None,
            name => Some(Transport::from_bytes(name.as_bytes()).ok_or_else(|| bad(format!("transport `{name}`")))?),
        },
        priority: row.get(6)?,
        weight: row.get(7)?,
        attributes: match attributes {
            "{}" => Attributes::new(),
            text => serde_json::from_str(text).map_err(|error| bad(error.to_string()))?,
        },
    })
}

#[cfg(test)]
mod tests;

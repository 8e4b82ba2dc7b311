//! From rows to `routes.map`: one key after a small change, everything after an import or a crash.

use crate::error::Error;
use crate::route_map::{META_DOMAINS, META_PREFIXES, META_VERSION};
use crate::routes::{SELECT, read_row};
use rusqlite::Connection;
use sps_mapped::Writer;
use sps_route::Route;
use sps_route::record::{self, Shape};

/// The record of one key as the database has it now; `None` without routes.
pub(crate) struct Compiled {
    key: String,
    value: Option<Vec<u8>>,
    shape: Shape,
}

/// Makes the record of one key. Done inside the transaction that changes it, so that nothing is committed that cannot
/// be published.
pub(crate) fn key(db: &Connection, key: &str) -> Result<Compiled, Error> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE map_key = ?"))?;
    let mut rows = statement.query([key])?;
    let mut routes = Vec::new();
    let mut shape = Shape::default();
    while let Some(row) = rows.next()? {
        let route = read_row(row)?;
        shape.add(&route.selector);
        routes.push(route);
    }
    if routes.len() > record::MAX_ROUTES_PER_KEY {
        return Err(crowded(key));
    }
    let value = (!routes.is_empty()).then(|| encode(&mut routes));
    Ok(Compiled {
        key: key.into(),
        value,
        shape,
    })
}

/// Puts the record of a single key in force, and says that the table is now that of `version`.
///
/// The shape only grows here: a bit whose last route is gone costs lookups one probe, and the next whole compilation
/// clears it.
pub(crate) fn publish(writer: &mut Writer, one: Compiled, version: u64) -> Result<(), Error> {
    match &one.value {
        Some(value) => writer.put(one.key.as_bytes(), value)?,
        None => {
            writer.remove(one.key.as_bytes());
        }
    }
    writer.set_meta(META_PREFIXES, writer.meta(META_PREFIXES) | one.shape.prefixes);
    writer.set_meta(META_DOMAINS, writer.meta(META_DOMAINS) | one.shape.domains);
    writer.set_meta(META_VERSION, version);
    Ok(())
}

/// Makes the whole table anew from the database and puts it in force in one step. `on_progress` hears how many routes
/// are done.
pub(crate) fn everything(
    db: &Connection,
    writer: &mut Writer,
    version: u64,
    on_progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let records = db.query_row("SELECT count(DISTINCT map_key) FROM route", [], |row| row.get(0))?;
    let mut statement = db.prepare(&format!("{SELECT} ORDER BY map_key"))?;
    let mut rows = statement.query([])?;
    let mut replacement = writer.replacement(records)?;
    let mut shape = Shape::default();
    let mut group: Vec<Route> = Vec::new();
    let mut group_key = Vec::new();
    let mut done = 0;
    while let Some(row) = rows.next()? {
        let route = read_row(row)?;
        let key = record::key(&route.selector);
        shape.add(&route.selector);
        if key != group_key && !group.is_empty() {
            replacement.put(&group_key, &encode(&mut group))?;
            group.clear();
        }
        group_key = key;
        group.push(route);
        done += 1;
        on_progress(done);
    }
    if !group.is_empty() {
        replacement.put(&group_key, &encode(&mut group))?;
    }
    replacement.set_meta(META_PREFIXES, shape.prefixes);
    replacement.set_meta(META_DOMAINS, shape.domains);
    replacement.set_meta(META_VERSION, version);
    replacement.commit()?;
    Ok(())
}

/// Fails if some key has more routes than its record may hold.
pub(crate) fn check_crowds(db: &Connection) -> Result<(), Error> {
    let mut statement = db.prepare("SELECT map_key FROM route GROUP BY map_key HAVING count(*) > ? LIMIT 1")?;
    let mut rows = statement.query([record::MAX_ROUTES_PER_KEY])?;
    match rows.next()? {
        Some(row) => Err(crowded(&row.get::<_, String>(0)?)),
        None => Ok(()),
    }
}

fn crowded(key: &str) -> Error {
    Error::Crowded {
        shared: key.get(1..).unwrap_or_default().into(),
        most: record::MAX_ROUTES_PER_KEY,
    }
}

fn encode(routes: &mut [Route]) -> Vec<u8> {
    let mut value = Vec::new();
    record::write(routes, &mut value);
    value
}

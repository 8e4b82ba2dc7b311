//! The reading end of `routes.map`: the static half of [`sps_route::Tables`], for whoever routes.

use sps_mapped::{Buffer, OpenError, Reader};
use sps_route::record::{self, Shape};
use sps_route::{Host, Number, RouteSet};
use std::cell::RefCell;
use std::path::Path;

/// Reads the compiled route table and follows its writer. One per thread: lookups share a buffer.
#[derive(Debug)]
pub struct RouteMap {
    reader: Reader,
    buffer: RefCell<Buffer>,
}

/// The words beside the table: the database version it was made from, and its [`Shape`].
pub(crate) const META_VERSION: usize = 0;
pub(crate) const META_PREFIXES: usize = 1;
pub(crate) const META_DOMAINS: usize = 2;

/// A lookup that saw the table change under it is made again; under a storm of changes the last one has to do.
const LOOKUP_ATTEMPTS: usize = 4;

impl RouteMap {
    /// Maps an existing table.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path) -> Result<RouteMap, OpenError> {
        Reader::open(path).map(RouteMap::new)
    }

    /// Maps the table; one that does not exist yet has no routes until [`RouteMap::refresh`] finds it.
    pub fn open_or_wait(path: &Path) -> RouteMap {
        RouteMap::new(Reader::open_or_wait(path))
    }

    /// Looks for a table that was made after opening. Changes to one that is open are seen without it.
    pub fn refresh(&self) -> bool {
        self.reader.refresh()
    }

    /// The database version the table was made from; 0 without a table or before the first route.
    pub fn version(&self) -> u64 {
        self.reader.meta(META_VERSION)
    }

    /// The routes of the most specific pattern for a number.
    pub fn number(&self, number: &Number, out: &mut RouteSet) {
        self.look(out, |shape, out| {
            record::find_number(shape, number, out, |key, found| self.probe(key, found));
        });
    }

    /// The routes of the most specific domain for a host.
    pub fn domain(&self, host: &Host, out: &mut RouteSet) {
        self.look(out, |shape, out| {
            record::find_domain(shape, host, out, |key, found| self.probe(key, found));
        });
    }

    fn new(reader: Reader) -> RouteMap {
        RouteMap {
            reader,
            buffer: RefCell::default(),
        }
    }

    /// One lookup probes several keys, and an import may replace the whole table between two of them.
    fn look(&self, out: &mut RouteSet, find: impl Fn(Shape, &mut RouteSet)) {
        for _ in 0..LOOKUP_ATTEMPTS {
            let state = || (self.reader.generation(), self.version());
            let before = state();
            let shape = Shape {
                prefixes: self.reader.meta(META_PREFIXES),
                domains: self.reader.meta(META_DOMAINS),
            };
            out.clear();
            find(shape, out);
            if state() == before {
                return;
            }
        }
    }

    fn probe(&self, key: &[u8], found: &mut dyn FnMut(&[u8])) {
        if let Some(value) = self.reader.view(key, &mut self.buffer.borrow_mut()) {
            found(value);
        }
    }
}

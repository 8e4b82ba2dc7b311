//! The mapped files that routing looks into: registrations and static routes.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use sps_registry::{Buffer, RegistryReader};
use sps_route::{Bindings, Number, RouteSet};
use sps_store::RouteMap;

/// The readers of one thread.
pub struct Tables {
    registry: RegistryReader,
    routes: RouteMap,
    /// Copies of records are made here; nothing is allocated in the long run.
    buffer: RefCell<Buffer>,
}

impl Tables {
    /// Opens both files; one that is not there yet reads as empty until it appears.
    pub fn open(paths: &sps_conf::Paths) -> Tables {
        Tables {
            registry: RegistryReader::open_or_wait(&paths.registry_map()),
            routes: RouteMap::open_or_wait(&paths.routes_map()),
            buffer: RefCell::new(Buffer::new()),
        }
    }

    /// Looks for files that were made anew; call it about once a second.
    pub fn refresh(&self) {
        self.registry.refresh();
        self.routes.refresh();
    }

    /// The database version that the routes in force carry.
    pub fn routes_version(&self) -> u64 {
        self.routes.version()
    }
}

impl sps_route::Tables for Tables {
    fn number(&self, number: &Number, out: &mut RouteSet) {
        self.routes.number(number, out);
    }

    fn domain(&self, host: &sps_route::Host, out: &mut RouteSet) {
        self.routes.domain(host, out);
    }

    fn registered(&self, aor: &[u8], out: &mut Bindings) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        self.registry.lookup(aor, &mut self.buffer.borrow_mut(), |record| {
            out.set_known();
            for binding in record.current(now) {
                out.push(binding.contact, binding.q, binding.path(), binding.flow);
            }
        });
    }
}

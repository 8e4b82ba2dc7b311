//! The mapped files that routing looks into: registrations and static routes.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use sps_registry::{Buffer, RegistryReader};
use sps_route::{Bindings, Number, RouteSet};
use sps_sip::proxy::Registrations;
use sps_store::RouteMap;
use sps_wire::flow::Flow;
use sps_wire::uri::Uri;

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
        let now = unix_s();
        self.registry.lookup(aor, &mut self.buffer.borrow_mut(), |record| {
            out.set_known();
            for binding in record.current(now) {
                if let Some(contact) = out.push(binding.contact, binding.q, binding.path(), binding.flow) {
                    contact.handling = binding.handling;
                }
            }
        });
    }
}

/// Whether a phone is registered by the flow it speaks on: what it asks for is refused last when there is too much to do.
pub struct KnownPhones {
    tables: Rc<Tables>,
    route: Arc<sps_route::Conf>,
    aor: RefCell<Vec<u8>>,
}

impl KnownPhones {
    /// By these tables, and the rules that make an AOR of a URI.
    pub fn new(tables: Rc<Tables>, route: Arc<sps_route::Conf>) -> KnownPhones {
        KnownPhones {
            tables,
            route,
            aor: RefCell::default(),
        }
    }
}

impl Registrations for KnownPhones {
    fn is_registered(&self, aor: &[u8], flow: &Flow) -> bool {
        let Ok(uri) = Uri::parse(aor) else { return false };
        let mut key = self.aor.borrow_mut();
        key.clear();
        if !self.route.canonical_aor(&uri, &mut key) {
            return false;
        }
        let now = unix_s();
        let mut found = false;
        self.tables
            .registry
            .lookup(&key, &mut self.tables.buffer.borrow_mut(), |record| {
                found = record.current(now).any(|binding| match binding.flow {
                    Some(known) => is_same(&known, flow),
                    None => is_at(binding.contact, flow),
                });
            });
        found
    }
}

/// The same way to the same phone. A datagram's flow is known by its two ends, a stream by its number.
fn is_same(known: &Flow, flow: &Flow) -> bool {
    known.transport == flow.transport && known.remote == flow.remote && known.connection == flow.connection
}

/// Of a phone that can be reached at its contact the registry keeps no flow.
fn is_at(contact: &[u8], flow: &Flow) -> bool {
    Uri::parse(contact).is_ok_and(|uri| {
        uri.host.ip() == Some(flow.remote.ip())
            && uri.port.unwrap_or(flow.transport.default_port()) == flow.remote.port()
    })
}

fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

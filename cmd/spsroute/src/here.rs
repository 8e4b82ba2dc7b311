//! What the proxy would route by, put together from configuration and files when no proxy runs.

use sps_conf::{Config, Paths};
use sps_registry::{Buffer, RegistryReader};
use sps_route::{Bindings, Conf, Host, Number, RouteSet};
use sps_store::RouteMap;
use std::cell::RefCell;
use std::net::{IpAddr, UdpSocket};
use std::time::{SystemTime, UNIX_EPOCH};

/// The configuration of routing. `asked`: an address that may turn out to be one of this machine's, which matters for
/// listeners on all addresses.
pub fn conf(config: &Config, asked: Option<IpAddr>) -> Conf {
    // Only addresses of this machine can be bound. Port 0: any free one, given back at once.
    let local: Vec<IpAddr> = asked
        .into_iter()
        .filter(|addr| UdpSocket::bind((*addr, 0)).is_ok())
        .collect();
    config.routing_as_written(&local)
}

/// Files that are there and that this user may not read.
pub fn unreadable(paths: &Paths) -> impl Iterator<Item = String> {
    [paths.registry_map(), paths.routes_map()]
        .into_iter()
        .filter_map(|path| match std::fs::File::open(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Some(format!("{}: {error}", path.display())),
            _ => None,
        })
}

/// Registrations and routes as they lie on the disk.
pub struct Tables {
    registry: RegistryReader,
    routes: RouteMap,
    buffer: RefCell<Buffer>,
}

impl Tables {
    /// Files that are not there are empty.
    pub fn open(paths: &Paths) -> Tables {
        Tables {
            registry: RegistryReader::open_or_wait(&paths.registry_map()),
            routes: RouteMap::open_or_wait(&paths.routes_map()),
            buffer: RefCell::new(Buffer::new()),
        }
    }
}

impl sps_route::Tables for Tables {
    fn number(&self, number: &Number, out: &mut RouteSet) {
        self.routes.number(number, out);
    }

    fn domain(&self, host: &Host, out: &mut RouteSet) {
        self.routes.domain(host, out);
    }

    fn registered(&self, aor: &[u8], out: &mut Bindings) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
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

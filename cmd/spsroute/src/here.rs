//! What the proxy would route by, put together from configuration and files when no proxy runs.

use sps_conf::{Action, Config, Paths};
use sps_registry::{Buffer, RegistryReader};
use sps_route::{AccessRule, Bindings, Conf, Host, Number, OwnSocket, RouteSet};
use sps_store::RouteMap;
use sps_wire::flow::Transport;
use std::cell::RefCell;
use std::net::{IpAddr, UdpSocket};
use std::time::{SystemTime, UNIX_EPOCH};

/// The configuration of routing. `asked`: an address that may turn out to be one of this machine's, which matters for listeners on
/// all addresses.
pub fn conf(config: &Config, asked: Option<IpAddr>) -> Conf {
    let mut conf = Conf::new(&config.server.domain);
    for domain in &config.server.domains {
        conf = conf.with_domain(domain);
    }
    for listen in &config.listen {
        let transport = match listen.transport {
            sps_conf::Transport::Udp => Transport::Udp,
            sps_conf::Transport::Tcp => Transport::Tcp,
        };
        let own = |host, port| OwnSocket { host, port, transport };
        conf = conf.with_own(own(Host::Addr(listen.address), listen.port));
        if let Some(addr) = asked.filter(|addr| listen.address.is_unspecified() && is_local(*addr)) {
            conf = conf.with_own(own(Host::Addr(addr), listen.port));
        }
        if let Some(advertise) = &listen.advertise {
            let port = advertise.port.unwrap_or(listen.port);
            if let Some(host) = Host::parse(&advertise.host) {
                conf = conf.with_own(own(host, port));
            }
        }
    }
    conf.access = config
        .access
        .iter()
        .map(|access| AccessRule {
            network: access.source.address,
            prefix_len: access.source.prefix,
            allow: access.action == Action::Allow,
        })
        .collect();
    conf.open = config.is_open();
    if config
        .listen
        .iter()
        .all(|listen| listen.transport != sps_conf::Transport::Udp)
    {
        conf.default_transport = Transport::Tcp;
    }
    conf
}

/// Only addresses of this machine can be bound. Port 0: any free one, given back at once.
fn is_local(addr: IpAddr) -> bool {
    UdpSocket::bind((addr, 0)).is_ok()
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
                out.push(binding.contact, binding.q, binding.path(), binding.flow);
            }
        });
    }
}

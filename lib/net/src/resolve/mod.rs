//! Names to destinations (RFC 3263), behind a trait so that tests and later stages can put their own in.
//!
//! [`select`] holds the rules about records and nothing else, [`resolver`] the way through NAPTR, SRV and addresses,
//! [`lookups`] what stands in front of DNS: equal questions asked at once are asked once, answers are kept as long as they say,
//! failures for some seconds, lookups under way are capped. Waiting is bounded everywhere. [`dns`] alone knows the package.

mod answers;
mod dns;
mod lookups;
mod resolver;
mod select;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod toy;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sps_wire::flow::{Destination, Transport};

pub use resolver::Resolver;

/// How names are looked up.
#[derive(Debug, Clone)]
pub struct DnsConf {
    /// Servers to ask; empty: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// How long one try may take.
    pub timeout: Duration,
    /// How often a question is repeated when no server answered.
    pub attempts: usize,
    /// Bound on one lookup: one name and record type, all tries and servers.
    pub lookup_timeout: Duration,
    /// Bound on a whole question: NAPTR, SRV and addresses together.
    pub total_timeout: Duration,
    /// How long a failure is remembered.
    pub failure_cache: Duration,
    /// Most lookups under way at once.
    pub max_in_flight: usize,
    /// What we can send by, in the order we like it.
    pub offers: Vec<Offer>,
}

/// A transport that some listener of ours speaks, and by which address families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The transport.
    pub transport: Transport,
    /// By IPv4.
    pub v4: bool,
    /// By IPv6.
    pub v6: bool,
}

impl Offer {
    /// What listeners of these transports and addresses can do: UDP, TCP, TLS in this order, what no listener speaks left out.
    pub fn of(listeners: impl IntoIterator<Item = (Transport, SocketAddr)>) -> Vec<Offer> {
        let mut offers = [Transport::Udp, Transport::Tcp, Transport::Tls].map(|transport| Offer {
            transport,
            v4: false,
            v6: false,
        });
        for (transport, addr) in listeners {
            for offer in offers.iter_mut().filter(|offer| offer.transport == transport) {
                offer.v4 |= addr.is_ipv4();
                offer.v6 |= addr.is_ipv6();
            }
        }
        offers.into_iter().filter(|offer| offer.v4 || offer.v6).collect()
    }
}

impl Default for DnsConf {
    fn default() -> Self {
        DnsConf {
            servers: Vec::new(),
            timeout: Duration::from_millis(500),
            attempts: 1,
            lookup_timeout: Duration::from_millis(1_500),
            total_timeout: Duration::from_secs(3),
            failure_cache: Duration::from_secs(5),
            max_in_flight: 512,
            offers: [Transport::Udp, Transport::Tcp]
                .map(|transport| Offer {
                    transport,
                    v4: true,
                    v6: true,
                })
                .into(),
        }
    }
}

/// Why a name gave no destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The bytes are no host name.
    #[error("not a host name")]
    BadName,
    /// The name does not exist, or has no address of a family in use.
    #[error("no such host")]
    NotFound,
    /// The domain says that it has no such service (RFC 2782: a target of `.`).
    #[error("the domain offers no SIP")]
    NoService,
    /// The domain is reached by none of the transports that we have.
    #[error("no transport in common")]
    NoTransport,
    /// A server answered with a failure.
    #[error("name server failed")]
    ServerFailed,
    /// Nobody answered in time.
    #[error("no answer from name servers")]
    Timeout,
    /// No server is configured and the hosts file does not know the name.
    #[error("no name server configured")]
    NoServers,
    /// Too many lookups are under way.
    #[error("too many lookups under way")]
    Busy,
}

impl ResolveError {
    /// Whether asking again later may well help: nobody has said that there is nothing.
    pub fn is_passing(self) -> bool {
        match self {
            ResolveError::ServerFailed | ResolveError::Timeout | ResolveError::Busy => true,
            ResolveError::BadName
            | ResolveError::NotFound
            | ResolveError::NoService
            | ResolveError::NoTransport
            | ResolveError::NoServers => false,
        }
    }
}

/// What is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// A name or a numeric address, IPv6 with or without brackets.
    pub host: Arc<str>,
    /// What the URI said; given, no SRV is asked for.
    pub port: Option<u16>,
    /// What the URI said; given, no NAPTR is asked for.
    pub transport: Option<Transport>,
    /// A SIPS URI: nothing but TLS will do.
    pub secure: bool,
    /// Whether NAPTR may be asked for: not for the next hop of a static route, where SRV comes first.
    pub naptr: bool,
}

impl Wanted {
    /// What a SIP URI with nothing but this host wants.
    pub fn new(host: &str) -> Wanted {
        Wanted {
            host: host.into(),
            port: None,
            transport: None,
            secure: false,
            naptr: true,
        }
    }
}

/// Hears each record that was found and each choice that was made, as text for people.
pub type Notes = Rc<dyn Fn(String)>;

/// A question under way. Runs on the worker, owns what it needs.
pub type Resolving = Pin<Box<dyn Future<Output = Result<Vec<Destination>, ResolveError>>>>;

/// Looks names up.
pub trait Resolve {
    /// Destinations in the order they should be tried, never none. What the URI leaves open is found by RFC 3263 §4, weights of SRV
    /// records are drawn anew each time.
    fn resolve(&self, wanted: &Wanted, notes: Option<Notes>) -> Resolving;
}

/// Figures of a resolver; all but `in_flight` only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResolveCounters {
    /// Lookups wanted: one name and one record type each.
    pub lookups: u64,
    /// Lookups that joined one under way.
    pub joined: u64,
    /// Lookups answered from memory.
    pub remembered: u64,
    /// Lookups that failed freshly; that there is no such record is no failure.
    pub failed: u64,
    /// Lookups refused as [`ResolveError::Busy`].
    pub refused: u64,
    /// Domains that offered TLS by NAPTR and then did not any more.
    pub downgrades: u64,
    /// Lookups under way now.
    pub in_flight: u64,
}

/// The destination of a numeric host (IPv6 with or without brackets), `None` if the host is a name. Looks nothing up.
pub fn numeric(host: &str, port: Option<u16>, transport: Option<Transport>) -> Option<Destination> {
    let ip = match host.strip_prefix('[') {
        Some(rest) => IpAddr::V6(rest.strip_suffix(']')?.parse().ok()?),
        None => host.parse().ok()?,
    };
    let transport = transport.unwrap_or(Transport::Udp);
    let port = port.unwrap_or(transport.default_port());
    Some(destination(ip, port, transport, &Arc::from(ip.to_string())))
}

/// For TLS the certificate must bear `name`: what was asked for, not what records made of it (RFC 5922 §4).
fn destination(ip: IpAddr, port: u16, transport: Transport, name: &Arc<str>) -> Destination {
    Destination {
        transport,
        addr: SocketAddr::new(ip, port),
        tls_name: match transport {
            Transport::Tls => Some(Arc::clone(name)),
            Transport::Udp | Transport::Tcp => None,
        },
    }
}

//! Names to destinations (RFC 3263), behind a trait so that tests and later stages can put their own in.
//!
//! A and AAAA for now; NAPTR and SRV fit into the same call. Waiting is bounded, lookups under way are capped, equal
//! questions asked at once are asked once, and a failure is remembered for some seconds.

mod dns;
mod failures;
mod resolver;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod toy;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
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
    /// Bound on a whole lookup, all servers and record types together.
    pub total_timeout: Duration,
    /// How long a failure is remembered.
    pub failure_cache: Duration,
    /// Most lookups under way at once.
    pub max_in_flight: usize,
    /// Use IPv4 addresses.
    pub v4: bool,
    /// Use IPv6 addresses.
    pub v6: bool,
}

impl Default for DnsConf {
    fn default() -> Self {
        DnsConf {
            servers: Vec::new(),
            timeout: Duration::from_millis(500),
            attempts: 1,
            total_timeout: Duration::from_secs(2),
            failure_cache: Duration::from_secs(5),
            max_in_flight: 512,
            v4: true,
            v6: true,
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

/// A lookup under way. Runs on the worker, owns what it needs.
pub type Resolving = Pin<Box<dyn Future<Output = Result<Vec<Destination>, ResolveError>>>>;

/// Looks names up.
pub trait Resolve {
    /// Destinations of `host` in the order they should be tried, never empty.
    ///
    /// `host` is a name or a numeric address, IPv6 with or without brackets. `port` and `transport` are what the URI said, if it did; what
    /// is missing is filled in by the defaults of RFC 3263 §4 (UDP; 5060, or 5061 for TLS).
    fn resolve(&self, host: &str, port: Option<u16>, transport: Option<Transport>) -> Resolving;
}

/// Figures of a resolver; all but `in_flight` only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResolveCounters {
    /// Lookups asked for, numeric hosts excepted.
    pub lookups: u64,
    /// Lookups that joined one under way.
    pub joined: u64,
    /// Lookups answered by a failure remembered.
    pub failures_remembered: u64,
    /// Lookups that failed freshly.
    pub failed: u64,
    /// Lookups refused as [`ResolveError::Busy`].
    pub refused: u64,
    /// Lookups under way now.
    pub in_flight: u64,
}

/// The destination of a numeric host (IPv6 with or without brackets), `None` if the host is a name. Looks nothing up.
pub fn numeric(host: &str, port: Option<u16>, transport: Option<Transport>) -> Option<Destination> {
    let ip = match host.strip_prefix('[') {
        Some(rest) => IpAddr::V6(rest.strip_suffix(']')?.parse().ok()?),
        None => host.parse().ok()?,
    };
    Some(destination(ip, None, port, transport))
}

/// RFC 3263 §4.1 and §4.2: what the URI leaves open is UDP and the transport's port. For TLS the certificate must bear `name`.
fn destination(ip: IpAddr, name: Option<&Arc<str>>, port: Option<u16>, transport: Option<Transport>) -> Destination {
    let transport = transport.unwrap_or(Transport::Udp);
    let addr = SocketAddr::new(ip, port.unwrap_or(transport.default_port()));
    let tls_name = match transport {
        Transport::Tls => Some(name.map_or_else(|| Arc::from(ip.to_string()), Arc::clone)),
        Transport::Udp | Transport::Tcp => None,
    };
    Destination {
        transport,
        addr,
        tls_name,
    }
}

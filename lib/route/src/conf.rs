//! What routing needs to know of the configuration. Frozen; converted at the edge.

use crate::host::Host;
use crate::number::Number;
use sps_wire::flow::Transport;
use sps_wire::uri::{Scheme, Uri, canonical_aor};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// One of our own listening sockets, as it is bound or as it is advertised.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OwnSocket {
    /// An address, or the name that `advertise` gives. An unspecified address (`0.0.0.0`) stands for every loopback
    /// address: add the addresses of the interfaces beside it.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// Its transport.
    pub transport: Transport,
}

/// What a source may do; the first rule that covers it decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    /// First address of the network; an IPv4 network also covers IPv4-mapped IPv6 sources.
    pub network: IpAddr,
    /// How many leading bits count.
    pub prefix_len: u8,
    /// `false`: 403 for everything.
    pub allow: bool,
}

/// What is done with requests that are not for the registrar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// They are forwarded.
    Proxy,
    /// Their senders are told where to go (RFC 3261 §8.3).
    Redirect,
    /// They are refused: there is nothing here but a registrar.
    Registrar,
}

/// The configuration of routing. Make it by [`Conf::new`], add to it, and share it.
#[derive(Debug, Clone)]
pub struct Conf {
    /// Our domains in lower case, the E.164 domain first.
    domains: Vec<Box<str>>,
    /// Those of `domains` that are addresses.
    domain_addrs: Vec<(IpAddr, Box<str>)>,
    own: Vec<OwnSocket>,
    /// Listed sources, first match wins.
    pub access: Vec<AccessRule>,
    /// Sources that no rule covers may reach foreign domains and gateways too: with neither authentication nor access
    /// rules configured, or with `open_relay = true`.
    pub open: bool,
    /// What is done with requests that no binding's own wish decides about.
    pub service: Service,
    /// Whether a binding's wish ([`sps_wire::Handling`]) is obeyed.
    pub caller_preferences: bool,
    /// A user part of digits only, or `+` and digits, is a number even without `user=phone` (but not with `user=ip`).
    pub digits_are_numbers: bool,
    /// What a next hop without a transport of its own is sent by: UDP unless we have no UDP listener (RFC 3263 §4.1).
    pub default_transport: Transport,
    /// Whether we can send by TLS; otherwise a SIPS Request-URI is a scheme we do not understand.
    pub tls: bool,
    /// The most targets of one request.
    pub max_targets: usize,
    /// The most static routes tried for one target.
    pub max_alternates: usize,
    /// How long a question may stay open.
    pub question_timeout: Duration,
    /// How long a destination that failed is tried after all others; zero: not at all.
    pub dead_for: Duration,
    /// The longest that a destination may ask to be left alone by `Retry-After`.
    pub retry_after_max: Duration,
}

impl Conf {
    /// `domain` is the E.164 domain: all `+` numbers at any of our domains are one name space there.
    pub fn new(domain: &str) -> Conf {
        let mut conf = Conf {
            domains: Vec::new(),
            domain_addrs: Vec::new(),
            own: Vec::new(),
            access: Vec::new(),
            open: false,
            service: Service::Proxy,
            caller_preferences: false,
            digits_are_numbers: true,
            default_transport: Transport::Udp,
            tls: false,
            max_targets: 32,
            max_alternates: 8,
            question_timeout: Duration::from_secs(5),
            dead_for: Duration::from_secs(30),
            retry_after_max: Duration::from_secs(300),
        };
        conf.add_domain(domain);
        conf
    }

    /// A further domain of ours.
    #[must_use]
    pub fn with_domain(mut self, domain: &str) -> Conf {
        self.add_domain(domain);
        self
    }

    /// A listening socket, or what it is advertised as.
    #[must_use]
    pub fn with_own(mut self, socket: OwnSocket) -> Conf {
        self.own.push(socket);
        self
    }

    /// The E.164 domain.
    pub fn domain(&self) -> &str {
        &self.domains[0]
    }

    /// Whether a URI's host and port are ours: one of our domains, without a port or with one we listen on; or an
    /// address or advertised name of one of our sockets with its port (the scheme's default if none). A tel URI is ours
    /// if its context is (RFC 3966 §5.1.5). A URI of ours whose maddr is somebody else's is somebody else's (RFC 3261 §16.5).
    pub fn is_ours(&self, uri: &Uri<'_>) -> bool {
        self.is_at_ours(uri) && !self.leads_elsewhere(uri)
    }

    /// The same without a look at maddr, which is no part of an AOR.
    fn is_at_ours(&self, uri: &Uri<'_>) -> bool {
        match uri.scheme {
            Scheme::Tel => match uri.params.get(b"phone-context").flatten() {
                Some(context) if !context.starts_with(b"+") => self.is_domain(context),
                _ => true,
            },
            Scheme::Sip | Scheme::Sips => self.is_our_host(uri),
            Scheme::Other(_) => false,
        }
    }

    /// Whether an maddr sends who uses this URI to somebody else, whatever its host says (RFC 3261 §19.1.1).
    fn leads_elsewhere(&self, uri: &Uri<'_>) -> bool {
        let is_our_maddr = |maddr| {
            let host = sps_wire::uri::Host::parse(maddr);
            host.is_some_and(|host| self.is_our_host(&Uri { host, ..*uri }))
        };
        uri.maddr().is_some_and(|maddr| !is_our_maddr(maddr))
    }

    /// Whether an address is one of our own sockets, by any transport.
    pub fn is_own_socket(&self, addr: SocketAddr) -> bool {
        self.own.iter().any(|own| {
            own.port == addr.port()
                && match &own.host {
                    Host::Addr(ip) if ip.is_unspecified() => canonical(addr.ip()).is_loopback(),
                    Host::Addr(ip) => *ip == canonical(addr.ip()),
                    Host::Name(_) => false,
                }
        })
    }

    /// Appends the registry's key for a URI that is ours; `false`, with nothing appended, if it has no user or is not
    /// ours.
    ///
    /// Whoever writes the registry and whoever reads it must use this one function. A global number becomes
    /// `sip:+NUMBER@E164-DOMAIN`, whatever the domain, scheme and visual separators; any other user keeps its domain,
    /// and where the host is an address or advertised name of ours it is at the E.164 domain. Ports of ours fall away.
    pub fn canonical_aor(&self, uri: &Uri<'_>, out: &mut Vec<u8>) -> bool {
        self.is_at_ours(uri) && self.write_aor(uri, out)
    }

    /// As [`Conf::canonical_aor`], of a URI that is known to be ours.
    pub(crate) fn write_aor(&self, uri: &Uri<'_>, out: &mut Vec<u8>) -> bool {
        if uri.user.is_none_or(<[u8]>::is_empty) {
            return false;
        }
        let start = out.len();
        let mut domain = self.domain_of(uri);
        match self.number(uri) {
            Some(number) => {
                let global = number.is_global();
                out.extend_from_slice(if global { b"sip:+" } else { b"sip:" });
                out.extend_from_slice(number.digits());
                if global {
                    domain = self.domain();
                }
            }
            None => {
                canonical_aor(&Uri { port: None, ..*uri }, out);
                let host_at = out[start..]
                    .iter()
                    .rposition(|byte| *byte == b'@')
                    .unwrap_or(out.len() - start);
                out.truncate(start + host_at);
            }
        }
        out.push(b'@');
        out.extend_from_slice(domain.as_bytes());
        true
    }

    /// The number that a URI's user part is, if it is one: always in a tel URI and with `user=phone`; else if
    /// [`Conf::digits_are_numbers`], it looks like one, and `user=` says nothing else.
    pub fn number(&self, uri: &Uri<'_>) -> Option<Number> {
        let user = uri.user?;
        match uri.scheme {
            Scheme::Tel => {
                let number = Number::parse(user)?;
                match uri.params.get(b"phone-context").flatten() {
                    Some(context) if !number.is_global() && context.starts_with(b"+") => {
                        number.within(Number::parse(context)?)
                    }
                    _ => Some(number),
                }
            }
            Scheme::Sip | Scheme::Sips if uri.is_phone() => Number::parse(user),
            Scheme::Sip | Scheme::Sips if self.digits_are_numbers && !uri.params.has(b"user") => {
                Number::parse_plain(user)
            }
            _ => None,
        }
    }

    /// What the first rule that covers `source` says; `None` if no rule does.
    pub fn access_of(&self, source: IpAddr) -> Option<&AccessRule> {
        self.access.iter().find(|rule| rule.covers(source))
    }

    fn is_our_host(&self, uri: &Uri<'_>) -> bool {
        let port = uri.port.unwrap_or(if uri.scheme == Scheme::Sips { 5061 } else { 5060 });
        match uri.host {
            sps_wire::uri::Host::Name(name) => {
                let named =
                    |own: &OwnSocket| own.port == port && matches!(&own.host, Host::Name(own) if same(own, name));
                (self.is_domain(name) && self.is_our_port(uri.port)) || self.own.iter().any(named)
            }
            _ => {
                let ip = uri.host.ip();
                ip.is_some_and(|ip| self.is_own_socket(SocketAddr::new(ip, port)))
                    || (uri.port.is_none() && self.domain_addrs.iter().any(|(addr, _)| Some(*addr) == ip))
            }
        }
    }

    fn is_our_port(&self, port: Option<u16>) -> bool {
        port.is_none_or(|port| self.own.is_empty() || self.own.iter().any(|own| own.port == port))
    }

    fn is_domain(&self, name: &[u8]) -> bool {
        self.domains.iter().any(|domain| same(domain, name))
    }

    /// The one of our domains that a URI of ours belongs to: the E.164 domain unless its host is another one.
    fn domain_of(&self, uri: &Uri<'_>) -> &str {
        let mut domains = self.domains.iter().map(|domain| &**domain);
        match uri.host {
            sps_wire::uri::Host::Name(name) => domains.find(|domain| same(domain, name)),
            _ => uri
                .host
                .ip()
                .and_then(|ip| self.domain_addrs.iter().find(|(addr, _)| *addr == ip))
                .map(|(_, domain)| &**domain),
        }
        .unwrap_or(self.domain())
    }

    fn add_domain(&mut self, domain: &str) {
        let domain = lower(domain);
        let inside = domain
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(&domain);
        if let Ok(addr) = inside.parse() {
            self.domain_addrs.push((addr, domain.clone()));
        }
        self.domains.push(domain);
    }
}

impl AccessRule {
    /// Whether `source` lies in the network.
    pub fn covers(&self, source: IpAddr) -> bool {
        match (self.network, canonical(source)) {
            (IpAddr::V4(network), IpAddr::V4(source)) => {
                let shift = 32u32.saturating_sub(u32::from(self.prefix_len));
                (u64::from(network.to_bits()) ^ u64::from(source.to_bits())) >> shift == 0
            }
            (IpAddr::V6(network), IpAddr::V6(source)) => {
                let differing = network.to_bits() ^ source.to_bits();
                u32::from(self.prefix_len) <= differing.leading_zeros()
            }
            _ => false,
        }
    }
}

/// An IPv4-mapped IPv6 address is the IPv4 address.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

fn same(ours: &str, name: &[u8]) -> bool {
    ours.as_bytes()
        .eq_ignore_ascii_case(name.strip_suffix(b".").unwrap_or(name))
}

fn lower(domain: &str) -> Box<str> {
    domain.strip_suffix('.').unwrap_or(domain).to_ascii_lowercase().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_covers_its_network_and_nothing_else() {
        for (network, prefix_len, inside, outside) in [
            (
                "192.0.2.128",
                25,
                vec!["192.0.2.128", "192.0.2.255", "::ffff:192.0.2.200"],
                vec!["192.0.2.127", "::1"],
            ),
            ("192.0.2.7", 32, vec!["192.0.2.7"], vec!["192.0.2.6"]),
            ("0.0.0.0", 0, vec!["0.0.0.0", "255.255.255.255"], vec!["2001:db8::1"]),
            (
                "2001:db8::",
                32,
                vec!["2001:db8:ffff::1"],
                vec!["2001:db9::", "192.0.2.1"],
            ),
            ("::", 0, vec!["2001:db8::1"], vec!["192.0.2.1", "::ffff:192.0.2.1"]),
            ("::1", 128, vec!["::1"], vec!["::2"]),
        ] {
            let rule = AccessRule {
                network: network.parse().unwrap(),
                prefix_len,
                allow: true,
            };
            inside
                .iter()
                .for_each(|source| assert!(rule.covers(source.parse().unwrap()), "{network} {source}"));
            outside
                .iter()
                .for_each(|source| assert!(!rule.covers(source.parse().unwrap()), "{network} {source}"));
        }
    }

    #[test]
    fn domains_may_be_addresses() {
        let conf = Conf::new("192.0.2.1").with_domain("[2001:db8::1]");
        let key = |text: &str| {
            let mut key = Vec::new();
            let uri = Uri::parse(text.as_bytes()).unwrap();
            conf.canonical_aor(&uri, &mut key)
                .then(|| String::from_utf8(key).unwrap())
        };
        assert_eq!(key("sip:a@192.0.2.1").as_deref(), Some("sip:a@192.0.2.1"));
        assert_eq!(key("sip:a@[2001:db8:0::1]").as_deref(), Some("sip:a@[2001:db8::1]"));
        assert_eq!(
            key("sip:+1-2@[2001:db8::1];user=phone").as_deref(),
            Some("sip:+12@192.0.2.1")
        );
        assert_eq!(key("sip:a@192.0.2.2"), None);
        assert_eq!(key("sip:192.0.2.1"), None);
    }

    #[test]
    fn a_wildcard_listener_stands_for_loopback() {
        let own = OwnSocket {
            host: Host::parse("0.0.0.0").unwrap(),
            port: 5060,
            transport: Transport::Udp,
        };
        let conf = Conf::new("example.com").with_own(own);
        assert!(conf.is_own_socket("127.0.0.2:5060".parse().unwrap()));
        assert!(!conf.is_own_socket("127.0.0.1:5061".parse().unwrap()));
        assert!(!conf.is_own_socket("192.0.2.1:5060".parse().unwrap()));
    }
}

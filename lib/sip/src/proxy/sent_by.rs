//! The sent-by values we put into our Via, to know our own responses by (RFC 3261 §18.1.2).

use std::net::IpAddr;

use sps_wire::flow::Transport;
use sps_wire::{Host, Uri, Via};

use super::conf::Listener;

/// All values of all configurations since the beginning: what was sent under an earlier one is still answered to its name.
#[derive(Debug, Default)]
pub(super) struct SentBy(Vec<(Place, u16)>);

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Name(Vec<u8>),
    Addr(IpAddr),
}

/// Values kept; many reloads that change `advertise` drop the oldest.
const MOST: usize = 256;

impl SentBy {
    /// Adds what these listeners say.
    pub fn add(&mut self, listeners: &[Listener]) {
        for listener in listeners {
            let text = format!("sip:{}", listener.sent_by);
            let Ok(uri) = Uri::parse(text.as_bytes()) else { continue };
            let place = match uri.host {
                Host::Name(name) => Place::Name(name.to_ascii_lowercase()),
                Host::V4(ip) => Place::Addr(ip.into()),
                Host::V6(ip) => Place::Addr(ip.into()),
            };
            let entry = (place, uri.port.unwrap_or(listener.transport.default_port()));
            if !self.0.contains(&entry) {
                self.0.push(entry);
            }
        }
        let over = self.0.len().saturating_sub(MOST);
        self.0.drain(..over);
    }

    /// Whether a Via is one of ours by its sent-by; a port that is missing is the transport's own.
    pub fn is_ours(&self, via: &Via<'_>) -> bool {
        let transport = Transport::from_bytes(via.transport).unwrap_or(Transport::Udp);
        let port = via.port.unwrap_or(transport.default_port());
        self.0.iter().any(|(place, known)| {
            *known == port
                && match (place, via.host) {
                    (Place::Name(name), Host::Name(other)) => name.eq_ignore_ascii_case(other),
                    (Place::Addr(addr), other) => other.ip() == Some(*addr),
                    (Place::Name(_), Host::V4(_) | Host::V6(_)) => false,
                }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(sent_by: &str) -> Listener {
        Listener {
            transport: Transport::Udp,
            addr: ([0, 0, 0, 0], 5060).into(),
            sent_by: sent_by.to_owned(),
        }
    }

    #[test]
    fn a_via_is_ours_by_host_and_port() {
        let mut known = SentBy::default();
        known.add(&[listener("Proxy.example.com:5060"), listener("[2001:db8::1]:5070")]);
        known.add(&[listener("192.0.2.1:5060")]);
        let ours = |text: &str| known.is_ours(&Via::parse(text.as_bytes()).expect("a Via"));
        assert!(ours("SIP/2.0/UDP proxy.EXAMPLE.com:5060;branch=x"));
        assert!(ours("SIP/2.0/TCP proxy.example.com"));
        assert!(ours("SIP/2.0/UDP [2001:DB8:0::1]:5070"));
        assert!(ours("SIP/2.0/UDP 192.0.2.1"));
        assert!(!ours("SIP/2.0/UDP [2001:db8::1]"));
        assert!(!ours("SIP/2.0/TLS 192.0.2.1"));
        assert!(!ours("SIP/2.0/UDP 192.0.2.2"));
        assert!(!ours("SIP/2.0/UDP other.example.com:5060"));
    }

    #[test]
    fn values_do_not_gather_without_end() {
        let mut known = SentBy::default();
        for port in 1000..2000 {
            known.add(&[listener(&format!("192.0.2.1:{port}"))]);
            known.add(&[listener(&format!("192.0.2.1:{port}"))]);
        }
        assert_eq!(known.0.len(), MOST);
        assert!(known.is_ours(&Via::parse(b"SIP/2.0/UDP 192.0.2.1:1999").expect("a Via")));
    }
}

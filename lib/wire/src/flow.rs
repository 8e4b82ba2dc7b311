//! Where a message came from or goes to: words for the edges, no sockets.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A transport SPS speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[allow(missing_docs)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    /// As in a URI's transport parameter: `udp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }

    /// As in Via: `UDP`.
    pub fn via_str(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        }
    }

    /// Whether it retransmits by itself (§17.1.1.2: then we do not).
    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }

    /// The port when none is given (§18.1.1, §19.1.2).
    pub fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
        }
    }

    /// The transport of that name, in any case.
    pub fn from_bytes(text: &[u8]) -> Option<Transport> {
        [Transport::Udp, Transport::Tcp, Transport::Tls]
            .into_iter()
            .find(|transport| text.eq_ignore_ascii_case(transport.as_str().as_bytes()))
    }
}

/// A path between us and a peer that a message took and another may take back (RFC 5626 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Flow {
    /// Which member of a farm holds the socket.
    pub member: u16,
    /// The transport.
    pub transport: Transport,
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// Which connection, never used again; 0 for UDP.
    pub connection: u64,
}

impl Flow {
    /// Appends the compact binary form: 23 bytes for IPv4, 47 for IPv6.
    ///
    /// One byte tells transport (low four bits) and which ends are IPv6 (bits 4 and 5); then member, local and remote
    /// address with port, connection, all big-endian. IPv6 scope and flow label are not kept.
    pub fn write(&self, out: &mut Vec<u8>) {
        let transport = match self.transport {
            Transport::Udp => 0,
            Transport::Tcp => 1,
            Transport::Tls => 2,
        };
        out.push(transport | u8::from(self.local.is_ipv6()) << 4 | u8::from(self.remote.is_ipv6()) << 5);
        out.extend_from_slice(&self.member.to_be_bytes());
        for end in [self.local, self.remote] {
            match end.ip() {
                IpAddr::V4(addr) => out.extend_from_slice(&addr.octets()),
                IpAddr::V6(addr) => out.extend_from_slice(&addr.octets()),
            }
            out.extend_from_slice(&end.port().to_be_bytes());
        }
        out.extend_from_slice(&self.connection.to_be_bytes());
    }

    /// Reads what [`Flow::write`] wrote, and how many bytes that was.
    pub fn parse(bytes: &[u8]) -> Option<(Flow, usize)> {
        let mut rest = bytes;
        let [head] = take(&mut rest)?;
        let transport = match head & 0x0f {
            0 => Transport::Udp,
            1 => Transport::Tcp,
            2 => Transport::Tls,
            _ => return None,
        };
        if head & 0xc0 != 0 {
            return None;
        }
        let member = u16::from_be_bytes(take(&mut rest)?);
        let local = take_addr(&mut rest, head & 0x10 != 0)?;
        let remote = take_addr(&mut rest, head & 0x20 != 0)?;
        let connection = u64::from_be_bytes(take(&mut rest)?);
        Some((
            Flow {
                member,
                transport,
                local,
                remote,
                connection,
            },
            bytes.len() - rest.len(),
        ))
    }
}

/// Where to send to, after RFC 3263.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Destination {
    /// The transport.
    pub transport: Transport,
    /// Address and port.
    pub addr: SocketAddr,
    /// The name the peer's certificate must bear (RFC 5922), for TLS.
    pub tls_name: Option<Arc<str>>,
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*taken)
}

fn take_addr(rest: &mut &[u8], is_ipv6: bool) -> Option<SocketAddr> {
    let ip: IpAddr = if is_ipv6 {
        take::<16>(rest)?.into()
    } else {
        take::<4>(rest)?.into()
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(take(rest)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_read_as_written() {
        for (local, remote, len) in [
            ("192.0.2.1:5060", "192.0.2.2:65535", 23),
            ("[2001:db8::1]:5060", "[2001:db8::2]:1", 47),
            ("[::]:5060", "192.0.2.2:1", 35),
        ] {
            for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
                let flow = Flow {
                    member: 513,
                    transport,
                    local: local.parse().unwrap(),
                    remote: remote.parse().unwrap(),
                    connection: u64::MAX - 7,
                };
                let mut out = Vec::new();
                flow.write(&mut out);
                assert_eq!(out.len(), len);
                out.push(0);
                assert_eq!(Flow::parse(&out), Some((flow, len)));
                for cut in 0..len {
                    assert_eq!(Flow::parse(&out[..cut]), None);
                }
            }
        }
        assert_eq!(Flow::parse(&[0x0f; 60]), None);
        assert_eq!(Flow::parse(&[0x40; 60]), None);
    }

    #[test]
    fn transports_have_names_in_any_case() {
        assert_eq!(Transport::from_bytes(b"TcP"), Some(Transport::Tcp));
        assert_eq!(Transport::from_bytes(b"sctp"), None);
        assert!(!Transport::Udp.is_reliable() && Transport::Tls.is_reliable());
    }
}

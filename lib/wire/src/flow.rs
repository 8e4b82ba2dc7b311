//! Where a message came from or goes to: words for the edges, no sockets.

use std::net::SocketAddr;
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
    /// Appends the compact binary form: 24 bytes for IPv4, 48 for IPv6.
    pub fn write(&self, out: &mut Vec<u8>) {
        let _ = out;
        unimplemented!()
    }

    /// Reads what [`Flow::write`] wrote, and how many bytes that was.
    pub fn parse(bytes: &[u8]) -> Option<(Flow, usize)> {
        let _ = bytes;
        unimplemented!()
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

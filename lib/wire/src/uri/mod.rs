//! SIP, SIPS and tel URIs (RFC 3261 §19.1, RFC 3966).

mod aor;
mod compare;

pub use aor::canonical_aor;
pub use compare::equal;

use crate::{Malformed, Params};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A URI's scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Scheme<'a> {
    Sip,
    Sips,
    Tel,
    /// Any other, as received.
    Other(&'a [u8]),
}

/// A host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host<'a> {
    /// A name as received, compared without case.
    Name(&'a [u8]),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, without its brackets.
    V6(Ipv6Addr),
}

impl<'a> Host<'a> {
    /// Reads a host that fills the whole text: a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn parse(text: &'a [u8]) -> Option<Host<'a>> {
        let _ = text;
        unimplemented!()
    }

    /// The address, if it is one.
    pub fn ip(self) -> Option<std::net::IpAddr> {
        match self {
            Host::Name(_) => None,
            Host::V4(addr) => Some(addr.into()),
            Host::V6(addr) => Some(addr.into()),
        }
    }

    /// Same address, or same name but for case (RFC 3261 §19.1.4, RFC 5954 §4.2 for IPv6).
    pub fn equals(self, other: Host<'_>) -> bool {
        let _ = other;
        unimplemented!()
    }

    /// Appends it as it stands in a URI: names lower-case, IPv6 in brackets.
    pub fn write(self, out: &mut Vec<u8>) {
        let _ = out;
        unimplemented!()
    }
}

/// A parsed URI; every part is a piece of the text. Copy.
#[derive(Clone, Copy, Debug)]
pub struct Uri<'a> {
    /// The whole.
    pub text: &'a [u8],
    /// What stands before the first colon.
    pub scheme: Scheme<'a>,
    /// SIP: what stands before `@` or its password, escapes kept. tel: the number, visual separators kept. Otherwise none.
    pub user: Option<&'a [u8]>,
    /// SIP: the password; may be empty.
    pub password: Option<&'a [u8]>,
    /// SIP: the host. Otherwise an empty name.
    pub host: Host<'a>,
    /// SIP: the port if given.
    pub port: Option<u16>,
    /// SIP, tel: the parameters.
    pub params: Params<'a>,
    /// SIP: what stands behind `?`, without it; empty if nothing.
    pub headers: &'a [u8],
}

impl<'a> Uri<'a> {
    /// Reads a URI. Of a scheme that is not sip, sips or tel only the scheme is read.
    ///
    /// # Errors
    /// [`Malformed`] with the offset in `text`.
    pub fn parse(text: &'a [u8]) -> Result<Uri<'a>, Malformed> {
        let _ = text;
        unimplemented!()
    }

    /// Whether it is sip or sips.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// The transport parameter's value, as received.
    pub fn transport(&self) -> Option<&'a [u8]> {
        self.params.get(b"transport").flatten()
    }

    /// The maddr parameter's value.
    pub fn maddr(&self) -> Option<&'a [u8]> {
        self.params.get(b"maddr").flatten()
    }

    /// Whether the lr parameter is there: a loose router (§19.1.1).
    pub fn is_loose(&self) -> bool {
        self.params.has(b"lr")
    }

    /// Whether `user=phone` is there: the user part is a telephone number (§19.1.1).
    pub fn is_phone(&self) -> bool {
        self.params.get(b"user").flatten().is_some_and(|value| crate::eq_ignore_case(value, b"phone"))
    }
}

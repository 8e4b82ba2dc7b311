//! Addresses of this machine: what a listener on all addresses listens at.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// All addresses of all interfaces, each once; none if the system does not tell.
pub fn addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    let found: BTreeSet<IpAddr> = interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
                (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
                (None, Some(v6)) => Some(IpAddr::V6(v6.ip())),
                (None, None) => None,
            }
        })
        .collect();
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn loopback_is_among_them() {
        assert!(super::addresses().iter().any(|ip| ip.is_loopback()));
    }
}

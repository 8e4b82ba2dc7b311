//! From the frozen configuration to what the registrar works by.

use std::net::SocketAddr;
use std::time::Duration;

use sps_ipc::parent::Frozen;
use sps_route::{Host, OwnSocket};
use sps_sip::registrar::Conf;
use sps_wire::flow::Transport;
use sps_wire::{Limits, Uri};

/// Everything that a reload may change. Making one cannot fail: the master has checked the configuration.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Number of the configuration it was made of.
    pub number: u64,
    /// What a REGISTER may ask for.
    pub core: Conf,
    pub limits: Limits,
    pub member: u16,
    pub sync_interval: Duration,
    /// Hash of what makes an AOR's key: equal hashes, equal keys.
    pub rules_hash: u64,
    /// Knows which domains are ours, and makes the key as the proxy does.
    domains: sps_route::Conf,
    /// Local addresses that requests came to and that the configuration does not name (a wildcard, a port of the system's choice).
    seen: Vec<SocketAddr>,
}

/// Local addresses that are learnt at most; a machine with more has told us the others by its configuration.
const MAX_SEEN: usize = 256;

impl Setup {
    pub fn of(frozen: &Frozen) -> Setup {
        let conf = &frozen.conf;
        Setup {
            number: frozen.number,
            core: Conf {
                min_expires_s: conf.registrar.min_expires_s,
                max_expires_s: conf.registrar.max_expires_s,
                default_expires_s: conf.registrar.default_expires_s,
                max_contacts: conf.registrar.max_contacts,
                caller_preferences: conf.proxy.caller_preferences,
                path_without_support: conf.registrar.path_without_support,
                host: conf.server.domain.clone(),
            },
            limits: Limits {
                message_len: conf.proxy.max_message_len,
                ..Limits::default()
            },
            member: conf.server.member,
            sync_interval: conf.registrar.sync_interval,
            rules_hash: rules_hash(conf.server.all_domains()),
            domains: conf.routing_as_written(&[]),
            seen: Vec::new(),
        }
    }

    /// Appends the registry's key for a URI; false if it names no user of ours.
    pub fn aor(&self, uri: &Uri<'_>, key: &mut Vec<u8>) -> bool {
        self.domains.canonical_aor(uri, key)
    }

    /// A request came to this address: it is one of ours.
    pub fn learn(&mut self, local: SocketAddr, transport: Transport) {
        if self.seen.contains(&local) || self.seen.len() >= MAX_SEEN {
            return;
        }
        self.seen.push(local);
        if !self.domains.is_own_socket(local) {
            let own = OwnSocket {
                host: Host::Addr(local.ip()),
                port: local.port(),
                transport,
            };
            self.domains = self.domains.clone().with_own(own);
        }
    }
}

/// The first domain and the set of the others decide; changes with this program's idea of a key, too.
fn rules_hash<'a>(mut domains: impl Iterator<Item = &'a str>) -> u64 {
    const RULES: &str = "1";
    let mut text = format!("{RULES} {}", domains.next().unwrap_or_default());
    let mut others: Vec<&str> = domains.collect();
    others.sort_unstable();
    for domain in others {
        text.push(' ');
        text.push_str(domain);
    }
    rapidhash::v3::rapidhash_v3(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_differ_when_the_domains_do() {
        let hash = |domains: &[&'static str]| rules_hash(domains.iter().copied());
        assert_eq!(hash(&["a", "b", "c"]), hash(&["a", "c", "b"]));
        assert_ne!(hash(&["a", "b"]), hash(&["b", "a"]));
        assert_ne!(hash(&["a", "b"]), hash(&["a"]));
        assert_ne!(hash(&["a", "bc"]), hash(&["a", "b", "c"]));
    }
}

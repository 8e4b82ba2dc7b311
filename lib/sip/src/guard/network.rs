//! Networks that the operator bans, found by one binary search.

use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

/// An address and how many of its leading bits count. An IPv4 address mapped into IPv6 counts as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// `None` if there are not so many bits. Bits behind the prefix are cleared.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Network> {
        let address = match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & v4_mask(prefix)?).into()),
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & v6_mask(prefix)?).into()),
        };
        Some(Network { address, prefix })
    }

    /// The network's first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits count.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether `address` lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (first, last) = self.range();
        let at = number(address);
        first <= at && at <= last
    }

    /// First and last address.
    fn range(&self) -> (Number, Number) {
        let first = number(self.address);
        let rest = match self.address {
            IpAddr::V4(_) => u128::from(!v4_mask(self.prefix).unwrap_or(u32::MAX)),
            IpAddr::V6(_) => !v6_mask(self.prefix).unwrap_or(u128::MAX),
        };
        (first, (first.0, first.1 | rest))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

fn v4_mask(prefix: u8) -> Option<u32> {
    (prefix <= 32).then(|| u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0))
}

fn v6_mask(prefix: u8) -> Option<u128> {
    (prefix <= 128).then(|| u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0))
}

/// All addresses in one order: IPv4 first.
type Number = (bool, u128);

fn number(address: IpAddr) -> Number {
    match address.to_canonical() {
        IpAddr::V4(v4) => (false, u128::from(v4.to_bits())),
        IpAddr::V6(v6) => (true, v6.to_bits()),
    }
}

/// A ban as the operator gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperatorBan {
    /// Whom it is about.
    pub network: Network,
    /// When it ends; never, if unset.
    pub until: Option<Instant>,
}

/// The operator's bans.
#[derive(Debug, Default)]
pub(super) struct Denied {
    all: Vec<OperatorBan>,
    hits: Vec<u64>,
    /// First address, last address, place in `all`: those in force, sorted. One that lies in another is left out, so that
    /// none overlap.
    ranges: Vec<(Number, Number, usize)>,
    /// When the next of those in force ends.
    ends_at: Option<Instant>,
}

impl Denied {
    /// Takes over a whole new list. Hits of bans that stay are kept.
    pub fn replace(&mut self, bans: &[OperatorBan], now: Instant) {
        let hits = bans.iter().map(|ban| {
            let before = self.all.iter().position(|old| old.network == ban.network);
            before.map_or(0, |at| self.hits[at])
        });
        self.hits = hits.collect();
        self.all = bans.to_vec();
        self.rebuild(now);
    }

    /// Leaves out what has ended. Gives whether something had.
    pub fn expire(&mut self, now: Instant) -> bool {
        let ended = self.ends_at.is_some_and(|at| at <= now);
        if ended {
            self.rebuild(now);
        }
        ended
    }

    fn rebuild(&mut self, now: Instant) {
        let in_force = |ban: &OperatorBan| ban.until.is_none_or(|until| until > now);
        let living = self.all.iter().enumerate().filter(|(_, ban)| in_force(ban));
        self.ends_at = living.clone().filter_map(|(_, ban)| ban.until).min();
        let mut ranges: Vec<(Number, Number, usize)> = living
            .map(|(at, ban)| {
                let (first, last) = ban.network.range();
                (first, last, at)
            })
            .collect();
        // Wider ones first among those that begin together; networks lie in each other or apart, they never half overlap.
        ranges.sort_by_key(|(first, last, _)| (*first, std::cmp::Reverse(*last)));
        let mut covered: Option<Number> = None;
        ranges.retain(|(_, last, _)| {
            let inside = covered.is_some_and(|end| *last <= end);
            if !inside {
                covered = Some(*last);
            }
            !inside
        });
        self.ranges = ranges;
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub fn covers(&self, address: IpAddr) -> bool {
        self.find(address).is_some()
    }

    /// As [`Self::covers`], and counts.
    pub fn hit(&mut self, address: IpAddr) -> bool {
        match self.find(address) {
            Some(at) => {
                self.hits[at] += 1;
                true
            }
            None => false,
        }
    }

    pub fn hits(&self) -> Vec<(Network, u64)> {
        let networks = self.all.iter().map(|ban| ban.network);
        networks.zip(self.hits.iter().copied()).collect()
    }

    fn find(&self, address: IpAddr) -> Option<usize> {
        if self.ranges.is_empty() {
            return None;
        }
        let number = number(address);
        let after = self.ranges.partition_point(|(first, _, _)| *first <= number);
        let (_, last, at) = self.ranges[after.checked_sub(1)?];
        (number <= last).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn network(text: &str) -> Network {
        let (address, prefix) = text.split_once('/').expect("a prefix");
        Network::new(address.parse().expect("an address"), prefix.parse().expect("a number")).expect("a network")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_network_is_what_its_prefix_says() {
        let net = network("192.0.2.77/24");
        assert_eq!(net.to_string(), "192.0.2.0/24");
        assert!(
            net.contains(ip("192.0.2.0")) && net.contains(ip("192.0.2.255")) && net.contains(ip("::ffff:192.0.2.9"))
        );
        assert!(!net.contains(ip("192.0.3.0")) && !net.contains(ip("::c000:201")));
        assert!(network("::/0").contains(ip("2001:db8::1")) && !network("::/0").contains(ip("192.0.2.1")));
        assert!(network("0.0.0.0/0").contains(ip("203.0.113.1")) && !network("0.0.0.0/0").contains(ip("2001:db8::1")));
        assert!(network("2001:db8::/32").contains(ip("2001:db8:ffff::1")));
        assert_eq!(Network::new(ip("192.0.2.1"), 33), None);
        assert_eq!(Network::new(ip("::1"), 129), None);
    }

    #[test]
    fn bans_within_bans_and_bans_that_end() {
        let start = Instant::now();
        let mut denied = Denied::default();
        let until = |s| Some(start + Duration::from_secs(s));
        let ban = |text, until| OperatorBan {
            network: network(text),
            until,
        };
        denied.replace(
            &[
                ban("10.1.2.0/24", None),
                ban("10.0.0.0/8", until(5)),
                ban("2001:db8::/64", None),
                ban("192.0.2.7/32", until(9)),
            ],
            start,
        );
        assert!(denied.covers(ip("10.1.2.3")) && denied.covers(ip("10.9.9.9")) && denied.covers(ip("192.0.2.7")));
        assert!(
            denied.covers(ip("2001:db8::5")) && !denied.covers(ip("2001:db8:0:1::5")) && !denied.covers(ip("11.0.0.0"))
        );
        assert!(denied.hit(ip("10.1.2.3")));
        assert!(!denied.expire(start + Duration::from_secs(4)));
        assert!(denied.expire(start + Duration::from_secs(5)));
        assert!(denied.covers(ip("10.1.2.3")), "the narrower one goes on");
        assert!(!denied.covers(ip("10.9.9.9")));
        assert!(denied.hit(ip("10.1.2.3")));
        assert_eq!(denied.hits, [1, 1, 0, 0]);
        denied.replace(&[ban("10.1.2.0/24", None)], start);
        assert_eq!(denied.hits, [1], "what stays keeps its hits");
    }
}

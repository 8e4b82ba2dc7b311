//! What routes are compiled to: the keys and values of `routes.map`, and how a lookup probes them.
//!
//! One record holds all routes of one literal prefix (key `n` + digits) or of one domain pattern (key `d` + text), the
//! most specific first, then by priority. A [`Shape`] says which prefix lengths and which numbers of labels exist at
//! all, so that a lookup probes no others. The bytes are our own, yet may be damaged: what does not fit is skipped,
//! never trusted.

use crate::host::Host;
use crate::number::{MAX_DIGITS, Number};
use crate::pattern::{DomainPattern, MAX_LABELS, Selector, Specificity, labels, tail_matches};
use crate::route::{Route, RouteEntry, RouteSet};
use sps_wire::flow::Transport;
use std::fmt;
use std::io::Write;
use std::net::IpAddr;

/// The most routes that may share one literal prefix or one domain: the bound of what one lookup looks at.
/// A record of 64 KiB has room for them with the longest names.
pub const MAX_ROUTES_PER_KEY: usize = 200;

/// Which keys exist: two words beside the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shape {
    /// Bit n: some pattern has a literal prefix of n digits.
    pub prefixes: u64,
    /// Bit 0: some domain by itself. Bits 1 to 62: some `*.domain` whose domain has that many labels. Bit 63: `*`.
    pub domains: u64,
}

impl Shape {
    /// Adds the key of a route.
    pub fn add(&mut self, selector: &Selector) {
        match selector {
            Selector::Number(pattern) => self.prefixes |= 1 << pattern.prefix().len(),
            Selector::Domain(DomainPattern::Exact(_)) => self.domains |= EXACT,
            Selector::Domain(DomainPattern::Below(parent)) => self.domains |= 1 << labels(parent),
            Selector::Domain(DomainPattern::Any) => self.domains |= ANY,
        }
    }
}

const EXACT: u64 = 1;
const ANY: u64 = 1 << 63;

/// The key of the record that a route belongs to.
pub fn key(selector: &Selector) -> Vec<u8> {
    let mut key = Vec::with_capacity(24);
    match selector {
        Selector::Number(pattern) => {
            key.push(b'n');
            key.extend_from_slice(pattern.prefix().as_bytes());
        }
        Selector::Domain(domain) => {
            key.push(b'd');
            key.extend_from_slice(domain.to_string().as_bytes());
        }
    }
    key
}

/// Appends the record of all routes of one key, which are put into order first.
pub fn write(routes: &mut [Route], out: &mut Vec<u8>) {
    routes.sort_by_key(|route| {
        (
            std::cmp::Reverse(specificity(&route.selector)),
            route.priority,
            route.id,
        )
    });
    routes.iter().for_each(|route| write_route(route, out));
}

fn specificity(selector: &Selector) -> Option<Specificity> {
    match selector {
        Selector::Number(pattern) => Some(pattern.specificity()),
        Selector::Domain(_) => None,
    }
}

/// Finds the routes for a number: those of the most specific pattern that matches. `probe` calls its second argument
/// with the record of a key, if there is one.
pub fn find_number(
    shape: Shape,
    number: &Number,
    out: &mut RouteSet,
    mut probe: impl FnMut(&[u8], &mut dyn FnMut(&[u8])),
) {
    let digits = number.digits();
    let mut key = [b'n'; 1 + MAX_DIGITS];
    key[1..=digits.len()].copy_from_slice(digits);
    // Only prefixes no longer than the number, the longest first.
    let mut lengths = shape.prefixes & (u64::MAX >> (63 - digits.len()));
    while lengths != 0 && out.is_empty() {
        let len = lengths.ilog2() as usize;
        lengths &= !(1 << len);
        probe(&key[..=len], &mut |record| {
            let mut best = None;
            for entry in entries(record) {
                // A record is sorted: once one pattern has matched, only equally specific ones are of interest.
                let rank = Specificity::of(len, entry.plus, entry.tail);
                if best.is_some_and(|best| best != rank) {
                    break;
                }
                if (number.is_global() || !entry.plus) && tail_matches(entry.tail, &digits[len..]) {
                    best = Some(rank);
                    out.push(entry.route);
                }
            }
        });
    }
}

/// Finds the routes for a host: its own, else those of the nearest `*.domain`, else those of `*`.
pub fn find_domain(shape: Shape, host: &Host, out: &mut RouteSet, mut probe: impl FnMut(&[u8], &mut dyn FnMut(&[u8]))) {
    let mut look = |key: &mut Vec<u8>, pattern: fmt::Arguments<'_>, out: &mut RouteSet| {
        key.clear();
        key.push(b'd');
        // Writing to a Vec cannot fail.
        let _ = key.write_fmt(pattern);
        probe(key, &mut |record| {
            entries(record).for_each(|entry| out.push(entry.route))
        });
    };
    if shape.domains == 0 {
        return;
    }
    let mut key = Vec::with_capacity(64);
    if shape.domains & EXACT != 0 {
        look(&mut key, format_args!("{host}"), out);
    }
    if let Host::Name(name) = host {
        let mut left = labels(name);
        let mut parent = &**name;
        while let (true, Some((_, above))) = (out.is_empty(), parent.split_once('.')) {
            parent = above;
            left -= 1;
            if left <= MAX_LABELS && shape.domains & (1 << left) != 0 {
                look(&mut key, format_args!("*.{parent}"), out);
            }
        }
    }
    if shape.domains & ANY != 0 && out.is_empty() {
        look(&mut key, format_args!("*"), out);
    }
}

/// One route of a record.
struct Entry<'r> {
    plus: bool,
    tail: &'r [u8],
    route: RouteEntry,
}

/// Length of what follows, `+`, transport, kind of host, id, priority, weight, port (0: none), tail with its length,
/// host, and whatever a later version adds.
fn write_route(route: &Route, out: &mut Vec<u8>) {
    let start = out.len();
    let (plus, tail) = match &route.selector {
        Selector::Number(pattern) => (pattern.is_global(), pattern.tail()),
        Selector::Domain(_) => (false, ""),
    };
    let transport = route.transport.map_or(0, |transport| match transport {
        Transport::Udp => 1,
        Transport::Tcp => 2,
        Transport::Tls => 3,
    });
    let kind = match &route.hop.host {
        Host::Name(_) => 0,
        Host::Addr(IpAddr::V4(_)) => 4,
        Host::Addr(IpAddr::V6(_)) => 6,
    };
    out.extend_from_slice(&[0, 0, u8::from(plus), transport, kind]);
    out.extend_from_slice(&route.id.to_le_bytes());
    for word in [route.priority, route.weight, route.hop.port.unwrap_or(0)] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    // Both lengths were checked when the texts were parsed: 33 and 253 at most.
    out.push(tail.len() as u8);
    out.extend_from_slice(tail.as_bytes());
    match &route.hop.host {
        Host::Name(name) => {
            out.push(name.len() as u8);
            out.extend_from_slice(name.as_bytes());
        }
        Host::Addr(IpAddr::V4(addr)) => out.extend_from_slice(&addr.octets()),
        Host::Addr(IpAddr::V6(addr)) => out.extend_from_slice(&addr.octets()),
    }
    let len = (out.len() - start - 2) as u16;
    out[start..start + 2].copy_from_slice(&len.to_le_bytes());
}

/// The routes of a record, in their order; stops at the first byte that makes no sense.
fn entries(record: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut rest = record;
    std::iter::from_fn(move || {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let (body, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        rest = after;
        read_entry(body)
    })
}

fn read_entry(body: &[u8]) -> Option<Entry<'_>> {
    let (&[plus, transport, kind], body) = body.split_first_chunk::<3>()?;
    let (id, body) = body.split_first_chunk::<8>()?;
    let (&[p0, p1, w0, w1, o0, o1], body) = body.split_first_chunk::<6>()?;
    let (tail_len, body) = body.split_first()?;
    let (tail, body) = body.split_at_checked(usize::from(*tail_len))?;
    let host = match kind {
        4 => Host::Addr(IpAddr::from(*body.first_chunk::<4>()?)),
        6 => Host::Addr(IpAddr::from(*body.first_chunk::<16>()?)),
        _ => {
            let (len, body) = body.split_first()?;
            Host::Name(std::str::from_utf8(body.get(..usize::from(*len))?).ok()?.into())
        }
    };
    let route = RouteEntry {
        id: u64::from_le_bytes(*id),
        host,
        port: Some(u16::from_le_bytes([o0, o1])).filter(|port| *port != 0),
        transport: [Transport::Udp, Transport::Tcp, Transport::Tls]
            .get(usize::from(transport).wrapping_sub(1))
            .copied(),
        priority: u16::from_le_bytes([p0, p1]),
        weight: u16::from_le_bytes([w0, w1]),
    };
    Some(Entry {
        plus: plus != 0,
        tail,
        route,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attributes, DomainPattern, HopAddress, Pattern};
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn route(id: u64, selector: Selector, hop: &str) -> Route {
        let hop: HopAddress = hop.parse().unwrap();
        let transport = [None, Some(Transport::Tcp)][id as usize % 2];
        let (priority, weight) = (id as u16 % 3, id as u16);
        Route {
            id,
            selector,
            hop,
            transport,
            priority,
            weight,
            attributes: Attributes::new(),
        }
    }

    fn compile(routes: &[Route]) -> (Shape, HashMap<Vec<u8>, Vec<u8>>) {
        let mut shape = Shape::default();
        let mut groups: HashMap<Vec<u8>, Vec<Route>> = HashMap::new();
        for route in routes {
            shape.add(&route.selector);
            groups.entry(key(&route.selector)).or_default().push(route.clone());
        }
        let record = |mut group: Vec<Route>| {
            let mut value = Vec::new();
            write(&mut group, &mut value);
            value
        };
        (
            shape,
            groups.into_iter().map(|(key, group)| (key, record(group))).collect(),
        )
    }

    fn ids(set: &RouteSet) -> Vec<u64> {
        let mut ids: Vec<u64> = set.entries().iter().map(|entry| entry.id).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn what_is_written_is_read() {
        for hop in ["203.0.113.1:5062", "[2001:db8::1]", "gw.example.org:65535", "gw"] {
            let wanted = route(u64::MAX, Selector::Number("+50.*".parse().unwrap()), hop);
            let mut record = Vec::new();
            write(&mut [wanted.clone()], &mut record);
            let read: Vec<Entry<'_>> = entries(&record).collect();
            assert_eq!(read.len(), 1);
            assert_eq!((read[0].plus, read[0].tail), (true, &b".*"[..]));
            let found = &read[0].route;
            assert_eq!((&found.host, found.port), (&wanted.hop.host, wanted.hop.port));
            assert_eq!((found.id, found.transport), (wanted.id, wanted.transport));
            assert_eq!((found.priority, found.weight), (wanted.priority, wanted.weight));
        }
    }

    #[test]
    fn a_full_record_fits_the_table() {
        let label = "a".repeat(60);
        let name = format!("{label}.{label}.{label}.{label}");
        let pattern: Pattern = format!("+{}*", ".".repeat(MAX_DIGITS)).parse().unwrap();
        let mut routes: Vec<Route> = (0..MAX_ROUTES_PER_KEY as u64)
            .map(|id| route(id, Selector::Number(pattern.clone()), &name))
            .collect();
        let mut record = Vec::new();
        write(&mut routes, &mut record);
        assert!(record.len() < 65_536 - 64, "{}", record.len());
        assert_eq!(entries(&record).count(), MAX_ROUTES_PER_KEY);
    }

    fn patterns() -> impl Strategy<Value = Pattern> {
        "\\+?[1-3.]{0,4}\\*?".prop_filter_map("is a pattern", |text| text.parse().ok())
    }

    fn domains() -> impl Strategy<Value = DomainPattern> {
        "(\\*\\.)?([ab]\\.){0,2}[ab]|\\*|10\\.0\\.0\\.[12]".prop_filter_map("is a domain", |text| text.parse().ok())
    }

    proptest! {
        /// Against a matcher that looks at every route.
        #[test]
        fn numbers_are_found_as_by_looking_at_all(
            patterns in prop::collection::vec(patterns(), 0..40),
            number in "\\+?[1-3]{1,5}",
        ) {
            let routes: Vec<Route> =
                (0..).zip(patterns).map(|(id, pattern)| route(id, Selector::Number(pattern), "10.0.0.1")).collect();
            let number = Number::parse(number.as_bytes()).unwrap();
            let ranked = || routes.iter().filter_map(|route| match &route.selector {
                Selector::Number(pattern) if pattern.matches(&number) => Some((pattern.specificity(), route.id)),
                _ => None,
            });
            let best = ranked().map(|(rank, _)| rank).max();
            let wanted: Vec<u64> = ranked().filter(|(rank, _)| Some(*rank) == best).map(|(_, id)| id).collect();
            let (shape, records) = compile(&routes);
            let mut found = RouteSet::default();
            let mut probes = 0;
            find_number(shape, &number, &mut found, |key, each| {
                probes += 1;
                records.get(key).into_iter().for_each(|record| each(record));
            });
            prop_assert_eq!(ids(&found), wanted);
            prop_assert!(probes <= shape.prefixes.count_ones());
        }

        #[test]
        fn domains_are_found_as_by_looking_at_all(
            patterns in prop::collection::vec(domains(), 0..20),
            host in "([ab]\\.){0,3}[ab]|10\\.0\\.0\\.[123]",
        ) {
            let routes: Vec<Route> =
                (0..).zip(patterns).map(|(id, domain)| route(id, Selector::Domain(domain), "gw.example.org")).collect();
            let host = Host::parse(&host).unwrap();
            let ranked = || routes.iter().filter_map(|route| match &route.selector {
                Selector::Domain(domain) if domain.matches(&host) => Some((domain.specificity(), route.id)),
                _ => None,
            });
            let best = ranked().map(|(rank, _)| rank).max();
            let wanted: Vec<u64> = ranked().filter(|(rank, _)| Some(*rank) == best).map(|(_, id)| id).collect();
            let (shape, records) = compile(&routes);
            let mut found = RouteSet::default();
            find_domain(shape, &host, &mut found, |key, each| {
                records.get(key).into_iter().for_each(|record| each(record));
            });
            prop_assert_eq!(ids(&found), wanted);
        }

        #[test]
        fn damaged_records_are_survived(record in prop::collection::vec(any::<u8>(), 0..200), digits in "[0-9]{1,32}") {
            let number = Number::parse(digits.as_bytes()).unwrap();
            let all = Shape { prefixes: u64::MAX, domains: u64::MAX };
            find_number(all, &number, &mut RouteSet::default(), |_, each| each(&record));
            let host = Host::parse("a.b.c").unwrap();
            find_domain(all, &host, &mut RouteSet::default(), |_, each| each(&record));
        }
    }
}

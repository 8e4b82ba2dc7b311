//! What records mean (RFC 3263 §4.1 and §4.2, RFC 2782, RFC 3403): pure rules, no lookups.

use std::sync::Arc;

use sps_wire::flow::Transport;

use super::{Offer, Wanted};

/// One NAPTR record. Its regular expression is none of our business: RFC 3263 §4.1 has it empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Naptr {
    pub order: u16,
    pub preference: u16,
    pub flags: Box<[u8]>,
    pub services: Box<[u8]>,
    /// Absolute, without the trailing dot; empty for the root.
    pub replacement: Arc<str>,
}

/// One SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Srv {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    /// Absolute, without the trailing dot; empty for the root.
    pub target: Arc<str>,
}

/// A set of SRV records to ask for, and what is spoken to what they name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub transport: Transport,
    pub name: String,
}

/// What NAPTR records gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Best first.
    pub services: Vec<Service>,
    /// The domain speaks SIP and says by what, whether we have that or not.
    pub speaks_sip: bool,
    /// TLS is among what it says.
    pub has_tls: bool,
}

/// RFC 3263 §4.1: the services that we can use, in the domain's order (RFC 3403 §4.1: order, then preference).
///
/// A SIPS URI takes only "SIPS" services, a SIP URI those too if we have TLS. Records that are not terminal by SRV (flag "s") or
/// that lead to the root are none of this application's.
pub(super) fn choose(records: &[Naptr], wanted: &Wanted, offers: &[Offer]) -> Chosen {
    let mut ours: Vec<(&Naptr, Transport)> = Vec::new();
    let (mut speaks_sip, mut has_tls) = (false, false);
    for record in records.iter().take(MAX_RECORDS) {
        if !record.flags.eq_ignore_ascii_case(b"s") || record.replacement.is_empty() {
            continue;
        }
        let Some(transport) = service_transport(&record.services) else {
            continue;
        };
        speaks_sip = true;
        let Some(transport) = transport else { continue };
        has_tls |= transport == Transport::Tls;
        if (transport == Transport::Tls || !wanted.secure) && offers.iter().any(|offer| offer.transport == transport) {
            ours.push((record, transport));
        }
    }
    ours.sort_by_key(|(record, _)| (record.order, record.preference));
    let mut services: Vec<Service> = Vec::new();
    for (record, transport) in ours {
        let service = Service {
            transport,
            name: record.replacement.to_string(),
        };
        if services.len() < MAX_SERVICES && !services.contains(&service) {
            services.push(service);
        }
    }
    Chosen {
        services,
        speaks_sip,
        has_tls,
    }
}

/// `None`: no SIP at all. `Some(None)`: SIP by something we do not know (SCTP, WebSocket, or nonsense such as TLS over UDP).
fn service_transport(services: &[u8]) -> Option<Option<Transport>> {
    let is = |name: &[u8]| services.eq_ignore_ascii_case(name);
    if is(b"SIP+D2U") {
        Some(Some(Transport::Udp))
    } else if is(b"SIP+D2T") {
        Some(Some(Transport::Tcp))
    } else if is(b"SIPS+D2T") {
        Some(Some(Transport::Tls))
    } else {
        let starts = |prefix: &[u8]| {
            services
                .get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        (starts(b"SIP+") || starts(b"SIPS+")).then_some(None)
    }
}

/// RFC 3263 §4.1 and §4.2 where no NAPTR says otherwise: the transport asked for, else each one we have in our order; a SIPS URI
/// has only TLS.
pub(super) fn services(host: &str, wanted: &Wanted, offers: &[Offer]) -> Vec<Service> {
    let asked = if wanted.secure {
        Some(Transport::Tls)
    } else {
        wanted.transport
    };
    let ours = offers.iter().map(|offer| offer.transport);
    let service = |transport: Transport| {
        let label = match transport {
            Transport::Udp => "_sip._udp",
            Transport::Tcp => "_sip._tcp",
            Transport::Tls => "_sips._tcp",
        };
        Service {
            transport,
            name: format!("{label}.{host}"),
        }
    };
    ours.filter(|ours| asked.is_none_or(|asked| asked == *ours))
        .map(service)
        .collect()
}

/// RFC 3263 §4.1 for a name that has neither NAPTR nor SRV: TLS for SIPS, what was asked for, else UDP or what we have.
pub(super) fn last_resort(wanted: &Wanted, offers: &[Offer]) -> Option<Transport> {
    let asked = if wanted.secure {
        Some(Transport::Tls)
    } else {
        wanted.transport
    };
    let mut ours = offers.iter().map(|offer| offer.transport);
    match asked {
        Some(asked) => ours.find(|ours| *ours == asked),
        None => ours.next(),
    }
}

/// RFC 2782: by priority, and within one by weight, drawn anew at each call.
///
/// Records of weight 0 stand first in the running sum, so that they are drawn now and then even beside others; among themselves
/// the first of them would always win, hence they are shuffled.
pub(super) fn arrange(records: &[Srv], random: &mut dyn FnMut() -> u64) -> Vec<Srv> {
    let mut left: Vec<&Srv> = records.iter().take(MAX_RECORDS).collect();
    for at in (1..left.len()).rev() {
        left.swap(at, below(random, at as u64 + 1) as usize);
    }
    left.sort_by_key(|srv| (srv.priority, srv.weight != 0));
    let mut arranged = Vec::with_capacity(left.len());
    while let Some(priority) = left.first().map(|srv| srv.priority) {
        let group = left.iter().take_while(|srv| srv.priority == priority).count();
        let sum: u64 = left[..group].iter().map(|srv| u64::from(srv.weight)).sum();
        let drawn = below(random, sum + 1);
        let mut running = 0;
        let at = left[..group].iter().position(|srv| {
            running += u64::from(srv.weight);
            running >= drawn
        });
        arranged.push(left.remove(at.unwrap_or(0)).clone());
    }
    arranged
}

/// A number below `bound`, every one as likely: the high half of a product, which leaves less than 2^-40 of skew here.
fn below(random: &mut dyn FnMut() -> u64, bound: u64) -> u64 {
    ((u128::from(random()) * u128::from(bound)) >> 64) as u64
}

/// Records of one answer that are looked at.
const MAX_RECORDS: usize = 64;
/// SRV sets asked for in one question.
const MAX_SERVICES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn naptr(order: u16, preference: u16, flags: &str, services: &str, replacement: &str) -> Naptr {
        Naptr {
            order,
            preference,
            flags: flags.as_bytes().into(),
            services: services.as_bytes().into(),
            replacement: replacement.into(),
        }
    }

    fn srv(priority: u16, weight: u16, target: &str) -> Srv {
        Srv {
            priority,
            weight,
            port: 5060,
            target: target.into(),
        }
    }

    fn offers(transports: &[Transport]) -> Vec<Offer> {
        transports
            .iter()
            .map(|transport| Offer {
                transport: *transport,
                v4: true,
                v6: true,
            })
            .collect()
    }

    const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

    /// Another xorshift than the proxy's: this one is only for the tests here.
    fn dice() -> impl FnMut() -> u64 {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }
    }

    fn names(chosen: &Chosen) -> Vec<&str> {
        chosen.services.iter().map(|service| &*service.name).collect()
    }

    /// RFC 3263 §4.1: the example of that section, for clients of different means.
    #[test]
    fn the_domains_preference_decides_among_what_we_have() {
        let records = [
            naptr(100, 50, "s", "SIP+D2U", "_sip._udp.example.com"),
            naptr(50, 50, "s", "SIPS+D2T", "_sips._tcp.example.com"),
            naptr(90, 50, "S", "sip+d2t", "_sip._tcp.example.com"),
        ];
        let wanted = Wanted::new("example.com");
        let chosen = |transports: &[Transport]| choose(&records, &wanted, &offers(transports));
        assert_eq!(
            names(&chosen(&ALL)),
            [
                "_sips._tcp.example.com",
                "_sip._tcp.example.com",
                "_sip._udp.example.com"
            ]
        );
        assert_eq!(
            names(&chosen(&ALL[..2])),
            ["_sip._tcp.example.com", "_sip._udp.example.com"]
        );
        assert_eq!(names(&chosen(&ALL[..1])), ["_sip._udp.example.com"]);
        let nothing = chosen(&[]);
        assert!(nothing.services.is_empty() && nothing.speaks_sip);
    }

    /// RFC 3263 §4.1
    #[test]
    fn a_sips_uri_discards_what_is_not_sips() {
        let records = [
            naptr(1, 1, "s", "SIP+D2U", "_sip._udp.example.com"),
            naptr(2, 1, "s", "SIPS+D2T", "_sips._tcp.example.com"),
        ];
        let wanted = Wanted {
            secure: true,
            ..Wanted::new("example.com")
        };
        assert_eq!(
            names(&choose(&records, &wanted, &offers(&ALL))),
            ["_sips._tcp.example.com"]
        );
        let without_tls = choose(&records, &wanted, &offers(&ALL[..2]));
        assert!(without_tls.services.is_empty() && without_tls.speaks_sip);
    }

    /// RFC 3263 §4.1 and RFC 3403 §4.1
    #[test]
    fn records_of_other_applications_and_broken_ones_are_left_aside() {
        let records = [
            naptr(1, 1, "u", "E2U+sip", ""),
            naptr(1, 2, "u", "SIP+D2U", "_sip._udp.example.com"),
            naptr(1, 3, "", "SIP+D2U", "_sip._udp.example.com"),
            naptr(1, 4, "s", "SIP+D2U", ""),
            naptr(1, 5, "s", "AAA+D2T", "_diameter._tcp.example.com"),
        ];
        let wanted = Wanted::new("example.com");
        let chosen = choose(&records, &wanted, &offers(&ALL));
        assert!(chosen.services.is_empty() && !chosen.speaks_sip, "{chosen:?}");
        let records = [
            naptr(1, 1, "s", "SIPS+D2U", "_sips._udp.example.com"),
            naptr(1, 2, "s", "SIP+D2S", "_sip._sctp.example.com"),
        ];
        let chosen = choose(&records, &wanted, &offers(&ALL));
        assert!(chosen.services.is_empty() && chosen.speaks_sip, "{chosen:?}");
    }

    #[test]
    fn order_comes_before_preference_and_doubles_fall_away() {
        let records = [
            naptr(20, 1, "s", "SIP+D2U", "_sip._udp.late.example"),
            naptr(10, 9, "s", "SIP+D2T", "_sip._tcp.second.example"),
            naptr(10, 1, "s", "SIP+D2T", "_sip._tcp.first.example"),
            naptr(10, 2, "s", "SIP+D2T", "_sip._tcp.first.example"),
        ];
        assert_eq!(
            names(&choose(&records, &Wanted::new("example.com"), &offers(&ALL))),
            [
                "_sip._tcp.first.example",
                "_sip._tcp.second.example",
                "_sip._udp.late.example"
            ]
        );
    }

    /// RFC 3263 §4.1 and §4.2
    #[test]
    fn without_naptr_each_transport_we_have_is_asked_for() {
        let names = |wanted: &Wanted, transports: &[Transport]| -> Vec<String> {
            services("example.com", wanted, &offers(transports))
                .into_iter()
                .map(|service| service.name)
                .collect()
        };
        let plain = Wanted::new("example.com");
        assert_eq!(
            names(&plain, &ALL),
            [
                "_sip._udp.example.com",
                "_sip._tcp.example.com",
                "_sips._tcp.example.com"
            ]
        );
        let secure = Wanted {
            secure: true,
            ..plain.clone()
        };
        assert_eq!(names(&secure, &ALL), ["_sips._tcp.example.com"]);
        assert!(names(&secure, &ALL[..2]).is_empty());
        let tcp = Wanted {
            transport: Some(Transport::Tcp),
            ..plain.clone()
        };
        assert_eq!(names(&tcp, &ALL), ["_sip._tcp.example.com"]);
        let tls = Wanted {
            transport: Some(Transport::Tls),
            ..plain
        };
        assert_eq!(names(&tls, &ALL), ["_sips._tcp.example.com"]);
        assert_eq!(last_resort(&tls, &offers(&ALL)), Some(Transport::Tls));
        assert_eq!(last_resort(&tls, &offers(&ALL[..2])), None);
        assert_eq!(last_resort(&secure, &offers(&ALL)), Some(Transport::Tls));
        assert_eq!(
            last_resort(&Wanted::new("a"), &offers(&ALL[1..])),
            Some(Transport::Tcp),
            "we have no UDP"
        );
    }

    /// How often each target came first in so many draws.
    fn firsts(records: &[Srv], draws: usize) -> Vec<usize> {
        let mut random = dice();
        let mut counts = vec![0; records.len()];
        for _ in 0..draws {
            let first = arrange(records, &mut random).remove(0);
            let at = records.iter().position(|srv| srv.target == first.target);
            counts[at.expect("one of them")] += 1;
        }
        counts
    }

    const DRAWS: usize = 10_000;

    /// RFC 2782: drawn in proportion to the weights. Bounds are five standard deviations.
    #[test]
    fn weights_over_ten_thousand_draws() {
        let records = [srv(1, 60, "a"), srv(1, 30, "b"), srv(1, 10, "c"), srv(2, 1000, "d")];
        let counts = firsts(&records, DRAWS);
        // The drawn number runs from 0 to 100: whoever stands first in the running sum has one chance in 101 more.
        for (count, weight) in counts.iter().zip([60.0, 30.0, 10.0]) {
            let expected = DRAWS as f64 * (weight + 1.0 / 3.0) / 101.0;
            let deviation = (expected * (1.0 - expected / DRAWS as f64)).sqrt();
            assert!(
                (*count as f64 - expected).abs() < 5.0 * deviation,
                "{counts:?}, weight {weight}"
            );
        }
        assert_eq!(counts[3], 0, "a later priority never comes first");
    }

    /// RFC 2782: weight 0 has a very small chance beside others, and an even one among its like.
    #[test]
    fn weight_zero_is_drawn_now_and_then_and_evenly_among_its_like() {
        let counts = firsts(&[srv(1, 0, "a"), srv(1, 99, "b")], DRAWS);
        // One chance in a hundred: 100 of 10,000, five deviations are 50.
        assert!((50..=150).contains(&counts[0]), "{counts:?}");
        let counts = firsts(&[srv(1, 0, "a"), srv(1, 0, "b"), srv(1, 0, "c"), srv(1, 0, "d")], DRAWS);
        // 2,500 each; the deviation is 43.
        assert!(counts.iter().all(|count| (2_284..=2_716).contains(count)), "{counts:?}");
    }

    /// RFC 2782
    #[test]
    fn every_record_stands_once_and_priorities_in_order() {
        let records = [
            srv(20, 5, "d"),
            srv(10, 0, "a"),
            srv(10, 7, "b"),
            srv(30, 0, "e"),
            srv(20, 65_535, "c"),
        ];
        let mut random = dice();
        for _ in 0..100 {
            let arranged = arrange(&records, &mut random);
            let priorities: Vec<u16> = arranged.iter().map(|srv| srv.priority).collect();
            assert_eq!(priorities, [10, 10, 20, 20, 30]);
            let mut targets: Vec<&str> = arranged.iter().map(|srv| &*srv.target).collect();
            targets.sort_unstable();
            assert_eq!(targets, ["a", "b", "c", "d", "e"]);
        }
        let most = vec![srv(1, 65_535, "x"); 1_000];
        assert_eq!(arrange(&most, &mut random).len(), MAX_RECORDS);
        assert!(arrange(&[], &mut random).is_empty());
    }
}

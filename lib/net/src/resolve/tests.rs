//! The resolver against a toy name server and against a source of records held in the hand.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use sps_wire::flow::Transport;
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use super::dns::{Answer, Found, LookUp, Looking};
use super::lookups::Kind;
use super::toy::{Mode, Toy};
use super::{DnsConf, Offer, Resolve, ResolveError, Resolver, Wanted, numeric};

const LONG: Duration = Duration::from_secs(20);

async fn local<T>(test: impl Future<Output = T>) -> T {
    timeout(LONG, LocalSet::new().run_until(test)).await.unwrap()
}

fn conf(toy: &Toy) -> DnsConf {
    DnsConf {
        servers: vec![toy.addr],
        timeout: Duration::from_millis(200),
        attempts: 0,
        lookup_timeout: Duration::from_millis(300),
        ..DnsConf::default()
    }
}

/// A conf that offers these transports by both families.
fn offering(conf: DnsConf, transports: &[Transport]) -> DnsConf {
    let offers = transports
        .iter()
        .map(|transport| Offer {
            transport: *transport,
            v4: true,
            v6: true,
        })
        .collect();
    DnsConf { offers, ..conf }
}

const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

/// A generator that always draws the smallest number: weights play no part.
fn resolver(conf: &DnsConf) -> Resolver {
    Resolver::new(conf, || 0)
}

fn wanted(host: &str, port: Option<u16>, transport: Option<Transport>) -> Wanted {
    Wanted {
        port,
        transport,
        ..Wanted::new(host)
    }
}

fn at_port(host: &str) -> Wanted {
    wanted(host, Some(5070), None)
}

fn secure(host: &str) -> Wanted {
    Wanted {
        secure: true,
        ..Wanted::new(host)
    }
}

/// Destinations as `addr/transport`.
async fn found(resolver: &Resolver, wanted: &Wanted) -> Result<Vec<String>, ResolveError> {
    let found = resolver.resolve(wanted, None).await?;
    let text = |to: &sps_wire::flow::Destination| format!("{}/{}", to.addr, to.transport.as_str());
    Ok(found.iter().map(text).collect())
}

/// RFC 3263 §4.1, §4.2
#[tokio::test]
async fn numeric_hosts_are_not_looked_up() {
    local(async {
        let resolver = resolver(&DnsConf::default());
        for (wanted, expected) in [
            (wanted("192.0.2.1", None, None), "192.0.2.1:5060/udp"),
            (
                wanted("192.0.2.1", Some(5070), Some(Transport::Tcp)),
                "192.0.2.1:5070/tcp",
            ),
            (
                wanted("[2001:db8::1]", None, Some(Transport::Tls)),
                "[2001:db8::1]:5061/tls",
            ),
            (wanted("2001:db8::1", None, None), "[2001:db8::1]:5060/udp"),
            (secure("192.0.2.1"), "192.0.2.1:5061/tls"),
        ] {
            assert_eq!(found(&resolver, &wanted).await.unwrap(), [expected]);
        }
        assert_eq!(resolver.counters().lookups, 0);
        assert_eq!(numeric("[192.0.2.1]", None, None), None);
        assert_eq!(numeric("example.com", None, None), None);
    })
    .await;
}

fn full_zone(toy: &Toy) {
    toy.naptr("example.com", "50 50 s SIPS+D2T _sips._tcp.example.com");
    toy.naptr("example.com", "90 50 s SIP+D2T _sip._tcp.example.com");
    toy.naptr("example.com", "100 50 s SIP+D2U _sip._udp.farm.example");
    toy.srv("_sips._tcp.example.com", "1 0 5071 a.example.com");
    toy.srv("_sip._tcp.example.com", "1 0 5072 a.example.com");
    toy.srv("_sip._tcp.example.com", "2 0 5073 b.example.com");
    toy.srv("_sip._udp.farm.example", "1 0 5074 b.example.com");
    toy.add("a.example.com", &["192.0.2.1"]);
    toy.add("b.example.com", &["192.0.2.2", "2001:db8::2"]);
    // Where nobody should be led who follows the records.
    toy.add("example.com", &["192.0.2.99"]);
}

/// RFC 3263 §4.1: NAPTR, its SRV, their addresses; the transports we have decide.
#[tokio::test]
async fn naptr_leads_to_srv_leads_to_addresses() {
    local(async {
        let toy = Toy::start().await;
        full_zone(&toy);
        let all = resolver(&offering(conf(&toy), &ALL));
        let everything = [
            "192.0.2.1:5071/tls",
            "192.0.2.1:5072/tcp",
            "192.0.2.2:5073/tcp",
            "[2001:db8::2]:5073/tcp",
            "192.0.2.2:5074/udp",
            "[2001:db8::2]:5074/udp",
        ];
        assert_eq!(found(&all, &Wanted::new("example.com")).await.unwrap(), everything);
        let tls = all.resolve(&secure("Example.com."), None).await.unwrap();
        assert_eq!(tls.len(), 1);
        // RFC 5922 §4: the certificate is for who was asked for.
        assert_eq!(tls[0].tls_name.as_deref(), Some("example.com"));

        let no_tls = resolver(&offering(conf(&toy), &ALL[..2]));
        assert_eq!(
            found(&no_tls, &Wanted::new("example.com")).await.unwrap(),
            everything[1..]
        );
        assert_eq!(
            found(&no_tls, &secure("example.com")).await,
            Err(ResolveError::NoTransport)
        );
        let udp = resolver(&offering(conf(&toy), &ALL[..1]));
        assert_eq!(found(&udp, &Wanted::new("example.com")).await.unwrap(), everything[4..]);
    })
    .await;
}

/// RFC 3263 §4.1, §4.2: what each part of the URI leaves to be asked.
#[tokio::test]
async fn each_shortcut_asks_for_no_more_than_it_must() {
    local(async {
        let toy = Toy::start().await;
        full_zone(&toy);
        let resolver = resolver(&DnsConf {
            offers: Offer::of([
                (Transport::Udp, "127.0.0.1:5060".parse().unwrap()),
                (Transport::Tcp, "127.0.0.1:5060".parse().unwrap()),
            ]),
            ..conf(&toy)
        });
        let route = Wanted {
            naptr: false,
            ..Wanted::new("route.example.com")
        };
        toy.srv("_sip._udp.route.example.com", "1 0 5080 a.example.com");
        toy.srv("_sip._tcp.tcp.example.com", "1 0 5081 a.example.com");
        toy.add("bare.example.com", &["192.0.2.7"]);
        for (wanted, destinations, questions) in [
            // A port: addresses alone, and UDP.
            (
                at_port("example.com"),
                vec!["192.0.2.99:5070/udp"],
                vec!["A example.com."],
            ),
            // A transport: no NAPTR.
            (
                wanted("tcp.example.com", None, Some(Transport::Tcp)),
                vec!["192.0.2.1:5081/tcp"],
                vec!["SRV _sip._tcp.tcp.example.com.", "A a.example.com."],
            ),
            // The next hop of a static route: SRV first.
            (
                route,
                vec!["192.0.2.1:5080/udp"],
                vec!["SRV _sip._udp.route.example.com.", "SRV _sip._tcp.route.example.com."],
            ),
            // Neither NAPTR nor SRV: addresses, UDP, the default port.
            (
                Wanted::new("bare.example.com"),
                vec!["192.0.2.7:5060/udp"],
                vec![
                    "NAPTR bare.example.com.",
                    "SRV _sip._udp.bare.example.com.",
                    "SRV _sip._tcp.bare.example.com.",
                    "A bare.example.com.",
                ],
            ),
        ] {
            toy.asked.borrow_mut().clear();
            assert_eq!(found(&resolver, &wanted).await.unwrap(), destinations, "{wanted:?}");
            assert_eq!(*toy.asked.borrow(), questions, "{wanted:?}");
            toy.asked.borrow_mut().clear();
            assert_eq!(found(&resolver, &wanted).await.unwrap(), destinations);
            let again: Vec<String> = toy.asked.borrow().clone();
            // What does not exist is kept only as long as the zone says, and the toy says nothing: some seconds.
            assert!(again.is_empty(), "asked again: {again:?}");
        }
    })
    .await;
}

/// RFC 3263 §4.1: no NAPTR, SRV for several transports we have.
#[tokio::test]
async fn without_naptr_srv_of_our_transports_in_our_order() {
    local(async {
        let toy = Toy::start().await;
        toy.srv("_sip._tcp.example.com", "1 0 5072 a.example.com");
        toy.srv("_sips._tcp.example.com", "1 0 5071 a.example.com");
        toy.add("a.example.com", &["192.0.2.1"]);
        toy.naptr("example.com", "1 1 u E2U+sip .");
        let resolver = resolver(&offering(conf(&toy), &ALL));
        assert_eq!(
            found(&resolver, &Wanted::new("example.com")).await.unwrap(),
            ["192.0.2.1:5072/tcp", "192.0.2.1:5071/tls"]
        );
        assert_eq!(
            found(&resolver, &secure("example.com")).await.unwrap(),
            ["192.0.2.1:5071/tls"]
        );
    })
    .await;
}

/// RFC 2782: the root as target. RFC 3263 §4.1: a domain that speaks SIP, and by nothing that we have.
#[tokio::test]
async fn a_domain_may_decline() {
    local(async {
        let toy = Toy::start().await;
        toy.srv("_sip._udp.example.com", "0 0 0 .");
        toy.add("example.com", &["192.0.2.99"]);
        toy.naptr("other.example", "1 1 s SIP+D2S _sip._sctp.other.example");
        toy.add("other.example", &["192.0.2.99"]);
        let resolver = resolver(&conf(&toy));
        assert_eq!(
            found(&resolver, &Wanted::new("example.com")).await,
            Err(ResolveError::NoService)
        );
        assert_eq!(
            found(&resolver, &Wanted::new("other.example")).await,
            Err(ResolveError::NoTransport)
        );
        // Declined by UDP, offered by TCP.
        toy.srv("_sip._udp.tcp.example", "0 0 0 .");
        toy.srv("_sip._tcp.tcp.example", "0 0 5072 example.com");
        assert_eq!(
            found(&resolver, &Wanted::new("tcp.example")).await.unwrap(),
            ["192.0.2.99:5072/tcp"]
        );
    })
    .await;
}

/// RFC 3263 §7
#[tokio::test]
async fn a_domain_that_takes_back_its_tls_is_told_of() {
    local(async {
        let scene = scene(DnsConf::default());
        let naptr = |services: &[&str]| {
            let record = |services: &&str| super::select::Naptr {
                order: 1,
                preference: 1,
                flags: b"s"[..].into(),
                services: services.as_bytes().into(),
                replacement: "_sip._udp.a.example".into(),
            };
            Found {
                outcome: Ok(Answer::Naptr(services.iter().map(record).collect())),
                keep_for: Some(Duration::ZERO),
            }
        };
        let none = || Found::error(ResolveError::NotFound);
        for (found, downgrades) in [
            (naptr(&["SIP+D2U"]), 0),
            (naptr(&["SIPS+D2T", "SIP+D2U"]), 0),
            (naptr(&["SIP+D2U", "SIPS+D2T"]), 0),
            (naptr(&["SIP+D2U"]), 1),
            (naptr(&["SIP+D2U"]), 1),
            (naptr(&["SIPS+D2T"]), 1),
            (none(), 2),
        ] {
            let (resolver, asked) = (scene.resolver.clone(), Wanted::new("a.example"));
            let asking = spawn_local(async move { resolver.resolve(&asked, None).await });
            settle().await;
            scene.hand.answer("NAPTR a.example", found);
            settle().await;
            asking.abort();
            assert_eq!(scene.resolver.counters().downgrades, downgrades);
        }
    })
    .await;
}

/// Weights are drawn at each use, from what is remembered.
#[tokio::test]
async fn weights_are_drawn_anew_each_time() {
    local(async {
        let toy = Toy::start().await;
        toy.srv("_sip._udp.example.com", "1 50 5061 a.example.com");
        toy.srv("_sip._udp.example.com", "1 50 5062 a.example.com");
        toy.add("a.example.com", &["192.0.2.1"]);
        let mut state = 1u64;
        let resolver = Resolver::new(&conf(&toy), move || {
            state = state
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            state
        });
        let udp = wanted("example.com", None, Some(Transport::Udp));
        let mut firsts = HashMap::new();
        for _ in 0..1_000 {
            let first = found(&resolver, &udp).await.unwrap().remove(0);
            *firsts.entry(first).or_insert(0) += 1;
        }
        assert_eq!(firsts.len(), 2, "{firsts:?}");
        // 500 each; five deviations are 79.
        assert!(firsts.values().all(|count| (421..=579).contains(count)), "{firsts:?}");
        assert_eq!(
            toy.asked.borrow().len(),
            3,
            "SRV, A and AAAA once: {:?}",
            toy.asked.borrow()
        );
    })
    .await;
}

#[tokio::test]
async fn aliases_are_followed() {
    local(async {
        let toy = Toy::start().await;
        toy.cname("sip.example.com", "farm.example.net");
        toy.add("farm.example.net", &["192.0.2.1"]);
        toy.cname("_sip._udp.example.com", "_sip._udp.example.net");
        toy.srv("_sip._udp.example.net", "1 0 5066 sip.example.com");
        let resolver = resolver(&offering(conf(&toy), &ALL[..1]));
        assert_eq!(
            found(&resolver, &at_port("sip.example.com")).await.unwrap(),
            ["192.0.2.1:5070/udp"]
        );
        assert_eq!(
            found(&resolver, &Wanted::new("example.com")).await.unwrap(),
            ["192.0.2.1:5066/udp"]
        );
    })
    .await;
}

/// RFC 3263 §4.2: an address of the domain is no substitute for SRV records that nobody could tell.
#[tokio::test]
async fn what_could_not_be_told_is_not_taken_for_absent() {
    local(async {
        let toy = Toy::start().await;
        toy.add("example.com", &["192.0.2.99"]);
        let resolver = resolver(&conf(&toy));
        toy.mode.set(Mode::FailAt(RecordType::SRV));
        assert_eq!(
            found(&resolver, &Wanted::new("example.com")).await,
            Err(ResolveError::ServerFailed)
        );
        // A server that chokes on NAPTR is forgiven.
        toy.mode.set(Mode::FailAt(RecordType::NAPTR));
        toy.srv("_sip._udp.example.org", "1 0 5066 example.com");
        assert_eq!(
            found(&resolver, &Wanted::new("example.org")).await.unwrap(),
            ["192.0.2.99:5066/udp"]
        );
    })
    .await;
}

#[tokio::test]
async fn a_name_gives_its_addresses_of_both_families() {
    local(async {
        let toy = Toy::start().await;
        toy.add("gw.example.com", &["192.0.2.1", "2001:db8::1", "192.0.2.2"]);
        let resolver = resolver(&offering(conf(&toy), &ALL));
        let found = resolver
            .resolve(&wanted("GW.Example.com", Some(5071), Some(Transport::Tls)), None)
            .await
            .unwrap();
        let addrs: Vec<_> = found.iter().map(|destination| destination.addr.to_string()).collect();
        assert_eq!(addrs, ["192.0.2.1:5071", "192.0.2.2:5071", "[2001:db8::1]:5071"]);
        assert!(
            found
                .iter()
                .all(|destination| destination.tls_name.as_deref() == Some("gw.example.com"))
        );
        let heard = toy.heard.get();
        resolver.resolve(&at_port("gw.example.com."), None).await.unwrap();
        assert_eq!(toy.heard.get(), heard, "answered from memory");
        assert_eq!(resolver.counters().remembered, 2);
    })
    .await;
}

#[tokio::test]
async fn only_families_in_use_are_asked_for() {
    local(async {
        let toy = Toy::start().await;
        toy.add("gw.example.com", &["192.0.2.1", "2001:db8::1"]);
        // UDP by IPv6 only, TCP by IPv4 only.
        let resolver = resolver(&DnsConf {
            offers: Offer::of([
                (Transport::Udp, "[::1]:5060".parse().unwrap()),
                (Transport::Tcp, "127.0.0.1:5060".parse().unwrap()),
            ]),
            ..conf(&toy)
        });
        assert_eq!(
            found(&resolver, &at_port("gw.example.com")).await.unwrap(),
            ["[2001:db8::1]:5070/udp"]
        );
        assert_eq!(*toy.asked.borrow(), ["AAAA gw.example.com."]);
        let tcp = wanted("gw.example.com", Some(5070), Some(Transport::Tcp));
        assert_eq!(found(&resolver, &tcp).await.unwrap(), ["192.0.2.1:5070/tcp"]);
    })
    .await;
}

#[tokio::test]
async fn each_failure_has_its_name_and_is_remembered() {
    local(async {
        let toy = Toy::start().await;
        let resolver = resolver(&conf(&toy));
        for (mode, expected) in [
            (Mode::Answer, ResolveError::NotFound),
            (Mode::Fail, ResolveError::ServerFailed),
            (Mode::Silent, ResolveError::Timeout),
        ] {
            toy.mode.set(mode);
            let name = format!("{mode:?}.example.com");
            assert_eq!(found(&resolver, &at_port(&name)).await, Err(expected));
            let heard = toy.heard.get();
            assert!(heard > 0);
            assert_eq!(found(&resolver, &at_port(&name)).await, Err(expected));
            assert_eq!(toy.heard.get(), heard, "{mode:?}: asked again at once");
        }
        // A and AAAA each; that there is none is no failure.
        assert_eq!(resolver.counters().failed, 4);
        assert_eq!(resolver.counters().remembered, 6);
        assert_eq!(resolver.counters().in_flight, 0);
    })
    .await;
}

/// RFC 2308: the zone says how long a name that does not exist does not.
#[tokio::test]
async fn what_does_not_exist_is_remembered_as_long_as_the_zone_says() {
    local(async {
        let toy = Toy::start().await;
        toy.negative_ttl.set(Some(0));
        let resolver = resolver(&offering(conf(&toy), &ALL[..1]));
        let ask = || async { found(&resolver, &at_port("new.example.com")).await };
        assert_eq!(ask().await, Err(ResolveError::NotFound));
        toy.add("new.example.com", &["192.0.2.1", "2001:db8::1"]);
        assert_eq!(ask().await.unwrap().len(), 2, "not remembered at all");

        toy.negative_ttl.set(Some(600));
        let ask = || async { found(&resolver, &at_port("later.example.com")).await };
        assert_eq!(ask().await, Err(ResolveError::NotFound));
        toy.add("later.example.com", &["192.0.2.1"]);
        assert_eq!(ask().await, Err(ResolveError::NotFound));
    })
    .await;
}

#[tokio::test]
async fn one_family_that_is_never_answered_does_not_hide_the_other() {
    local(async {
        let toy = Toy::start().await;
        toy.add("gw.example.com", &["192.0.2.1"]);
        toy.mode.set(Mode::SilentAbout(RecordType::AAAA));
        let conf = DnsConf {
            timeout: LONG,
            lookup_timeout: LONG,
            total_timeout: LONG,
            ..conf(&toy)
        };
        let resolver = resolver(&conf);
        assert_eq!(
            found(&resolver, &at_port("gw.example.com")).await.unwrap(),
            ["192.0.2.1:5070/udp"]
        );
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_there_fails_in_time() {
    local(async {
        // A port that was ours a moment ago: nobody listens there.
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let conf = DnsConf {
            servers: vec![closed],
            total_timeout: Duration::from_millis(500),
            ..DnsConf::default()
        };
        let error = found(&resolver(&conf), &at_port("gw.example.com")).await.unwrap_err();
        assert!(
            matches!(error, ResolveError::ServerFailed | ResolveError::Timeout),
            "{error:?}"
        );
    })
    .await;
}

/// The first name server is a black hole: the second one has answered within a second.
#[tokio::test]
async fn a_dead_name_server_leaves_the_second() {
    local(async {
        let (dead, toy) = (Toy::start().await, Toy::start().await);
        dead.mode.set(Mode::Silent);
        toy.add("gw.example.com", &["192.0.2.1"]);
        let conf = DnsConf {
            servers: vec![dead.addr, toy.addr],
            ..offering(DnsConf::default(), &ALL[..1])
        };
        let resolver = resolver(&conf);
        let started = Instant::now();
        for name in ["gw.example.com", "a.gw.example.com", "b.gw.example.com"] {
            toy.add(name, &["192.0.2.1"]);
            let asking = timeout(Duration::from_secs(1), resolver.resolve(&at_port(name), None));
            assert_eq!(asking.await.expect("within a second").unwrap().len(), 1);
        }
        assert!(started.elapsed() < Duration::from_secs(3));
    })
    .await;
}

/// RFC 6761 §6.3 for the name, and a machine without any name server for the rest: nothing hangs.
#[tokio::test]
async fn without_servers_local_names_work_and_others_fail_at_once() {
    local(async {
        let dns = super::dns::Dns::without_servers();
        let resolver = Resolver::with(
            &DnsConf::default(),
            Box::new(dns),
            Box::new(Instant::now),
            Box::new(|| 0),
        );
        let here = found(&resolver, &Wanted::new("localhost")).await.unwrap();
        assert!(here.contains(&"127.0.0.1:5060/udp".to_owned()), "{here:?}");
        for name in ["gw.example.com", "gw.example.org"] {
            assert_eq!(found(&resolver, &Wanted::new(name)).await, Err(ResolveError::NoServers));
        }
    })
    .await;
}

/// A key asked for and the way its answer takes.
type Open = (String, oneshot::Sender<Found>);

/// Answers when the test says so.
#[derive(Clone, Default)]
struct Hand {
    open: Rc<RefCell<Vec<Open>>>,
}

impl LookUp for Hand {
    fn look_up(&self, kind: Kind, name: &str) -> Looking {
        let (answer, answered) = oneshot::channel();
        self.open
            .borrow_mut()
            .push((format!("{} {name}", kind.as_str()), answer));
        Box::pin(async move { answered.await.unwrap() })
    }

    fn hosts(&self, name: &str) -> Vec<IpAddr> {
        match name {
            "here.example" => vec!["192.0.2.77".parse().unwrap()],
            _ => Vec::new(),
        }
    }
}

impl Hand {
    fn open(&self) -> Vec<String> {
        self.open.borrow().iter().map(|(key, _)| key.clone()).collect()
    }

    fn answer(&self, key: &str, found: Found) {
        let at = self.open().iter().position(|open| open == key);
        let at = at.unwrap_or_else(|| panic!("{key} is not asked: {:?}", self.open()));
        assert!(self.open.borrow_mut().remove(at).1.send(found).is_ok());
    }
}

fn is(addresses: &[&str]) -> Found {
    let addresses: Rc<[IpAddr]> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Found {
        outcome: Ok(Answer::Addresses(addresses)),
        keep_for: Some(Duration::from_secs(30)),
    }
}

struct Scene {
    hand: Hand,
    now: Rc<Cell<Instant>>,
    resolver: Resolver,
}

/// By UDP and IPv4 alone: one lookup a name.
fn scene(conf: DnsConf) -> Scene {
    let hand = Hand::default();
    let now = Rc::new(Cell::new(Instant::now()));
    let clock = Rc::clone(&now);
    let conf = DnsConf {
        offers: Offer::of([(Transport::Udp, "127.0.0.1:5060".parse().unwrap())]),
        ..conf
    };
    let resolver = Resolver::with(
        &conf,
        Box::new(hand.clone()),
        Box::new(move || clock.get()),
        Box::new(|| 0),
    );
    Scene { hand, now, resolver }
}

impl Scene {
    fn ask(&self, host: &str) -> tokio::task::JoinHandle<Result<Vec<String>, ResolveError>> {
        let (resolver, wanted) = (self.resolver.clone(), at_port(host));
        spawn_local(async move { found(&resolver, &wanted).await })
    }
}

/// Lets every task run until it waits.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn equal_questions_asked_at_once_are_asked_once() {
    local(async {
        let scene = scene(DnsConf::default());
        let asking: Vec<_> = ["a.example", "A.example", "a.example.", "b.example"]
            .map(|host| scene.ask(host))
            .into();
        settle().await;
        assert_eq!(scene.hand.open(), ["A a.example", "A b.example"]);
        assert_eq!(scene.resolver.counters().in_flight, 2);
        assert_eq!(scene.resolver.counters().joined, 2);
        // The first asker loses interest; the others still get their answer.
        asking[0].abort();
        scene.hand.answer("A a.example", is(&["192.0.2.1"]));
        scene.hand.answer("A b.example", Found::error(ResolveError::NotFound));
        let mut results = Vec::new();
        for task in asking.into_iter().skip(1) {
            results.push(task.await.unwrap().map(|found| found.len()));
        }
        assert_eq!(results, [Ok(1), Ok(1), Err(ResolveError::NotFound)]);
        assert_eq!(scene.resolver.counters().in_flight, 0);
    })
    .await;
}

#[tokio::test]
async fn lookups_under_way_are_capped() {
    local(async {
        let scene = scene(DnsConf {
            max_in_flight: 1,
            ..DnsConf::default()
        });
        let first = scene.ask("a.example");
        settle().await;
        assert_eq!(scene.ask("b.example").await.unwrap(), Err(ResolveError::Busy));
        scene.hand.answer("A a.example", is(&["192.0.2.1"]));
        assert!(first.await.unwrap().is_ok());
        let second = scene.ask("b.example");
        settle().await;
        assert_eq!(scene.hand.open(), ["A b.example"], "being busy is not remembered");
        scene.hand.answer("A b.example", is(&["192.0.2.2"]));
        assert!(second.await.unwrap().is_ok());
    })
    .await;
}

#[tokio::test]
async fn an_answer_is_kept_as_long_as_it_says_and_a_failure_for_its_seconds() {
    local(async {
        let scene = scene(DnsConf {
            failure_cache: Duration::from_secs(5),
            ..DnsConf::default()
        });
        let later = |ms: u64| scene.now.set(scene.now.get() + Duration::from_millis(ms));
        let first = scene.ask("a.example");
        settle().await;
        scene
            .hand
            .answer("A a.example", Found::error(ResolveError::ServerFailed));
        assert_eq!(first.await.unwrap(), Err(ResolveError::ServerFailed));
        later(4_999);
        assert_eq!(scene.ask("a.example").await.unwrap(), Err(ResolveError::ServerFailed));
        assert!(scene.hand.open().is_empty());
        later(1);
        let again = scene.ask("a.example");
        settle().await;
        scene.hand.answer("A a.example", is(&["192.0.2.1"]));
        assert!(again.await.unwrap().is_ok());
        later(29_999);
        assert!(scene.ask("a.example").await.unwrap().is_ok());
        later(1);
        let _asking = scene.ask("a.example");
        settle().await;
        assert_eq!(scene.hand.open(), ["A a.example"]);
    })
    .await;
}

/// What the operator wrote into the hosts file is asked of nobody, by any way.
#[tokio::test]
async fn the_hosts_file_stands_before_dns() {
    local(async {
        let scene = scene(DnsConf::default());
        let asked = Wanted::new("Here.example");
        assert_eq!(found(&scene.resolver, &asked).await.unwrap(), ["192.0.2.77:5060/udp"]);
        assert_eq!(scene.resolver.counters().lookups, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_question_ends_whatever_the_servers_do() {
    local(async {
        let scene = scene(DnsConf {
            lookup_timeout: Duration::from_millis(1_500),
            total_timeout: Duration::from_secs(2),
            ..DnsConf::default()
        });
        let started = tokio::time::Instant::now();
        let asked = Wanted::new("a.example");
        assert_eq!(found(&scene.resolver, &asked).await, Err(ResolveError::Timeout));
        // 1.5 s for NAPTR, then SRV for what is left.
        assert_eq!(started.elapsed(), Duration::from_secs(2));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(scene.resolver.counters().in_flight, 0, "what was begun ends by itself");
        let again = tokio::time::Instant::now();
        assert_eq!(found(&scene.resolver, &asked).await, Err(ResolveError::Timeout));
        assert_eq!(again.elapsed(), Duration::ZERO, "remembered");
    })
    .await;
}

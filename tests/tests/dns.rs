//! RFC 3263 and RFC 2782 by the records of a real name server (BIND): every way from a name to a destination, failover in each, weights
//! over real traffic, name servers that fail or keep silent, and requests too large for UDP (RFC 3261 §18.1.1).

use std::fmt::Write as _;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sps_tests::dns::Dns;
use sps_tests::named::Named;
use sps_tests::net::{V4, V6, free_addr, free_port, has_v6};
use sps_tests::tls::{Authority, TlsEnd};
use sps_tests::{Agent, Instance, Options, Uas, bounded, need, skip, wait_until};

const fn loopback(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// The first destination of each name, and the second.
const FIRST: IpAddr = loopback(2);
const SECOND: IpAddr = loopback(3);

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder can be made")
}

/// An instance that asks these name servers, with these lines in `[proxy]` and more in `[dns]`. It refuses nothing because the
/// machine has other things to do.
fn asking(servers: &[SocketAddr], proxy: &str, dns: &str) -> Options {
    let servers: Vec<String> = servers.iter().map(|addr| format!("\"{addr}\"")).collect();
    Options::new().section(&format!(
        "[overload]\nenabled = false\n[proxy]\n{proxy}\n[dns]\nservers = [{}]\n{dns}",
        servers.join(", ")
    ))
}

/// Whom a name is to lead to.
struct Callees {
    plain: Uas,
    udp: Uas,
    tcp: Uas,
    six: Option<Uas>,
}

/// RFC 3263 §4.1 and §4.2: what the URI says decides what is asked for.
#[test]
fn each_way_from_a_uri_to_a_destination() {
    need!("named");
    bounded(|| {
        let folder = folder();
        // Where a name without a port and without SRV leads: the default port, on an address that nobody else uses.
        let bare = loopback(77);
        let callees = Callees {
            plain: Uas::answering(V4),
            udp: Uas::answering(FIRST),
            tcp: Uas::answering_as(Agent::tcp(SECOND), "tcp"),
            six: has_v6().then(|| Uas::answering(V6)),
        };
        let at_default = Uas::answering_as(Agent::udp_at(SocketAddr::new(bare, 5060)), "default");
        let (udp, tcp) = (callees.udp.addr().port(), callees.tcp.addr().port());
        let six = callees.six.as_ref().map_or(9, |six| six.addr().port());
        let named = Named::start(
            folder.path(),
            &format!(
                "plain A 127.0.0.1\nbare A {bare}\nudp A {FIRST}\ntcp A {SECOND}\nsix AAAA ::1\nalias CNAME plain\n\
                 _sip._udp.srv SRV 1 0 {udp} udp\nsrv A {bare}\n\
                 _sip._tcp.tcponly SRV 1 0 {tcp} tcp\ntcponly A {bare}\n\
                 naptr NAPTR 20 1 \"s\" \"SIP+D2U\" \"\" _sip._udp.srv\n\
                 naptr NAPTR 10 1 \"S\" \"sip+d2t\" \"\" _sip._tcp.tcponly\nnaptr A {bare}\n\
                 foreign NAPTR 10 1 \"u\" \"E2U+sip\" \"!^.*$!sip:nobody@sps.example!\" .\n\
                 _sip._udp.foreign SRV 1 0 {udp} udp\n\
                 _sip._udp.six SRV 1 0 {six} six\n\
                 _sip._udp.aliased CNAME _sip._udp.srv\n"
            ),
        );
        let sps = Instance::start(asking(&[named.addr()], "", "").listen("udp", V6));
        let mut agent = Agent::udp(V4);
        let plain = callees.plain.addr();
        let mut ways = vec![
            (format!("sip:x@{plain}"), &callees.plain, "a numeric host"),
            (
                format!("sip:x@plain.sps.example:{}", plain.port()),
                &callees.plain,
                "a port: addresses alone",
            ),
            (
                format!("sip:x@alias.sps.example:{}", plain.port()),
                &callees.plain,
                "an alias",
            ),
            (
                format!("sip:x@nowhere.sps.example:9;maddr={}", plain.ip()),
                &callees.plain,
                "maddr",
            ),
            ("sip:x@bare.sps.example".to_owned(), &at_default, "addresses by default"),
            ("sip:x@srv.sps.example".to_owned(), &callees.udp, "SRV without NAPTR"),
            (
                "sip:x@aliased.sps.example".to_owned(),
                &callees.udp,
                "SRV behind an alias",
            ),
            (
                "sip:x@tcponly.sps.example".to_owned(),
                &callees.tcp,
                "SRV for TCP alone",
            ),
            (
                "sip:x@naptr.sps.example".to_owned(),
                &callees.tcp,
                "NAPTR, the domain's preference",
            ),
            (
                "sip:x@srv.sps.example;transport=udp".to_owned(),
                &callees.udp,
                "a transport: no NAPTR",
            ),
            (
                "sip:x@foreign.sps.example".to_owned(),
                &callees.udp,
                "NAPTR of another application",
            ),
        ];
        // maddr has the port of the URI.
        ways[3].0 = format!("sip:x@nowhere.sps.example:{};maddr={}", plain.port(), plain.ip());
        if let Some(six) = &callees.six {
            ways.push(("sip:x@six.sps.example".to_owned(), six, "AAAA"));
        }
        let mut counts = std::collections::HashMap::new();
        for (uri, callee, what) in &ways {
            let request = agent.request("MESSAGE", uri);
            let answer = agent.ask(sps.addr(), &request);
            assert_eq!(answer.status(), Some(200), "{what}: {uri}: {answer}");
            let count = counts.entry(callee.addr()).or_insert(0);
            *count += 1;
            assert_eq!(callee.requests("MESSAGE").len(), *count, "{what}: {uri}");
        }
        // The next hop of a static route: SRV first, without asking for NAPTR.
        sps.spsroute(&["add", "1777*", "naptr.sps.example"]).ok();
        sps.spsroute(&["add", "1888*", "srv.sps.example"]).ok();
        let request = agent.request("MESSAGE", &sps.uri("18880100"));
        assert_eq!(agent.ask(sps.addr(), &request).status(), Some(200));
        assert_eq!(
            callees.udp.requests("MESSAGE").len(),
            counts[&callees.udp.addr()] + 1,
            "a route: SRV"
        );
        let request = agent.request("MESSAGE", &sps.uri("17770100"));
        assert_eq!(agent.ask(sps.addr(), &request).status(), Some(200));
        assert_eq!(
            at_default.requests("MESSAGE").len(),
            counts[&at_default.addr()] + 1,
            "a route: no NAPTR, no SRV, its address"
        );
        // What the operator is told: every record, every choice.
        let said = sps.spsroute(&["explain", "sip:x@naptr.sps.example"]).ok().stdout;
        for words in [
            "NAPTR naptr.sps.example: 2 of them, to _sip._tcp.tcponly.sps.example, _sip._udp.srv.sps.example"
                .to_owned(),
            format!("SRV _sip._tcp.tcponly.sps.example: 1 0 {tcp} tcp.sps.example"),
            format!("A tcp.sps.example: {SECOND}"),
            format!("next={SECOND}:{tcp}/tcp next={FIRST}:{udp}/udp"),
        ] {
            assert!(said.contains(&words), "{words:?} in {said}");
        }
    });
}

/// RFC 3263 §4.1: the domain's preference for TLS is followed where we have TLS, and by nothing else where the URI is a SIPS URI. RFC 5922
/// §4: the certificate is for the domain that was asked for, not for the host that records led to.
#[test]
fn a_domain_that_prefers_tls_is_called_by_tls() {
    need!("named");
    bounded(|| {
        let folder = folder();
        let authority = Authority::new();
        authority.issue_for("sps.test").write(folder.path(), "own");
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).expect("a file can be written");
        let end = |name: &str| TlsEnd::new(&authority, "sps.test", &authority.issue_for(name), false);
        let by_tls = Uas::answering_as(Agent::tls(FIRST, end("secure.sps.example")), "tls");
        let other = Uas::answering_as(Agent::tls(FIRST, end("one.sps.example")), "host");
        let by_udp = Uas::answering(SECOND);
        let (tls, udp, wrong) = (by_tls.addr().port(), by_udp.addr().port(), other.addr().port());
        let named = Named::start(
            folder.path(),
            &format!(
                "secure NAPTR 10 1 \"s\" \"SIPS+D2T\" \"\" _sips._tcp.secure\n\
                 secure NAPTR 20 1 \"s\" \"SIP+D2U\" \"\" _sip._udp.secure\n\
                 _sips._tcp.secure SRV 1 0 {tls} one\n_sip._udp.secure SRV 1 0 {udp} two\n\
                 _sips._tcp.wrong SRV 1 0 {wrong} one\n_sip._udp.wrong SRV 1 0 {udp} two\n\
                 one A {FIRST}\ntwo A {SECOND}\n"
            ),
        );
        let dir = folder.path().display();
        let listener = free_addr(V4);
        let sections = format!(
            "[[listen]]\ntransport = \"tls\"\naddress = \"{}\"\nport = {}\n[tls]\nca = \"{dir}/ca.pem\"\n\
             [[tls.certificate]]\ncertificate = \"{dir}/own.pem\"\nkey = \"{dir}/own.key\"\n",
            listener.ip(),
            listener.port()
        );
        let with_tls = Instance::start(asking(&[named.addr()], "", "").section(&sections));
        let without = Instance::start(asking(&[named.addr()], "", ""));
        let mut udp_agent = Agent::udp(V4);
        let mut tls_agent = Agent::tls(V4, end("phone.test"));
        let ask = |agent: &mut Agent, to: SocketAddr, uri: &str| {
            let request = agent.request("MESSAGE", uri);
            agent.ask(to, &request).status()
        };
        let asked = |uas: &Uas| uas.requests("MESSAGE").len();
        let secure = "sip:x@secure.sps.example";
        assert_eq!(ask(&mut udp_agent, with_tls.addr(), secure), Some(200));
        assert_eq!((asked(&by_tls), asked(&by_udp)), (1, 0));
        assert_eq!(ask(&mut tls_agent, listener, "sips:x@secure.sps.example"), Some(200));
        assert_eq!((asked(&by_tls), asked(&by_udp)), (2, 0));
        // Nothing but TLS will do, and the certificate is for somebody else.
        assert_eq!(ask(&mut tls_agent, listener, "sips:x@wrong.sps.example"), Some(500));
        assert_eq!((asked(&other), asked(&by_udp)), (0, 0));
        // Without TLS the next best.
        assert_eq!(ask(&mut udp_agent, without.addr(), secure), Some(200));
        assert_eq!((asked(&by_tls), asked(&by_udp)), (2, 1));
    });
}

/// How the first destination fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Refused,
    Reset,
    Silent,
    Busy,
}

/// Something that fails at an address; ends with its owner.
enum Broken {
    Nothing,
    Reset(Resetter),
    Uas(Uas),
}

/// Accepts connections, reads what comes and resets them.
struct Resetter {
    stop: Arc<AtomicBool>,
    addr: SocketAddr,
    met: Arc<Mutex<usize>>,
    thread: Option<JoinHandle<()>>,
}

impl Resetter {
    fn start(addr: SocketAddr) -> Resetter {
        let listener = TcpListener::bind(addr).expect("a port is free");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let (stop, met) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(0)));
        let (stopped, count) = (stop.clone(), met.clone());
        let thread = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                *count.lock().expect("no holder panics") += 1;
                // Closing with bytes unread resets.
                let mut stream = stream;
                let _ = stream.read(&mut [0; 16]);
            }
        });
        Resetter {
            stop,
            addr,
            met,
            thread: Some(thread),
        }
    }
}

impl Drop for Resetter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = std::net::TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn end_at(transport: &str, addr: SocketAddr) -> Agent {
    match transport {
        "udp" => Agent::udp_at(addr),
        _ => Agent::tcp_at(addr),
    }
}

impl Broken {
    fn start(failure: Failure, transport: &str, addr: SocketAddr) -> Broken {
        match failure {
            Failure::Refused => Broken::Nothing,
            Failure::Reset => Broken::Reset(Resetter::start(addr)),
            Failure::Silent => Broken::Uas(Uas::scripted(end_at(transport, addr), |_| Vec::new())),
            Failure::Busy => Broken::Uas(Uas::refusing_as(end_at(transport, addr), 503, "Service Unavailable")),
        }
    }

    /// How often it was tried, as far as it can tell.
    fn met(&self) -> Option<usize> {
        match self {
            Broken::Nothing => None,
            Broken::Reset(resetter) => Some(*resetter.met.lock().expect("no holder panics")),
            Broken::Uas(uas) => Some(uas.requests("INVITE").len()),
        }
    }
}

/// One combination of the matrix: a first destination that fails, by IPv4 and IPv6, and a second one that answers.
struct Cell {
    name: String,
    transport: &'static str,
    failure: Failure,
    /// The same port at [`FIRST`], where it fails, and [`SECOND`], where it works.
    port: u16,
    broken: Broken,
    broken_six: Option<(u16, Broken)>,
    works: Uas,
}

impl Cell {
    fn start(transport: &'static str, failure: Failure) -> Cell {
        let works = Uas::answering_as(end_at(transport, SocketAddr::new(SECOND, 0)), "second");
        let port = works.addr().port();
        let six = || {
            let port = free_port(V6);
            (port, Broken::start(failure, transport, SocketAddr::new(V6, port)))
        };
        Cell {
            name: format!("{transport}-{failure:?}").to_lowercase(),
            transport,
            failure,
            port,
            broken: Broken::start(failure, transport, SocketAddr::new(FIRST, port)),
            broken_six: has_v6().then(six),
            works,
        }
    }

    /// The records of four names: addresses, an IPv6 address by SRV, SRV, NAPTR.
    fn records(&self, zone: &mut String) {
        let Cell {
            name, transport, port, ..
        } = self;
        let service = if *transport == "udp" { "SIP+D2U" } else { "SIP+D2T" };
        let six = self.broken_six.as_ref().map_or(9, |(port, _)| *port);
        let _ = writeln!(
            zone,
            "a-{name} A {FIRST}\na-{name} A {SECOND}\n\
             first-{name} A {FIRST}\nsecond-{name} A {SECOND}\nsix-{name} AAAA ::1\n\
             _sip._{transport}.aaaa-{name} SRV 1 0 {six} six-{name}\n\
             _sip._{transport}.aaaa-{name} SRV 2 0 {port} second-{name}\n\
             _sip._{transport}.srv-{name} SRV 1 0 {port} first-{name}\n\
             _sip._{transport}.srv-{name} SRV 2 0 {port} second-{name}\n\
             naptr-{name} NAPTR 1 1 \"s\" \"{service}\" \"\" _sip._{transport}.srv-{name}"
        );
    }

    /// Calls each name and demands that the second destination has the call, after the first one was tried.
    fn call(&self, sps: &Instance, agent: &mut Agent) {
        let Cell {
            name, transport, port, ..
        } = self;
        let mut calls = vec![
            (
                format!("sip:x@a-{name}.sps.example:{port};transport={transport}"),
                &self.broken,
            ),
            (
                format!("sip:x@srv-{name}.sps.example;transport={transport}"),
                &self.broken,
            ),
            (format!("sip:x@naptr-{name}.sps.example"), &self.broken),
        ];
        if let Some((_, broken)) = &self.broken_six {
            calls.push((format!("sip:x@aaaa-{name}.sps.example;transport={transport}"), broken));
        }
        for (n, (uri, broken)) in calls.iter().enumerate() {
            let before = broken.met();
            let invite = agent.request("INVITE", uri);
            let answer = agent.ask(sps.addr(), &invite);
            assert_eq!(answer.status(), Some(200), "{uri}: {answer}");
            self.works.wait_for("INVITE", n + 1);
            if let (Some(before), Some(after)) = (before, broken.met()) {
                assert!(after > before, "{uri}: {:?} was not tried first", self.failure);
            }
        }
    }
}

/// RFC 3263 §4.3: whatever the record and whatever the failure, the next destination gets the call.
#[test]
fn every_record_and_every_failure_lead_to_the_next_destination() {
    need!("named");
    bounded(|| {
        let folder = folder();
        let cells: Vec<Cell> = [
            ("udp", Failure::Refused),
            ("udp", Failure::Silent),
            ("udp", Failure::Busy),
            ("tcp", Failure::Refused),
            ("tcp", Failure::Reset),
            ("tcp", Failure::Silent),
            ("tcp", Failure::Busy),
        ]
        .map(|(transport, failure)| Cell::start(transport, failure))
        .into();
        let mut zone = String::new();
        cells.iter().for_each(|cell| cell.records(&mut zone));
        let named = Named::start(folder.path(), &zone);
        // Nothing is remembered of failures, so that every call meets them.
        let mut options = asking(&[named.addr()], "next_hop_timeout_ms = 300\ndead_for_s = 0", "");
        if has_v6() {
            options = options.listen("udp", V6).listen("tcp", V6);
        }
        let sps = Instance::start(options);
        thread::scope(|scope| {
            for cell in &cells {
                let sps = &sps;
                scope.spawn(move || cell.call(sps, &mut Agent::udp(V4)));
            }
        });
        if !has_v6() {
            skip!("ipv6: failover from an AAAA record is not tried");
        }
    });
}

/// RFC 3263 §4.1, §4.2: the addresses of both families of one name, one after the other.
#[test]
fn when_the_ipv4_address_fails_the_ipv6_address_is_called() {
    need!("named");
    bounded(|| {
        if !has_v6() {
            skip!("ipv6: one name with addresses of both families is not tried");
        }
        let folder = folder();
        let works = Uas::answering(V6);
        let named = Named::start(folder.path(), &format!("both A {FIRST}\nboth AAAA ::1\n"));
        let sps = Instance::start(asking(&[named.addr()], "", "").listen("udp", V6));
        let mut agent = Agent::udp(V4);
        let invite = agent.request("INVITE", &format!("sip:x@both.sps.example:{}", works.addr().port()));
        assert_eq!(agent.ask(sps.addr(), &invite).status(), Some(200));
        works.wait_for("INVITE", 1);
    });
}

/// RFC 2782, RFC 3263 §4.3: the primary is killed, the next call goes to the backup; the call after that does not ask the dead
/// primary first; an answer brings it back.
#[test]
fn a_dead_primary_is_tried_last_for_its_time_and_then_first_again() {
    need!("named");
    bounded(|| {
        let folder = folder();
        let (primary, backup) = (Uas::answering(FIRST), Uas::answering(SECOND));
        let addr = primary.addr();
        let named = Named::start(
            folder.path(),
            &format!(
                "_sip._udp.farm SRV 1 0 {} one\n_sip._udp.farm SRV 2 0 {} two\none A {FIRST}\ntwo A {SECOND}\n",
                addr.port(),
                backup.addr().port()
            ),
        );
        let sps = Instance::start(
            asking(&[named.addr()], "next_hop_timeout_ms = 300\ndead_for_s = 3", "").server("workers = 1"),
        );
        let mut agent = Agent::udp(V4);
        let mut call = |expected: &Uas, count: usize| {
            let invite = agent.request("INVITE", "sip:x@farm.sps.example");
            assert_eq!(agent.ask(sps.addr(), &invite).status(), Some(200));
            expected.wait_for("INVITE", count);
        };
        call(&primary, 1);
        drop(primary);
        // A black hole in its place, which counts who tries it.
        let hole = Uas::scripted(Agent::udp_at(addr), |_| Vec::new());
        let died_at = Instant::now();
        call(&backup, 1);
        assert_eq!(hole.requests("INVITE").len(), 1);
        call(&backup, 2);
        call(&backup, 3);
        if died_at.elapsed() < Duration::from_secs(3) {
            assert_eq!(hole.requests("INVITE").len(), 1, "tried last, hence not at all");
        }
        drop(hole);
        let primary = Uas::answering_as(Agent::udp_at(addr), "again");
        wait_until("the primary is called again", || {
            let invite = agent.request("INVITE", "sip:x@farm.sps.example");
            assert_eq!(agent.ask(sps.addr(), &invite).status(), Some(200));
            !primary.requests("INVITE").is_empty()
        });
        assert!(died_at.elapsed() >= Duration::from_secs(3));
    });
}

/// RFC 3261 §21.5.4: who asks to be left alone is, and no longer than `retry_after_max_s`.
#[test]
fn a_503_with_retry_after_keeps_calls_away() {
    need!("named");
    bounded(|| {
        let folder = folder();
        let busy = Uas::scripted(Agent::udp(FIRST), |message| match message.method() {
            Some("ACK") | None => Vec::new(),
            Some(_) => vec![
                message
                    .response(503, "Service Unavailable")
                    .to_tag("busy")
                    .with("Retry-After", "3600"),
            ],
        });
        let backup = Uas::answering(SECOND);
        let named = Named::start(
            folder.path(),
            &format!(
                "_sip._udp.farm SRV 1 0 {} one\n_sip._udp.farm SRV 2 0 {} two\none A {FIRST}\ntwo A {SECOND}\n",
                busy.addr().port(),
                backup.addr().port()
            ),
        );
        let sps =
            Instance::start(asking(&[named.addr()], "dead_for_s = 0\nretry_after_max_s = 2", "").server("workers = 1"));
        let mut agent = Agent::udp(V4);
        let since = Instant::now();
        for count in 1..=4 {
            let invite = agent.request("INVITE", "sip:x@farm.sps.example");
            assert_eq!(agent.ask(sps.addr(), &invite).status(), Some(200));
            backup.wait_for("INVITE", count);
        }
        if since.elapsed() < Duration::from_secs(2) {
            assert_eq!(busy.requests("INVITE").len(), 1);
        }
        wait_until("it is asked again", || {
            let invite = agent.request("INVITE", "sip:x@farm.sps.example");
            assert_eq!(agent.ask(sps.addr(), &invite).status(), Some(200));
            busy.requests("INVITE").len() == 2
        });
        assert!(since.elapsed() >= Duration::from_secs(2));
    });
}

/// RFC 2782: calls are spread by weight, from one answer of the name server.
#[test]
fn calls_are_spread_by_weight() {
    need!("named");
    bounded(|| {
        const CALLS: usize = 400;
        let folder = folder();
        let (many, few) = (Uas::answering(FIRST), Uas::answering(SECOND));
        let named = Named::start(
            folder.path(),
            &format!(
                "_sip._udp.farm SRV 1 75 {} one\n_sip._udp.farm SRV 1 25 {} two\none A {FIRST}\ntwo A {SECOND}\n",
                many.addr().port(),
                few.addr().port()
            ),
        );
        let sps = Instance::start(asking(&[named.addr()], "", ""));
        let mut agent = Agent::udp(V4);
        for _ in 0..CALLS {
            let request = agent.request("MESSAGE", "sip:x@farm.sps.example");
            assert_eq!(agent.ask(sps.addr(), &request).status(), Some(200));
        }
        let counts = (many.requests("MESSAGE").len(), few.requests("MESSAGE").len());
        assert_eq!(counts.0 + counts.1, CALLS);
        // 300 of 400 expected, the deviation is 8.7: five of them.
        assert!((256..=344).contains(&counts.0), "{counts:?}");
    });
}

/// Each failure of a name has its status, and a line in the error log where it is a server's doing.
#[test]
fn names_that_lead_nowhere_have_their_answers() {
    need!("named");
    bounded(|| {
        let folder = folder();
        let named = Named::start(
            folder.path(),
            "_sip._udp.declined SRV 0 0 0 .\ndeclined A 127.0.0.1\n\
             sctp NAPTR 1 1 \"s\" \"SIP+D2S\" \"\" _sip._sctp.sctp\nsctp A 127.0.0.1\n\
             text TXT \"no address\"\n",
        );
        let sps = Instance::start(asking(&[named.addr()], "", "timeout_ms = 300\ntotal_timeout_ms = 800"));
        let mut agent = Agent::udp(V4);
        let mut status = |uri: &str| {
            let invite = agent.request("INVITE", uri);
            agent.ask(sps.addr(), &invite).status()
        };
        for (uri, expected) in [
            ("sip:x@nowhere.sps.example", 404),
            ("sip:x@text.sps.example", 404),
            ("sip:x@declined.sps.example", 404),
            ("sip:x@sctp.sps.example", 404),
            ("sip:x@sip.broken.example:5060", 500),
            ("sip:x@broken.example", 500),
        ] {
            assert_eq!(status(uri), Some(expected), "{uri}");
        }
        assert!(
            sps.log("error_log").contains("name server failed"),
            "{}",
            sps.log("error_log")
        );
        named.freeze();
        assert_eq!(status("sip:x@late.sps.example"), Some(504));
        assert!(
            sps.log("error_log").contains("no answer from name servers"),
            "{}",
            sps.log("error_log")
        );
        // A phone's contact and a route that lead nowhere say other things than a domain that was asked for.
        named.thaw();
        sps.register("bob", "sip:bob@gone.sps.example:5070", "1.0");
        assert_eq!(status(&sps.uri("bob")), Some(480));
        sps.spsroute(&["add", "1555*", "gone.sps.example"]).ok();
        assert_eq!(status(&sps.uri("15550100")), Some(500));
    });
}

/// RFC 3263 gives no such promise, operators do: with the name server a black hole, calls that need no name, or one that is known,
/// go as ever, and those that need one fail within the bound.
#[test]
fn a_silent_name_server_holds_nobody_up() {
    need!("named");
    bounded(|| {
        const CALLS: usize = 200;
        let folder = folder();
        let callee = Uas::answering(V4);
        let port = callee.addr().port();
        let named = Named::start(folder.path(), "known A 127.0.0.1\n");
        // A worker alone: what waits for names shares it with what does not.
        let sps = Instance::start(
            asking(&[named.addr()], "", "timeout_ms = 400\ntotal_timeout_ms = 1500").server("workers = 1"),
        );
        let mut agent = Agent::udp(V4);
        let mut ask = |uri: &str| {
            let request = agent.request("MESSAGE", uri);
            agent.ask(sps.addr(), &request).status()
        };
        let known = format!("sip:x@known.sps.example:{port}");
        let numeric = format!("sip:x@127.0.0.1:{port}");
        assert_eq!(ask(&known), Some(200));
        let started = Instant::now();
        (0..CALLS).for_each(|_| assert_eq!(ask(&numeric), Some(200)));
        let unburdened = started.elapsed();

        named.freeze();
        // Many names nobody will ever tell of, asked for at once: more than may be under way. By several ends, so that all answers
        // find room until they are read.
        let mut strangers: Vec<Agent> = (0..8).map(|_| Agent::udp(V4)).collect();
        let asked_at = Instant::now();
        for (n, stranger) in strangers.iter_mut().enumerate() {
            for m in 0..75 {
                let request = stranger.request("MESSAGE", &format!("sip:x@n{n}-{m}.sps.example"));
                stranger.send(sps.addr(), &request);
            }
        }
        let started = Instant::now();
        for _ in 0..CALLS / 2 {
            assert_eq!(ask(&numeric), Some(200));
            assert_eq!(ask(&known), Some(200));
        }
        let burdened = started.elapsed();
        // A call that had to wait for a name would have taken more than a second by itself.
        assert!(
            burdened < unburdened * 10 + Duration::from_secs(2),
            "{CALLS} calls took {burdened:?}, {unburdened:?} without"
        );
        let mut statuses = std::collections::BTreeMap::new();
        for stranger in &mut strangers {
            for _ in 0..75 {
                *statuses.entry(stranger.final_response().status()).or_insert(0) += 1;
            }
        }
        // What could not even be asked is 500 at once, the rest 504 when the time is over.
        let [silent, refused] = [504, 500].map(|status| statuses.get(&Some(status)).copied().unwrap_or(0));
        assert_eq!(silent + refused, 600, "{statuses:?}");
        assert!(silent >= 100 && refused > 0, "{statuses:?}");
        assert!(asked_at.elapsed() < Duration::from_secs(10), "{:?}", asked_at.elapsed());
        assert_eq!(callee.requests("MESSAGE").len(), 1 + 2 * CALLS);
    });
}

/// The first name server is a black hole: the second one is asked in time.
#[test]
fn the_second_name_server_answers_for_the_first() {
    need!("named");
    bounded(|| {
        let folder = folder();
        let callee = Uas::answering(V4);
        let zone = "gw A 127.0.0.1\nother A 127.0.0.1\n";
        let (first, second) = (Named::start(folder.path(), zone), Named::start(folder.path(), zone));
        let sps = Instance::start(asking(&[first.addr(), second.addr()], "", ""));
        first.freeze();
        let mut agent = Agent::udp(V4);
        for name in ["gw", "other"] {
            let started = Instant::now();
            let uri = format!("sip:x@{name}.sps.example:{}", callee.addr().port());
            let request = agent.request("MESSAGE", &uri);
            assert_eq!(agent.ask(sps.addr(), &request).status(), Some(200));
            assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        }
    });
}

/// A domain that we serve, an address, and a name in the hosts file are no questions for a name server.
#[test]
fn what_needs_no_name_server_asks_none() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let dns = Dns::start(&[]);
        dns.silent(true);
        let sps = Instance::start(asking(&[dns.addr()], "", ""));
        sps.register("bob", callee.uri(), "1.0");
        sps.route("1555*", callee.addr());
        let mut agent = Agent::udp(V4);
        let by_hosts = format!("sip:x@localhost:{}", callee.addr().port());
        for uri in [sps.uri("bob"), sps.uri("15550100"), callee.uri().to_owned(), by_hosts] {
            let request = agent.request("MESSAGE", &uri);
            assert_eq!(agent.ask(sps.addr(), &request).status(), Some(200), "{uri}");
        }
        assert_eq!(dns.asked(), 0);
    });
}

/// A body of this length.
fn large(request: sps_tests::Message, len: usize) -> sps_tests::Message {
    request.with_body("text/plain", "x".repeat(len))
}

/// RFC 3261 §18.1.1: a request of 3 kB that would leave by UDP takes TCP, all of its transaction with it; refused, it goes by UDP.
#[test]
fn a_large_request_takes_tcp_and_falls_back_to_udp() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let mut agent = Agent::udp(V4);

        // The same port by both transports.
        let addr = free_addr(V4);
        let by_udp = Uas::answering_as(Agent::udp_at(addr), "udp");
        let by_tcp = Uas::ringing_as(Agent::tcp_at(addr));
        sps.route("1555*", addr);
        let request = agent.request("MESSAGE", &sps.uri("15550100"));
        assert_eq!(agent.ask(sps.addr(), &request).status(), Some(200));
        assert_eq!(by_udp.requests("MESSAGE").len(), 1, "a small one goes by UDP");
        let invite = agent.request("INVITE", &sps.uri("15550100"));
        let invite = large(invite, 3_000);
        agent.send(sps.addr(), &invite);
        let arrived = by_tcp.wait_for("INVITE", 1);
        assert!(arrived.values("Via")[0].starts_with("SIP/2.0/TCP "), "{arrived}");
        assert_eq!(arrived.body.len(), 3_000);
        agent.expect_status(100);
        agent.expect_status(180);
        let mut cancel = invite.clone().set("CSeq", "1 CANCEL").without("Contact");
        cancel.start = invite.start.replace("INVITE", "CANCEL");
        cancel.body.clear();
        agent.send(sps.addr(), &cancel.set("Content-Length", "0"));
        by_tcp.wait_for("CANCEL", 1);
        by_tcp.wait_for("ACK", 1);
        assert!(by_udp.requests("INVITE").is_empty() && by_udp.requests("CANCEL").is_empty());

        // Nobody listens by TCP.
        let callee = Uas::answering(V4);
        sps.route("1666*", callee.addr());
        let invite = agent.request("INVITE", &sps.uri("16660100"));
        let answer = agent.ask(sps.addr(), &large(invite, 3_000));
        let mut answer = answer;
        // Responses to the cancelled call may still be on their way.
        while answer.cseq().1 != "INVITE" || answer.status() != Some(200) {
            answer = agent.final_response();
        }
        let arrived = callee.wait_for("INVITE", 1);
        assert!(arrived.values("Via")[0].starts_with("SIP/2.0/UDP "), "{arrived}");
        assert_eq!(arrived.body.len(), 3_000);

        // An 8 kB datagram is taken (§18.1.1: whatever size a datagram can have).
        let invite = agent.request("MESSAGE", &sps.uri("16660101"));
        assert_eq!(agent.ask(sps.addr(), &large(invite, 8_000)).status(), Some(200));
        assert_eq!(callee.wait_for("MESSAGE", 1).body.len(), 8_000);
    });
}

/// RFC 3261 §18.1.1 switched off.
#[test]
fn with_no_bound_everything_goes_by_udp() {
    bounded(|| {
        let sps = Instance::start(Options::new().section("[proxy]\nudp_max_request_bytes = 0"));
        let addr = free_addr(V4);
        let by_udp = Uas::answering_as(Agent::udp_at(addr), "udp");
        let by_tcp = Uas::answering_as(Agent::tcp_at(addr), "tcp");
        sps.route("1555*", addr);
        let mut agent = Agent::udp(V4);
        let request = agent.request("MESSAGE", &sps.uri("15550100"));
        assert_eq!(agent.ask(sps.addr(), &large(request, 3_000)).status(), Some(200));
        assert_eq!((by_udp.seen().len(), by_tcp.seen().len()), (1, 0));
    });
}

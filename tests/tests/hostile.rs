//! Hostile peers: while they do what they do, 100 calls a second of a registered user all complete.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use sps_tests::attack::{self, Attack, Callee, sources};
use sps_tests::random::Random;
use sps_tests::wait::{bounded_by, wait_until};
use sps_tests::{Agent, Instance, Options, skip};

/// Attackers are 127.6 and 127.7; the caller 127.8.0.1, the callee 127.8.0.2. None of them is a friend.
const CALLER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 8, 0, 1));
const CALLEE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 8, 0, 2));

/// How long the calls go on.
const TIME: Duration = Duration::from_secs(4);

const LIMIT: Duration = Duration::from_secs(120);

static ATTACKS: Mutex<()> = Mutex::new(());

struct Site {
    _alone: MutexGuard<'static, ()>,
    sps: Instance,
    caller: Agent,
    _callee: Callee,
}

/// An instance with a registered caller, and a registered callee to be called.
fn site(more: &str) -> Site {
    site_with(Options::new().section(more))
}

fn site_with(options: Options) -> Site {
    // One attack at a time: two of them and the load generator would try the machine's patience, not ours.
    let alone = ATTACKS.lock().unwrap_or_else(PoisonError::into_inner);
    let callee = Callee::at(CALLEE);
    let sps = Instance::start(options);
    sps.register("bob", &format!("sip:bob@{}", callee.addr()), "1.0");
    let mut caller = Agent::udp(CALLER);
    let contact = format!("<{}>", caller.uri("alice"));
    let aor = format!("<{}>", sps.uri("alice"));
    let mut register = caller
        .request("REGISTER", "sip:sps.test")
        .set("To", &aor)
        .set("Contact", &contact);
    let tag = caller.token();
    register = register.set("From", format!("{aor};tag={tag}"));
    assert_eq!(caller.ask(sps.addr(), &register).status(), Some(200));
    Site {
        _alone: alone,
        sps,
        caller,
        _callee: callee,
    }
}

impl Site {
    /// All calls complete, and what the proxy takes stays within bounds.
    fn assert_calls_complete(&mut self) {
        let before = self.memory();
        let uri = self.sps.uri("bob");
        let (begun, completed) = attack::calls(&mut self.caller, self.sps.addr(), &uri, 100, TIME);
        assert_eq!(completed, begun);
        assert!(begun >= 390, "{begun} calls");
        let grown = self.memory().saturating_sub(before);
        assert!(grown < 96 << 20, "the proxy grew by {} MiB", grown >> 20);
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.sps.pid("sps-proxy")))
            .expect("the proxy runs")
            .count() as u64;
        let limit = self.sps.status()["open_files_limit"].as_u64().expect("a number");
        assert!(open < limit * 9 / 10, "{open} of {limit} descriptors");
        assert_eq!(self.sps.daemon("sps-proxy")["restarts"], 0);
    }

    fn memory(&self) -> u64 {
        self.sps.daemon("sps-proxy")["memory_bytes"].as_u64().expect("a number")
    }

    /// Waits until so much was refused for this reason.
    fn wait_refused(&self, reason: &str, least: u64) {
        wait_until(&format!("{least} refused as {reason}"), || {
            refused(&self.sps, reason) >= least
        });
    }
}

fn refused(sps: &Instance, reason: &str) -> u64 {
    sps.status()["refused"][reason]
        .as_u64()
        .unwrap_or_else(|| panic!("no {reason} among what was refused"))
}

fn bans(sps: &Instance) -> Vec<Value> {
    let said = sps.spsctl(&["--json", "ban", "list"]).ok();
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error} in {}", said.stdout))
}

fn banned(sps: &Instance, network: &str) -> Option<Value> {
    bans(sps).into_iter().find(|ban| ban["network"] == network)
}

/// Garbage, header bombs, giant messages, stray responses, scans, floods of CANCEL and ACK: all at once over UDP.
#[test]
fn calls_go_on_while_datagrams_of_all_bad_kinds_come() {
    bounded_by(LIMIT, || {
        // Overload control, tried elsewhere, would refuse the caller too on a machine that is busy with other tests.
        let mut site = site("[overload]\nenabled = false");
        let to = site.sps.addr();
        let garbage = Attack::udp(to, &sources(6, 0, 8), 2_000, 1, |random, _, _| {
            (0..random.number() % 1_200).map(|_| random.number() as u8).collect()
        });
        let bombs = Attack::udp(to, &sources(6, 1, 4), 200, 2, |random, n, own| {
            let whole = attack::request("INVITE", "sip:x@sps.test", random, own);
            let more = match n % 2 {
                0 => "X: y\r\n".repeat(5_000),
                _ => format!("X: {}\r\n", "z".repeat(50_000)),
            };
            String::from_utf8_lossy(&whole)
                .replace("Max-Forwards", &format!("{more}Max-Forwards"))
                .into_bytes()
        });
        let stray = Attack::udp(to, &sources(6, 2, 4), 3_000, 3, move |random, _, own| {
            let branch = format!(
                "sps0001{:02x}{:08x}{}{}",
                0,
                random.number() as u32,
                "0a0b0c0d",
                random.token()
            );
            format!(
                "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {to};branch=z9hG4bK{branch}\r\nVia: SIP/2.0/UDP {own}\r\n\
                 From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: {}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n",
                random.token()
            )
            .into_bytes()
        });
        let scan = Attack::udp(to, &sources(6, 3, 4), 1_000, 4, |random, _, own| {
            let uri = format!("sip:{}@sps.test", random.number() % 100_000);
            attack::request("INVITE", &uri, random, own)
        });
        let cancels = Attack::udp(to, &sources(6, 4, 4), 1_000, 5, |random, n, own| {
            attack::request(
                if n % 2 == 0 { "CANCEL" } else { "ACK" },
                "sip:bob@sps.test",
                random,
                own,
            )
        });
        site.assert_calls_complete();
        let all = [&garbage, &bombs, &stray, &scan, &cancels].map(Attack::sent);
        assert!(all.iter().all(|sent| *sent > 100), "{all:?}");
        // Every attacker is found out, and most of what they sent was not even read.
        site.wait_refused("banned", 5_000);
        for (reason, least) in [
            ("malformed", 500),
            ("stray_responses", 1_000),
            ("not_found", 100),
            ("cancel_unmatched", 100),
        ] {
            assert!(
                refused(&site.sps, reason) >= least,
                "{reason}: {}",
                refused(&site.sps, reason)
            );
        }
        let causes: Vec<(String, String)> = bans(&site.sps)
            .iter()
            .map(|ban| (ban["network"].to_string(), ban["cause"].to_string()))
            .collect();
        for (network, cause) in [
            ("127.6.0.", "malformed"),
            ("127.6.2.", "stray"),
            ("127.6.3.", "refused"),
        ] {
            let found = causes
                .iter()
                .any(|(known, why)| known.contains(network) && why.contains(cause));
            assert!(found, "{network} for {cause} in {causes:?}");
        }
        assert!(
            !causes.iter().any(|(network, _)| network.contains("127.8.")),
            "{causes:?}"
        );
        let line = site.sps.wait_access(&["stage=guard", "reason=", "count="]);
        assert!(line.starts_with("127.6.") || line.starts_with("0.0.0.0"), "{line}");
        drop((garbage, bombs, stray, scan, cancels));
        // One line a source and second, not one a message.
        let lines = site
            .sps
            .log("access_log")
            .lines()
            .filter(|line| line.contains("stage=guard"))
            .count();
        assert!(lines < 2 * 33 * 30, "{lines} lines of the guard");
    });
}

/// Requests to places that say nothing, to closed ports (ICMP), to names that do not exist, from 400 sources each within its
/// budget: they may fill the table to seven eighths, and no more.
#[test]
fn calls_go_on_while_strangers_fill_the_table() {
    bounded_by(LIMIT, || {
        // What the calls leave behind for 32 seconds (Timers L and J) must fit into the reserve of so small a table.
        let mut site = site_with(Options::new().server("workers = 1").section(
            "[proxy]\nmax_transactions = 16000\n[overload]\nenabled = false\n\
             [dns]\nservers = [\"127.0.0.1:1\"]\ntimeout_ms = 500",
        ));
        let silent = UdpSocket::bind("127.8.0.9:0").expect("a port is free");
        let silent_at = silent.local_addr().expect("bound");
        let many: Vec<Ipv4Addr> = (0..8).flat_map(|b| sources(7, b, 50)).collect();
        let flood = Attack::udp(site.sps.addr(), &many, 2_500, 7, move |random, n, own| {
            let uri = match n % 8 {
                0 => format!("sip:x@n{}.invalid", random.token()),
                1 => "sip:x@127.8.0.9:9".to_owned(),
                _ => format!("sip:x@{silent_at}"),
            };
            attack::request("INVITE", &uri, random, own)
        });
        site.wait_refused("full_for_unknown", 1);
        site.assert_calls_complete();
        assert!(flood.sent() > 4_000, "{}", flood.sent());
        assert_eq!(refused(&site.sps, "full_for_dialogs"), 0);
        assert_eq!(refused(&site.sps, "full_for_known"), 0);
    });
}

/// Slow writers, giant messages, rubbish, and connections that come and go.
#[test]
fn calls_go_on_while_streams_misbehave() {
    bounded_by(LIMIT, || {
        let mut site =
            site("[proxy]\nstream_header_timeout_ms = 1000\nmax_buffered_mib = 1\n[guard]\nmalformed_per_s = 2");
        let to = site.sps.addr();
        let stop = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        let stopped = stop.clone();
        let attacker = std::thread::spawn(move || {
            let mut random = Random::seeded(11);
            let mut slow: Vec<TcpStream> = Vec::new();
            let mut turns = 0u32;
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                turns += 1;
                // Slow ones that have begun a long message.
                if slow.len() < 200
                    && let Some(mut stream) = connect_from([127, 7, 9, (turns % 100) as u8 + 1], to)
                {
                    let begun = format!("INVITE sip:x@y SIP/2.0\r\nX: {}", "x".repeat(20_000));
                    let _ = stream.write_all(begun.as_bytes());
                    slow.push(stream);
                }
                slow.retain_mut(|stream| stream.write_all(b"x").is_ok());
                // Rubbish, each on a connection of its own.
                if let Some(mut stream) = connect_from([127, 6, 9, 1], to) {
                    let rubbish: Vec<u8> = (0..500).map(|_| random.number() as u8 | 0x80).collect();
                    let _ = stream.write_all(&rubbish);
                    let _ = stream.write_all(b"\r\n\r\n");
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
        });
        site.assert_calls_complete();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        attacker.join().expect("the attacker has no faults");
        site.wait_refused("connection_buffers", 1);
        site.wait_refused("connections_banned", 10);
        assert_eq!(banned(&site.sps, "127.6.9.1/32").expect("banned")["cause"], "malformed");
    });
}

/// A TCP connection from this address of the loopback.
fn connect_from(source: [u8; 4], to: SocketAddr) -> Option<TcpStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
    use std::os::fd::AsRawFd;
    let descriptor = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).ok()?;
    let SocketAddr::V4(to) = to else { return None };
    bind(
        descriptor.as_raw_fd(),
        &SockaddrIn::new(source[0], source[1], source[2], source[3], 0),
    )
    .ok()?;
    connect(descriptor.as_raw_fd(), &SockaddrIn::from(to)).ok()?;
    Some(TcpStream::from(descriptor))
}

/// Ten thousand connections that say nothing: newcomers take the places of the oldest, and calls over TCP go on.
#[test]
fn ten_thousand_idle_connections_keep_nobody_out() {
    bounded_by(LIMIT, || {
        const IDLE: usize = 10_000;
        if !may_open(IDLE + 1_000) {
            skip!("descriptors: the hard limit on open files is below {}", IDLE + 1_000);
        }
        let mut site = site("[proxy]\nmax_connections = 8000\nmax_connections_per_source = 1000");
        let to = site.sps.addr();
        let mut idle = Vec::new();
        for n in 0..IDLE {
            let source = [127, 7, (n / 200) as u8, (n % 200) as u8 + 1];
            let stream = connect_from(source, to);
            idle.extend(stream);
            if n == 7_500 {
                // Those that came first have had their time.
                std::thread::sleep(Duration::from_millis(2_100));
            }
        }
        assert!(idle.len() > IDLE - 100, "{} connected", idle.len());
        let mut phone = Agent::tcp(CALLER);
        let request = phone.request("OPTIONS", "sip:sps.test");
        assert_eq!(phone.ask(to, &request).status(), Some(200));
        site.assert_calls_complete();
        site.wait_refused("connections_replaced", 100);
        let open = site.sps.status()["counters"].clone();
        let open: u64 = open
            .as_object()
            .expect("an object")
            .values()
            .filter_map(|block| block["streams_open"].as_u64())
            .sum();
        assert!(open <= 8_000, "{open} open");
    });
}

/// Raises our own soft limit; the daemons raise theirs themselves.
fn may_open(count: usize) -> bool {
    let own = std::process::id().to_string();
    let raised = std::process::Command::new("prlimit")
        .args(["--pid", &own, &format!("--nofile={count}:")])
        .status();
    raised.is_ok_and(|status| status.success())
}

/// `spsctl ban`: in force when it returns, in every worker, over a reload and a restart; friends are refused.
#[test]
fn the_operator_bans_and_lifts() {
    bounded_by(LIMIT, || {
        let sps = Instance::start(Options::new().server("workers = 2"));
        let mut stranger = Agent::udp(IpAddr::from([127, 6, 6, 6]));
        let answered = |agent: &mut Agent| {
            let request = agent.request("OPTIONS", "sip:sps.test");
            agent.send(sps.addr(), &request);
            agent.try_receive(Duration::from_millis(700)).is_some()
        };
        assert!(answered(&mut stranger));
        let mut stream = connect_from([127, 6, 6, 7], sps.addr()).expect("connected");
        sps.spsctl(&["ban", "add", "127.6.6.0/24", "--reason", "scans us"]).ok();
        for _ in 0..4 {
            // Other ports meet other workers.
            assert!(!answered(&mut Agent::udp(IpAddr::from([127, 6, 6, 6]))));
        }
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout can be set");
        assert_eq!(stream.read(&mut [0; 10]).expect("closed, not silent"), 0);
        let mut again = connect_from([127, 6, 6, 7], sps.addr()).expect("the kernel takes it");
        again
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout can be set");
        assert!(matches!(again.read(&mut [0; 10]), Ok(0) | Err(_)));
        let ban = banned(&sps, "127.6.6.0/24").expect("listed");
        assert_eq!(
            (&ban["cause"], &ban["reason"]),
            (&"operator".into(), &"scans us".into())
        );
        assert!(ban["hits"].as_u64() >= Some(4), "{ban}");
        assert_eq!(ban["until"], Value::Null);
        wait_until("the refused connection is counted", || {
            refused(&sps, "connections_banned") >= 1
        });
        sps.spsctl(&["reload"]).ok();
        assert!(!answered(&mut stranger));
        sps.stop();
        assert!(banned(&sps, "127.6.6.0/24").is_some(), "also while it does not run");
        sps.spsctl(&["start"]).ok();
        assert!(!answered(&mut stranger));
        let said = sps.spsctl(&["ban", "remove", "127.6.6.0/24"]).ok();
        assert!(said.stderr.contains("the ban is over"), "{}", said.stderr);
        assert!(answered(&mut stranger));
        let said = sps.spsctl(&["ban", "add", "127.0.0.1"]);
        assert_eq!(said.code, 78, "{}", said.stderr);
        assert!(said.stderr.contains("is a friend"), "{}", said.stderr);
        assert!(bans(&sps).is_empty());
        sps.spsctl(&["ban", "add", "127.6.6.6", "--for", "1"]).ok();
        assert!(!answered(&mut stranger));
        wait_until("the ban has ended", || answered(&mut stranger));
    });
}

/// The guard's own bans: they begin, grow, outlast a reload, end; friends never have one, and a proven phone none by datagrams.
#[test]
fn the_guard_bans_for_a_time_and_never_a_friend() {
    bounded_by(LIMIT, || {
        let section = "[guard]\nfriends = [\"127.6.5.0/24\"]\nmalformed_per_s = 2\nban_s = 3";
        let mut site = site(section);
        let sps = &site.sps;
        let rubbish = |ip: [u8; 4]| {
            let socket = UdpSocket::bind((Ipv4Addr::from(ip), 0)).expect("a port is free");
            for _ in 0..400 {
                socket
                    .send_to(b"no SIP at all, and long enough\r\n\r\n", sps.addr())
                    .expect("sent");
            }
        };
        rubbish([127, 6, 5, 5]);
        rubbish([127, 8, 0, 1]);
        rubbish([127, 6, 6, 6]);
        wait_until("the stranger is banned", || banned(sps, "127.6.6.6/32").is_some());
        let begun = Instant::now();
        sps.spsctl(&["reload"]).ok();
        let ban = banned(sps, "127.6.6.6/32").expect("a reload changes nothing");
        assert_eq!(
            (&ban["cause"], &ban["strikes"]),
            (&"malformed".into(), &1.into()),
            "{ban}"
        );
        assert_eq!(bans(sps).len(), 1, "neither the friend nor the phone: {:?}", bans(sps));
        wait_until("of the phone only the excess was dropped", || {
            refused(sps, "over_budget") > 0
        });
        wait_until("the ban has ended", || banned(sps, "127.6.6.6/32").is_none());
        assert!(begun.elapsed() < Duration::from_secs(10));
        rubbish([127, 6, 6, 6]);
        wait_until("it is banned again", || {
            banned(sps, "127.6.6.6/32").is_some_and(|ban| ban["strikes"] == 2)
        });
        let said = sps.spsctl(&["ban", "remove", "127.6.6.6"]).ok();
        assert!(said.stderr.contains("1 of the guard's own"), "{}", said.stderr);
        let request = site.caller.request("OPTIONS", "sip:sps.test");
        assert_eq!(
            site.caller.ask(sps.addr(), &request).status(),
            Some(200),
            "the phone speaks on"
        );
    });
}

/// RFC 3261 §18.2.2, RFC 3581 §4: responses go to the source address whatever Via says; maddr and received aim at nobody else.
#[test]
fn nobody_is_aimed_at_through_us() {
    bounded_by(LIMIT, || {
        let sps = Instance::start(Options::new());
        let victim = UdpSocket::bind("127.8.7.7:0").expect("a port is free");
        let at = victim.local_addr().expect("bound");
        let listener = TcpListener::bind(at).expect("a port is free");
        listener.set_nonblocking(true).expect("non-blocking");
        let mut agent = Agent::udp(IpAddr::from([127, 6, 6, 6]));
        for via in [
            format!("SIP/2.0/UDP {at};branch=z9hG4bK1"),
            format!("SIP/2.0/UDP {at};rport;branch=z9hG4bK2"),
            format!("SIP/2.0/UDP {};maddr={};branch=z9hG4bK3", agent.addr(), at.ip()),
            format!(
                "SIP/2.0/UDP {};received={};rport={};branch=z9hG4bK4",
                agent.addr(),
                at.ip(),
                at.port()
            ),
            format!("SIP/2.0/TCP {at};branch=z9hG4bK5"),
        ] {
            for (method, uri) in [
                ("OPTIONS", "sip:sps.test"),
                ("INVITE", "sip:nobody@sps.test"),
                ("CANCEL", "sip:x@sps.test"),
            ] {
                let request = agent.request(method, uri).set("Via", &via);
                agent.send(sps.addr(), &request);
                while let Some(answer) = agent.try_receive(Duration::from_millis(50)) {
                    assert!(answer.bytes.len() <= request.bytes().len() + 400, "{}", answer.message);
                }
            }
        }
        victim
            .set_read_timeout(Some(Duration::from_millis(300)))
            .expect("a timeout can be set");
        let aimed = victim.recv_from(&mut [0; 65_536]);
        assert!(aimed.is_err(), "{aimed:?}");
        assert!(listener.accept().is_err());
    });
}

//! RFC 4475 and RFC 5118: each torture message at a running SPS, over UDP and over TCP, with a next hop of the tests behind
//! it. The verdicts are in `tests/torture/verdicts.toml`; whatever comes, SPS serves on.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use sps_tests::dns::Dns;
use sps_tests::next_hop::NextHop;
use sps_tests::torture::{Case, StreamEnd, Verdict, cases, changed, folder};
use sps_tests::{Agent, Instance, Options, bounded, wait_until};

/// A domain that nobody in the messages is in, and a route to the next hop for everybody else.
fn proxy(next_hop: &NextHop, dns: &Dns) -> Instance {
    let options = Options::new()
        .section("[proxy]\nstream_header_timeout_ms = 500")
        .section(&format!("[dns]\nservers = [\"{}\"]", dns.addr()));
    let sps = Instance::start(options);
    sps.spsroute(&["add", "--domain", "*", &next_hop.addr().to_string()])
        .ok();
    sps
}

/// The registrar of example.com.
fn registrar(_: &NextHop, _: &Dns) -> Instance {
    Instance::start(Options::new().server("domains = [\"example.com\"]"))
}

/// The end of the line, which is also what two of the messages name in a Route header: routes of ours do not count there.
///
/// One for all tests, one house at a time: its addresses are fixed.
fn end_of_the_line() -> MutexGuard<'static, (NextHop, Dns)> {
    static END: LazyLock<Mutex<(NextHop, Dns)>> = LazyLock::new(|| Mutex::new(build_end()));
    END.lock().unwrap_or_else(PoisonError::into_inner)
}

fn build_end() -> (NextHop, Dns) {
    let named = sender(253);
    let IpAddr::V4(ip) = named else {
        unreachable!("senders have IPv4 addresses")
    };
    let dns = Dns::start(&[("services.example.com", &[ip])]);
    let next_hop = NextHop::start(Ipv4Addr::LOCALHOST.into())
        .and_at((named, 5060).into())
        .and_at((Ipv4Addr::LOCALHOST, 5080).into());
    (next_hop, dns)
}

/// Instances for messages of which some have the same Via, though they come from different phones: one that would be taken
/// for a retransmission goes to the next instance.
struct House {
    end: MutexGuard<'static, (NextHop, Dns)>,
    start: fn(&NextHop, &Dns) -> Instance,
    instances: Vec<Instance>,
    played: HashMap<(Option<String>, String), usize>,
}

impl House {
    fn new(start: fn(&NextHop, &Dns) -> Instance) -> House {
        House {
            end: end_of_the_line(),
            start,
            instances: Vec::new(),
            played: HashMap::new(),
        }
    }

    fn visit(&mut self, case: &Case) -> (&Instance, &NextHop) {
        let count = self.played.entry((case.top_via(), case.method())).or_default();
        *count += 1;
        let (next_hop, dns) = &*self.end;
        while self.instances.len() < *count {
            self.instances.push((self.start)(next_hop, dns));
        }
        (&self.instances[*count - 1], next_hop)
    }

    fn never_fell(&self) {
        for sps in &self.instances {
            assert_eq!(sps.daemon("sps-proxy")["restarts"], 0, "the proxy never fell");
        }
    }
}

/// An address of the loopback for one sender: without rport the answer goes to the port of its Via, mostly 5060, there.
fn sender(number: usize) -> IpAddr {
    let id = std::process::id();
    Ipv4Addr::new(
        127,
        64 + (id >> 8 & 0x3f) as u8,
        id as u8,
        u8::try_from(number + 1).expect("there are fewer than 255 messages"),
    )
    .into()
}

/// A good request gets through and is answered.
fn assert_serves(agent: &mut Agent, sps: &Instance, after: &Case) {
    let request = agent.request("MESSAGE", "sip:good@example.net");
    agent.send(sps.addr(), &request);
    let call_id = request.must("Call-ID");
    loop {
        let answer = agent.receive().message;
        if answer.header("Call-ID") == Some(call_id) {
            assert_eq!(answer.status(), Some(200), "after {}: {answer}", after.file);
            return;
        }
        // What came before it is the answer to the torture message, and that was looked at; or to the second one that
        // dblreq is on a stream.
        let torture = String::from_utf8_lossy(&after.bytes);
        let before = answer.header("Call-ID").unwrap_or_default();
        assert!(torture.contains(before), "after {}: {answer}", after.file);
    }
}

/// The requests that reached the next hop with the Call-ID of this message.
fn arrived(next_hop: &NextHop, case: &Case) -> Vec<Vec<u8>> {
    let Some(call_id) = case.call_id() else {
        return Vec::new();
    };
    let all = next_hop.seen().into_iter();
    all.filter(|bytes| bytes.windows(call_id.len()).any(|window| window == call_id.as_bytes()))
        .collect()
}

/// Plays a request and looks at what comes of it.
fn play(case: &Case, verdict: Verdict, agent: &mut Agent, sps: &Instance, next_hop: &NextHop) {
    let before = arrived(next_hop, case).len();
    let what = format!("{} ({}) over {}", case.file, case.section, agent.transport());
    agent.send_bytes(sps.addr(), &case.bytes);
    match verdict {
        Verdict::Answered(status) => {
            let answer = agent.final_response();
            assert_eq!(answer.status(), Some(status), "{what}: {answer}");
            if status == 420 {
                assert_eq!(
                    answer.values("Unsupported"),
                    ["noProxiesSupportThis", "norDoAnyProxiesSupportThis"]
                );
            }
            assert_eq!(arrived(next_hop, case).len(), before, "{what}: went on all the same");
        }
        Verdict::Forwarded => {
            let answer = agent.final_response();
            assert_eq!(answer.status(), Some(200), "{what}: {answer}");
            let arrived = arrived(next_hop, case);
            let forwarded = arrived.last().unwrap_or_else(|| panic!("{what}: nothing arrived"));
            if let Err(problem) = changed(&case.bytes, forwarded, agent.addr().ip()) {
                panic!("{what}: {problem}\n{}", String::from_utf8_lossy(forwarded));
            }
            let uri_of = |bytes: &[u8]| {
                let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
                line.split(|byte| *byte == b' ')
                    .nth(1)
                    .map(|uri| String::from_utf8_lossy(uri).into_owned())
            };
            let expected = case.request_uri.clone().or_else(|| uri_of(&case.bytes));
            assert_eq!(uri_of(forwarded), expected, "{what}");
        }
        // The next answer that comes is that of a good request.
        Verdict::Discarded => {}
        Verdict::Relayed | Verdict::Absorbed => unreachable!("{what} is no request"),
    }
}

#[test]
fn over_udp_each_message_gets_its_verdict() {
    bounded(|| {
        let mut house = House::new(proxy);
        for (number, case) in cases().iter().enumerate() {
            let mut agent = Agent::udp_at((sender(number), case.answer_port()).into());
            let (sps, next_hop) = house.visit(case);
            if !case.is_response() {
                play(case, case.verdict, &mut agent, sps, next_hop);
            } else if case.verdict == Verdict::Discarded {
                agent.send_bytes(sps.addr(), &case.bytes);
            }
            assert_serves(&mut agent, sps, case);
        }
        let call_ids: HashSet<String> = cases()
            .iter()
            .filter(|case| case.is_response() || case.verdict != Verdict::Forwarded)
            .filter_map(Case::call_id)
            .collect();
        // RFC 5118 has one Call-ID for several messages, of which some are forwarded.
        let stray = call_ids.iter().filter(|id| !id.starts_with("SSG")).find(|id| {
            let seen = house.end.0.seen();
            seen.iter()
                .any(|bytes| bytes.windows(id.len()).any(|window| window == id.as_bytes()))
        });
        assert_eq!(stray, None, "reached the next hop");
        house.never_fell();
    });
}

/// §18.3: where framing permits, the same connection serves on; else it is ended, and a new one is served.
#[test]
fn over_tcp_each_message_gets_its_verdict() {
    bounded(|| {
        let mut house = House::new(proxy);
        for (number, case) in cases().iter().enumerate().filter(|(_, case)| !case.is_response()) {
            let mut agent = Agent::tcp(sender(number));
            let (sps, next_hop) = house.visit(case);
            let verdict = match case.stream {
                Some(StreamEnd::Refused) => Verdict::Answered(400),
                Some(StreamEnd::Cut) => Verdict::Discarded,
                Some(StreamEnd::AsVerdict) | None => case.verdict,
            };
            play(case, verdict, &mut agent, sps, next_hop);
            if case.stream.is_some() {
                agent.wait_closed(sps.addr());
            }
            assert_serves(&mut agent, sps, case);
        }
        house.never_fell();
    });
}

/// What only a registrar has an opinion of.
#[test]
fn a_registrar_gives_its_verdicts() {
    bounded(|| {
        let mut house = House::new(registrar);
        for (number, case) in cases().iter().enumerate() {
            let Some(verdict) = case.registrar else { continue };
            let mut agent = Agent::udp_at((sender(number), case.answer_port()).into());
            let (sps, next_hop) = house.visit(case);
            play(case, verdict, &mut agent, sps, next_hop);
            if verdict != Verdict::Answered(200) {
                continue;
            }
            let listed = sps.spsctl(&["--json", "registration", "list"]).ok().stdout;
            let bound = |contact: &str| assert!(listed.contains(contact), "{}: {contact} in {listed}", case.file);
            match case.file.as_str() {
                // §3.1.1.4: two contacts that an escaped NUL tells apart.
                "rfc4475/escnull" => {
                    bound("sip:%00@host5.example.com");
                    bound("sip:%00%00@host5.example.com");
                }
                // §3.3.12: the parameter is the header's and no part of the contact.
                "rfc4475/cparam01" => {
                    bound("sip:+19725552222@gw1.example.net");
                    assert!(!listed.contains("unknownparam"), "{listed}");
                }
                // §3.3.13: here it is the URI's.
                "rfc4475/cparam02" => bound("sip:+19725552222@gw1.example.net;unknownparam"),
                // §3.3.14
                "rfc4475/regescrt" => bound("sip:user@example.com?Route=%3Csip:sip.example.com%3E"),
                _ => {}
            }
        }
        house.never_fell();
    });
}

/// §3.1.1.12, §3.1.1.13, §3.1.2.5, §3.1.2.19: responses that answer a request of ours.
#[test]
fn responses_go_upstream_or_no_further() {
    bounded(|| {
        let (next_hop, dns) = (NextHop::start(Ipv4Addr::LOCALHOST.into()), Dns::start(&[]));
        let sps = proxy(&next_hop, &dns);
        for case in cases()
            .iter()
            .filter(|case| case.is_response() && case.file != "rfc4475/bcast")
        {
            let mut agent = Agent::udp(Ipv4Addr::LOCALHOST.into());
            let relayed = case.verdict == Verdict::Relayed;
            next_hop.answer_next(&case.bytes, !relayed);
            let request = agent.request(&case.method(), "sip:somebody@example.net");
            agent.send(sps.addr(), &request);
            let answer = loop {
                let received = agent.receive();
                if !received.bytes.starts_with(b"SIP/2.0 100 Trying\r\n") {
                    break received;
                }
            };
            let status_line = |bytes: &[u8]| bytes.split(|byte| *byte == b'\r').next().map(<[u8]>::to_vec);
            if relayed {
                assert_eq!(status_line(&answer.bytes), status_line(&case.bytes), "{}", case.file);
                assert_eq!(answer.message.body.len(), 154, "{}", case.file);
            } else {
                assert_eq!(answer.message.start, "SIP/2.0 200 OK", "{}", case.file);
            }
            assert_eq!(answer.message.values("Via").len(), 1, "{}", case.file);
        }
        assert_eq!(sps.daemon("sps-proxy")["restarts"], 0);
    });
}

/// RFC 5118's archive as it is, with LF for CRLF: no line ends (RFC 3261 §25.1), so it is no message, and nobody behind us may
/// get to see it.
#[test]
fn lines_that_end_with_lf_alone_get_nowhere() {
    bounded(|| {
        let (next_hop, dns) = (NextHop::start(Ipv4Addr::LOCALHOST.into()), Dns::start(&[]));
        let sps = proxy(&next_hop, &dns);
        let (mut udp, mut tcp) = (
            Agent::udp(Ipv4Addr::LOCALHOST.into()),
            Agent::tcp(Ipv4Addr::LOCALHOST.into()),
        );
        for entry in std::fs::read_dir(folder().join("rfc5118"))
            .expect("the folder is there")
            .flatten()
        {
            let bytes = std::fs::read(entry.path()).expect("a file");
            udp.send_bytes(sps.addr(), &bytes);
            tcp.send_bytes(sps.addr(), &bytes);
            tcp.wait_closed(sps.addr());
        }
        for agent in [&mut udp, &mut tcp] {
            let request = agent.request("MESSAGE", "sip:good@example.net");
            assert_eq!(agent.ask(sps.addr(), &request).status(), Some(200));
        }
        wait_until("the good ones arrived", || next_hop.seen().len() >= 2);
        assert_eq!(next_hop.seen().len(), 2, "and nothing else");
    });
}

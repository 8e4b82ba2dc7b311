//! The core walked through the rules of RFC 3261 §16 with a hand-moved clock: messages in, messages out, no socket.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use smallvec::smallvec;
use sps_wire::flow::Transport;

use super::*;

/// A caller behind 10.0.0.1, callees behind 10.0.0.2 and up; SPS is 127.0.0.1:5060.
const CALLER: &str = "10.0.0.1:5060";

/// Destinations of a target that are left to try.
type Hops = Vec<&'static str>;

#[derive(Default)]
struct Lines(Vec<(u16, &'static str, usize)>);

impl Journal for Lines {
    fn finished(&mut self, finished: &Finished<'_>) {
        self.0.push((finished.status, finished.stage, finished.branches));
    }
}

/// What left, as text.
#[derive(Debug, Clone)]
struct Sent {
    to: SocketAddr,
    text: String,
    token: u64,
}

impl Sent {
    fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    fn header(&self, name: &str) -> Vec<&str> {
        let prefix = format!("{name}: ");
        self.text
            .lines()
            .filter_map(|line| line.strip_prefix(prefix.as_str()))
            .collect()
    }
}

struct House {
    core: Proxy<Hops, Lines>,
    clock: Clock,
    /// Targets that routing gives to every request: Request-URI, q, hops.
    targets: Vec<(&'static str, u16, Hops)>,
    /// Answer routing questions at once, or leave them open.
    routes_at_once: bool,
    open: Vec<Ticket>,
    forgotten: usize,
    served: Vec<Ticket>,
}

fn conf() -> Conf {
    let listener = |transport, port: u16| Listener {
        transport,
        addr: SocketAddr::from(([127, 0, 0, 1], port)),
        sent_by: format!("127.0.0.1:{port}"),
    };
    Conf {
        member: 0,
        generation: 1,
        worker: 0,
        timers: crate::timers::TimerConf::default(),
        record_route: true,
        fork: Fork::Parallel,
        listeners: vec![listener(Transport::Udp, 5060), listener(Transport::Tcp, 5060)],
        ours: Ours(Arc::new(|uri| match uri.host {
            sps_wire::uri::Host::Name(name) => name == b"example.com",
            host => host.ip() == Some(std::net::IpAddr::from([127, 0, 0, 1])),
        })),
        keys: Keys::new(&[MacKey { id: 1, secret: [7; 32] }]),
        max_transactions: 1000,
        max_targets: 8,
        registrar: true,
        draining: false,
    }
}

fn house_with(conf: Conf) -> House {
    let now = Instant::now();
    House {
        core: Proxy::new(conf, Limits::default(), Lines::default(), 42, now),
        clock: Clock {
            now,
            unix_ms: 1_800_000_000_000,
        },
        targets: vec![("sip:bob@10.0.0.2:5060", 1000, vec!["10.0.0.2:5060"])],
        routes_at_once: true,
        open: Vec::new(),
        forgotten: 0,
        served: Vec::new(),
    }
}

fn house() -> House {
    house_with(conf())
}

impl House {
    fn feed_by(&mut self, transport: Transport, from: &str, text: &str) -> Vec<Sent> {
        let flow = Flow {
            member: 0,
            transport,
            local: SocketAddr::from(([127, 0, 0, 1], 5060)),
            remote: from.parse().expect("an address"),
            connection: if transport == Transport::Udp { 0 } else { 9 },
        };
        let mut todo = Vec::new();
        let elsewhere = self.core.on_message(self.clock, flow, text.as_bytes(), &mut todo);
        assert_eq!(elsewhere, None);
        self.perform(todo)
    }

    fn feed(&mut self, from: &str, text: &str) -> Vec<Sent> {
        self.feed_by(Transport::Udp, from, text)
    }

    fn pass(&mut self, time: Duration) -> Vec<Sent> {
        let end = self.clock.now + time;
        let mut sent = Vec::new();
        while let Some(at) = self.core.deadline().filter(|at| *at <= end) {
            let step = at.saturating_duration_since(self.clock.now);
            self.clock.now += step;
            let mut todo = Vec::new();
            self.core.on_deadline(self.clock, &mut todo);
            sent.extend(self.perform(todo));
        }
        self.clock.now = end;
        sent
    }

    fn route(&mut self, ticket: Ticket) -> Vec<Sent> {
        let targets = self
            .targets
            .iter()
            .map(|(uri, q, hops)| Target {
                uri: Bytes::from_static(uri.as_bytes()),
                q: *q,
                path: smallvec![],
                walk: hops.clone(),
            })
            .collect();
        let mut todo = Vec::new();
        self.core.on_targets(self.clock, ticket, "test", targets, &mut todo);
        self.perform(todo)
    }

    fn perform(&mut self, todo: Vec<Action>) -> Vec<Sent> {
        let mut sent = Vec::new();
        for action in todo {
            match action {
                Action::Send { leave, bytes, token } => {
                    let to = match leave {
                        Leave::Reply(flow) | Leave::Flow(flow) => flow.remote,
                        Leave::Onward { destination, .. } => destination.addr,
                    };
                    sent.push(Sent {
                        to,
                        text: String::from_utf8_lossy(&bytes).into_owned(),
                        token,
                    });
                }
                Action::Route(ticket) if self.routes_at_once => sent.extend(self.route(ticket)),
                Action::Route(ticket) => self.open.push(ticket),
                Action::Walk(ticket) => {
                    let Some(walk) = self.core.walk(ticket) else { continue };
                    let found = if walk.is_empty() {
                        Err(408)
                    } else {
                        let addr = walk.remove(0).parse().expect("an address");
                        Ok(Reach::Destination(Destination {
                            transport: Transport::Udp,
                            addr,
                            tls_name: None,
                        }))
                    };
                    let mut todo = Vec::new();
                    self.core.on_destination(self.clock, ticket, found, &mut todo);
                    sent.extend(self.perform(todo));
                }
                Action::Serve(ticket) => self.served.push(ticket),
                Action::Forget(_) => self.forgotten += 1,
            }
        }
        sent
    }

    fn statuses(&mut self) -> Vec<u16> {
        self.core.journal_mut().0.iter().map(|(status, ..)| *status).collect()
    }
}

fn request(method: &str, uri: &str, branch: &str, more: &str) -> String {
    let to_tag = if more.contains("Route: ") || method == "ACK" || method == "BYE" {
        ";tag=callee"
    } else {
        ""
    };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@example.com>;tag=caller\r\nTo: <sip:bob@example.com>{to_tag}\r\nCall-ID: call-1\r\n\
         CSeq: 1 {method}\r\n{more}Contact: <sip:alice@10.0.0.1:5060>\r\nContent-Length: 0\r\n\r\n"
    )
}

fn invite() -> String {
    request("INVITE", "sip:bob@example.com", "a", "")
}

/// A response of a callee to what it was sent.
fn answer(to: &Sent, status: &str) -> String {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for line in to.text.lines() {
        let keep = ["Via: ", "From: ", "Call-ID: ", "CSeq: ", "Record-Route: "];
        if keep.iter().any(|name| line.starts_with(name)) {
            text.push_str(line);
            text.push_str("\r\n");
        } else if line.starts_with("To: ") {
            text.push_str(line);
            if !line.contains("tag=") && !status.starts_with("100") {
                text.push_str(";tag=callee");
            }
            text.push_str("\r\n");
        }
    }
    text.push_str("Contact: <sip:bob@10.0.0.2:5060>\r\nContent-Length: 0\r\n\r\n");
    text
}

/// The one request among what was sent.
fn only<'a>(sent: &'a [Sent], start: &str) -> &'a Sent {
    let found: Vec<_> = sent.iter().filter(|sent| sent.text.starts_with(start)).collect();
    assert_eq!(found.len(), 1, "one {start} in {sent:#?}");
    found[0]
}

fn lines(sent: &[Sent]) -> Vec<&str> {
    sent.iter().map(Sent::first_line).collect()
}

/// §16.6, §17.2.1
#[test]
fn an_invite_is_answered_100_and_forwarded_with_via_record_route_and_one_hop_less() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    assert_eq!(
        lines(&sent),
        ["SIP/2.0 100 Trying", "INVITE sip:bob@10.0.0.2:5060 SIP/2.0"]
    );
    assert_eq!(sent[0].to, CALLER.parse().expect("an address"));
    let forwarded = &sent[1];
    let vias = forwarded.header("Via");
    assert!(
        vias[0].starts_with("SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKsps"),
        "{vias:?}"
    );
    assert_eq!(vias[1], "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKa");
    assert_eq!(forwarded.header("Max-Forwards"), ["69"]);
    let record_route = forwarded.header("Record-Route");
    assert!(
        record_route[0].starts_with("<sip:") && record_route[0].ends_with("@127.0.0.1:5060;lr>"),
        "{record_route:?}"
    );
}

/// §16.7 steps 3 and 5, §13.2.2.4, §12.2: the flow of a whole call with the proxy on its path.
#[test]
fn a_call_with_record_route_passes_whole() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = sent[1].clone();
    let sent = house.feed("10.0.0.2:5060", &answer(&forwarded, "180 Ringing"));
    assert_eq!(lines(&sent), ["SIP/2.0 180 Ringing"]);
    assert_eq!(sent[0].header("Via"), ["SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKa"]);
    let sent = house.feed("10.0.0.2:5060", &answer(&forwarded, "200 OK"));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
    let route = sent[0].header("Record-Route")[0].to_owned();

    house.targets = vec![("", 1000, vec!["10.0.0.2:5060"])];
    let ack = request("ACK", "sip:bob@10.0.0.2:5060", "b", &format!("Route: {route}\r\n"));
    let sent = house.feed(CALLER, &ack);
    assert_eq!(lines(&sent), ["ACK sip:bob@10.0.0.2:5060 SIP/2.0"]);
    assert!(sent[0].header("Route").is_empty(), "our Route is taken off (§16.4)");
    assert!(sent[0].header("Record-Route").is_empty());

    let bye =
        request("BYE", "sip:bob@10.0.0.2:5060", "c", &format!("Route: {route}\r\n")).replace("CSeq: 1", "CSeq: 2");
    house.routes_at_once = false;
    assert!(house.feed(CALLER, &bye).is_empty());
    let ticket = house.open.remove(0);
    assert!(house.core.dialog(ticket).0, "a valid token makes it part of a dialog");
    assert_eq!(house.core.remaining_route(ticket), None);
    let sent = house.route(ticket);
    let sent = house.feed("10.0.0.2:5060", &answer(only(&sent, "BYE"), "200 OK"));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
    assert_eq!(house.statuses(), [200, 200]);
    house.pass(Duration::from_secs(40));
    assert_eq!(
        (house.core.transactions(), house.core.client_transactions()),
        (0, 0),
        "nothing is left behind"
    );
}

/// §16.4, design: not an open relay
#[test]
fn a_route_of_ours_without_a_valid_token_makes_no_dialog() {
    let mut house = house();
    house.routes_at_once = false;
    for route in [
        "<sip:127.0.0.1:5060;lr>",
        "<sip:AQAAAAAAAAAAAAAAAAAA@127.0.0.1:5060;lr>",
    ] {
        let bye = request(
            "BYE",
            "sip:bob@10.0.0.2:5060",
            route.len().to_string().as_str(),
            &format!("Route: {route}\r\n"),
        );
        house.feed(CALLER, &bye);
        let ticket = house.open.remove(0);
        assert!(!house.core.dialog(ticket).0, "{route}");
        assert_eq!(house.core.remaining_route(ticket), None, "{route}");
    }
}

/// §17.2.1, §17.2.2
#[test]
fn a_retransmission_is_absorbed_and_answered_with_the_last_response() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = sent[1].clone();
    assert_eq!(lines(&house.feed(CALLER, &invite())), ["SIP/2.0 100 Trying"]);
    house.feed("10.0.0.2:5060", &answer(&forwarded, "180 Ringing"));
    assert_eq!(lines(&house.feed(CALLER, &invite())), ["SIP/2.0 180 Ringing"]);
    house.feed("10.0.0.2:5060", &answer(&forwarded, "200 OK"));
    assert!(
        house.feed(CALLER, &invite()).is_empty(),
        "RFC 6026 §7.1: absorbed after a 2xx"
    );
    assert_eq!(house.core.counters().retransmissions, 3);
}

/// §17.1.1.2: Timer A over UDP, until a response comes.
#[test]
fn an_unanswered_invite_is_repeated_and_ends_in_408() {
    let mut house = house();
    house.feed(CALLER, &invite());
    let sent = house.pass(Duration::from_millis(1600));
    assert_eq!(lines(&sent), ["INVITE sip:bob@10.0.0.2:5060 SIP/2.0"; 2]);
    let sent = house.pass(Duration::from_secs(31));
    assert_eq!(sent.iter().filter(|sent| sent.text.starts_with("INVITE")).count(), 4);
    let timeout = sent
        .iter()
        .find(|sent| sent.text.starts_with("SIP/2.0 408"))
        .expect("a final response");
    assert!(timeout.header("To")[0].contains("tag="));
    assert_eq!(house.statuses(), [408]);
}

/// §16.7 steps 5 and 10, RFC 3326
#[test]
fn of_three_forks_the_first_answer_wins_and_the_others_are_cancelled() {
    let mut house = house();
    house.targets = vec![
        ("sip:bob@10.0.0.2", 1000, vec!["10.0.0.2:5060"]),
        ("sip:bob@10.0.0.3", 1000, vec!["10.0.0.3:5060"]),
        ("sip:bob@10.0.0.4", 1000, vec!["10.0.0.4:5060"]),
    ];
    let sent = house.feed(CALLER, &invite());
    let (two, three, four) = (
        only(&sent, "INVITE sip:bob@10.0.0.2"),
        only(&sent, "INVITE sip:bob@10.0.0.3"),
        only(&sent, "INVITE sip:bob@10.0.0.4"),
    );
    house.feed("10.0.0.2:5060", &answer(two, "180 Ringing"));
    let sent3 = house.feed("10.0.0.3:5060", &answer(three, "200 OK"));
    assert_eq!(
        lines(&sent3),
        ["CANCEL sip:bob@10.0.0.2 SIP/2.0", "SIP/2.0 200 OK"],
        "no CANCEL before a provisional (§9.1)"
    );
    assert_eq!(
        sent3[0].header("Via")[0],
        two.header("Via")[0],
        "§9.1: the Via of the INVITE it cancels"
    );
    assert_eq!(sent3[0].header("Via").len(), 1);
    assert_eq!(
        sent3[0].header("Reason"),
        ["SIP;cause=200;text=\"Call completed elsewhere\""]
    );
    let sent4 = house.feed("10.0.0.4:5060", &answer(four, "180 Ringing"));
    assert_eq!(
        lines(&sent4),
        ["CANCEL sip:bob@10.0.0.4 SIP/2.0"],
        "and the 180 comes too late"
    );
    let acks = house.feed("10.0.0.2:5060", &answer(two, "487 Request Terminated"));
    assert_eq!(lines(&acks), ["ACK sip:bob@10.0.0.2 SIP/2.0"]);
    // §16.7 step 5: a second 2xx, from a branch whose CANCEL crossed it, goes upstream too.
    let late = house.feed("10.0.0.4:5060", &answer(four, "200 OK"));
    assert_eq!(lines(&late), ["SIP/2.0 200 OK"]);
    house.pass(Duration::from_secs(70));
    assert_eq!((house.core.transactions(), house.core.client_transactions()), (0, 0));
    assert_eq!(house.statuses(), [200]);
}

/// §16.7 step 6
#[test]
fn when_all_forks_fail_the_best_response_goes_upstream_once_all_are_in() {
    let mut house = house();
    house.targets = vec![
        ("sip:bob@10.0.0.2", 1000, vec!["10.0.0.2:5060"]),
        ("sip:bob@10.0.0.3", 1000, vec!["10.0.0.3:5060"]),
    ];
    let sent = house.feed(CALLER, &invite());
    let (two, three) = (
        only(&sent, "INVITE sip:bob@10.0.0.2").clone(),
        only(&sent, "INVITE sip:bob@10.0.0.3").clone(),
    );
    let sent = house.feed("10.0.0.2:5060", &answer(&two, "500 Server Internal Error"));
    assert_eq!(
        lines(&sent),
        ["ACK sip:bob@10.0.0.2 SIP/2.0"],
        "§17.1.1.3: the proxy acknowledges, and waits for the other"
    );
    let sent = house.feed("10.0.0.3:5060", &answer(&three, "486 Busy Here"));
    assert_eq!(lines(&sent), ["ACK sip:bob@10.0.0.3 SIP/2.0", "SIP/2.0 486 Busy Here"]);
    let ack = request("ACK", "sip:bob@example.com", "a", "");
    assert!(house.feed(CALLER, &ack).is_empty(), "the ACK of a failure is for us");
    assert!(
        house.pass(Duration::from_secs(4)).is_empty(),
        "and ends the repetitions of Timer G"
    );
}

/// §16.7 step 7
#[test]
fn a_challenge_carries_those_of_all_branches() {
    let mut house = house();
    house.targets = vec![
        ("sip:bob@10.0.0.2", 1000, vec!["10.0.0.2:5060"]),
        ("sip:bob@10.0.0.3", 1000, vec!["10.0.0.3:5060"]),
    ];
    let sent = house.feed(CALLER, &invite());
    let challenge = |to: &Sent, realm: &str| {
        answer(to, "407 Proxy Authentication Required").replace(
            "Content-Length",
            &format!("Proxy-Authenticate: Digest realm=\"{realm}\", nonce=\"n\"\r\nContent-Length"),
        )
    };
    house.feed(
        "10.0.0.2:5060",
        &challenge(only(&sent, "INVITE sip:bob@10.0.0.2"), "two"),
    );
    let sent = house.feed(
        "10.0.0.3:5060",
        &challenge(only(&sent, "INVITE sip:bob@10.0.0.3"), "three"),
    );
    let response = only(&sent, "SIP/2.0 407");
    let mut realms = response.header("Proxy-Authenticate");
    realms.sort_unstable();
    assert_eq!(
        realms,
        [
            "Digest realm=\"three\", nonce=\"n\"",
            "Digest realm=\"two\", nonce=\"n\""
        ]
    );
    assert!(response.text.ends_with("\r\n\r\n"));
}

/// §16.7 step 5
#[test]
fn a_6xx_ends_the_search() {
    let mut house = house();
    house.targets = vec![
        ("sip:bob@10.0.0.2", 1000, vec!["10.0.0.2:5060"]),
        ("sip:bob@10.0.0.3", 1000, vec!["10.0.0.3:5060"]),
        ("sip:bob@10.0.0.4", 500, vec!["10.0.0.4:5060"]),
    ];
    let sent = house.feed(CALLER, &invite());
    let (two, three) = (
        only(&sent, "INVITE sip:bob@10.0.0.2").clone(),
        only(&sent, "INVITE sip:bob@10.0.0.3").clone(),
    );
    house.feed("10.0.0.3:5060", &answer(&three, "180 Ringing"));
    let sent = house.feed("10.0.0.2:5060", &answer(&two, "603 Decline"));
    assert_eq!(
        lines(&sent),
        ["ACK sip:bob@10.0.0.2 SIP/2.0", "CANCEL sip:bob@10.0.0.3 SIP/2.0"]
    );
    let sent = house.feed("10.0.0.3:5060", &answer(&three, "487 Request Terminated"));
    assert_eq!(lines(&sent), ["ACK sip:bob@10.0.0.3 SIP/2.0", "SIP/2.0 603 Decline"]);
}

/// §16.5, §16.6
#[test]
fn targets_are_tried_in_order_of_q() {
    let mut house = house();
    house.targets = vec![
        ("sip:bob@10.0.0.3", 500, vec!["10.0.0.3:5060"]),
        ("sip:bob@10.0.0.2", 1000, vec!["10.0.0.2:5060"]),
    ];
    let sent = house.feed(CALLER, &invite());
    let first = only(&sent, "INVITE sip:bob@10.0.0.2").clone();
    let sent = house.feed("10.0.0.2:5060", &answer(&first, "486 Busy Here"));
    assert_eq!(
        lines(&sent),
        ["ACK sip:bob@10.0.0.2 SIP/2.0", "INVITE sip:bob@10.0.0.3 SIP/2.0"]
    );
    let sent = house.feed("10.0.0.3:5060", &answer(&sent[1], "200 OK"));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
}

#[test]
fn sequential_forking_tries_equals_one_by_one() {
    let mut house = house_with(Conf {
        fork: Fork::Sequential,
        ..conf()
    });
    house.targets = vec![
        ("sip:bob@10.0.0.2", 1000, vec!["10.0.0.2:5060"]),
        ("sip:bob@10.0.0.3", 1000, vec!["10.0.0.3:5060"]),
    ];
    let sent = house.feed(CALLER, &invite());
    let first = only(&sent, "INVITE").clone();
    assert!(
        first.text.starts_with("INVITE sip:bob@10.0.0.2"),
        "the order given is kept"
    );
    let sent = house.feed("10.0.0.2:5060", &answer(&first, "480 Temporarily Unavailable"));
    assert!(lines(&sent).contains(&"INVITE sip:bob@10.0.0.3 SIP/2.0"));
}

/// RFC 3263 §4.3, §16.7 step 6
#[test]
fn a_503_or_silence_leads_to_the_next_destination_and_503_goes_up_as_500() {
    let mut house = house();
    house.targets = vec![(
        "sip:bob@gw",
        1000,
        vec!["10.0.0.2:5060", "10.0.0.3:5060", "10.0.0.4:5060"],
    )];
    let sent = house.feed(CALLER, &invite());
    let first = only(&sent, "INVITE").clone();
    assert_eq!(first.to.to_string(), "10.0.0.2:5060");
    let sent = house.feed("10.0.0.2:5060", &answer(&first, "503 Service Unavailable"));
    let second = only(&sent, "INVITE").clone();
    assert_eq!(second.to.to_string(), "10.0.0.3:5060");
    assert_ne!(
        first.header("Via")[0],
        second.header("Via")[0],
        "a new branch (§16.6 step 8)"
    );
    let mut todo = Vec::new();
    house.core.on_send_failed(house.clock, second.token, &mut todo);
    let sent = house.perform(todo);
    let third = only(&sent, "INVITE").clone();
    assert_eq!(third.to.to_string(), "10.0.0.4:5060");
    let sent = house.feed("10.0.0.4:5060", &answer(&third, "503 Service Unavailable"));
    assert_eq!(
        lines(&sent),
        ["ACK sip:bob@gw SIP/2.0", "SIP/2.0 500 Server Internal Error"]
    );
}

/// §9.2, §16.10
#[test]
fn a_cancel_is_answered_200_goes_downstream_and_ends_in_487() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = sent[1].clone();
    house.feed("10.0.0.2:5060", &answer(&forwarded, "180 Ringing"));
    let cancel = request(
        "CANCEL",
        "sip:bob@example.com",
        "a",
        "Reason: SIP;cause=600;text=\"Busy Everywhere\"\r\n",
    );
    let sent = house.feed(CALLER, &cancel);
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK", "CANCEL sip:bob@10.0.0.2:5060 SIP/2.0"]);
    assert_eq!(
        sent[1].header("Reason"),
        ["SIP;cause=600;text=\"Busy Everywhere\""],
        "RFC 3326: the caller's reason"
    );
    assert!(house.feed("10.0.0.2:5060", &answer(&sent[1], "200 OK")).is_empty());
    let sent = house.feed("10.0.0.2:5060", &answer(&forwarded, "487 Request Terminated"));
    assert_eq!(
        lines(&sent),
        ["ACK sip:bob@10.0.0.2:5060 SIP/2.0", "SIP/2.0 487 Request Terminated"]
    );
    assert_eq!(house.statuses(), [487]);
}

/// §16.7 step 6: what the callee said about all its phones outweighs that the caller gave up.
#[test]
fn a_6xx_that_crosses_the_cancel_goes_upstream() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = sent[1].clone();
    house.feed("10.0.0.2:5060", &answer(&forwarded, "180 Ringing"));
    house.feed(CALLER, &request("CANCEL", "sip:bob@example.com", "a", ""));
    let sent = house.feed("10.0.0.2:5060", &answer(&forwarded, "603 Decline"));
    assert_eq!(
        lines(&sent),
        ["ACK sip:bob@10.0.0.2:5060 SIP/2.0", "SIP/2.0 603 Decline"]
    );
}

/// §9.2: no effect on a request that has its final response.
#[test]
fn a_cancel_after_the_answer_changes_nothing() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    house.feed("10.0.0.2:5060", &answer(&sent[1], "200 OK"));
    let sent = house.feed(CALLER, &request("CANCEL", "sip:bob@example.com", "a", ""));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
}

#[test]
fn a_cancel_of_nothing_is_481() {
    let mut house = house();
    let sent = house.feed(CALLER, &request("CANCEL", "sip:bob@example.com", "zzz", ""));
    assert_eq!(lines(&sent), ["SIP/2.0 481 Call/Transaction Does Not Exist"]);
}

/// Design: routing can wait, and a CANCEL meanwhile gives 487.
#[test]
fn a_cancel_while_routing_is_out_gives_487_and_the_late_answer_is_dropped() {
    let mut house = house();
    house.routes_at_once = false;
    assert_eq!(lines(&house.feed(CALLER, &invite())), ["SIP/2.0 100 Trying"]);
    let sent = house.feed(CALLER, &request("CANCEL", "sip:bob@example.com", "a", ""));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK", "SIP/2.0 487 Request Terminated"]);
    assert_eq!(house.forgotten, 1);
    let ticket = house.open.remove(0);
    assert!(house.route(ticket).is_empty());
}

/// §9.1
#[test]
fn a_cancel_waits_for_a_provisional_response() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = sent[1].clone();
    assert_eq!(
        lines(&house.feed(CALLER, &request("CANCEL", "sip:bob@example.com", "a", ""))),
        ["SIP/2.0 200 OK"]
    );
    let sent = house.feed("10.0.0.2:5060", &answer(&forwarded, "100 Trying"));
    assert_eq!(lines(&sent), ["CANCEL sip:bob@10.0.0.2:5060 SIP/2.0"]);
}

/// §9.1: a callee that answers the CANCEL and then nothing.
#[test]
fn a_cancelled_invite_without_a_final_response_is_given_up() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    house.feed("10.0.0.2:5060", &answer(&sent[1], "180 Ringing"));
    let sent = house.feed(CALLER, &request("CANCEL", "sip:bob@example.com", "a", ""));
    house.feed("10.0.0.2:5060", &answer(&sent[1], "200 OK"));
    let sent = house.pass(Duration::from_secs(33));
    assert!(
        sent.iter()
            .any(|sent| sent.first_line() == "SIP/2.0 487 Request Terminated"),
        "{:?}",
        lines(&sent)
    );
}

/// §16.8
#[test]
fn timer_c_cancels_what_rings_for_ever() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = sent[1].clone();
    house.feed("10.0.0.2:5060", &answer(&forwarded, "180 Ringing"));
    house.pass(Duration::from_secs(170));
    house.feed("10.0.0.2:5060", &answer(&forwarded, "180 Ringing"));
    assert!(
        house.pass(Duration::from_secs(170)).is_empty(),
        "§16.7 step 2: each provisional begins it anew"
    );
    let sent = house.pass(Duration::from_secs(12));
    assert_eq!(sent[0].first_line(), "CANCEL sip:bob@10.0.0.2:5060 SIP/2.0");
    assert!(sent[0].header("Reason").is_empty());
    let sent = house.feed("10.0.0.2:5060", &answer(&forwarded, "487 Request Terminated"));
    assert!(lines(&sent).contains(&"SIP/2.0 487 Request Terminated"));
}

/// §16.3 step 4, RFC 5393 §4.2.2
#[test]
fn a_request_that_comes_back_the_same_has_looped() {
    let mut house = house();
    house.targets = vec![("", 1000, vec!["10.0.0.2:5060"])];
    let sent = house.feed(CALLER, &invite());
    let sent = house.feed("10.0.0.2:5060", &sent[1].text);
    assert_eq!(lines(&sent), ["SIP/2.0 482 Loop Detected"]);
}

/// §16.3 step 4
#[test]
fn a_request_that_comes_back_changed_is_a_spiral() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let changed = sent[1]
        .text
        .replace("sip:bob@10.0.0.2:5060 SIP", "sip:carol@example.com SIP");
    let sent = house.feed("10.0.0.2:5060", &changed);
    assert!(lines(&sent).contains(&"INVITE sip:bob@10.0.0.2:5060 SIP/2.0"));
}

/// §16.3 steps 2, 3 and 5, each with its response
#[test]
fn what_a_proxy_must_refuse_it_refuses() {
    let refused = |text: String| {
        let mut house = house();
        let sent = house.feed(CALLER, &text);
        assert_eq!(sent.len(), 1, "{text}");
        assert_eq!(house.core.transactions(), 0);
        // RFC 3261 §8.2.6.2: who gets a failure may acknowledge it; that ends here.
        let tag = sent[0].header("To")[0].split("tag=").nth(1).expect("a tag").to_owned();
        let ack = request("ACK", "sip:bob@example.com", "a", "").replace("tag=callee", &format!("tag={tag}"));
        assert!(house.feed(CALLER, &ack).is_empty());
        sent[0].clone()
    };
    assert_eq!(
        refused(invite().replace("Max-Forwards: 70", "Max-Forwards: 0")).first_line(),
        "SIP/2.0 483 Too Many Hops"
    );
    assert_eq!(
        refused(invite().replace("INVITE sip:bob@example.com", "INVITE http://example.com")).first_line(),
        "SIP/2.0 416 Unsupported URI Scheme"
    );
    let extension = refused(request(
        "INVITE",
        "sip:bob@example.com",
        "a",
        "Proxy-Require: magic, wand\r\n",
    ));
    assert_eq!(extension.first_line(), "SIP/2.0 420 Bad Extension");
    assert_eq!(extension.header("Unsupported"), ["magic, wand"]);
    assert!(
        refused(invite().replace("Max-Forwards: 70", "Max-Forwards: seventy"))
            .first_line()
            .starts_with("SIP/2.0 400")
    );
    assert!(
        refused(invite().replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia"))
            .first_line()
            .starts_with("SIP/2.0 505")
    );
}

/// §16.3 step 3, §11.2
#[test]
fn options_for_us_or_at_its_last_hop_is_answered_here() {
    let mut house = house();
    let sent = house.feed(CALLER, &request("OPTIONS", "sip:example.com", "a", ""));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
    assert!(sent[0].header("Allow")[0].contains("INVITE"));
    let last = request("OPTIONS", "sip:bob@example.com", "b", "").replace("Max-Forwards: 70", "Max-Forwards: 0");
    assert_eq!(lines(&house.feed(CALLER, &last)), ["SIP/2.0 200 OK"]);
    let through = house.feed(CALLER, &request("OPTIONS", "sip:bob@example.com", "c", ""));
    assert_eq!(
        lines(&through),
        ["OPTIONS sip:bob@10.0.0.2:5060 SIP/2.0"],
        "no 100 for what is no INVITE"
    );
}

/// §16.4
#[test]
fn what_a_strict_router_did_is_undone() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let sent = house.feed("10.0.0.2:5060", &answer(&sent[1], "200 OK"));
    let ours = sent[0].header("Record-Route")[0].trim_matches(['<', '>']).to_owned();
    house.routes_at_once = false;
    let bye = request(
        "BYE",
        &ours,
        "c",
        "Route: <sip:next.example.net;lr>, <sip:bob@10.0.0.2:5060>\r\n",
    );
    house.feed(CALLER, &bye);
    let ticket = house.open.remove(0);
    assert!(house.core.dialog(ticket).0);
    assert_eq!(house.core.routed_uri(ticket), Some(&b"sip:bob@10.0.0.2:5060"[..]));
    assert_eq!(
        house.core.remaining_route(ticket),
        Some(&b"sip:next.example.net;lr"[..])
    );
    house.targets = vec![("", 1000, vec!["10.0.0.9:5060"])];
    let sent = house.route(ticket);
    assert_eq!(sent[0].first_line(), "BYE sip:bob@10.0.0.2:5060 SIP/2.0");
    assert_eq!(sent[0].header("Route"), ["<sip:next.example.net;lr>"]);
}

/// §16.6 step 6
#[test]
fn a_strict_next_hop_gets_its_own_uri_and_ours_goes_last() {
    let mut house = house();
    house.targets = vec![("", 1000, vec!["10.0.0.9:5060"])];
    let text = request(
        "MESSAGE",
        "sip:bob@example.net",
        "a",
        "Route: <sip:old.example.net>, <sip:new.example.net;lr>\r\n",
    );
    let sent = house.feed(CALLER, &text);
    assert_eq!(sent[0].first_line(), "MESSAGE sip:old.example.net SIP/2.0");
    assert_eq!(
        sent[0].header("Route"),
        ["<sip:new.example.net;lr>", "<sip:bob@example.net>"]
    );
}

/// RFC 4320 §4.2
#[test]
fn a_non_invite_that_times_out_is_not_answered_408() {
    let mut house = house();
    let sent = house.feed(CALLER, &request("MESSAGE", "sip:bob@example.com", "a", ""));
    assert_eq!(lines(&sent), ["MESSAGE sip:bob@10.0.0.2:5060 SIP/2.0"]);
    let sent = house.pass(Duration::from_secs(33));
    assert!(
        sent.iter()
            .all(|sent| sent.text.starts_with("MESSAGE") || sent.first_line() == "SIP/2.0 100 Trying"),
        "only repetitions of Timer E, and the late 100 of RFC 4320 §4.1"
    );
    assert_eq!(house.statuses(), [408]);
    assert_eq!((house.core.transactions(), house.core.client_transactions()), (0, 0));
}

/// RFC 6026 §8.9
#[test]
fn a_response_to_nothing_is_dropped_and_counted() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let response = answer(&sent[1], "200 OK");
    let guessed = response.replacen("z9hG4bKsps", "z9hG4bKother", 1);
    assert!(house.feed("10.0.0.2:5060", &guessed).is_empty());
    let serial_at = response.find("z9hG4bKsps").expect("our branch") + "z9hG4bKsps".len() + 14;
    let mut stale = response.clone().into_bytes();
    stale[serial_at] = if stale[serial_at] == b'0' { b'1' } else { b'0' };
    assert!(
        house
            .feed("10.0.0.2:5060", &String::from_utf8(stale).expect("text"))
            .is_empty()
    );
    assert_eq!(house.core.counters().stray_responses, 2);
}

/// §16.6 step 4: nothing on the path of the dialog when it is off.
#[test]
fn record_route_can_be_off() {
    let mut house = house_with(Conf {
        record_route: false,
        ..conf()
    });
    let sent = house.feed(CALLER, &invite());
    assert!(sent[1].header("Record-Route").is_empty());
}

/// RFC 5658 §3, RFC 5626 §5.2
#[test]
fn a_caller_on_a_stream_gets_two_record_routes_and_is_found_again_by_its_flow() {
    let mut house = house();
    let text = invite().replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    let sent = house.feed_by(Transport::Tcp, "10.0.0.1:40000", &text);
    let forwarded = sent[1].clone();
    let routes = forwarded.header("Record-Route");
    assert_eq!(routes.len(), 2);
    assert!(
        !routes[0].contains("transport=tcp") && routes[1].contains("transport=tcp"),
        "the callee's side on top: {routes:?}"
    );
    // The callee hangs up: its route set is as received.
    house.routes_at_once = false;
    let bye = format!(
        "BYE sip:alice@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bKx\r\nMax-Forwards: 70\r\n\
         From: <sip:bob@example.com>;tag=callee\r\nTo: <sip:alice@example.com>;tag=caller\r\nCall-ID: call-1\r\nCSeq: 1 BYE\r\n\
         Route: {}\r\nRoute: {}\r\nContent-Length: 0\r\n\r\n",
        routes[0], routes[1]
    );
    house.feed("10.0.0.2:5060", &bye);
    let ticket = house.open.remove(0);
    let (in_dialog, flow) = house.core.dialog(ticket);
    assert!(in_dialog);
    assert_eq!(
        flow.map(|flow| (flow.transport, flow.remote.to_string())),
        Some((Transport::Tcp, "10.0.0.1:40000".to_owned()))
    );
    assert_eq!(house.core.remaining_route(ticket), None, "both of ours are taken off");
}

/// RFC 3581 §4
#[test]
fn responses_go_where_rport_says_and_the_via_says_so() {
    let mut house = house();
    let text = invite().replace("10.0.0.1:5060;branch", "192.168.1.5:5060;rport;branch");
    let sent = house.feed("10.0.0.1:31234", &text);
    assert_eq!(sent[0].to.to_string(), "10.0.0.1:31234");
    assert!(sent[0].header("Via")[0].contains("received=10.0.0.1") && sent[0].header("Via")[0].contains("rport=31234"));
    assert!(
        sent[1].header("Via")[1].contains("received=10.0.0.1"),
        "§18.2.1: the forwarded copy says so too"
    );
}

#[test]
fn a_register_for_us_goes_to_the_registrar_and_its_answer_back() {
    let mut house = house();
    assert!(
        house
            .feed(CALLER, &request("REGISTER", "sip:example.com", "a", ""))
            .is_empty()
    );
    let ticket = house.served[0];
    let (message, _) = house.core.request_for_service(ticket).expect("it waits");
    assert!(message.starts_with(b"REGISTER sip:example.com SIP/2.0\r\n"));
    let mut todo = Vec::new();
    house.core.on_service_response(
        house.clock,
        ticket,
        200,
        Bytes::from_static(b"SIP/2.0 200 OK\r\n\r\n"),
        &mut todo,
    );
    assert_eq!(lines(&house.perform(todo)), ["SIP/2.0 200 OK"]);
    assert_eq!(
        lines(&house.feed(CALLER, &request("REGISTER", "sip:example.com", "a", ""))),
        ["SIP/2.0 200 OK"],
        "from memory"
    );
    assert_eq!(house.served.len(), 1);
}

/// RFC 7339 §5.10.2
#[test]
fn a_full_table_refuses_without_retry_after() {
    let mut house = house_with(Conf {
        max_transactions: 1,
        ..conf()
    });
    house.feed(CALLER, &invite());
    let sent = house.feed(CALLER, &request("INVITE", "sip:bob@example.com", "other", ""));
    assert_eq!(lines(&sent), ["SIP/2.0 503 Overload"]);
    assert!(sent[0].header("Retry-After").is_empty());
    assert_eq!(house.core.counters().overload, 1);
}

#[test]
fn while_draining_new_requests_are_sent_elsewhere_and_old_ones_end() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = sent[1].clone();
    house.core.reconfigure(Conf {
        draining: true,
        ..conf()
    });
    let refused = house.feed(CALLER, &request("INVITE", "sip:bob@example.com", "other", ""));
    assert_eq!(refused[0].first_line(), "SIP/2.0 503 Restarting");
    assert_eq!(refused[0].header("Retry-After"), ["2"]);
    assert_eq!(house.core.undecided_requests(), 1);
    assert_eq!(
        lines(&house.feed("10.0.0.2:5060", &answer(&forwarded, "200 OK"))),
        ["SIP/2.0 200 OK"]
    );
    assert_eq!(house.core.undecided_requests(), 0);
}

/// §21.5.4
#[test]
fn who_still_waits_when_the_process_ends_is_told_and_what_rings_is_cancelled() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    house.feed("10.0.0.2:5060", &answer(&sent[1], "180 Ringing"));
    let mut todo = Vec::new();
    assert_eq!(house.core.give_up(house.clock, &mut todo), 1);
    let sent = house.perform(todo);
    assert_eq!(
        lines(&sent),
        [
            "CANCEL sip:bob@10.0.0.2:5060 SIP/2.0",
            "SIP/2.0 503 Service Unavailable"
        ]
    );
    assert_eq!(sent[1].header("Retry-After"), ["2"]);
    assert_eq!(house.statuses(), [503]);
    assert_eq!(house.core.undecided_requests(), 0);
}

/// §16.6: what a proxy need not touch leaves byte for byte.
#[test]
fn bodies_and_unknown_headers_pass_untouched() {
    let mut house = house();
    let odd = "X-Odd :  a ,, b\t;\r\n folded\r\nsubject: caf\u{e9}\r\n";
    let body = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\n\u{0}binary\r\n";
    let text = request("INVITE", "sip:bob@example.com", "a", odd).replace(
        "Content-Length: 0\r\n\r\n",
        &format!("Content-Length: {}\r\n\r\n{body}", body.len()),
    );
    let sent = house.feed(CALLER, &text);
    assert!(sent[1].text.contains(odd));
    assert!(sent[1].text.ends_with(body));
}

/// Garbage of any kind: an answer, a drop, never a panic.
#[test]
fn mutated_messages_do_no_harm() {
    let mut seed = 7u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let bases = [
        invite(),
        answer(&sent[1], "180 Ringing"),
        request("BYE", "sip:bob@10.0.0.2", "q", "Route: <sip:127.0.0.1;lr>\r\n"),
    ];
    let flow = Flow {
        member: 0,
        transport: Transport::Udp,
        local: SocketAddr::from(([127, 0, 0, 1], 5060)),
        remote: SocketAddr::from(([10, 0, 0, 1], 5060)),
        connection: 0,
    };
    for round in 0..20_000 {
        let mut bytes = bases[round % bases.len()].clone().into_bytes();
        for _ in 0..1 + random() % 4 {
            let at = random() as usize % bytes.len();
            match random() % 3 {
                0 => bytes[at] = random() as u8,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"\r\n:;,<>\"@ "[random() as usize % 10]),
            }
        }
        let mut todo = Vec::new();
        house.core.on_message(house.clock, flow, &bytes, &mut todo);
        for action in todo {
            match action {
                Action::Route(ticket) => drop(house.route(ticket)),
                Action::Walk(_) | Action::Send { .. } | Action::Serve(_) | Action::Forget(_) => {}
            }
        }
    }
    house.pass(Duration::from_secs(400));
}

/// What waits for retransmissions must be small: after a boot avalanche there are millions of them.
#[test]
fn what_is_left_after_the_final_response_is_small() {
    assert!(size_of::<Context<Hops>>() <= 240, "{}", size_of::<Context<Hops>>());
    assert!(size_of::<Client>() <= 168, "{}", size_of::<Client>());
}

//! A transaction's life in the proxy core, from its first datagram until its last timer has gone: what the edge does
//! (sockets, routing) is not in it, and the two ends that play caller and callee are kept cheap.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sps_sip::proxy::{
    Action, Clock, Conf, Finished, Fork, Journal, Keys, Listener, MacKey, Mode, Ours, Overload, Proxy, Reach, Target,
    Ticket,
};
use sps_sip::timers::TimerConf;
use sps_wire::flow::{Destination, Flow, Transport};
use sps_wire::{Limits, Uri};

/// INVITE, 100, 180, 200, ACK, BYE, 200, record-routed, over UDP.
pub fn call(turns: u64) {
    let mut house = House::new();
    for turn in 0..turns {
        let invite = request("INVITE", turn, "a", "", "");
        let forwarded = house.feed_for(CALLER, &invite, b"INVITE");
        house.feed(CALLEE, &response(&forwarded, "100 Trying", ""));
        house.feed(CALLEE, &response(&forwarded, "180 Ringing", ";tag=callee"));
        let answer = house.feed_for(CALLEE, &response(&forwarded, "200 OK", ";tag=callee"), b"SIP/2.0 200");
        let route = line(&answer, "Record-Route: ").replacen("Record-", "", 1);
        house.feed_for(CALLER, &request("ACK", turn, "b", ";tag=callee", &route), b"ACK");
        let bye = house.feed_for(CALLER, &request("BYE", turn, "c", ";tag=callee", &route), b"BYE");
        house.feed_for(CALLEE, &response(&bye, "200 OK", ""), b"SIP/2.0 200");
        house.pass(Duration::from_millis(5));
    }
    house.end();
}

/// MESSAGE, 200, outside any dialog.
pub fn non_invite(turns: u64) {
    let mut house = House::new();
    for turn in 0..turns {
        let forwarded = house.feed_for(CALLER, &request("MESSAGE", turn, "a", "", ""), b"MESSAGE");
        house.feed_for(CALLEE, &response(&forwarded, "200 OK", ";tag=callee"), b"SIP/2.0 200");
        house.pass(Duration::from_millis(5));
    }
    house.end();
}

const CALLER: ([u8; 4], u16) = ([10, 0, 0, 1], 5060);
const CALLEE: ([u8; 4], u16) = ([10, 0, 0, 2], 5060);
const PROXY: ([u8; 4], u16) = ([192, 0, 2, 1], 5060);

struct House {
    core: Proxy<bool, Silent>,
    clock: Clock,
    todo: Vec<Action>,
    sent: Vec<Bytes>,
}

/// Writes no log.
struct Silent;

impl Journal for Silent {
    fn finished(&mut self, _: &Finished<'_>) {}
}

impl House {
    fn new() -> House {
        let clock = Clock {
            now: Instant::now(),
            unix_ms: 1_800_000_000_000,
        };
        let conf = Conf {
            mode: Mode::Stateful,
            recurse: false,
            member: 0,
            generation: 1,
            worker: 0,
            timers: TimerConf::default(),
            record_route: true,
            fork: Fork::Parallel,
            next_hop_timeout: Some(Duration::from_secs(4)),
            udp_max_request: 1_300,
            listeners: vec![Listener {
                transport: Transport::Udp,
                addr: PROXY.into(),
                sent_by: "192.0.2.1:5060".to_owned(),
            }],
            ours: Ours(Arc::new(|uri: &Uri<'_>| {
                uri.host.ip().is_some_and(|ip| ip == std::net::IpAddr::from(PROXY.0))
            })),
            keys: Keys::new(&[MacKey { id: 1, secret: [7; 32] }]),
            max_transactions: 1_000_000,
            max_stored_len: usize::MAX,
            max_targets: 8,
            max_breadth: 60,
            denies: Default::default(),
            registrar: true,
            draining: false,
            overload: Overload::default(),
        };
        House {
            core: Proxy::new(conf, Limits::default(), Silent, 42, clock.now),
            clock,
            todo: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// Feeds a message, and gives the one that leaves because of it and begins like this.
    fn feed_for(&mut self, from: ([u8; 4], u16), text: &str, start: &[u8]) -> Bytes {
        self.feed(from, text);
        let found = self.sent.iter().find(|sent| sent.starts_with(start));
        found.expect("the core forwards it").clone()
    }

    fn feed(&mut self, from: ([u8; 4], u16), text: &str) {
        self.sent.clear();
        let flow = Flow {
            member: 0,
            transport: Transport::Udp,
            local: PROXY.into(),
            remote: SocketAddr::from(from),
            connection: 0,
        };
        self.core.on_message(self.clock, flow, text.as_bytes(), &mut self.todo);
        self.perform();
    }

    fn perform(&mut self) {
        while !self.todo.is_empty() {
            for action in std::mem::take(&mut self.todo) {
                match action {
                    Action::Send { bytes, .. } => self.sent.push(bytes),
                    Action::Route(ticket) => self.route(ticket),
                    Action::Walk(ticket) => {
                        let reach = match self.core.walk(ticket) {
                            Some(fresh @ true) => {
                                *fresh = false;
                                Ok(Reach::Destination(Destination {
                                    transport: Transport::Udp,
                                    addr: CALLEE.into(),
                                    tls_name: None,
                                }))
                            }
                            Some(false) | None => Err(408),
                        };
                        self.core.on_destination(self.clock, ticket, reach, &mut self.todo);
                    }
                    Action::Serve(_) | Action::Forget(_) | Action::Recurse(_) => {}
                    Action::Avoid { .. } | Action::Answered(_) => {}
                }
            }
        }
    }

    fn route(&mut self, ticket: Ticket) {
        let target = Target {
            uri: Bytes::new(),
            q: 1000,
            path: [].into_iter().collect(),
            flow: None,
            secure: false,
            walk: true,
            redirect: false,
            steady: false,
        };
        let targets = std::iter::once(target).collect();
        self.core
            .on_targets(self.clock, ticket, "static", targets, &mut self.todo);
    }

    fn pass(&mut self, time: Duration) {
        self.clock.now += time;
        self.core.on_deadline(self.clock, &mut self.todo);
        self.perform();
    }

    /// What the calls left behind runs out, and is paid for.
    fn end(mut self) {
        for _ in 0..100 {
            self.pass(Duration::from_secs(1));
        }
        assert_eq!(self.core.transactions() + self.core.client_transactions(), 0);
    }
}

fn request(method: &str, turn: u64, branch: &str, to_tag: &str, more: &str) -> String {
    format!(
        "{method} sip:callee@10.0.0.2:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK{turn:08}{branch}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:caller@example.com>;tag=caller{turn:08}\r\nTo: <sip:callee@example.com>{to_tag}\r\n\
         Call-ID: {turn:08}@10.0.0.1\r\nCSeq: 1 {method}\r\n{more}Contact: <sip:caller@10.0.0.1:5060>\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

fn response(to: &[u8], status: &str, to_tag: &str) -> String {
    let to = std::str::from_utf8(to).expect("ASCII");
    let mut text = String::with_capacity(to.len() + 64);
    text.push_str("SIP/2.0 ");
    text.push_str(status);
    text.push_str("\r\n");
    for line in to.split_inclusive('\n').skip(1) {
        match line.as_bytes().first() {
            Some(b'V' | b'F' | b'R') => text.push_str(line),
            Some(b'C') if line.starts_with("Ca") || line.starts_with("CS") => text.push_str(line),
            Some(b'T') => {
                text.push_str(line.trim_end());
                text.push_str(to_tag);
                text.push_str("\r\n");
            }
            Some(_) | None => {}
        }
    }
    text.push_str("Contact: <sip:callee@10.0.0.2:5060>\r\nContent-Length: 0\r\n\r\n");
    text
}

/// The line that begins like this, with its end.
fn line<'a>(message: &'a [u8], start: &str) -> &'a str {
    let text = std::str::from_utf8(message).expect("ASCII");
    let found = text.split_inclusive('\n').find(|line| line.starts_with(start));
    found.expect("the header is there")
}

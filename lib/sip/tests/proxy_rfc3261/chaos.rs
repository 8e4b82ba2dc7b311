//! Any order of events: whatever peers, names and sockets do, each request ends once and nothing of it is left.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use sps_sip::proxy::{Conf, Fork};
use sps_wire::flow::Transport;

use crate::house::*;

/// A small generator, so that a run can be told by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        (!from.is_empty()).then(|| &from[self.roll(from.len())])
    }
}

const STATUSES: &[&str] = &[
    "100 Trying",
    "180 Ringing",
    "183 Session Progress",
    "200 OK",
    "202 Accepted",
    "302 Moved Temporarily",
    "401 Unauthorized",
    "404 Not Found",
    "407 Proxy Authentication Required",
    "408 Request Timeout",
    "486 Busy Here",
    "487 Request Terminated",
    "500 Server Internal Error",
    "503 Service Unavailable",
    "600 Busy Everywhere",
    "603 Decline",
];

const HOPS: &[&str] = &[
    "10.0.0.2:5060",
    "10.0.0.3:5060",
    "tcp:10.0.0.4:5060",
    "tcp:[2001:db8::4]:5060",
    "[2001:db8::5]:5060",
    "flow:10.0.0.6:41000",
];

const URIS: &[&str] = &[
    "sip:bob@10.0.0.2",
    "sip:bob@10.0.0.3",
    "sip:bob@gw",
    "",
    "sip:carol@10.0.0.2",
];

/// What one run remembers.
struct Run {
    house: House,
    dice: Dice,
    /// Requests of callers, with the transport each came by and when it came first.
    asked: Vec<(Transport, String, Instant)>,
    /// Requests that the core sent on.
    sent_on: Vec<Sent>,
    /// Statuses that went upstream, by the caller's branch and the method of the CSeq.
    answered: HashMap<String, Vec<u16>>,
    /// Branches of ours that a provisional response was fed for.
    provisional: HashSet<String>,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let house = house_with(Conf {
            fork: [Fork::Parallel, Fork::Sequential][dice.roll(2)],
            next_hop_timeout: [None, Some(Duration::from_secs(3))][dice.roll(2)],
            udp_max_request: [0, 500][dice.roll(2)],
            max_transactions: 12,
            ..conf()
        });
        Run {
            house,
            dice,
            asked: Vec::new(),
            sent_on: Vec::new(),
            answered: HashMap::new(),
            provisional: HashSet::new(),
        }
    }

    fn feed(&mut self, transport: Transport, text: &str) {
        let sent = self.house.feed_by(transport, CALLER, text);
        self.look_at(sent);
    }

    fn step(&mut self) {
        match self.dice.roll(16) {
            0 | 1 => self.ask(),
            2 => {
                // Later its transaction may have ended, and it would be a new request; and nobody repeats over TCP.
                let now = self.house.clock.now;
                if let Some((Transport::Udp, text, asked_at)) = self.dice.pick(&self.asked).cloned()
                    && now.duration_since(asked_at) < Duration::from_secs(4)
                {
                    self.feed(Transport::Udp, &text);
                }
            }
            3 => self.ask_about("CANCEL"),
            4 => self.ask_about("ACK"),
            5..=8 => {
                if let Some(to) = self.dice.pick(&self.sent_on).cloned() {
                    let status = STATUSES[self.dice.roll(STATUSES.len())];
                    if status.starts_with('1') {
                        self.provisional.insert(to.branch().to_owned());
                    }
                    let sent = self.house.feed(CALLER, &answer(&to, status));
                    self.look_at(sent);
                }
            }
            9 => {
                let wait = [1, 300, 2_000, 9_000, 33_000, 182_000][self.dice.roll(6)];
                let sent = self.house.pass(Duration::from_millis(wait));
                self.look_at(sent);
            }
            10 => {
                if let Some(lost) = self.dice.pick(&self.sent_on).cloned() {
                    let sent = self.house.send_failed(&lost);
                    self.look_at(sent);
                }
            }
            11 => {
                let sent = self.house.unreachable("10.0.0.2:5060");
                self.look_at(sent);
            }
            12 => {
                if let Some(ticket) = self.house.open.pop() {
                    let sent = self.house.route(ticket);
                    self.look_at(sent);
                }
            }
            13 => {
                if let Some(ticket) = self.house.walking.pop() {
                    let sent = self.house.walk(ticket);
                    self.look_at(sent);
                }
            }
            14 => self.house.routes_at_once = self.dice.roll(3) > 0,
            _ => self.house.walks_at_once = self.dice.roll(3) > 0,
        }
    }

    /// A new request.
    fn ask(&mut self) {
        self.house.targets = (0..self.dice.roll(4))
            .map(|_| {
                let uri = URIS[self.dice.roll(URIS.len())];
                let q = [1000, 500][self.dice.roll(2)];
                let hops: Vec<_> = (0..self.dice.roll(4))
                    .map(|_| HOPS[self.dice.roll(HOPS.len())])
                    .collect();
                place(uri, q, &hops)
            })
            .collect();
        let method = ["INVITE", "INVITE", "MESSAGE", "ACK"][self.dice.roll(4)];
        let transport = [Transport::Udp, Transport::Tcp][self.dice.roll(2)];
        let number = self.asked.len();
        let text = request(method, "sip:bob@example.com", &number.to_string(), "")
            .replace("call-1", &format!("call-{number}"));
        self.asked.push((transport, text.clone(), self.house.clock.now));
        self.feed(transport, &text);
    }

    /// A CANCEL or an ACK of a request that was made.
    fn ask_about(&mut self, method: &str) {
        if let Some((transport, text, _)) = self.dice.pick(&self.asked).cloned() {
            let old = text.split(' ').next().expect("a method").to_owned();
            let text = text
                .replacen(&old, method, 1)
                .replace(&format!("CSeq: 1 {old}"), &format!("CSeq: 1 {method}"));
            self.feed(transport, &text);
        }
    }

    /// What must hold of everything that leaves.
    fn look_at(&mut self, sent: Vec<Sent>) {
        for sent in sent {
            if !sent.text.starts_with("SIP/2.0 ") {
                if sent.text.starts_with("CANCEL") {
                    assert!(self.provisional.contains(sent.branch()), "§9.1: {}", sent.text);
                }
                if sent.text.starts_with("ACK") && sent.header("Via").len() == 1 {
                    continue;
                }
                self.sent_on.push(sent);
                continue;
            }
            let status: u16 = sent.text[8..11].parse().expect("a status");
            let cseq = sent.header("CSeq")[0];
            let key = format!("{} {cseq}", sent.branch());
            assert_eq!(sent.header("Via").len(), 1, "our Via is taken off");
            assert!(!cseq.ends_with("ACK"), "an ACK is not answered: {}", sent.text);
            let before = self.answered.entry(key.clone()).or_default();
            let last_final = before.iter().copied().rfind(|status| *status >= 200);
            match (status, last_final) {
                (100..=199, Some(last)) => panic!("{status} after {last}"),
                (101..=199, None) => assert!(cseq.ends_with("INVITE"), "RFC 4320 §4.1"),
                (_, None) => {}
                (200..=299, Some(200..=299)) => {}
                // A CANCEL leaves nothing behind: what is repeated is judged anew.
                (200 | 481, Some(200 | 481)) if cseq.ends_with("CANCEL") => {}
                (status, Some(last)) => assert_eq!(status, last, "one final response: {key}"),
            }
            assert!(status != 408 || cseq.ends_with("INVITE"), "RFC 4320 §4.2");
            // Nor does the 503 of a full table.
            if status != 503 {
                before.push(status);
            }
        }
    }
}

#[test]
fn whatever_happens_each_request_ends_once_and_leaves_nothing() {
    for seed in 0..500 {
        let mut run = Run::new(seed);
        for _ in 0..120 {
            run.step();
        }
        let Run { mut house, .. } = run;
        house.routes_at_once = true;
        house.walks_at_once = true;
        assert!(
            house.core.transactions() <= 12 + 40,
            "seed {seed}: bounded but for ACKs"
        );
        house.ends();
    }
}

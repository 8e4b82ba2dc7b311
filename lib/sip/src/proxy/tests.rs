//! The core walked through the rules of RFC 3261 §16 with a hand-moved clock: messages in, messages out, no socket.

mod cancelling;
mod feedback;
mod forking;
mod forwarding;
mod hostile;
mod refusing;
mod secure;
mod shedding;

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
struct Lines(Vec<(u16, &'static str, usize)>, Vec<Shed>);

impl Journal for Lines {
    fn finished(&mut self, finished: &Finished<'_>) {
        self.0.push((finished.status, finished.stage, finished.branches));
    }

    fn shed(&mut self, shed: &Shed) {
        self.1.push(*shed);
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

pub(super) fn conf() -> Conf {
    let listener = |transport, port: u16| Listener {
        transport,
        addr: SocketAddr::from(([127, 0, 0, 1], port)),
        sent_by: format!("127.0.0.1:{port}"),
    };
    Conf {
        mode: Mode::Stateful,
        recurse: false,
        member: 0,
        generation: 1,
        worker: 0,
        timers: crate::timers::TimerConf::default(),
        record_route: true,
        fork: Fork::Parallel,
        next_hop_timeout: None,
        udp_max_request: 0,
        listeners: vec![listener(Transport::Udp, 5060), listener(Transport::Tcp, 5060)],
        ours: Ours(Arc::new(|uri| match uri.host {
            sps_wire::uri::Host::Name(name) => name == b"example.com",
            host => host.ip() == Some(std::net::IpAddr::from([127, 0, 0, 1])),
        })),
        keys: Keys::new(&[MacKey { id: 1, secret: [7; 32] }]),
        max_transactions: 1000,
        max_breadth: 60,
        max_stored_len: usize::MAX,
        max_targets: 8,
        denies: Default::default(),
        registrar: true,
        draining: false,
        overload: Overload::default(),
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
                flow: None,
                secure: false,
                walk: hops.clone(),
                redirect: false,
                steady: false,
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
                        let hop = walk.remove(0);
                        let (transport, addr) = match hop.strip_prefix("tls:") {
                            Some(addr) => (Transport::Tls, addr),
                            None => (Transport::Udp, hop),
                        };
                        Ok(Reach::Destination(Destination {
                            transport,
                            addr: addr.parse().expect("an address"),
                            tls_name: None,
                        }))
                    };
                    let mut todo = Vec::new();
                    self.core.on_destination(self.clock, ticket, found, &mut todo);
                    sent.extend(self.perform(todo));
                }
                Action::Recurse(_) => unreachable!("not configured"),
                Action::Serve(ticket) => self.served.push(ticket),
                Action::Forget(_) => self.forgotten += 1,
                Action::Avoid { .. } | Action::Answered(_) => {}
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

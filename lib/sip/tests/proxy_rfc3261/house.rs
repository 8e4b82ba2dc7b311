//! A house to test in: one core, a caller, callees, and an edge that answers the core's questions from a list.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sps_sip::proxy::{
    Action, BranchTicket, Clock, Conf, Finished, Fork, Journal, Keys, Leave, Listener, MacKey, Mode, Ours, Overload,
    Proxy, Reach, RecursionTicket, Target, Ticket,
};
use sps_sip::timers::TimerConf;
use sps_wire::Limits;
use sps_wire::flow::{Destination, Flow, Transport};

/// The caller. Callees are 10.0.0.2 and up; the proxy is 127.0.0.1:5060 and example.com.
pub const CALLER: &str = "10.0.0.1:5060";

/// The connection number of everything that comes over TCP.
pub const CONNECTION: u64 = 9;

/// Statuses of finished requests.
#[derive(Default)]
pub struct Lines(pub Vec<u16>);

impl Journal for Lines {
    fn finished(&mut self, finished: &Finished<'_>) {
        self.0.push(finished.status);
    }
}

/// What left, as text.
#[derive(Debug, Clone)]
pub struct Sent {
    pub to: String,
    pub leave: Leave,
    pub text: String,
    pub token: u64,
}

impl Sent {
    pub fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// Values of a header, a line each.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let prefix = format!("{name}: ");
        self.text
            .split("\r\n\r\n")
            .next()
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.strip_prefix(prefix.as_str()))
            .collect()
    }

    /// The branch parameter of the top Via.
    pub fn branch(&self) -> &str {
        let via = self.header("Via")[0];
        let from = via.find("branch=").expect("a branch") + "branch=".len();
        via[from..].split([';', ',']).next().expect("a value")
    }
}

/// A target that routing gives: Request-URI (empty: as received), q, destinations in order (`tcp:` in front of TCP ones,
/// `flow:` in front of TCP flows).
#[derive(Debug, Clone)]
pub struct Place {
    pub uri: &'static str,
    pub q: u16,
    pub hops: Vec<&'static str>,
    pub path: Vec<&'static str>,
    pub redirect: bool,
    pub steady: bool,
}

impl Place {
    /// What the caller is to be told.
    pub fn told(self) -> Place {
        Place { redirect: true, ..self }
    }

    /// What a repetition is led to, too.
    pub fn steady(self) -> Place {
        Place { steady: true, ..self }
    }
}

/// The flow that `flow:10.0.0.2:5060` stands for.
fn flow_of(hop: &str) -> Option<Flow> {
    Some(Flow {
        member: 0,
        transport: Transport::Tcp,
        local: "127.0.0.1:5060".parse().expect("an address"),
        remote: hop.strip_prefix("flow:")?.parse().expect("an address"),
        connection: CONNECTION,
    })
}

pub fn place(uri: &'static str, q: u16, hops: &[&'static str]) -> Place {
    Place {
        uri,
        q,
        hops: hops.to_vec(),
        path: Vec::new(),
        redirect: false,
        steady: false,
    }
}

fn spot(destination: &Destination) -> String {
    format!("{}/{}", destination.addr, destination.transport.as_str())
}

/// Callees 10.0.0.2, 10.0.0.3 and so on, all of one q.
pub fn callees(count: usize) -> Vec<Place> {
    let all = [
        place("sip:bob@10.0.0.2", 1000, &["10.0.0.2:5060"]),
        place("sip:bob@10.0.0.3", 1000, &["10.0.0.3:5060"]),
        place("sip:bob@10.0.0.4", 1000, &["10.0.0.4:5060"]),
    ];
    all[..count].to_vec()
}

pub struct House {
    pub core: Proxy<Vec<&'static str>, Lines>,
    pub clock: Clock,
    pub targets: Vec<Place>,
    /// Answer routing questions at once, or leave them in `open`.
    pub routes_at_once: bool,
    pub open: Vec<Ticket>,
    /// Answer questions for the next destination at once, or leave them in `walking`.
    pub walks_at_once: bool,
    pub walking: Vec<BranchTicket>,
    /// What the core said of destinations: `avoid 10.0.0.2:5060/udp`, with ` for 7s` if the destination asked; `answered …`.
    pub said: Vec<String>,
    /// Where contacts of a 3xx lead; others lead nowhere that the caller may go.
    pub onward: Vec<Place>,
    /// Answer such questions at once, or leave them in `recursing`.
    pub recurses_at_once: bool,
    pub recursing: Vec<RecursionTicket>,
}

pub fn conf() -> Conf {
    let listener = |transport, addr: &str| Listener {
        transport,
        addr: addr.parse().expect("an address"),
        sent_by: addr.to_owned(),
    };
    Conf {
        mode: Mode::Stateful,
        recurse: false,
        member: 0,
        generation: 1,
        worker: 0,
        timers: TimerConf::default(),
        record_route: true,
        fork: Fork::Parallel,
        next_hop_timeout: None,
        udp_max_request: 0,
        listeners: vec![
            listener(Transport::Udp, "127.0.0.1:5060"),
            listener(Transport::Tcp, "127.0.0.1:5060"),
            listener(Transport::Udp, "[::1]:5060"),
            listener(Transport::Tls, "127.0.0.1:5061"),
        ],
        ours: Ours(Arc::new(|uri| match uri.host {
            sps_wire::uri::Host::Name(name) => name == b"example.com",
            host => host.ip().is_some_and(|ip| ip.is_loopback()),
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

pub fn house_with(conf: Conf) -> House {
    let now = Instant::now();
    House {
        core: Proxy::new(conf, Limits::default(), Lines::default(), 42, now),
        clock: Clock {
            now,
            unix_ms: 1_800_000_000_000,
        },
        targets: vec![place("sip:bob@10.0.0.2", 1000, &["10.0.0.2:5060"])],
        routes_at_once: true,
        open: Vec::new(),
        walks_at_once: true,
        walking: Vec::new(),
        said: Vec::new(),
        onward: Vec::new(),
        recurses_at_once: true,
        recursing: Vec::new(),
    }
}

pub fn house() -> House {
    house_with(conf())
}

fn target(place: &Place) -> Target<Vec<&'static str>> {
    Target {
        uri: Bytes::from_static(place.uri.as_bytes()),
        q: place.q,
        path: place
            .path
            .iter()
            .map(|path| Bytes::from_static(path.as_bytes()))
            .collect(),
        flow: place.hops.first().and_then(|hop| flow_of(hop)),
        secure: false,
        walk: place.hops.clone(),
        redirect: place.redirect,
        steady: place.steady,
    }
}

impl House {
    pub fn feed_by(&mut self, transport: Transport, from: &str, text: &str) -> Vec<Sent> {
        let remote: SocketAddr = from.parse().expect("an address");
        let local = if remote.is_ipv4() {
            "127.0.0.1:5060"
        } else {
            "[::1]:5060"
        };
        let flow = Flow {
            member: 0,
            transport,
            local: local.parse().expect("an address"),
            remote,
            connection: if transport == Transport::Udp { 0 } else { CONNECTION },
        };
        let mut todo = Vec::new();
        let elsewhere = self.core.on_message(self.clock, flow, text.as_bytes(), &mut todo);
        assert_eq!(elsewhere, None, "there is one worker only");
        self.perform(todo)
    }

    pub fn feed(&mut self, from: &str, text: &str) -> Vec<Sent> {
        self.feed_by(Transport::Udp, from, text)
    }

    /// A callee's response to what it was sent, from where it was sent to.
    pub fn answer(&mut self, to: &Sent, status: &str) -> Vec<Sent> {
        self.feed(&to.to.clone(), &answer(to, status))
    }

    /// Lets time pass, waking the core whenever it asked for it.
    pub fn pass(&mut self, time: Duration) -> Vec<Sent> {
        let end = self.clock.now + time;
        let mut sent = Vec::new();
        while let Some(at) = self.core.deadline().filter(|at| *at <= end) {
            self.clock.now = self.clock.now.max(at);
            let mut todo = Vec::new();
            self.core.on_deadline(self.clock, &mut todo);
            sent.extend(self.perform(todo));
        }
        self.clock.now = end;
        sent
    }

    pub fn pass_ms(&mut self, ms: u64) -> Vec<Sent> {
        self.pass(Duration::from_millis(ms))
    }

    /// Answers a routing question with `targets`.
    pub fn route(&mut self, ticket: Ticket) -> Vec<Sent> {
        let targets = self.targets.iter().map(target).collect();
        let mut todo = Vec::new();
        self.core.on_targets(self.clock, ticket, "test", targets, &mut todo);
        self.perform(todo)
    }

    /// Answers the question where a contact leads.
    pub fn recurse(&mut self, ticket: RecursionTicket) -> Vec<Sent> {
        let Some(uri) = self.core.recursion_uri(ticket) else {
            return Vec::new();
        };
        let leads_to = self.onward.iter().filter(|place| place.uri.as_bytes() == uri);
        let targets = leads_to.map(target).collect();
        let mut todo = Vec::new();
        self.core.on_recursion(self.clock, ticket, targets, &mut todo);
        self.perform(todo)
    }

    /// Answers the question for the next destination of a branch.
    pub fn walk(&mut self, ticket: BranchTicket) -> Vec<Sent> {
        let Some(walk) = self.core.walk(ticket) else {
            return Vec::new();
        };
        let found = if walk.is_empty() {
            Err(408)
        } else {
            let hop = walk.remove(0);
            let (kind, addr) = match hop.split_once(':') {
                Some((kind @ ("tcp" | "tls"), addr)) => (kind, addr),
                _ => ("udp", hop),
            };
            Ok(match flow_of(hop) {
                Some(flow) => Reach::Flow(flow),
                None => Reach::Destination(Destination {
                    transport: Transport::from_bytes(kind.as_bytes()).expect("a transport"),
                    addr: addr.parse().expect("an address"),
                    tls_name: None,
                }),
            })
        };
        let mut todo = Vec::new();
        self.core.on_destination(self.clock, ticket, found, &mut todo);
        self.perform(todo)
    }

    /// The edge could not send this.
    pub fn send_failed(&mut self, sent: &Sent) -> Vec<Sent> {
        let mut todo = Vec::new();
        self.core.on_send_failed(self.clock, sent.token, &mut todo);
        self.perform(todo)
    }

    /// The edge could not open the connection for this.
    pub fn connect_failed(&mut self, sent: &Sent) -> Vec<Sent> {
        let mut todo = Vec::new();
        self.core.on_connect_failed(self.clock, sent.token, &mut todo);
        self.perform(todo)
    }

    /// A connection that the edge had opened is gone.
    pub fn stream_lost(&mut self, addr: &str) -> Vec<Sent> {
        let mut todo = Vec::new();
        let lost = [(Transport::Tcp, addr.parse().expect("an address"))];
        self.core.on_streams_lost(self.clock, &lost, &mut todo);
        self.perform(todo)
    }

    pub fn unreachable(&mut self, addr: &str) -> Vec<Sent> {
        let mut todo = Vec::new();
        let addrs = [addr.parse().expect("an address")];
        self.core.on_unreachable(self.clock, &addrs, &mut todo);
        self.perform(todo)
    }

    pub fn perform(&mut self, todo: Vec<Action>) -> Vec<Sent> {
        let mut sent = Vec::new();
        for action in todo {
            match action {
                Action::Send { leave, bytes, token } => {
                    let to = match &leave {
                        Leave::Reply(flow) | Leave::Flow(flow) => flow.remote,
                        Leave::Onward { destination, .. } => destination.addr,
                    };
                    sent.push(Sent {
                        to: to.to_string(),
                        leave,
                        text: String::from_utf8_lossy(&bytes).into_owned(),
                        token,
                    });
                }
                Action::Route(ticket) if self.routes_at_once => sent.extend(self.route(ticket)),
                Action::Route(ticket) => self.open.push(ticket),
                Action::Walk(ticket) if self.walks_at_once => sent.extend(self.walk(ticket)),
                Action::Walk(ticket) => self.walking.push(ticket),
                Action::Recurse(ticket) if self.recurses_at_once => sent.extend(self.recurse(ticket)),
                Action::Recurse(ticket) => self.recursing.push(ticket),
                Action::Serve(_) | Action::Forget(_) => {}
                Action::Avoid {
                    destination,
                    retry_after,
                } => {
                    let wait = retry_after.map_or(String::new(), |wait| format!(" for {}s", wait.as_secs()));
                    self.said.push(format!("avoid {}{wait}", spot(&destination)));
                }
                Action::Answered(destination) => self.said.push(format!("answered {}", spot(&destination))),
            }
        }
        sent
    }

    /// A final response for every server transaction, in order.
    pub fn statuses(&mut self) -> Vec<u16> {
        self.core.journal_mut().0.clone()
    }

    /// Answers what is still asked, lets everything run out and looks for what was left behind.
    pub fn ends(mut self) {
        for ticket in std::mem::take(&mut self.open) {
            self.route(ticket);
        }
        for ticket in std::mem::take(&mut self.recursing) {
            self.recurse(ticket);
        }
        for ticket in std::mem::take(&mut self.walking) {
            self.walk(ticket);
        }
        self.pass(Duration::from_secs(600));
        assert_eq!(self.core.transactions(), 0, "server transactions are left");
        assert_eq!(self.core.client_transactions(), 0, "client transactions are left");
        assert_eq!(self.core.deadline(), None, "timers are left");
    }
}

/// A request of the caller. `more` are further header lines.
pub fn request(method: &str, uri: &str, branch: &str, more: &str) -> String {
    request_with(
        "10.0.0.1:5060",
        method,
        uri,
        &format!(";branch=z9hG4bK{branch}"),
        "",
        more,
    )
}

/// A request whose top Via has this sent-by and these parameters, and whose To has this tag parameter.
pub fn request_with(sent_by: &str, method: &str, uri: &str, via: &str, to_tag: &str, more: &str) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {sent_by}{via}\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@example.com>;tag=caller\r\nTo: <sip:bob@example.com>{to_tag}\r\nCall-ID: call-1\r\n\
         CSeq: 1 {method}\r\n{more}Content-Length: 0\r\n\r\n"
    )
}

pub fn invite() -> String {
    request(
        "INVITE",
        "sip:bob@example.com",
        "a",
        "Contact: <sip:alice@10.0.0.1>\r\n",
    )
}

pub fn cancel() -> String {
    request("CANCEL", "sip:bob@example.com", "a", "")
}

/// A response of a callee to what it was sent; each callee has a To tag of its own.
pub fn answer(to: &Sent, status: &str) -> String {
    answer_with(to, status, "")
}

/// The same with further header lines.
pub fn answer_with(to: &Sent, status: &str, more: &str) -> String {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for line in to.text.lines() {
        let keep = ["Via: ", "From: ", "Call-ID: ", "CSeq: ", "Record-Route: "];
        if keep.iter().any(|name| line.starts_with(name)) {
            text.push_str(line);
            text.push_str("\r\n");
        } else if line.starts_with("To: ") {
            text.push_str(line);
            if !line.contains("tag=") && !status.starts_with("100") {
                text.push_str(&format!(";tag=at-{}", to.to.replace([':', '[', ']'], "-")));
            }
            text.push_str("\r\n");
        }
    }
    text.push_str(more);
    text.push_str("Content-Length: 0\r\n\r\n");
    text
}

/// The one message that begins with `start` among what was sent.
pub fn only<'a>(sent: &'a [Sent], start: &str) -> &'a Sent {
    let found: Vec<_> = sent.iter().filter(|sent| sent.text.starts_with(start)).collect();
    assert_eq!(found.len(), 1, "one {start} in {sent:#?}");
    found[0]
}

pub fn lines(sent: &[Sent]) -> Vec<&str> {
    sent.iter().map(Sent::first_line).collect()
}

/// How many of them begin with `start`.
pub fn count(sent: &[Sent], start: &str) -> usize {
    sent.iter().filter(|sent| sent.text.starts_with(start)).count()
}

//! The proxy core as a whole: a play of messages and waits. Nothing panics, nothing grows without bound, nothing is left when all
//! timers have run out, and what goes out is what came in but for what RFC 3261 §16.6 lets a proxy change.

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};
use sps_sip::proxy::{
    Action, Clock, Conf, Finished, Fork, Journal, Keys, Leave, Listener, MacKey, Mode, Ours, Overload, Proxy, Reach,
    Target, Ticket,
};
use sps_wire::flow::{Destination, Flow, Transport};
use sps_wire::uri::Host;
use sps_wire::{Index, Limits, Message, Method, Name, Response, parse, write_response};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The bytes are scenes parted by 0x1e; the first byte of each says what happens: `u` a datagram of the caller, `v` one of the
/// callee, `t` a message on the caller's stream, `a` and a digit and a status: the callee answers the request sent that many sends
/// ago, `w` and digits: so many milliseconds pass, `s`: the last send failed, `n`: routing has no answer to the next requests.
pub fn proxy(bytes: &[u8]) {
    let mut stage = Stage::new();
    for scene in bytes.split(|byte| *byte == 0x1e).take(MAX_SCENES) {
        stage.play(scene);
        stage.is_bounded();
    }
    stage.empties();
}

const MAX_SCENES: usize = 64;
const MAX_TRANSACTIONS: usize = 16;
const MAX_TARGETS: usize = 4;

struct NoJournal;

impl Journal for NoJournal {
    fn finished(&mut self, _: &Finished<'_>) {}
}

/// What came in as a request and may be forwarded.
struct Came {
    bytes: Vec<u8>,
    index: Index,
}

impl Came {
    fn message(&self) -> Message<'_> {
        self.index.message(&self.bytes).expect("it was accepted")
    }
}

struct Stage {
    core: Proxy<Vec<SocketAddr>, NoJournal>,
    clock: Clock,
    came: Vec<Came>,
    /// Requests that went out, with their send tokens.
    sent: Vec<(Bytes, u64)>,
    routes: bool,
}

impl Stage {
    fn new() -> Stage {
        let now = Instant::now();
        Stage {
            core: Proxy::new(conf(), limits(), NoJournal, 42, now),
            clock: Clock {
                now,
                unix_ms: 1_800_000_000_000,
            },
            came: Vec::new(),
            sent: Vec::new(),
            routes: true,
        }
    }

    fn play(&mut self, scene: &[u8]) {
        let Some((what, rest)) = scene.split_first() else {
            return;
        };
        let mut todo = Vec::new();
        match what {
            b'u' => self.message(Transport::Udp, [10, 0, 0, 1], rest, &mut todo),
            b'v' => self.message(Transport::Udp, [10, 0, 0, 2], rest, &mut todo),
            b't' => self.message(Transport::Tcp, [10, 0, 0, 1], rest, &mut todo),
            b'a' => return self.answer(rest),
            b'w' => return self.pass(Duration::from_millis(u64::from(number(rest)))),
            b's' => {
                if let Some((_, token)) = self.sent.last() {
                    self.core.on_send_failed(self.clock, *token, &mut todo);
                }
            }
            b'n' => self.routes = !self.routes,
            _ => {}
        }
        self.perform(todo);
    }

    fn message(&mut self, transport: Transport, from: [u8; 4], bytes: &[u8], todo: &mut Vec<Action>) {
        let mut index = Index::default();
        if let Ok(message) = parse(bytes, &mut index, &limits())
            && message.is_request()
        {
            self.came.push(Came {
                bytes: message.bytes().to_vec(),
                index,
            });
        }
        let flow = Flow {
            member: 0,
            transport,
            local: ([127, 0, 0, 1], 5060).into(),
            remote: (from, 5060).into(),
            connection: u64::from(transport == Transport::Tcp) * 9,
        };
        assert_eq!(
            self.core.on_message(self.clock, flow, bytes, todo),
            None,
            "there is one worker"
        );
    }

    fn answer(&mut self, rest: &[u8]) {
        let [back, rest @ ..] = rest else { return };
        let status = number(rest).clamp(100, 699) as u16;
        let place = self.sent.len().checked_sub(1 + usize::from(back % 10));
        let Some((request, _)) = place.and_then(|place| self.sent.get(place)).cloned() else {
            return;
        };
        let mut index = Index::default();
        let Ok(request) = parse(&request, &mut index, &limits_out()) else {
            return;
        };
        let mut out = Vec::new();
        let response = Response {
            to_tag: Some(b"callee"),
            extra: &[("Contact", b"<sip:bob@10.0.0.2:5060>")],
            ..Response::new(status)
        };
        write_response(request, &response, &mut out);
        let mut todo = Vec::new();
        self.message(Transport::Udp, [10, 0, 0, 2], &out, &mut todo);
        self.perform(todo);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.clock.now + time;
        let mut turns = 0;
        while let Some(at) = self.core.deadline().filter(|at| *at <= end) {
            self.clock.now = self.clock.now.max(at);
            let mut todo = Vec::new();
            self.core.on_deadline(self.clock, &mut todo);
            self.perform(todo);
            turns += 1;
            assert!(turns < 100_000, "timers end");
        }
        self.clock.unix_ms += time.as_millis() as u64;
        self.clock.now = end;
    }

    fn perform(&mut self, todo: Vec<Action>) {
        for action in todo {
            match action {
                Action::Send { leave, bytes, token } => self.sent(&leave, bytes, token),
                Action::Route(ticket) => self.route(ticket),
                Action::Walk(ticket) => {
                    let Some(hops) = self.core.walk(ticket) else { continue };
                    let found = hops.pop().map_or(Err(408), |addr| {
                        Ok(Reach::Destination(Destination {
                            transport: Transport::Udp,
                            addr,
                            tls_name: None,
                        }))
                    });
                    let mut todo = Vec::new();
                    self.core.on_destination(self.clock, ticket, found, &mut todo);
                    self.perform(todo);
                }
                Action::Serve(ticket) => {
                    let mut todo = Vec::new();
                    self.core
                        .on_service_failed(self.clock, ticket, &Response::new(500), &mut todo);
                    self.perform(todo);
                }
                Action::Forget(_) | Action::Avoid { .. } | Action::Answered(_) | Action::Recurse(_) => {}
            }
        }
    }

    fn route(&mut self, ticket: Ticket) {
        let mut todo = Vec::new();
        if self.routes {
            let target = |port: u16| Target {
                uri: Bytes::from(format!("sip:bob@10.0.0.2:{port}")),
                q: 1000 - port % 7,
                path: smallvec![],
                flow: None,
                secure: false,
                redirect: false,
                steady: false,
                walk: vec![
                    SocketAddr::from(([10, 0, 0, 2], port)),
                    SocketAddr::from(([10, 0, 0, 3], port)),
                ],
            };
            let targets: SmallVec<[Target<Vec<SocketAddr>>; 1]> = smallvec![target(5060), target(5062)];
            self.core.on_targets(self.clock, ticket, "fuzz", targets, &mut todo);
        } else {
            self.core
                .on_refused(self.clock, ticket, "fuzz", &Response::new(404), &mut todo);
        }
        self.perform(todo);
    }

    fn sent(&mut self, leave: &Leave, bytes: Bytes, token: u64) {
        let mut index = Index::default();
        let message = match (parse(&bytes, &mut index, &limits_out()), leave) {
            (Ok(message), _) => message,
            // An answer to what could not be read is made of what could.
            (Err(_), Leave::Reply(_)) => return,
            (Err(error), _) => panic!(
                "goes on and cannot be read: {error}\n{}",
                String::from_utf8_lossy(&bytes)
            ),
        };
        match message.method() {
            None | Some(Method::Ack | Method::Cancel) => {}
            Some(_) => {
                let is_copy = |came: &Came| is_copy(came.message(), message);
                assert!(
                    self.came.iter().any(is_copy),
                    "nobody sent what went on:\n{}",
                    String::from_utf8_lossy(&bytes)
                );
                self.sent.push((bytes, token));
            }
        }
    }

    fn is_bounded(&self) {
        assert!(
            self.core.transactions() <= MAX_TRANSACTIONS + MAX_SCENES,
            "ACKs and the like are few"
        );
        assert!(self.core.client_transactions() <= (MAX_TRANSACTIONS + MAX_SCENES) * MAX_TARGETS * 2);
        assert!(self.core.undecided_requests() <= MAX_TRANSACTIONS + MAX_SCENES);
    }

    /// After an hour of silence nothing is left.
    fn empties(&mut self) {
        self.pass(Duration::from_secs(3600));
        assert_eq!(
            (self.core.transactions(), self.core.client_transactions()),
            (0, 0),
            "server and client transactions that never end"
        );
    }
}

/// Whether a forwarded request has all that came, in order: every header that a proxy must not touch, the Via values below its
/// own, the body.
fn is_copy(came: Message<'_>, gone: Message<'_>) -> bool {
    let kept = |message: Message<'_>| -> Vec<(Vec<u8>, Vec<u8>)> {
        message
            .headers()
            .filter(|header| {
                !matches!(
                    header.name(),
                    Name::Via | Name::Route | Name::RecordRoute | Name::MaxForwards | Name::MaxBreadth
                )
            })
            .map(|header| (header.raw_name().to_vec(), header.value().to_vec()))
            .collect()
    };
    let branches = |message: Message<'_>| -> Vec<Option<Vec<u8>>> {
        message
            .vias()
            .map(|via| via.ok().and_then(|via| via.branch().map(<[u8]>::to_vec)))
            .collect()
    };
    let record_routes = |message: Message<'_>| -> Vec<Vec<u8>> {
        message
            .values(Name::RecordRoute)
            .map(|value| value.text().to_vec())
            .collect()
    };
    let has_length = came.has(Name::ContentLength);
    let gone_headers: Vec<_> = kept(gone)
        .into_iter()
        .filter(|(name, _)| has_length || Name::from_bytes(name) != Name::ContentLength)
        .collect();
    came.method() == gone.method()
        && came.body() == gone.body()
        && kept(came) == gone_headers
        && branches(gone).get(1..) == Some(&branches(came)[..])
        && record_routes(gone).ends_with(&record_routes(came))
        && gone
            .max_forwards()
            .ok()
            .flatten()
            .is_some_and(|hops| match came.max_forwards() {
                Ok(Some(before)) => hops < before,
                _ => hops == 70,
            })
}

fn conf() -> Conf {
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
        timers: sps_sip::timers::TimerConf::default(),
        record_route: true,
        fork: Fork::Parallel,
        listeners: vec![listener(Transport::Udp, 5060), listener(Transport::Tcp, 5060)],
        ours: Ours(Arc::new(|uri| match uri.host {
            Host::Name(name) => name == b"example.com",
            host => host.ip() == Some(std::net::IpAddr::from([127, 0, 0, 1])),
        })),
        keys: Keys::new(&[MacKey { id: 1, secret: [7; 32] }]),
        max_transactions: MAX_TRANSACTIONS,
        max_stored_len: 1 << 20,
        next_hop_timeout: Some(Duration::from_secs(8)),
        udp_max_request: 1300,
        max_breadth: 60,
        max_targets: MAX_TARGETS,
        denies: Default::default(),
        registrar: true,
        draining: false,
        overload: Overload::default(),
    }
}

fn limits() -> Limits {
    crate::limits()
}

/// What goes out may be longer by what a proxy adds.
fn limits_out() -> Limits {
    Limits::default()
}

fn number(digits: &[u8]) -> u32 {
    digits
        .iter()
        .take_while(|digit| digit.is_ascii_digit())
        .take(7)
        .fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
}

//! Calls: INVITE-100-180-200-ACK-BYE-200, callers and callees in one thread, closed or open loop.
//!
//! Both sides keep RFC 3261's retransmissions (T1 500 ms) because even a loopback loses what does not fit into a socket
//! buffer; they are counted, since a contender that needs them is not doing its job.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::port::{Port, wait};
use super::text;

/// What to play.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where everything is sent.
    pub proxy: SocketAddr,
    /// Request-URI of a new call, after `sip:`.
    pub target: String,
    /// How new calls come.
    pub pace: Pace,
    /// For how long new calls are begun.
    pub duration: Duration,
    /// At most so many calls are begun.
    pub limit: Option<u32>,
    /// First wait before something is sent again; RFC 3261's is [`T1`].
    pub t1: Duration,
    /// A call without an end after this has failed.
    pub give_up: Duration,
}

impl Plan {
    /// A closed loop with RFC 3261's timers.
    pub fn window(proxy: SocketAddr, target: &str, window: usize, duration: Duration) -> Plan {
        Plan {
            proxy,
            target: target.to_owned(),
            pace: Pace::Window(window),
            duration,
            limit: None,
            t1: T1,
            give_up: GIVE_UP,
        }
    }
}

/// How new calls come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As many at a time as this; an ended one makes room for the next.
    Window(usize),
    /// So many begun in a second, however many are open.
    Rate(f64),
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Calls that went from INVITE to the 200 for BYE.
    pub completed: u64,
    /// Calls refused or given up.
    pub failed: u64,
    /// Messages sent again, both sides.
    pub retransmissions: u64,
    /// From the first datagram to the end of the last call.
    pub elapsed: Duration,
    /// INVITE to 200, microseconds, of every call.
    pub setup_us: Vec<u32>,
    /// The first refusal or the like, for the report of a failure.
    pub first_failure: Option<String>,
}

impl Outcome {
    /// Completed calls in a second.
    pub fn rate(&self) -> f64 {
        self.completed as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// The ports of both sides. Made apart from the load because contenders' routes need the callee's address.
pub struct Ends {
    /// The callers' socket.
    pub caller: Port,
    /// The callees' socket.
    pub callee: Port,
    /// What their Contact says when it is not that socket: somebody in front of it.
    pub callee_contact: Option<SocketAddr>,
}

impl Ends {
    /// Two free ports on `ip`.
    pub fn bind(ip: std::net::IpAddr) -> std::io::Result<Ends> {
        Ok(Ends {
            caller: Port::bind(SocketAddr::new(ip, 0))?,
            callee: Port::bind(SocketAddr::new(ip, 0))?,
            callee_contact: None,
        })
    }
}

/// One call as its caller knows it.
struct Call {
    began_at: Instant,
    stage: Stage,
    /// What is sent again, and when.
    pending: Vec<u8>,
    resend_at: Instant,
    resend_wait: Duration,
}

enum Stage {
    Inviting,
    /// 180 or 100 is there: the request is not sent again (RFC 3261 §17.1.1.2).
    Ringing,
    /// ACK and BYE are out; the ACK is kept for a 200 that comes again.
    Leaving {
        ack: Vec<u8>,
    },
}

/// A 200 that waits for its ACK.
struct Answered {
    began_at: Instant,
    remote: SocketAddr,
    response: Vec<u8>,
    resend_at: Instant,
    resend_wait: Duration,
}

struct Load<'a> {
    plan: &'a Plan,
    ends: &'a mut Ends,
    caller_addr: SocketAddr,
    callee_uri: String,
    /// Different from run to run, so that no two runs share a Call-ID.
    run: u64,
    next: u32,
    calls: HashMap<u32, Call>,
    answered: HashMap<u32, Answered>,
    outcome: Outcome,
    now: Instant,
}

/// Plays the plan to its end.
pub fn play(plan: &Plan, ends: &mut Ends) -> Outcome {
    let began_at = Instant::now();
    let caller_addr = ends.caller.addr();
    let callee_uri = format!("sip:callee@{}", ends.callee_contact.unwrap_or(ends.callee.addr()));
    let run = u64::from(std::process::id()) << 32 | u64::from(began_at.elapsed().subsec_nanos()) ^ unique();
    let mut load = Load {
        plan,
        ends,
        caller_addr,
        callee_uri,
        run,
        next: 0,
        calls: HashMap::new(),
        answered: HashMap::new(),
        outcome: Outcome::default(),
        now: began_at,
    };
    let end_at = began_at + plan.duration;
    let mut look_at = began_at;
    let mut last_at = began_at;
    loop {
        load.now = Instant::now();
        if load.now < end_at && plan.limit.is_none_or(|limit| load.next < limit) {
            load.begin_due(began_at);
        } else if load.calls.is_empty() {
            break;
        }
        if load.now >= look_at {
            load.on_time();
            look_at = load.now + LOOK;
        }
        load.ends.caller.flush();
        load.ends.callee.flush();
        let before = load.outcome.completed;
        let limit = load.idle_limit(began_at, end_at, look_at);
        wait(&[&load.ends.caller, &load.ends.callee], limit);
        load.now = Instant::now();
        load.drain();
        if load.outcome.completed > before {
            last_at = load.now;
        }
    }
    load.outcome.elapsed = last_at - began_at;
    let mut outcome = load.outcome;
    outcome.setup_us.sort_unstable();
    outcome
}

impl Load<'_> {
    fn begin_due(&mut self, began_at: Instant) {
        let due = match self.plan.pace {
            Pace::Window(window) => window.saturating_sub(self.calls.len()),
            Pace::Rate(rate) => {
                let by_now = ((self.now - began_at).as_secs_f64() * rate) as u64 + 1;
                by_now.saturating_sub(u64::from(self.next)) as usize
            }
        };
        let left = self.plan.limit.map_or(usize::MAX, |limit| (limit - self.next) as usize);
        for _ in 0..due.min(left) {
            self.begin();
        }
    }

    /// How long nothing may come before we look again ourselves.
    fn idle_limit(&self, began_at: Instant, end_at: Instant, look_at: Instant) -> Duration {
        let mut limit = look_at.saturating_duration_since(self.now);
        if let Pace::Rate(rate) = self.plan.pace
            && self.now < end_at
        {
            let next_at = began_at + Duration::from_secs_f64(f64::from(self.next) / rate);
            limit = limit.min(next_at.saturating_duration_since(self.now));
        }
        limit
    }

    fn drain(&mut self) {
        // Each side in turn until neither has anything, so that a batch is answered by a batch.
        loop {
            let mut came = Vec::new();
            self.ends.caller.receive(|bytes, _| came.push(bytes.to_vec()));
            let from_proxy = came.len();
            for message in came.drain(..) {
                self.on_caller(&message);
            }
            let mut asked = Vec::new();
            self.ends
                .callee
                .receive(|bytes, remote| asked.push((bytes.to_vec(), remote)));
            let to_callee = asked.len();
            for (message, remote) in asked {
                self.on_callee(&message, remote);
            }
            if from_proxy + to_callee == 0 {
                return;
            }
            self.ends.caller.flush();
            self.ends.callee.flush();
        }
    }

    fn begin(&mut self) {
        let number = self.next;
        self.next += 1;
        let mut invite = self.head("INVITE", &self.plan.target, number, 'i', &[]);
        let _ = write!(
            invite,
            "To: <sip:{target}>\r\nCSeq: 1 INVITE\r\nContact: <sip:caller@{addr}>\r\n\
             Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK, REFER, NOTIFY\r\nSupported: replaces, timer\r\n\
             User-Agent: sps-bench\r\nContent-Type: application/sdp\r\nContent-Length: {len}\r\n\r\n{sdp}",
            target = self.plan.target,
            addr = self.caller_addr,
            len = text::SDP.len(),
            sdp = text::SDP
        );
        self.ends.caller.send(self.plan.proxy, invite.clone());
        let call = Call {
            began_at: self.now,
            stage: Stage::Inviting,
            pending: invite,
            resend_at: self.now + self.plan.t1,
            resend_wait: self.plan.t1,
        };
        self.calls.insert(number, call);
    }

    /// Start line and the headers that all of a call's requests have alike.
    fn head(&self, method: &str, target: &str, number: u32, branch: char, routes: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::with_capacity(1_024);
        let _ = write!(
            out,
            "{method} sip:{target} SIP/2.0\r\nVia: SIP/2.0/UDP {addr};rport;branch=z9hG4bK{run:x}{number:08x}{branch}\r\n",
            addr = self.caller_addr,
            run = self.run
        );
        for route in routes {
            out.extend_from_slice(b"Route: ");
            out.extend_from_slice(route);
            out.extend_from_slice(b"\r\n");
        }
        let _ = write!(
            out,
            "Max-Forwards: 70\r\nFrom: \"Caller\" <sip:caller@{addr}>;tag=caller{number:08x}\r\nCall-ID: ",
            addr = self.caller_addr
        );
        out.extend_from_slice(text::CALL_MARK);
        let _ = write!(out, "{number:08x}-{run:x}\r\n", run = self.run);
        out
    }

    fn on_caller(&mut self, message: &[u8]) {
        let (Some(status), Some(number)) = (text::status(message), text::call_number(message)) else {
            return;
        };
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        match (&mut call.stage, status) {
            (Stage::Inviting | Stage::Ringing, 100..200) if text::is_for(message, b"INVITE") => {
                call.stage = Stage::Ringing;
            }
            (Stage::Inviting | Stage::Ringing, 200) if text::is_for(message, b"INVITE") => {
                self.on_answer(number, message)
            }
            (Stage::Leaving { ack }, 200) if text::is_for(message, b"INVITE") => {
                // Our ACK was lost.
                let again = ack.clone();
                self.outcome.retransmissions += 1;
                self.ends.caller.send(self.plan.proxy, again);
            }
            (Stage::Leaving { .. }, 200) if text::is_for(message, b"BYE") => {
                let call = self.calls.remove(&number);
                debug_assert!(call.is_some());
                self.outcome.completed += 1;
            }
            (_, 300..) => {
                self.calls.remove(&number);
                self.outcome.failed += 1;
                let line = String::from_utf8_lossy(text::lines(message).next().unwrap_or_default()).into_owned();
                self.outcome.first_failure.get_or_insert(line);
            }
            _ => {}
        }
    }

    /// A 200 for INVITE: ACK and BYE go out together.
    fn on_answer(&mut self, number: u32, message: &[u8]) {
        let mut routes: Vec<&[u8]> = text::lines(message)
            .filter_map(|line| text::value(line, b"record-route"))
            .collect();
        routes.reverse();
        let to = text::lines(message)
            .find_map(|line| text::value(line, b"to"))
            .unwrap_or_default();
        let contact = text::lines(message)
            .find_map(|line| text::value(line, b"contact"))
            .unwrap_or_default();
        let contact = std::str::from_utf8(contact).unwrap_or_default();
        let target = contact
            .trim_start_matches("<sip:")
            .split('>')
            .next()
            .unwrap_or_default();
        let mut requests = [("ACK", 1, 'a'), ("BYE", 2, 'b')].map(|(method, cseq, branch)| {
            let mut request = self.head(method, target, number, branch, &routes);
            request.extend_from_slice(b"To: ");
            request.extend_from_slice(to);
            let _ = write!(
                request,
                "\r\nCSeq: {cseq} {method}\r\nUser-Agent: sps-bench\r\nContent-Length: 0\r\n\r\n"
            );
            self.ends.caller.send(self.plan.proxy, request.clone());
            request
        });
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        let setup = (self.now - call.began_at).as_micros();
        self.outcome.setup_us.push(u32::try_from(setup).unwrap_or(u32::MAX));
        call.pending = std::mem::take(&mut requests[1]);
        call.stage = Stage::Leaving {
            ack: std::mem::take(&mut requests[0]),
        };
        call.resend_wait = self.plan.t1;
        call.resend_at = self.now + self.plan.t1;
    }

    fn on_callee(&mut self, message: &[u8], remote: SocketAddr) {
        let Some(number) = text::call_number(message) else {
            return;
        };
        if message.starts_with(b"INVITE ") {
            // A repeated INVITE gets the same answer, and no second timer.
            let ringing = text::response(message, "180 Ringing", number, &self.callee_uri, "");
            let answer = text::response(message, "200 OK", number, &self.callee_uri, text::SDP);
            self.ends.callee.send(remote, ringing);
            self.ends.callee.send(remote, answer.clone());
            let now = self.now;
            let answered = Answered {
                began_at: now,
                remote,
                response: answer,
                resend_at: now + self.plan.t1,
                resend_wait: self.plan.t1,
            };
            if self.answered.insert(number, answered).is_some() {
                self.outcome.retransmissions += 1;
            }
        } else if message.starts_with(b"ACK ") {
            self.answered.remove(&number);
        } else if message.starts_with(b"BYE ") {
            self.answered.remove(&number);
            let response = text::response(message, "200 OK", number, &self.callee_uri, "");
            self.ends.callee.send(remote, response);
        }
    }

    /// Timers of all calls: what got no answer goes again, what got none for 32 s has failed.
    fn on_time(&mut self) {
        let now = self.now;
        let give_up = self.plan.give_up;
        let outcome = &mut self.outcome;
        let (proxy, caller, callee) = (self.plan.proxy, &mut self.ends.caller, &mut self.ends.callee);
        self.calls.retain(|number, call| {
            if now - call.began_at > give_up {
                outcome.failed += 1;
                outcome
                    .first_failure
                    .get_or_insert_with(|| format!("call {number}: no end after {give_up:?}"));
                return false;
            }
            if now >= call.resend_at && !matches!(call.stage, Stage::Ringing) {
                caller.send(proxy, call.pending.clone());
                outcome.retransmissions += 1;
                call.resend_wait = (call.resend_wait * 2).min(T2);
                call.resend_at = now + call.resend_wait;
            }
            true
        });
        self.answered.retain(|_, answered| {
            if now >= answered.resend_at {
                if now - answered.began_at > give_up {
                    return false;
                }
                callee.send(answered.remote, answered.response.clone());
                outcome.retransmissions += 1;
                answered.resend_wait *= 2;
                answered.resend_at = now + answered.resend_wait.min(T2);
            }
            true
        });
    }
}

fn unique() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// RFC 3261's estimate of a round trip.
pub const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const LOOK: Duration = Duration::from_millis(50);
/// 64 × T1: when a transaction has failed.
pub const GIVE_UP: Duration = Duration::from_secs(32);

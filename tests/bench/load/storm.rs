//! More calls than a proxy can carry: callers that begin calls at a rate of their own, repeat what goes unanswered (RFC 3261
//! §17.1), acknowledge refusals, and hang up after a while. Some may honour overload control (RFC 7339 §7.2); a few more are
//! registered phones, each on the flow it registered by.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::feedback::Feedback;
use super::port::{Port, wait};
use super::text;
use crate::random::Random;

/// What to play.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where everything is sent.
    pub proxy: SocketAddr,
    /// Request-URI of a new call, after `sip:`.
    pub target: String,
    /// Calls begun in a second, held back ones included.
    pub rate: f64,
    /// Calls begun this early are not counted: queues and controllers settle.
    pub warm_up: Duration,
    /// For how long calls that count are begun.
    pub duration: Duration,
    /// A call that is not answered within this is worth nothing: the caller has given up.
    pub patience: Duration,
    /// From the answer to the BYE.
    pub hold: Duration,
    /// Whether the callers' proxy honours `oc` (RFC 7339).
    pub honours_oc: bool,
    /// Domain, number and rate of registered phones that call as well; none if the rate is zero.
    pub phones: (String, u32, f64),
}

/// What came of it; calls begun in the counted time only.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Calls that wanted to begin, held back ones included.
    pub wanted: u64,
    /// Answered within the callers' patience.
    pub answered: u64,
    /// Got a final response of 300 or more.
    pub refused: u64,
    /// Not sent at all, because `oc` asked so.
    pub held_back: u64,
    /// Neither answered nor refused in time.
    pub given_up: u64,
    /// INVITEs that repeated an earlier one.
    pub repeated: u64,
    /// BYEs of answered calls, and how many of them were answered 200.
    pub byes: u64,
    /// See `byes`.
    pub byes_answered: u64,
    /// Calls of registered phones, and how many of them were answered in time.
    pub phone_calls: u64,
    /// See `phone_calls`.
    pub phone_calls_answered: u64,
    /// Responses that had Retry-After.
    pub retry_after: u64,
    /// INVITE to 200 of what was answered, microseconds, sorted.
    pub setup_us: Vec<u32>,
    /// The counted time.
    pub elapsed: Duration,
    /// The first refusal.
    pub first_refusal: Option<String>,
}

impl Outcome {
    /// Calls answered in time, in a second.
    pub fn goodput(&self) -> f64 {
        (self.answered + self.phone_calls_answered) as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// The sockets of both sides.
pub struct Ends {
    /// All callers but the phones.
    pub callers: Port,
    /// The registered phones.
    pub phones: Port,
    /// Who answers.
    pub callees: Port,
}

impl Ends {
    /// Free ports on `ip`.
    ///
    /// # Errors
    /// What `bind` said.
    pub fn bind(ip: std::net::IpAddr) -> std::io::Result<Ends> {
        let any = SocketAddr::new(ip, 0);
        Ok(Ends {
            callers: Port::bind(any)?,
            phones: Port::bind(any)?,
            callees: Port::bind(any)?,
        })
    }
}

struct Call {
    began_at: Instant,
    counts: bool,
    stage: Stage,
    /// What is sent again, and when.
    pending: Vec<u8>,
    resend_at: Option<Instant>,
    resend_wait: Duration,
}

enum Stage {
    Inviting,
    /// Answered; the BYE goes at this time.
    Talking {
        hang_up_at: Instant,
        ack: Vec<u8>,
        bye: Vec<u8>,
    },
    Leaving {
        ack: Vec<u8>,
    },
}

struct Storm<'a> {
    plan: &'a Plan,
    ends: &'a mut Ends,
    callee_uri: String,
    run: u64,
    next: u32,
    next_phone: u32,
    calls: HashMap<u32, Call>,
    answers: HashMap<u32, Answer>,
    feedback: Feedback,
    random: Random,
    outcome: Outcome,
    counted: std::ops::Range<Instant>,
    now: Instant,
}

/// A 200 of a callee that waits for its ACK.
struct Answer {
    remote: SocketAddr,
    response: Vec<u8>,
    resend_at: Instant,
    resend_wait: Duration,
    give_up_at: Instant,
}

/// Plays the plan to its end.
pub fn play(plan: &Plan, ends: &mut Ends) -> Outcome {
    let began_at = Instant::now();
    let end_at = began_at + plan.warm_up + plan.duration;
    let mut random = Random::fresh();
    let mut storm = Storm {
        callee_uri: format!("sip:callee@{}", ends.callees.addr()),
        run: random.number() >> 16,
        plan,
        ends,
        next: 0,
        next_phone: 0,
        calls: HashMap::new(),
        answers: HashMap::new(),
        feedback: Feedback::new(began_at),
        random,
        outcome: Outcome {
            elapsed: plan.duration,
            ..Outcome::default()
        },
        counted: began_at + plan.warm_up..end_at,
        now: began_at,
    };
    storm.register_phones();
    let mut look_at = storm.now;
    let begun_at = storm.now;
    let end_at = end_at.max(begun_at + plan.warm_up + plan.duration);
    storm.counted = begun_at + plan.warm_up..end_at;
    loop {
        storm.now = Instant::now();
        if storm.now < end_at {
            let so_far = (storm.now - begun_at).as_secs_f64();
            storm.begin_due(so_far);
        } else if storm.calls.is_empty() {
            break;
        }
        if storm.now >= look_at {
            storm.on_time();
            look_at = storm.now + LOOK;
        }
        storm.flush();
        let limit = look_at.saturating_duration_since(storm.now).min(STEP);
        let ends = &storm.ends;
        wait(&[&ends.callers, &ends.phones, &ends.callees], limit);
        storm.now = Instant::now();
        storm.drain();
    }
    let mut outcome = storm.outcome;
    outcome.setup_us.sort_unstable();
    outcome
}

impl Storm<'_> {
    /// Every phone registers, and is repeated until it has its 200.
    fn register_phones(&mut self) {
        let (domain, phones, rate) = &self.plan.phones;
        if *rate <= 0.0 {
            return;
        }
        let give_up_at = Instant::now() + Duration::from_secs(30);
        let addr = self.ends.phones.addr();
        for phone in 0..*phones {
            let mut out = Vec::new();
            let _ = write!(
                out,
                "REGISTER sip:{domain} SIP/2.0\r\nVia: SIP/2.0/UDP {addr};rport;branch=z9hG4bK{run:x}r{phone:x}\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:p{phone}@{domain}>;tag=r{phone:x}\r\nTo: <sip:p{phone}@{domain}>\r\n\
                 Call-ID: r{phone:x}-{run:x}\r\nCSeq: 1 REGISTER\r\nContact: <sip:p{phone}@{addr}>\r\nExpires: 3600\r\n\
                 Content-Length: 0\r\n\r\n",
                run = self.run
            );
            let (mut registered, mut said) = (false, String::from("nothing"));
            while !registered && Instant::now() < give_up_at {
                self.ends.phones.send(self.plan.proxy, out.clone());
                self.ends.phones.flush();
                wait(&[&self.ends.phones], Duration::from_millis(500));
                self.ends.phones.receive(|message, _| {
                    registered |= text::status(message) == Some(200);
                    said = String::from_utf8_lossy(message).into_owned();
                });
            }
            assert!(registered, "phone {phone} cannot register: {said}");
        }
        self.now = Instant::now();
    }

    fn begin_due(&mut self, so_far: f64) {
        let due = (so_far * self.plan.rate) as u32;
        while self.next < due {
            let number = self.next;
            self.next += 1;
            self.begin(number);
        }
        let due = (so_far * self.plan.phones.2) as u32;
        while self.next_phone < due {
            let number = PHONE | self.next_phone;
            self.next_phone += 1;
            self.begin(number);
        }
    }

    fn begin(&mut self, number: u32) {
        let counts = self.counted.contains(&self.now);
        let phone = number & PHONE != 0;
        if counts {
            match phone {
                true => self.outcome.phone_calls += 1,
                false => self.outcome.wanted += 1,
            }
        }
        if self.plan.honours_oc && !phone {
            let draw = self.random.number();
            if !self.feedback.may_begin(self.now, draw) {
                self.outcome.held_back += u64::from(counts);
                return;
            }
        }
        let mut invite = self.head("INVITE", &self.plan.target, number, 'i', &[]);
        let _ = write!(
            invite,
            "To: <sip:{target}>\r\nCSeq: 1 INVITE\r\nContact: <sip:caller@{addr}>\r\n\
             Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK, REFER, NOTIFY\r\nSupported: replaces, timer\r\n\
             User-Agent: sps-bench\r\nContent-Type: application/sdp\r\nContent-Length: {len}\r\n\r\n{sdp}",
            target = self.plan.target,
            addr = self.addr_of(number),
            len = text::SDP.len(),
            sdp = text::SDP
        );
        self.send(number, invite.clone());
        let call = Call {
            began_at: self.now,
            counts,
            stage: Stage::Inviting,
            pending: invite,
            resend_at: Some(self.now + T1),
            resend_wait: T1,
        };
        self.calls.insert(number, call);
    }

    fn addr_of(&self, number: u32) -> SocketAddr {
        if number & PHONE == 0 {
            self.ends.callers.addr()
        } else {
            self.ends.phones.addr()
        }
    }

    fn send(&mut self, number: u32, bytes: Vec<u8>) {
        let port = if number & PHONE == 0 {
            &mut self.ends.callers
        } else {
            &mut self.ends.phones
        };
        port.send(self.plan.proxy, bytes);
    }

    /// Start line and the headers that all of a call's requests have alike.
    fn head(&self, method: &str, target: &str, number: u32, branch: char, routes: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::with_capacity(1_024);
        let addr = self.addr_of(number);
        let oc = if self.plan.honours_oc && number & PHONE == 0 {
            ";oc;oc-algo=\"loss\""
        } else {
            ""
        };
        let _ = write!(
            out,
            "{method} sip:{target} SIP/2.0\r\nVia: SIP/2.0/UDP {addr};rport;branch=z9hG4bK{run:x}{number:08x}{branch}{oc}\r\n",
            run = self.run
        );
        for route in routes {
            out.extend_from_slice(b"Route: ");
            out.extend_from_slice(route);
            out.extend_from_slice(b"\r\n");
        }
        if number & PHONE == 0 {
            let _ = write!(
                out,
                "Max-Forwards: 70\r\nFrom: \"Caller\" <sip:caller@{addr}>;tag=caller{number:08x}\r\nCall-ID: "
            );
        } else {
            let phone = (number & !PHONE) % self.plan.phones.1.max(1);
            let _ = write!(
                out,
                "Max-Forwards: 70\r\nFrom: <sip:p{phone}@{domain}>;tag=caller{number:08x}\r\nCall-ID: ",
                domain = self.plan.phones.0
            );
        }
        out.extend_from_slice(text::CALL_MARK);
        let _ = write!(out, "{number:08x}-{run:x}\r\n", run = self.run);
        out
    }

    fn flush(&mut self) {
        self.ends.callers.flush();
        self.ends.phones.flush();
        self.ends.callees.flush();
    }

    fn drain(&mut self) {
        loop {
            let mut came = Vec::new();
            self.ends.callers.receive(|bytes, _| came.push(bytes.to_vec()));
            self.ends.phones.receive(|bytes, _| came.push(bytes.to_vec()));
            let mut asked = Vec::new();
            self.ends
                .callees
                .receive(|bytes, remote| asked.push((bytes.to_vec(), remote)));
            if came.is_empty() && asked.is_empty() {
                return;
            }
            for message in came {
                self.on_response(&message);
            }
            for (message, remote) in asked {
                self.on_callee(&message, remote);
            }
            self.flush();
        }
    }

    fn on_response(&mut self, message: &[u8]) {
        let (Some(status), Some(number)) = (text::status(message), text::call_number(message)) else {
            return;
        };
        if self.plan.honours_oc && number & PHONE == 0 {
            self.feedback.on_response(self.now, message);
        }
        if status >= 300 {
            let retry_after = text::lines(message).any(|line| text::value(line, b"retry-after").is_some());
            self.outcome.retry_after += u64::from(retry_after);
        }
        match (text::is_for(message, b"INVITE"), status) {
            (true, 100..200) => {
                if let Some(call) = self.calls.get_mut(&number)
                    && matches!(call.stage, Stage::Inviting)
                {
                    // §17.1.1.2: not sent again.
                    call.resend_at = None;
                }
            }
            (true, 200..300) => self.on_answer(number, message),
            (true, _) => self.on_refusal(number, message),
            (false, 200) => {
                if let Some(call) = self.calls.get(&number)
                    && matches!(call.stage, Stage::Leaving { .. })
                {
                    self.outcome.byes_answered += 1;
                    self.calls.remove(&number);
                }
            }
            (false, _) => {}
        }
    }

    fn on_refusal(&mut self, number: u32, message: &[u8]) {
        let to = text::lines(message)
            .find_map(|line| text::value(line, b"to"))
            .unwrap_or_default();
        let mut ack = self.head("ACK", &self.plan.target, number, 'i', &[]);
        ack.extend_from_slice(b"To: ");
        ack.extend_from_slice(to);
        ack.extend_from_slice(b"\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n");
        self.send(number, ack);
        if let Some(call) = self.calls.get(&number)
            && matches!(call.stage, Stage::Inviting)
        {
            self.outcome.refused += u64::from(call.counts && number & PHONE == 0);
            self.calls.remove(&number);
            let line = String::from_utf8_lossy(text::lines(message).next().unwrap_or_default()).into_owned();
            self.outcome.first_refusal.get_or_insert(line);
        }
    }

    fn on_answer(&mut self, number: u32, message: &[u8]) {
        let Some(call) = self.calls.get(&number) else { return };
        match &call.stage {
            Stage::Inviting => {}
            Stage::Talking { ack, .. } | Stage::Leaving { ack } => {
                let again = ack.clone();
                return self.send(number, again);
            }
        }
        let mut routes: Vec<&[u8]> = text::lines(message)
            .filter_map(|line| text::value(line, b"record-route"))
            .collect();
        routes.reverse();
        let header = |name: &[u8]| {
            text::lines(message)
                .find_map(|line| text::value(line, name))
                .unwrap_or_default()
        };
        let to = header(b"to");
        let contact = std::str::from_utf8(header(b"contact")).unwrap_or_default();
        let target = contact
            .trim_start_matches("<sip:")
            .split('>')
            .next()
            .unwrap_or_default();
        let [ack, bye] = [("ACK", 1, 'a'), ("BYE", 2, 'b')].map(|(method, cseq, branch)| {
            let mut request = self.head(method, target, number, branch, &routes);
            request.extend_from_slice(b"To: ");
            request.extend_from_slice(to);
            let _ = write!(
                request,
                "\r\nCSeq: {cseq} {method}\r\nUser-Agent: sps-bench\r\nContent-Length: 0\r\n\r\n"
            );
            request
        });
        self.feedback.count_other();
        self.send(number, ack.clone());
        let (now, hang_up_at) = (self.now, self.now + self.plan.hold);
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        let setup = now - call.began_at;
        if call.counts && setup <= self.plan.patience {
            match number & PHONE == 0 {
                true => self.outcome.answered += 1,
                false => self.outcome.phone_calls_answered += 1,
            }
            let setup_us = u32::try_from(setup.as_micros()).unwrap_or(u32::MAX);
            self.outcome.setup_us.push(setup_us);
        }
        call.stage = Stage::Talking { hang_up_at, ack, bye };
        call.resend_at = None;
    }

    fn on_callee(&mut self, message: &[u8], remote: SocketAddr) {
        let Some(number) = text::call_number(message) else {
            return;
        };
        if message.starts_with(b"INVITE ") {
            let ringing = text::response(message, "180 Ringing", number, &self.callee_uri, "");
            let response = text::response(message, "200 OK", number, &self.callee_uri, text::SDP);
            self.ends.callees.send(remote, ringing);
            self.ends.callees.send(remote, response.clone());
            let answer = Answer {
                remote,
                response,
                resend_at: self.now + T1,
                resend_wait: T1,
                give_up_at: self.now + GIVE_UP,
            };
            self.answers.insert(number, answer);
        } else if message.starts_with(b"ACK ") {
            self.answers.remove(&number);
        } else if message.starts_with(b"BYE ") {
            self.answers.remove(&number);
            let response = text::response(message, "200 OK", number, &self.callee_uri, "");
            self.ends.callees.send(remote, response);
        }
    }

    /// Timers of all calls.
    fn on_time(&mut self) {
        let (now, plan) = (self.now, self.plan);
        let mut out: Vec<(u32, Vec<u8>)> = Vec::new();
        let (outcome, feedback) = (&mut self.outcome, &mut self.feedback);
        self.calls.retain(|number, call| {
            if let Stage::Talking { hang_up_at, ack, bye } = &mut call.stage
                && now >= *hang_up_at
            {
                outcome.byes += 1;
                feedback.count_other();
                call.pending = std::mem::take(bye);
                call.stage = Stage::Leaving {
                    ack: std::mem::take(ack),
                };
                call.began_at = now;
                call.resend_wait = T1;
                call.resend_at = Some(now + T1);
                out.push((*number, call.pending.clone()));
                return true;
            }
            let waited = now - call.began_at;
            match call.stage {
                Stage::Inviting if waited > plan.patience + GRACE => {
                    outcome.given_up += u64::from(call.counts && number & PHONE == 0);
                    return false;
                }
                Stage::Leaving { .. } if waited > GIVE_UP => return false,
                _ => {}
            }
            if call.resend_at.is_some_and(|at| now >= at) {
                outcome.repeated += u64::from(matches!(call.stage, Stage::Inviting));
                out.push((*number, call.pending.clone()));
                call.resend_wait *= 2;
                call.resend_at = Some(now + call.resend_wait);
            }
            true
        });
        for (number, bytes) in out {
            self.send(number, bytes);
        }
        let callees = &mut self.ends.callees;
        self.answers.retain(|_, answer| {
            if now >= answer.resend_at {
                callees.send(answer.remote, answer.response.clone());
                answer.resend_wait = (answer.resend_wait * 2).min(T2);
                answer.resend_at = now + answer.resend_wait;
            }
            now < answer.give_up_at
        });
    }
}

/// Calls of registered phones have this bit in their number.
const PHONE: u32 = 1 << 31;
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
/// Timer F and the like.
const GIVE_UP: Duration = Duration::from_secs(32);
/// An answer that comes this much too late is acknowledged and hung up as a real caller's would be.
const GRACE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);
/// New calls are begun this evenly.
const STEP: Duration = Duration::from_millis(1);

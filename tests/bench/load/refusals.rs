//! INVITEs that are all refused: each gets its final response and is acknowledged, so many on the way at a time.

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
    /// Request-URI, after `sip:`.
    pub target: String,
    /// On the way at a time.
    pub window: usize,
    /// New ones begin until this is over.
    pub duration: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// INVITEs that got a final response, by status.
    pub refused: HashMap<u16, u64>,
    /// INVITEs sent again.
    pub repeated: u64,
    /// First datagram to last answer.
    pub elapsed: Duration,
}

impl Outcome {
    /// All of them.
    pub fn count(&self) -> u64 {
        self.refused.values().sum()
    }
}

/// Plays the plan to its end.
pub fn play(plan: &Plan, port: &mut Port) -> Outcome {
    let began_at = Instant::now();
    let end_at = began_at + plan.duration;
    let run = crate::random::Random::fresh().number() >> 16;
    let mut outcome = Outcome::default();
    let mut open: HashMap<u32, (Vec<u8>, Instant)> = HashMap::new();
    let (mut next, mut came) = (0, Vec::new());
    let mut look_at = began_at + LOOK;
    loop {
        let now = Instant::now();
        while now < end_at && open.len() < plan.window {
            let invite = request(
                plan,
                port.addr(),
                run,
                next,
                "INVITE",
                format!("<sip:{}>", plan.target).as_bytes(),
            );
            port.send(plan.proxy, invite.clone());
            open.insert(next, (invite, now + T1));
            next += 1;
        }
        port.flush();
        if open.is_empty() {
            break;
        }
        wait(&[port], look_at.saturating_duration_since(now));
        while port.receive(|bytes, _| came.push(bytes.to_vec())) > 0 {}
        for message in came.drain(..) {
            let (Some(status), Some(number)) = (text::status(&message), text::call_number(&message)) else {
                continue;
            };
            if status < 300 {
                continue;
            }
            let to = text::lines(&message).find_map(|line| text::value(line, b"to"));
            let ack = request(plan, port.addr(), run, number, "ACK", to.unwrap_or_default());
            port.send(plan.proxy, ack);
            if open.remove(&number).is_some() {
                *outcome.refused.entry(status).or_default() += 1;
            }
        }
        let now = Instant::now();
        if now >= look_at {
            look_at = now + LOOK;
            for (invite, resend_at) in open.values_mut().filter(|(_, at)| now >= *at) {
                port.send(plan.proxy, invite.clone());
                outcome.repeated += 1;
                *resend_at = now + T1;
            }
        }
    }
    outcome.elapsed = began_at.elapsed();
    outcome
}

/// Sends one INVITE and waits until something is said to it, so that it has its place in the proxy.
pub fn begin_one(plan: &Plan, port: &mut Port) {
    let run = crate::random::Random::fresh().number() >> 16;
    let to = format!("<sip:{}>", plan.target);
    let invite = request(plan, port.addr(), run, 0, "INVITE", to.as_bytes());
    port.send(plan.proxy, invite);
    port.flush();
    wait(&[port], Duration::from_secs(10));
    while port.receive(|_, _| {}) > 0 {}
}

fn request(plan: &Plan, addr: SocketAddr, run: u64, number: u32, method: &str, to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1_024);
    let target = &plan.target;
    let _ = write!(
        out,
        "{method} sip:{target} SIP/2.0\r\nVia: SIP/2.0/UDP {addr};rport;branch=z9hG4bK{run:x}{number:08x}i\r\n\
         Max-Forwards: 70\r\nFrom: \"Caller\" <sip:caller@{addr}>;tag=caller{number:08x}\r\nTo: "
    );
    out.extend_from_slice(to);
    out.extend_from_slice(b"\r\nCall-ID: ");
    out.extend_from_slice(text::CALL_MARK);
    let _ = write!(out, "{number:08x}-{run:x}\r\nCSeq: 1 {method}\r\n");
    if method == "INVITE" {
        let _ = write!(
            out,
            "Contact: <sip:caller@{addr}>\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK, REFER, NOTIFY\r\n\
             Supported: replaces, timer\r\nUser-Agent: sps-bench\r\nContent-Type: application/sdp\r\n\
             Content-Length: {len}\r\n\r\n{sdp}",
            len = text::SDP.len(),
            sdp = text::SDP
        );
    } else {
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    }
    out
}

const T1: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(50);

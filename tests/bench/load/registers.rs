//! REGISTERs: first registrations of many users, then refreshes, so many on the way at a time.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::port::{Port, wait};
use super::text;

/// What to play.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The registrar.
    pub registrar: SocketAddr,
    /// Its domain.
    pub domain: String,
    /// Users that register.
    pub users: u32,
    /// Requests on the way at a time.
    pub window: u32,
    /// CSeq of this pass over the users: 1 makes bindings, more refreshes them.
    pub first_cseq: u32,
    /// New requests begin until this is over and...
    pub duration: Duration,
    /// ...at most so many.
    pub limit: u64,
    /// Same in all passes of a run: the users' Call-IDs.
    pub run: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// REGISTERs answered 200.
    pub completed: u64,
    /// Refused or given up.
    pub failed: u64,
    /// Sent again.
    pub retransmissions: u64,
    /// First datagram to last answer.
    pub elapsed: Duration,
    /// The first refusal.
    pub first_failure: Option<String>,
}

struct Waiting {
    user: u32,
    request: Vec<u8>,
    sent_at: Instant,
    resend_at: Instant,
    resend_wait: Duration,
}

/// Plays the plan to its end.
pub fn play(plan: &Plan, port: &mut Port) -> Outcome {
    let began_at = Instant::now();
    let end_at = began_at + plan.duration;
    let mut outcome = Outcome::default();
    // A user has at most one request on the way: the slot of a user is found by the number in Call-ID.
    let mut waiting: Vec<Option<Waiting>> = (0..plan.users).map(|_| None).collect();
    let (mut open, mut begun) = (0, 0_u64);
    let mut look_at = began_at + LOOK;
    let mut came = Vec::new();
    loop {
        let now = Instant::now();
        let more = now < end_at && begun < plan.limit;
        if !more && open == 0 {
            break;
        }
        while more && open < plan.window && begun < plan.limit {
            let user = u32::try_from(begun % u64::from(plan.users)).expect("users are counted in 32 bits");
            if waiting[user as usize].is_some() {
                break;
            }
            let cseq = plan.first_cseq + u32::try_from(begun / u64::from(plan.users)).expect("passes are few");
            let request = register(plan, port.addr(), user, cseq);
            port.send(plan.registrar, request.clone());
            waiting[user as usize] = Some(Waiting {
                user,
                request,
                sent_at: now,
                resend_at: now + T1,
                resend_wait: T1,
            });
            open += 1;
            begun += 1;
        }
        port.flush();
        wait(&[port], look_at.saturating_duration_since(now));
        while port.receive(|bytes, _| came.push(bytes.to_vec())) > 0 {}
        for message in came.drain(..) {
            let (Some(status), Some(user)) = (text::status(&message), text::call_number(&message)) else {
                continue;
            };
            let Some(slot) = waiting.get_mut(user as usize) else {
                continue;
            };
            if status < 200 || slot.take().is_none() {
                continue;
            }
            open -= 1;
            if status == 200 {
                outcome.completed += 1;
            } else {
                outcome.failed += 1;
                let line = String::from_utf8_lossy(text::lines(&message).next().unwrap_or_default()).into_owned();
                outcome.first_failure.get_or_insert(line);
            }
        }
        let now = Instant::now();
        if now >= look_at {
            look_at = now + LOOK;
            for slot in &mut waiting {
                let Some(request) = slot else { continue };
                if now - request.sent_at > GIVE_UP {
                    outcome.failed += 1;
                    outcome
                        .first_failure
                        .get_or_insert_with(|| format!("user {}: no answer", request.user));
                    open -= 1;
                    *slot = None;
                } else if now >= request.resend_at {
                    port.send(plan.registrar, request.request.clone());
                    outcome.retransmissions += 1;
                    request.resend_wait *= 2;
                    request.resend_at = now + request.resend_wait;
                }
            }
        }
    }
    outcome.elapsed = began_at.elapsed();
    outcome
}

fn register(plan: &Plan, addr: SocketAddr, user: u32, cseq: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let (domain, run) = (&plan.domain, plan.run);
    let _ = write!(
        out,
        "REGISTER sip:{domain} SIP/2.0\r\nVia: SIP/2.0/UDP {addr};rport;branch=z9hG4bK{run:x}{user:08x}{cseq:x}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:u{user}@{domain}>;tag=f{user:08x}\r\nTo: <sip:u{user}@{domain}>\r\nCall-ID: "
    );
    out.extend_from_slice(text::CALL_MARK);
    let _ = write!(
        out,
        "{user:08x}-{run:x}\r\nCSeq: {cseq} REGISTER\r\nContact: <sip:u{user}@{addr}>\r\nExpires: 3600\r\n\
         User-Agent: sps-bench\r\nContent-Length: 0\r\n\r\n"
    );
    out
}

const T1: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(50);
const GIVE_UP: Duration = Duration::from_secs(32);

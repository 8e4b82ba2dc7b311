//! Hostile peers: generators of useless load, seeded and bounded in rate, and a steady caller that must not suffer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::call::Dialog;
use crate::message::Message;
use crate::random::Random;

/// An attack under way; ends when dropped.
pub struct Attack {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Attack {
    /// Sends what `make` writes, so many a second, from each of `sources` in turn.
    pub fn udp(
        to: SocketAddr,
        sources: &[Ipv4Addr],
        per_s: u32,
        seed: u64,
        mut make: impl FnMut(&mut Random, u64, SocketAddr) -> Vec<u8> + Send + 'static,
    ) -> Attack {
        let sockets: Vec<UdpSocket> = sources
            .iter()
            .map(|ip| UdpSocket::bind((*ip, 0)).unwrap_or_else(|error| panic!("bind {ip}: {error}")))
            .collect();
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, count) = (stop.clone(), sent.clone());
        let thread = thread::spawn(move || {
            let mut random = Random::seeded(seed);
            let begun = Instant::now();
            let mut n = 0u64;
            while !stopped.load(Ordering::Relaxed) {
                let due = (begun.elapsed().as_secs_f64() * f64::from(per_s)) as u64;
                while n < due {
                    let socket = &sockets[n as usize % sockets.len()];
                    let own = socket.local_addr().expect("a bound socket has an address");
                    // A full buffer of our own loses some of the attack, no more.
                    let _ = socket.send_to(&make(&mut random, n, own), to);
                    n += 1;
                }
                count.store(n, Ordering::Relaxed);
                thread::park_timeout(Duration::from_millis(2));
            }
        });
        Attack {
            stop,
            sent,
            thread: Some(thread),
        }
    }

    /// Messages sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Addresses 127.`a`.`b`.1 and up.
pub fn sources(a: u8, b: u8, count: u8) -> Vec<Ipv4Addr> {
    (1..=count).map(|n| Ipv4Addr::new(127, a, b, n)).collect()
}

/// A request nobody asked for, from `own`, unlike all others.
pub fn request(method: &str, uri: &str, random: &mut Random, own: SocketAddr) -> Vec<u8> {
    let (branch, tag, call_id) = (random.token(), random.token(), random.token());
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{branch};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:evil@{own}>;tag={tag}\r\nTo: <{uri}>\r\nCall-ID: {call_id}\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:evil@{own}>\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// A callee that answers at once and repeats its 200 until the ACK comes (RFC 3261 §13.3.1.4). Stops when dropped.
pub struct Callee {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Callee {
    /// On a free port of `ip`.
    pub fn at(ip: IpAddr) -> Callee {
        let socket = UdpSocket::bind((ip, 0)).expect("a port is free");
        let addr = socket.local_addr().expect("a bound socket has an address");
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let wait = Some(Duration::from_millis(20));
        socket.set_read_timeout(wait).expect("a timeout can be set");
        let thread = thread::spawn(move || {
            let contact = format!("<sip:callee@{addr}>");
            let mut unacknowledged: HashMap<String, (Vec<u8>, SocketAddr, Instant)> = HashMap::new();
            let mut buffer = [0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((len, peer)) = socket.recv_from(&mut buffer)
                    && let Some(message) = Message::parse(&buffer[..len])
                    && let Some(method) = message.method()
                {
                    let call_id = message.must("Call-ID").to_owned();
                    if method == "ACK" {
                        unacknowledged.remove(&call_id);
                        continue;
                    }
                    let ok = message
                        .response(200, "OK")
                        .to_tag("callee")
                        .with("Contact", contact.clone());
                    let _ = socket.send_to(&ok.bytes(), peer);
                    if method == "INVITE" {
                        unacknowledged.insert(call_id, (ok.bytes(), peer, Instant::now() + RESEND));
                    }
                }
                let now = Instant::now();
                for (bytes, peer, at) in unacknowledged.values_mut().filter(|(.., at)| *at <= now) {
                    let _ = socket.send_to(bytes, *peer);
                    *at = now + RESEND;
                }
            }
        });
        Callee {
            addr,
            stop,
            thread: Some(thread),
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Callee {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const RESEND: Duration = Duration::from_millis(500);

/// Begins `per_s` calls in each second for as long as `time`, from `caller` to `uri` by way of `proxy`, each INVITE, ACK and BYE,
/// with repetition on UDP. Gives how many were begun, and how many of them were completed at the end.
pub fn calls(caller: &mut Agent, proxy: SocketAddr, uri: &str, per_s: u32, time: Duration) -> (u64, u64) {
    let (begun_at, mut begun, mut completed) = (Instant::now(), 0u64, 0u64);
    // What was sent last of each call, when to repeat it, and what has become of it.
    let mut open: HashMap<String, Leg> = HashMap::new();
    let give_up_at = begun_at + time + Duration::from_secs(12);
    while Instant::now() < give_up_at && (begun_at.elapsed() < time || !open.is_empty()) {
        let due = (begun_at.elapsed().min(time).as_secs_f64() * f64::from(per_s)) as u64;
        while begun < due {
            let tag = caller.token();
            let invite = caller
                .request("INVITE", uri)
                .set("From", format!("<sip:alice@sps.test>;tag={tag}"));
            caller.send(proxy, &invite);
            let leg = Leg {
                last: invite.clone(),
                invite,
                dialog: None,
                resend_at: Instant::now() + RESEND,
            };
            open.insert(leg.invite.must("Call-ID").to_owned(), leg);
            begun += 1;
        }
        let now = Instant::now();
        for leg in open.values_mut().filter(|leg| leg.resend_at <= now) {
            caller.send(proxy, &leg.last);
            leg.resend_at = now + RESEND;
        }
        let Some(received) = caller.try_receive(Duration::from_millis(2)) else {
            continue;
        };
        let response = received.message;
        let (Some(status), Some(call_id)) = (response.status(), response.header("Call-ID").map(str::to_owned)) else {
            continue;
        };
        let (_, method) = response.cseq();
        let Some(leg) = open.get_mut(&call_id).filter(|_| status >= 200) else {
            continue;
        };
        match (method, status) {
            ("INVITE", 200) => {
                let again = leg.dialog.is_some();
                let dialog = leg
                    .dialog
                    .get_or_insert_with(|| Dialog::of_caller(&leg.invite, &response));
                let ack = dialog.clone().request(caller, "ACK");
                caller.send(proxy, &ack);
                if !again {
                    leg.last = dialog.request(caller, "BYE");
                    leg.resend_at = Instant::now() + RESEND;
                    caller.send(proxy, &leg.last);
                }
            }
            ("BYE", 200) => {
                open.remove(&call_id);
                completed += 1;
            }
            _ => {
                eprintln!("a call ended with\n{response}");
                open.remove(&call_id);
            }
        }
    }
    (begun, completed)
}

struct Leg {
    invite: Message,
    last: Message,
    dialog: Option<Dialog>,
    resend_at: Instant,
}

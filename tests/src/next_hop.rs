//! The end of the line: takes requests over UDP and TCP at one port, keeps them to the byte, and answers 200, or what it is
//! told.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::agent::{Agent, Received};
use crate::message::{Message, canonical};
use crate::net::free_addr;

/// A running next hop.
pub struct NextHop {
    addr: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Vec<u8>>>,
    before: Mutex<Option<(Vec<u8>, bool)>>,
    stop: AtomicBool,
}

impl NextHop {
    /// Listens on a free port of `ip`.
    pub fn start(ip: IpAddr) -> NextHop {
        let addr = free_addr(ip);
        let next_hop = NextHop {
            addr,
            shared: Arc::default(),
            threads: Vec::new(),
        };
        next_hop.and_at(addr)
    }

    /// Listens on this address as well.
    pub fn and_at(mut self, addr: SocketAddr) -> NextHop {
        for agent in [Agent::udp_at(addr), Agent::tcp_at(addr)] {
            let shared = self.shared.clone();
            self.threads.push(thread::spawn(move || serve(agent, &shared)));
        }
        self
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// All requests so far as they came, repetitions left out.
    pub fn seen(&self) -> Vec<Vec<u8>> {
        self.shared.seen.lock().expect("no holder panics").clone()
    }

    /// Answers the next request with this response, its Via replaced by those of the request; `and_ok`: with 200 after it.
    pub fn answer_next(&self, response: &[u8], and_ok: bool) {
        *self.shared.before.lock().expect("no holder panics") = Some((response.to_vec(), and_ok));
    }
}

impl Drop for NextHop {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("the next hop at {} panicked", self.addr);
            }
        }
    }
}

fn serve(mut agent: Agent, shared: &Shared) {
    while !shared.stop.load(Ordering::Relaxed) {
        let Some(Received { message, bytes, peer }) = agent.try_receive(Duration::from_millis(50)) else {
            continue;
        };
        shared.seen.lock().expect("no holder panics").push(bytes);
        if matches!(message.method(), None | Some("ACK")) {
            continue;
        }
        let told = shared.before.lock().expect("no holder panics").take();
        let and_ok = match told {
            Some((response, and_ok)) => {
                agent.send_bytes(peer, &with_vias_of(&message, &response));
                and_ok
            }
            None => true,
        };
        if and_ok {
            agent.send(peer, &message.response(200, "OK").to_tag("end"));
        }
    }
}

/// A response with its Via lines replaced by those of a request.
fn with_vias_of(request: &Message, response: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut in_via = false;
    for (at, line) in response.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let is_folded = matches!(line.first(), Some(b' ' | b'\t'));
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        in_via = in_via && is_folded || at > 0 && canonical(String::from_utf8_lossy(name).trim()) == "via";
        if !in_via {
            out.extend_from_slice(line);
        }
        if at == 0 {
            for (name, value) in request.headers.iter().filter(|(name, _)| canonical(name) == "via") {
                out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
        }
    }
    out
}

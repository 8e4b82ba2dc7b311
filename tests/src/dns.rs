//! A name server for tests: A records by a table, and a switch that makes it keep silent for a while.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::net::V4;

/// A running name server.
pub struct Dns {
    addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    names: HashMap<String, Vec<Ipv4Addr>>,
    silent: AtomicBool,
    asked: AtomicUsize,
    held: Mutex<Vec<(Vec<u8>, SocketAddr)>>,
    stop: AtomicBool,
}

impl Dns {
    /// Serves these names; all others do not exist.
    pub fn start(names: &[(&str, &[Ipv4Addr])]) -> Dns {
        let socket = UdpSocket::bind((V4, 0)).expect("a port is free");
        let addr = socket.local_addr().expect("a bound socket has an address");
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .expect("a timeout can be set");
        let shared = Arc::new(Shared {
            names: names
                .iter()
                .map(|(name, addrs)| ((*name).to_owned(), addrs.to_vec()))
                .collect(),
            silent: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
            held: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
        });
        let inner = shared.clone();
        let thread = thread::spawn(move || serve(&socket, &inner));
        Dns {
            addr,
            shared,
            thread: Some(thread),
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Holds all answers back (`true`), or gives them, the held ones included (`false`).
    pub fn silent(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::Relaxed);
    }

    /// Questions so far.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 1_500];
    while !shared.stop.load(Ordering::Relaxed) {
        let mut held = shared.held.lock().expect("no holder panics");
        if !shared.silent.load(Ordering::Relaxed) {
            for (question, asker) in held.drain(..) {
                let _ = socket.send_to(&answer(&question, shared), asker);
            }
        }
        drop(held);
        let Ok((len, asker)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        shared.asked.fetch_add(1, Ordering::Relaxed);
        shared
            .held
            .lock()
            .expect("no holder panics")
            .push((buffer[..len].to_vec(), asker));
    }
}

/// The response to one question (RFC 1035 §4.1): A records in order, an empty answer for other types, or that the name does
/// not exist.
fn answer(query: &[u8], shared: &Shared) -> Vec<u8> {
    let (name, question_len) = question(query);
    let kind = query
        .get(12 + question_len - 4..12 + question_len - 2)
        .map(|kind| (kind[0], kind[1]));
    let known = shared.names.get(&name);
    let records: &[Ipv4Addr] = match (known, kind) {
        (Some(addrs), Some((0, 1))) => addrs,
        _ => &[],
    };
    let mut out = query[..2].to_vec();
    out.extend([0x85, if known.is_some() { 0x80 } else { 0x83 }]);
    out.extend([0, 1, 0, u8::try_from(records.len()).expect("few records"), 0, 0, 0, 0]);
    out.extend(&query[12..12 + question_len]);
    for addr in records {
        out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        out.extend(addr.octets());
    }
    out
}

/// The name asked for, in lower case, and the length of the question section.
fn question(query: &[u8]) -> (String, usize) {
    let mut name = String::new();
    let mut at = 12;
    while let Some(&len) = query.get(at)
        && len > 0
    {
        let label = query.get(at + 1..at + 1 + usize::from(len)).unwrap_or_default();
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(&String::from_utf8_lossy(label).to_ascii_lowercase());
        at += 1 + usize::from(len);
    }
    (name, at + 5 - 12)
}

//! A UDP relay that loses datagrams by a seeded rule, in both directions: the kernels that run these tests have no
//! netem.
//!
//! It stands in front of one end, `behind`. To everybody else that end seems to live at [`Relay::addr`]: what comes to
//! that address goes on to `behind` from a socket made for the sender, and answers go back the same way.
//!
//! The same datagram is not lost more than [`MAX_IN_A_ROW`] times in a row: over any number of calls, mere chance would at
//! last lose every one of a transaction's retransmissions, and the test would accuse the wrong one.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::random::Random;

/// A running relay.
pub struct Relay {
    addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    behind: SocketAddr,
    loss_percent: u64,
    random: Mutex<Random>,
    /// How often in a row each datagram was lost, by its content.
    in_a_row: Mutex<HashMap<Vec<u8>, u32>>,
    stop: AtomicBool,
    passed: AtomicUsize,
    lost: AtomicUsize,
    /// What was passed on towards `behind`.
    journal: Mutex<Vec<Vec<u8>>>,
}

impl Relay {
    /// A relay on a free port of `ip` in front of `behind`.
    pub fn start(ip: IpAddr, behind: SocketAddr, loss_percent: u64, seed: u64) -> Relay {
        let front = UdpSocket::bind((ip, 0)).expect("a port is free");
        let addr = front.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            behind,
            loss_percent,
            random: Mutex::new(Random::seeded(seed)),
            in_a_row: Mutex::new(HashMap::new()),
            stop: AtomicBool::new(false),
            passed: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            journal: Mutex::new(Vec::new()),
        });
        let inner = shared.clone();
        let thread = thread::spawn(move || serve(&front, ip, &inner));
        Relay {
            addr,
            shared,
            thread: Some(thread),
        }
    }

    /// Where the end behind it seems to live.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Datagrams passed on and lost so far, both directions.
    pub fn counts(&self) -> (usize, usize) {
        (
            self.shared.passed.load(Ordering::Relaxed),
            self.shared.lost.load(Ordering::Relaxed),
        )
    }

    /// Every datagram that was passed on towards the end behind.
    pub fn inward(&self) -> Vec<Vec<u8>> {
        self.shared.journal.lock().expect("no holder panics").clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn loses(&self, datagram: &[u8]) -> bool {
        let chance = self.random.lock().expect("no holder panics").percent(self.loss_percent);
        let mut in_a_row = self.in_a_row.lock().expect("no holder panics");
        let before = in_a_row.remove(datagram).unwrap_or(0);
        let lost = chance && (before < MAX_IN_A_ROW || self.loss_percent == 100);
        if lost {
            in_a_row.insert(datagram.to_vec(), before + 1);
        }
        let counter = if lost { &self.lost } else { &self.passed };
        counter.fetch_add(1, Ordering::Relaxed);
        lost
    }
}

fn serve(front: &UdpSocket, ip: IpAddr, shared: &Arc<Shared>) {
    let mut legs: HashMap<SocketAddr, UdpSocket> = HashMap::new();
    let mut backward = Vec::new();
    let mut buffer = vec![0; 65_536];
    front.set_read_timeout(Some(LOOK)).expect("a timeout can be set");
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok((len, sender)) = front.recv_from(&mut buffer) else {
            continue;
        };
        let leg = legs.entry(sender).or_insert_with(|| {
            let leg = UdpSocket::bind((ip, 0)).expect("a port is free");
            leg.connect(shared.behind).expect("a socket can be connected");
            leg.set_read_timeout(Some(LOOK)).expect("a timeout can be set");
            let (back, front, shared) = (
                leg.try_clone().expect("a socket can be doubled"),
                front.try_clone().expect("a socket can be doubled"),
                shared.clone(),
            );
            backward.push(thread::spawn(move || answer(&back, &front, sender, &shared)));
            leg
        });
        if !shared.loses(&buffer[..len]) {
            shared
                .journal
                .lock()
                .expect("no holder panics")
                .push(buffer[..len].to_vec());
            let _ = leg.send(&buffer[..len]);
        }
    }
    for thread in backward {
        let _ = thread.join();
    }
}

fn answer(leg: &UdpSocket, front: &UdpSocket, sender: SocketAddr, shared: &Shared) {
    let mut buffer = vec![0; 65_536];
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok(len) = leg.recv(&mut buffer) else { continue };
        if !shared.loses(&buffer[..len]) {
            let _ = front.send_to(&buffer[..len], sender);
        }
    }
}

/// Losses of one datagram in a row.
pub const MAX_IN_A_ROW: u32 = 3;

/// How often the threads look whether they are to stop.
const LOOK: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::V4;

    #[test]
    fn a_relay_without_loss_passes_both_ways_and_one_with_full_loss_nothing() {
        let behind = UdpSocket::bind((V4, 0)).unwrap();
        let sender = UdpSocket::bind((V4, 0)).unwrap();
        sender.set_read_timeout(Some(crate::wait::PATIENCE)).unwrap();
        let relay = Relay::start(V4, behind.local_addr().unwrap(), 0, 1);
        sender.send_to(b"there", relay.addr()).unwrap();
        let mut buffer = [0; 16];
        let (len, leg) = behind.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"there");
        behind.send_to(b"back", leg).unwrap();
        let (len, from) = sender.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from), (&b"back"[..], relay.addr()));
        assert_eq!(relay.counts(), (2, 0));

        let deaf = Relay::start(V4, behind.local_addr().unwrap(), 100, 1);
        sender.send_to(b"lost", deaf.addr()).unwrap();
        crate::wait::wait_until("it is lost", || deaf.counts() == (0, 1));
        assert!(deaf.inward().is_empty());
    }
}

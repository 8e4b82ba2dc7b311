//! Which connections there are: for the caps, and for operators who ask.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sps_ipc::tls::Secured;
use sps_ipc::tls_ctl;

/// Who is counted as one: an IPv4 address, or an IPv6 /64, which one host may use up freely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(u128);

impl From<IpAddr> for Source {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            // Mapped addresses are these, and in no other network.
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped().to_bits()),
            IpAddr::V6(v6) if v6.is_loopback() => Self(v6.to_bits()),
            IpAddr::V6(v6) => Self(v6.to_bits() >> 64 << 64),
        }
    }
}

/// All connections. Clones are the same thing.
#[derive(Clone, Default)]
pub struct Peers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    pub figures: Figures,
}

#[derive(Default)]
struct State {
    /// Numbers the connections, from 1.
    last: u64,
    all: BTreeMap<u64, Entry>,
    /// Places taken: accepted connections and those that still shake hands.
    taken: usize,
    by_source: HashMap<Source, usize>,
}

struct Entry {
    outgoing: bool,
    secured: Secured,
    opened_at: Instant,
}

/// What has been counted; all but `open` only grow.
#[derive(Default)]
pub struct Figures {
    pub accepted: AtomicU64,
    pub connected: AtomicU64,
    pub resumed: AtomicU64,
    pub handshakes_failed: AtomicU64,
    pub handshakes_evicted: AtomicU64,
    pub connects_failed: AtomicU64,
    pub refused_total: AtomicU64,
    pub refused_source: AtomicU64,
    pub not_handed_over: AtomicU64,
    pub cut: AtomicU64,
}

/// A place among the accepted connections, given back when dropped.
pub struct Place {
    peers: Peers,
    source: Source,
}

/// A connection's entry, taken out when dropped.
pub struct Entered {
    peers: Peers,
    connection: u64,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    Total,
    Source,
}

impl Peers {
    /// What is counted.
    pub fn figures(&self) -> &Figures {
        &self.0.figures
    }

    /// Takes a place for a connection from `source`.
    pub fn place(&self, source: Source, max: usize, max_per_source: usize) -> Result<Place, Full> {
        let mut state = self.lock();
        // The last eighth is for connections we open ourselves, as in the proxy.
        if state.taken >= max - max / 8 {
            return Err(Full::Total);
        }
        let count = state.by_source.entry(source).or_insert(0);
        if *count >= max_per_source {
            return Err(Full::Source);
        }
        *count += 1;
        state.taken += 1;
        Ok(Place {
            peers: self.clone(),
            source,
        })
    }

    /// Numbers a connection and enters it.
    pub fn enter(&self, outgoing: bool, mut secured: Secured) -> (Entered, Secured) {
        let mut state = self.lock();
        state.last += 1;
        let connection = state.last;
        secured.connection = connection;
        let entry = Entry {
            outgoing,
            secured: secured.clone(),
            opened_at: Instant::now(),
        };
        state.all.insert(connection, entry);
        let entered = Entered {
            peers: self.clone(),
            connection,
        };
        (entered, secured)
    }

    /// How many connections stand.
    pub fn open(&self) -> usize {
        self.lock().all.len()
    }

    /// A page of connections behind the number `after`, and whether there are more.
    pub fn page(&self, after: u64) -> (Vec<tls_ctl::Peer>, bool) {
        let now = Instant::now();
        let state = self.lock();
        let mut rest = state.all.range(after.saturating_add(1)..);
        let page = rest.by_ref().take(tls_ctl::MAX_PAGE);
        let peers = page
            .map(|(connection, entry)| tls_ctl::Peer {
                connection: *connection,
                outgoing: entry.outgoing,
                local: entry.secured.local,
                remote: entry.secured.remote,
                names: entry.secured.names.clone(),
                cipher: entry.secured.cipher.clone(),
                age_s: now.saturating_duration_since(entry.opened_at).as_secs(),
            })
            .collect();
        (peers, rest.next().is_some())
    }

    /// All figures by name.
    pub fn named_figures(&self) -> Vec<(String, u64)> {
        let figures = self.figures();
        let open = AtomicU64::new(self.open() as u64);
        [
            ("open", &open),
            ("accepted", &figures.accepted),
            ("connected", &figures.connected),
            ("resumed", &figures.resumed),
            ("handshakes_failed", &figures.handshakes_failed),
            ("handshakes_evicted", &figures.handshakes_evicted),
            ("connects_failed", &figures.connects_failed),
            ("refused_total", &figures.refused_total),
            ("refused_source", &figures.refused_source),
            ("not_handed_over", &figures.not_handed_over),
            ("cut", &figures.cut),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.load(Relaxed)))
        .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One more.
pub fn count(figure: &AtomicU64) {
    figure.fetch_add(1, Relaxed);
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.peers.lock();
        state.taken -= 1;
        if let Some(count) = state.by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                state.by_source.remove(&self.source);
            }
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.peers.lock().all.remove(&self.connection);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn source(text: &str) -> Source {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn places_are_bounded_in_all_and_for_each_source_and_come_back() {
        let peers = Peers::default();
        let one = peers.place(source("192.0.2.1"), 8, 2).ok().unwrap();
        let _two = peers.place(source("::ffff:192.0.2.1"), 8, 2).ok().unwrap();
        assert_eq!(peers.place(source("192.0.2.1"), 8, 2).err(), Some(Full::Source));
        let v6: Vec<_> = (1..=2)
            .map(|n| peers.place(source(&format!("2001:db8::{n}")), 8, 2).ok().unwrap())
            .collect();
        assert_eq!(peers.place(source("2001:db8::3"), 8, 2).err(), Some(Full::Source));
        drop(one);
        let _again = peers.place(source("192.0.2.1"), 8, 2).ok().unwrap();
        let _more: Vec<_> = (1..=3)
            .map(|n| peers.place(source(&format!("192.0.2.10{n}")), 8, 2).ok().unwrap())
            .collect();
        assert_eq!(peers.place(source("192.0.2.200"), 8, 2).err(), Some(Full::Total));
        drop(v6);
        assert!(peers.place(source("192.0.2.200"), 8, 2).is_ok());
    }

    #[test]
    fn connections_are_listed_by_pages() {
        let peers = Peers::default();
        let remote: SocketAddr = "192.0.2.1:5061".parse().unwrap();
        let secured = Secured {
            connection: 0,
            local: remote,
            remote,
            names: None,
            cipher: String::new(),
        };
        let mut entered: Vec<_> = (0..150).map(|_| peers.enter(false, secured.clone()).0).collect();
        drop(entered.remove(0));
        let (first, more) = peers.page(0);
        assert!(more && first.len() == tls_ctl::MAX_PAGE && first[0].connection == 2);
        let (second, more) = peers.page(first.last().unwrap().connection);
        assert_eq!((second.len(), more), (49, false));
        drop(entered);
        assert_eq!(peers.open(), 0);
    }
}

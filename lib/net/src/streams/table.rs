//! Which connections there are, found by id and by peer, counted by source.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use sps_wire::flow::{Flow, Transport};
use tokio::time::Instant;

use super::write_queue::WriteQueue;
use super::{CloseReason, SendError, StreamConf};

/// What a connection's task shares with those who send on it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) transport: Transport,
    pub(super) remote: SocketAddr,
    /// TLS: what the peer has proved to be, or what it must prove. Requests to others do not take this connection.
    pub(super) names: Names,
    /// Accepted or handed over: counted against its source.
    pub(super) accepted: bool,
    pub(super) opened_at: Instant,
    /// Something speaks for who opened it: it is not closed to make room.
    pub(super) known: Cell<bool>,
    /// Set once it is open.
    pub(super) flow: Cell<Option<Flow>>,
    pub(super) ending: Cell<Option<Ending>>,
    pub(super) write: RefCell<WriteQueue>,
    /// Of the connection's task.
    pub(super) waker: RefCell<Option<Waker>>,
}

/// Names of a peer; unset when it has shown none.
pub(super) type Names = Option<Rc<[Arc<str>]>>;

/// A connection about to be closed: what is queued is still written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    pub(super) reason: CloseReason,
    /// When it is closed whatever is left.
    pub(super) until: Instant,
    /// Waits for what the worker may still say, not just for the queue to be empty.
    pub(super) takes_sends: bool,
}

impl Connection {
    /// Whether a message may be queued.
    pub(super) fn takes_sends(&self) -> bool {
        self.ending.get().is_none_or(|ending| ending.takes_sends)
    }

    /// What it is found by: for TLS each of the names, so that one who has proved nothing is not found at all.
    fn keys(&self) -> impl Iterator<Item = (Transport, SocketAddr, Option<Arc<str>>)> {
        let named = self.names.as_deref().unwrap_or_default().iter().cloned().map(Some);
        let plain = (self.transport != Transport::Tls).then_some(None);
        named.chain(plain).map(|name| (self.transport, self.remote, name))
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// The connections of a worker.
#[derive(Debug)]
pub(super) struct Table {
    by_id: HashMap<u64, Rc<Connection>>,
    by_peer: HashMap<(Transport, SocketAddr, Option<Arc<str>>), u64>,
    by_source: HashMap<Source, usize>,
    /// Accepted ones in the order of their coming; those that are gone or known by now are skipped.
    strangers: VecDeque<u64>,
    next: u64,
    worker: u64,
    limit: usize,
    limit_per_source: usize,
}

/// Who is counted as one: an IPv4 address, or an IPv6 /64, which one host may use up freely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Source(u64);

impl From<IpAddr> for Source {
    fn from(ip: IpAddr) -> Self {
        match ip {
            // No global IPv6 prefix looks like this.
            IpAddr::V4(v4) => Source(u64::from(v4.to_bits())),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => Source(u64::from(v4.to_bits())),
                None if v6.is_loopback() => Source(u64::MAX),
                None => Source((v6.to_bits() >> 64) as u64),
            },
        }
    }
}

/// Why an accepted connection is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Total,
    Source,
}

impl Table {
    pub(super) fn new(conf: &StreamConf) -> Table {
        Table {
            by_id: HashMap::new(),
            by_peer: HashMap::new(),
            by_source: HashMap::new(),
            strangers: VecDeque::new(),
            next: conf.first_connection & COUNTER,
            worker: u64::from(conf.worker) << 48,
            limit: conf.max_connections,
            limit_per_source: conf.max_connections_per_source,
        }
    }

    /// Makes a connection that somebody else opened; `known`: something speaks for him. When there are too many, gives the one
    /// to be closed in its place: the oldest that nothing speaks for, if it has had time to change that.
    pub(super) fn accept(
        &mut self,
        transport: Transport,
        remote: SocketAddr,
        names: Names,
        known: bool,
    ) -> Result<(Rc<Connection>, Option<Rc<Connection>>), Refused> {
        let source = remote.ip().into();
        let count = self.by_source.get(&source).map_or(0, |count| *count);
        if count >= self.limit_per_source {
            return Err(Refused::Source);
        }
        let mut evicted = None;
        if self.by_id.len() >= self.limit - self.limit / 8 {
            evicted = Some(self.oldest_stranger().ok_or(Refused::Total)?);
        }
        self.by_source.insert(source, count + 1);
        let connection = self.insert(transport, remote, names, true);
        connection.known.set(known);
        if !known {
            if self.strangers.len() >= 2 * self.limit {
                let by_id = &self.by_id;
                self.strangers.retain(|id| by_id.contains_key(id));
            }
            self.strangers.push_back(connection.id);
        }
        Ok((connection, evicted))
    }

    fn oldest_stranger(&mut self) -> Option<Rc<Connection>> {
        while let Some(id) = self.strangers.front() {
            let oldest = self
                .by_id
                .get(id)
                .filter(|connection| !connection.known.get() && connection.ending.get().is_none());
            match oldest {
                Some(connection) if connection.opened_at.elapsed() < MIN_AGE => return None,
                Some(connection) => {
                    let connection = Rc::clone(connection);
                    self.strangers.pop_front();
                    return Some(connection);
                }
                None => drop(self.strangers.pop_front()),
            }
        }
        None
    }

    /// Makes a connection that is to be opened; for TLS, to one who proves to be `name`.
    pub(super) fn connect(
        &mut self,
        transport: Transport,
        remote: SocketAddr,
        name: Option<Arc<str>>,
    ) -> Result<Rc<Connection>, SendError> {
        if self.by_id.len() >= self.limit {
            return Err(SendError::TooManyConnections);
        }
        Ok(self.insert(transport, remote, name.map(|name| Rc::from([name])), false))
    }

    fn insert(&mut self, transport: Transport, remote: SocketAddr, names: Names, accepted: bool) -> Rc<Connection> {
        // Zero is no connection; coming round to ids in use takes longer than a machine lives.
        self.next = if self.next >= COUNTER { 1 } else { self.next + 1 };
        let id = self.worker | self.next;
        let connection = Rc::new(Connection {
            id,
            transport,
            remote,
            names,
            accepted,
            opened_at: Instant::now(),
            known: Cell::new(false),
            flow: Cell::new(None),
            ending: Cell::new(None),
            write: RefCell::default(),
            waker: RefCell::default(),
        });
        self.by_id.insert(id, Rc::clone(&connection));
        self.by_peer.extend(connection.keys().map(|key| (key, id)));
        connection
    }

    /// Forgets a connection.
    pub(super) fn remove(&mut self, connection: &Connection) {
        if self.by_id.remove(&connection.id).is_none() {
            return;
        }
        for key in connection.keys() {
            if self.by_peer.get(&key) == Some(&connection.id) {
                self.by_peer.remove(&key);
            }
        }
        if connection.accepted {
            let source = connection.remote.ip().into();
            if let Some(count) = self.by_source.get_mut(&source) {
                *count -= 1;
                if *count == 0 {
                    self.by_source.remove(&source);
                }
            }
        }
    }

    pub(super) fn by_id(&self, id: u64) -> Option<&Rc<Connection>> {
        self.by_id.get(&id)
    }

    /// A connection to that peer that may be used for another message; for TLS, to one who has proved to be `name`.
    pub(super) fn by_peer(
        &self,
        transport: Transport,
        remote: SocketAddr,
        name: Option<&Arc<str>>,
    ) -> Option<&Rc<Connection>> {
        let connection = self.by_id.get(self.by_peer.get(&(transport, remote, name.cloned()))?)?;
        connection.ending.get().is_none().then_some(connection)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Rc<Connection>> {
        self.by_id.values()
    }
}

/// A connection younger than this is not closed for another one: it may yet say who it is.
const MIN_AGE: Duration = Duration::from_secs(2);

const COUNTER: u64 = (1 << 48) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn table(max_connections: usize, max_connections_per_source: usize) -> Table {
        Table::new(&StreamConf {
            worker: 3,
            first_connection: COUNTER - 1,
            max_connections,
            max_connections_per_source,
            ..StreamConf::default()
        })
    }

    fn peer(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ids_carry_the_worker_and_are_never_zero() {
        let mut table = table(8, 8);
        let ids: Vec<u64> = (0..3)
            .map(|port| {
                table
                    .accept(Transport::Tcp, peer(&format!("192.0.2.1:{port}")), None, false)
                    .unwrap()
                    .0
                    .id
            })
            .collect();
        assert!(ids.iter().all(|id| super::super::worker_of(*id) == 3));
        assert_eq!(ids.iter().map(|id| id & COUNTER).collect::<Vec<_>>(), [COUNTER, 1, 2]);
    }

    #[test]
    fn the_last_eighth_is_for_connections_of_our_own() {
        let mut table = table(8, 100);
        for port in 1..=7 {
            table
                .accept(Transport::Tcp, peer(&format!("192.0.2.1:{port}")), None, false)
                .unwrap();
        }
        assert_eq!(
            table
                .accept(Transport::Tcp, peer("192.0.2.2:1"), None, false)
                .unwrap_err(),
            Refused::Total
        );
        table.connect(Transport::Tcp, peer("192.0.2.2:1"), None).unwrap();
        let full = table.connect(Transport::Tcp, peer("192.0.2.2:2"), None).unwrap_err();
        assert_eq!(full, SendError::TooManyConnections);
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let mut table = table(100, 2);
        let (first, _) = table
            .accept(Transport::Tcp, peer("[2001:db8:0:1::1]:1"), None, false)
            .unwrap();
        table
            .accept(Transport::Tcp, peer("[2001:db8:0:1::2]:1"), None, false)
            .unwrap();
        assert_eq!(
            table
                .accept(Transport::Tcp, peer("[2001:db8:0:1::3]:1"), None, false)
                .unwrap_err(),
            Refused::Source
        );
        table
            .accept(Transport::Tcp, peer("[2001:db8:0:2::1]:1"), None, false)
            .unwrap();
        table.accept(Transport::Tcp, peer("192.0.2.1:1"), None, false).unwrap();
        table.remove(&first);
        table.remove(&first);
        table
            .accept(Transport::Tcp, peer("[2001:db8:0:1::3]:1"), None, false)
            .unwrap();
        assert_eq!(
            table
                .accept(Transport::Tcp, peer("[2001:db8:0:1::4]:1"), None, false)
                .unwrap_err(),
            Refused::Source
        );
    }

    #[test]
    fn a_peer_leads_to_its_newest_connection() {
        let mut table = table(8, 8);
        let (old, new) = (
            table
                .accept(Transport::Tcp, peer("192.0.2.1:1"), None, false)
                .unwrap()
                .0,
            table
                .accept(Transport::Tcp, peer("192.0.2.1:1"), None, false)
                .unwrap()
                .0,
        );
        table.remove(&old);
        assert_eq!(
            table.by_peer(Transport::Tcp, peer("192.0.2.1:1"), None).unwrap().id,
            new.id
        );
        assert!(table.by_peer(Transport::Tls, peer("192.0.2.1:1"), None).is_none());
        table.remove(&new);
        assert!(table.by_peer(Transport::Tcp, peer("192.0.2.1:1"), None).is_none());
        assert_eq!(table.all().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_to_a_full_table_takes_the_place_of_the_oldest_stranger() {
        let mut table = table(8, 100);
        let mut come = |port: u16, known| table.accept(Transport::Tcp, peer(&format!("192.0.2.1:{port}")), None, known);
        let first: Vec<_> = (1..=7).map(|port| come(port, port == 1).unwrap().0).collect();
        assert_eq!(come(8, false).unwrap_err(), Refused::Total, "none has had its time");
        tokio::time::advance(MIN_AGE).await;
        first[1].known.set(true);
        let (_, evicted) = come(9, false).unwrap();
        assert_eq!(evicted.unwrap().remote.port(), 3, "the first two are known");
        let (_, evicted) = come(10, true).unwrap();
        assert_eq!(evicted.unwrap().remote.port(), 4);
        for connection in &first {
            connection.known.set(true);
        }
        assert_eq!(
            come(11, true).unwrap_err(),
            Refused::Total,
            "the one stranger left is too young"
        );
    }
}

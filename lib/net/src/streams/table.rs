//! Which connections there are, found by id and by peer, counted by source.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

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
            next: conf.first_connection & COUNTER,
            worker: u64::from(conf.worker) << 48,
            limit: conf.max_connections,
            limit_per_source: conf.max_connections_per_source,
        }
    }

    /// Makes a connection that somebody else opened.
    pub(super) fn accept(
        &mut self,
        transport: Transport,
        remote: SocketAddr,
        names: Names,
    ) -> Result<Rc<Connection>, Refused> {
        if self.by_id.len() >= self.limit - self.limit / 8 {
            return Err(Refused::Total);
        }
        let source = remote.ip().into();
        let count = self.by_source.get(&source).map_or(0, |count| *count);
        if count >= self.limit_per_source {
            return Err(Refused::Source);
        }
        self.by_source.insert(source, count + 1);
        Ok(self.insert(transport, remote, names, true))
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
                    .accept(Transport::Tcp, peer(&format!("192.0.2.1:{port}")), None)
                    .unwrap()
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
                .accept(Transport::Tcp, peer(&format!("192.0.2.1:{port}")), None)
                .unwrap();
        }
        assert_eq!(
            table.accept(Transport::Tcp, peer("192.0.2.2:1"), None).unwrap_err(),
            Refused::Total
        );
        table.connect(Transport::Tcp, peer("192.0.2.2:1"), None).unwrap();
        let full = table.connect(Transport::Tcp, peer("192.0.2.2:2"), None).unwrap_err();
        assert_eq!(full, SendError::TooManyConnections);
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let mut table = table(100, 2);
        let first = table.accept(Transport::Tcp, peer("[2001:db8:0:1::1]:1"), None).unwrap();
        table.accept(Transport::Tcp, peer("[2001:db8:0:1::2]:1"), None).unwrap();
        assert_eq!(
            table
                .accept(Transport::Tcp, peer("[2001:db8:0:1::3]:1"), None)
                .unwrap_err(),
            Refused::Source
        );
        table.accept(Transport::Tcp, peer("[2001:db8:0:2::1]:1"), None).unwrap();
        table.accept(Transport::Tcp, peer("192.0.2.1:1"), None).unwrap();
        table.remove(&first);
        table.remove(&first);
        table.accept(Transport::Tcp, peer("[2001:db8:0:1::3]:1"), None).unwrap();
        assert_eq!(
            table
                .accept(Transport::Tcp, peer("[2001:db8:0:1::4]:1"), None)
                .unwrap_err(),
            Refused::Source
        );
    }

    #[test]
    fn a_peer_leads_to_its_newest_connection() {
        let mut table = table(8, 8);
        let (old, new) = (
            table.accept(Transport::Tcp, peer("192.0.2.1:1"), None).unwrap(),
            table.accept(Transport::Tcp, peer("192.0.2.1:1"), None).unwrap(),
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

    /// RFC 5922 §7.3: who has proved to be one domain is not trusted with what is for another.
    #[test]
    fn over_tls_a_name_leads_to_who_has_proved_it() {
        let mut table = table(8, 8);
        let (remote, name) = (peer("192.0.2.1:5061"), |text: &str| Arc::<str>::from(text));
        let ours = table.connect(Transport::Tls, remote, Some(name("a.example"))).unwrap();
        let names: Names = Some(Rc::from([name("b.example"), name("c.example")]));
        let theirs = table.accept(Transport::Tls, remote, names).unwrap();
        let nobody = table.accept(Transport::Tls, remote, None).unwrap();
        let found = |table: &Table, text: &str| {
            table
                .by_peer(Transport::Tls, remote, Some(&name(text)))
                .map(|connection| connection.id)
        };
        assert_eq!(found(&table, "a.example"), Some(ours.id));
        assert_eq!(found(&table, "c.example"), Some(theirs.id));
        assert_eq!(found(&table, "d.example"), None);
        assert!(table.by_peer(Transport::Tls, remote, None).is_none());
        table.remove(&theirs);
        table.remove(&nobody);
        assert_eq!(
            (found(&table, "b.example"), found(&table, "a.example")),
            (None, Some(ours.id))
        );
        table.remove(&ours);
        assert!(table.by_peer.is_empty());
    }
}

//! All stream connections of one worker: accepting, connecting, framing, queues, timeouts, caps.
//!
//! [`Streams`] is the worker's hand (cheap to clone, stays on the worker), [`StreamEvents`] its ear. Each connection is one
//! local task. A connection is known by the 64-bit id in [`Flow::connection`], unique in the process and carrying the
//! worker's number ([`worker_of`]), so that any worker can tell whose connection a flow token means.

mod conf;
mod connection;
mod counters;
mod event;
mod listen;
mod opener;
mod queue;
mod table;
#[cfg(test)]
mod tests;
mod write_queue;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sps_wire::flow::{Destination, Flow, Transport};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::Instant;

pub use conf::{StreamConf, first_connection_now, worker_of};
pub use counters::StreamCounters;
pub use event::{CloseReason, SendError, StreamEvent};
pub use opener::{Opened, Opener, Opening, Want};

use queue::Queue;
use table::{Connection, Ending, Names, Refused, Table};

/// A worker's streams. Clones are the same thing.
#[derive(Clone)]
pub struct Streams {
    shared: Rc<Shared>,
}

/// Where a worker's stream events come out.
pub struct StreamEvents {
    queue: Rc<Queue>,
}

/// What the hand and all tasks share.
struct Shared {
    conf: StreamConf,
    table: RefCell<Table>,
    queue: Rc<Queue>,
    counters: RefCell<StreamCounters>,
    /// Connections read into this, one after the other, and keep only what is no whole message yet.
    scratch: RefCell<Box<[u8]>>,
    /// Opens what TCP alone does not; see [`Streams::open_tls_by`].
    opener: RefCell<Option<Rc<dyn Opener>>>,
    /// Bytes that all connections hold.
    buffered: Cell<usize>,
    gate: RefCell<Option<Gate>>,
    /// No more accepting; the listeners are told by `stop`.
    stopped: Cell<bool>,
    stop: Notify,
}

/// Who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Welcome {
    /// Somebody whom something speaks for.
    Known,
    /// Anybody else.
    Stranger,
    /// Nobody to talk to.
    No,
}

/// Says who is welcome, by his address. Asked for each connection that is accepted or handed over.
pub type Gate = Box<dyn Fn(IpAddr) -> Welcome>;

impl Streams {
    /// Has `gate` say who is welcome. Until then everybody is.
    pub fn set_gate(&self, gate: Gate) {
        self.shared.gate.replace(Some(gate));
    }

    /// Something speaks for who opened this connection: it is not closed to make room. Unknown ids are ignored.
    pub fn know(&self, connection: u64) {
        if let Some(connection) = self.shared.table.borrow().by_id(connection) {
            connection.known.set(true);
        }
    }

    /// Closes at once all accepted connections whose remote address `unwelcome` names.
    pub fn close_unwelcome(&self, unwelcome: impl Fn(IpAddr) -> bool) -> usize {
        let table = self.shared.table.borrow();
        let found = table
            .all()
            .filter(|connection| connection.accepted && unwelcome(connection.remote.ip()));
        found.map(|connection| connection.end_now(CloseReason::Ours)).count()
    }

    /// Makes an empty set of streams and its event queue.
    pub fn new(conf: StreamConf) -> (Streams, StreamEvents) {
        let queue = Rc::new(Queue::new(conf.event_queue, EVENT_QUEUE_LEN));
        let shared = Rc::new(Shared {
            table: RefCell::new(Table::new(&conf)),
            queue: Rc::clone(&queue),
            counters: RefCell::default(),
            scratch: RefCell::new(vec![0; SCRATCH_LEN].into_boxed_slice()),
            opener: RefCell::new(None),
            buffered: Cell::new(0),
            gate: RefCell::new(None),
            stopped: Cell::new(false),
            stop: Notify::new(),
            conf,
        });
        (Streams { shared }, StreamEvents { queue })
    }

    /// Accepts from a bound and listening socket from now on. Must be called inside the worker's `LocalSet`.
    ///
    /// # Errors
    /// What the reactor said.
    pub fn listen(&self, listener: TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::task::spawn_local(listen::run(self.clone(), listener));
        Ok(())
    }

    /// Takes an open stream over, such as one that `sps-tls` hands on. Must be called inside the worker's `LocalSet`.
    ///
    /// # Errors
    /// [`SendError::TooManyConnections`]; the stream is dropped.
    pub fn adopt<S>(
        &self,
        stream: S,
        transport: Transport,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<Flow, SendError>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        self.adopt_as(stream, transport, local, remote, None)
    }

    /// The same for TLS that somebody else terminates. `names`: what the peer has proved to be, in lower case; unset when it has
    /// shown nothing.
    ///
    /// # Errors
    /// As [`adopt`](Self::adopt).
    pub fn adopt_secured<S>(
        &self,
        stream: S,
        local: SocketAddr,
        remote: SocketAddr,
        names: Option<Vec<String>>,
    ) -> Result<Flow, SendError>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let names = names.map(|names| names.into_iter().map(Arc::from).collect());
        self.adopt_as(stream, Transport::Tls, local, remote, names)
    }

    fn adopt_as<S>(
        &self,
        stream: S,
        transport: Transport,
        local: SocketAddr,
        remote: SocketAddr,
        names: Names,
    ) -> Result<Flow, SendError>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let welcome = self
            .shared
            .gate
            .borrow()
            .as_ref()
            .map_or(Welcome::Stranger, |gate| gate(remote.ip()));
        if welcome == Welcome::No {
            self.shared.count(|counters| counters.refused_unwelcome += 1);
            return Err(SendError::Unwelcome);
        }
        // Who has shown a certificate has shown who he is.
        let known = welcome == Welcome::Known || names.is_some();
        let made = self.shared.table.borrow_mut().accept(transport, remote, names, known);
        let (connection, evicted) = made.map_err(|refused| {
            self.shared.count(|counters| match refused {
                Refused::Total => counters.refused_total += 1,
                Refused::Source => counters.refused_source += 1,
            });
            SendError::TooManyConnections
        })?;
        if let Some(evicted) = evicted {
            self.shared.count(|counters| counters.evicted += 1);
            evicted.end_now(CloseReason::Crowded);
        }
        self.shared.count(|counters| counters.accepted += 1);
        let flow = self.shared.opened(&connection, local);
        tokio::task::spawn_local(connection::run(Rc::clone(&self.shared), connection, stream));
        Ok(flow)
    }

    /// Queues a message on an existing connection. `token` comes back in [`StreamEvent::SendFailed`] if it does not leave.
    ///
    /// # Errors
    /// [`SendError::NoConnection`] if the connection is gone (try [`send_to`](Self::send_to)), [`SendError::QueueFull`].
    pub fn send_on(&self, flow: &Flow, bytes: Bytes, token: u64) -> Result<(), SendError> {
        let table = self.shared.table.borrow();
        let connection = table
            .by_id(flow.connection)
            .filter(|connection| connection.takes_sends());
        self.shared
            .queue_on(connection.ok_or(SendError::NoConnection)?, bytes, token)
    }

    /// Queues a message to a destination: on a connection that leads there (accepted ones included), else on a new one, which
    /// is opened from `source` if that is given. Returns the connection's id. Must be called inside the worker's `LocalSet`.
    ///
    /// # Errors
    /// [`SendError::QueueFull`], [`SendError::TooManyConnections`], [`SendError::NoTransport`]. What fails later comes as an event.
    pub fn send_to(
        &self,
        destination: &Destination,
        source: Option<IpAddr>,
        bytes: Bytes,
        token: u64,
    ) -> Result<u64, SendError> {
        let Destination { transport, addr, .. } = *destination;
        let name = match transport {
            Transport::Udp => return Err(SendError::NoTransport),
            Transport::Tcp => None,
            Transport::Tls => Some(proof_of(destination)),
        };
        let mut table = self.shared.table.borrow_mut();
        if let Some(connection) = table.by_peer(transport, addr, name.as_ref()) {
            return self.shared.queue_on(connection, bytes, token).map(|()| connection.id);
        }
        if transport == Transport::Tls && self.shared.opener.borrow().is_none() {
            return Err(SendError::NoTransport);
        }
        let connection = table.connect(transport, addr, name)?;
        let id = connection.id;
        self.shared.queue_on(&connection, bytes, token)?;
        self.shared.count(|counters| counters.connecting += 1);
        tokio::task::spawn_local(connection::connect(Rc::clone(&self.shared), connection, source));
        Ok(id)
    }

    /// Has TLS connections opened by `opener`; without one there are none outwards.
    pub fn open_tls_by(&self, opener: Rc<dyn Opener>) {
        *self.shared.opener.borrow_mut() = Some(opener);
    }

    /// What the peer of an accepted TLS connection has proved to be; unset when it showed no certificate, and for all others.
    pub fn proved(&self, connection: u64) -> Option<Rc<[Arc<str>]>> {
        let table = self.shared.table.borrow();
        let connection = table.by_id(connection).filter(|connection| connection.accepted)?;
        connection.names.clone()
    }

    /// Whether the connection is open and takes messages.
    pub fn is_open(&self, connection: u64) -> bool {
        let table = self.shared.table.borrow();
        table
            .by_id(connection)
            .is_some_and(|connection| connection.flow.get().is_some() && connection.takes_sends())
    }

    /// Closes a connection once its queue is written (within a second). Unknown ids are ignored.
    pub fn close(&self, connection: u64) {
        if let Some(connection) = self.shared.table.borrow().by_id(connection) {
            close(connection);
        }
    }

    /// Stops accepting and closes all connections as [`close`](Self::close) does.
    pub fn close_all(&self) {
        self.shared.stopped.set(true);
        self.shared.stop.notify_waiters();
        self.shared
            .table
            .borrow()
            .all()
            .for_each(|connection| close(connection));
    }

    /// The figures.
    pub fn counters(&self) -> StreamCounters {
        StreamCounters {
            buffered_len: self.shared.buffered.get() as u64,
            ..*self.shared.counters.borrow()
        }
    }
}

impl StreamEvents {
    /// Waits for events and appends up to `limit` of them to `events`. May be dropped and asked again at any time.
    pub async fn receive(&mut self, events: &mut Vec<StreamEvent>, limit: usize) {
        std::future::poll_fn(|cx| self.queue.poll_take(events, limit.max(1), cx)).await;
    }

    /// Appends what is there now, without waiting. Returns how many.
    pub fn take(&mut self, events: &mut Vec<StreamEvent>, limit: usize) -> usize {
        self.queue.take(events, limit)
    }
}

impl Drop for StreamEvents {
    fn drop(&mut self) {
        self.queue.abandon();
    }
}

impl Shared {
    /// A connection is open: the worker hears of it.
    fn opened(&self, connection: &Connection, local: SocketAddr) -> Flow {
        let flow = Flow {
            member: self.conf.member,
            transport: connection.transport,
            local,
            remote: connection.remote,
            connection: connection.id,
        };
        connection.flow.set(Some(flow));
        self.count(|counters| counters.open += 1);
        self.queue.push(StreamEvent::Opened {
            flow,
            outgoing: !connection.accepted,
        });
        flow
    }

    fn queue_on(&self, connection: &Connection, bytes: Bytes, token: u64) -> Result<(), SendError> {
        let len = bytes.len();
        if self.is_crowded(len) {
            self.count(|counters| counters.buffers_full += 1);
            return Err(SendError::QueueFull);
        }
        if !connection
            .write
            .borrow_mut()
            .push(bytes, Some(token), self.conf.write_queue_len)
        {
            self.count(|counters| counters.queue_full += 1);
            return Err(SendError::QueueFull);
        }
        self.hold(len);
        connection.wake();
        Ok(())
    }

    /// Whether there is no room for so many bytes more.
    fn is_crowded(&self, len: usize) -> bool {
        self.buffered.get() + len > self.conf.buffered_len
    }

    fn hold(&self, len: usize) {
        self.buffered.set(self.buffered.get() + len);
    }

    fn let_go(&self, len: usize) {
        self.buffered.set(self.buffered.get().saturating_sub(len));
    }

    fn count(&self, note: impl FnOnce(&mut StreamCounters)) {
        note(&mut self.counters.borrow_mut());
    }
}

/// What a TLS server must prove: the name that was looked up, or its address where there was none (RFC 5922 §7.3).
fn proof_of(destination: &Destination) -> Arc<str> {
    match &destination.tls_name {
        Some(name) => match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(v6) => v6.into(),
            None => name.to_ascii_lowercase().into(),
        },
        None => destination.addr.ip().to_string().into(),
    }
}

fn close(connection: &Connection) {
    connection.end(CloseReason::Ours, false);
    connection.wake();
}

impl Connection {
    /// Ends the connection with whatever is left to write.
    fn end_now(&self, reason: CloseReason) {
        self.ending.set(Some(Ending {
            reason,
            until: Instant::now(),
            takes_sends: false,
        }));
        self.wake();
    }

    /// Begins to end the connection. A reason given earlier stays.
    fn end(&self, reason: CloseReason, takes_sends: bool) {
        let earlier = self.ending.get();
        let reason = earlier.map_or(reason, |ending| ending.reason);
        let until = earlier.map_or_else(|| Instant::now() + LINGER, |ending| ending.until);
        self.ending.set(Some(Ending {
            reason,
            until,
            takes_sends,
        }));
    }
}

/// Bytes of messages that may wait for the worker before connections are no longer read.
const EVENT_QUEUE_LEN: usize = 4 << 20;
/// Most bytes read at once: one message of the greatest length there is, or many usual ones.
const SCRATCH_LEN: usize = 64 * 1024;
/// How long a connection that is being closed may take to write what is queued.
const LINGER: Duration = Duration::from_secs(1);

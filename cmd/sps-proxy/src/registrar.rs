//! The conversation with `sps-registrar` (see `sps_ipc::service`): REGISTERs go out in batches, responses come back in batches.

use std::collections::{HashSet, VecDeque};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sps_ipc::seqpacket::{AsyncConnection, Buffer, Connection, buffer};
use sps_ipc::service::{ANSWER_TIMEOUT, Batch, FromService, RECONNECT_WAIT, ToService, WINDOW, from_service};
use sps_wire::flow::Flow;

/// One worker's connection.
pub struct RegistrarLink {
    path: PathBuf,
    conf: u64,
    connection: Option<AsyncConnection>,
    /// When to try again to connect; unset while connected.
    connect_at: Option<Instant>,
    batch: Batch,
    /// Full batches that the socket had no room for yet.
    waiting: VecDeque<Vec<u8>>,
    /// Requests that wait for their response, by id.
    open: HashSet<u64>,
    /// The same in the order of their deadlines, which is that of sending.
    deadlines: VecDeque<(Instant, u64)>,
    buffer: Buffer,
}

/// What came back for one request.
pub enum Outcome<'a> {
    /// A whole response.
    Response(&'a [u8]),
    /// It would not look at it, or the connection's bounds are reached.
    Busy,
}

/// Frames kept while the socket is full.
const MAX_WAITING: usize = 256;

/// Longest wait for the registrar's socket to take a connection; it is there or it is not.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(20);

impl RegistrarLink {
    /// A link that is not up yet; [`Self::reconnect`] brings it up.
    pub fn new(path: PathBuf, conf: u64, now: Instant) -> RegistrarLink {
        RegistrarLink {
            path,
            conf,
            connection: None,
            connect_at: Some(now),
            batch: Batch::default(),
            waiting: VecDeque::new(),
            open: HashSet::new(),
            deadlines: VecDeque::new(),
            buffer: buffer(),
        }
    }

    /// Puts a request into the next batch. `false`: too many are open.
    #[must_use]
    pub fn push(&mut self, now: Instant, id: u64, flow: Flow, received_at_ms: u64, message: &[u8]) -> bool {
        if self.open.len() >= WINDOW {
            return false;
        }
        if !self.write(id, flow, received_at_ms, message) {
            return false;
        }
        self.open.insert(id);
        self.deadlines.push_back((now + ANSWER_TIMEOUT, id));
        true
    }

    /// Puts a request that is open already into the next batch once more, after a new connection.
    pub fn push_again(&mut self, id: u64, flow: Flow, received_at_ms: u64, message: &[u8]) {
        // What does not fit runs into its deadline.
        let _ = self.write(id, flow, received_at_ms, message);
    }

    fn write(&mut self, id: u64, flow: Flow, received_at_ms: u64, message: &[u8]) -> bool {
        if self.connection.is_none() {
            // Sent when there is a connection again.
            return true;
        }
        let entry = ToService::Request {
            id,
            flow,
            received_at_ms,
            message,
        };
        if self.batch.push(&entry).is_ok() {
            return true;
        }
        self.send_batch();
        self.batch.push(&entry).is_ok()
    }

    /// Sends what has gathered. Call once for each turn of the worker.
    pub fn flush(&mut self) {
        while let (Some(frame), Some(connection)) = (self.waiting.front(), &self.connection) {
            match connection.try_send(frame) {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.lost(),
            }
        }
        if !self.batch.is_empty() {
            self.send_batch();
        }
    }

    fn send_batch(&mut self) {
        let Some(connection) = &self.connection else {
            self.batch.clear();
            return;
        };
        let sent = if self.waiting.is_empty() {
            connection.try_send(self.batch.bytes())
        } else {
            Err(ErrorKind::WouldBlock.into())
        };
        match sent {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if self.waiting.len() < MAX_WAITING {
                    self.waiting.push_back(self.batch.bytes().to_vec());
                }
            }
            Err(_) => return self.lost(),
        }
        self.batch.clear();
    }

    /// Waits until there is something to do: a frame to read, room to write, or a connection to be tried.
    pub async fn ready(&self) {
        match (&self.connection, self.connect_at) {
            (Some(connection), _) if !self.waiting.is_empty() => {
                tokio::select! {
                    _ = connection.readable() => {}
                    _ = connection.writable() => {}
                }
            }
            (Some(connection), _) => drop(connection.readable().await),
            (None, Some(at)) => tokio::time::sleep_until(at.into()).await,
            (None, None) => std::future::pending().await,
        }
    }

    /// Tries to connect if it is time. `true`: there is a new connection, and what is open must be pushed again.
    #[must_use]
    pub fn reconnect(&mut self, now: Instant) -> bool {
        if self.connection.is_some() || self.connect_at.is_none_or(|at| at > now) {
            return false;
        }
        match Connection::connect(&self.path, now + CONNECT_TIMEOUT).and_then(AsyncConnection::new) {
            Ok(connection) => {
                self.connection = Some(connection);
                self.connect_at = None;
                // An empty frame always takes a hello.
                let _ = self.batch.push(&ToService::Hello {
                    version: sps_ipc::VERSION,
                    conf: self.conf,
                });
                true
            }
            Err(_) => {
                self.connect_at = Some(now + RECONNECT_WAIT);
                false
            }
        }
    }

    /// Ids of the requests that wait, in the order they came: who registers twice means the second.
    pub fn open_ids(&self) -> Vec<u64> {
        let all = self.deadlines.iter().map(|(_, id)| *id);
        all.filter(|id| self.open.contains(id)).collect()
    }

    /// Takes the frames that are there, and gives each outcome to `take`.
    pub fn receive(&mut self, mut take: impl FnMut(u64, Outcome<'_>)) {
        // A bound, so that a busy registrar does not starve the sockets.
        for _ in 0..FRAMES_PER_TURN {
            let Some(connection) = &self.connection else { return };
            let len = match connection.try_recv(&mut self.buffer) {
                Ok(0) => return self.lost(),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.lost(),
            };
            let mut sound = true;
            for entry in from_service(&self.buffer[..len]) {
                match entry {
                    Ok(FromService::Response { id, message }) => {
                        if self.open.remove(&id) {
                            take(id, Outcome::Response(message));
                        }
                    }
                    Ok(FromService::Busy { id }) => {
                        if self.open.remove(&id) {
                            take(id, Outcome::Busy);
                        }
                    }
                    // The registrar has nothing to say of its own accord.
                    Ok(FromService::Originate { .. }) | Err(_) => sound = false,
                }
            }
            if !sound {
                tracing::error!("sps-registrar sent what is not understood; hanging up");
                return self.lost();
            }
        }
    }

    /// Requests whose time is over.
    pub fn expired(&mut self, now: Instant) -> Vec<u64> {
        let mut expired = Vec::new();
        while let Some((at, id)) = self.deadlines.front().copied()
            && (at <= now || !self.open.contains(&id))
        {
            self.deadlines.pop_front();
            if self.open.remove(&id) {
                expired.push(id);
            }
        }
        expired
    }

    /// When [`Self::expired`] may have something.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(at, _)| *at)
    }

    fn lost(&mut self) {
        tracing::warn!(open = self.open.len(), "connection to sps-registrar lost; trying again");
        self.connection = None;
        self.batch.clear();
        self.waiting.clear();
        self.connect_at = Some(Instant::now() + RECONNECT_WAIT);
    }
}

const FRAMES_PER_TURN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        Flow {
            member: 0,
            transport: sps_wire::flow::Transport::Udp,
            local: ([127, 0, 0, 1], 5060).into(),
            remote: ([127, 0, 0, 1], 5070).into(),
            connection: 0,
        }
    }

    #[test]
    fn what_waits_for_a_registrar_goes_to_the_next_one_in_the_order_it_came() {
        let now = Instant::now();
        let mut link = RegistrarLink::new(PathBuf::from("/nowhere"), 1, now);
        let ids: Vec<u64> = (0..100).map(|at| at * 7919 % 1000).collect();
        for id in &ids {
            assert!(link.push(now, *id, flow(), 0, b"REGISTER"));
        }
        assert_eq!(link.open_ids(), ids);
        assert!(link.expired(now).is_empty());
        assert_eq!(link.expired(now + ANSWER_TIMEOUT), ids, "each is told once");
        assert!(link.open_ids().is_empty());
        assert_eq!(link.deadline(), None);
    }

    #[test]
    fn what_waits_is_bounded() {
        let now = Instant::now();
        let mut link = RegistrarLink::new(PathBuf::from("/nowhere"), 1, now);
        for id in 0..WINDOW as u64 {
            assert!(link.push(now, id, flow(), 0, b"REGISTER"));
        }
        assert!(!link.push(now, u64::MAX, flow(), 0, b"REGISTER"));
    }
}

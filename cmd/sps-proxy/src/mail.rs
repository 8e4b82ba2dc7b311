//! What workers tell each other, and the main thread them: a capped queue for each.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use sps_wire::flow::Flow;
use tokio::sync::{mpsc, oneshot};

use crate::conf::WorkerConf;

/// One letter.
pub enum Mail {
    /// A message that came to another worker and belongs to a transaction of this one.
    Message { flow: Flow, bytes: Bytes },
    /// To be sent on a stream that this worker has; `from` learns by `SendFailed` if that cannot be.
    Send {
        flow: Flow,
        bytes: Bytes,
        token: u64,
        from: u16,
    },
    /// What was asked of another worker did not leave.
    SendFailed { token: u64 },
    /// Nothing listens there: ICMP told a socket of another worker, since all share one port.
    Unreachable(Vec<SocketAddr>),
    /// Work by this configuration from now on, and say so.
    Conf(Box<WorkerConf>, oneshot::Sender<()>),
    /// Look for mapped files that were made anew, and say when that is done.
    Refresh(oneshot::Sender<()>),
    /// Take no new requests, and say so when none is undecided.
    Drain(oneshot::Sender<()>),
    /// The time for that is over: answer what is undecided, and say how much it was.
    GiveUp(oneshot::Sender<usize>),
}

/// Letters that may wait for one worker; more are dropped, as a full socket drops datagrams.
const QUEUE: usize = 8192;

/// The way to every worker.
#[derive(Clone)]
pub struct Post(Arc<[mpsc::Sender<Mail>]>);

/// Makes a queue for each worker.
pub fn boxes(workers: u16) -> (Post, Vec<mpsc::Receiver<Mail>>) {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(QUEUE)).unzip();
    (Post(senders.into()), receivers)
}

impl Post {
    /// Leaves a letter without waiting. Gives it back if the queue is full or the worker is gone.
    pub fn send(&self, worker: u16, mail: Mail) -> Result<(), Mail> {
        match self.0.get(usize::from(worker)) {
            Some(queue) => queue.try_send(mail).map_err(mpsc::error::TrySendError::into_inner),
            None => Err(mail),
        }
    }

    /// Leaves a letter, waiting for room.
    pub async fn deliver(&self, worker: u16, mail: Mail) {
        if let Some(queue) = self.0.get(usize::from(worker)) {
            let _ = queue.send(mail).await;
        }
    }

    /// How many workers there are.
    pub fn workers(&self) -> u16 {
        self.0.len() as u16
    }
}

//! What workers tell each other, and the main thread them: a capped queue for each.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use sps_sip::guard::{Ban, Network, OperatorBan};
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
    /// Another worker banned these sources.
    Banned(Arc<[Ban]>),
    /// Another worker has proof that these sources mean well.
    Proved(Arc<[IpAddr]>),
    /// These are the operator's bans, all of them; end those of sources in the network. Says how many ended.
    Deny(Arc<[OperatorBan]>, Option<Network>, oneshot::Sender<usize>),
    /// Say whom you have banned, and how often each of the operator's bans was felt.
    Bans(oneshot::Sender<Banned>),
    /// Work by this configuration from now on, and say so.
    Conf(Box<WorkerConf>, oneshot::Sender<()>),
    /// Look for mapped files that were made anew, and say when that is done.
    Refresh(oneshot::Sender<()>),
    /// Take no new requests, and say so when none is undecided.
    Drain(oneshot::Sender<()>),
    /// The time for that is over: answer what is undecided, and say how much it was.
    GiveUp(oneshot::Sender<usize>),
}

/// A worker's own bans, and how often each of the operator's was felt.
pub type Banned = (Vec<Ban>, Vec<(Network, u64)>);

/// Letters that may wait for one worker; more are dropped, as a full socket drops datagrams.
const QUEUE: usize = 8192;

/// Bytes of messages that may wait for one worker: a stranger who sees our branch tokens can aim long ones at it.
const QUEUE_LEN: usize = 16 << 20;

/// The way to every worker.
#[derive(Clone)]
pub struct Post(Arc<[Door]>);

struct Door {
    queue: mpsc::Sender<Mail>,
    /// Bytes of messages in it.
    waiting_len: Arc<AtomicUsize>,
}

/// Where a worker finds its letters.
pub struct Letterbox {
    queue: mpsc::Receiver<Mail>,
    waiting_len: Arc<AtomicUsize>,
}

impl Letterbox {
    /// The next letter; none when nobody can write any more.
    pub async fn recv(&mut self) -> Option<Mail> {
        let mail = self.queue.recv().await?;
        self.waiting_len.fetch_sub(mail.len(), Relaxed);
        Some(mail)
    }

    /// A letter that is there already.
    pub fn try_recv(&mut self) -> Option<Mail> {
        let mail = self.queue.try_recv().ok()?;
        self.waiting_len.fetch_sub(mail.len(), Relaxed);
        Some(mail)
    }
}

impl Mail {
    /// Bytes of the message in it.
    fn len(&self) -> usize {
        match self {
            Mail::Message { bytes, .. } | Mail::Send { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }
}

/// Makes a queue for each worker.
pub fn boxes(workers: u16) -> (Post, Vec<Letterbox>) {
    let pair = |_| {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let waiting_len = Arc::<AtomicUsize>::default();
        let door = Door {
            queue: sender,
            waiting_len: waiting_len.clone(),
        };
        let letterbox = Letterbox {
            queue: receiver,
            waiting_len,
        };
        (door, letterbox)
    };
    let (doors, boxes): (Vec<_>, Vec<_>) = (0..workers).map(pair).unzip();
    (Post(doors.into()), boxes)
}

impl Post {
    /// Leaves a letter without waiting. Gives it back if the queue is full or the worker is gone.
    pub fn send(&self, worker: u16, mail: Mail) -> Result<(), Mail> {
        match self.0.get(usize::from(worker)) {
            Some(door) => {
                let len = mail.len();
                if door.waiting_len.fetch_add(len, Relaxed) + len > QUEUE_LEN && len > 0 {
                    door.waiting_len.fetch_sub(len, Relaxed);
                    return Err(mail);
                }
                door.queue.try_send(mail).map_err(|error| {
                    door.waiting_len.fetch_sub(len, Relaxed);
                    error.into_inner()
                })
            }
            None => Err(mail),
        }
    }

    /// Leaves a letter, waiting for room.
    pub async fn deliver(&self, worker: u16, mail: Mail) {
        if let Some(door) = self.0.get(usize::from(worker)) {
            door.waiting_len.fetch_add(mail.len(), Relaxed);
            let _ = door.queue.send(mail).await;
        }
    }

    /// How many workers there are.
    pub fn workers(&self) -> u16 {
        self.0.len() as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_in_bytes_and_is_given_back() {
        let (post, mut boxes) = boxes(1);
        let addr = ([127, 0, 0, 1], 5060).into();
        let flow = Flow {
            member: 0,
            transport: sps_wire::flow::Transport::Udp,
            local: addr,
            remote: addr,
            connection: 0,
        };
        let letter = || Mail::Message {
            flow,
            bytes: Bytes::from(vec![0; 60_000]),
        };
        let fit = QUEUE_LEN / 60_000;
        let sent = (0..1000).filter(|_| post.send(0, letter()).is_ok()).count();
        assert_eq!(sent, fit);
        assert!(post.send(0, Mail::SendFailed { token: 1 }).is_ok(), "orders pass");
        while boxes[0].try_recv().is_some() {}
        assert_eq!((0..1000).filter(|_| post.send(0, letter()).is_ok()).count(), fit);
    }
}

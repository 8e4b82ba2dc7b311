//! The operator socket `run/sps.sock`: takes a request from each asker, puts it into the master's queue, passes the replies on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};
use std::sync::mpsc::{SyncSender, channel};
use std::time::{Duration, Instant};

use sps_daemon::{Exit, Fatal, OrFatal};
use sps_ipc::operator::{MAX_CONVERSATIONS, Reply, Request, decode_request, encode_reply};
use sps_ipc::seqpacket::{Connection, Listener, buffer};

use crate::event::Event;

/// How long an asker may take to ask, and to take a reply.
const ASKER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the master may take for one reply. The longest is a reload: each daemon has 10 s.
const MASTER_TIMEOUT: Duration = Duration::from_secs(120);

/// Connections that may wait in the kernel while all conversations are taken.
const BACKLOG: u16 = 64;

/// Binds the socket and starts the thread that accepts.
pub fn open(path: &Path, events: SyncSender<Event>) -> Result<(), Fatal> {
    // Orders come from root, or from whom we run as: nobody else needs to get in.
    let listener =
        Listener::bind(path, 0o600, BACKLOG).or_fatal(Exit::CantCreate, format!("listen on {}", path.display()))?;
    std::thread::Builder::new()
        .name("door".into())
        .spawn(move || accept(&listener, &events))
        .map(drop)
        .or_fatal(Exit::System, "start the operator thread")
}

fn accept(listener: &Listener, events: &SyncSender<Event>) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let connection = match listener.accept(None) {
            Ok(connection) => connection,
            Err(error) => {
                tracing::error!(%error, "operator socket");
                // Out of descriptors, most likely: others may be closed meanwhile.
                std::thread::sleep(Duration::from_secs(1));
                continue;
            }
        };
        if open.fetch_add(1, AcqRel) >= MAX_CONVERSATIONS {
            refuse(&connection, 75, "too many operators ask at once; try again");
            open.fetch_sub(1, AcqRel);
            continue;
        }
        let (events, taken) = (events.clone(), Taken(open.clone()));
        let conversation = std::thread::Builder::new().name("operator".into()).spawn(move || {
            let _taken = taken;
            converse(&connection, &events);
        });
        if let Err(error) = conversation {
            tracing::error!(%error, "operator thread");
        }
        debug_assert!(open.load(Acquire) <= MAX_CONVERSATIONS + 1);
    }
}

/// One place among the conversations.
struct Taken(Arc<AtomicUsize>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, AcqRel);
    }
}

fn converse(connection: &Connection, events: &SyncSender<Event>) {
    match connection.peer() {
        Ok(peer) if peer.may_order() => {}
        Ok(peer) => {
            tracing::warn!(
                uid = peer.uid,
                pid = peer.pid,
                "a user without the right for it asked for something"
            );
            return refuse(
                connection,
                77,
                "only root and the user that sps-master runs as may do this",
            );
        }
        Err(_) => return,
    }
    let mut frame = buffer();
    let Ok(len) = connection.recv(&mut frame, Some(Instant::now() + ASKER_TIMEOUT)) else {
        return;
    };
    let request = match decode_request(&frame[..len]) {
        Ok((_version, request)) => request,
        Err(reply) => {
            send(connection, &reply);
            return;
        }
    };
    let (reply, replies) = channel();
    if matches!(request, Request::Stop { .. }) {
        // It is never refused, and is answered before it is carried out: the process may end before this thread runs again.
        if send(connection, &Reply::Done(String::new())) && events.send(Event::Asked { request, reply }).is_ok() {
            // The end of this process closes the socket: that is how the asker knows that all is over.
            loop {
                std::thread::park();
            }
        }
        return;
    }
    if events.send(Event::Asked { request, reply }).is_err() {
        return;
    }
    loop {
        // The master dropped the question: it is on its way out.
        let Ok(reply) = replies.recv_timeout(MASTER_TIMEOUT) else {
            return refuse(connection, 75, "sps-master does not answer");
        };
        let last = !matches!(reply, Reply::Progress(_));
        if !send(connection, &reply) || last {
            return;
        }
    }
}

fn refuse(connection: &Connection, code: u8, reason: &str) {
    send(
        connection,
        &Reply::Refused {
            code,
            reason: reason.into(),
        },
    );
}

/// Whether the asker took it.
fn send(connection: &Connection, reply: &Reply) -> bool {
    match encode_reply(reply) {
        Ok(bytes) => connection.send(&bytes, Instant::now() + ASKER_TIMEOUT).is_ok(),
        Err(error) => {
            tracing::error!(%error, "a reply does not fit");
            false
        }
    }
}

//! The proxy's workers: who they are, what they want, and handing connections over to them in turn.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sps_ipc::seqpacket::{AsyncConnection, buffer};
use sps_ipc::tls::{Connect, FromTls, HAND_OVER_TIMEOUT, ToTls, WINDOW};
use sps_ipc::{VERSION, frame};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::connect;
use crate::serve::Shared;

/// One worker's connection.
pub struct Link {
    connection: AsyncConnection,
    window: Arc<Semaphore>,
}

/// All workers that are connected. Clones are the same thing.
#[derive(Clone, Default)]
pub struct Workers(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    links: Vec<Arc<Link>>,
    next: usize,
}

/// Workers at a time: as many as a proxy may have, twice while one replaces another.
pub const MAX_WORKERS: usize = 128;

/// How long a proxy that is not there may take to come back before its connections are given up.
const NO_WORKER_TIMEOUT: Duration = Duration::from_secs(2);

impl Workers {
    fn add(&self, link: Arc<Link>) -> bool {
        let mut state = self.lock();
        let room = state.links.len() < MAX_WORKERS;
        if room {
            state.links.push(link);
        }
        room
    }

    fn remove(&self, link: &Arc<Link>) {
        self.lock().links.retain(|other| !Arc::ptr_eq(other, link));
    }

    fn next(&self) -> Option<Arc<Link>> {
        let mut state = self.lock();
        state.next = state.next.wrapping_add(1);
        let count = state.links.len();
        (count > 0).then(|| state.links[state.next % count].clone())
    }

    /// Gives a connection to the next worker that takes it. Gives our end of its stream.
    pub async fn hand_over(&self, message: &FromTls) -> io::Result<UnixStream> {
        let give_up_at = Instant::now() + NO_WORKER_TIMEOUT;
        loop {
            if let Some(link) = self.next()
                && let Ok(ours) = link.send_stream(message).await
            {
                return Ok(ours);
            }
            if Instant::now() >= give_up_at {
                return Err(io::ErrorKind::TimedOut.into());
            }
            tokio::time::sleep(RETRY_WAIT).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const RETRY_WAIT: Duration = Duration::from_millis(20);

impl Link {
    /// Sends a message with one end of a new stream, and gives the other.
    pub async fn send_stream(&self, message: &FromTls) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = OwnedFd::from(theirs.into_std()?);
        let bytes = frame::encode(message).map_err(io::Error::other)?;
        self.send_when_room(|| self.connection.try_send_with(&bytes, theirs.as_fd()))
            .await?;
        Ok(ours)
    }

    /// Sends a message without one.
    pub async fn send(&self, message: &FromTls) -> io::Result<()> {
        let bytes = frame::encode(message).map_err(io::Error::other)?;
        self.send_when_room(|| self.connection.try_send(&bytes)).await
    }

    async fn send_when_room(&self, mut send: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        let sending = async {
            loop {
                match send() {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.connection.writable().await?,
                    done => return done,
                }
            }
        };
        timeout(HAND_OVER_TIMEOUT, sending)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Serves one worker until it hangs up.
pub async fn serve(shared: Arc<Shared>, connection: AsyncConnection) {
    let mut room = buffer();
    if !greet(&connection, &mut room).await {
        return;
    }
    let link = Arc::new(Link {
        connection,
        window: Arc::new(Semaphore::new(WINDOW)),
    });
    if !shared.workers.add(link.clone()) {
        tracing::warn!("more than {MAX_WORKERS} proxy workers; one is sent away");
        return;
    }
    tracing::debug!("a proxy worker is connected");
    while let Ok(len @ 1..) = link.connection.recv(&mut room).await {
        match frame::decode::<ToTls>(&room[..len]) {
            Ok(ToTls::Connect(want)) => begin(&shared, &link, want),
            Ok(ToTls::Hello { .. }) | Err(_) => {
                tracing::error!("a proxy worker sent what is not understood; hanging up");
                break;
            }
        }
    }
    shared.workers.remove(&link);
    tracing::debug!("a proxy worker is gone");
}

fn begin(shared: &Arc<Shared>, link: &Arc<Link>, want: Connect) {
    let (shared, link) = (shared.clone(), link.clone());
    let permit = link.window.clone().try_acquire_owned();
    tokio::spawn(async move { connect::run(shared, link, want, permit.ok()).await });
}

/// Whether the first message is a hello of our version.
async fn greet(connection: &AsyncConnection, room: &mut [u8]) -> bool {
    let hello = timeout(HELLO_TIMEOUT, connection.recv(room)).await;
    match hello {
        Ok(Ok(len @ 1..)) => match frame::decode(&room[..len]) {
            Ok(ToTls::Hello { version: VERSION }) => true,
            Ok(ToTls::Hello { .. } | ToTls::Connect(_)) | Err(_) => {
                tracing::error!("a proxy of another build wants connections; hanging up");
                false
            }
        },
        _ => false,
    }
}

const HELLO_TIMEOUT: Duration = Duration::from_secs(2);

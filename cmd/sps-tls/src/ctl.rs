//! What operators ask: certificates, figures, connections.

use std::sync::Arc;
use std::time::Duration;

use sps_ipc::frame;
use sps_ipc::seqpacket::{AsyncConnection, AsyncListener, buffer};
use sps_ipc::tls_ctl::{MAX_CONVERSATIONS, Reply, Request};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::serve::Shared;

/// An asker that says nothing for so long is hung up on.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Answers for ever.
pub async fn run(shared: Arc<Shared>, door: AsyncListener) {
    let room = Arc::new(Semaphore::new(MAX_CONVERSATIONS));
    loop {
        match door.accept().await {
            Ok(connection) => {
                let Ok(permit) = room.clone().try_acquire_owned() else {
                    continue;
                };
                if connection.peer().is_ok_and(|peer| peer.is_of_us()) {
                    let shared = shared.clone();
                    tokio::spawn(async move {
                        answer(&shared, &connection).await;
                        drop(permit);
                    });
                }
            }
            Err(error) => {
                tracing::error!(%error, "accept at tls.ctl");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(shared: &Shared, connection: &AsyncConnection) {
    let mut room = buffer();
    while let Ok(Ok(len @ 1..)) = timeout(IDLE_TIMEOUT, connection.recv(&mut room)).await {
        let reply = match frame::decode(&room[..len]) {
            Ok(Request::State) => Reply::State {
                certificates: shared.context.get().certificates.clone(),
                figures: shared.peers.named_figures(),
            },
            Ok(Request::Peers { after }) => {
                let (peers, more) = shared.peers.page(after);
                Reply::Peers { peers, more }
            }
            Err(_) => return,
        };
        let Ok(bytes) = frame::encode(&reply) else {
            tracing::error!("a reply at tls.ctl is too long");
            return;
        };
        if !matches!(timeout(IDLE_TIMEOUT, connection.send(&bytes)).await, Ok(Ok(()))) {
            return;
        }
    }
}

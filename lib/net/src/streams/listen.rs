//! Accepting connections.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use socket2::SockRef;
use sps_wire::flow::Transport;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::Streams;
use super::queue::Place;

/// Accepts until [`Streams::close_all`].
pub(super) async fn run(streams: Streams, listener: TcpListener) {
    let mut place = Place::default();
    loop {
        let stop = streams.shared.stop.notified();
        if streams.shared.stopped.get() {
            return;
        }
        let accepted = tokio::select! {
            () = stop => return,
            accepted = async {
                poll_fn(|cx| streams.shared.queue.poll_room(&mut place, cx)).await;
                listener.accept().await
            } => accepted,
        };
        match accepted {
            Ok((stream, remote)) => {
                let taken = prepare(&streams, &stream).and_then(|local| {
                    streams
                        .adopt(stream, Transport::Tcp, local, remote)
                        .map_err(io::Error::other)
                });
                if let Err(error) = taken {
                    tracing::debug!(%remote, %error, "connection refused");
                }
            }
            // The peer gave up before we came to it; Linux also hands errors of the network to `accept` (accept(2)).
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                streams.shared.count(|counters| counters.accept_errors += 1);
                tracing::debug!(%error, "accept");
                // Out of descriptors or memory: trying again at once would only burn the processor.
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Options of every TCP connection; returns our end's address.
pub(super) fn prepare(streams: &Streams, stream: &TcpStream) -> io::Result<std::net::SocketAddr> {
    set_options(stream, streams.shared.conf.write_timeout)?;
    stream.local_addr()
}

/// Messages go out as they come, and a peer that is gone is found out by what it does not acknowledge.
pub(super) fn set_options(stream: &TcpStream, unacknowledged: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(unacknowledged))
}

fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable,
        TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | NetworkDown
            | NetworkUnreachable
            | TimedOut
    )
}

/// How long accepting rests after a failure of our own machine.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

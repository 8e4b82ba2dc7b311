//! Peers that connect: accepted within the caps, shaken hands with in time, handed over, pumped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::UnixTime;
use sps_daemon::RateLimit;
use sps_ipc::tls::{FromTls, Secured};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::identity;
use crate::peers::{Full, Place, Source, count};
use crate::pump::{self, End, Times};
use crate::serve::Shared;
use crate::trust::Purpose;
use crate::words::explain;

/// Refusals that are told in a second; what is held back is counted.
static REFUSALS: RateLimit = RateLimit::per_second(5);
static EVICTIONS: RateLimit = RateLimit::per_second(1);
static FULL: RateLimit = RateLimit::per_second(1);
static CUT: RateLimit = RateLimit::per_second(5);

/// How long accepting rests after a failure of our own machine.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts on one listener for ever.
pub async fn run(shared: Arc<Shared>, listener: TcpListener, listen: u16) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => take(&shared, stream, remote, listen),
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                if let Some(held_back) = FULL.pass() {
                    tracing::error!(%error, held_back, "accept");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Begins the handshake if there is room for the connection.
fn take(shared: &Arc<Shared>, stream: TcpStream, remote: SocketAddr, listen: u16) {
    let context = shared.context.get();
    let source = Source::from(remote.ip());
    let figures = shared.peers.figures();
    let place = match shared
        .peers
        .place(source, context.max_connections, context.max_connections_per_source)
    {
        Ok(place) => place,
        Err(full) => {
            let (figure, key) = match full {
                Full::Total => (&figures.refused_total, "max_connections in [proxy]"),
                Full::Source => (&figures.refused_source, "max_connections_per_source in [proxy]"),
            };
            count(figure);
            if let Some(held_back) = FULL.pass() {
                tracing::warn!(%remote, held_back, "connection refused: there are as many as {key} allows");
            }
            return;
        }
    };
    let (begun, evicted) = shared.handshakes.begin(source, context.max_handshakes);
    if evicted {
        count(&figures.handshakes_evicted);
        if let Some(held_back) = EVICTIONS.pass() {
            tracing::warn!(
                held_back,
                "more than {} handshakes at once: the oldest of whoever has the most is given up",
                context.max_handshakes
            );
        }
    }
    let id = begun.id();
    let shaking = tokio::spawn({
        let shared = shared.clone();
        async move {
            let shaken = shake_hands(&shared, stream, remote, listen).await;
            drop(begun);
            // In a task of its own, which nobody gives up.
            if let Some((tls, secured)) = shaken {
                tokio::spawn(serve(shared, tls, secured, place));
            }
        }
    });
    shared.handshakes.runs(source, id, shaking.abort_handle());
}

async fn shake_hands(
    shared: &Shared,
    stream: TcpStream,
    remote: SocketAddr,
    listen: u16,
) -> Option<(TlsStream<TcpStream>, Secured)> {
    let context = shared.context.get();
    let figures = shared.peers.figures();
    let local = stream.local_addr().ok()?;
    set_options(&stream);
    let accepting = TlsAcceptor::from(context.server(listen)?).accept(stream);
    let why = match timeout(context.handshake_timeout, accepting).await {
        Ok(Ok(tls)) => {
            let tls = TlsStream::from(tls);
            match secured(&tls, local, remote, |certificate, chain| {
                // What a ticket remembers was good when it was given; it must be good now.
                context
                    .trust
                    .check(certificate, chain, UnixTime::now(), Purpose::Client)
            }) {
                Ok(secured) => {
                    count(&figures.accepted);
                    if is_resumed(&tls) {
                        count(&figures.resumed);
                    }
                    return Some((tls, secured));
                }
                Err(error) => explain(&std::io::Error::other(error)),
            }
        }
        Ok(Err(error)) => explain(&error),
        Err(_) => format!("the handshake took longer than {:?}", context.handshake_timeout),
    };
    count(&figures.handshakes_failed);
    if let Some(held_back) = REFUSALS.pass() {
        tracing::warn!(%remote, %local, held_back, "TLS refused: {why}");
    }
    None
}

/// What a finished handshake says about the peer. A resumed one is checked again.
pub fn secured(
    tls: &TlsStream<TcpStream>,
    local: SocketAddr,
    remote: SocketAddr,
    check_again: impl FnOnce(
        &rustls_pki_types::CertificateDer<'_>,
        &[rustls_pki_types::CertificateDer<'_>],
    ) -> Result<(), rustls::Error>,
) -> Result<Secured, rustls::Error> {
    let (_, session) = tls.get_ref();
    let names = match session.peer_certificates() {
        Some([certificate, chain @ ..]) => {
            if is_resumed(tls) {
                check_again(certificate, chain)?;
            }
            Some(identity::proved(certificate, remote.ip()))
        }
        Some([]) | None => None,
    };
    let cipher = session
        .negotiated_cipher_suite()
        .map_or_else(String::new, |suite| format!("{:?}", suite.suite()));
    Ok(Secured {
        connection: 0,
        local,
        remote,
        names,
        cipher,
    })
}

pub fn is_resumed(tls: &TlsStream<TcpStream>) -> bool {
    let (_, session) = tls.get_ref();
    session.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
}

/// Hands an accepted connection over and pumps it to its end.
async fn serve(shared: Arc<Shared>, tls: TlsStream<TcpStream>, secured: Secured, _place: Place) {
    let (_entered, secured) = shared.peers.enter(false, secured);
    tracing::debug!(remote = %secured.remote, names = ?secured.names, cipher = secured.cipher, "TLS accepted");
    let remote = secured.remote;
    match shared.workers.hand_over(&FromTls::Accepted(secured)).await {
        Ok(plain) => finish(&shared, remote, pump::run(tls, plain, Times::default()).await),
        Err(error) => {
            count(&shared.peers.figures().not_handed_over);
            if let Some(held_back) = REFUSALS.pass() {
                tracing::error!(%remote, held_back, %error, "no proxy worker takes a connection; it is closed");
            }
        }
    }
}

/// Tells of a connection that ended otherwise than by one side hanging up.
pub fn finish(shared: &Shared, remote: SocketAddr, end: End) {
    let why = match end {
        End::Both | End::Half | End::Plain => return,
        End::Stuck => "a side took no bytes for too long".to_owned(),
        End::Tls(error) if crate::words::tls_error(&error).is_some() => explain(&error),
        End::Tls(_) => return,
    };
    count(&shared.peers.figures().cut);
    if let Some(held_back) = CUT.pass() {
        tracing::warn!(%remote, held_back, "TLS connection cut: {why}");
    }
}

/// Messages go out as they come, and a peer that is gone is found out by what it does not acknowledge.
pub fn set_options(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(Times::default().stuck));
}

fn is_the_peers(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{
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

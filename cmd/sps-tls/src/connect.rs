//! Connections that a worker wants: opened, shaken hands with, the peer's name looked at, pumped.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier;
use rustls::{CertificateError, Error};
use rustls_pki_types::{ServerName, UnixTime};
use sps_daemon::RateLimit;
use sps_ipc::tls::{Connect, FromTls, Refusal, Secured};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};

use crate::accept::{finish, is_resumed, secured, set_options};
use crate::peers::count;
use crate::pump::{self, Times};
use crate::serve::Shared;
use crate::trust::Servers;
use crate::words::{explain, tls_error};
use crate::workers::Link;

static REFUSALS: RateLimit = RateLimit::per_second(5);

/// Opens a connection, tells the worker, and pumps it to its end. Without a permit too many are open already.
pub async fn run(shared: Arc<Shared>, link: Arc<Link>, want: Connect, permit: Option<OwnedSemaphorePermit>) {
    let opened = match &permit {
        Some(_) => open(&shared, &want).await,
        None => Err((Refusal::Busy, "too many are being opened".to_owned())),
    };
    drop(permit);
    let (tls, secured) = match opened {
        Ok(opened) => opened,
        Err((why, text)) => {
            count(&shared.peers.figures().connects_failed);
            if let Some(held_back) = REFUSALS.pass() {
                tracing::warn!(remote = %want.remote, name = want.name, held_back, "TLS to a server failed: {text}");
            }
            // A worker that is gone need not know.
            let _ = link.send(&FromTls::Refused { id: want.id, why }).await;
            return;
        }
    };
    count(&shared.peers.figures().connected);
    if is_resumed(&tls) {
        count(&shared.peers.figures().resumed);
    }
    let (_entered, secured) = shared.peers.enter(true, secured);
    tracing::debug!(remote = %secured.remote, names = ?secured.names, cipher = secured.cipher, "TLS to a server stands");
    let connected = FromTls::Connected { id: want.id, secured };
    if let Ok(plain) = link.send_stream(&connected).await {
        finish(&shared, want.remote, pump::run(tls, plain, Times::default()).await);
    }
}

async fn open(shared: &Shared, want: &Connect) -> Result<(TlsStream<TcpStream>, Secured), (Refusal, String)> {
    let context = shared.context.get();
    let name = ServerName::try_from(want.name.clone()).map_err(|_| {
        (
            Refusal::Name,
            format!("{:?} is no name that a certificate could bear", want.name),
        )
    })?;
    let within = Duration::from_millis(want.within_ms.into());
    let opening = async {
        let stream = socket(want.remote, want.source)?.connect(want.remote).await?;
        let local = stream.local_addr()?;
        set_options(&stream);
        Ok::<_, io::Error>((stream, local))
    };
    let deadline = tokio::time::Instant::now() + within;
    let (stream, local) = match tokio::time::timeout_at(deadline, opening).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return Err((Refusal::Unreachable, error.to_string())),
        Err(_) => return Err((Refusal::TimedOut, format!("not connected within {within:?}"))),
    };
    let left = deadline.saturating_duration_since(tokio::time::Instant::now());
    let limit = context.handshake_timeout.min(left);
    let shaking = TlsConnector::from(context.client.clone()).connect(name.clone(), stream);
    let tls = match timeout(limit, shaking).await {
        Ok(Ok(tls)) => TlsStream::from(tls),
        Ok(Err(error)) => return Err((refusal(&error), explain(&error))),
        Err(_) => return Err((Refusal::TimedOut, format!("the handshake took longer than {limit:?}"))),
    };
    let verifier = Servers {
        trust: context.trust.clone(),
        verify: context.verify_server,
    };
    let mut secured = secured(&tls, local, want.remote, |certificate, chain| {
        verifier
            .verify_server_cert(certificate, chain, &name, &[], UnixTime::now())
            .map(drop)
    })
    .map_err(|error| {
        let error = io::Error::other(error);
        (refusal(&error), explain(&error))
    })?;
    if !context.verify_server {
        // It says so; nobody has looked.
        secured.names = None;
    }
    Ok((tls, secured))
}

fn socket(remote: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpSocket> {
    let socket = if remote.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    if let Some(source) = source.filter(|source| !source.is_unspecified() && source.is_ipv4() == remote.is_ipv4()) {
        // The port is chosen on connecting: one local port serves connections to different peers.
        sps_mmsg::options::choose_port_on_connect(socket.as_fd())?;
        socket.bind(SocketAddr::new(source, 0))?;
    }
    Ok(socket)
}

fn refusal(error: &io::Error) -> Refusal {
    match tls_error(error) {
        Some(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })) => Refusal::Name,
        Some(_) => Refusal::Handshake,
        None => Refusal::Unreachable,
    }
}

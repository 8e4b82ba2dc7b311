//! Connections that others open for us: TLS, whose keys are not ours to hold.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;

use super::CloseReason;

/// Opens TLS connections and gives plain streams.
pub trait Opener {
    /// Begins to open one. Dropped, nobody wants it any more.
    fn open(&self, want: Want) -> Opening;
}

/// A connection on its way.
pub type Opening = Pin<Box<dyn Future<Output = Result<Opened, CloseReason>>>>;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Where to.
    pub remote: SocketAddr,
    /// Where from; unset: as the system likes.
    pub source: Option<IpAddr>,
    /// What the peer must prove to be: a host name in lower case, or an address without brackets.
    pub name: Arc<str>,
    /// All of it may take so long.
    pub within: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Opened {
    /// What is read there the peer has sent.
    pub stream: UnixStream,
    /// Our end of the connection.
    pub local: SocketAddr,
}

//! TLS for the ends of the tests: certificates made on the spot, and connections in threads of their own.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, RootCertStore, ServerConfig, ServerConnection, SideData,
};

use crate::wait::PATIENCE;

/// A CA of one test.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// What a certificate is to say.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    names: Vec<SanType>,
    expired: bool,
    purposes: Vec<ExtendedKeyUsagePurpose>,
}

impl Wanted {
    /// Nothing yet.
    pub fn new() -> Wanted {
        Wanted::default()
    }

    /// A DNS name.
    pub fn dns(mut self, name: &str) -> Wanted {
        self.names
            .push(SanType::DnsName(name.try_into().expect("a name is ASCII")));
        self
    }

    /// A URI.
    pub fn uri(mut self, uri: &str) -> Wanted {
        self.names.push(SanType::URI(uri.try_into().expect("a URI is ASCII")));
        self
    }

    /// An address.
    pub fn ip(mut self, ip: IpAddr) -> Wanted {
        self.names.push(SanType::IpAddress(ip));
        self
    }

    /// It held until 2020.
    pub fn expired(mut self) -> Wanted {
        self.expired = true;
        self
    }

    /// What it is for.
    pub fn purpose(mut self, purpose: ExtendedKeyUsagePurpose) -> Wanted {
        self.purposes.push(purpose);
        self
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.subject_alt_names.clone_from(&self.names);
        params.extended_key_usages.clone_from(&self.purposes);
        params
            .distinguished_name
            .push(DnType::CommonName, "common.name.example");
        if self.expired {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        params
    }

    /// Signed by nobody but itself.
    pub fn self_signed(&self) -> Issued {
        let key = KeyPair::generate().expect("keys can be made");
        let certificate = self.params().self_signed(&key).expect("it can be signed");
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A certificate and its key, both PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl Issued {
    /// Puts both into a folder as `NAME.pem` and `NAME.key`, the latter for its owner alone.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        use std::os::unix::fs::PermissionsExt;
        fs::create_dir_all(folder).expect("a folder can be made");
        let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        fs::write(&certificate, &self.certificate).expect("a file can be written");
        fs::write(&key, &self.key).expect("a file can be written");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("a mode can be set");
        (certificate, key)
    }
}

impl Authority {
    /// A new one.
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test CA");
        let key = KeyPair::generate().expect("keys can be made");
        let pem = params.self_signed(&key).expect("it can be signed").pem();
        Authority {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Its own certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs a new certificate.
    pub fn issue(&self, wanted: &Wanted) -> Issued {
        let key = KeyPair::generate().expect("keys can be made");
        let certificate = wanted.params().signed_by(&key, &self.issuer).expect("it can be signed");
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// One for a DNS name.
    pub fn issue_for(&self, name: &str) -> Issued {
        self.issue(&Wanted::new().dns(name))
    }
}

impl Default for Authority {
    fn default() -> Self {
        Authority::new()
    }
}

/// What an end shows and believes.
#[derive(Clone)]
pub struct TlsEnd {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    /// Whom it expects where it connects to.
    name: String,
}

impl TlsEnd {
    /// Believes `authority`; expects `name` where it connects to; shows `own` to who connects, and where it is asked for one
    /// if `as_client`.
    pub fn new(authority: &Authority, name: &str, own: &Issued, as_client: bool) -> TlsEnd {
        let provider = Arc::new(ring::default_provider());
        let chain = || CertificateDer::pem_slice_iter(own.certificate.as_bytes()).map(|der| der.expect("it is PEM"));
        let key = || PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("it is a key");
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("it is PEM");
        roots.add(root).expect("a CA can be believed");
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring has both")
            .with_root_certificates(roots);
        let client = if as_client {
            client
                .with_client_auth_cert(chain().collect(), key())
                .expect("key and certificate belong together")
        } else {
            client.with_no_client_auth()
        };
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has both")
            .with_no_client_auth()
            .with_single_cert(chain().collect(), key())
            .expect("key and certificate belong together");
        TlsEnd {
            client: Arc::new(client),
            server: Arc::new(server),
            name: name.to_owned(),
        }
    }
}

/// Bytes in pieces as they come, with the other end.
type Pieces = Sender<(Vec<u8>, SocketAddr)>;

/// All connections of one end.
pub(crate) struct Wire {
    end: TlsEnd,
    pieces: Pieces,
    connections: Connections,
}

type Connections = Arc<Mutex<Vec<(SocketAddr, Sender<Vec<u8>>)>>>;

impl Wire {
    /// Listens on a free port of `ip`; what comes goes to `pieces`.
    pub(crate) fn new(ip: IpAddr, end: TlsEnd, pieces: Pieces) -> (Wire, SocketAddr) {
        let listener = TcpListener::bind((ip, 0)).expect("a port is free");
        let local = listener.local_addr().expect("a bound socket has an address");
        let wire = Wire {
            end,
            pieces,
            connections: Arc::default(),
        };
        let (config, pieces, connections) = (wire.end.server.clone(), wire.pieces.clone(), wire.connections.clone());
        // Ends with the test program, as for TCP.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let session = ServerConnection::new(config.clone()).expect("a good configuration");
                adopt(session.into(), stream, &pieces, &connections);
            }
        });
        (wire, local)
    }

    /// Sends on the connection to `to`, or on a new one.
    pub(crate) fn send(&self, to: SocketAddr, bytes: &[u8]) {
        let known = {
            let connections = self.connections.lock().expect("no holder panics");
            connections
                .iter()
                .find(|(peer, _)| *peer == to)
                .map(|(_, way)| way.clone())
        };
        let way = known.unwrap_or_else(|| {
            let stream =
                TcpStream::connect_timeout(&to, PATIENCE).unwrap_or_else(|error| panic!("connect {to}: {error}"));
            let name = ServerName::try_from(self.end.name.clone()).expect("a name");
            let session = ClientConnection::new(self.end.client.clone(), name).expect("a good configuration");
            adopt(session.into(), stream, &self.pieces, &self.connections)
        });
        // A connection that is gone loses it, as a wire does.
        let _ = way.send(bytes.to_vec());
    }

    /// Whether there is a connection with `peer`.
    pub(crate) fn has(&self, peer: SocketAddr) -> bool {
        let connections = self.connections.lock().expect("no holder panics");
        connections.iter().any(|(known, _)| *known == peer)
    }

    /// The other ends of all connections.
    pub(crate) fn peers(&self) -> Vec<SocketAddr> {
        let connections = self.connections.lock().expect("no holder panics");
        connections.iter().map(|(peer, _)| *peer).collect()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Their threads see that nobody sends any more.
        self.connections.lock().expect("no holder panics").clear();
    }
}

/// Serves a connection in a thread of its own; gives the way to send on it.
fn adopt(session: Session, stream: TcpStream, pieces: &Pieces, connections: &Connections) -> Sender<Vec<u8>> {
    let peer = stream.peer_addr().expect("a connection has two ends");
    let (way, to_send) = channel();
    connections.lock().expect("no holder panics").push((peer, way.clone()));
    let (pieces, connections) = (pieces.clone(), connections.clone());
    thread::spawn(move || {
        match session {
            Session::Client(session) => run(*session, stream, peer, &pieces, &to_send),
            Session::Server(session) => run(*session, stream, peer, &pieces, &to_send),
        }
        let mut connections = connections.lock().expect("no holder panics");
        connections.retain(|(known, _)| *known != peer);
    });
    way
}

enum Session {
    Client(Box<ClientConnection>),
    Server(Box<ServerConnection>),
}

impl From<ClientConnection> for Session {
    fn from(session: ClientConnection) -> Self {
        Session::Client(Box::new(session))
    }
}

impl From<ServerConnection> for Session {
    fn from(session: ServerConnection) -> Self {
        Session::Server(Box::new(session))
    }
}

fn run<C, D>(mut session: C, mut stream: TcpStream, peer: SocketAddr, pieces: &Pieces, to_send: &Receiver<Vec<u8>>)
where
    C: std::ops::DerefMut<Target = ConnectionCommon<D>>,
    D: SideData,
{
    stream.set_read_timeout(Some(LOOK)).expect("a timeout can be set");
    let _ = stream.set_nodelay(true);
    loop {
        loop {
            match to_send.try_recv() {
                Ok(bytes) => drop(session.writer().write_all(&bytes)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    session.send_close_notify();
                    while session.wants_write() && session.write_tls(&mut stream).is_ok() {}
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                    return;
                }
            }
        }
        while session.wants_write() {
            if session.write_tls(&mut stream).is_err() {
                return;
            }
        }
        match session.read_tls(&mut stream) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => return,
        }
        if let Err(error) = session.process_new_packets() {
            while session.wants_write() && session.write_tls(&mut stream).is_ok() {}
            eprintln!("--- TLS with {peer}: {error}");
            return;
        }
        let mut buffer = [0; 16_384];
        while let Ok(len @ 1..) = session.reader().read(&mut buffer) {
            if pieces.send((buffer[..len].to_vec(), peer)).is_err() {
                return;
            }
        }
    }
}

/// How long a connection waits for bytes before it looks whether there is something to send.
const LOOK: Duration = Duration::from_millis(2);

//! What handshakes work by: made whole from one configuration, replaced whole by the next. Connections that stand keep theirs.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::ring::Ticketer;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion, version};
use sps_conf::{Ca, ClientCertificate, Tls, TlsVersion};
use sps_daemon::{Exit, Fatal};
use sps_ipc::parent::Frozen;
use sps_ipc::tls_ctl::Certificate;

use crate::material::{self, Shown};
use crate::trust::{Clients, Servers, Trust};

/// Everything made of one configuration.
pub struct Context {
    /// By index of `[[listen]]`; those of other transports have none.
    servers: Vec<Option<Arc<ServerConfig>>>,
    /// For connections of ours.
    pub client: Arc<ClientConfig>,
    pub trust: Arc<Trust>,
    /// Whether servers must prove their name.
    pub verify_server: bool,
    pub handshake_timeout: Duration,
    pub max_handshakes: usize,
    pub max_connections: usize,
    pub max_connections_per_source: usize,
    /// As operators are told of them.
    pub certificates: Vec<Certificate>,
}

impl Context {
    /// Refused with the file and what was expected.
    pub fn new(frozen: &Frozen) -> Result<Self, String> {
        let tls = &frozen.conf.tls;
        let (shown, certificates) = Shown::new(&frozen.tls).map_err(|error| error.to_string())?;
        let shown = Arc::new(shown);
        let authorities = material::authorities(&frozen.tls.ca).map_err(|error| error.to_string())?;
        let (trust, unreadable) = Trust::new(authorities, matches!(tls.ca, Ca::File(_)));
        if unreadable > 0 {
            tracing::warn!(file = %frozen.tls.ca.path.display(), "{unreadable} CAs could not be read and are not believed");
        }
        if trust.len() == 0 && tls.verify_server {
            tracing::warn!("no CA is known (ca in [tls]): no server that we connect to can prove its name");
        }
        let trust = Arc::new(trust);
        let mut servers = Vec::new();
        for listen in &frozen.conf.listen {
            let mode = listen.client_certificate.unwrap_or(tls.client_certificate);
            let is_tls = listen.transport == sps_conf::Transport::Tls;
            servers.push(if is_tls {
                // Each listener has tickets of its own: one that was given where no certificate is asked for is nothing elsewhere.
                Some(Arc::new(
                    server(tls, mode, &shown, &trust).map_err(|error| error.to_string())?,
                ))
            } else {
                None
            });
        }
        Ok(Self {
            servers,
            client: Arc::new(client(tls, shown, &trust).map_err(|error| error.to_string())?),
            trust,
            verify_server: tls.verify_server,
            handshake_timeout: tls.handshake_timeout,
            max_handshakes: tls.max_handshakes,
            max_connections: frozen.conf.proxy.max_connections,
            max_connections_per_source: frozen.conf.proxy.max_connections_per_source,
            certificates,
        })
    }

    /// For connections to the listener of that index.
    pub fn server(&self, listen: u16) -> Option<Arc<ServerConfig>> {
        self.servers.get(usize::from(listen))?.clone()
    }
}

/// The context in force, shared by all.
#[derive(Clone)]
pub struct InForce(Arc<RwLock<Arc<Context>>>);

impl InForce {
    pub fn new(context: Context) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(context))))
    }

    pub fn get(&self) -> Arc<Context> {
        match self.0.read() {
            Ok(context) => context.clone(),
            // Nobody panics while holding it; the value is whole in any case.
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    pub fn replace(&self, context: Context) {
        let context = Arc::new(context);
        match self.0.write() {
            Ok(mut held) => *held = context,
            Err(poisoned) => *poisoned.into_inner() = context,
        }
    }
}

/// What goes wrong here is the configuration's fault.
pub fn or_fatal(context: Result<Context, String>) -> Result<Context, Fatal> {
    context.map_err(|text| Fatal::new(Exit::Config, format!("[tls] {text}")))
}

fn server(
    tls: &Tls,
    mode: ClientCertificate,
    shown: &Arc<Shown>,
    trust: &Arc<Trust>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions(tls.min_version))?;
    let verifier = match mode {
        ClientCertificate::None => WebPkiClientVerifier::no_client_auth(),
        ClientCertificate::Request | ClientCertificate::Require => Arc::new(Clients {
            trust: trust.clone(),
            required: mode == ClientCertificate::Require,
        }),
    };
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(shown.clone());
    // Tickets keep the session at the client; only who takes none costs us memory.
    config.session_storage = match tls.session_cache {
        0 => Arc::new(NoServerSessionStorage {}) as Arc<dyn StoresServerSessions>,
        sessions => ServerSessionMemoryCache::new(sessions),
    };
    if tls.session_cache > 0 {
        config.ticketer = Ticketer::new()?;
    } else {
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

fn client(tls: &Tls, shown: Arc<Shown>, trust: &Arc<Trust>) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(tls.min_version))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Servers {
            trust: trust.clone(),
            verify: tls.verify_server,
        }))
        .with_client_cert_resolver(shown);
    config.resumption = match tls.session_cache {
        0 => Resumption::disabled(),
        // Of a server several tickets are kept.
        sessions => Resumption::in_memory_sessions(sessions.min(MAX_SERVERS)),
    };
    Ok(config)
}

/// Servers whose sessions are remembered; rustls keeps eight tickets of each.
const MAX_SERVERS: usize = 1_000;

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
    match min {
        TlsVersion::V1_2 => &BOTH,
        TlsVersion::V1_3 => &BOTH[..1],
    }
}

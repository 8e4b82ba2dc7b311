//! What a checked configuration holds. One struct a section of `sps.toml`, one field a key, units made into types.
//!
//! Everything is plain data and serialises with any serde format, so that the master can freeze it for its children.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sps_wire::flow;

/// A configuration that has passed every check. Made by [`Config::load`]; the meaning of each key is in sps.toml(5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// `[server]`: who we are and how many of us.
    pub server: Server,
    /// `[[listen]]`: at least one.
    pub listen: Vec<Listen>,
    /// `[tls]`: certificates, whom we trust, bounds.
    pub tls: Tls,
    /// `[proxy]`: forwarding, timers and bounds.
    pub proxy: Proxy,
    /// `[overload]`: what happens when there is more to do than can be done.
    pub overload: Overload,
    /// `[registrar]`: what REGISTER may ask for.
    pub registrar: Registrar,
    /// `[[access]]`: listed sources, first match wins.
    pub access: Vec<Access>,
    /// `[guard]`: from when on a source is not listened to.
    pub guard: Guard,
    /// `[dns]`: whom we ask for names.
    pub dns: Dns,
    /// `[log]`: what is written and where.
    pub log: Log,
}

/// `[server]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Our domain: the E.164 name space, lower case, no trailing dot. An address literal is allowed.
    pub domain: String,
    /// Further name spaces that are ours too; lower case, without `domain` itself.
    pub domains: Vec<String>,
    /// Worker threads of the proxy; 0 means one a processor, see [`Server::worker_count`].
    pub workers: u16,
    /// Whom the daemons run as when the master is started as root.
    pub user: String,
    /// True when everybody may use gateways and foreign domains, and that is meant.
    pub open_relay: bool,
    /// Our number in a farm; goes into flow tokens.
    pub member: u16,
}

/// `[[listen]]`: one socket address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listen {
    /// What is spoken there.
    pub transport: Transport,
    /// The address to bind; may be a wildcard.
    pub address: IpAddr,
    /// The port to bind; 0 lets the system choose.
    pub port: u16,
    /// What Via and Record-Route say instead of the address.
    pub advertise: Option<Advertise>,
    /// Whether clients of this TLS listener show certificates; unset: what `[tls]` says.
    pub client_certificate: Option<ClientCertificate>,
}

/// Transports that a listener may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Streams, framed by Content-Length.
    Tcp,
    /// The same inside TLS, which `sps-tls` terminates.
    Tls,
}

/// `[tls]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// `[[tls.certificate]]`: what we show of ourselves, the default first.
    pub certificate: Vec<Certificate>,
    /// Whose signatures we believe.
    pub ca: Ca,
    /// Whether we ask clients for certificates.
    pub client_certificate: ClientCertificate,
    /// Whether a server we connect to must prove its name.
    pub verify_server: bool,
    /// Whether the Via of a client that showed a certificate must name what the certificate does.
    pub match_via: bool,
    /// The oldest version of TLS that is spoken.
    pub min_version: TlsVersion,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Handshakes under way at once; beyond it the oldest one is given up.
    pub max_handshakes: usize,
    /// Sessions remembered for clients that take no tickets, and for servers.
    pub session_cache: usize,
    /// Whom `sps-tls` runs as when the master is started as root.
    pub user: String,
}

/// `[[tls.certificate]]`: one certificate with its chain, and the key that belongs to it. Relative paths lie beside `sps.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// PEM: our certificate first, then those that lead to a CA.
    pub certificate: PathBuf,
    /// PEM: the private key.
    pub key: PathBuf,
    /// Names by which clients choose it (SNI) beyond those in the certificate itself.
    pub names: Vec<String>,
}

/// Whose signatures are believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ca {
    /// Those that the system's operator trusts.
    System,
    /// Those in this file (PEM) and nobody else. A relative path lies beside `sps.toml`.
    File(PathBuf),
}

/// What becomes of clients' certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientCertificate {
    /// None is asked for.
    None,
    /// Asked for; who shows one must show a good one.
    Request,
    /// Who shows none is not let in.
    Require,
}

/// Versions of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    /// RFC 5246.
    V1_2,
    /// RFC 8446.
    V1_3,
}

/// The name or address, and perhaps the port, under which others reach a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advertise {
    /// A host name or an address as it stands in a Via: an IPv6 address has its brackets.
    pub host: String,
    /// Unset: the listener's own port.
    pub port: Option<u16>,
}

/// `[proxy]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxy {
    /// What is done with a request that is not for the registrar.
    pub mode: Mode,
    /// Follow the contacts of a 3xx from downstream (§16.5, §16.7 step 4).
    pub recurse: bool,
    /// Obey the `action` parameter that a Contact was registered with.
    pub caller_preferences: bool,
    /// Stay in the path of a dialog (RFC 3261 §16.6 step 4).
    pub record_route: bool,
    /// How several contacts of equal standing are tried.
    pub fork: Fork,
    /// RFC 5393 §5.3.3: branches of one request at once, those that other proxies begin for it included.
    pub max_breadth: u16,
    /// T1, the estimate of a round trip (RFC 3261 §17.1.1.1).
    pub t1: Duration,
    /// T2, the longest wait between retransmissions of a non-INVITE request.
    pub t2: Duration,
    /// T4, how long a message stays in the network.
    pub t4: Duration,
    /// Timer C (§16.6 step 11): how long an INVITE branch may ring.
    pub timer_c: Duration,
    /// How long a destination may say nothing before the next one is tried; zero: until Timer B or F.
    pub next_hop_timeout: Duration,
    /// How long a destination that failed is tried last; zero: it is not remembered.
    pub dead_for: Duration,
    /// The longest Retry-After of a 503 that is obeyed.
    pub retry_after_max: Duration,
    /// Bytes of the largest request that leaves by UDP (RFC 3261 §18.1.1); 0: any.
    pub udp_max_request: usize,
    /// Server transactions at once, all workers together; beyond it new requests get 503.
    pub max_transactions: usize,
    /// Bytes that transactions may keep, all workers together.
    pub max_stored_len: usize,
    /// Bytes of one message, head and body.
    pub max_message_len: usize,
    /// Stream connections at once, all workers together.
    pub max_connections: usize,
    /// Stream connections of one source with one worker.
    pub max_connections_per_source: usize,
    /// Bytes that stream connections may hold, unread messages and unsent ones, all workers together.
    pub max_buffered_len: usize,
    /// A stream that has brought no message is closed after this.
    pub stream_first_message_timeout: Duration,
    /// A stream without traffic is closed after this.
    pub stream_idle_timeout: Duration,
    /// A message begun on a stream must be whole within this.
    pub stream_header_timeout: Duration,
    /// How long opening a stream outwards may take.
    pub connect_timeout: Duration,
}

/// What kind of server `sps-proxy` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// A transaction-stateful proxy (RFC 3261 §16.2).
    Stateful,
    /// A proxy that forgets what it has forwarded, where it can (§16.11).
    Stateless,
    /// A redirect server (§8.3).
    Redirect,
    /// A redirect server that forgets what it has answered (§8.2.7).
    StatelessRedirect,
    /// Answers REGISTER and nothing else.
    Registrar,
}

/// How several contacts are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fork {
    /// Contacts of equal q at once, groups by falling q one after the other.
    Parallel,
    /// One contact after the other, by falling q.
    Sequential,
}

/// `[overload]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overload {
    /// Whether new requests are refused by 503 when there is too much to do.
    pub enabled: bool,
    /// How long messages may wait for their turn before that begins.
    pub target_wait: Duration,
    /// Whether we tell neighbours how much to hold back, and hold back what they ask for (RFC 7339).
    pub feedback: bool,
}

/// `[registrar]`. Expiries are whole seconds as in the Expires header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registrar {
    /// Whether we answer REGISTER at all.
    pub enabled: bool,
    /// Shorter wishes get 423 with Min-Expires. Seconds.
    pub min_expires_s: u32,
    /// Longer wishes are cut to this. Seconds.
    pub max_expires_s: u32,
    /// What a REGISTER without a wish gets. Seconds.
    pub default_expires_s: u32,
    /// Bindings of one AOR.
    pub max_contacts: usize,
    /// Whether Path is taken from a phone that does not say `Supported: path` (RFC 3327 §5.3).
    pub path_without_support: bool,
    /// How often the registry file is told to go to disk.
    pub sync_interval: Duration,
}

/// `[[access]]`: one listed source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Whom it is about.
    pub source: Cidr,
    /// What they may do.
    pub action: Action,
}

/// What an access rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Everything, gateways and foreign domains included.
    Allow,
    /// Nothing: 403.
    Deny,
}

/// A network: an address and how many of its leading bits count. The other bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cidr {
    /// The network's address.
    pub address: IpAddr,
    /// Leading bits that count, 0 to 32 or 128.
    pub prefix: u8,
}

/// `[guard]`: budgets of one source for each second, and what follows when they are passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// Whether sources are judged. The operator's bans hold either way.
    pub enabled: bool,
    /// Sources that are never banned.
    pub friends: Vec<Cidr>,
    /// Messages that cannot be read.
    pub malformed_per_s: u32,
    /// Requests that are refused.
    pub refused_per_s: u32,
    /// Responses that nobody waits for.
    pub stray_per_s: u32,
    /// New requests and connections.
    pub new_per_s: u32,
    /// Responses of ours to a source of which nothing is known, over UDP.
    pub answers_per_s: u32,
    /// How long the first ban lasts; zero: nobody is banned.
    pub ban_for: Duration,
    /// How long a ban can become.
    pub max_ban_for: Duration,
    /// Sources remembered, all workers together.
    pub sources: usize,
}

/// `[dns]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Whom to ask; empty means the system's servers.
    pub servers: Vec<SocketAddr>,
    /// How long one question to one server may take.
    pub timeout: Duration,
    /// How often a question is repeated after the first time it went unanswered.
    pub attempts: u8,
    /// How long finding one next hop may take: NAPTR, SRV and addresses together.
    pub total_timeout: Duration,
    /// How long a failure is remembered before the name is asked again.
    pub failure_cache_for: Duration,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Whether the access log is written.
    pub access: bool,
    /// What goes into the error log from the start; `spsctl log level` changes it at run time.
    pub level: Level,
    /// Where the access log goes; relative to the log folder. Unset: `access_log`. See [`crate::Paths::access_log`].
    pub access_log: Option<PathBuf>,
    /// Where the error log goes; relative to the log folder. Unset: `error_log`.
    pub error_log: Option<PathBuf>,
}

/// How much goes into the error log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// What stopped working.
    Error,
    /// What will stop working, or was refused.
    Warn,
    /// Starts, stops, changes.
    Info,
    /// For someone who looks for a fault.
    Debug,
    /// Everything.
    Trace,
}

impl Config {
    /// Whether TLS is spoken at all: with a listener for it. Outwards too, since answers and further requests must find back.
    pub fn speaks_tls(&self) -> bool {
        self.listen.iter().any(|listen| listen.transport == Transport::Tls)
    }

    /// Whether sources that no `[[access]]` rule lists may reach foreign domains and gateways: with `open_relay = true`, or
    /// without any rule (which the checks allow on loopback only).
    pub fn is_open(&self) -> bool {
        self.server.open_relay || self.access.is_empty()
    }
}

impl Guard {
    /// Whether `address` is never banned: listed as a friend, or let through gateways by a rule for fewer than everybody. A rule
    /// that lets in more than an IPv4 /8 or an IPv6 /32 speaks for nobody in particular.
    pub fn vouches_for(&self, access: &[Access], address: IpAddr) -> bool {
        let listed = |network: &Cidr| network.contains(address);
        self.friends.iter().any(listed)
            || access
                .iter()
                .find(|rule| listed(&rule.source))
                .is_some_and(|rule| rule.action == Action::Allow && rule.source.is_narrow())
    }
}

impl Dns {
    /// How long one lookup may take: every try of the first server, and once around the others; never more than the whole.
    pub fn lookup_timeout(&self) -> Duration {
        let others = self.servers.len().saturating_sub(1).clamp(1, 4) as u32;
        let tries = self.timeout * (u32::from(self.attempts) + 1 + others);
        tries.min(self.total_timeout)
    }
}

impl Config {
    /// In whose network all of `network` lies, if that is a friend's: he cannot be banned. Says so in words.
    pub fn friend_around(&self, network: &Cidr) -> Option<String> {
        let around = |friend: &&Cidr| friend.prefix <= network.prefix && friend.contains(network.address);
        if let Some(friend) = self.guard.friends.iter().find(around) {
            return Some(format!("{network} is a friend: [guard] friends has {friend}"));
        }
        let rule = self.access.iter().find(|rule| around(&&rule.source))?;
        (rule.action == Action::Allow && rule.source.is_narrow())
            .then(|| format!("{network} is a friend: an [[access]] rule allows {}", rule.source))
    }
}

impl Server {
    /// How many workers the proxy has: `workers`, or one a processor (at most 64) when that is 0.
    pub fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism()
                .map_or(1, usize::from)
                .min(MAX_AUTO_WORKERS),
            n => usize::from(n),
        }
    }

    /// All name spaces that are ours, `domain` first.
    pub fn all_domains(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.domain.as_str()).chain(self.domains.iter().map(String::as_str))
    }
}

/// More workers than this want a decision by the operator.
const MAX_AUTO_WORKERS: usize = 64;

impl Listen {
    /// What to bind.
    pub fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// True when only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.address.to_canonical().is_loopback()
    }
}

impl fmt::Display for Listen {
    /// `udp:127.0.0.1:5060`, the form that `spsctl init --listen` takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport, self.socket_addr())
    }
}

impl Transport {
    /// As written in `sps.toml`: `udp`, `tcp`, `tls`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// The port that is meant when none is given.
    pub fn default_port(self) -> u16 {
        flow::Transport::from(self).default_port()
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Advertise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

impl ClientCertificate {
    /// As written in `sps.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Request => "request",
            Self::Require => "require",
        }
    }
}

impl TlsVersion {
    /// As written in `sps.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        }
    }
}

impl Mode {
    /// Every mode with its word, the default first.
    pub const ALL: [(&'static str, Mode); 5] = [
        ("stateful", Mode::Stateful),
        ("stateless", Mode::Stateless),
        ("redirect", Mode::Redirect),
        ("stateless-redirect", Mode::StatelessRedirect),
        ("registrar", Mode::Registrar),
    ];

    /// As written in `sps.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stateful => "stateful",
            Self::Stateless => "stateless",
            Self::Redirect => "redirect",
            Self::StatelessRedirect => "stateless-redirect",
            Self::Registrar => "registrar",
        }
    }
}

impl Fork {
    /// As written in `sps.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parallel => "parallel",
            Self::Sequential => "sequential",
        }
    }
}

impl Action {
    /// As written in `sps.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl Level {
    /// As written in `sps.toml`, and as a log filter takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Cidr {
    /// The network of one address.
    pub fn host(address: IpAddr) -> Cidr {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Cidr { address, prefix }
    }

    /// Whether it names somebody rather than a part of the Internet.
    fn is_narrow(&self) -> bool {
        self.prefix >= if self.address.is_ipv4() { 8 } else { 32 }
    }

    /// Whether `address` lies in the network. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(asked)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                net.to_bits() & mask == asked.to_bits() & mask
            }
            (IpAddr::V6(net), IpAddr::V6(asked)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                net.to_bits() & mask == asked.to_bits() & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl std::str::FromStr for Cidr {
    type Err = String;

    /// `ADDRESS` or `ADDRESS/BITS`.
    fn from_str(text: &str) -> Result<Cidr, String> {
        crate::words::cidr(text).map_err(|why| match why.is_empty() {
            true => "expected an address or a network, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32".into(),
            false => why,
        })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

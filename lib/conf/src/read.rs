//! TOML to [`Config`]: every section, every key, its default and its range.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use crate::section::{Notes, Section, nearest};
use crate::{
    Access, Action, Ca, Certificate, Cidr, ClientCertificate, Config, Dns, Fork, Guard, Level, Listen, Log, Mode,
    Overload, Problem, Problems, Proxy, Registrar, Server, Tls, TlsVersion, Transport, check, words,
};

impl Config {
    /// Reads and checks a file. Warnings are dropped; [`Config::load_noting`] keeps them.
    ///
    /// # Errors
    /// Everything wrong with it, or that it cannot be read ([`Problems::is_unreadable`]).
    pub fn load(path: &Path) -> Result<Self, Problems> {
        Self::load_noting(path).map(|(config, _)| config)
    }

    /// As [`Config::load`], with the warnings beside the configuration (empty when all is well).
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_noting(path: &Path) -> Result<(Self, Problems), Problems> {
        match read_text(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) => {
                let text = match error.kind() {
                    std::io::ErrorKind::NotFound if path.file_name().is_some_and(|name| name == "sps.toml") => {
                        "there is no such file; spsctl init writes one".to_owned()
                    }
                    std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
                    std::io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
                    _ => format!("the configuration cannot be read: {error}"),
                };
                Err(Problems::unreadable(path, text))
            }
        }
    }

    /// Checks `text`; `file` is only for the messages.
    ///
    /// # Errors
    /// Everything wrong with it.
    pub fn parse(file: &Path, text: &str) -> Result<(Self, Problems), Problems> {
        let (document, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            // What follows a syntax error is guesswork: only the errors of TOML itself are told.
            let list = errors
                .iter()
                .map(|error| Problem::at(text, error.span().unwrap_or(0..0), error.message().to_owned(), false))
                .collect();
            return Err(Problems::new(file, list));
        }
        let mut notes = Notes::new(text);
        let config = read(document.into_inner(), &mut notes);
        let problems = Problems::new(file, notes.problems);
        if problems.iter().any(|problem| !problem.warning) {
            Err(problems)
        } else {
            Ok((config, problems))
        }
    }
}

/// Every key that `sps.toml` may have, as `section.key`, in the order of the file: `server.domain`, `listen.port`, …
pub fn keys() -> Vec<String> {
    let mut notes = Notes::new("");
    // The reader itself is asked: a list beside it could grow old.
    read(DeTable::new(), &mut notes);
    listen(Section::new("listen", "[[listen]]", DeTable::new(), 0..0), &mut notes);
    certificate(
        Section::new("tls.certificate", "[[tls.certificate]]", DeTable::new(), 0..0),
        &mut notes,
    );
    access(Section::new("access", "[[access]]", DeTable::new(), 0..0), &mut notes);
    let order = |key: &String| SECTIONS.iter().position(|name| key.split('.').next() == Some(name));
    notes.keys.sort_by_key(order);
    notes.keys
}

/// A larger file is not a configuration.
const MAX_FILE_LEN: u64 = 4 << 20;

fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(MAX_FILE_LEN + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_LEN {
        return Err(std::io::Error::other(format!("it has more than {MAX_FILE_LEN} bytes")));
    }
    Ok(text)
}

/// The sections in the order of the file.
pub(crate) const SECTIONS: [&str; 10] = [
    "server",
    "listen",
    "tls",
    "proxy",
    "overload",
    "registrar",
    "access",
    "guard",
    "dns",
    "log",
];

/// Reads all sections, then checks what needs more than one key.
fn read(mut document: DeTable<'_>, notes: &mut Notes) -> Config {
    let (server, open_relay_at) = server(take_table(&mut document, notes, "server", "[server]"), notes);
    let listen = take_tables(&mut document, notes, "listen", "[[listen]]", listen);
    let tls = tls(take_table(&mut document, notes, "tls", "[tls]"), notes);
    let proxy = proxy(take_table(&mut document, notes, "proxy", "[proxy]"), notes);
    let overload = overload(take_table(&mut document, notes, "overload", "[overload]"), notes);
    let registrar = registrar(
        take_table(&mut document, notes, "registrar", "[registrar]"),
        proxy.mode,
        notes,
    );
    let access = take_tables(&mut document, notes, "access", "[[access]]", access);
    let guard = guard(take_table(&mut document, notes, "guard", "[guard]"), notes);
    let dns = dns(take_table(&mut document, notes, "dns", "[dns]"), notes);
    let log = log(take_table(&mut document, notes, "log", "[log]"), notes);
    for (name, value) in document {
        let cure = match nearest(name.get_ref(), &SECTIONS) {
            Some(known) => format!("did you mean [{known}]?"),
            None => format!("expected one of: {}", SECTIONS.join(", ")),
        };
        let what = if value.get_ref().is_table() || value.get_ref().is_array() {
            "section"
        } else {
            "key outside a section"
        };
        notes.problem(name.span(), format!("there is no {what} {:?}; {cure}", name.get_ref()));
    }
    check::listeners(&listen, &access, server.open_relay, notes);
    check::tls(&listen, &tls, notes);
    check::access(&access, server.open_relay, open_relay_at, notes);
    let plain = |list: Vec<Spanned<Listen>>| list.into_iter().map(Spanned::into_inner).collect();
    Config {
        server,
        listen: plain(listen),
        tls: tls.tls,
        proxy,
        overload,
        registrar,
        access: access.into_iter().map(Spanned::into_inner).collect(),
        guard,
        dns,
        log,
    }
}

/// The table `[name]`; an empty one when it is not there.
fn take_table<'i>(
    document: &mut DeTable<'i>,
    notes: &mut Notes,
    name: &'static str,
    title: &'static str,
) -> Section<'i> {
    let Some((_, value)) = document.remove_entry(name) else {
        return Section::new(name, title, DeTable::new(), 0..0);
    };
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => Section::new(name, title, table, span),
        _ => {
            notes.problem(span.clone(), format!("{name} must be a section: {title}"));
            Section::new(name, title, DeTable::new(), span)
        }
    }
}

/// The tables `[[name]]`, each read by `read`; one that cannot be used is left out.
fn take_tables<'i, T>(
    document: &mut DeTable<'i>,
    notes: &mut Notes,
    name: &'static str,
    title: &'static str,
    read: impl Fn(Section<'i>, &mut Notes) -> Option<T>,
) -> Vec<Spanned<T>> {
    // The last part of a name such as `tls.certificate` is the key in the table that is given.
    let key = name.rsplit('.').next().unwrap_or(name);
    let Some((_, value)) = document.remove_entry(key) else {
        return Vec::new();
    };
    let span = value.span();
    let DeValue::Array(array) = value.into_inner() else {
        notes.problem(
            span,
            format!("{name} may be given several times and is written with two brackets: {title}"),
        );
        return Vec::new();
    };
    let mut found = Vec::new();
    for element in array {
        let span = element.span();
        match element.into_inner() {
            DeValue::Table(table) => {
                let section = Section::new(name, title, table, span.clone());
                found.extend(read(section, notes).map(|value| Spanned::new(span, value)));
            }
            _ => notes.problem(span, format!("{name} must be made of sections: {title}")),
        }
    }
    found
}

/// `[server]`, and where `open_relay` stands.
fn server(mut section: Section, notes: &mut Notes) -> (Server, std::ops::Range<usize>) {
    const DOMAIN: &str = "a domain name or an address, such as \"example.com\"";
    let domain = section.required_text(notes, "domain", DOMAIN, words::domain);
    let domains = section.texts(notes, "domains", DOMAIN, words::domain);
    check::domains(domain.as_ref(), &domains, notes);
    let workers = section
        .integer(notes, "workers", 0, 0..=64, "(0: one a processor)")
        .into_inner();
    let user = section.text(notes, "user", "the name of a user, such as \"sps\"", words::user);
    let open_relay = section.boolean(notes, "open_relay", false);
    let member = section.integer(notes, "member", 0, 0..=65535, "").into_inner();
    section.finish(notes);
    let server = Server {
        domain: domain.map(Spanned::into_inner).unwrap_or_default(),
        domains: domains.into_iter().map(Spanned::into_inner).collect(),
        workers: workers as u16,
        user: user.map_or_else(|| DEFAULT_USER.into(), Spanned::into_inner),
        open_relay: *open_relay.get_ref(),
        member: member as u16,
    };
    (server, open_relay.span())
}

pub(crate) const DEFAULT_USER: &str = "sps";
pub(crate) const DEFAULT_TLS_USER: &str = "sps-tls";

/// Departs from §18.2.1: UDP may be listened on without TCP at the same place, for an operator may have closed that to the world;
/// what `spsctl init` writes has both.
fn listen(mut section: Section, notes: &mut Notes) -> Option<Listen> {
    let transport = section.choice(
        notes,
        "transport",
        None,
        &[
            ("udp", Transport::Udp),
            ("tcp", Transport::Tcp),
            ("tls", Transport::Tls),
        ],
    );
    const ADDRESS: &str = "an IPv4 or IPv6 address, such as \"127.0.0.1\" or \"::1\"";
    let address: Option<Spanned<IpAddr>> = section.required_text(notes, "address", ADDRESS, words::listen_address);
    let port = section
        .integer(
            notes,
            "port",
            transport.unwrap_or(Transport::Udp).default_port().into(),
            0..=65535,
            "(0: chosen by the system)",
        )
        .into_inner();
    const ADVERTISE: &str = "HOST, HOST:PORT or [V6]:PORT, such as \"sip.example.com:5060\"";
    let advertise = section.text(notes, "advertise", ADVERTISE, words::advertise);
    let client_certificate = section.optional_choice(notes, "client_certificate", &CLIENT_CERTIFICATE);
    section.finish(notes);
    Some(Listen {
        transport: transport?,
        address: address?.into_inner(),
        port: port as u16,
        advertise: advertise.map(Spanned::into_inner),
        client_certificate,
    })
}

const CLIENT_CERTIFICATE: [(&str, ClientCertificate); 3] = [
    ("none", ClientCertificate::None),
    ("request", ClientCertificate::Request),
    ("require", ClientCertificate::Require),
];

/// `[tls]` with the places that checks point at.
pub(crate) struct TlsRead {
    pub tls: Tls,
    /// Where the certificates stand.
    pub certificates: Vec<std::ops::Range<usize>>,
    pub verify_server_at: std::ops::Range<usize>,
    pub span: std::ops::Range<usize>,
}

fn tls(mut section: Section, notes: &mut Notes) -> TlsRead {
    let span = section.span.clone();
    let s = &mut section;
    let certificates = take_tables(
        &mut s.table,
        notes,
        "tls.certificate",
        "[[tls.certificate]]",
        certificate,
    );
    s.asked.push("certificate");
    let ca = s.text(notes, "ca", "\"system\" or the path of a PEM file", |text| match text {
        "system" => Ok(Ca::System),
        _ => words::file(text).map(Ca::File),
    });
    let client_certificate = s
        .choice(
            notes,
            "client_certificate",
            Some(ClientCertificate::None),
            &CLIENT_CERTIFICATE,
        )
        .unwrap_or(ClientCertificate::None);
    let verify_server = s.boolean(notes, "verify_server", true);
    let match_via = s.boolean(notes, "match_via", true).into_inner();
    let words = [TlsVersion::V1_2, TlsVersion::V1_3].map(|version| (version.as_str(), version));
    let min_version = s
        .choice(notes, "min_version", Some(TlsVersion::V1_2), &words)
        .unwrap_or(TlsVersion::V1_2);
    let handshake = s.integer(notes, "handshake_timeout_ms", 5_000, 100..=60_000, "milliseconds");
    let max_handshakes = s.integer(notes, "max_handshakes", 1_024, 1..=100_000, "");
    let session_cache = s.integer(notes, "session_cache", 10_000, 0..=1_000_000, "sessions");
    let user = s.text(notes, "user", "the name of a user, such as \"sps-tls\"", words::user);
    section.finish(notes);
    let places = certificates.iter().map(Spanned::span).collect();
    TlsRead {
        tls: Tls {
            certificate: certificates.into_iter().map(Spanned::into_inner).collect(),
            ca: ca.map_or(Ca::System, Spanned::into_inner),
            client_certificate,
            verify_server: *verify_server.get_ref(),
            match_via,
            min_version,
            handshake_timeout: milliseconds(handshake),
            max_handshakes: count(max_handshakes),
            session_cache: count(session_cache),
            user: user.map_or_else(|| DEFAULT_TLS_USER.into(), Spanned::into_inner),
        },
        certificates: places,
        verify_server_at: verify_server.span(),
        span,
    }
}

fn certificate(mut section: Section, notes: &mut Notes) -> Option<Certificate> {
    const FILE: &str = "the path of a PEM file, such as \"tls/cert.pem\"";
    let certificate = section.required_text(notes, "certificate", FILE, words::file);
    let key = section.required_text(notes, "key", FILE, words::file);
    const NAME: &str = "a host name, such as \"sip.example.com\"";
    let names = section.texts(notes, "names", NAME, words::domain);
    section.finish(notes);
    Some(Certificate {
        certificate: certificate?.into_inner(),
        key: key?.into_inner(),
        names: names.into_iter().map(Spanned::into_inner).collect(),
    })
}

fn proxy(mut section: Section, notes: &mut Notes) -> Proxy {
    let s = &mut section;
    let mode = s
        .choice(notes, "mode", Some(Mode::Stateful), &Mode::ALL)
        .unwrap_or(Mode::Stateful);
    let recurse = s.boolean(notes, "recurse", false).into_inner();
    let caller_preferences = s.boolean(notes, "caller_preferences", false).into_inner();
    let record_route = s.boolean(notes, "record_route", true).into_inner();
    let words = [("parallel", Fork::Parallel), ("sequential", Fork::Sequential)];
    let fork = s
        .choice(notes, "fork", Some(Fork::Parallel), &words)
        .unwrap_or(Fork::Parallel);
    let max_breadth = s.integer(notes, "max_breadth", 60, 1..=1_000, "");
    let t1 = s.integer(notes, "t1_ms", 500, 10..=10_000, "milliseconds");
    let t2 = s.integer(notes, "t2_ms", 4_000, 10..=60_000, "milliseconds");
    let t4 = s.integer(notes, "t4_ms", 5_000, 10..=60_000, "milliseconds");
    check::timers(&t1, &t2, notes);
    let timer_c = s.integer(notes, "timer_c_s", 181, 1..=86_400, "seconds");
    check::timer_c(&timer_c, notes);
    let next_hop = s.integer(
        notes,
        "next_hop_timeout_ms",
        4_000,
        0..=60_000,
        "milliseconds (0: as long as Timers B and F)",
    );
    let dead = s.integer(notes, "dead_for_s", 30, 0..=3_600, "seconds (0: not at all)");
    let retry_after = s.integer(notes, "retry_after_max_s", 300, 0..=86_400, "seconds");
    let udp_max = s.integer(notes, "udp_max_request_bytes", 1_300, 0..=65_535, "bytes (0: any)");
    let max_transactions = s.integer(notes, "max_transactions", 1_000_000, 1..=8_000_000, "");
    let max_stored = s.integer(notes, "max_stored_mib", 1_024, 1..=1_048_576, "mebibytes");
    let max_message_len = s.integer(notes, "max_message_bytes", 65_535, 1_024..=65_535, "bytes");
    let max_connections = s.integer(notes, "max_connections", 10_000, 1..=1_000_000, "");
    let per_source = s.integer(notes, "max_connections_per_source", 1_024, 1..=1_000_000, "");
    let max_buffered = s.integer(notes, "max_buffered_mib", 256, 1..=1_048_576, "mebibytes");
    let first = s.integer(notes, "stream_first_message_s", 30, 1..=86_400, "seconds");
    let idle = s.integer(notes, "stream_idle_s", 3_600, 1..=86_400, "seconds");
    let header = s.integer(notes, "stream_header_timeout_ms", 5_000, 10..=300_000, "milliseconds");
    let connect = s.integer(notes, "connect_timeout_ms", 3_000, 10..=60_000, "milliseconds");
    section.finish(notes);
    Proxy {
        mode,
        recurse,
        caller_preferences,
        record_route,
        fork,
        max_breadth: max_breadth.into_inner() as u16,
        t1: milliseconds(t1),
        t2: milliseconds(t2),
        t4: milliseconds(t4),
        timer_c: seconds(timer_c),
        next_hop_timeout: milliseconds(next_hop),
        dead_for: seconds(dead),
        retry_after_max: seconds(retry_after),
        udp_max_request: count(udp_max),
        max_transactions: count(max_transactions),
        max_stored_len: mebibytes(max_stored),
        max_message_len: count(max_message_len),
        max_connections: count(max_connections),
        max_connections_per_source: count(per_source),
        max_buffered_len: mebibytes(max_buffered),
        stream_first_message_timeout: seconds(first),
        stream_idle_timeout: seconds(idle),
        stream_header_timeout: milliseconds(header),
        connect_timeout: milliseconds(connect),
    }
}

fn overload(mut section: Section, notes: &mut Notes) -> Overload {
    let s = &mut section;
    let enabled = s.boolean(notes, "enabled", true).into_inner();
    let target = s.integer(notes, "target_wait_ms", 30, 1..=1_000, "milliseconds");
    let feedback = s.boolean(notes, "feedback", true).into_inner();
    section.finish(notes);
    Overload {
        enabled,
        target_wait: milliseconds(target),
        feedback,
    }
}

fn registrar(mut section: Section, mode: Mode, notes: &mut Notes) -> Registrar {
    let s = &mut section;
    let enabled = s.boolean(notes, "enabled", true);
    check::registrar_alone(mode, &enabled, notes);
    let enabled = enabled.into_inner();
    // §20.19 of RFC 3261 allows 2^32-1; a year is beyond any phone.
    const YEAR: u64 = 31_536_000;
    let min = s.integer(notes, "min_expires_s", 60, 1..=YEAR, "seconds");
    let max = s.integer(notes, "max_expires_s", 7_200, 1..=YEAR, "seconds");
    let default = s.integer(notes, "default_expires_s", 3_600, 1..=YEAR, "seconds");
    check::expires(&min, &default, &max, notes);
    let max_contacts = s.integer(notes, "max_contacts", 16, 1..=256, "");
    let path_without_support = s.boolean(notes, "path_without_support", false).into_inner();
    let sync = s.integer(notes, "sync_interval_ms", 1_000, 10..=60_000, "milliseconds");
    section.finish(notes);
    Registrar {
        enabled,
        min_expires_s: min.into_inner() as u32,
        max_expires_s: max.into_inner() as u32,
        default_expires_s: default.into_inner() as u32,
        max_contacts: count(max_contacts),
        path_without_support,
        sync_interval: milliseconds(sync),
    }
}

fn access(mut section: Section, notes: &mut Notes) -> Option<Access> {
    const SOURCE: &str = "an address or a network, such as \"192.0.2.7\" or \"192.0.2.0/24\"";
    let source = section.required_text(notes, "source", SOURCE, words::cidr);
    let action = section.choice(
        notes,
        "action",
        None,
        &[("allow", Action::Allow), ("deny", Action::Deny)],
    );
    section.finish(notes);
    Some(Access {
        source: source?.into_inner(),
        action: action?,
    })
}

fn guard(mut section: Section, notes: &mut Notes) -> Guard {
    let s = &mut section;
    let enabled = s.boolean(notes, "enabled", true).into_inner();
    const FRIEND: &str = "an address or a network, such as \"192.0.2.7\" or \"192.0.2.0/24\"";
    let said = s.has("friends");
    let friends = s.texts(notes, "friends", FRIEND, words::cidr);
    check::friends(&friends, notes);
    let mut rate = |key, default| s.integer(notes, key, default, 1..=1_000_000, "a second").into_inner() as u32;
    let malformed_per_s = rate("malformed_per_s", 10);
    let refused_per_s = rate("refused_per_s", 20);
    let stray_per_s = rate("stray_per_s", 50);
    let new_per_s = rate("new_per_s", 500);
    let answers_per_s = rate("answers_per_s", 50);
    let ban = s.integer(notes, "ban_s", 60, 0..=86_400, "seconds (0: nobody is banned)");
    let max_ban = s.integer(notes, "max_ban_s", 3_600, 1..=604_800, "seconds");
    check::bans(&ban, &max_ban, notes);
    let sources = s.integer(notes, "sources", 65_536, 1_024..=4_194_304, "");
    section.finish(notes);
    let friends = match said {
        true => friends.into_iter().map(Spanned::into_inner).collect(),
        // This machine itself.
        false => [
            IpAddr::from([127, 0, 0, 1]),
            IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        ]
        .map(Cidr::host)
        .to_vec(),
    };
    Guard {
        enabled,
        friends,
        malformed_per_s,
        refused_per_s,
        stray_per_s,
        new_per_s,
        answers_per_s,
        ban_for: seconds(ban),
        max_ban_for: seconds(max_ban),
        sources: count(sources),
    }
}

fn dns(mut section: Section, notes: &mut Notes) -> Dns {
    let s = &mut section;
    const SERVER: &str = "an address, perhaps with a port, such as \"192.0.2.53\" or \"[2001:db8::53]:5353\"";
    let servers: Vec<Spanned<SocketAddr>> = s.texts(notes, "servers", SERVER, words::dns_server);
    check::dns_servers(&servers, notes);
    let timeout = s.integer(notes, "timeout_ms", 500, 10..=30_000, "milliseconds");
    let attempts = s.integer(notes, "attempts", 1, 0..=5, "").into_inner();
    let total = s.integer(notes, "total_timeout_ms", 3_000, 10..=60_000, "milliseconds");
    check::dns_timeouts(&timeout, &total, notes);
    let failure = s.integer(notes, "failure_cache_s", 5, 0..=300, "seconds");
    section.finish(notes);
    Dns {
        servers: servers.into_iter().map(Spanned::into_inner).collect(),
        timeout: milliseconds(timeout),
        attempts: attempts as u8,
        total_timeout: milliseconds(total),
        failure_cache_for: seconds(failure),
    }
}

fn log(mut section: Section, notes: &mut Notes) -> Log {
    let access = section.boolean(notes, "access", true).into_inner();
    let words =
        [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace].map(|level| (level.as_str(), level));
    let level = section
        .choice(notes, "level", Some(Level::Info), &words)
        .unwrap_or(Level::Info);
    let access_log = section.text(notes, "access_log", "the path of a file", words::file);
    let error_log = section.text(notes, "error_log", "the path of a file", words::file);
    check::logs(access_log.as_ref(), error_log.as_ref(), notes);
    section.finish(notes);
    let plain = |path: Option<Spanned<PathBuf>>| path.map(Spanned::into_inner);
    Log {
        access,
        level,
        access_log: plain(access_log),
        error_log: plain(error_log),
    }
}

fn milliseconds(value: Spanned<u64>) -> Duration {
    Duration::from_millis(value.into_inner())
}

fn seconds(value: Spanned<u64>) -> Duration {
    Duration::from_secs(value.into_inner())
}

fn mebibytes(value: Spanned<u64>) -> usize {
    (value.into_inner() as usize) << 20
}

/// Every range ends below what fits into 32 bits.
fn count(value: Spanned<u64>) -> usize {
    value.into_inner() as usize
}

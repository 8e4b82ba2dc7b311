//! Records of a name by `hickory-resolver`: the one file that knows that package.

use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};

use super::lookups::Kind;
use super::select::{Naptr, Srv};
use super::{DnsConf, ResolveError};

/// Finds the records of an absolute, lower-case name without its trailing dot.
pub(super) trait LookUp {
    fn look_up(&self, kind: Kind, name: &str) -> Looking;
    /// What the hosts file says of the name; it is asked first and asks nobody.
    fn hosts(&self, name: &str) -> Vec<IpAddr>;
}

/// A lookup under way.
pub(super) type Looking = Pin<Box<dyn Future<Output = Found>>>;

/// What a lookup came to, with how long that holds; a failure without a time is kept for as long as the configuration says.
pub(super) struct Found {
    pub outcome: Result<Answer, ResolveError>,
    pub keep_for: Option<Duration>,
}

/// Records of one kind, never none.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Naptr(Rc<[Naptr]>),
    Srv(Rc<[Srv]>),
    Addresses(Rc<[IpAddr]>),
}

impl Found {
    pub(super) fn error(error: ResolveError) -> Found {
        Found {
            outcome: Err(error),
            keep_for: None,
        }
    }
}

/// The resolver package; lacking only if its set-up failed.
pub(super) struct Dns {
    resolver: Option<TokioResolver>,
    hosts: Hosts,
    has_servers: bool,
}

impl Dns {
    pub(super) fn new(conf: &DnsConf) -> Dns {
        let servers = if conf.servers.is_empty() {
            // No file or no server in it is how a machine without DNS looks. Search lists are left aside: a SIP name is absolute.
            read_system_conf()
                .map(|(system, _)| system.name_servers().to_vec())
                .unwrap_or_default()
        } else {
            conf.servers
                .iter()
                .map(|server| {
                    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                        connection.port = server.port();
                        connection
                    });
                    NameServerConfig::new(server.ip(), true, connections.to_vec())
                })
                .collect()
        };
        Dns::with_servers(servers, conf)
    }

    /// As on a machine without DNS.
    #[cfg(test)]
    pub(super) fn without_servers() -> Dns {
        Dns::with_servers(Vec::new(), &DnsConf::default())
    }

    fn with_servers(servers: Vec<NameServerConfig>, conf: &DnsConf) -> Dns {
        let has_servers = !servers.is_empty();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options(conf))
            .build()
            .inspect_err(|error| tracing::error!(%error, "set up the resolver"))
            .ok();
        Dns {
            resolver,
            hosts: Hosts::from_system().unwrap_or_default(),
            has_servers,
        }
    }
}

fn options(conf: &DnsConf) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = conf.timeout;
    options.attempts = conf.attempts;
    options.ndots = 0;
    options.cache_size = CACHE_SIZE;
    options.use_hosts_file = ResolveHosts::Always;
    // 32 by default, and "busy" beyond that.
    options.max_active_requests = conf.max_in_flight.max(32) * 2;
    options.preserve_intermediates = false;
    options
}

/// Answers the package keeps; what we ask for often stays in front of it.
const CACHE_SIZE: u64 = 1024;

impl LookUp for Dns {
    fn look_up(&self, kind: Kind, name: &str) -> Looking {
        let resolver = self.resolver.clone();
        let has_servers = self.has_servers;
        let name = absolute(name);
        Box::pin(async move {
            let Some(resolver) = resolver else {
                return Found::error(ResolveError::NoServers);
            };
            let Some(name) = name else {
                return Found::error(ResolveError::BadName);
            };
            let mut found = resolver.lookup(name.clone(), record_type(kind)).await;
            if matches!(kind, Kind::Srv) && found.as_ref().is_err_and(|error| is_about_another(error, &name)) {
                found = by_aliases(&resolver, name).await;
            }
            match found {
                Ok(found) => read(kind, &found),
                Err(_) if !has_servers => Found::error(ResolveError::NoServers),
                Err(error) => failed(&error),
            }
        })
    }

    fn hosts(&self, name: &str) -> Vec<IpAddr> {
        let Some(name) = absolute(name) else { return Vec::new() };
        [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(|kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind)))
            .flat_map(|found| {
                found
                    .answers()
                    .iter()
                    .filter_map(|record| address(&record.data))
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}

/// The package (0.26) takes the target of an SRV record that an alias led to for one alias more, and asks for SRV there.
fn is_about_another(error: &NetError, name: &Name) -> bool {
    matches!(error, NetError::Dns(DnsError::NoRecordsFound(none)) if none.query.name() != name)
}

/// SRV records behind aliases, one alias after the other.
async fn by_aliases(resolver: &TokioResolver, mut name: Name) -> Result<Lookup, NetError> {
    for _ in 0..MAX_ALIASES {
        let found = resolver.lookup(name.clone(), RecordType::CNAME).await?;
        let alias = found.answers().iter().find_map(|record| match &record.data {
            RData::CNAME(alias) => Some(alias.0.clone()),
            _ => None,
        });
        let Some(alias) = alias else { break };
        match resolver.lookup(alias.clone(), RecordType::SRV).await {
            Err(error) if is_about_another(&error, &alias) => name = alias,
            found => return found,
        }
    }
    Err(NetError::Message("too many aliases"))
}

/// Aliases followed from one name.
const MAX_ALIASES: usize = 8;

fn record_type(kind: Kind) -> RecordType {
    match kind {
        Kind::Naptr => RecordType::NAPTR,
        Kind::Srv => RecordType::SRV,
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
    }
}

fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// The records of the kind asked for, whatever aliases led to them.
fn read(kind: Kind, found: &Lookup) -> Found {
    let data = || found.answers().iter().map(|record| &record.data);
    let answer = match kind {
        Kind::Naptr => Answer::Naptr(data().filter_map(naptr).take(MAX_RECORDS).collect()),
        Kind::Srv => Answer::Srv(data().filter_map(srv).take(MAX_RECORDS).collect()),
        Kind::A | Kind::Aaaa => Answer::Addresses(data().filter_map(address).take(MAX_RECORDS).collect()),
    };
    let is_empty = match &answer {
        Answer::Naptr(records) => records.is_empty(),
        Answer::Srv(records) => records.is_empty(),
        Answer::Addresses(records) => records.is_empty(),
    };
    if is_empty {
        return Found::error(ResolveError::NotFound);
    }
    let ttl = found.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
    Found {
        outcome: Ok(answer),
        keep_for: Some(Duration::from_secs(ttl.into())),
    }
}

/// Records of one answer that are kept: an answer by TCP may hold thousands.
const MAX_RECORDS: usize = 64;

fn naptr(data: &RData) -> Option<Naptr> {
    let RData::NAPTR(naptr) = data else { return None };
    Some(Naptr {
        order: naptr.order,
        preference: naptr.preference,
        flags: naptr.flags.clone(),
        services: naptr.services.clone(),
        replacement: text(&naptr.replacement),
    })
}

fn srv(data: &RData) -> Option<Srv> {
    let RData::SRV(srv) = data else { return None };
    Some(Srv {
        priority: srv.priority,
        weight: srv.weight,
        port: srv.port,
        target: text(&srv.target),
    })
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(address.0.into()),
        RData::AAAA(address) => Some(address.0.into()),
        _ => None,
    }
}

fn text(name: &Name) -> Arc<str> {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').unwrap_or(&text).into()
}

fn failed(error: &NetError) -> Found {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none))
            if matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain) =>
        {
            // RFC 2308: for as long as the zone says; one that says nothing is asked again in some seconds.
            Found {
                outcome: Err(ResolveError::NotFound),
                keep_for: none.negative_ttl.map(|ttl| Duration::from_secs(ttl.into())),
            }
        }
        NetError::Busy => Found::error(ResolveError::Busy),
        NetError::Timeout => Found::error(ResolveError::Timeout),
        _ => Found::error(ResolveError::ServerFailed),
    }
}

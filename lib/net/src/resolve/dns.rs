//! Addresses of a name by `hickory-resolver`: the one file that knows that package.

use std::net::IpAddr;
use std::pin::Pin;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::system_conf::read_system_conf;

use super::{DnsConf, ResolveError};

/// Finds the addresses of an absolute, lower-case name without its trailing dot.
pub(super) trait LookUp {
    fn look_up(&self, name: &str) -> Addresses;
}

/// A lookup under way.
pub(super) type Addresses = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, ResolveError>>>>;

/// The resolver package with its cache; lacking only if its set-up failed.
pub(super) struct Dns {
    resolver: Option<TokioResolver>,
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
        Dns { resolver, has_servers }
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
    options.ip_strategy = match (conf.v4, conf.v6) {
        (true, false) => LookupIpStrategy::Ipv4Only,
        (false, true) => LookupIpStrategy::Ipv6Only,
        _ => LookupIpStrategy::Ipv4AndIpv6,
    };
    options
}

/// Answers kept.
const CACHE_SIZE: u64 = 8192;

impl LookUp for Dns {
    fn look_up(&self, name: &str) -> Addresses {
        let resolver = self.resolver.clone();
        let has_servers = self.has_servers;
        let name = Name::from_ascii(name);
        Box::pin(async move {
            let resolver = resolver.ok_or(ResolveError::NoServers)?;
            let mut name = name.map_err(|_| ResolveError::BadName)?;
            name.set_fqdn(true);
            match resolver.lookup_ip(name).await {
                Ok(found) => Ok(found.iter().collect()),
                Err(_) if !has_servers => Err(ResolveError::NoServers),
                Err(error) => Err(classify(&error)),
            }
        })
    }
}

fn classify(error: &NetError) -> ResolveError {
    match error {
        NetError::Busy => ResolveError::Busy,
        NetError::Timeout => ResolveError::Timeout,
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => ResolveError::NotFound,
            _ => ResolveError::ServerFailed,
        },
        _ => ResolveError::ServerFailed,
    }
}

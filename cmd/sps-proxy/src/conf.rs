//! From the frozen configuration to what the parts of a worker are told.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use sps_conf::{Fork, Mode};
use sps_ipc::parent::{Frozen, ListenerInfo};
use sps_net::resolve::Offer;
use sps_net::{DnsConf, StreamConf};
use sps_sip::guard::{Friends, GuardConf};
use sps_sip::overload::OverloadConf;
use sps_sip::proxy;
use sps_sip::timers::TimerConf;
use sps_wire::Limits;

/// Everything one worker works by. Made new for each configuration, on the main thread, so that nothing can fail later.
#[derive(Clone)]
pub struct WorkerConf {
    pub core: proxy::Conf,
    pub guard: GuardConf,
    pub limits: Limits,
    pub route: Arc<sps_route::Conf>,
    pub streams: StreamConf,
    pub dns: DnsConf,
    /// Whether the Via of who showed a certificate must name what that does.
    pub match_via: bool,
}

impl WorkerConf {
    /// The configuration of worker `worker`.
    pub fn new(frozen: &Frozen, worker: u16) -> WorkerConf {
        let route = Arc::new(routing(frozen));
        let conf = &frozen.conf;
        let limits = Limits {
            message_len: conf.proxy.max_message_len,
            ..Limits::default()
        };
        let (ours, denied) = (route.clone(), route.clone());
        let keys: Vec<proxy::MacKey> = frozen
            .mac_keys
            .iter()
            .map(|key| proxy::MacKey {
                id: key.id,
                secret: key.secret,
            })
            .collect();
        let workers = usize::from(frozen.workers.max(1));
        let core = proxy::Conf {
            mode: match conf.proxy.mode {
                Mode::Stateful => proxy::Mode::Stateful,
                Mode::Stateless => proxy::Mode::Stateless,
                Mode::Redirect => proxy::Mode::Redirect,
                Mode::StatelessRedirect => proxy::Mode::StatelessRedirect,
                Mode::Registrar => proxy::Mode::Registrar,
            },
            recurse: conf.proxy.recurse,
            member: conf.server.member,
            // Sixteen bits are enough to tell the few generations that overlap apart.
            generation: frozen.generation as u16,
            worker: worker as u8,
            timers: TimerConf {
                t1: conf.proxy.t1,
                t2: conf.proxy.t2,
                t4: conf.proxy.t4,
                timer_c: conf.proxy.timer_c,
            },
            record_route: conf.proxy.record_route,
            fork: match conf.proxy.fork {
                Fork::Parallel => proxy::Fork::Parallel,
                Fork::Sequential => proxy::Fork::Sequential,
            },
            next_hop_timeout: Some(conf.proxy.next_hop_timeout).filter(|wait| !wait.is_zero()),
            udp_max_request: conf.proxy.udp_max_request,
            listeners: own_listeners(frozen).map(listener).collect(),
            ours: proxy::Ours(Arc::new(move |uri| ours.is_ours(uri))),
            keys: proxy::Keys::new(&keys),
            max_transactions: (conf.proxy.max_transactions / workers).clamp(1, MAX_TRANSACTIONS),
            max_breadth: conf.proxy.max_breadth,
            max_stored_len: conf.proxy.max_stored_len / workers,
            max_targets: route.max_targets,
            denies: proxy::Denies(Arc::new(move |source| {
                denied.access_of(source).is_some_and(|rule| !rule.allow)
            })),
            registrar: conf.registrar.enabled,
            draining: false,
            overload: overload(frozen, &route),
        };
        let spoken = own_listeners(frozen).map(|listener| (listener.transport.into(), listener.address));
        let offers = Offer::of(spoken);
        let descriptors = Descriptors::of(sps_daemon::open_files(), &conf.proxy, frozen.listeners.len(), workers);
        WorkerConf {
            core,
            guard: guard(&frozen.conf, workers),
            limits,
            route,
            streams: StreamConf {
                member: conf.server.member,
                worker,
                first_connection: sps_net::streams::first_connection_now(),
                max_connections: (descriptors.connections / workers).max(1),
                buffered_len: (conf.proxy.max_buffered_len / workers).max(limits.message_len),
                first_message_timeout: conf.proxy.stream_first_message_timeout,
                max_connections_per_source: conf.proxy.max_connections_per_source,
                idle_timeout: conf.proxy.stream_idle_timeout,
                header_timeout: conf.proxy.stream_header_timeout,
                connect_timeout: conf.proxy.connect_timeout,
                limits,
                ..StreamConf::default()
            },
            match_via: conf.tls.match_via,
            dns: DnsConf {
                max_in_flight: descriptors.lookups,
                servers: conf.dns.servers.clone(),
                timeout: conf.dns.timeout,
                attempts: usize::from(conf.dns.attempts),
                lookup_timeout: conf.dns.lookup_timeout(),
                total_timeout: conf.dns.total_timeout,
                failure_cache: conf.dns.failure_cache_for,
                offers,
            },
        }
    }
}

/// Overload control. Where no source is listed and everybody is let in, nobody beyond this machine can reach us, or the operator
/// knows nobody: only in the first case is everybody's word taken.
fn overload(frozen: &Frozen, route: &Arc<sps_route::Conf>) -> proxy::Overload {
    let conf = &frozen.conf;
    let route = route.clone();
    let everybody = conf.access.is_empty() && !conf.server.open_relay;
    proxy::Overload {
        control: OverloadConf {
            enabled: conf.overload.enabled,
            target_wait: conf.overload.target_wait,
        },
        feedback: conf.overload.feedback,
        trusts: proxy::Trusts(Arc::new(move |source| {
            everybody || route.access_of(source).is_some_and(|rule| rule.allow)
        })),
    }
}

/// What the limit on descriptors is spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// Stream connections of all workers.
    pub connections: usize,
    /// Lookups under way of one worker.
    pub lookups: usize,
}

impl Descriptors {
    /// Divides `limit` descriptors among listeners, files, lookups (two sockets each) and connections, so that nothing ever
    /// fails for want of one.
    pub fn of(limit: u64, conf: &sps_conf::Proxy, sockets: usize, workers: usize) -> Descriptors {
        // A UDP socket is registered twice for a moment; runtimes, logs, mapped files, operators.
        let fixed = 96 + 2 * sockets + 16 * workers;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let free = limit.saturating_sub(fixed).max(limit / 4);
        let lookups = (free / 8 / 2 / workers).clamp(8, MAX_LOOKUPS);
        let connections = free.saturating_sub(2 * lookups * workers);
        Descriptors {
            connections: conf.max_connections.min(connections).max(workers),
            lookups,
        }
    }
}

/// More lookups at once than this are of use to nobody.
const MAX_LOOKUPS: usize = 512;

/// Each worker judges by what it sees itself, and tells the others whom it has banned.
fn guard(conf: &sps_conf::Config, workers: usize) -> GuardConf {
    let (guard, access) = (conf.guard.clone(), conf.access.clone());
    let per_s = |rate: u32| rate as f32;
    GuardConf {
        enabled: guard.enabled,
        malformed_per_s: per_s(guard.malformed_per_s),
        refused_per_s: per_s(guard.refused_per_s),
        stray_per_s: per_s(guard.stray_per_s),
        new_per_s: per_s(guard.new_per_s),
        answers_per_s: per_s(guard.answers_per_s),
        ban_for: guard.ban_for,
        max_ban_for: guard.max_ban_for,
        sources: guard.sources.div_ceil(workers),
        friends: Friends(Arc::new(move |source| guard.vouches_for(&access, source))),
    }
}

/// Transactions of one worker at the most: places in its tables fit into 24 bits of a send token.
pub const MAX_TRANSACTIONS: usize = 1 << 23;

/// One entry for each `[[listen]]`: all workers have the same ones.
pub fn own_listeners(frozen: &Frozen) -> impl Iterator<Item = &ListenerInfo> {
    frozen.listeners.iter().filter(|listener| listener.worker == 0)
}

fn listener(info: &ListenerInfo) -> proxy::Listener {
    let (host, port) = match &info.advertise {
        Some(advertise) => (advertise.host.clone(), advertise.port.unwrap_or(info.address.port())),
        None => (host_text(spoken_address(info.address)), info.address.port()),
    };
    proxy::Listener {
        transport: info.transport.into(),
        addr: info.address,
        sent_by: format!("{host}:{port}"),
    }
}

fn host_text(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// The address a listener says in Via: its own, or on a wildcard the one the system would use towards the world.
fn spoken_address(bound: SocketAddr) -> IpAddr {
    if !bound.ip().is_unspecified() {
        return bound.ip();
    }
    // Connecting a UDP socket sends nothing; it only asks the routing table. Documentation addresses: nobody has them.
    let (from, towards) = if bound.is_ipv4() {
        ("0.0.0.0:0", "192.0.2.1:9")
    } else {
        ("[::]:0", "[2001:db8::1]:9")
    };
    let asked = UdpSocket::bind(from).and_then(|socket| {
        socket.connect(towards)?;
        socket.local_addr()
    });
    match asked {
        Ok(local) if !local.ip().is_unspecified() => local.ip(),
        _ if bound.is_ipv4() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        _ => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
    }
}

/// What routing is told; `spsroute explain` is told the same.
pub fn routing(frozen: &Frozen) -> sps_route::Conf {
    let bound: Vec<SocketAddr> = own_listeners(frozen).map(|info| info.address).collect();
    frozen.conf.routing(&bound, &sps_net::interfaces::addresses())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(max_connections: usize) -> sps_conf::Proxy {
        let text = format!(
            "[server]\ndomain = \"d\"\n[[listen]]\ntransport = \"udp\"\naddress = \"::1\"\n[proxy]\nmax_connections = {max_connections}"
        );
        let (config, _) =
            sps_conf::Config::parse(std::path::Path::new("f"), &text).unwrap_or_else(|why| panic!("{why}"));
        config.proxy
    }

    #[test]
    fn descriptors_are_never_promised_twice() {
        for limit in [1024, 4096, 20_000, 1 << 20] {
            for workers in [1, 2, 8, 64] {
                let sockets = 2 * workers;
                let given = Descriptors::of(limit, &conf(1_000_000), sockets, workers);
                let spent = given.connections + 2 * given.lookups * workers + 2 * sockets + 16 * workers;
                // On a machine that grants 1024 to 64 workers something has to give.
                if limit >= 4096 || workers <= 8 {
                    assert!(spent <= limit as usize, "{limit} {workers} {given:?}");
                }
                assert!(given.connections >= workers);
            }
        }
        assert_eq!(Descriptors::of(1 << 20, &conf(10_000), 4, 2).connections, 10_000);
    }
}

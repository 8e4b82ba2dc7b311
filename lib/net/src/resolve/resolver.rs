//! The resolver of a worker: the way of RFC 3263 §4 from a host to destinations.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sps_wire::flow::{Destination, Transport};

use super::dns::{Answer, Dns, LookUp};
use super::lookups::{self, Kind, Lookup, Lookups};
use super::select::{self, Service, Srv};
use super::{DnsConf, Notes, Offer, Resolve, ResolveCounters, ResolveError, Resolving, Wanted, destination, numeric};

/// The resolver of a worker. Clones share what is remembered. Lookups must run inside the worker's `LocalSet`.
#[derive(Clone)]
pub struct Resolver {
    shared: Rc<Shared>,
}

struct Shared {
    lookups: Rc<Lookups>,
    total_timeout: Duration,
    offers: Vec<Offer>,
    random: RefCell<Box<dyn FnMut() -> u64>>,
    /// Domains that offered TLS when they were last asked, the oldest first.
    with_tls: RefCell<VecDeque<Arc<str>>>,
    /// How many do so no more.
    downgrades: Cell<u64>,
}

impl Resolver {
    /// Makes a resolver; reads `/etc/resolv.conf` (unless servers are given) and `/etc/hosts` once. A missing or empty
    /// `resolv.conf` is no error: only the hosts file is used then. `random` draws SRV weights: numbers over all of their range,
    /// each as likely. Must be called inside a runtime.
    pub fn new(conf: &DnsConf, random: impl FnMut() -> u64 + 'static) -> Resolver {
        let clock = Box::new(Instant::now);
        Resolver::with(conf, Box::new(Dns::new(conf)), clock, Box::new(random))
    }

    /// As [`new`](Self::new) with another source of records and another clock for what is remembered.
    pub(super) fn with(
        conf: &DnsConf,
        look_up: Box<dyn LookUp>,
        clock: Box<dyn Fn() -> Instant>,
        random: Box<dyn FnMut() -> u64>,
    ) -> Resolver {
        let shared = Shared {
            lookups: Rc::new(Lookups::new(conf, look_up, clock)),
            total_timeout: conf.total_timeout,
            offers: conf.offers.clone(),
            random: RefCell::new(random),
            with_tls: RefCell::default(),
            downgrades: Cell::default(),
        };
        Resolver {
            shared: Rc::new(shared),
        }
    }

    /// The figures.
    pub fn counters(&self) -> ResolveCounters {
        ResolveCounters {
            downgrades: self.shared.downgrades.get(),
            ..self.shared.lookups.counters()
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, wanted: &Wanted, notes: Option<Notes>) -> Resolving {
        let transport = if wanted.secure {
            Some(Transport::Tls)
        } else {
            wanted.transport
        };
        if let Some(found) = numeric(&wanted.host, wanted.port, transport) {
            return Box::pin(std::future::ready(Ok(vec![found])));
        }
        let name = match canonical(&wanted.host) {
            Ok(name) => name,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let question = Question {
            shared: Rc::clone(&self.shared),
            wanted: wanted.clone(),
            name,
            notes,
            deadline: tokio::time::Instant::now() + self.shared.total_timeout,
        };
        Box::pin(async move { question.find().await })
    }
}

impl Shared {
    /// RFC 3263 §7: a domain that offered TLS and does not any more may be somebody's forgery. The operator is told, once.
    fn look_after_tls(&self, name: &Arc<str>, has_tls: bool) {
        let mut with_tls = self.with_tls.borrow_mut();
        let known = with_tls.iter().position(|known| known == name);
        match (known, has_tls) {
            (None, true) => {
                if with_tls.len() >= MAX_WITH_TLS {
                    with_tls.pop_front();
                }
                with_tls.push_back(Arc::clone(name));
            }
            (Some(at), false) => {
                with_tls.remove(at);
                self.downgrades.set(self.downgrades.get() + 1);
                tracing::warn!(domain = %name, "offered TLS by NAPTR and does not any more");
            }
            (None, false) | (Some(_), true) => {}
        }
    }
}

/// Domains with TLS that are remembered.
const MAX_WITH_TLS: usize = 256;

/// One question, from the host to its destinations.
struct Question {
    shared: Rc<Shared>,
    wanted: Wanted,
    name: Arc<str>,
    notes: Option<Notes>,
    deadline: tokio::time::Instant,
}

impl Question {
    async fn find(&self) -> Result<Vec<Destination>, ResolveError> {
        // What we cannot send by is not worth a lookup.
        let Some(transport) = select::last_resort(&self.wanted, &self.shared.offers) else {
            self.note(|| format!("{}: no listener speaks what is asked for", self.name));
            return Err(ResolveError::NoTransport);
        };
        let here = self.shared.lookups.hosts(&self.name);
        if !here.is_empty() {
            // Departs from RFC 3263 §4.1: what the operator wrote into the hosts file stands before NAPTR and SRV.
            self.note(|| format!("{} is {} by the hosts file", self.name, listed(&here)));
            return self.at_default_port(transport, &here);
        }
        // §4.2: a port given means addresses alone.
        if self.wanted.port.is_some() {
            return self.by_addresses(transport).await;
        }
        let services = self.services().await?;
        let mut targets = self.targets(&services).await?;
        if targets.is_empty() {
            return self.by_addresses(transport).await;
        }
        targets.truncate(MAX_TARGETS);
        self.resolve_targets(&targets).await
    }

    /// §4.1: which sets of SRV records to ask for, best first.
    async fn services(&self) -> Result<Vec<Service>, ResolveError> {
        let offers = &self.shared.offers;
        if self.wanted.naptr && self.wanted.transport.is_none() {
            // A server that chokes on NAPTR may still know SRV, which every domain must have beside it (§4.1).
            let found = self.one(Kind::Naptr, &self.name).await;
            if let Err(ResolveError::NotFound) = &found {
                self.shared.look_after_tls(&self.name, false);
            }
            if let Ok(Answer::Naptr(records)) = found {
                let chosen = select::choose(&records, &self.wanted, offers);
                self.shared.look_after_tls(&self.name, chosen.has_tls);
                self.note(|| {
                    let names: Vec<&str> = chosen.services.iter().map(|service| &*service.name).collect();
                    let used = if names.is_empty() {
                        "none of use".into()
                    } else {
                        names.join(", ")
                    };
                    format!("NAPTR {}: {} of them, to {used}", self.name, records.len())
                });
                if !chosen.services.is_empty() {
                    return Ok(chosen.services);
                }
                if chosen.speaks_sip {
                    return Err(ResolveError::NoTransport);
                }
            }
        }
        Ok(select::services(&self.name, &self.wanted, offers))
    }

    /// §4.2: the SRV records of all services, in the order they are to be tried; none if there are none.
    async fn targets(&self, services: &[Service]) -> Result<Vec<(Transport, Srv)>, ResolveError> {
        let mut names = Vec::with_capacity(services.len());
        for service in services {
            names.push((service.transport, canonical(&service.name)?));
        }
        let started: Vec<Rc<Lookup>> = names.iter().map(|(_, name)| self.start(Kind::Srv, name)).collect();
        lookups::wait(&started, self.deadline, None).await;
        let (mut targets, mut failure, mut declined) = (Vec::new(), None, false);
        for ((transport, name), lookup) in names.iter().zip(&started) {
            match self.outcome(Kind::Srv, name, lookup) {
                Ok(Answer::Srv(records)) => {
                    let arranged = select::arrange(&records, &mut **self.shared.random.borrow_mut());
                    // RFC 2782: the root as target means that the service is not available here.
                    let usable = arranged.into_iter().filter(|srv| !srv.target.is_empty());
                    let before = targets.len();
                    targets.extend(usable.map(|srv| (*transport, srv)));
                    declined |= targets.len() == before;
                    self.note(|| format!("SRV {name}: {}", described(&records)));
                }
                Ok(_) | Err(ResolveError::NotFound | ResolveError::NoServers) => {}
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            _ if !targets.is_empty() => Ok(targets),
            // Nobody said that there are none: an address of the domain may well be another machine.
            Some(error) => Err(error),
            None if declined => Err(ResolveError::NoService),
            None => Ok(targets),
        }
    }

    /// The addresses of all targets, asked for at once; who has not answered soon after the first is left out this time.
    async fn resolve_targets(&self, targets: &[(Transport, Srv)]) -> Result<Vec<Destination>, ResolveError> {
        let mut asked: Vec<(Kind, Arc<str>, Rc<Lookup>)> = Vec::new();
        let mut here: Vec<(Arc<str>, Vec<IpAddr>)> = Vec::new();
        for (transport, srv) in targets {
            if let Ok(ip) = srv.target.parse::<IpAddr>() {
                // Not a name, but what is meant is plain.
                here.push((Arc::clone(&srv.target), vec![ip]));
            }
            let Ok(target) = canonical(&srv.target) else { continue };
            let by_file = self.shared.lookups.hosts(&target);
            if !by_file.is_empty() {
                here.push((target, by_file));
                continue;
            }
            for kind in self.kinds(*transport) {
                if !asked.iter().any(|(known, name, _)| *known == kind && *name == target) && asked.len() < MAX_LOOKUPS
                {
                    asked.push((kind, Arc::clone(&target), self.start(kind, &target)));
                }
            }
        }
        let started: Vec<Rc<Lookup>> = asked.iter().map(|(_, _, lookup)| Rc::clone(lookup)).collect();
        lookups::wait(&started, self.deadline, Some(STRAGGLERS_WAIT)).await;
        let mut failure = ResolveError::NotFound;
        for (kind, name, lookup) in &asked {
            match self.outcome(*kind, name, lookup) {
                Ok(Answer::Addresses(found)) => {
                    self.note(|| format!("{} {name}: {}", kind.as_str(), listed(&found)));
                    here.push((Arc::clone(name), found.to_vec()));
                }
                Ok(_) | Err(ResolveError::NotFound) => {}
                Err(error) => failure = error,
            }
        }
        let mut destinations: Vec<Destination> = Vec::new();
        for (transport, srv) in targets {
            for ip in here
                .iter()
                .filter(|(name, _)| *name == srv.target)
                .flat_map(|(_, found)| found)
            {
                self.add(&mut destinations, *ip, srv.port, *transport);
            }
        }
        if destinations.is_empty() {
            Err(failure)
        } else {
            Ok(destinations)
        }
    }

    /// §4.2: the name's own addresses, at the port given or the transport's own.
    async fn by_addresses(&self, transport: Transport) -> Result<Vec<Destination>, ResolveError> {
        let kinds: Vec<Kind> = self.kinds(transport).collect();
        let started: Vec<Rc<Lookup>> = kinds.iter().map(|kind| self.start(*kind, &self.name)).collect();
        lookups::wait(&started, self.deadline, Some(STRAGGLERS_WAIT)).await;
        let (mut found, mut failure) = (Vec::new(), ResolveError::NotFound);
        for (kind, lookup) in kinds.iter().zip(&started) {
            match self.outcome(*kind, &self.name, lookup) {
                Ok(Answer::Addresses(addresses)) => {
                    self.note(|| format!("{} {}: {}", kind.as_str(), self.name, listed(&addresses)));
                    found.extend_from_slice(&addresses);
                }
                Ok(_) | Err(ResolveError::NotFound) => {}
                Err(error) => failure = error,
            }
        }
        if found.is_empty() {
            return Err(failure);
        }
        self.at_default_port(transport, &found)
    }

    fn at_default_port(&self, transport: Transport, found: &[IpAddr]) -> Result<Vec<Destination>, ResolveError> {
        let port = self.wanted.port.unwrap_or(transport.default_port());
        let mut destinations = Vec::new();
        for ip in found {
            self.add(&mut destinations, *ip, port, transport);
        }
        if destinations.is_empty() {
            return Err(ResolveError::NotFound);
        }
        Ok(destinations)
    }

    /// One more destination, if we can send there and it is not known yet.
    fn add(&self, destinations: &mut Vec<Destination>, ip: IpAddr, port: u16, transport: Transport) {
        let is_of_use = self
            .shared
            .offers
            .iter()
            .any(|offer| offer.transport == transport && if ip.is_ipv4() { offer.v4 } else { offer.v6 });
        let new = destination(ip, port, transport, &self.name);
        if is_of_use && destinations.len() < MAX_DESTINATIONS && !destinations.contains(&new) {
            destinations.push(new);
        }
    }

    /// Which addresses are of use for a transport.
    fn kinds(&self, transport: Transport) -> impl Iterator<Item = Kind> + use<> {
        let offer = self.shared.offers.iter().find(|offer| offer.transport == transport);
        let (v4, v6) = offer.map_or((false, false), |offer| (offer.v4, offer.v6));
        [v4.then_some(Kind::A), v6.then_some(Kind::Aaaa)].into_iter().flatten()
    }

    fn start(&self, kind: Kind, name: &Arc<str>) -> Rc<Lookup> {
        self.shared.lookups.start(kind, name)
    }

    async fn one(&self, kind: Kind, name: &Arc<str>) -> Result<Answer, ResolveError> {
        let lookup = [self.start(kind, name)];
        lookups::wait(&lookup, self.deadline, None).await;
        self.outcome(kind, name, &lookup[0])
    }

    /// What a lookup came to, or that it did not end in time; what failed is noted.
    fn outcome(&self, kind: Kind, name: &str, lookup: &Lookup) -> Result<Answer, ResolveError> {
        let outcome = match lookup.outcome() {
            Some(outcome) => outcome.clone(),
            None => Err(ResolveError::Timeout),
        };
        if let Err(error) = &outcome {
            self.note(|| match error {
                ResolveError::NotFound => format!("{} {name}: none", kind.as_str()),
                error => format!("{} {name}: {error}", kind.as_str()),
            });
        }
        outcome
    }

    fn note(&self, text: impl FnOnce() -> String) {
        if let Some(notes) = &self.notes {
            notes(text());
        }
    }
}

fn listed(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    texts.join(", ")
}

fn described(records: &[Srv]) -> String {
    let text = |srv: &Srv| {
        let Srv {
            priority,
            weight,
            port,
            target,
        } = srv;
        format!(
            "{priority} {weight} {port} {}",
            if target.is_empty() { "." } else { target }
        )
    };
    records.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// Once some addresses are there, the others are waited for so long: one name server that is slow to tell of the last backup must
/// not hold up every call.
const STRAGGLERS_WAIT: Duration = Duration::from_millis(200);
/// SRV records of one question whose addresses are looked for.
const MAX_TARGETS: usize = 12;
/// Address lookups of one question.
const MAX_LOOKUPS: usize = 24;
/// Destinations of one question; nobody waits for more.
const MAX_DESTINATIONS: usize = 16;

/// A host name in lower case without the trailing dot (RFC 3261 §25.1 `hostname`; underscores too, which exist in the field).
fn canonical(host: &str) -> Result<Arc<str>, ResolveError> {
    let name = host.strip_suffix('.').unwrap_or(host);
    let mut top = "";
    for label in name.split('.') {
        let sound = (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if !sound {
            return Err(ResolveError::BadName);
        }
        top = label;
    }
    // A number at the end is a mistyped address, and no question for DNS.
    if name.len() > 253 || top.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ResolveError::BadName);
    }
    Ok(name.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_absolute_and_lower_case() {
        assert_eq!(canonical("Gw-1.Example.COM.").as_deref(), Ok("gw-1.example.com"));
        assert_eq!(canonical("localhost").as_deref(), Ok("localhost"));
        assert_eq!(
            canonical("_sip._udp.example.com").as_deref(),
            Ok("_sip._udp.example.com")
        );
    }

    #[test]
    fn what_is_no_host_name_is_never_asked() {
        let long = format!("{}.com", "a.".repeat(130));
        for host in [
            "",
            ".",
            "..",
            "a..b",
            "1.2.3",
            "192.0.2.256",
            "[::1",
            "::1]",
            "a b",
            "a\0",
            "ä.de",
            &long,
        ] {
            assert_eq!(canonical(host), Err(ResolveError::BadName), "{host}");
        }
    }
}

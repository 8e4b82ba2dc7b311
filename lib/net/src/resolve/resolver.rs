//! The resolver of a worker: what stands in front of DNS.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sps_wire::flow::{Destination, Transport};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::dns::{Dns, LookUp};
use super::failures::Failures;
use super::{DnsConf, Resolve, ResolveCounters, ResolveError, Resolving, destination, numeric};

/// The resolver of a worker. Clones share caches. Lookups must run inside the worker's `LocalSet`.
#[derive(Clone)]
pub struct Resolver {
    shared: Rc<Shared>,
}

struct Shared {
    look_up: Box<dyn LookUp>,
    clock: Box<dyn Fn() -> Instant>,
    total_timeout: Duration,
    max_in_flight: usize,
    in_flight: RefCell<HashMap<Arc<str>, Rc<Lookup>>>,
    failures: RefCell<Failures>,
    counters: RefCell<ResolveCounters>,
}

/// One lookup that any number of askers wait for.
#[derive(Default)]
struct Lookup {
    result: RefCell<Option<Result<Rc<[IpAddr]>, ResolveError>>>,
    done: Notify,
}

impl Resolver {
    /// Makes a resolver; reads `/etc/resolv.conf` (unless servers are given) and `/etc/hosts` once. A missing or empty
    /// `resolv.conf` is no error: only the hosts file is used then. Must be called inside a runtime.
    pub fn new(conf: &DnsConf) -> Resolver {
        Resolver::with(conf, Box::new(Dns::new(conf)), Box::new(Instant::now))
    }

    /// As [`new`](Self::new) with another source of addresses and another clock for what is remembered.
    pub(super) fn with(conf: &DnsConf, look_up: Box<dyn LookUp>, clock: Box<dyn Fn() -> Instant>) -> Resolver {
        let shared = Shared {
            look_up,
            clock,
            total_timeout: conf.total_timeout,
            max_in_flight: conf.max_in_flight,
            in_flight: RefCell::default(),
            failures: RefCell::new(Failures::new(conf.failure_cache)),
            counters: RefCell::default(),
        };
        Resolver {
            shared: Rc::new(shared),
        }
    }

    /// The figures.
    pub fn counters(&self) -> ResolveCounters {
        let in_flight = self.shared.in_flight.borrow().len() as u64;
        ResolveCounters {
            in_flight,
            ..*self.shared.counters.borrow()
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, host: &str, port: Option<u16>, transport: Option<Transport>) -> Resolving {
        if let Some(found) = numeric(host, port, transport) {
            return Box::pin(std::future::ready(Ok(vec![found])));
        }
        let shared = Rc::clone(&self.shared);
        let name = canonical(host);
        Box::pin(async move {
            let name = name?;
            let addresses = shared.addresses(Arc::clone(&name)).await?;
            Ok(addresses
                .iter()
                .map(|ip| destination(*ip, Some(&name), port, transport))
                .collect::<Vec<Destination>>())
        })
    }
}

impl Shared {
    /// The addresses of a name, never none.
    async fn addresses(self: Rc<Self>, name: Arc<str>) -> Result<Rc<[IpAddr]>, ResolveError> {
        self.counters.borrow_mut().lookups += 1;
        if let Some(error) = self.failures.borrow_mut().find((self.clock)(), &name) {
            self.counters.borrow_mut().failures_remembered += 1;
            return Err(error);
        }
        let lookup = self.join_or_start(name)?;
        loop {
            let done = lookup.done.notified();
            if let Some(result) = &*lookup.result.borrow() {
                return result.clone();
            }
            done.await;
        }
    }

    /// The lookup of that name under way, else a new one. It goes on when its askers lose interest: the next finds its result.
    fn join_or_start(self: &Rc<Self>, name: Arc<str>) -> Result<Rc<Lookup>, ResolveError> {
        let mut in_flight = self.in_flight.borrow_mut();
        if let Some(lookup) = in_flight.get(&name) {
            self.counters.borrow_mut().joined += 1;
            return Ok(Rc::clone(lookup));
        }
        if in_flight.len() >= self.max_in_flight {
            self.counters.borrow_mut().refused += 1;
            return Err(ResolveError::Busy);
        }
        let lookup = Rc::new(Lookup::default());
        in_flight.insert(Arc::clone(&name), Rc::clone(&lookup));
        tokio::task::spawn_local(Rc::clone(self).run(name, Rc::clone(&lookup)));
        Ok(lookup)
    }

    async fn run(self: Rc<Self>, name: Arc<str>, lookup: Rc<Lookup>) {
        let found = timeout(self.total_timeout, self.look_up.look_up(&name)).await;
        let result = match found.unwrap_or(Err(ResolveError::Timeout)) {
            Ok(addresses) if addresses.is_empty() => Err(ResolveError::NotFound),
            Ok(mut addresses) => {
                addresses.truncate(MAX_ADDRESSES);
                Ok(Rc::from(addresses))
            }
            Err(error) => Err(error),
        };
        self.in_flight.borrow_mut().remove(&name);
        if let Err(error) = &result {
            self.counters.borrow_mut().failed += 1;
            // Being busy is our own state, not the name's.
            if *error != ResolveError::Busy {
                self.failures.borrow_mut().remember((self.clock)(), name, *error);
            }
        }
        *lookup.result.borrow_mut() = Some(result);
        lookup.done.notify_waiters();
    }
}

/// Addresses of one name that are tried; nobody waits for more.
const MAX_ADDRESSES: usize = 16;

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

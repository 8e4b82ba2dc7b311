//! Lookups of one name and record type each, in front of DNS: joined, remembered, counted, capped, bounded in time.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::{timeout, timeout_at};

use super::answers::{Answers, Outcome};
use super::dns::{Found, LookUp};
use super::{DnsConf, ResolveCounters, ResolveError};

/// The record types that RFC 3263 asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Naptr,
    Srv,
    A,
    Aaaa,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::Naptr => "NAPTR",
            Kind::Srv => "SRV",
            Kind::A => "A",
            Kind::Aaaa => "AAAA",
        }
    }
}

/// A name in lower case without a trailing dot, and what is asked of it.
pub(super) type Key = (Kind, Arc<str>);

/// All lookups of a worker.
pub(super) struct Lookups {
    look_up: Box<dyn LookUp>,
    clock: Box<dyn Fn() -> Instant>,
    lookup_timeout: Duration,
    failure_cache: Duration,
    max_in_flight: usize,
    in_flight: RefCell<HashMap<Key, Rc<Lookup>>>,
    answers: RefCell<Answers>,
    counters: RefCell<ResolveCounters>,
}

/// One lookup that any number of questions wait for.
#[derive(Default)]
pub(super) struct Lookup {
    outcome: OnceCell<Outcome>,
    waiting: RefCell<Vec<Rc<Notify>>>,
}

impl Lookup {
    fn ended(outcome: Outcome) -> Rc<Lookup> {
        Rc::new(Lookup {
            outcome: OnceCell::from(outcome),
            waiting: RefCell::default(),
        })
    }

    /// What it came to, if it has ended.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        self.outcome.get()
    }
}

impl Lookups {
    pub(super) fn new(conf: &DnsConf, look_up: Box<dyn LookUp>, clock: Box<dyn Fn() -> Instant>) -> Lookups {
        Lookups {
            look_up,
            clock,
            lookup_timeout: conf.lookup_timeout,
            failure_cache: conf.failure_cache,
            max_in_flight: conf.max_in_flight,
            in_flight: RefCell::default(),
            answers: RefCell::default(),
            counters: RefCell::default(),
        }
    }

    pub(super) fn counters(&self) -> ResolveCounters {
        let in_flight = self.in_flight.borrow().len() as u64;
        ResolveCounters {
            in_flight,
            ..*self.counters.borrow()
        }
    }

    pub(super) fn hosts(&self, name: &str) -> Vec<std::net::IpAddr> {
        self.look_up.hosts(name)
    }

    /// A lookup: remembered, under way, or begun now. It goes on when nobody waits for it any more, and is remembered then.
    pub(super) fn start(self: &Rc<Self>, kind: Kind, name: &Arc<str>) -> Rc<Lookup> {
        let key = (kind, Arc::clone(name));
        let mut counters = self.counters.borrow_mut();
        counters.lookups += 1;
        if let Some(outcome) = self.answers.borrow_mut().find((self.clock)(), &key) {
            counters.remembered += 1;
            return Lookup::ended(outcome);
        }
        let mut in_flight = self.in_flight.borrow_mut();
        if let Some(lookup) = in_flight.get(&key) {
            counters.joined += 1;
            return Rc::clone(lookup);
        }
        if in_flight.len() >= self.max_in_flight {
            counters.refused += 1;
            return Lookup::ended(Err(ResolveError::Busy));
        }
        let lookup = Rc::new(Lookup::default());
        in_flight.insert(key.clone(), Rc::clone(&lookup));
        tokio::task::spawn_local(Rc::clone(self).run(key, Rc::clone(&lookup)));
        lookup
    }

    async fn run(self: Rc<Self>, key: Key, lookup: Rc<Lookup>) {
        let found = timeout(self.lookup_timeout, self.look_up.look_up(key.0, &key.1)).await;
        let Found { outcome, keep_for } = found.unwrap_or_else(|_| Found::error(ResolveError::Timeout));
        self.in_flight.borrow_mut().remove(&key);
        if outcome.as_ref().is_err_and(|error| *error != ResolveError::NotFound) {
            self.counters.borrow_mut().failed += 1;
        }
        // Being busy is our own state, not the name's.
        if !matches!(outcome, Err(ResolveError::Busy)) {
            let keep_for = keep_for.unwrap_or(self.failure_cache);
            let now = (self.clock)();
            self.answers.borrow_mut().remember(now, keep_for, key, outcome.clone());
        }
        let _ = lookup.outcome.set(outcome);
        for waiting in lookup.waiting.borrow_mut().drain(..) {
            waiting.notify_one();
        }
    }
}

/// Waits until all have ended, at most until `deadline`, and no longer than `grace` after the first that found something.
pub(super) async fn wait(lookups: &[Rc<Lookup>], deadline: tokio::time::Instant, grace: Option<Duration>) {
    let wake = Rc::new(Notify::new());
    for lookup in lookups.iter().filter(|lookup| lookup.outcome().is_none()) {
        lookup.waiting.borrow_mut().push(Rc::clone(&wake));
    }
    let (mut until, mut grace) = (deadline, grace);
    loop {
        if lookups.iter().all(|lookup| lookup.outcome().is_some()) {
            return;
        }
        if lookups.iter().any(|lookup| matches!(lookup.outcome(), Some(Ok(_))))
            && let Some(grace) = grace.take()
        {
            until = until.min(tokio::time::Instant::now() + grace);
        }
        if timeout_at(until, wake.notified()).await.is_err() {
            break;
        }
    }
    // Who waits in vain leaves nothing behind.
    for lookup in lookups {
        lookup
            .waiting
            .borrow_mut()
            .retain(|waiting| !Rc::ptr_eq(waiting, &wake));
    }
}

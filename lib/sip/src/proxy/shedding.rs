//! New requests refused because there is more to do than can be done: 503 without Retry-After (RFC 7339 §5.10.2), before
//! anything is looked up and without a transaction. Which ones, in what order, is [`Standing`]; how many, the
//! [`Controller`]'s business.
//!
//! What was refused stays refused: an INVITE whose 503 got lost comes again, and must not ring a phone whose caller may have
//! given up meanwhile (RFC 3261 §8.2.7: the same request, the same answer).

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use sps_wire::flow::Flow;
use sps_wire::uri::Uri;
use sps_wire::{Message, Method, Name};

use super::check::Refusal;
use super::{Action, Clock, Journal, Proxy};
use crate::guard;
use crate::overload::{Controller, Standing, Turn};

/// Tells whether a phone that says it is `aor` (a URI as in From) is registered by the flow it speaks on.
pub trait Registrations {
    /// Must be quick: it is asked for every new request while there is overload.
    fn is_registered(&self, aor: &[u8], flow: &Flow) -> bool;
}

/// Requests refused for overload, summed up for the access log: there is no time for a line each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shed {
    /// Who sent them; unset for all sources beyond those that were told apart.
    pub source: Option<IpAddr>,
    /// How many.
    pub count: u64,
    /// Since when, milliseconds since 1970.
    pub since_ms: u64,
}

/// What a core keeps for this.
pub(super) struct Shedding {
    pub controller: Controller,
    /// How long the message at hand waited for its turn.
    pub waited: Duration,
    pub registrations: Option<Box<dyn Registrations>>,
    refused: Refused,
    /// Where phones send from that were found registered since overload began.
    phones: HashSet<SocketAddr>,
    sums: Vec<(Option<IpAddr>, u64)>,
    summed_since_ms: u64,
}

impl Shedding {
    pub fn new(controller: Controller) -> Shedding {
        Shedding {
            controller,
            waited: Duration::ZERO,
            registrations: None,
            refused: Refused::default(),
            phones: HashSet::new(),
            sums: Vec::new(),
            summed_since_ms: 0,
        }
    }

    fn count(&mut self, clock: Clock, source: IpAddr) {
        if self.sums.is_empty() {
            self.summed_since_ms = clock.unix_ms;
        }
        let source = Some(source).filter(|source| {
            self.sums.len() < MAX_SOURCES || self.sums.iter().any(|(known, _)| *known == Some(*source))
        });
        match self.sums.iter_mut().find(|(known, _)| *known == source) {
            Some((_, count)) => *count += 1,
            None => self.sums.push((source, 1)),
        }
    }
}

/// INVITEs by datagram have passed [`Proxy::hears`].
fn is_gated(flow: Flow, message: Message<'_>) -> bool {
    !flow.transport.is_reliable() && message.method() == Some(Method::Invite)
}

/// Phones whose places are remembered; of more, some have to try again.
const MAX_PHONES: usize = 16_384;

/// Sources told apart in one summary.
const MAX_SOURCES: usize = 16;

/// How often refusals are summed up.
const SUM_EVERY_MS: u64 = 1_000;

impl<W, J: Journal> Proxy<W, J> {
    /// The next message waited so long for its turn.
    pub fn waited(&mut self, wait: Duration) {
        self.shedding.waited = wait;
        self.shedding.controller.waited(wait);
    }

    /// So many messages were lost for want of room where they wait.
    pub fn lost(&mut self, count: u64) {
        self.shedding.controller.lost(count);
    }

    /// Lets the controller of overload see that time passes. Call it in every turn.
    pub fn watch_load(&mut self, clock: Clock) -> Option<Turn> {
        let shedding = &mut self.shedding;
        if !shedding.sums.is_empty() && clock.unix_ms >= shedding.summed_since_ms + SUM_EVERY_MS {
            let since_ms = shedding.summed_since_ms;
            for (source, count) in shedding.sums.drain(..) {
                self.journal.shed(&Shed {
                    source,
                    count,
                    since_ms,
                });
            }
        }
        let asked = shedding.controller.asked();
        let (stepped, turn) = shedding.controller.advance(clock.now);
        if stepped && !shedding.controller.is_active() {
            shedding.phones.clear();
        }
        if stepped {
            self.saying.step(clock.unix_ms, asked);
        }
        turn
    }

    /// The controller of overload, for figures.
    pub fn load(&self) -> &Controller {
        &self.shedding.controller
    }

    /// Whom to ask about registered phones, whose requests are refused last.
    pub fn prefer(&mut self, registrations: Box<dyn Registrations>) {
        self.shedding.registrations = Some(registrations);
    }

    /// Whether a datagram is looked at at all: only what looks like a new INVITE may not be, and only when refusing itself is
    /// too much. What bears a Route may belong to a dialog, what has a Resource-Priority or is for an emergency may be urgent, and a
    /// phone that was found registered is known by where it sends from.
    pub(super) fn hears(&mut self, flow: Flow, bytes: &[u8]) -> bool {
        if !self.shedding.controller.is_active() || flow.transport.is_reliable() || !bytes.starts_with(b"INVITE ") {
            return true;
        }
        let draw = u64::from(self.unforeseeable()) << 32 | 0x8000_0000;
        if self.shedding.controller.hears(draw)
            || bytes[7..].starts_with(b"urn:")
            || self.shedding.phones.contains(&flow.remote)
            || memchr::memmem::find(bytes, b"\nRoute").is_some()
            || memchr::memmem::find(bytes, b"\nResource-Priority").is_some()
        {
            return true;
        }
        self.counters.overload_dropped += 1;
        false
    }

    /// Refuses a request that belongs to nothing we know, if it must be. Gives whether it did.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn shed(
        &mut self,
        clock: Clock,
        flow: Flow,
        reply: Flow,
        message: Message<'_>,
        fingerprint: Option<u128>,
        asks: bool,
        todo: &mut Vec<Action>,
    ) -> bool {
        let mark = fingerprint.map_or(0, |fingerprint| (fingerprint >> 64) as u64);
        let again = match self.shedding.refused.find(mark, clock.now) {
            // It was on its way before our answer was.
            Some(at) if clock.now - self.shedding.waited <= at => {
                self.counters.retransmissions += 1;
                return true;
            }
            found => found.is_some(),
        };
        if !again {
            if !self.shedding.controller.is_active() {
                return false;
            }
            let standing = self.standing(clock, flow, message, asks);
            if self.shedding.controller.admits(standing, is_gated(flow, message), mark) {
                return false;
            }
        }
        self.refuse_as_overload(clock, flow, reply, message, fingerprint, todo);
        true
    }

    /// 503 and a memory of it, no transaction.
    pub(super) fn refuse_as_overload(
        &mut self,
        clock: Clock,
        flow: Flow,
        reply: Flow,
        message: Message<'_>,
        fingerprint: Option<u128>,
        todo: &mut Vec<Action>,
    ) {
        self.counters.overload += 1;
        let mark = fingerprint.map_or(0, |fingerprint| (fingerprint >> 64) as u64);
        self.shedding.refused.note(mark, clock.now);
        self.shedding.count(clock, flow.remote.ip());
        let refusal = Refusal::new(503, "Overload");
        self.answer_statelessly(clock, flow, reply, message, &refusal, todo);
    }

    /// What a new request is worth under overload; sps-proxy(8) has the whole order.
    fn standing(&mut self, clock: Clock, flow: Flow, message: Message<'_>, asks: bool) -> Standing {
        if message.to().is_ok_and(|to| to.tag().is_some()) {
            if message.has(Name::Route) && self.preprocess_route(flow, message).token.is_some() {
                return Standing::Begun;
            }
            // A dialog that does not show that we let it through.
            return Standing::Preferred;
        }
        // RFC 7339 §7.2: who holds back by himself sends what is important; but only a known neighbour is believed.
        let preferred = is_emergency(message)
            || self.is_for_us(message)
            || (asks || has_priority(message)) && (self.conf.overload.trusts.0)(flow.remote.ip())
            || self.guard.borrow_mut().standing(clock.now, flow.remote.ip()) == guard::Standing::Proven
            || self.is_known_phone(flow, message);
        if preferred {
            Standing::Preferred
        } else {
            Standing::Ordinary
        }
    }

    /// OPTIONS that asks whether we live: who gets 503 takes the whole server out of service.
    fn is_for_us(&self, message: Message<'_>) -> bool {
        message.method() == Some(Method::Options)
            && message
                .request_uri()
                .and_then(|uri| Uri::parse(uri).ok())
                .is_some_and(|uri| uri.user.is_none() && self.names_us(&uri))
    }

    /// As [`Self::is_of_registered_phone`], and its place is remembered while there is overload.
    fn is_known_phone(&mut self, flow: Flow, message: Message<'_>) -> bool {
        let registered = self.is_of_registered_phone(flow, message);
        if registered && self.shedding.phones.len() < MAX_PHONES {
            self.shedding.phones.insert(flow.remote);
        }
        registered
    }

    pub(super) fn is_of_registered_phone(&self, flow: Flow, message: Message<'_>) -> bool {
        let Some(registrations) = &self.shedding.registrations else {
            return false;
        };
        let who = match message.method() {
            Some(Method::Register) => message.to(),
            _ => message.from(),
        };
        who.is_ok_and(|who| registrations.is_registered(who.uri, &flow))
    }
}

/// RFC 7339 §5.10.1, RFC 5031: an emergency call.
pub(super) fn is_emergency(message: Message<'_>) -> bool {
    let uri = message.request_uri().unwrap_or_default();
    uri.get(..SOS.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(SOS))
}

/// RFC 7339 §5.10.1, RFC 4412 §10, RFC 7135: namespaces that stand for emergencies and for who deals with them.
pub(super) fn has_priority(message: Message<'_>) -> bool {
    message
        .named(b"Resource-Priority")
        .flat_map(|header| header.value().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|value| {
            PRIORITY_NAMESPACES.iter().any(|name| {
                value
                    .get(..name.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(name))
            })
        })
}

const PRIORITY_NAMESPACES: &[&[u8]] = &[b"ets.", b"wps.", b"esnet."];

const SOS: &[u8] = b"urn:service:sos";

/// What was refused of late: a table by hash in which a newer entry takes an older one's place, so that it never grows.
#[derive(Default)]
struct Refused {
    /// Empty until something is refused.
    places: Vec<Option<(u64, Instant)>>,
    last_at: Option<Instant>,
}

/// Places; at ten thousand refusals a second that is the time in which an INVITE comes again twice.
const PLACES: usize = 1 << 15;

/// Nobody repeats a request for longer (Timer B of who sent it).
const REMEMBER_FOR: Duration = Duration::from_secs(32);

impl Refused {
    /// When this transaction was refused first, if it was.
    fn find(&mut self, mark: u64, now: Instant) -> Option<Instant> {
        let last_at = self.last_at?;
        if now.saturating_duration_since(last_at) > REMEMBER_FOR {
            // Long ago: the memory is given back.
            *self = Refused::default();
            return None;
        }
        let (found, at) = (*self.places.get(mark as usize % PLACES)?)?;
        (found == mark && now.saturating_duration_since(at) <= REMEMBER_FOR).then_some(at)
    }

    fn note(&mut self, mark: u64, now: Instant) {
        if self.places.is_empty() {
            self.places = vec![None; PLACES];
        }
        self.last_at = Some(now);
        self.places[mark as usize % PLACES] = Some((mark, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_remembered_for_as_long_as_it_may_come_again() {
        let now = Instant::now();
        let mut refused = Refused::default();
        assert_eq!(refused.find(7, now), None);
        refused.note(7, now);
        assert_eq!(refused.find(7, now + Duration::from_secs(30)), Some(now));
        assert_eq!(refused.find(8, now), None);
        assert_eq!(
            refused.find(7 + PLACES as u64, now),
            None,
            "same place, another request"
        );
        assert_eq!(refused.find(7, now + Duration::from_secs(33)), None);
        assert!(refused.places.is_empty(), "and costs nothing afterwards");
    }
}

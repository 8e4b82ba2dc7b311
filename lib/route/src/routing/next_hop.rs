//! The next hop of a URI: static routes, then what the URI itself says (RFC 3261 §16.6 step 7).

use super::{Found, Manner, Surroundings, Translated, redirect, reply};
use crate::host::{Host, MAX_NAME_LEN};
use crate::routing::Step;
use crate::target::{NextHop, Target};
use crate::trace::Stage;
use smallvec::{SmallVec, smallvec};
use sps_wire::flow::Transport;
use sps_wire::uri::{Scheme, Uri};
use std::net::SocketAddr;

/// The end of routing by the Request-URI itself.
pub(super) fn of_request_uri(
    uri: &Uri<'_>,
    trusted: bool,
    translated: Translated,
    manner: Manner,
    around: &mut Surroundings<'_>,
) -> Found {
    let (hops, stage) = match translated {
        // What strangers ask for is not even looked up.
        Translated::Foreign if !trusted => return Found::Break(refuse(around)),
        Translated::Foreign => match of_foreign(uri, around) {
            Some(found) => found,
            None => return Found::Break(reply(500, Stage::RequestUri)),
        },
        Translated::Away | Translated::Unknown => match by_number(uri, around) {
            Some(hops) => (hops, Stage::NumberRoute),
            None => return Found::Break(not_found(translated == Translated::Away, around)),
        },
    };
    if !trusted {
        return Found::Break(refuse(around));
    }
    if manner.redirects(None) {
        return Found::Break(redirect::to_hops(uri, &hops.hops, stage, around));
    }
    if hops.hops.is_empty() {
        around.note(stage, format_args!("every next hop is ourselves"));
        return Found::Break(reply(482, stage));
    }
    Found::Break(Step::Targets(smallvec![Target {
        steady: hops.steady,
        ..Target::forward(uri.text, hops.hops, stage)
    }]))
}

/// Next hops in the order they are to be tried.
#[derive(Debug)]
pub(super) struct Hops {
    pub hops: SmallVec<[NextHop; 1]>,
    /// See [`Target::steady`], as far as the hops are concerned.
    pub steady: bool,
}

/// Whether a request can be sent there and forgotten: an address, by datagrams.
pub(super) fn is_steady(hop: &NextHop, around: &Surroundings<'_>) -> bool {
    matches!(hop.host, Host::Addr(_)) && hop.transport.unwrap_or(around.conf.default_transport) == Transport::Udp
}

/// For who is not trusted to use us as a relay.
pub(super) fn refuse(around: &mut Surroundings<'_>) -> Step {
    around.note(
        Stage::Access,
        format_args!("leads to a foreign domain or a gateway: refused"),
    );
    reply(403, Stage::Access)
}

fn not_found(known: bool, around: &mut Surroundings<'_>) -> Step {
    let (status, what) = if known {
        (480, "registered at times, but not now")
    } else {
        (404, "nobody here")
    };
    around.note(Stage::Registry, format_args!("{what}"));
    reply(status, Stage::Registry)
}

/// Static routes on the user part, in the order they are to be tried, without those that lead to ourselves. `None` if
/// the user part is no number or no route applies.
pub(super) fn by_number(uri: &Uri<'_>, around: &mut Surroundings<'_>) -> Option<Hops> {
    let Some(number) = around.conf.number(uri) else {
        around.note(Stage::NumberRoute, format_args!("user part is no number"));
        return None;
    };
    around.scratch.routes.clear();
    around.tables.number(&number, &mut around.scratch.routes);
    if around.scratch.routes.is_empty() {
        around.note(Stage::NumberRoute, format_args!("{number}: no route"));
        return None;
    }
    let (count, s) = counted(around);
    around.note(Stage::NumberRoute, format_args!("{number}: {count} route{s}"));
    Some(arranged(uri, Stage::NumberRoute, around))
}

/// How many routes were found, and the ending of the word.
fn counted(around: &Surroundings<'_>) -> (usize, &'static str) {
    let count = around.scratch.routes.entries().len();
    (count, if count == 1 { "" } else { "s" })
}

/// The next hops of a URI whose host is not ours: static domain routes, else the host itself. `None` if we cannot send
/// there.
pub(super) fn of_foreign(uri: &Uri<'_>, around: &mut Surroundings<'_>) -> Option<(Hops, Stage)> {
    let host = host_of(uri)?;
    around.scratch.routes.clear();
    around.tables.domain(&host, &mut around.scratch.routes);
    if !around.scratch.routes.is_empty() {
        let (count, s) = counted(around);
        around.note(Stage::DomainRoute, format_args!("{host}: {count} route{s}"));
        return Some((arranged(uri, Stage::DomainRoute, around), Stage::DomainRoute));
    }
    let (hop, stage) = by_uri(uri, around)?;
    let steady = is_steady(&hop, around);
    let hops = if is_ourselves(&hop, around) {
        smallvec![]
    } else {
        smallvec![hop]
    };
    Some((Hops { hops, steady }, stage))
}

/// What a URI itself says (RFC 3263 §4): `None` for a transport or scheme that we cannot send by.
pub(super) fn by_uri(uri: &Uri<'_>, around: &mut Surroundings<'_>) -> Option<(NextHop, Stage)> {
    let host = match uri.maddr() {
        // §19.1.1: maddr overrides the host.
        Some(maddr) => to_host(sps_wire::uri::Host::parse(maddr)?)?,
        None => host_of(uri)?,
    };
    let transport = match uri.transport() {
        Some(name) => Some(Transport::from_bytes(name)?),
        None => None,
    };
    let stage = if matches!(host, Host::Addr(_)) {
        Stage::Address
    } else {
        Stage::Dns
    };
    let hop = NextHop {
        host,
        port: uri.port,
        transport,
        secure: is_secure(uri),
        route_id: None,
    };
    around.note(stage, format_args!("{hop}"));
    Some((hop, stage))
}

/// The routes found, drawn by priority and weight.
fn arranged(uri: &Uri<'_>, stage: Stage, around: &mut Surroundings<'_>) -> Hops {
    let mut routes = std::mem::take(&mut around.scratch.routes);
    // A route of lower priority is there for when the others fail, which only who waits for the answer learns.
    let no_reserve = routes.is_level();
    routes.arrange(around.conf.max_alternates, around.random);
    let mut next_hops = SmallVec::<[NextHop; 1]>::new();
    for entry in routes.drain() {
        let (priority, weight) = (entry.priority, entry.weight);
        let hop = NextHop {
            host: entry.host,
            port: entry.port,
            transport: entry.transport,
            secure: is_secure(uri),
            route_id: Some(entry.id),
        };
        let ours = is_ourselves(&hop, around);
        let but = if ours { ": ourselves, left out" } else { "" };
        around.note(stage, format_args!("{hop}, priority {priority}, weight {weight}{but}"));
        if !ours {
            next_hops.push(hop);
        }
    }
    around.scratch.routes = routes;
    let steady = no_reserve && next_hops.first().is_some_and(|hop| is_steady(hop, around));
    Hops {
        hops: next_hops,
        steady,
    }
}

/// §26.2.2: a SIPS URI is reached by TLS on every hop.
fn is_secure(uri: &Uri<'_>) -> bool {
    uri.scheme == Scheme::Sips
}

/// Names that lead to ourselves show when they are resolved: [`crate::Walk`] leaves our sockets out.
fn is_ourselves(hop: &NextHop, around: &Surroundings<'_>) -> bool {
    let Host::Addr(ip) = hop.host else { return false };
    let transport = hop.fixed_transport().unwrap_or(around.conf.default_transport);
    around
        .conf
        .is_own_socket(SocketAddr::new(ip, hop.port.unwrap_or(transport.default_port())))
}

fn host_of(uri: &Uri<'_>) -> Option<Host> {
    match uri.scheme {
        Scheme::Sip | Scheme::Sips => to_host(uri.host),
        Scheme::Tel | Scheme::Other(_) => None,
    }
}

fn to_host(host: sps_wire::uri::Host<'_>) -> Option<Host> {
    match host {
        sps_wire::uri::Host::Name(name) => {
            let name = std::str::from_utf8(name.strip_suffix(b".").unwrap_or(name)).ok()?;
            let is_usable = (1..=MAX_NAME_LEN).contains(&name.len());
            is_usable.then(|| Host::Name(name.to_ascii_lowercase().into()))
        }
        sps_wire::uri::Host::V4(addr) => Some(Host::Addr(addr.into())),
        sps_wire::uri::Host::V6(addr) => Some(Host::Addr(addr.into())),
    }
}

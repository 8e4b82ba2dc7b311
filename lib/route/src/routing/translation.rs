//! Translation: from the Request-URI to contacts. The registry is the first stage that may yield any.

use super::{At, Found, MAX_Q, Manner, Printed, Surroundings, Translated, next_hop, redirect, reply};
use crate::bindings::Contact;
use crate::routing::Step;
use crate::target::{NextHop, Target, TargetSet};
use crate::trace::Stage;
use smallvec::{SmallVec, smallvec};
use sps_wire::NameAddr;
use sps_wire::flow::{Flow, Transport};
use sps_wire::uri::Uri;

/// How often a contact at a domain of ours may lead to another AOR of ours.
const MAX_DEPTH: usize = 4;

/// The bindings of the Request-URI, if it is ours.
///
/// Departs from §16.5: who registers while the request is under way is not added to its targets, because callers would wait for
/// phones that come late, and what was decided could not be told from the access log. The next request finds them.
pub(super) fn by_registry(uri: &Uri<'_>, trusted: bool, manner: Manner, around: &mut Surroundings<'_>) -> Found {
    if !around.conf.is_ours(uri) {
        return Found::Continue(At::NextHop(Translated::Foreign));
    }
    let mut work = Work::new();
    let known = look_up(uri, 0, MAX_Q, &mut work, around);
    if work.is_empty() {
        let translated = if known { Translated::Away } else { Translated::Unknown };
        return Found::Continue(At::NextHop(translated));
    }
    let mut targets = TargetSet::new();
    // Contacts that turn out to be AORs of ours add theirs at the end; q puts all in order afterwards.
    let mut at = 0;
    while at < work.len() && targets.len() < around.conf.max_targets {
        let (depth, contact) = std::mem::take(&mut work[at]);
        at += 1;
        let found = if manner.redirects(contact.handling) {
            redirect::to_contact(contact, depth, trusted, &mut work, around)
        } else {
            follow(contact, depth, trusted, &mut work, around).into_iter().collect()
        };
        for target in found {
            // §16.5: no URI twice.
            if targets
                .iter()
                .all(|other| other.uri != target.uri || other.flow != target.flow)
            {
                targets.push(target);
            }
        }
    }
    redirect::leave_out(uri, &mut targets, around);
    if targets.is_empty() {
        around.note(Stage::Registry, format_args!("no contact can be reached"));
        return Found::Break(reply(480, Stage::Registry));
    }
    targets.sort_by_key(|target| std::cmp::Reverse(target.q));
    Found::Break(Step::Targets(targets))
}

/// Contacts still to be looked at, each with the number of AORs that led to it.
pub(super) type Work = SmallVec<[(usize, Contact); 2]>;

/// Follows a contact at a domain of ours to the bindings there. Whether there were any.
pub(super) fn look_deeper(
    uri: &Uri<'_>,
    depth: usize,
    contact: &Contact,
    work: &mut Work,
    around: &mut Surroundings<'_>,
) -> bool {
    let before = work.len();
    if depth < MAX_DEPTH && work.len() < around.conf.max_targets {
        look_up(uri, depth + 1, contact.q, work, around);
        // Whose callers are to be redirected wants it of all that his name stands for.
        if contact.handling.is_some() {
            for (_, found) in &mut work[before..] {
                found.handling = found.handling.or(contact.handling);
            }
        }
    }
    work.len() > before
}

/// Adds the live bindings of `uri`, which is ours, to `work`; whether there is a record of it.
fn look_up(uri: &Uri<'_>, depth: usize, q: u16, work: &mut Work, around: &mut Surroundings<'_>) -> bool {
    let scratch = &mut *around.scratch;
    scratch.aor.clear();
    if !around.conf.write_aor(uri, &mut scratch.aor) {
        return false;
    }
    scratch.bindings.clear();
    around.tables.registered(&scratch.aor, &mut scratch.bindings);
    let known = scratch.bindings.is_known();
    for mut contact in scratch.bindings.drain() {
        // What a contact leads to cannot be preferred more than the contact itself.
        contact.q = (u32::from(contact.q) * u32::from(q) / u32::from(MAX_Q)) as u16;
        work.push((depth, contact));
    }
    if let Some(trace) = &mut around.trace {
        let aor = Printed(&around.scratch.aor);
        let found = work.len();
        match known {
            _ if found == 1 => trace.note(Stage::Registry, format_args!("{aor}: 1 contact")),
            _ if found > 1 => trace.note(Stage::Registry, format_args!("{aor}: {found} contacts")),
            true => trace.note(Stage::Registry, format_args!("{aor}: known, not registered now")),
            false => trace.note(Stage::Registry, format_args!("{aor}: unknown")),
        }
    }
    known
}

/// Makes a target of a contact, or adds what it stands for to `work`.
fn follow(
    contact: Contact,
    depth: usize,
    trusted: bool,
    work: &mut Work,
    around: &mut Surroundings<'_>,
) -> Option<Target> {
    let stage = Stage::Registry;
    let Ok(uri) = Uri::parse(&contact.uri) else {
        around.note(stage, format_args!("{}: unreadable, left out", Printed(&contact.uri)));
        return None;
    };
    // RFC 3327 §5.3: the Path becomes the Route, and its top URI is the next hop.
    if let Some(top) = contact.path.first() {
        // Kept as received: mostly in angle brackets, with parameters behind them.
        let top = NameAddr::parse(top).map_or(&top[..], |top| top.uri);
        let hop = Uri::parse(top).ok().and_then(|top| next_hop::by_uri(&top, around));
        let Some((hop, _)) = hop else {
            around.note(
                stage,
                format_args!("{}: Path leads nowhere, left out", Printed(&contact.uri)),
            );
            return None;
        };
        around.note(
            stage,
            format_args!("{} by Path {}", Printed(&contact.uri), Printed(top)),
        );
        return Some(target(contact, None, smallvec![hop], stage));
    }
    if let Some(flow) = contact.flow {
        let remote = flow.remote;
        around.note(
            stage,
            format_args!("{} along {remote}/{}", Printed(&contact.uri), flow.transport.as_str()),
        );
        let next_hops = beside_flow(&uri, &flow, around);
        return Some(target(contact, Some(flow), next_hops, stage));
    }
    if !around.conf.is_ours(&uri) {
        let Some((next_hops, _)) = next_hop::of_foreign(&uri, around) else {
            around.note(
                stage,
                format_args!("{}: cannot be reached, left out", Printed(&contact.uri)),
            );
            return None;
        };
        return Some(target(contact, None, next_hops.hops, stage));
    }
    if look_deeper(&uri, depth, &contact, work, around) {
        return None;
    }
    match next_hop::by_number(&uri, around) {
        Some(found) if trusted && !found.hops.is_empty() => Some(target(contact, None, found.hops, Stage::NumberRoute)),
        _ => {
            around.note(
                stage,
                format_args!("{}: ours, but leads nowhere; left out", Printed(&contact.uri)),
            );
            None
        }
    }
}

/// What may be tried when a flow is dead. A datagram has no dead flow. A stream's peer may be called again at its
/// contact, if that is where it was: behind a NAT it is not, and the address would be a stranger's.
fn beside_flow(uri: &Uri<'_>, flow: &Flow, around: &mut Surroundings<'_>) -> SmallVec<[NextHop; 1]> {
    let is_reachable = uri.host.ip().is_none_or(|ip| ip == flow.remote.ip().to_canonical());
    match flow.transport {
        Transport::Tcp | Transport::Tls if is_reachable && !around.conf.is_ours(uri) => {
            next_hop::of_foreign(uri, around)
                .map(|(found, _)| found.hops)
                .unwrap_or_default()
        }
        Transport::Udp | Transport::Tcp | Transport::Tls => smallvec![],
    }
}

fn target(contact: Contact, flow: Option<Flow>, next_hops: SmallVec<[NextHop; 1]>, stage: Stage) -> Target {
    Target {
        uri: contact.uri,
        q: contact.q,
        path: contact.path,
        flow,
        next_hops,
        stage,
        redirect: false,
        // A registration may change between a request and its repetition.
        steady: false,
    }
}

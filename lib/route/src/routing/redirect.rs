//! What a caller is told instead of being served (RFC 3261 §8.3): the contacts of a 3xx.
//!
//! A *binding* is told as it was registered, whatever its scheme; whether to use it is for the caller to decide (§26.4.4).
//! One that was registered through a Path is left out: it is reached through the proxies of the Path alone, and a caller must
//! not obey a Route that a Contact asks for (§19.1.5). A binding's flow is left aside: the caller has to find his own way.
//!
//! A *static route* for numbers becomes the same user at the host and port of its next hop: the gateway is where such a number
//! lives. One for a domain becomes the URI as it was, with the next hop in `maddr` (§19.1.1): the user lives at his own domain,
//! and the hop is but the server that leads there. Among several the one to be tried first has the highest q.
//!
//! Nobody is redirected to the URI he asked for; where that is all there is, the answer is 404 (§8.3).

use super::translation::{Work, look_deeper};
use super::{MAX_Q, Printed, Step, Surroundings, next_hop, reply};
use crate::bindings::Contact;
use crate::target::{NextHop, Target, TargetSet, UriBytes};
use crate::trace::Stage;
use sps_wire::flow::Transport;
use sps_wire::uri::{Scheme, Uri};

/// What becomes of a binding whose callers are redirected: itself, what it stands for here, or nothing.
pub(super) fn to_contact(
    contact: Contact,
    depth: usize,
    trusted: bool,
    work: &mut Work,
    around: &mut Surroundings<'_>,
) -> TargetSet {
    let stage = Stage::Registry;
    let Ok(uri) = Uri::parse(&contact.uri) else {
        around.note(stage, format_args!("{}: unreadable, left out", Printed(&contact.uri)));
        return TargetSet::new();
    };
    if !contact.path.is_empty() {
        around.note(
            stage,
            format_args!(
                "{}: behind a Path, nobody can be redirected there",
                Printed(&contact.uri)
            ),
        );
        return TargetSet::new();
    }
    if around.conf.is_ours(&uri) {
        if look_deeper(&uri, depth, &contact, work, around) {
            return TargetSet::new();
        }
        match next_hop::by_number(&uri, around) {
            Some(found) if trusted => return at_hops(&uri, &found.hops, contact.q, Stage::NumberRoute),
            // A number that leads nowhere here may lead somewhere from where the caller is.
            _ if uri.scheme == Scheme::Tel => {}
            _ => {
                around.note(
                    stage,
                    format_args!("{}: ours, but leads nowhere; left out", Printed(&contact.uri)),
                );
                return TargetSet::new();
            }
        }
    }
    around.note(stage, format_args!("redirect to {}", Printed(&contact.uri)));
    [Target::redirect(contact.uri, contact.q, stage)].into_iter().collect()
}

/// What is told about a Request-URI for which static routes, or nothing but itself, were found.
pub(super) fn to_hops(uri: &Uri<'_>, hops: &[NextHop], stage: Stage, around: &mut Surroundings<'_>) -> Step {
    let mut targets = match stage {
        Stage::NumberRoute | Stage::DomainRoute => at_hops(uri, hops, MAX_Q, stage),
        // The host itself says where it is: that is what the caller has asked for.
        _ => TargetSet::new(),
    };
    leave_out(uri, &mut targets, around);
    if targets.is_empty() {
        around.note(stage, format_args!("nothing but the URI that was asked for"));
        return reply(404, stage);
    }
    Step::Targets(targets)
}

/// §8.3: no redirection to a URI equal to the one that was asked for.
pub(super) fn leave_out(asked: &Uri<'_>, targets: &mut TargetSet, around: &mut Surroundings<'_>) {
    targets.retain(|target| {
        let same = target.redirect
            && Uri::parse(&target.uri).is_ok_and(|uri| {
                uri.text == asked.text || (uri.is_sip() && asked.is_sip() && sps_wire::uri::equal(&uri, asked))
            });
        if same {
            around.note(
                target.stage,
                format_args!("{}: is what was asked for, left out", Printed(&target.uri)),
            );
        }
        !same
    });
}

/// One target a next hop, in the order of trying.
fn at_hops(uri: &Uri<'_>, hops: &[NextHop], q: u16, stage: Stage) -> TargetSet {
    let share = |place: usize| (MAX_Q as usize).saturating_sub(place * Q_STEP).max(Q_STEP);
    hops.iter()
        .enumerate()
        .map(|(place, hop)| {
            let at = match stage {
                Stage::DomainRoute => by_way_of(uri, hop),
                _ => user_at(uri, hop),
            };
            let q = u32::from(q) * share(place) as u32 / u32::from(MAX_Q);
            Target::redirect(at, q as u16, stage)
        })
        .collect()
}

/// How far the q of one next hop lies below that of the one before: who is redirected tries them one after the other.
const Q_STEP: usize = 100;

/// The user of `uri` at a gateway.
fn user_at(uri: &Uri<'_>, hop: &NextHop) -> UriBytes {
    let mut text = start(uri);
    text.extend_from_slice(hop.host.to_string().as_bytes());
    push_port(hop, &mut text);
    push_transport(uri, hop, &mut text);
    // §19.1.6: what was a telephone number remains one.
    if uri.scheme == Scheme::Tel || uri.is_phone() {
        text.extend_from_slice(b";user=phone");
    }
    text
}

/// `uri` as it is, by way of a server.
fn by_way_of(uri: &Uri<'_>, hop: &NextHop) -> UriBytes {
    let mut text = start(uri);
    let mut host = Vec::new();
    uri.host.write(&mut host);
    text.extend_from_slice(&host);
    // §19.1.1: port and transport of such a URI are those of the maddr.
    push_port(hop, &mut text);
    for param in uri.params {
        let replaced = [&b"maddr"[..], b"transport"]
            .iter()
            .any(|name| sps_wire::eq_ignore_case(param.name, name));
        if !replaced {
            text.extend_from_slice(param.text);
        }
    }
    text.extend_from_slice(format!(";maddr={}", hop.host).as_bytes());
    push_transport(uri, hop, &mut text);
    text
}

/// Scheme, user and `@`.
fn start(uri: &Uri<'_>) -> UriBytes {
    let scheme: &[u8] = if uri.scheme == Scheme::Sips { b"sips:" } else { b"sip:" };
    let mut text = UriBytes::from_slice(scheme);
    if let Some(user) = uri.user {
        text.extend_from_slice(user);
        text.push(b'@');
    }
    text
}

fn push_port(hop: &NextHop, text: &mut UriBytes) {
    if let Some(port) = hop.port {
        text.extend_from_slice(format!(":{port}").as_bytes());
    }
}

/// UDP goes without saying, and so does TLS of a SIPS URI.
fn push_transport(uri: &Uri<'_>, hop: &NextHop, text: &mut UriBytes) {
    if let Some(transport @ (Transport::Tcp | Transport::Tls)) = hop.transport
        && uri.scheme != Scheme::Sips
    {
        text.extend_from_slice(b";transport=");
        text.extend_from_slice(transport.as_str().as_bytes());
    }
}

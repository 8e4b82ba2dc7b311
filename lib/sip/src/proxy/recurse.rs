//! Recursion: the contacts of a 300, 301 or 302 become targets themselves (RFC 3261 §16.5, §16.7 step 4).
//!
//! Only of a request whose Request-URI is ours, and that no Route sends on past us: for others we may not choose another
//! (§16.5). Each contact goes through routing like the Request-URI did, with the caller's rights, so that a redirection opens
//! nothing to him that is not open anyway. What routing refuses stays in the response, for the caller to try by himself; so
//! does what is no SIP URI, what would leave a SIPS URI for a plain one, and what is beyond the bound of targets. A URI
//! that was tried before, or is about to be, is not tried again and not told upstream either: this ends every circle.
//! 305 and 380 are no list of targets (§21.3.4, §21.3.5) and pass.
//!
//! A contact's q counts within that of the target it came from. One that is not below what is being tried at the moment
//! joins in at once; others wait their turn.

use bytes::Bytes;
use smallvec::SmallVec;
use sps_wire::flow::Flow;
use sps_wire::uri::{Scheme, Uri};
use sps_wire::{Contacts, Message, Name, Patch};

use super::conf::Fork;
use super::context::Active;
use super::response::note_best;
use super::{Action, Clock, Journal, Proxy, Target, Ticket, forward, request_uri, sips};

/// Names one contact of a 3xx that is being followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecursionTicket {
    /// The request it belongs to.
    pub request: Ticket,
    response: u16,
    contact: u16,
}

/// A 3xx whose contacts are being followed.
pub(super) struct Redirection {
    status: u16,
    /// As it would go upstream.
    bytes: Bytes,
    contacts: SmallVec<[Followed; 2]>,
}

struct Followed {
    uri: Bytes,
    /// Preference in thousandths, that of the redirected target included.
    q: u16,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Routing has been asked.
    Open,
    /// It is among the targets.
    Taken,
    /// It stays in the response.
    Kept,
}

impl Redirection {
    /// Whether routing has still to say where a contact leads.
    pub fn is_open(&self) -> bool {
        self.contacts.iter().any(|contact| contact.fate == Fate::Open)
    }
}

impl<W, J: Journal> Proxy<W, J> {
    /// A branch has ended with a 3xx. Gives whether its contacts are followed; the branch is then settled, and the response
    /// kept here until it is known what is left of it.
    pub(super) fn recurse(
        &mut self,
        request: Ticket,
        branch: u16,
        status: u16,
        bytes: &Bytes,
        todo: &mut Vec<Action>,
    ) -> bool {
        if !self.conf.recurse || !matches!(status, 300..=302) {
            return false;
        }
        let ours = self
            .routed_uri(request)
            .and_then(|uri| Uri::parse(uri).ok())
            .is_some_and(|uri| self.is_ours(&uri));
        let most = self.conf.max_targets;
        let Some(active) = self.active(request) else {
            return false;
        };
        if !ours || active.cancelled || forward::remaining_routes(active).next().is_some() {
            return false;
        }
        let Some(contacts) = contacts_of(active, branch, bytes, most) else {
            return false;
        };
        let Some(entry) = active.branches.get_mut(usize::from(branch)) else {
            return false;
        };
        entry.done = true;
        entry.status = status;
        let response = active.redirections.len() as u16;
        for (at, contact) in contacts.iter().enumerate() {
            if contact.fate == Fate::Open {
                todo.push(Action::Recurse(RecursionTicket {
                    request,
                    response,
                    contact: at as u16,
                }));
            }
        }
        active.redirections.push(Redirection {
            status,
            bytes: bytes.clone(),
            contacts,
        });
        self.close_redirection(request, response);
        true
    }

    /// The URI behind `ticket`, for routing; `None` when nobody waits for the answer any more.
    pub fn recursion_uri(&self, ticket: RecursionTicket) -> Option<&[u8]> {
        let active = self.context(ticket.request)?.active.as_ref()?;
        let redirection = active.redirections.get(usize::from(ticket.response))?;
        let contact = redirection.contacts.get(usize::from(ticket.contact))?;
        (contact.fate == Fate::Open).then_some(&contact.uri[..])
    }

    /// Routing found where a contact leads; no targets: nowhere that its caller may go.
    pub fn on_recursion(
        &mut self,
        clock: Clock,
        ticket: RecursionTicket,
        mut targets: SmallVec<[Target<W>; 1]>,
        todo: &mut Vec<Action>,
    ) {
        if self.recursion_uri(ticket).is_none() {
            return;
        }
        let most = self.conf.max_targets;
        let Some(active) = self.active(ticket.request) else {
            return;
        };
        sips::keep_to_scheme(active, &mut targets);
        let (response, contact) = (usize::from(ticket.response), usize::from(ticket.contact));
        let q = active.redirections[response].contacts[contact].q;
        let mut fate = Fate::Kept;
        let mut taken = 0;
        for mut target in targets {
            if let Some(uri) = request_uri::without_forbidden(&target.uri) {
                target.uri = uri.into();
            }
            target.q = product(q, target.q);
            if is_known(active, &target.uri, &target.path, target.flow) {
                fate = Fate::Taken;
            } else if active.branches.len() + active.waiting.len() < most {
                fate = Fate::Taken;
                taken += 1;
                // The next one is taken from the end; of equals, the one that came first.
                let at = active.waiting.partition_point(|other| other.q < target.q);
                active.waiting.insert(at, target);
            }
        }
        active.redirections[response].contacts[contact].fate = fate;
        self.counters.recursions += taken;
        self.close_redirection(ticket.request, ticket.response);
        self.join_in(ticket.request, todo);
        self.settle(clock, ticket.request, todo);
    }

    /// §16.7 step 4: what is left of the response is a candidate for what goes upstream; a contactless rest is not.
    fn close_redirection(&mut self, request: Ticket, response: u16) {
        let Some(active) = self.active(request) else { return };
        let Some(redirection) = active.redirections.get(usize::from(response)) else {
            return;
        };
        if redirection.is_open() {
            return;
        }
        let status = redirection.status;
        if let Some(rest) = rest_of(redirection) {
            note_best(active, status, rest);
        }
    }

    /// Begins those new targets at once whose q is not below that of what is being tried.
    fn join_in(&mut self, request: Ticket, todo: &mut Vec<Action>) {
        if self.conf.fork != Fork::Parallel {
            return;
        }
        let mut begun = None;
        loop {
            let Some(active) = self.active(request) else { return };
            // RFC 5393 §5.3.3: there may be no breadth left for more at the moment.
            if begun.replace(active.branches.len()) == Some(active.branches.len()) {
                return;
            }
            let trying = active
                .branches
                .iter()
                .filter(|branch| !branch.done)
                .map(|branch| branch.target.q)
                .min();
            match (active.waiting.last(), trying) {
                (Some(next), Some(q)) if next.q >= q => self.begin_branches(request, todo),
                _ => return,
            }
        }
    }
}

/// The contacts of a 3xx with what is to become of each. `None` if there are none, or none that can be read.
fn contacts_of<W>(active: &Active<W>, branch: u16, bytes: &Bytes, most: usize) -> Option<SmallVec<[Followed; 2]>> {
    let mut index = sps_wire::Index::default();
    let message = sps_wire::parse(bytes, &mut index, &sps_wire::Limits::default()).ok()?;
    let Ok(Contacts::List(list)) = message.contacts() else {
        return None;
    };
    let redirected = active.branches.get(usize::from(branch))?.target.q;
    let secure = active.message().request_uri().is_some_and(sips::is_sips);
    let mut contacts: SmallVec<[Followed; 2]> = SmallVec::new();
    for contact in list {
        // Fewer are left than go in, but no more than this are looked at: a response may hold thousands.
        let room = contacts.len() < most;
        // A value that cannot be read stays where it is, and with it the rest of them.
        let contact = contact.ok()?;
        let uri = bytes.slice_ref(contact.uri);
        let q = contact.q().ok().flatten().unwrap_or(sps_wire::Q::ONE).0;
        let parsed = contact.parse_uri().ok().filter(Uri::is_sip);
        let fate = match parsed {
            // §16.7 step 4: "SHOULD NOT recurse to a non-SIPS URI if the Request-URI of the original request was a SIPS URI".
            Some(parsed) if room && (!secure || parsed.scheme == Scheme::Sips) => {
                let twice = contacts.iter().any(|other| is_same_uri(&other.uri, &uri));
                if twice || is_known(active, &uri, &[], None) {
                    Fate::Taken
                } else {
                    Fate::Open
                }
            }
            Some(_) | None => Fate::Kept,
        };
        contacts.push(Followed {
            uri,
            q: product(redirected, q),
            fate,
        });
    }
    (!contacts.is_empty()).then_some(contacts)
}

/// What the response says upstream: as it came, or without the contacts that were taken; `None` if these were all.
fn rest_of(redirection: &Redirection) -> Option<Bytes> {
    let kept = redirection
        .contacts
        .iter()
        .filter(|contact| contact.fate == Fate::Kept)
        .count();
    if kept == redirection.contacts.len() {
        return Some(redirection.bytes.clone());
    }
    if kept == 0 {
        return None;
    }
    let mut index = sps_wire::Index::default();
    let message = sps_wire::parse(&redirection.bytes, &mut index, &sps_wire::Limits::default()).ok()?;
    Some(without_taken(message, redirection))
}

fn without_taken(message: Message<'_>, redirection: &Redirection) -> Bytes {
    let mut patch = Patch::new(message.bytes());
    patch.remove_all(message, Name::Contact);
    let end = message.head_len().saturating_sub(2);
    for (value, contact) in message.addresses(Name::Contact).zip(&redirection.contacts) {
        if let (Ok(value), Fate::Kept) = (value, contact.fate) {
            patch.insert_with(end, |out| {
                out.extend_from_slice(b"Contact: ");
                out.extend_from_slice(value.text());
                out.extend_from_slice(b"\r\n");
            });
        }
    }
    let mut out = Vec::with_capacity(message.bytes().len());
    patch.write(&mut out);
    out.into()
}

/// Whether a URI has been in the target set already (§16.5).
fn is_known<W>(active: &Active<W>, uri: &[u8], path: &[Bytes], flow: Option<Flow>) -> bool {
    let asked: &[u8] = match &active.route.request_uri {
        Some(uri) => uri,
        None => active.message().request_uri().unwrap_or_default(),
    };
    let tried = active.branches.iter().map(|branch| &branch.target);
    tried.chain(&active.waiting).any(|target| {
        let known: &[u8] = if target.uri.is_empty() { asked } else { &target.uri };
        target.path[..] == *path && (flow.is_none() || target.flow == flow) && is_same_uri(known, uri)
    })
}

fn is_same_uri(a: &[u8], b: &[u8]) -> bool {
    a == b || matches!((Uri::parse(a), Uri::parse(b)), (Ok(a), Ok(b)) if sps_wire::uri::equal(&a, &b))
}

/// A share of a share, in thousandths.
fn product(a: u16, b: u16) -> u16 {
    (u32::from(a) * u32::from(b) / 1000) as u16
}

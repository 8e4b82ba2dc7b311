//! What becomes of an AOR's bindings: steps 6 and 7 of RFC 3261 §10.3, as one pure function.

use std::net::SocketAddr;

use sps_wire::{Flow, Uri, uri};

use super::{Asked, Bindings, Bound, Conf, Expiry, Refusal, Wish, Wishes, With};

/// What is to be done to the stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<'a> {
    /// Nothing: a query, a repetition, the removal of what is not there. The bindings in force.
    Keep(Bindings<'a>),
    /// Store these bindings in place of the old ones; none removes the record.
    Store(Bindings<'a>),
}

impl<'a> Decision<'a> {
    /// The bindings that are in force afterwards.
    pub fn bindings(&self) -> &Bindings<'a> {
        match self {
            Decision::Keep(bindings) | Decision::Store(bindings) => bindings,
        }
    }
}

/// Applies a REGISTER to the `current` bindings of its AOR at `now` (seconds since 1970): wholly or not at all.
///
/// Bindings that are over count as gone and are left out of the result.
///
/// # Errors
/// The response to give instead: 403 or 500.
pub fn decide<'a>(
    asked: &Asked<'a>,
    current: impl Iterator<Item = Bound<'a>>,
    now: u64,
    conf: &Conf,
) -> Result<Decision<'a>, Refusal> {
    let current: Bindings<'a> = current.filter(|bound| !bound.is_past(now)).collect();
    match &asked.wishes {
        Wishes::Query => Ok(Decision::Keep(current)),
        Wishes::Clear => clear(asked, current),
        Wishes::Contacts(wishes) => apply(asked, wishes, current, now, conf),
    }
}

/// Step 6: remove everything, provided the request is newer than what it removes.
fn clear<'a>(asked: &Asked<'a>, current: Bindings<'a>) -> Result<Decision<'a>, Refusal> {
    if current
        .iter()
        .any(|bound| !bound.is_permanent() && is_outdated(asked, bound))
    {
        return Err(out_of_order());
    }
    if current.iter().all(Bound::is_permanent) {
        return Ok(Decision::Keep(current));
    }
    Ok(Decision::Store(
        current.into_iter().filter(Bound::is_permanent).collect(),
    ))
}

/// Step 7. `fresh[i]` tells whether binding `i` was set by this very request, so that a contact named twice is bound as it
/// was named last and is not mistaken for a request out of order.
fn apply<'a>(
    asked: &Asked<'a>,
    wishes: &[Wish<'a>],
    mut bindings: Bindings<'a>,
    now: u64,
    conf: &Conf,
) -> Result<Decision<'a>, Refusal> {
    let mut fresh: smallvec::SmallVec<[bool; 16]> = smallvec::smallvec![false; bindings.len()];
    let before = bindings.len();
    let mut changed = false;
    for wish in wishes {
        let place = bindings
            .iter()
            .position(|bound| is_same_contact(&wish.contact, bound.contact));
        match place {
            Some(at) if bindings[at].is_permanent() => return Err(permanent()),
            Some(at) if !fresh[at] && is_outdated(asked, &bindings[at]) => {
                if !is_repetition(asked, wish, &bindings[at], now) {
                    return Err(out_of_order());
                }
            }
            Some(at) if wish.expires_s == 0 => {
                bindings.remove(at);
                fresh.remove(at);
                changed = true;
            }
            Some(at) => {
                bindings[at] = bind(asked, wish, now);
                fresh[at] = true;
                changed = true;
            }
            None if wish.expires_s == 0 => {}
            None => {
                bindings.push(bind(asked, wish, now));
                fresh.push(true);
                changed = true;
            }
        }
    }
    // A list that has become too long by a change of configuration may still be refreshed and shortened.
    if bindings.len() > conf.max_contacts && bindings.len() > before {
        return Err(too_many_contacts());
    }
    Ok(if changed {
        Decision::Store(bindings)
    } else {
        Decision::Keep(bindings)
    })
}

fn bind<'a>(asked: &Asked<'a>, wish: &Wish<'a>, now: u64) -> Bound<'a> {
    Bound {
        contact: wish.contact.text,
        q: wish.q,
        expires: Expiry::At(now + u64::from(wish.expires_s)),
        call_id: asked.call_id,
        cseq: asked.cseq,
        path: asked.path.clone(),
        instance_id: wish.instance_id,
        reg_id: wish.reg_id,
        handling: wish.handling,
        flow: wish.flow,
        received: wish.flow.and_then(|flow| received(&wish.contact, &flow)),
        user_agent: asked.user_agent,
    }
}

/// Where the phone sits, if its contact says otherwise.
fn received(contact: &Uri<'_>, flow: &Flow) -> Option<SocketAddr> {
    let port = contact.port.unwrap_or(flow.transport.default_port());
    let says = contact.host.ip().map(|ip| SocketAddr::new(ip.to_canonical(), port));
    let sits = SocketAddr::new(flow.remote.ip().to_canonical(), flow.remote.port());
    (says != Some(sits)).then_some(sits)
}

/// From the same agent's sequence of REGISTERs, and not later than what set the binding.
fn is_outdated(asked: &Asked<'_>, bound: &Bound<'_>) -> bool {
    asked.call_id == bound.call_id && asked.cseq <= bound.cseq
}

/// The request that set this binding once more: its response was lost. The rest of the binding's life may have become
/// shorter since, never longer.
fn is_repetition(asked: &Asked<'_>, wish: &Wish<'_>, bound: &Bound<'_>, now: u64) -> bool {
    asked.cseq == bound.cseq
        && wish.expires_s > 0
        && matches!(bound.expires, Expiry::At(at) if at <= now + u64::from(wish.expires_s))
        && wish.q == bound.q
        && wish.instance_id == bound.instance_id
        && wish.reg_id == bound.reg_id
        && wish.handling == bound.handling
        && asked.path == bound.path
}

/// §19.1.4. What was stored had been read before, but another version may have stored it.
fn is_same_contact(wanted: &Uri<'_>, stored: &[u8]) -> bool {
    wanted.text == stored || Uri::parse(stored).is_ok_and(|stored| uri::equal(wanted, &stored))
}

fn out_of_order() -> Refusal {
    Refusal::new(500, "CSeq Out of Order")
}

fn permanent() -> Refusal {
    let with = With::Warning("the operator has registered this contact permanently");
    Refusal {
        status: 403,
        reason: "Contact Is Permanent",
        with,
    }
}

/// Also for the reader, which stops there.
pub(super) fn too_many_contacts() -> Refusal {
    let with = With::Warning("this address of record has as many contacts as are allowed");
    Refusal {
        status: 403,
        reason: "Too Many Contacts",
        with,
    }
}

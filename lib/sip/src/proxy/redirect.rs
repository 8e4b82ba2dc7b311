//! The redirect server (RFC 3261 §8.3), and the contacts that ask for redirection among others that are called.
//!
//! Routing says which targets the caller is told instead of being forwarded to. They are the contacts of one 302: §21.3.3 has
//! the client try "the new address(es)" by itself, in the order of their q, which is what the callee has registered them with;
//! 300 (§21.3.1) would have a person choose. No `expires`: what was told holds for this call only (§21.3.3).
//!
//! Where others are called beside them, the 302 counts as what one of the branches has answered: it goes upstream if none of the
//! others says something better (§16.7 step 6).

use smallvec::SmallVec;
use sps_wire::Response;
use sps_wire::write::write_u32;

use super::response::note_best;
use super::{Action, Clock, Journal, Proxy, Target, Ticket, breadth, check};

/// §21.3.3.
const MOVED_TEMPORARILY: u16 = 302;

impl<W, J: Journal> Proxy<W, J> {
    /// Takes those targets out that the caller is told, and makes a response of them: at once if there are no others.
    /// Gives whether there are.
    pub(super) fn tell_redirects(
        &mut self,
        clock: Clock,
        ticket: Ticket,
        targets: &mut SmallVec<[Target<W>; 1]>,
        todo: &mut Vec<Action>,
    ) -> bool {
        if targets.iter().all(|target| !target.redirect) {
            return true;
        }
        let mut values: SmallVec<[Vec<u8>; 4]> = SmallVec::new();
        let several = targets.iter().filter(|target| target.redirect).nth(1).is_some();
        targets.retain(|target| {
            if target.redirect {
                values.push(contact(&target.uri, several.then_some(target.q)));
            }
            !target.redirect
        });
        let extra: SmallVec<[(&str, &[u8]); 4]> = values.iter().map(|value| ("Contact", &value[..])).collect();
        let response = Response {
            extra: &extra,
            ..Response::new(MOVED_TEMPORARILY)
        };
        self.counters.redirected += 1;
        if targets.is_empty() {
            self.respond(clock, ticket, &response, todo);
            return false;
        }
        let Some(bytes) = self.response_bytes(clock, ticket, &response) else {
            return false;
        };
        if let Some(active) = self.active(ticket) {
            note_best(active, MOVED_TEMPORARILY, bytes);
        }
        true
    }

    /// A redirect server is about to forward a request all the same, since its target asks for that: now it has to stand what a
    /// proxy demands (§16.3). Gives whether it does.
    pub(super) fn may_go_onward(&mut self, clock: Clock, ticket: Ticket, todo: &mut Vec<Action>) -> bool {
        if self.conf.mode.forwards() {
            return true;
        }
        let Some(active) = self.context(ticket).and_then(|context| context.active.as_deref()) else {
            return false;
        };
        let message = active.message();
        let stands = check::check_as_server(message, false, true)
            .and_then(|()| check::check_onward(&self.conf, message, &self.sent_by, active.loop_hash))
            .and_then(|()| breadth::incoming(message, &self.conf));
        let Err(refusal) = stands else { return true };
        let extra = refusal.header.as_ref().map(|(name, value)| [(*name, &value[..])]);
        let response = Response {
            reason: refusal.reason,
            extra: extra.as_ref().map_or(&[], |extra| extra),
            ..Response::new(refusal.status)
        };
        self.respond(clock, ticket, &response, todo);
        false
    }
}

/// One Contact value: a URI, and its q in thousandths.
fn contact(uri: &[u8], q: Option<u16>) -> Vec<u8> {
    let mut value = Vec::with_capacity(uri.len() + 10);
    value.push(b'<');
    value.extend_from_slice(uri);
    value.push(b'>');
    match q {
        None => {}
        Some(1000..) => value.extend_from_slice(b";q=1.0"),
        Some(q) => {
            value.extend_from_slice(b";q=0.");
            // §25.1: up to three digits.
            let (mut digits, mut rest) = (3, u32::from(q));
            while digits > 1 && rest.is_multiple_of(10) {
                (digits, rest) = (digits - 1, rest / 10);
            }
            let mut text = Vec::with_capacity(3);
            write_u32(rest, &mut text);
            value.extend(std::iter::repeat_n(b'0', digits - text.len()));
            value.extend_from_slice(&text);
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// §25.1: qvalue
    #[test]
    fn a_q_has_up_to_three_digits() {
        for (q, text) in [
            (None, "<sip:a@b>"),
            (Some(1000), "<sip:a@b>;q=1.0"),
            (Some(500), "<sip:a@b>;q=0.5"),
            (Some(250), "<sip:a@b>;q=0.25"),
            (Some(5), "<sip:a@b>;q=0.005"),
            (Some(10), "<sip:a@b>;q=0.01"),
            (Some(0), "<sip:a@b>;q=0.0"),
        ] {
            assert_eq!(String::from_utf8(contact(b"sip:a@b", q)).expect("text"), text);
        }
    }
}

//! What TLS means for requests: whom a certificate lets speak (RFC 5922 §7.4), and where a SIPS URI may go (RFC 5630).

use std::sync::Arc;

use smallvec::SmallVec;
use sps_wire::flow::Flow;
use sps_wire::{Host, Index, Via};

use super::check::Refusal;
use super::context::Active;
use super::forward::{bracketless, remaining_routes};
use super::{Action, Clock, Journal, Proxy, Target, receive};

impl<W, J: Journal> Proxy<W, J> {
    /// Whether a message that came from a peer which has proved to be `names` says in its topmost Via that it is one of them. A
    /// request that does not is answered 403, an ACK dropped; responses bear our Via, and what cannot be read is for
    /// [`Proxy::on_message`] to refuse.
    pub fn check_via(
        &mut self,
        clock: Clock,
        flow: Flow,
        names: &[Arc<str>],
        bytes: &[u8],
        todo: &mut Vec<Action>,
    ) -> bool {
        let mut index = Index::default();
        let Ok(message) = sps_wire::parse(bytes, &mut index, &self.limits) else {
            return true;
        };
        let Ok(via) = message.top_via() else { return true };
        if !message.is_request() || is_named(&via, names) {
            return true;
        }
        self.counters.refused += 1;
        if let Some(reply) = receive::reply_flow(flow, message) {
            let refusal = Refusal::new(403, "Via Does Not Match Certificate");
            self.refuse(clock, flow, reply, message, &refusal, todo);
        }
        false
    }
}

/// Whether a URI's scheme is `sips`.
pub(super) fn is_sips(uri: &[u8]) -> bool {
    uri.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"sips:"))
}

/// RFC 5630 §5.3: a SIPS URI is retargeted to SIPS contacts only; a SIP URI to a SIPS contact only with that one's scheme made
/// `sip`, and by TLS all the same. What the caller is told he may judge himself (RFC 3261 §26.4.4). Gives whether a SIPS URI is
/// left without a target by that.
pub(super) fn keep_to_scheme<W>(active: &Active<W>, targets: &mut SmallVec<[Target<W>; 1]>) -> bool {
    let request_uri = active.route.request_uri.as_deref().or(active.message().request_uri());
    let secure = request_uri.is_some_and(is_sips);
    let before = targets.len();
    if secure {
        // One without a URI of its own keeps the one received.
        targets.retain(|target| target.redirect || target.uri.is_empty() || is_sips(&target.uri));
    } else {
        for target in targets
            .iter_mut()
            .filter(|target| !target.redirect && is_sips(&target.uri))
        {
            target.secure = true;
            target.uri = [b"sip:", &target.uri[5..]].concat().into();
        }
    }
    before > 0 && targets.is_empty()
}

/// Whether a request may leave by TLS only: its Request-URI or its next Route is SIPS (RFC 3261 §26.2.2), or the contact was.
pub(super) fn must_be_tls<W>(active: &Active<W>, target: &Target<W>) -> bool {
    let uri = if target.uri.is_empty() {
        let received = active.route.request_uri.as_deref();
        received.or(active.message().request_uri()).unwrap_or_default()
    } else {
        &target.uri
    };
    let first_of_path = target.path.first().map(|route| bracketless(route));
    let route = first_of_path.or_else(|| remaining_routes(active).next());
    target.secure || is_sips(uri) || route.is_some_and(is_sips)
}

/// Whether the sent-by host of a Via is among the names, which are in lower case.
fn is_named(via: &Via<'_>, names: &[Arc<str>]) -> bool {
    match via.host {
        Host::Name(host) => {
            let host = host.strip_suffix(b".").unwrap_or(host);
            names.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(host))
        }
        Host::V4(ip) => names.iter().any(|name| name.parse() == Ok(std::net::IpAddr::V4(ip))),
        Host::V6(ip) => names.iter().any(|name| name.parse() == Ok(std::net::IpAddr::V6(ip))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_via_names_a_whole_name_or_address() {
        let names: Vec<Arc<str>> = ["example.com", "2001:db8::1", "192.0.2.7"].map(Arc::from).to_vec();
        let named = |via: &str| is_named(&Via::parse(via.as_bytes()).expect("a Via"), &names);
        for good in ["Example.COM:5061", "example.com.", "[2001:DB8:0::1]:5061", "192.0.2.7"] {
            assert!(named(&format!("SIP/2.0/TLS {good};branch=z9hG4bK1")), "{good}");
        }
        for bad in [
            "sip.example.com",
            "example.com.evil.example",
            "192.0.2.8",
            "[2001:db8::2]",
        ] {
            assert!(!named(&format!("SIP/2.0/TLS {bad};branch=z9hG4bK1")), "{bad}");
        }
        assert!(!is_named(&Via::parse(b"SIP/2.0/TLS example.com").expect("a Via"), &[]));
    }
}

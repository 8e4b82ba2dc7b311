//! What falls away from a URI before it stands in a start line (RFC 3261 §16.4, §16.6 step 2).

use sps_wire::flow::{Flow, Transport};
use sps_wire::uri::Scheme;
use sps_wire::{Host, Param, Uri, eq_ignore_case};

/// §16.6 step 2: a target's URI without what §19.1.1 table 1 keeps out of a Request-URI: headers and the method parameter.
/// `None` if there is nothing of that.
pub(super) fn without_forbidden(uri: &[u8]) -> Option<Vec<u8>> {
    // Nearly all contacts end here.
    if !uri.contains(&b'?') && !uri.windows(7).any(|window| eq_ignore_case(window, b";method")) {
        return None;
    }
    let uri = Uri::parse(uri).ok().filter(Uri::is_sip)?;
    Some(rebuilt(&uri, true, |param| !eq_ignore_case(param.name, b"method")))
}

/// §16.4: a Request-URI without its maddr, if that names us by `is_ours` and the request came to the port and transport that
/// the URI indicates; any port and transport parameter go with it. `None` if it stays as it is.
pub(super) fn without_own_maddr(uri: &Uri<'_>, flow: Flow, is_ours: impl Fn(&Uri<'_>) -> bool) -> Option<Vec<u8>> {
    let host = Host::parse(uri.maddr()?)?;
    let transport = match uri.transport() {
        Some(name) => Transport::from_bytes(name)?,
        None if uri.scheme == Scheme::Sips => Transport::Tls,
        None => Transport::Udp,
    };
    let port = uri.port.unwrap_or(transport.default_port());
    if transport != flow.transport || port != flow.local.port() || !is_ours(&Uri { host, ..*uri }) {
        return None;
    }
    Some(rebuilt(uri, false, |param| {
        !eq_ignore_case(param.name, b"maddr") && !eq_ignore_case(param.name, b"transport")
    }))
}

/// A SIP URI with some of its parameters, without headers, and without its port if so wanted.
fn rebuilt(uri: &Uri<'_>, keep_port: bool, keep: impl Fn(&Param<'_>) -> bool) -> Vec<u8> {
    let mut end = uri.text.len() - uri.headers.len();
    if uri.text[..end].ends_with(b"?") {
        end -= 1;
    }
    end -= uri.params.text().len();
    let mut base = &uri.text[..end];
    if !keep_port
        && uri.port.is_some()
        && let Some(colon) = base.iter().rposition(|byte| *byte == b':')
    {
        base = &base[..colon];
    }
    let mut out = base.to_vec();
    for param in uri.params.into_iter().filter(keep) {
        out.extend_from_slice(param.text);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(uri: &str) -> Option<String> {
        without_forbidden(uri.as_bytes()).map(|uri| String::from_utf8(uri).expect("text"))
    }

    /// §19.1.1 table 1
    #[test]
    fn headers_and_method_fall_away_and_nothing_else() {
        assert_eq!(cleaned("sip:bob@192.0.2.1:5070;transport=tcp;lr"), None);
        assert_eq!(
            cleaned("sip:bob@192.0.2.1:5070;Method=INVITE;transport=tcp?Subject=a&to=b").as_deref(),
            Some("sip:bob@192.0.2.1:5070;transport=tcp")
        );
        assert_eq!(
            cleaned("sips:bob@[2001:db8::1]?a=b").as_deref(),
            Some("sips:bob@[2001:db8::1]")
        );
        assert_eq!(cleaned("sip:bob@example.com?").as_deref(), Some("sip:bob@example.com"));
        assert_eq!(
            cleaned("sip:who?;method=x@example.com;methods=y").as_deref(),
            Some("sip:who?;method=x@example.com;methods=y"),
            "a user part is left alone"
        );
        assert_eq!(cleaned("tel:+33123456789;method=x"), None);
        assert_eq!(cleaned("not a uri?"), None);
    }

    /// §16.4
    #[test]
    fn an_maddr_falls_away_with_port_and_transport_if_it_means_this_socket() {
        let flow = Flow {
            member: 0,
            transport: Transport::Tcp,
            local: ([192, 0, 2, 1], 5070).into(),
            remote: ([192, 0, 2, 9], 5060).into(),
            connection: 1,
        };
        let stripped = |uri: &str| {
            let uri = Uri::parse(uri.as_bytes()).expect("a URI");
            without_own_maddr(&uri, flow, |uri| uri.host.ip() == Some(flow.local.ip()))
                .map(|uri| String::from_utf8(uri).expect("text"))
        };
        assert_eq!(
            stripped("sip:b:pw@example.net:5070;a=b;maddr=192.0.2.1;transport=TCP;c").as_deref(),
            Some("sip:b:pw@example.net;a=b;c")
        );
        for other in [
            "sip:b@example.net:5070;transport=tcp",
            "sip:b@example.net:5070;transport=tcp;maddr=192.0.2.7",
            "sip:b@example.net:5070;transport=udp;maddr=192.0.2.1",
            "sip:b@example.net;transport=tcp;maddr=192.0.2.1",
            "sip:b@example.net:5070;transport=tcp;maddr",
        ] {
            assert_eq!(stripped(other), None, "{other}");
        }
    }
}

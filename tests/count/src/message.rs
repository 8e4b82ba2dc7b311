//! One message by itself: read, and a REGISTER decided.

use std::hint::black_box;

use sps_sip::registrar::{Answers, Asked, Bound, Conf, Decision, Expiry, Setting, decide};
use sps_wire::{Flow, Index, Limits, Message, Name, Transport, Uri, ViaStamp, uri};

/// An INVITE in the middle of a chain: 14 headers, two Via, a Route, a small body.
const INVITE: &[u8] = include_bytes!("../../../lib/wire/benches/invite.sip");

/// All that a proxy reads of a request before it forwards it.
pub fn parse(turns: u64) {
    let (mut index, limits) = (Index::default(), Limits::default());
    for _ in 0..turns {
        let message = sps_wire::parse(black_box(INVITE), &mut index, &limits).expect("an INVITE");
        black_box(view(message));
    }
}

fn view(message: Message<'_>) -> usize {
    let uri = Uri::parse(message.request_uri().expect("a request")).expect("a URI");
    let via = message.top_via().expect("a Via");
    let tags = [message.from(), message.to()].map(|header| header.expect("a name").tag());
    let contact = message
        .addresses(Name::Contact)
        .next()
        .map(|contact| contact.expect("a contact").uri);
    let route = message.routes().next().map(|route| route.expect("a route").uri);
    let record_route = message.record_routes().next().map(|route| route.expect("a route").uri);
    black_box((
        uri,
        via.branch(),
        via.rport(),
        tags,
        message.call_id(),
        contact,
        route,
        record_route,
    ));
    let numbers = (
        message.cseq().expect("a CSeq"),
        message.max_forwards().expect("a number"),
    );
    black_box((numbers, message.content_length().expect("a length")));
    message.body().len()
}

const REGISTER: &[u8] = b"REGISTER sip:example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 10.0.0.4:5062;branch=z9hG4bK-524287-1---a5f2;rport\r\n\
    Max-Forwards: 70\r\n\
    Contact: <sip:alice@10.0.0.4:5062;transport=udp>;expires=600\r\n\
    To: \"Alice\" <sip:alice@example.com>\r\n\
    From: \"Alice\" <sip:alice@example.com>;tag=d42a3e1f\r\n\
    Call-ID: 86895ZmE3YjQ2M2U5ZjE0ZmQ1Zjk4ZTQ5MGQ\r\n\
    CSeq: 4711 REGISTER\r\n\
    Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, MESSAGE, SUBSCRIBE, INFO\r\n\
    User-Agent: phone 5.6\r\n\
    Content-Length: 0\r\n\r\n";

const NOW: u64 = 1_800_000_000;

/// A refresh as the registrar's core sees it: read, decided, answered; the registry's part is `registry-refresh`.
pub fn register(turns: u64) {
    let conf = Conf {
        min_expires_s: 60,
        max_expires_s: 7_200,
        default_expires_s: 3_600,
        max_contacts: 16,
        caller_preferences: false,
        path_without_support: false,
        host: "example.com".into(),
    };
    let flow = Flow {
        member: 0,
        transport: Transport::Udp,
        local: ([192, 0, 2, 1], 5060).into(),
        remote: ([198, 51, 100, 9], 40001).into(),
        connection: 0,
    };
    let (mut index, limits) = (Index::default(), Limits::default());
    let (mut answers, mut key, mut out) = (Answers::default(), Vec::new(), Vec::new());
    for _ in 0..turns {
        key.clear();
        out.clear();
        let message = sps_wire::parse(black_box(REGISTER), &mut index, &limits).expect("a REGISTER");
        let setting = Setting {
            now: NOW,
            stamp: ViaStamp::of(&message.top_via().expect("a Via"), flow.remote),
            to_tag: b"0123456789abcdef",
        };
        let aor = |uri: &Uri<'_>, key: &mut Vec<u8>| {
            uri::canonical_aor(uri, key);
            true
        };
        let asked = Asked::read(message, &flow, &conf, aor, &mut key).expect("nothing to refuse");
        let decision = decide(&asked, std::iter::once(stored(flow)), NOW, &conf).expect("a newer CSeq");
        answers.ok(&asked, decision.bindings(), &setting, &conf, &mut out);
        assert!(matches!(decision, Decision::Store(_)));
        black_box(out.len());
    }
}

/// The binding as the last refresh left it.
fn stored<'a>(flow: Flow) -> Bound<'a> {
    Bound {
        contact: b"sip:alice@10.0.0.4:5062;transport=udp",
        q: sps_wire::Q::ONE,
        expires: Expiry::At(NOW + 300),
        call_id: b"86895ZmE3YjQ2M2U5ZjE0ZmQ1Zjk4ZTQ5MGQ",
        cseq: 4_710,
        path: [].into_iter().collect(),
        instance_id: None,
        reg_id: None,
        handling: None,
        flow: Some(flow),
        received: Some(flow.remote),
        user_agent: Some(b"phone 5.6"),
    }
}

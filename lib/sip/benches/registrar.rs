//! What a refresh costs in the core: read, decide, answer. The store's part is not in it.

use divan::Bencher;
use sps_sip::registrar::{Answers, Asked, Bound, Conf, Decision, Expiry, Setting, decide};
use sps_wire::{Flow, Index, Limits, Transport, Uri, ViaStamp, parse, uri};

#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

const REQUEST: &[u8] = b"REGISTER sip:example.com SIP/2.0\r\n\
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

#[divan::bench]
fn refresh(bencher: Bencher<'_, '_>) {
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
        local: "192.0.2.1:5060".parse().unwrap(),
        remote: "198.51.100.9:40001".parse().unwrap(),
        connection: 0,
    };
    let (mut index, limits) = (Index::default(), Limits::default());
    let (mut answers, mut key, mut out) = (Answers::default(), Vec::new(), Vec::new());
    bencher.bench_local(move || {
        key.clear();
        out.clear();
        let message = parse(divan::black_box(REQUEST), &mut index, &limits).unwrap();
        let setting = Setting {
            now: NOW,
            stamp: ViaStamp::of(&message.top_via().unwrap(), flow.remote),
            to_tag: b"0123456789abcdef",
        };
        let aor = |uri: &Uri<'_>, key: &mut Vec<u8>| {
            uri::canonical_aor(uri, key);
            true
        };
        let asked = Asked::read(message, &flow, &conf, aor, &mut key).unwrap();
        let decision = decide(&asked, std::iter::once(stored(flow)), NOW, &conf).unwrap();
        answers.ok(&asked, decision.bindings(), &setting, &conf, &mut out);
        assert!(matches!(decision, Decision::Store(_)));
        out.len()
    });
}

//! What must hold for any bytes at all: no panic, no range outside, no work that grows with the square; and for any
//! well-formed message: what is written is read back, and what is not edited leaves as it came.

use proptest::prelude::*;
use sps_wire::frame::{Frame, Framer};
use sps_wire::{
    Contacts, Index, Limits, Message, Method, Name, NameAddr, Patch, Response, Uri, Via, ViaStamp, parse, request, uri,
    write_response,
};

const INVITE: &[u8] = include_bytes!("../benches/invite.sip");

/// Reads everything of a message, and checks that every range lies inside and means what it says.
fn exercise(message: Message<'_>) {
    let len = message.bytes().len();
    let inside =
        |range: std::ops::Range<usize>| assert!(range.start <= range.end && range.end <= len, "{range:?} of {len}");
    inside(message.start_range());
    inside(message.request_uri_range());
    assert!(message.head_len() <= len);
    let mut end = message.start_range().end;
    for header in message.headers() {
        inside(header.line());
        inside(header.value_range());
        assert_eq!(header.line().start, end, "headers follow one another");
        end = header.line().end;
        assert_eq!(&message.bytes()[header.value_range()], header.value());
        for value in header.values() {
            inside(value.range());
            inside(value.removal_range());
            let _ = (
                Via::parse(value.text()),
                NameAddr::parse(value.text()),
                Uri::parse(value.text()),
            );
        }
        assert!(message.named(header.raw_name()).next().is_some());
    }
    assert_eq!(end + 2, message.head_len(), "an empty line ends the head");
    for via in message.vias().flatten() {
        let _ = (
            via.branch(),
            via.received(),
            via.rport(),
            via.params.into_iter().count(),
        );
        let stamp = ViaStamp::of(&via, "192.0.2.1:5060".parse().unwrap());
        let mut patch = Patch::new(message.bytes());
        stamp.patch(&via, &mut patch);
        patch.write(&mut Vec::new());
    }
    let mut uris: Vec<Uri<'_>> = message
        .request_uri()
        .and_then(|text| Uri::parse(text).ok())
        .into_iter()
        .collect();
    let mut addresses: Vec<_> = [message.from(), message.to()].into_iter().flatten().collect();
    if let Ok(Contacts::List(contacts)) = message.contacts() {
        addresses.extend(contacts.flatten());
    }
    addresses.extend(
        message
            .routes()
            .chain(message.record_routes())
            .chain(message.paths())
            .flatten(),
    );
    for address in addresses {
        let _ = (address.tag(), address.q(), address.expires());
        inside(address.range());
        uris.extend(address.parse_uri());
    }
    for one in &uris {
        for other in &uris {
            assert_eq!(uri::equal(one, other), uri::equal(other, one));
        }
        assert!(uri::equal(one, one));
        let mut key = Vec::new();
        uri::canonical_aor(one, &mut key);
        let mut again = Vec::new();
        uri::canonical_aor(&Uri::parse(&key).unwrap(), &mut again);
        assert_eq!(key, again);
    }
    let _ = (
        message.max_forwards(),
        message.expires(),
        message.content_length(),
        message.cseq(),
        message.call_id(),
    );
    let mut out = Vec::new();
    let _ = request::write_cancel(message.bytes(), &mut out);
}

/// Parses, and looks at whatever comes out of it.
fn survive(bytes: &[u8]) {
    let mut index = Index::default();
    match parse(bytes, &mut index, &Limits::default()) {
        Ok(message) => exercise(message),
        Err(error) => {
            if let Some(message) = index.salvage(bytes) {
                let mut out = Vec::new();
                let response = Response {
                    to_tag: Some(b"t"),
                    ..Response::new(error.fault.status())
                };
                write_response(message, &response, &mut out);
                assert!(out.starts_with(b"SIP/2.0 ") && out.ends_with(b"\r\n\r\n"));
            }
        }
    }
    assert!(
        index
            .message(bytes)
            .is_none_or(|message| message.bytes().len() <= bytes.len())
    );
    let _ = (
        Uri::parse(bytes),
        Via::parse(bytes),
        NameAddr::parse(bytes),
        Name::from_bytes(bytes),
        sps_wire::Flow::parse(bytes),
    );
}

/// Pieces that mean something to a SIP parser, in any order.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"\r\n",
        b"\r\n ",
        b"\r",
        b"\n",
        b"\0",
        b"\\\0",
        b":",
        b";",
        b",",
        b"<",
        b">",
        b"\"",
        b"\\",
        b"=",
        b"%",
        b"%4",
        b"@",
        b"?",
        b"&",
        b"[",
        b"]",
        b"[::1]",
        b" ",
        b"\t",
        b"INVITE ",
        b"ACK ",
        b"sip:",
        b"sips:a@b",
        b"tel:+1",
        b" SIP/2.0\r\n",
        b"SIP/2.0 200 OK\r\n",
        b"SIP/2.0/UDP h",
        b"Via: ",
        b"v:",
        b"From: ",
        b"f:",
        b"To: ",
        b"t: <sip:a@b>",
        b"Call-ID: c",
        b"i:",
        b"CSeq: 1 INVITE",
        b"Content-Length: 0",
        b"l: 5",
        b"Contact: *",
        b"m:",
        b"Route: ",
        b"Expires: 1",
        b";tag=1",
        b";branch=z9hG4bK",
        b";rport",
        b";lr",
        b"\r\n\r\n",
        b"\xff\xfe",
        b"1",
        b"99999999999",
        b"a",
    ];
    prop::collection::vec(prop::sample::select(pieces), 0..60).prop_map(|pieces| pieces.concat())
}

/// A good message with some bytes changed, put in or taken out.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4u8);
    prop::collection::vec(change, 1..8).prop_map(|changes| {
        let mut bytes = INVITE.to_vec();
        for (place, byte, kind) in changes {
            let at = place.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"\r\n \t,;<>\":=%@\0"[usize::from(byte) % 14]),
            }
        }
        bytes
    })
}

fn token() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9.!%*_+`'~-]{1,12}"
}

fn sip_uri() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        "[a-z][a-z0-9]{0,8}(\\.[a-z]{2,3})?",
        Just("192.0.2.7".to_owned()),
        Just("[2001:db8::7]".to_owned())
    ];
    (
        "(sip|sips)",
        "([a-zA-Z0-9&=+$,;?/_.!~*'()-]|%[0-9A-F]{2}){1,10}",
        host,
        prop::option::of(1..65535u16),
        "(;lr|;transport=tcp|;[a-z]{1,4}=[a-z0-9]{1,4}){0,3}",
    )
        .prop_map(|(scheme, user, host, port, params)| {
            let port = port.map_or(String::new(), |port| format!(":{port}"));
            format!("{scheme}:{user}@{host}{port}{params}")
        })
}

/// White space where the grammar lets it stand.
fn lws() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", " ", "\t", "\r\n ", "  \r\n\t "]).prop_map(str::to_owned)
}

#[derive(Clone, Debug)]
struct Spec {
    method: String,
    uri: String,
    vias: Vec<(String, String)>,
    from: (String, String),
    to: String,
    routes: Vec<String>,
    call_id: String,
    cseq: u32,
    extra: Vec<(String, String)>,
    space: String,
    compact: bool,
    body: Vec<u8>,
}

fn spec() -> impl Strategy<Value = Spec> {
    let ids = (
        token(),
        sip_uri(),
        (sip_uri(), token()),
        sip_uri(),
        token(),
        0..1u32 << 31,
    );
    let lists = (
        prop::collection::vec((token(), "[a-z]{1,8}"), 1..4),
        prop::collection::vec(sip_uri(), 0..4),
        prop::collection::vec(("X-[a-zA-Z0-9]{1,8}", "[ -~]{0,20}"), 0..6),
        prop::collection::vec(any::<u8>(), 0..40),
    );
    (ids, lists, lws(), any::<bool>()).prop_map(
        |((method, uri, from, to, call_id, cseq), (vias, routes, extra, body), space, compact)| Spec {
            method,
            uri,
            vias,
            from,
            to,
            routes,
            call_id,
            cseq,
            extra,
            space,
            compact,
            body,
        },
    )
}

impl Spec {
    fn write(&self) -> Vec<u8> {
        let s = &self.space;
        let name = |long: &str, short: &str| {
            if self.compact {
                short.to_owned()
            } else {
                long.to_owned()
            }
        };
        let vias: Vec<_> = self
            .vias
            .iter()
            .map(|(branch, host)| format!("SIP{s}/{s}2.0{s}/{s}UDP {s}{host}{s};{s}branch{s}={s}{branch}"))
            .collect();
        let mut text = format!("{} {} SIP/2.0\r\n", self.method, self.uri);
        text += &format!("{}:{s}{}\r\n", name("Via", "v"), vias.join(&format!("{s},{s}")));
        text += &format!(
            "{}  : \"a, \\\"b\\\"\"{s}<{}>{s};{s}tag{s}={s}{}\r\n",
            name("FROM", "f"),
            self.from.0,
            self.from.1
        );
        text += &format!("{}\t:{s}<{}>{s}\r\n", name("To", "t"), self.to);
        for route in &self.routes {
            text += &format!("Route:{s}<{route}>{s}\r\n");
        }
        text += &format!(
            "{}: {}\r\ncSEQ:{s}{} {s}{}\r\n",
            name("Call-ID", "i"),
            self.call_id,
            self.cseq,
            self.method
        );
        for (name, value) in &self.extra {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("{}: {}\r\n\r\n", name("Content-Length", "L"), self.body.len());
        [text.as_bytes(), &self.body].concat()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        survive(&bytes);
    }

    #[test]
    fn any_order_of_meaningful_pieces_is_survived(bytes in soup()) {
        survive(&bytes);
        let head = b"INVITE sip:a@b SIP/2.0\r\nv: SIP/2.0/UDP h\r\nf: <sip:a>\r\nt: <sip:b>\r\ni: c\r\nCSeq: 1 INVITE\r\n";
        survive(&[head, &bytes[..], b"\r\n\r\n"].concat());
    }

    #[test]
    fn any_damage_to_a_message_is_survived(bytes in mutated()) {
        survive(&bytes);
    }

    #[test]
    fn without_edits_a_message_leaves_as_it_came(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut out = Vec::new();
        Patch::new(&bytes).write(&mut out);
        prop_assert_eq!(out, bytes);
    }

    /// Edits against the simplest model of them: one byte after the other.
    #[test]
    fn removals_and_inserts_do_what_they_say(removals in prop::collection::vec((0..60usize, 0..12usize), 0..5), inserts in prop::collection::vec((0..=50usize, "[a-z]{0,3}"), 0..5)) {
        let bytes: Vec<u8> = (0..50).map(|value| value + 160).collect();
        let mut patch = Patch::new(&bytes);
        for (start, len) in &removals {
            patch.remove(*start..start + len);
        }
        for (at, text) in &inserts {
            patch.insert(*at, text.as_bytes());
        }
        let mut out = Vec::new();
        patch.write(&mut out);
        let kept: Vec<u8> = (0..50).filter(|at| !removals.iter().any(|(start, len)| (*start..start + len).contains(at))).map(|at| bytes[at]).collect();
        let left: Vec<u8> = out.iter().copied().filter(|byte| *byte >= 160).collect();
        prop_assert_eq!(left, kept);
        let mut in_order = inserts.clone();
        in_order.sort_by_key(|(at, _)| *at);
        let texts: Vec<u8> = out.into_iter().filter(|byte| *byte < 160).collect();
        prop_assert_eq!(texts, in_order.into_iter().map(|(_, text)| text).collect::<String>().into_bytes());
    }

    #[test]
    fn what_is_written_is_read(spec in spec()) {
        let bytes = spec.write();
        let mut index = Index::default();
        let message = parse(&bytes, &mut index, &Limits::default()).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&bytes)));
        exercise(message);
        prop_assert_eq!(message.method(), Some(Method::from_bytes(spec.method.as_bytes())));
        prop_assert_eq!(message.request_uri(), Some(spec.uri.as_bytes()));
        let vias: Vec<_> = message.vias().map(|via| via.unwrap()).collect();
        prop_assert_eq!(vias.len(), spec.vias.len());
        for (via, (branch, _)) in vias.iter().zip(&spec.vias) {
            prop_assert_eq!(via.branch(), Some(branch.as_bytes()));
        }
        let from = message.from().unwrap();
        prop_assert_eq!((from.uri, from.tag()), (spec.from.0.as_bytes(), Some(spec.from.1.as_bytes())));
        prop_assert_eq!(message.to().unwrap().uri, spec.to.as_bytes());
        let routes: Vec<_> = message.routes().map(|route| route.unwrap().uri).collect();
        prop_assert_eq!(routes, spec.routes.iter().map(|route| route.as_bytes()).collect::<Vec<_>>());
        prop_assert_eq!(message.call_id(), spec.call_id.as_bytes());
        prop_assert_eq!(message.cseq().unwrap().number, spec.cseq);
        prop_assert_eq!(message.body(), &spec.body[..]);
        for (name, value) in &spec.extra {
            prop_assert!(message.named(name.as_bytes()).any(|header| header.value() == value.trim().as_bytes()));
        }

        // Take the top Via away and put it back: the same values in the same order.
        let top = message.top_via().unwrap();
        let mut patch = Patch::new(message.bytes());
        patch.remove_first(message, Name::Via, 1);
        patch.insert_with(message.start_range().end, |out| { out.extend_from_slice(b"Via: "); out.extend_from_slice(top.value().text()); out.extend_from_slice(b"\r\n"); });
        let mut out = Vec::new();
        patch.write(&mut out);
        let mut again = Index::default();
        let moved = parse(&out, &mut again, &Limits::default()).unwrap();
        prop_assert!(moved.values(Name::Via).map(|via| via.text().to_vec()).eq(message.values(Name::Via).map(|via| via.text().to_vec())));

        // An answer to it is a message too, with the same way back.
        let mut out = Vec::new();
        write_response(message, &Response { to_tag: Some(b"tt"), ..Response::new(404) }, &mut out);
        let mut again = Index::default();
        let response = parse(&out, &mut again, &Limits::default()).unwrap();
        prop_assert_eq!((response.status(), response.to().unwrap().tag()), (Some(404), Some(&b"tt"[..])));
        prop_assert_eq!(response.vias().count(), vias.len());
    }

    /// The framer cuts where the parser ends, wherever the stream is torn.
    #[test]
    fn a_stream_is_cut_where_the_messages_end(specs in prop::collection::vec(spec(), 1..4), cuts in prop::collection::vec(1..90usize, 1..40)) {
        let messages: Vec<_> = specs.iter().map(Spec::write).collect();
        let stream = messages.concat();
        let mut framer = Framer::default();
        let (mut start, mut shown) = (0, 0);
        let mut found = Vec::new();
        for cut in cuts.iter().cycle() {
            match framer.next(&stream[start..shown], &Limits::default()) {
                Frame::NeedMore if shown == stream.len() => break,
                Frame::NeedMore => shown = (shown + cut).min(stream.len()),
                Frame::Message { len } => {
                    found.push(stream[start..start + len].to_vec());
                    start += len;
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(found, messages);
    }

    #[test]
    fn a_uri_equals_itself_whatever_is_escaped(uri in sip_uri(), places in prop::collection::vec(any::<prop::sample::Index>(), 0..4)) {
        let user_start = uri.find(':').unwrap() + 1;
        let user_end = uri.find('@').unwrap();
        let mut user: Vec<String> = Vec::new();
        let mut rest = &uri[user_start..user_end];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(if rest.starts_with('%') { 3 } else { 1 });
            user.push(piece.to_owned());
            rest = behind;
        }
        for place in places {
            let at = place.index(user.len());
            if user[at].len() == 1 && !";/?:@&=+$,".contains(&user[at]) {
                user[at] = format!("%{:02x}", user[at].as_bytes()[0]);
            }
        }
        let other = format!("{}{}{}", &uri[..user_start], user.concat(), &uri[user_end..]);
        let [one, other] = [&uri, &other].map(|text| Uri::parse(text.as_bytes()).unwrap());
        prop_assert!(uri::equal(&one, &other));
        let [one, other] = [one, other].map(|uri| { let mut key = Vec::new(); uri::canonical_aor(&uri, &mut key); key });
        prop_assert_eq!(one, other);
    }
}

/// Work must not grow with the square of what a stranger sends: each of these would take minutes if it did.
#[test]
fn large_and_hostile_is_refused_or_linear() {
    let limits = Limits {
        message_len: 1 << 22,
        head_len: 1 << 22,
        header_len: 1 << 21,
        headers: 60_000,
    };
    let head = "INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:a>\r\nTo: <sip:b>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n";
    for lines in [
        format!("Route: {}\r\n", ",".repeat(1_000_000)),
        format!("Route: {}\r\n", "\"".repeat(1_000_001)),
        format!("Route: {}\r\n", "<sip:a>,".repeat(100_000)),
        format!("Route: {}\r\n", "\"a,".repeat(300_000)),
        format!("Route: <sip:a{}>\r\n", ";a".repeat(400_000)),
        format!("Contact: <sip:a>{}\r\n", ";a=b".repeat(250_000)),
        format!("Subject: {}\r\n", "\r\n ".repeat(300_000)),
        "Route: <sip:a>\r\n".repeat(50_000),
        "v: SIP/2.0/UDP h;branch=x\r\n".repeat(50_000),
    ] {
        let text = format!("{head}{lines}\r\n");
        let mut index = Index::default();
        let message = parse(text.as_bytes(), &mut index, &limits).unwrap();
        let _ = (
            message.routes().count(),
            message.vias().count(),
            message.values(Name::Subject).count(),
        );
        if let Ok(Contacts::List(contacts)) = message.contacts() {
            contacts.for_each(drop);
        }
        assert!(
            message
                .routes()
                .flatten()
                .all(|route| route.parse_uri().is_ok() || route.uri.len() > 1_000)
        );
        let mut patch = Patch::new(message.bytes());
        patch.remove_all(message, Name::Route);
        patch.write(&mut Vec::new());
        assert!(
            parse(text.as_bytes(), &mut Index::default(), &Limits::default())
                .is_err_and(|error| error.status() == Some(513))
        );
        assert!(!matches!(
            Framer::default().next(text.as_bytes(), &Limits::default()),
            Frame::NeedMore | Frame::Message { .. }
        ));
    }
}

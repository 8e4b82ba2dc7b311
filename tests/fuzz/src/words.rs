//! Values of single headers: read, written anew, read again; and lists of them.

use crate::limits;
use sps_wire::uri::{canonical_aor, equal};
use sps_wire::write::write_host;
use sps_wire::{CSeq, Contacts, Host, Index, Message, Name, NameAddr, Params, Patch, Q, Uri, Via, parse};

/// A URI equals itself and its canonical form, which has no other.
pub fn uri(bytes: &[u8]) {
    let mut halves = bytes.splitn(2, |byte| *byte == b'\n');
    let Some(Ok(one)) = halves.next().map(Uri::parse) else {
        return;
    };
    assert!(equal(&one, &one));
    let mut key = Vec::new();
    canonical_aor(&one, &mut key);
    let parsed = Uri::parse(&key).expect("a canonical form can be read");
    let mut again = Vec::new();
    canonical_aor(&parsed, &mut again);
    assert_eq!(key, again);
    if let Some(Ok(other)) = halves.next().map(Uri::parse) {
        assert_eq!(equal(&one, &other), equal(&other, &one));
    }
    let bracketed = [
        b"<".as_slice(),
        bytes.split(|byte| *byte == b'\n').next().unwrap_or_default(),
        b">",
    ]
    .concat();
    let address = NameAddr::parse(&bracketed).expect("a URI stands in brackets");
    assert_eq!(address.uri, one.text);
}

/// A Via from its parts is the same Via.
pub fn via(bytes: &[u8]) {
    let Ok(via) = Via::parse(bytes) else { return };
    let mut out = b"SIP/2.0/".to_vec();
    out.extend_from_slice(via.transport);
    out.push(b' ');
    match via.host {
        Host::Name(name) => out.extend_from_slice(name),
        Host::V4(ip) => write_host(ip.into(), &mut out),
        Host::V6(ip) => write_host(ip.into(), &mut out),
    }
    if let Some(port) = via.port {
        out.extend_from_slice(format!(":{port}").as_bytes());
    }
    for param in via.params {
        out.extend_from_slice(param.text);
    }
    let again = Via::parse(&out).expect("written from its parts");
    assert_eq!(
        (again.transport, again.host, again.port),
        (via.transport, via.host, via.port)
    );
    assert_eq!(
        (again.branch(), again.received(), again.rport()),
        (via.branch(), via.received(), via.rport())
    );
    one_value(Name::Via, bytes, |message| {
        let top = message.top_via().expect("alone it was a Via");
        assert_eq!(top.branch(), via.branch());
    });
}

/// An address from its parts is the same address.
pub fn name_addr(bytes: &[u8]) {
    let Ok(address) = NameAddr::parse(bytes) else { return };
    let mut out = address.display.to_vec();
    out.extend_from_slice(b" <");
    out.extend_from_slice(address.uri);
    out.push(b'>');
    for param in address.params {
        out.extend_from_slice(param.text);
    }
    let again = NameAddr::parse(sps_wire::text::trim(&out)).expect("written from its parts");
    assert_eq!((again.uri, again.tag()), (address.uri, address.tag()));
    assert_eq!(
        sps_wire::text::trim(again.display),
        sps_wire::text::trim(address.display)
    );
    assert_eq!(again.q().ok(), address.q().ok());
    assert_eq!(again.expires(), address.expires());
    if let Ok(uri) = address.parse_uri() {
        assert_eq!(uri.text, address.uri);
    }
    one_value(Name::From, bytes, |message| {
        assert_eq!(
            message.from().ok().map(|from| from.uri.to_vec()),
            Some(address.uri.to_vec())
        );
    });
}

/// CSeq, and the numbers beside it: what is read is written as what was read.
pub fn cseq(bytes: &[u8]) {
    if let Ok(cseq) = CSeq::parse(bytes) {
        let out = [cseq.number.to_string().as_bytes(), b" ", cseq.method.as_bytes()].concat();
        assert_eq!(CSeq::parse(&out), Ok(cseq));
        assert!(cseq.number < 1 << 31);
    }
    if let Some(q) = Q::parse(bytes) {
        let mut out = Vec::new();
        q.write(&mut out);
        assert_eq!(Q::parse(&out), Some(q));
    }
    if let Some(number) = sps_wire::parse_u32(bytes) {
        assert_eq!(String::from_utf8_lossy(bytes).parse(), Ok(number));
    }
}

/// Parameters one by one are the parameters together.
pub fn params(bytes: &[u8]) {
    let params = Params::new(bytes);
    let all: Vec<_> = params.into_iter().collect();
    let joined = all.iter().map(|param| param.text).collect::<Vec<_>>().concat();
    let again: Vec<_> = Params::new(&joined).into_iter().collect();
    assert_eq!(all.len(), again.len());
    for (one, other) in all.iter().zip(&again) {
        assert_eq!((one.name, one.value), (other.name, other.value));
        assert!(params.has(one.name));
        assert_eq!(params.get(one.name).is_some(), Params::new(&joined).has(one.name));
    }
}

/// A list of Contact.
pub fn contacts(bytes: &[u8]) {
    list(Name::Contact, bytes);
    with_header(Name::Contact, bytes, |message| match message.contacts() {
        Ok(Contacts::Star) => assert_eq!(message.values(Name::Contact).count(), 1),
        Ok(Contacts::List(contacts)) => {
            for contact in contacts.flatten() {
                let _ = (contact.q(), contact.expires(), contact.parse_uri());
            }
        }
        Err(_) => assert!(message.values(Name::Contact).count() > 1),
    });
}

/// A list of Route.
pub fn route(bytes: &[u8]) {
    list(Name::Route, bytes);
}

/// A list of Path.
pub fn path(bytes: &[u8]) {
    list(Name::Path, bytes);
}

/// The values of a list are the same one a line, and what is taken off the front leaves the rest.
fn list(name: Name, bytes: &[u8]) {
    with_header(name, bytes, |message| {
        let values: Vec<Vec<u8>> = message.values(name).map(|value| value.text().to_vec()).collect();
        // An empty element cannot stand alone: a header without value has none.
        if values.iter().all(|value| !value.is_empty()) {
            let lines: Vec<Vec<u8>> = values
                .iter()
                .map(|value| [name.text().as_bytes(), b": ", value, b"\r\n"].concat())
                .collect();
            with_lines(&lines.concat(), |again| {
                assert!(
                    again
                        .values(name)
                        .map(|value| value.text().to_vec())
                        .eq(values.iter().cloned())
                );
            });
        }
        for count in 0..=values.len().min(4) {
            let mut patch = Patch::new(message.bytes());
            patch.remove_first(message, name, count);
            let mut out = Vec::new();
            patch.write(&mut out);
            let mut index = Index::default();
            let left = parse(&out, &mut index, &sps_wire::Limits::default()).expect("still a message");
            let rest: Vec<Vec<u8>> = left.values(name).map(|value| value.text().to_vec()).collect();
            // An empty value that comes to stand alone is no value any more.
            let there = |values: &[Vec<u8>]| {
                values
                    .iter()
                    .filter(|value| !value.is_empty())
                    .cloned()
                    .collect::<Vec<_>>()
            };
            assert_eq!(there(&rest), there(&values[count..]));
        }
    });
}

/// A message with these bytes as the value of one header, if it can be read.
fn with_header(name: Name, bytes: &[u8], look: impl FnOnce(Message<'_>)) {
    let line = [name.text().as_bytes(), b": ", bytes, b"\r\n"].concat();
    with_lines(&line, look);
}

fn with_lines(lines: &[u8], look: impl FnOnce(Message<'_>)) {
    let head = b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:f@x>;tag=1\r\nTo: <sip:t@x>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n";
    let text = [head.as_slice(), lines, b"\r\n"].concat();
    let mut index = Index::default();
    if let Ok(message) = parse(&text, &mut index, &limits()) {
        look(message);
    }
}

/// A message in which these bytes are the only value of one of the headers it must have.
fn one_value(name: Name, bytes: &[u8], look: impl FnOnce(Message<'_>)) {
    let other = match name {
        Name::Via => "From: <sip:f@x>;tag=1\r\n",
        _ => "Via: SIP/2.0/UDP h\r\n",
    };
    let text = [
        b"OPTIONS sip:a@b SIP/2.0\r\n".as_slice(),
        name.text().as_bytes(),
        b": ",
        bytes,
        b"\r\n",
        other.as_bytes(),
        b"To: <sip:t@x>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n",
    ]
    .concat();
    let mut index = Index::default();
    // Line ends within the bytes may make it another message, or none.
    if bytes.iter().all(|byte| *byte >= b' ')
        && let Ok(message) = parse(&text, &mut index, &limits())
    {
        look(message);
    }
}

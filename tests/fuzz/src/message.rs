//! Whole messages: parsing, writing back, answering.

use crate::limits;
use sps_wire::frame::{self, Frame};
use sps_wire::{Index, Message, Name, Patch, Response, Via, ViaStamp, parse, request, write_response};

/// A message as one datagram.
pub fn message(bytes: &[u8]) {
    let mut index = Index::default();
    match parse(bytes, &mut index, &limits()) {
        Ok(message) => {
            whole(message);
            rewritten(message);
            framed_alike(bytes, message);
            answered(message);
        }
        Err(error) => {
            assert_eq!(error.status().is_some(), error.answerable);
            if let Some(message) = index.salvage(bytes) {
                let mut out = Vec::new();
                write_response(message, &Response::new(error.fault.status()), &mut out);
                assert!(out.starts_with(b"SIP/2.0 ") && out.ends_with(b"\r\n\r\n"));
            }
        }
    }
}

/// A response and the INVITE it answers, parted by the byte 0x1e: the ACK to it can be read, and has what §17.1.1.3 wants.
pub fn response(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0x1e);
    let (Some(sent), Some(answer)) = (parts.next(), parts.next()) else {
        return;
    };
    let (mut sent_index, mut answer_index) = (Index::default(), Index::default());
    let (Ok(sent), Ok(answer)) = (
        parse(sent, &mut sent_index, &limits()),
        parse(answer, &mut answer_index, &limits()),
    ) else {
        return;
    };
    let mut out = Vec::new();
    if request::write_ack(sent.bytes(), answer, &mut out).is_err() {
        assert!(!sent.is_request() || sent.top_via().is_err());
        return;
    }
    let mut index = Index::default();
    let ack = parse(&out, &mut index, &sps_wire::Limits::default()).expect("our own ACK can be read");
    assert_eq!(ack.method(), Some(sps_wire::Method::Ack));
    assert_eq!(ack.request_uri(), sent.request_uri());
    assert_eq!(ack.call_id(), sent.call_id());
    let value = |message: Message<'_>, name| message.first(name).map(|header| header.value().to_vec());
    assert_eq!(value(ack, Name::From), value(sent, Name::From));
    assert_eq!(value(ack, Name::To), value(answer, Name::To));
    assert_eq!(
        ack.top_via().map(|via| via.branch().map(<[u8]>::to_vec)),
        sent.top_via().map(|via| via.branch().map(<[u8]>::to_vec))
    );
    assert_eq!(ack.vias().count(), 1);
}

/// Start line, headers and empty line are all of the head, one behind the other.
fn whole(message: Message<'_>) {
    let mut end = message.start_range().end;
    for header in message.headers() {
        assert_eq!(header.line().start, end);
        end = header.line().end;
        assert_eq!(&message.bytes()[header.value_range()], header.value());
        for value in header.values() {
            assert!(value.range().start >= header.value_range().start && value.range().end <= header.value_range().end);
        }
    }
    assert_eq!(end + 2, message.head_len());
    if let Ok(Some(length)) = message.content_length() {
        assert_eq!(message.body().len(), length);
    }
    let mut out = Vec::new();
    Patch::new(message.bytes()).write(&mut out);
    assert_eq!(out, message.bytes());
}

/// Written anew with other white space it is the same message.
fn rewritten(message: Message<'_>) {
    let mut out = message.bytes()[message.start_range()].to_vec();
    for header in message.headers() {
        out.extend_from_slice(header.raw_name());
        out.extend_from_slice(b":\t ");
        out.extend_from_slice(header.value());
        out.extend_from_slice(b" \r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(message.body());
    let mut index = Index::default();
    let again = parse(&out, &mut index, &sps_wire::Limits::default()).expect("what was read is read again");
    assert_eq!(again.start(), message.start());
    assert!(
        again
            .headers()
            .map(|h| (h.name(), h.value()))
            .eq(message.headers().map(|h| (h.name(), h.value())))
    );
    assert_eq!(again.body(), message.body());
    assert_eq!(
        again.cseq().ok().map(|c| c.number),
        message.cseq().ok().map(|c| c.number)
    );
    let tags = |message: Message<'_>| {
        (
            message.from().ok().map(|from| from.tag().map(<[u8]>::to_vec)),
            message.to().ok().map(|to| to.tag().map(<[u8]>::to_vec)),
        )
    };
    assert_eq!(tags(again), tags(message));
}

/// On a stream it has the same length, or none at all: where the two differ, somebody's body becomes the next request.
fn framed_alike(bytes: &[u8], message: Message<'_>) {
    match frame::next(bytes, &limits()) {
        Frame::Message { len } => assert_eq!(len, message.bytes().len()),
        Frame::Broken(error) => assert!(
            !message.has(Name::ContentLength),
            "a datagram is fine that a stream is broken by: {error}"
        ),
        frame @ (Frame::NeedMore | Frame::KeepAlive(_) | Frame::Skip(_)) => {
            panic!("a whole message, and a stream sees {frame:?}")
        }
    }
}

/// What we answer can be read, goes the way back, and has one value of each.
fn answered(message: Message<'_>) {
    if !message.is_request() {
        return;
    }
    let stamp = message
        .top_via()
        .map(|via| ViaStamp::of(&via, "[2001:db8::7]:4711".parse().expect("an address")))
        .unwrap_or_default();
    let response = Response {
        to_tag: Some(b"tag"),
        stamp,
        ..Response::new(404)
    };
    let mut out = Vec::new();
    write_response(message, &response, &mut out);
    let mut index = Index::default();
    let answer = parse(&out, &mut index, &sps_wire::Limits::default()).expect("our own response can be read");
    assert_eq!(answer.status(), Some(404));
    assert_eq!(answer.call_id(), message.call_id());
    let branches = |message: Message<'_>| -> Vec<Option<Vec<u8>>> {
        message
            .vias()
            .map(|via| via.ok().and_then(|via: Via<'_>| via.branch().map(<[u8]>::to_vec)))
            .collect()
    };
    assert_eq!(branches(answer), branches(message));
    if message.to().is_ok() {
        let tag = message.to().ok().and_then(|to| to.tag().map(<[u8]>::to_vec));
        let answered = answer.to().expect("the To of the request").tag().map(<[u8]>::to_vec);
        assert_eq!(answered, Some(tag.unwrap_or(b"tag".to_vec())));
    }
    out.clear();
    if request::write_cancel(message.bytes(), &mut out).is_ok() {
        let mut index = Index::default();
        let cancel = parse(&out, &mut index, &sps_wire::Limits::default()).expect("our own CANCEL can be read");
        assert_eq!(cancel.method(), Some(sps_wire::Method::Cancel));
        assert_eq!(cancel.request_uri(), message.request_uri());
    }
}

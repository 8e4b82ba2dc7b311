//! What one message costs: time and allocations. Run with `cargo bench -p sps-wire`.

use divan::{Bencher, black_box};
use sps_wire::{
    Edits, Index, Limits, Message, Name, Patch, Response, Uri, ViaStamp, frame::Framer, parse, uri::canonical_aor,
    write_response,
};

#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

/// An INVITE as a proxy in the middle of a chain gets it: 14 headers, two Via, a Route, a small body.
const INVITE: &[u8] = include_bytes!("invite.sip");

fn main() {
    divan::main();
}

#[divan::bench(sample_size = 1000)]
fn tokenise(bencher: Bencher) {
    let mut index = Index::default();
    let limits = Limits::default();
    bencher.bench_local(|| parse(black_box(INVITE), &mut index, &limits).map(|message| message.headers().count()));
}

/// All that a proxy reads of a request before it forwards it.
#[divan::bench(sample_size = 1000)]
fn proxy_view(bencher: Bencher) {
    let mut index = Index::default();
    let limits = Limits::default();
    bencher.bench_local(|| view(parse(black_box(INVITE), &mut index, &limits).unwrap()));
}

fn view(message: Message<'_>) -> usize {
    let start = message.start();
    let uri = Uri::parse(message.request_uri().unwrap()).unwrap();
    let via = message.top_via().unwrap();
    let (branch, rport) = (via.branch(), via.rport());
    let (from_tag, to_tag) = (message.from().unwrap().tag(), message.to().unwrap().tag());
    let call_id = message.call_id();
    let cseq = message.cseq().unwrap();
    let max_forwards = message.max_forwards().unwrap();
    let contact = message
        .addresses(Name::Contact)
        .next()
        .map(|contact| contact.unwrap().uri);
    let route = message.routes().next().map(|route| route.unwrap().uri);
    let record_route = message.record_routes().next().map(|route| route.unwrap().uri);
    let content_length = message.content_length().unwrap();
    black_box((
        start,
        uri,
        branch,
        rport,
        from_tag,
        to_tag,
        call_id,
        cseq,
        max_forwards,
        contact,
        route,
        record_route,
        content_length,
    ));
    message.bytes().len()
}

/// The request as it goes out: new Request-URI, our Via, Route gone, Max-Forwards less one, Record-Route put in.
#[divan::bench(sample_size = 1000)]
fn forward(bencher: Bencher) {
    let mut index = Index::default();
    let message = parse(INVITE, &mut index, &Limits::default()).unwrap();
    let via = message.top_via().unwrap();
    let stamp = ViaStamp::of(&via, "192.0.2.10:5060".parse().unwrap());
    let mut edits = Edits::default();
    let mut out = Vec::with_capacity(2048);
    bencher.bench_local(|| {
        let message = black_box(message);
        let mut patch = Patch::reuse(message.bytes(), std::mem::take(&mut edits));
        patch.replace(message.request_uri_range(), b"sip:bob@192.0.2.30:5060");
        patch.insert(
            message.first(Name::Via).unwrap().line().start,
            b"Via: SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bK0123456789abcdef\r\n",
        );
        stamp.patch(&via, &mut patch);
        patch.remove_first(message, Name::Route, 1);
        patch.insert(
            message.first(Name::RecordRoute).unwrap().line().start,
            b"Record-Route: <sip:192.0.2.20;lr>\r\n",
        );
        patch.replace(message.first(Name::MaxForwards).unwrap().value_range(), b"68");
        out.clear();
        patch.write(&mut out);
        edits = patch.into_edits();
        out.len()
    });
}

#[divan::bench(sample_size = 1000)]
fn respond_100(bencher: Bencher) {
    let mut index = Index::default();
    let message = parse(INVITE, &mut index, &Limits::default()).unwrap();
    let stamp = ViaStamp::of(&message.top_via().unwrap(), "192.0.2.10:5060".parse().unwrap());
    let mut out = Vec::with_capacity(2048);
    bencher.bench_local(|| {
        out.clear();
        write_response(
            black_box(message),
            &Response {
                stamp,
                ..Response::new(100)
            },
            &mut out,
        );
        out.len()
    });
}

#[divan::bench(sample_size = 1000)]
fn cut_stream(bencher: Bencher) {
    let stream = INVITE.repeat(2);
    let limits = Limits::default();
    bencher.bench_local(|| Framer::default().next(black_box(&stream), &limits));
}

#[divan::bench(sample_size = 1000)]
fn uri_parse(bencher: Bencher) {
    bencher.bench_local(|| Uri::parse(black_box(b"sip:+4930123456@192.0.2.20:5060;user=phone")).is_ok());
}

#[divan::bench(sample_size = 1000)]
fn uri_canonical(bencher: Bencher) {
    let uri = Uri::parse(b"sip:alice@Example.com;transport=tcp").unwrap();
    let mut out = Vec::with_capacity(64);
    bencher.bench_local(|| {
        out.clear();
        canonical_aor(black_box(&uri), &mut out);
    });
}

/// 60 kB of commas in one header: refused by its length; below the limit the list is walked once.
#[divan::bench(sample_size = 1000)]
fn hostile_commas(bencher: Bencher) {
    let commas = ",".repeat(8_000);
    let text = String::from_utf8_lossy(INVITE).replace(
        "Route: <sip:192.0.2.20;lr>\r\nContact",
        &format!("Route: {commas}\r\nContact"),
    );
    let mut index = Index::default();
    let limits = Limits::default();
    bencher.bench_local(|| {
        parse(black_box(text.as_bytes()), &mut index, &limits).map(|message| message.values(Name::Route).count())
    });
}

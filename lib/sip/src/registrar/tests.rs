//! REGISTER by REGISTER against a store that is a list.

use std::net::SocketAddr;

use sps_wire::{Flow, Index, Limits, Message, Q, Transport, Uri, ViaStamp, parse, uri};

use super::*;

/// A binding that owns its bytes, as a store does.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    contact: Vec<u8>,
    q: u16,
    expires: Expiry,
    call_id: Vec<u8>,
    cseq: u32,
    path: Vec<Vec<u8>>,
    instance_id: Option<Vec<u8>>,
    reg_id: Option<u32>,
    handling: Option<sps_wire::Handling>,
    flow: Option<Flow>,
    received: Option<SocketAddr>,
    user_agent: Option<Vec<u8>>,
}

impl Kept {
    fn of(bound: &Bound<'_>) -> Kept {
        Kept {
            contact: bound.contact.to_vec(),
            q: bound.q.0,
            expires: bound.expires,
            call_id: bound.call_id.to_vec(),
            cseq: bound.cseq,
            path: bound.path.iter().map(|value| value.to_vec()).collect(),
            instance_id: bound.instance_id.map(<[u8]>::to_vec),
            reg_id: bound.reg_id,
            handling: bound.handling,
            flow: bound.flow,
            received: bound.received,
            user_agent: bound.user_agent.map(<[u8]>::to_vec),
        }
    }

    fn bound(&self) -> Bound<'_> {
        Bound {
            contact: &self.contact,
            q: Q(self.q),
            expires: self.expires,
            call_id: &self.call_id,
            cseq: self.cseq,
            path: self.path.iter().map(Vec::as_slice).collect(),
            instance_id: self.instance_id.as_deref(),
            reg_id: self.reg_id,
            handling: self.handling,
            flow: self.flow,
            received: self.received,
            user_agent: self.user_agent.as_deref(),
        }
    }
}

/// A registrar for example.com with the bindings of one AOR.
struct Bench {
    conf: Conf,
    kept: Vec<Kept>,
    now: u64,
    flow: Flow,
    answers: Answers,
    key: Vec<u8>,
    stores: u32,
}

/// A response, to be asked.
struct Reply(String);

impl Reply {
    fn status(&self) -> &str {
        self.0
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("SIP/2.0 "))
            .expect("a status line")
    }

    fn all(&self, name: &str) -> Vec<&str> {
        self.0
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .collect()
    }
}

const NOW: u64 = 1_800_000_000;

impl Bench {
    fn new() -> Bench {
        let conf = Conf {
            min_expires_s: 60,
            max_expires_s: 7_200,
            default_expires_s: 3_600,
            max_contacts: 3,
            caller_preferences: true,
            path_without_support: false,
            host: "example.com".into(),
        };
        let remote = "192.0.2.7:5060".parse().unwrap();
        let local = "192.0.2.1:5060".parse().unwrap();
        let flow = Flow {
            member: 0,
            transport: Transport::Udp,
            local,
            remote,
            connection: 0,
        };
        Bench {
            conf,
            kept: Vec::new(),
            now: NOW,
            flow,
            answers: Answers::default(),
            key: Vec::new(),
            stores: 0,
        }
    }

    /// Feeds a REGISTER for sip:alice@example.com with these further header lines.
    fn register(&mut self, call_id: &str, cseq: u32, headers: &[&str]) -> Reply {
        self.feed(&request(call_id, cseq, headers))
    }

    fn feed(&mut self, text: &str) -> Reply {
        let mut index = Index::default();
        let message =
            parse(text.as_bytes(), &mut index, &Limits::default()).expect("a test sends well-formed requests");
        let stamp = message
            .top_via()
            .map(|via| ViaStamp::of(&via, self.flow.remote))
            .unwrap_or_default();
        let setting = Setting {
            now: self.now,
            stamp,
            to_tag: b"registrar",
        };
        let mut out = Vec::new();
        self.key.clear();
        let aor = |uri: &Uri<'_>, key: &mut Vec<u8>| {
            let ours = matches!(uri.host, sps_wire::Host::Name(name) if name.eq_ignore_ascii_case(b"example.com"));
            if ours {
                uri::canonical_aor(uri, key);
            }
            ours
        };
        let kept = std::mem::take(&mut self.kept);
        let outcome = Asked::read(message, &self.flow, &self.conf, aor, &mut self.key).and_then(|asked| {
            let decision = decide(&asked, kept.iter().map(Kept::bound), self.now, &self.conf)?;
            self.answers
                .ok(&asked, decision.bindings(), &setting, &self.conf, &mut out);
            Ok(match decision {
                Decision::Keep(_) => None,
                Decision::Store(bindings) => Some(bindings.iter().map(Kept::of).collect::<Vec<_>>()),
            })
        });
        match outcome {
            Ok(Some(bindings)) => {
                self.stores += 1;
                self.kept = bindings;
            }
            Ok(None) => self.kept = kept.clone(),
            Err(refusal) => {
                assert!(out.is_empty());
                self.answers.refuse(message, &refusal, &setting, &self.conf, &mut out);
                self.kept = kept.clone();
            }
        }
        let mut index = Index::default();
        parse(&out, &mut index, &Limits::default()).expect("we answer well-formed responses");
        Reply(String::from_utf8(out).unwrap())
    }

    fn contacts(&self) -> Vec<&str> {
        self.kept
            .iter()
            .map(|kept| std::str::from_utf8(&kept.contact).unwrap())
            .collect()
    }

    fn keep_permanent(&mut self, contact: &str) {
        let mut index = Index::default();
        let text = request("x", 1, &[&format!("Contact: <{contact}>")]);
        let message: Message<'_> = parse(text.as_bytes(), &mut index, &Limits::default()).unwrap();
        let asked = Asked::read(message, &self.flow, &self.conf, |_, _| true, &mut Vec::new()).unwrap();
        let decision = decide(&asked, std::iter::empty(), self.now, &self.conf).unwrap();
        let bound = Bound {
            expires: Expiry::Permanent,
            call_id: b"",
            cseq: 0,
            ..decision.bindings()[0].clone()
        };
        self.kept.push(Kept::of(&bound));
    }
}

fn request(call_id: &str, cseq: u32, headers: &[&str]) -> String {
    let mut text = format!(
        "REGISTER sip:example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK{cseq};rport\r\n\
         Max-Forwards: 70\r\n\
         From: Alice <sip:alice@example.com>;tag=1\r\n\
         To: Alice <sip:alice@example.com>\r\n\
         Call-ID: {call_id}\r\n\
         CSeq: {cseq} REGISTER\r\n"
    );
    for line in headers {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text.push_str("Content-Length: 0\r\n\r\n");
    text
}

/// §10.3 step 8: all bindings, each with the time that is left to it, and a Date; §8.2.6.2: Via and tags.
#[test]
fn a_binding_is_made_and_listed() {
    let mut bench = Bench::new();
    let reply = bench.register(
        "a",
        1,
        &[
            "Contact: <sip:alice@192.0.2.7>;q=0.7;expires=600",
            "User-Agent: phone/1",
        ],
    );
    assert_eq!(reply.status(), "200 OK");
    assert_eq!(reply.all("Contact"), ["<sip:alice@192.0.2.7>;q=0.7;expires=600"]);
    assert_eq!(reply.all("Date"), ["Fri, 15 Jan 2027 08:00:00 GMT"]);
    assert_eq!(reply.all("To"), ["Alice <sip:alice@example.com>;tag=registrar"]);
    assert!(reply.all("Via")[0].contains("received=192.0.2.7") && reply.all("Via")[0].contains("rport=5060"));
    assert_eq!(bench.key, b"sip:alice@example.com");
    assert_eq!(bench.kept[0].expires, Expiry::At(NOW + 600));
    assert_eq!(bench.kept[0].user_agent.as_deref(), Some(&b"phone/1"[..]));
    bench.now += 100;
    let reply = bench.register("other", 1, &[]);
    assert_eq!(reply.all("Contact"), ["<sip:alice@192.0.2.7>;q=0.7;expires=500"]);
    assert_eq!(bench.stores, 1, "a query changes nothing");
}

/// §10.3: a registrar puts no Record-Route into its response, whatever came in.
#[test]
fn record_route_is_ignored() {
    let mut bench = Bench::new();
    let reply = bench.register(
        "a",
        1,
        &["Record-Route: <sip:p.example.net;lr>", "Contact: <sip:alice@192.0.2.7>"],
    );
    assert_eq!(reply.status(), "200 OK");
    assert!(reply.all("Record-Route").is_empty());
}

#[test]
fn a_refresh_prolongs_and_replaces() {
    let mut bench = Bench::new();
    bench.register("a", 1, &["Contact: <sip:alice@192.0.2.7>;q=0.5"]);
    bench.now += 1_000;
    // §19.1.4: an escape of a letter is that letter; a port that is given differs from one that is not.
    let reply = bench.register("a", 2, &["Contact: <sip:%61lice@192.0.2.7>;expires=120"]);
    assert_eq!(reply.all("Contact"), ["<sip:%61lice@192.0.2.7>;expires=120"]);
    assert_eq!(bench.kept[0].expires, Expiry::At(NOW + 1_120));
    let reply = bench.register("a", 3, &["Contact: <sip:alice@192.0.2.7:5060>"]);
    assert_eq!(reply.all("Contact").len(), 2, "with and without port are two contacts");
}

/// §10.3 step 7: the contact's own wish, then Expires, then the default; cut to the longest allowed.
#[test]
fn the_expiry_is_taken_from_where_it_is_said_first() {
    for (headers, left) in [
        (&["Contact: <sip:a@192.0.2.7>;expires=100", "Expires: 200"][..], 100),
        (&["Contact: <sip:a@192.0.2.7>", "Expires: 200"], 200),
        (&["Contact: <sip:a@192.0.2.7>"], 3_600),
        (&["Contact: <sip:a@192.0.2.7>;expires=100000"], 7_200),
        (&["Contact: <sip:a@192.0.2.7>;expires=soon"], 3_600),
        (
            &["Contact: <sip:a@192.0.2.7>", "Expires: Thu, 01 Dec 1994 16:00:00 GMT"],
            3_600,
        ),
        (&["Contact: <sip:a@192.0.2.7>;expires=60"], 60),
    ] {
        let mut bench = Bench::new();
        assert_eq!(bench.register("a", 1, headers).status(), "200 OK", "{headers:?}");
        assert_eq!(bench.kept[0].expires, Expiry::At(NOW + left), "{headers:?}");
    }
}

/// §10.3 step 7: greater than zero, less than the minimum and less than an hour.
#[test]
fn a_brief_wish_gets_423_with_min_expires() {
    let mut bench = Bench::new();
    let reply = bench.register("a", 1, &["Contact: <sip:a@192.0.2.7>, <sip:b@192.0.2.7>;expires=59"]);
    assert_eq!(reply.status(), "423 Interval Too Brief");
    assert_eq!(reply.all("Min-Expires"), ["60"]);
    assert!(bench.kept.is_empty(), "all or nothing");
    bench.conf.min_expires_s = 5_000;
    assert_eq!(
        bench
            .register("a", 2, &["Contact: <sip:a@192.0.2.7>;expires=3600"])
            .status(),
        "200 OK"
    );
    assert_eq!(
        bench
            .register("a", 3, &["Contact: <sip:a@192.0.2.7>;expires=0"])
            .status(),
        "200 OK"
    );
    assert!(bench.kept.is_empty());
}

#[test]
fn one_contact_or_all_are_removed() {
    let mut bench = Bench::new();
    bench.register(
        "a",
        1,
        &[
            "Contact: <sip:a@192.0.2.7>, <sip:b@192.0.2.7>",
            "Contact: <sip:c@192.0.2.7>",
        ],
    );
    assert_eq!(
        bench.contacts(),
        ["sip:a@192.0.2.7", "sip:b@192.0.2.7", "sip:c@192.0.2.7"]
    );
    let reply = bench.register("a", 2, &["Contact: <sip:b@192.0.2.7>;expires=0"]);
    assert_eq!(reply.all("Contact").len(), 2);
    assert_eq!(bench.contacts(), ["sip:a@192.0.2.7", "sip:c@192.0.2.7"]);
    let reply = bench.register("a", 3, &["Contact: *", "Expires: 0"]);
    assert_eq!(reply.status(), "200 OK");
    assert!(reply.all("Contact").is_empty() && bench.kept.is_empty());
    // Removing what is not there is no error: it may be a repetition.
    assert_eq!(bench.register("a", 3, &["Contact: *", "Expires: 0"]).status(), "200 OK");
    assert_eq!(
        bench
            .register("a", 2, &["Contact: <sip:b@192.0.2.7>;expires=0"])
            .status(),
        "200 OK"
    );
    assert_eq!(bench.stores, 3);
}

/// §10.3 step 6.
#[test]
fn a_star_stands_alone_and_with_expires_0() {
    let mut bench = Bench::new();
    bench.register("a", 1, &["Contact: <sip:a@192.0.2.7>"]);
    for headers in [
        &["Contact: *"][..],
        &["Contact: *", "Expires: 10"],
        &["Contact: *", "Expires: never"],
        &["Contact: *, <sip:a@192.0.2.7>", "Expires: 0"],
        &["Contact: *", "Contact: <sip:a@192.0.2.7>", "Expires: 0"],
        &["Contact: *", "Contact: *", "Expires: 0"],
    ] {
        assert!(
            bench.register("b", 1, headers).status().starts_with("400 "),
            "{headers:?}"
        );
    }
    assert_eq!(bench.contacts(), ["sip:a@192.0.2.7"]);
    assert!(
        bench
            .register("a", 1, &["Contact: *", "Expires: 0"])
            .status()
            .starts_with("500 "),
        "older than the binding"
    );
    assert_eq!(
        bench.register("b", 1, &["Contact: *", "Expires: 0"]).status(),
        "200 OK",
        "another Call-ID removes it"
    );
}

/// §10.3 step 7: out of order within one Call-ID fails as a whole; across Call-IDs there is no order.
#[test]
fn requests_out_of_order_change_nothing() {
    let mut bench = Bench::new();
    bench.register("a", 5, &["Contact: <sip:a@192.0.2.7>"]);
    let before = bench.kept.clone();
    for headers in [
        &["Contact: <sip:b@192.0.2.7>, <sip:a@192.0.2.7>;expires=100"][..],
        &["Contact: <sip:a@192.0.2.7>;expires=0"],
    ] {
        assert_eq!(bench.register("a", 4, headers).status(), "500 CSeq Out of Order");
        assert_eq!(bench.kept, before);
    }
    assert_eq!(
        bench
            .register("b", 1, &["Contact: <sip:a@192.0.2.7>;expires=100"])
            .status(),
        "200 OK"
    );
    assert_eq!(bench.kept[0].call_id, b"b");
}

/// The 200 was lost and the REGISTER comes again in a new transaction: 200, and the binding as it was.
#[test]
fn a_repeated_register_gets_200_and_prolongs_nothing() {
    let mut bench = Bench::new();
    let headers = ["Contact: <sip:a@192.0.2.7>;expires=100;q=0.3"];
    bench.register("a", 7, &headers);
    bench.now += 10;
    let reply = bench.register("a", 7, &headers);
    assert_eq!(reply.status(), "200 OK");
    assert_eq!(reply.all("Contact"), ["<sip:a@192.0.2.7>;q=0.3;expires=90"]);
    assert_eq!(bench.stores, 1);
    // The same numbers with another outcome are no repetition.
    for other in [
        "Contact: <sip:a@192.0.2.7>;expires=100",
        "Contact: <sip:a@192.0.2.7>;expires=60;q=0.3",
        "Contact: <sip:a@192.0.2.7>;expires=0;q=0.3",
        "Contact: <sip:a@192.0.2.7>;expires=100;q=0.3;reg-id=1",
    ] {
        assert_eq!(
            bench.register("a", 7, &[other]).status(),
            "500 CSeq Out of Order",
            "{other}"
        );
    }
}

#[test]
fn a_contact_named_twice_is_bound_as_named_last() {
    let mut bench = Bench::new();
    bench.register("a", 1, &["Contact: <sip:a@192.0.2.7>;q=0.1, <sip:a@192.0.2.7>;q=0.2"]);
    assert_eq!((bench.kept.len(), bench.kept[0].q), (1, 200));
}

#[test]
fn bindings_that_are_over_count_as_gone() {
    let mut bench = Bench::new();
    bench.register("a", 5, &["Contact: <sip:a@192.0.2.7>;expires=60"]);
    bench.now += 60;
    assert!(bench.register("b", 1, &[]).all("Contact").is_empty());
    assert_eq!(
        bench.register("a", 5, &["Contact: <sip:b@192.0.2.7>"]).status(),
        "200 OK"
    );
    assert_eq!(bench.contacts(), ["sip:b@192.0.2.7"]);
}

#[test]
fn more_contacts_than_allowed_are_refused_as_a_whole() {
    let mut bench = Bench::new();
    bench.register(
        "a",
        1,
        &["Contact: <sip:a@192.0.2.7>, <sip:b@192.0.2.7>, <sip:c@192.0.2.7>"],
    );
    let reply = bench.register("a", 2, &["Contact: <sip:d@192.0.2.7>, <sip:a@192.0.2.7>"]);
    assert_eq!(reply.status(), "403 Too Many Contacts");
    assert!(reply.all("Warning")[0].starts_with("399 example.com \""));
    assert_eq!(bench.kept[0].cseq, 1);
    let reply = bench.register("a", 2, &["Contact: <sip:d@192.0.2.7>, <sip:a@192.0.2.7>;expires=0"]);
    assert_eq!(reply.status(), "200 OK", "one goes, one comes");
    bench.conf.max_contacts = 1;
    assert_eq!(
        bench.register("b", 1, &["Contact: <sip:b@192.0.2.7>"]).status(),
        "200 OK",
        "a refresh is none more"
    );
    let many: Vec<String> = (0..9).map(|n| format!("<sip:{n}@192.0.2.7>;expires=0")).collect();
    assert_eq!(
        bench
            .register("b", 2, &[&format!("Contact: {}", many.join(","))])
            .status(),
        "403 Too Many Contacts"
    );
}

/// RFC 3327 §5.3.
#[test]
fn path_is_kept_in_order_and_echoed() {
    let mut bench = Bench::new();
    let path = [
        "Path: <sip:p2.example.net;lr>;x=\"a,b\", <sip:p1.example.net;lr>",
        "Path: <sip:p0.example.net;lr>",
    ];
    let reply = bench.register(
        "a",
        1,
        &[path[0], path[1], "Supported: gruu, Path", "Contact: <sip:a@192.0.2.7>"],
    );
    assert_eq!(reply.status(), "200 OK");
    let values = [
        "<sip:p2.example.net;lr>;x=\"a,b\"",
        "<sip:p1.example.net;lr>",
        "<sip:p0.example.net;lr>",
    ];
    assert_eq!(reply.all("Path"), values);
    assert_eq!(bench.kept[0].path, values.map(|value| value.as_bytes().to_vec()));
    let reply = bench.register("a", 2, &[path[1], "Contact: <sip:a@192.0.2.7>"]);
    assert_eq!(reply.status(), "420 Bad Extension");
    assert_eq!(reply.all("Unsupported"), ["path"]);
    let reply = bench.register("a", 3, &["Supported: path", "Contact: <sip:a@192.0.2.7>"]);
    assert_eq!(
        (reply.status(), reply.all("Path").len(), bench.kept[0].path.len()),
        ("200 OK", 0, 0)
    );
}

/// RFC 3327 §5.3: "some registrars MAY choose to support the extension in the absence of a Supported header field"
#[test]
fn path_of_a_phone_that_does_not_say_so_can_be_taken() {
    let mut bench = Bench::new();
    bench.conf.path_without_support = true;
    let path = "<sip:p1.example.net;lr>";
    let reply = bench.register("a", 1, &[&format!("Path: {path}"), "Contact: <sip:a@192.0.2.7>"]);
    assert_eq!((reply.status(), reply.all("Path")), ("200 OK", vec![path]));
    assert_eq!(bench.kept[0].path, [path.as_bytes().to_vec()]);
}

/// §8.2.2.3.
#[test]
fn required_extensions_that_we_lack_are_named() {
    let mut bench = Bench::new();
    let reply = bench.register(
        "a",
        1,
        &["Require: path, outbound", "Require: gruu", "Contact: <sip:a@192.0.2.7>"],
    );
    assert_eq!(reply.status(), "420 Bad Extension");
    assert_eq!(reply.all("Unsupported"), ["outbound, gruu"]);
    assert_eq!(
        bench
            .register("a", 2, &["Require: path", "Contact: <sip:a@192.0.2.7>"])
            .status(),
        "200 OK"
    );
}

/// Steps 1 and 5.
#[test]
fn requests_that_are_not_for_us_are_refused() {
    let mut bench = Bench::new();
    for (from, to, status) in [
        (
            "To: Alice <sip:alice@example.com>",
            "To: <sip:alice@example.org>",
            "404 Not Found",
        ),
        (
            "To: Alice <sip:alice@example.com>",
            "To: <tel:+15550100>",
            "400 To Is Not a SIP URI",
        ),
        ("To: Alice <sip:alice@example.com>", "To: <sip:>", "400 Malformed To"),
        (
            "REGISTER sip:example.com",
            "REGISTER tel:+15550100",
            "416 Unsupported URI Scheme",
        ),
        (
            "REGISTER sip:example.com",
            "REGISTER http://example.com",
            "416 Unsupported URI Scheme",
        ),
    ] {
        let text = request("a", 1, &["Contact: <sip:a@192.0.2.7>"]).replace(from, to);
        assert_eq!(bench.feed(&text).status(), status);
    }
    let text = request("a", 1, &[])
        .replace("REGISTER sip", "OPTIONS sip")
        .replace("1 REGISTER", "1 OPTIONS");
    let reply = bench.feed(&text);
    assert_eq!(
        (reply.status(), reply.all("Allow")),
        ("405 Method Not Allowed", vec!["REGISTER"])
    );
    for contact in [
        "Contact: <sip:a@192.0.2.7",
        "Contact: <sip:a@192.0.2.7>;q=2",
        "Contact: <sip:a@[::1>",
    ] {
        assert!(
            bench.register("a", 1, &[contact]).status().starts_with("400 "),
            "{contact}"
        );
    }
    assert!(bench.kept.is_empty());
}

#[test]
fn a_permanent_contact_is_not_for_register_to_touch() {
    let mut bench = Bench::new();
    bench.keep_permanent("sip:gate@192.0.2.50");
    for headers in [
        &["Contact: <sip:gate@192.0.2.50>"][..],
        &["Contact: <sip:a@192.0.2.7>, <sip:%67ate@192.0.2.50>;expires=0"],
    ] {
        let reply = bench.register("a", 1, headers);
        assert_eq!(reply.status(), "403 Contact Is Permanent");
        assert_eq!(
            reply.all("Warning"),
            ["399 example.com \"the operator has registered this contact permanently\""]
        );
    }
    assert_eq!(bench.contacts(), ["sip:gate@192.0.2.50"]);
    let reply = bench.register("a", 2, &["Contact: <sip:a@192.0.2.7>"]);
    assert_eq!(
        reply.all("Contact"),
        ["<sip:gate@192.0.2.50>;expires=7200", "<sip:a@192.0.2.7>;expires=3600"]
    );
    let reply = bench.register("a", 3, &["Contact: *", "Expires: 0"]);
    assert_eq!(reply.all("Contact"), ["<sip:gate@192.0.2.50>;expires=7200"]);
    assert_eq!(bench.register("a", 4, &["Contact: *", "Expires: 0"]).status(), "200 OK");
}

/// RFC 5626 §4.1, §4.2: kept and given back.
#[test]
fn instance_and_reg_id_are_kept() {
    let mut bench = Bench::new();
    let instance = "<urn:uuid:00000000-0000-1000-8000-000A95A0E128>";
    let contact = format!("Contact: <sip:a@192.0.2.7>;+sip.instance=\"{instance}\";reg-id=2");
    let reply = bench.register("a", 1, &[&contact, "Supported: outbound, path"]);
    // §6: outbound is not offered.
    assert!(reply.all("Require").is_empty() && reply.all("Flow-Timer").is_empty());
    assert_eq!(
        reply.all("Contact"),
        [format!(
            "<sip:a@192.0.2.7>;expires=3600;+sip.instance=\"{instance}\";reg-id=2"
        )]
    );
    assert_eq!(
        (bench.kept[0].instance_id.as_deref(), bench.kept[0].reg_id),
        (Some(instance.as_bytes()), Some(2))
    );
    // §6: "MUST be prepared to receive, simultaneously for the same AOR", bindings with and without.
    let reply = bench.register("b", 1, &["Contact: <sip:a@192.0.2.8>"]);
    assert_eq!((reply.all("Contact").len(), bench.kept.len()), (2, 2));
}

/// RFC 2543 §6.13: "In its response, the registrar SHOULD indicate the mode used."
#[test]
fn an_action_is_kept_and_told_where_it_is_obeyed() {
    let mut bench = Bench::new();
    let reply = bench.register("a", 1, &["Contact: <sip:a@192.0.2.7>;Action=REDIRECT"]);
    assert_eq!(reply.all("Contact"), ["<sip:a@192.0.2.7>;expires=3600;action=redirect"]);
    assert_eq!(bench.kept[0].handling, Some(sps_wire::Handling::Redirect));
    // The same CSeq with another wish is no repetition.
    let reply = bench.register("a", 1, &["Contact: <sip:a@192.0.2.7>;action=proxy"]);
    assert_eq!(reply.status(), "500 CSeq Out of Order");
    bench.conf.caller_preferences = false;
    let reply = bench.register("a", 2, &["Contact: <sip:a@192.0.2.7>;action=proxy"]);
    assert_eq!(reply.all("Contact"), ["<sip:a@192.0.2.7>;expires=3600"]);
    assert_eq!(bench.kept[0].handling, Some(sps_wire::Handling::Proxy));
    bench.register("a", 3, &["Contact: <sip:a@192.0.2.7>;action=other"]);
    assert_eq!(bench.kept[0].handling, None);
}

/// RFC 3581 and §18.1.2: the flow is kept where it leads to the phone, and where the phone sits if it does not know itself.
#[test]
fn the_flow_is_kept_if_it_leads_to_the_contact() {
    let via = "Via: SIP/2.0/UDP 192.0.2.7:5060";
    let private = "Via: SIP/2.0/UDP 10.0.0.4:5062";
    for (via_now, contact, transport, remote, kept, received) in [
        // An address of its own: the flow, and nothing to correct.
        (
            via,
            "sip:a@192.0.2.7:5060",
            Transport::Udp,
            "192.0.2.7:5060",
            true,
            None,
        ),
        (via, "sip:a@192.0.2.7", Transport::Udp, "192.0.2.7:5060", true, None),
        // Behind a translator.
        (
            private,
            "sip:a@10.0.0.4:5062",
            Transport::Udp,
            "198.51.100.9:40001",
            true,
            Some("198.51.100.9:40001"),
        ),
        // Behind a translator that the phone has found out about.
        (
            private,
            "sip:a@198.51.100.9:40001",
            Transport::Udp,
            "198.51.100.9:40001",
            true,
            None,
        ),
        // Speaks for another machine, or for another socket of its own.
        (
            via,
            "sip:a@192.0.2.99:5060",
            Transport::Udp,
            "192.0.2.7:5060",
            false,
            None,
        ),
        (
            via,
            "sip:a@192.0.2.7:6000",
            Transport::Udp,
            "192.0.2.7:5060",
            false,
            None,
        ),
        (
            via,
            "sip:a@192.0.2.7:5060;maddr=192.0.2.8",
            Transport::Udp,
            "192.0.2.7:5060",
            false,
            None,
        ),
        // On streams the connection is what counts.
        (
            private,
            "sip:a@10.0.0.4:5070;transport=tcp",
            Transport::Tcp,
            "198.51.100.9:40001",
            true,
            Some("198.51.100.9:40001"),
        ),
        // A browser.
        (
            private,
            "sip:a@df7jal23ls0d.invalid",
            Transport::Tcp,
            "198.51.100.9:40001",
            true,
            Some("198.51.100.9:40001"),
        ),
        // Forwarded by another proxy.
        (
            "Via: SIP/2.0/UDP p.example.net, SIP/2.0/UDP 192.0.2.7:5060",
            "sip:a@192.0.2.7:5060",
            Transport::Udp,
            "192.0.2.7:5060",
            false,
            None,
        ),
    ] {
        let mut bench = Bench::new();
        bench.flow.transport = transport;
        bench.flow.remote = remote.parse().unwrap();
        let text = request("a", 1, &[&format!("Contact: <{contact}>")]).replace(via, via_now);
        assert_eq!(bench.feed(&text).status(), "200 OK");
        assert_eq!(bench.kept[0].flow, kept.then_some(bench.flow), "{via_now} {contact}");
        assert_eq!(
            bench.kept[0].received,
            received.map(|addr| addr.parse().unwrap()),
            "{via_now} {contact}"
        );
    }
}

mod any_sequence {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    struct Step {
        wait_s: u64,
        call_id: u8,
        cseq: u32,
        /// Contact number, wish.
        contacts: Vec<(u8, u32)>,
        star: bool,
    }

    fn step() -> impl Strategy<Value = Step> {
        let contacts = proptest::collection::vec((0_u8..5, prop_oneof![Just(0_u32), Just(60), Just(600)]), 0..4);
        (0_u64..100, 0_u8..2, 1_u32..6, contacts, proptest::bool::weighted(0.1)).prop_map(
            |(wait_s, call_id, cseq, contacts, star)| Step {
                wait_s,
                call_id,
                cseq,
                contacts,
                star,
            },
        )
    }

    proptest! {
        /// Whatever comes in whatever order: each contact once, never more than allowed, nothing over counts, a refusal
        /// changes nothing, and a 200 lists exactly what is stored.
        #[test]
        fn leaves_the_bindings_sound(steps in proptest::collection::vec(step(), 1..30)) {
            let mut bench = Bench::new();
            for step in steps {
                bench.now += step.wait_s;
                let mut lines: Vec<String> =
                    step.contacts.iter().map(|(n, wish)| format!("Contact: <sip:{n}@192.0.2.7>;expires={wish}")).collect();
                if step.star {
                    lines = vec!["Contact: *".into(), "Expires: 0".into()];
                }
                let before = bench.kept.clone();
                let headers: Vec<&str> = lines.iter().map(String::as_str).collect();
                let reply = bench.register(&step.call_id.to_string(), step.cseq, &headers);
                let contacts = bench.contacts();
                prop_assert!(contacts.len() <= bench.conf.max_contacts);
                prop_assert!((1..contacts.len()).all(|n| !contacts[..n].contains(&contacts[n])), "{contacts:?}");
                if reply.status() != "200 OK" {
                    // §10.3: a registrar knows nothing of other places and gives no 6xx.
                    prop_assert!(reply.status() < "600", "{}", reply.status());
                    prop_assert_eq!(&bench.kept, &before);
                    continue;
                }
                let now = bench.now;
                let current: Vec<String> = bench.kept.iter().filter(|kept| !kept.bound().is_past(now)).map(|kept| {
                    let Expiry::At(at) = kept.expires else { panic!("nobody made it permanent") };
                    format!("<{}>;expires={}", String::from_utf8_lossy(&kept.contact), at - now)
                }).collect();
                prop_assert_eq!(reply.all("Contact"), &current[..]);
                for (n, wish) in &step.contacts {
                    // Named twice in one request, the last wish counts; a repetition leaves what the first did.
                    let last = step.contacts.iter().rev().find(|(other, _)| other == n).map(|(_, wish)| wish);
                    let is_bound = current.iter().any(|line| line.starts_with(&format!("<sip:{n}@")));
                    prop_assert!(step.star || last != Some(wish) || is_bound == (*wish > 0), "{n} {wish} {current:?}");
                }
            }
        }
    }
}

/// §10.3 step 5, §8.2.3: neither parameters of the To URI nor a body have a say in what is bound.
#[test]
fn what_a_register_bears_besides_changes_nothing() {
    let mut bench = Bench::new();
    let text = request(
        "a",
        1,
        &["Contact: <sip:a@192.0.2.7>", "Content-Type: application/x-unknown"],
    )
    .replace(
        "To: Alice <sip:alice@example.com>",
        "To: <sip:%61lice@EXAMPLE.com;user=phone;x=y>",
    )
    .replace("Content-Length: 0\r\n\r\n", "Content-Length: 4\r\n\r\nbody");
    assert_eq!(bench.feed(&text).status(), "200 OK");
    assert_eq!(bench.key, b"sip:alice@example.com");
    assert_eq!(bench.contacts(), ["sip:a@192.0.2.7"]);
}

/// §8.2, §10.3: method, URI, extensions, AOR, contacts: of several faults the first one is told.
#[test]
fn of_several_faults_the_first_step_tells_its_own() {
    let mut bench = Bench::new();
    let mut text = request("a", 1, &["Require: magic", "Contact: *"])
        .replace("REGISTER", "OPTIONS")
        .replace("OPTIONS sip:example.com", "OPTIONS tel:+15550100")
        .replace("To: Alice <sip:alice@example.com>", "To: <sip:alice@example.org>");
    for (status, from, to) in [
        ("405", "OPTIONS", "REGISTER"),
        ("416", "tel:+15550100", "sip:example.com"),
        ("420", "Require: magic\r\n", ""),
        ("404", "example.org", "example.com"),
        ("400", "Contact: *", "Contact: <sip:a@192.0.2.7>"),
        ("200", "", ""),
    ] {
        let reply = bench.feed(&text);
        assert!(reply.status().starts_with(status), "{status}: {}", reply.status());
        text = text.replace(from, to);
    }
}

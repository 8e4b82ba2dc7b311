use crate::{Fault, Index, Limits, Method, Name, ParseError, Start, parse};

const GOOD: &str = "INVITE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nMax-Forwards: 70\r\nFrom: <sip:a@h>;tag=1\r\n\
                    To: <sip:b@h>\r\nCall-ID: c@h\r\nCSeq: 1 INVITE\r\nSubject: x\r\nContent-Length: 4\r\n\r\nbody";

fn error(text: &str) -> ParseError {
    error_within(text, &Limits::default())
}

fn error_within(text: &str, limits: &Limits) -> ParseError {
    let mut index = Index::default();
    match parse(text.as_bytes(), &mut index, limits) {
        Err(error) => error,
        Ok(_) => panic!("accepted: {text:?}"),
    }
}

/// Whether an answer may be written to what was refused.
fn can_answer(text: &str) -> bool {
    let mut index = Index::default();
    assert!(
        parse(text.as_bytes(), &mut index, &Limits::default()).is_err(),
        "{text:?}"
    );
    assert!(index.message(text.as_bytes()).is_none());
    index.salvage(text.as_bytes()).is_some()
}

#[test]
fn a_good_one_and_the_same_again_from_its_index() {
    let mut index = Index::default();
    let trailing = format!("{GOOD}more");
    let message = parse(trailing.as_bytes(), &mut index, &Limits::default()).unwrap();
    assert_eq!(
        message.start(),
        Start::Request {
            method: Method::Invite,
            uri: b"sip:b@h"
        }
    );
    assert_eq!((message.body(), message.bytes()), (&b"body"[..], GOOD.as_bytes()));
    assert_eq!(&message.bytes()[message.request_uri_range()], b"sip:b@h");
    assert_eq!(&message.bytes()[message.start_range()], b"INVITE sip:b@h SIP/2.0\r\n");
    let again = index.message(GOOD.as_bytes()).unwrap();
    assert_eq!(again.call_id(), b"c@h");
    assert!(index.message(b"shorter").is_none() && index.salvage(GOOD.as_bytes()).is_none());
}

/// §7.1, §7.2
#[test]
fn start_lines() {
    for (line, fault) in [
        ("INVITE sip:b@h SIP/2.1", Fault::Version),
        ("INVITE sip:b@h SIP/2.0 ", Fault::StartLine),
        ("INVITE sip:b@h\tSIP/2.0", Fault::StartLine),
        ("INVITE  SIP/2.0", Fault::StartLine),
        ("INVITE sip:b@h SIP/x", Fault::StartLine),
        ("INVITE sip:b@h HTTP/1.1", Fault::NotSip),
        ("INVITE", Fault::NotSip),
        ("INV(TE sip:b@h SIP/2.0", Fault::NotSip),
        (" INVITE sip:b@h SIP/2.0", Fault::NotSip),
        ("", Fault::NotSip),
        ("INVITE\r\n sip:b@h SIP/2.0", Fault::NotSip),
        ("SIP/2.0 099 x", Fault::StartLine),
        ("SIP/2.0 700 x", Fault::StartLine),
        ("SIP/2.0 20 x", Fault::StartLine),
        ("SIP/2.0 2000 x", Fault::StartLine),
        ("SIP/2.0  200 x", Fault::StartLine),
        ("SIP/3.0 200 x", Fault::Version),
    ] {
        let text = GOOD.replace("INVITE sip:b@h SIP/2.0", line);
        let error = error(&text);
        assert_eq!(error.fault, fault, "{line:?}");
        assert_eq!(
            error.status().is_some(),
            fault != Fault::NotSip && !line.starts_with("SIP"),
            "{line:?}"
        );
        assert_eq!(can_answer(&text), error.status().is_some(), "{line:?}");
    }
    for line in ["sip/2.0 200 OK", "SIP/2.0 200", "SIP/2.0 699 "] {
        let text = GOOD.replace("INVITE sip:b@h SIP/2.0", line);
        assert!(
            parse(text.as_bytes(), &mut Index::default(), &Limits::default()).is_ok(),
            "{line:?}"
        );
    }
}

/// What one reader takes for a line end and the next does not hides headers from one of them.
#[test]
fn stray_control_bytes_are_refused() {
    for stray in [
        "\n",
        "\r",
        "\0",
        "\r\r\n",
        "\n\r\n",
        "\nContent-Length: 0",
        "\\\n",
        "\\\r",
    ] {
        let text = GOOD.replace("Subject: x", &format!("Subject: x{stray}y"));
        assert!(matches!(error(&text).fault, Fault::StrayControl(_)), "{stray:?}");
        assert_eq!(error(&text).status(), Some(400));
    }
    for fine in ["\t", "\u{1}", "\\\0", "\r\n ", "\r\n\tz: ", "\u{7f}"] {
        let text = GOOD.replace("Subject: x", &format!("Subject: x{fine}y"));
        assert!(
            parse(text.as_bytes(), &mut Index::default(), &Limits::default()).is_ok(),
            "{fine:?}"
        );
    }
}

#[test]
fn header_lines_have_a_token_and_a_colon() {
    for line in [
        ": x",
        "Subject x",
        "Sub ject: x",
        "Sub\u{1}ject: x",
        "Content-Length\r\n : 4",
        "S\u{fc}bject: x",
        "Content\u{d}Length: 9",
        "=: x",
    ] {
        assert!(
            matches!(
                error(&GOOD.replace("Subject: x", line)).fault,
                Fault::HeaderLine(_) | Fault::StrayControl(_)
            ),
            "{line:?}"
        );
    }
}

/// §8.1.1, §20
#[test]
fn mandatory_headers_are_there_once() {
    for (line, name) in [
        ("Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\n", Name::Via),
        ("From: <sip:a@h>;tag=1\r\n", Name::From),
        ("To: <sip:b@h>\r\n", Name::To),
        ("Call-ID: c@h\r\n", Name::CallId),
        ("CSeq: 1 INVITE\r\n", Name::CSeq),
    ] {
        let text = GOOD.replace(line, "");
        assert_eq!(error(&text).fault, Fault::Missing(name));
        // Without Via nobody knows where to.
        assert_eq!(can_answer(&text), name != Name::Via);
        if name != Name::Via {
            assert_eq!(error(&GOOD.replace(line, &line.repeat(2))).fault, Fault::Repeated(name));
        }
    }
    assert_eq!(
        error(&GOOD.replace("Subject: x", "max-forwards: 3")).fault,
        Fault::Repeated(Name::MaxForwards)
    );
    for id in ["", " ", "a b", "a\r\n b"] {
        assert!(
            matches!(error(&GOOD.replace("c@h", id)).fault, Fault::Malformed(malformed) if malformed.field == "Call-ID")
        );
    }
}

/// §8.1.1.5, §20.16
#[test]
fn cseq_has_the_method_of_the_request() {
    assert_eq!(error(&GOOD.replace("1 INVITE", "1 invite")).fault, Fault::CSeqMethod);
    assert_eq!(error(&GOOD.replace("1 INVITE", "1 BYE")).status(), Some(400));
    let malformed = error(&GOOD.replace("1 INVITE", "4294967296 INVITE"));
    assert!(
        matches!(malformed.fault, Fault::Malformed(at) if at.field == "CSeq" && at.offset == GOOD.find("1 INVITE").unwrap())
    );
    let response = GOOD.replace("INVITE sip:b@h SIP/2.0", "SIP/2.0 200 OK");
    let mut index = Index::default();
    let response = parse(response.as_bytes(), &mut index, &Limits::default()).unwrap();
    assert_eq!(response.cseq().unwrap().method, Method::Invite);
}

/// §18.3, §20.14
#[test]
fn the_length_of_the_body_is_beyond_doubt() {
    assert_eq!(error(&GOOD.replace(": 4", ": 5")).fault, Fault::BodyTooShort);
    for length in ["", "-1", "+4", "4 4", "four", "4,4", "4294967296", "0x4"] {
        let fault = error(&GOOD.replace("Content-Length: 4", &format!("Content-Length: {length}"))).fault;
        assert!(
            matches!(fault, Fault::Malformed(malformed) if malformed.field == "Content-Length"),
            "{length:?}"
        );
    }
    assert_eq!(
        error(&GOOD.replace("Subject: x", "l: 3")).fault,
        Fault::Repeated(Name::ContentLength)
    );
    assert_eq!(
        error(&GOOD.replace("Subject: x", "l: x")).fault,
        Fault::Repeated(Name::ContentLength)
    );
    for fine in [
        GOOD.replace("Subject: x", "l: 04"),
        GOOD.replace("Content-Length: 4\r\n", ""),
    ] {
        let mut index = Index::default();
        assert_eq!(
            parse(fine.as_bytes(), &mut index, &Limits::default()).unwrap().body(),
            b"body"
        );
    }
    // Folding belongs to headers; a body may begin with a space.
    let mut index = Index::default();
    let text = GOOD.replace("body", " ody");
    assert_eq!(
        parse(text.as_bytes(), &mut index, &Limits::default()).unwrap().body(),
        b" ody"
    );
}

#[test]
fn limits_give_513() {
    let default = Limits::default();
    for (limits, fault) in [
        (
            Limits {
                message_len: GOOD.len() - 1,
                ..default
            },
            Fault::TooLong,
        ),
        (
            Limits {
                head_len: 100,
                ..default
            },
            Fault::TooLong,
        ),
        (
            Limits {
                header_len: 20,
                ..default
            },
            Fault::HeaderTooLong,
        ),
        (Limits { headers: 7, ..default }, Fault::TooManyHeaders),
    ] {
        let error = error_within(GOOD, &limits);
        assert_eq!((error.fault, error.status()), (fault, Some(513)));
    }
    let limits = Limits {
        message_len: GOOD.len(),
        head_len: GOOD.len(),
        header_len: 40,
        headers: 8,
    };
    assert!(parse(GOOD.as_bytes(), &mut Index::default(), &limits).is_ok());
}

#[test]
fn an_answer_goes_only_where_the_top_via_is_sure() {
    // A line left out ahead of the first Via, or one that may be a Via, could have been the topmost.
    assert!(!can_answer(&GOOD.replace("\r\nVia", "\r\nVia SIP/2.0/UDP x\r\nVia")));
    assert!(!can_answer(&GOOD.replace("\r\nVia", "\r\nx\ny: z\r\nVia")));
    assert!(!can_answer(&GOOD.replace("Subject: x", "Via\u{1}: SIP/2.0/UDP x")));
    assert!(!can_answer(
        &GOOD
            .replace("SIP/2.0/UDP h;", "SIP/2.0/UDP ;")
            .replace("1 INVITE", "1 BYE")
    ));
    assert!(can_answer(&GOOD.replace("Subject: x", "Subject x")));
    assert!(can_answer(&GOOD.replace("\r\n\r\nbody", "\r\n")), "no empty line");
    // §17: an ACK is never answered, nor is a response.
    let ack = GOOD.replace("INVITE", "ACK").replace("Subject: x", "Subject x");
    assert_eq!((error(&ack).status(), can_answer(&ack)), (None, false));
    let response = GOOD
        .replace("INVITE sip:b@h SIP/2.0", "SIP/2.0 200 OK")
        .replace("Subject: x", "Subject x");
    assert_eq!((error(&response).status(), can_answer(&response)), (None, false));
    assert_eq!(error("").status(), None);
}

#[test]
fn up_to_48_headers_need_no_allocation() {
    let text = GOOD.replace("Subject: x\r\n", &"Subject: x\r\n".repeat(41));
    let mut index = Index::default();
    assert_eq!(
        parse(text.as_bytes(), &mut index, &Limits::default())
            .unwrap()
            .headers()
            .count(),
        48
    );
    assert!(!index.lines.spilled());
}

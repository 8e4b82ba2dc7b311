//! The torture messages of RFC 4475 and RFC 5118 with their verdicts (`tests/torture/`), and what a proxy may change of a
//! message, told from the bytes alone.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::message::canonical;

/// One torture message.
#[derive(Debug, Clone)]
pub struct Case {
    /// `rfc4475/wsinv`.
    pub file: String,
    /// `RFC 4475 §3.1.1.1`.
    pub section: String,
    /// What a proxy for somebody else's domain does with it.
    pub verdict: Verdict,
    /// What a registrar does with it whose domain it is about.
    pub registrar: Option<Verdict>,
    /// How a stream ends after it, if it does.
    pub stream: Option<StreamEnd>,
    /// The Request-URI of the forwarded request, where it is another.
    pub request_uri: Option<String>,
    /// As it goes out: lines of RFC 5118 with CRLF.
    pub bytes: Vec<u8>,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It reaches the next hop whole.
    Forwarded,
    /// It goes no further and is answered so.
    Answered(u16),
    /// A response that goes upstream.
    Relayed,
    /// A response that is taken and goes no further.
    Absorbed,
    /// Nothing happens.
    Discarded,
}

/// What a message gets on a stream that is ended after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// What it gets as a datagram.
    AsVerdict,
    /// 400.
    Refused,
    /// No answer.
    Cut,
}

impl Verdict {
    fn parse(text: &str) -> Verdict {
        match text {
            "forwarded" => Verdict::Forwarded,
            "relayed" => Verdict::Relayed,
            "absorbed" => Verdict::Absorbed,
            "discarded" => Verdict::Discarded,
            _ => Verdict::Answered(
                text.strip_prefix("answered ")
                    .and_then(|status| status.parse().ok())
                    .unwrap_or_else(|| panic!("no verdict: {text}")),
            ),
        }
    }
}

/// Where the messages lie.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("torture")
}

/// All messages, in the order of the table.
///
/// # Panics
/// When the table is not well-formed, or it and the folder do not name the same messages.
pub fn cases() -> Vec<Case> {
    let text = fs::read_to_string(folder().join("verdicts.toml")).expect("the table is there");
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("verdicts.toml: {error}"));
    let rows = table["message"].as_array().expect("[[message]]");
    let cases: Vec<Case> = rows.iter().map(case).collect();
    let mut listed: Vec<String> = cases.iter().map(|case| format!("{}.dat", case.file)).collect();
    let mut there: Vec<String> = ["rfc4475", "rfc5118"]
        .iter()
        .flat_map(|rfc| {
            fs::read_dir(folder().join(rfc))
                .expect("the folder is there")
                .flatten()
                .map(move |entry| format!("{rfc}/{}", entry.file_name().to_string_lossy()))
        })
        .collect();
    listed.sort();
    there.sort();
    assert_eq!(listed, there, "verdicts.toml and its folders name the same messages");
    cases
}

fn case(row: &toml::Value) -> Case {
    let text = |key: &str| row.get(key).map(|value| value.as_str().expect("a string").to_owned());
    let file = text("file").expect("a file");
    let bytes = fs::read(folder().join(format!("{file}.dat"))).unwrap_or_else(|error| panic!("{file}: {error}"));
    let bytes = if file.starts_with("rfc5118/") {
        with_crlf(&bytes)
    } else {
        bytes
    };
    assert!(text("why").is_some_and(|why| !why.is_empty()), "{file}: why");
    Case {
        section: text("section").expect("a section"),
        verdict: Verdict::parse(&text("verdict").expect("a verdict")),
        registrar: text("registrar").map(|verdict| Verdict::parse(&verdict)),
        stream: text("stream").map(|end| match end.as_str() {
            "closed" => StreamEnd::AsVerdict,
            "refused" => StreamEnd::Refused,
            "cut" => StreamEnd::Cut,
            _ => panic!("{file}: no end of a stream: {end}"),
        }),
        request_uri: text("request_uri"),
        file,
        bytes,
    }
}

/// CRLF in place of LF, and the empty line where it is missing (`tests/torture/README.md`).
pub fn with_crlf(bytes: &[u8]) -> Vec<u8> {
    let ends = bytes.windows(2).any(|pair| pair == b"\n\n");
    let mut out = Vec::new();
    for byte in bytes.iter().chain((!ends).then_some(&b'\n')) {
        if *byte == b'\n' {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out
}

impl Case {
    /// The first line of its top Via, as it stands there: tells transactions apart.
    pub fn top_via(&self) -> Option<String> {
        header(&self.bytes, "via")
    }

    /// Its Call-ID, if it has one.
    pub fn call_id(&self) -> Option<String> {
        header(&self.bytes, "call-id")
    }

    /// Method of a request, or of the CSeq of a response.
    pub fn method(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        if !self.is_response() {
            return text.split_whitespace().next().unwrap_or_default().to_owned();
        }
        let cseq = header(&self.bytes, "cseq").unwrap_or_default();
        cseq.split_whitespace().nth(1).unwrap_or_default().to_owned()
    }

    /// Whether it is a response.
    pub fn is_response(&self) -> bool {
        self.bytes.starts_with(b"SIP/2.0 ")
    }

    /// The port where a server sends the answer if it came by UDP (RFC 3261 §18.2.2).
    pub fn answer_port(&self) -> u16 {
        let via = self.top_via().unwrap_or_default();
        let sent_by = via.split(';').next().unwrap_or_default();
        let host_end = sent_by.rfind(']').unwrap_or(0);
        let port = sent_by[host_end..]
            .rsplit_once(':')
            .and_then(|(_, port)| port.trim().parse().ok());
        port.unwrap_or(5060)
    }
}

/// The first value line of a header, folding undone.
fn header(message: &[u8], name: &str) -> Option<String> {
    lines(head(message).0)
        .skip(1)
        .filter_map(split)
        .find(|(known, _)| known == name)
        .map(|(_, value)| String::from_utf8_lossy(value).replace("\r\n", "").trim().to_owned())
}

/// Head without the empty line, and what follows it.
fn head(message: &[u8]) -> (&[u8], &[u8]) {
    match message.windows(4).position(|four| four == b"\r\n\r\n") {
        Some(at) => (&message[..at + 2], &message[at + 4..]),
        None => (message, b""),
    }
}

/// Logical lines, CRLF and folding included.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = head;
    std::iter::from_fn(move || {
        let mut at = 0;
        loop {
            let end = rest[at..]
                .windows(2)
                .position(|two| two == b"\r\n")
                .map(|end| at + end + 2)?;
            if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                let (line, behind) = rest.split_at(end);
                rest = behind;
                return Some(line);
            }
            at = end;
        }
    })
}

fn split(line: &[u8]) -> Option<(String, &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = String::from_utf8_lossy(&line[..colon]);
    Some((canonical(name.trim()), &line[colon + 1..]))
}

/// What is wrong with a forwarded request: RFC 3261 §16.6 lets a proxy change the Request-URI, Max-Forwards, Route and the
/// top Via (`received`, `rport`), and add Via, Record-Route, Max-Forwards, Max-Breadth (RFC 5393), Route and Content-Length. All else, the order and the body
/// included, must leave as it came.
pub fn changed(original: &[u8], forwarded: &[u8], source: IpAddr) -> Result<(), String> {
    let ((old, old_body), (new, new_body)) = (head(original), head(forwarded));
    let length = header(original, "content-length").and_then(|length| length.parse().ok());
    let old_body = &old_body[..length.unwrap_or(old_body.len()).min(old_body.len())];
    if old_body != new_body {
        return Err("the body is another".into());
    }
    let mut rest = lines(new).skip(1);
    let mut vias = 0;
    for line in lines(old).skip(1) {
        let (name, _) = split(line).ok_or("a line without a colon went through")?;
        vias += usize::from(name == "via");
        let stamped = name == "via" && vias == 1;
        let is_same = |other: &[u8]| {
            other == line
                || (name == "max-forwards" || stamped)
                    && split(other).is_some_and(|(other, _)| other == name)
                    && (!stamped || unstamped(other, source) == unstamped(line, source))
        };
        // A Route that is ours or a strict router's goes or moves.
        if name == "route" {
            continue;
        }
        loop {
            let Some(other) = rest.next() else {
                return Err(format!("missing or out of order: {}", String::from_utf8_lossy(line)));
            };
            if is_same(other) {
                break;
            }
            added(other)?;
        }
    }
    rest.try_for_each(added)
}

fn added(line: &[u8]) -> Result<(), String> {
    let name = split(line).map(|(name, _)| name).unwrap_or_default();
    match name.as_str() {
        "via" | "record-route" | "route" | "max-forwards" | "max-breadth" | "content-length" => Ok(()),
        _ => Err(format!("nobody sent {}", String::from_utf8_lossy(line))),
    }
}

/// A Via line without `received` and without the value of `rport`.
fn unstamped(line: &[u8], source: IpAddr) -> String {
    let text = String::from_utf8_lossy(line).into_owned();
    let mut out = text.replace(&format!(";received={source}"), "");
    while let Some(at) = out.find(";received=") {
        let end = out[at + 1..]
            .find([';', ',', '\r'])
            .map_or(out.len(), |len| at + 1 + len);
        out.replace_range(at..end, "");
    }
    match out.find(";rport=") {
        Some(at) => {
            let end = out[at + 1..]
                .find([';', ',', '\r'])
                .map_or(out.len(), |len| at + 1 + len);
            out.replace_range(at..end, ";rport");
            out
        }
        None => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "INVITE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP a;rport,\r\n SIP/2.0/UDP b\r\nX: 1\r\nMax-Forwards: 3\r\nl: 2\r\n\r\nhi there";
    const NEW: &str = "INVITE sip:c@h SIP/2.0\r\nVia: SIP/2.0/UDP us\r\nVia: SIP/2.0/UDP a;rport=7;received=127.0.0.1,\r\n SIP/2.0/UDP b\r\nX: 1\r\nMax-Forwards: 2\r\nl: 2\r\n\r\nhi";

    fn check(old: &str, new: &str) -> Result<(), String> {
        changed(old.as_bytes(), new.as_bytes(), "127.0.0.1".parse().unwrap())
    }

    #[test]
    fn what_a_proxy_may_change_is_no_change() {
        assert_eq!(check(OLD, NEW), Ok(()));
    }

    #[test]
    fn anything_else_is_told() {
        for (from, to) in [
            ("X: 1\r\n", ""),
            ("X: 1\r\n", "X: 2\r\n"),
            ("X: 1\r\n", "X: 1\r\nY: 1\r\n"),
            ("X: 1\r\nMax-Forwards: 2\r\n", "Max-Forwards: 2\r\nX: 1\r\n"),
            ("\r\n\r\nhi", "\r\n\r\nho"),
            ("UDP a;", "UDP z;"),
        ] {
            assert!(check(OLD, &NEW.replace(from, to)).is_err(), "{from:?} to {to:?}");
        }
    }

    #[test]
    fn every_message_has_a_verdict_and_a_place_to_be_answered() {
        let all = cases();
        assert_eq!(
            all.iter()
                .filter(|case| case.section.starts_with("RFC 4475 §3"))
                .count(),
            49
        );
        let port = |file: &str| all.iter().find(|case| case.file == file).map(Case::answer_port);
        assert_eq!(port("rfc4475/quotbal"), Some(5050));
        assert_eq!(port("rfc5118/ipv4-mapped-ipv6"), Some(19823));
        assert_eq!(port("rfc5118/ipv6-good"), Some(5060));
    }
}

//! SIP text for the generator: templates out, the few fields it needs in. Not a parser: it reads what its own templates
//! became after a proxy had them.

use std::io::Write;

use memchr::{memchr, memmem};

/// Lines of a message's head, without line ends; stops at the blank line.
pub fn lines(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = message;
    std::iter::from_fn(move || {
        let end = memchr(b'\n', rest)?;
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        rest = &rest[end + 1..];
        (!line.is_empty()).then_some(line)
    })
}

/// Value of a header line if it has this name (lower case), whatever its case in the line.
pub fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = line.split_at_checked(name.len())?;
    if !head.eq_ignore_ascii_case(name) || rest.first() != Some(&b':') {
        return None;
    }
    Some(rest[1..].trim_ascii())
}

/// The number that the generator put into Call-ID.
pub fn call_number(message: &[u8]) -> Option<u32> {
    let at = memmem::find(message, CALL_MARK)? + CALL_MARK.len();
    let digits = message.get(at..at + 8)?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Status of a response.
pub fn status(message: &[u8]) -> Option<u16> {
    let digits = message.strip_prefix(b"SIP/2.0 ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Whether CSeq names this method.
pub fn is_for(message: &[u8], method: &[u8]) -> bool {
    lines(message)
        .find_map(|line| value(line, b"cseq"))
        .is_some_and(|cseq| cseq.ends_with(method))
}

/// The response a callee gives to a request: Via, Record-Route, From, To with tag, Call-ID, CSeq as they came.
pub fn response(request: &[u8], status: &str, tag: u32, contact: &str, body: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(request.len() + 128);
    let _ = write!(out, "SIP/2.0 {status}\r\n");
    for line in lines(request).skip(1) {
        let copied = match line.first().map(u8::to_ascii_lowercase) {
            Some(b'v') => value(line, b"via").is_some(),
            Some(b'r') => value(line, b"record-route").is_some(),
            Some(b'f') => value(line, b"from").is_some(),
            Some(b'c') => value(line, b"call-id").is_some() || value(line, b"cseq").is_some(),
            Some(b't') => {
                if let Some(to) = value(line, b"to") {
                    out.extend_from_slice(b"To: ");
                    out.extend_from_slice(to);
                    if memmem::find(to, b";tag=").is_none() {
                        let _ = write!(out, ";tag=callee{tag:08x}");
                    }
                    out.extend_from_slice(b"\r\n");
                }
                false
            }
            _ => false,
        };
        if copied {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
    }
    let _ = write!(out, "Contact: <{contact}>\r\n");
    if !body.is_empty() {
        out.extend_from_slice(b"Content-Type: application/sdp\r\n");
    }
    let _ = write!(out, "Content-Length: {}\r\n\r\n{body}", body.len());
    out
}

/// What stands before the call's number in Call-ID.
pub const CALL_MARK: &[u8] = b"spsbench-";

/// The session description of both sides.
pub const SDP: &str = "v=0\r\no=phone 2890844526 2890844526 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 49170 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
    a=sendrecv\r\n";

//! Requests a proxy makes out of one it sent: ACK for non-2xx and CANCEL (RFC 3261 §17.1.1.3, §9.1).

use crate::{
    Index, Limits, Malformed, Message, Name, ParseError, parse,
    respond::{copy, write_header},
    write::write_u32,
};

/// Why no ACK or CANCEL could be made of a sent request. All are faults of the caller: such bytes should not have
/// been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The sent bytes are no message.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// Its Via or CSeq cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A response was given.
    #[error("not a request")]
    NotRequest,
}

/// Appends the ACK for a non-2xx final response (§17.1.1.3): Request-URI, top Via, From, Call-ID, CSeq number and
/// Route headers of the INVITE as sent, To of the response.
///
/// # Errors
/// [`Unfit`] when `sent` is not a request as this crate reads it.
pub fn write_ack(sent: &[u8], response: Message<'_>, out: &mut Vec<u8>) -> Result<(), Unfit> {
    write_after(sent, b"ACK", Some(response), &[], out)
}

/// Appends the CANCEL for a request as sent (§9.1).
///
/// # Errors
/// [`Unfit`] when `sent` is not a request as this crate reads it.
pub fn write_cancel(sent: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
    write_cancel_with(sent, &[], out)
}

/// As [`write_cancel`], with further headers, such as a Reason (RFC 3326 §2: "call completed elsewhere" keeps a phone
/// from counting a missed call).
///
/// # Errors
/// As [`write_cancel`].
pub fn write_cancel_with(sent: &[u8], extra: &[(&str, &[u8])], out: &mut Vec<u8>) -> Result<(), Unfit> {
    write_after(sent, b"CANCEL", None, extra, out)
}

/// Hops that an ACK or CANCEL made here may take (§8.1.1.6).
const MAX_FORWARDS: &[u8] = b"70";

fn write_after(
    sent: &[u8],
    method: &[u8],
    response: Option<Message<'_>>,
    extra: &[(&str, &[u8])],
    out: &mut Vec<u8>,
) -> Result<(), Unfit> {
    let mut index = Index::default();
    // What was sent was within the limits that were in force; here they only bound the work.
    let limits = Limits {
        message_len: usize::MAX,
        head_len: usize::MAX,
        header_len: usize::MAX,
        headers: usize::MAX,
    };
    let sent = parse(sent, &mut index, &limits)?;
    let request_uri = sent.request_uri().ok_or(Unfit::NotRequest)?;
    let via = sent.top_via()?;
    let number = sent.cseq()?.number;

    out.reserve(sent.head_len());
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(request_uri);
    out.extend_from_slice(b" SIP/2.0\r\n");
    // The topmost value alone, branch included: it names the transaction.
    write_header(b"Via", via.value().text(), out);
    for header in sent.all(Name::Route) {
        out.extend_from_slice(header.raw());
    }
    write_header(b"Max-Forwards", MAX_FORWARDS, out);
    copy(sent, Name::From, out);
    copy(response.unwrap_or(sent), Name::To, out);
    copy(sent, Name::CallId, out);
    out.extend_from_slice(b"CSeq: ");
    write_u32(number, out);
    out.push(b' ');
    out.extend_from_slice(method);
    out.extend_from_slice(b"\r\n");
    for (name, value) in extra {
        write_header(name.as_bytes(), value, out);
    }
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:bob@192.0.2.4 SIP/2.0\r\nVia: SIP/2.0/UDP p1;branch=z9hG4bKa, SIP/2.0/UDP p0;branch=z9hG4bKb\r\nVia: SIP/2.0/UDP u\r\n\
                          Route: <sip:p2;lr>,<sip:p3;lr>\r\nRoute: <sip:p4;lr>\r\nMax-Forwards: 3\r\nf: <sip:a@b>;tag=1\r\nTo: <sip:bob@b>\r\n\
                          Call-ID: c\r\nCSeq: 9 INVITE\r\nContact: <sip:a@u>\r\nRequire: x\r\nContent-Length: 2\r\n\r\nhi";

    /// §17.1.1.3
    #[test]
    fn an_ack_takes_to_from_the_response_and_the_rest_from_the_invite() {
        let text = "SIP/2.0 486 Busy Here\r\nVia: SIP/2.0/UDP p1;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:bob@b>;tag=2\r\nCall-ID: c\r\nCSeq: 9 INVITE\r\n\r\n";
        let mut index = Index::default();
        let response = parse(text.as_bytes(), &mut index, &Limits::default()).unwrap();
        let mut out = Vec::new();
        write_ack(INVITE.as_bytes(), response, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "ACK sip:bob@192.0.2.4 SIP/2.0\r\nVia: SIP/2.0/UDP p1;branch=z9hG4bKa\r\nRoute: <sip:p2;lr>,<sip:p3;lr>\r\nRoute: <sip:p4;lr>\r\nMax-Forwards: 70\r\n\
             f: <sip:a@b>;tag=1\r\nTo: <sip:bob@b>;tag=2\r\nCall-ID: c\r\nCSeq: 9 ACK\r\nContent-Length: 0\r\n\r\n"
        );
    }

    /// §9.1
    #[test]
    fn a_cancel_has_one_via_and_no_require() {
        let mut out = Vec::new();
        write_cancel_with(INVITE.as_bytes(), &[("Reason", b"SIP;cause=200")], &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "CANCEL sip:bob@192.0.2.4 SIP/2.0\r\nVia: SIP/2.0/UDP p1;branch=z9hG4bKa\r\nRoute: <sip:p2;lr>,<sip:p3;lr>\r\nRoute: <sip:p4;lr>\r\nMax-Forwards: 70\r\n\
             f: <sip:a@b>;tag=1\r\nTo: <sip:bob@b>\r\nCall-ID: c\r\nCSeq: 9 CANCEL\r\nReason: SIP;cause=200\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn what_is_no_request_gives_an_error() {
        let mut out = Vec::new();
        assert!(matches!(write_cancel(b"x", &mut out), Err(Unfit::Parse(_))));
        let response = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP p1\r\nFrom: <sip:a@b>\r\nTo: <sip:b>\r\nCall-ID: c\r\nCSeq: 9 INVITE\r\n\r\n";
        assert_eq!(write_cancel(response.as_bytes(), &mut out), Err(Unfit::NotRequest));
        assert!(out.is_empty());
    }
}

//! Responses made by us (RFC 3261 §8.2.6, §18.2.1, RFC 3581).

use crate::{
    Feedback, Message, Method, Name, Patch, Via, feedback, reason_phrase,
    write::{write_ip, write_u32},
};
use smallvec::SmallVec;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

/// What the transport saw of a request's sender, to be written into its top Via.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViaStamp {
    /// Source address: set when it differs from sent-by or when rport was asked for.
    pub received: Option<IpAddr>,
    /// Source port: set when rport was asked for (RFC 3581 §4).
    pub rport: Option<u16>,
    /// What becomes of the parameters of overload control.
    pub overload: OverloadStamp,
}

/// What becomes of the parameters by which a Via asks for overload control (RFC 7339).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverloadStamp {
    /// They stay as they are: there are none, or the server that they ask is somebody else.
    #[default]
    Keep,
    /// They are left out: the request goes on to another hop (§5.6).
    Strip,
    /// They are answered (§5.2).
    Say(Feedback),
}

impl ViaStamp {
    /// What a request from `source` needs in its top Via (RFC 3261 §18.2.1, RFC 3581 §4).
    ///
    /// Values that the sender wrote himself are overruled: nobody may say from elsewhere where our response goes.
    pub fn of(via: &Via<'_>, source: SocketAddr) -> ViaStamp {
        let ip = source.ip().to_canonical();
        let differs = via.host.ip().map(|host| host.to_canonical()) != Some(ip);
        let asks_port = via.rport().is_some();
        ViaStamp {
            received: (differs || asks_port || via.params.has(b"received")).then_some(ip),
            rport: asks_port.then_some(source.port()),
            overload: OverloadStamp::Keep,
        }
    }

    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.received.is_none() && self.rport.is_none() && self.overload == OverloadStamp::Keep
    }

    /// Puts the stamp into the top Via of a message about to be forwarded; a `received` or `rport` value already
    /// there is replaced.
    pub fn patch(&self, via: &Via<'_>, patch: &mut Patch<'_>) {
        for edit in self.edits(via) {
            patch.replace_with(edit.place.clone(), |out| edit.write(out));
        }
    }

    /// The edits in the order of their places.
    fn edits(&self, via: &Via<'_>) -> SmallVec<[StampEdit; 4]> {
        let mut edits = SmallVec::new();
        let end = via.range().end;
        let mut edit = |place: Range<usize>, param: StampParam| {
            let at = edits
                .iter()
                .rposition(|other: &StampEdit| other.place.start <= place.start);
            edits.insert(at.map_or(0, |at| at + 1), StampEdit { place, param });
        };
        let place = |name: &[u8]| via.params.find(name).map_or(end..end, |param| via.place_of(&param));
        if let Some(addr) = self.received {
            edit(place(b"received"), StampParam::Received(addr));
        }
        if let Some(port) = self.rport {
            edit(place(b"rport"), StampParam::Rport(port));
        }
        if self.overload != OverloadStamp::Keep {
            for param in via.params.into_iter().filter(|param| feedback::is_ours(param.name)) {
                edit(via.place_of(&param), StampParam::Nothing);
            }
        }
        if let OverloadStamp::Say(feedback) = self.overload {
            edit(end..end, StampParam::Feedback(feedback));
        }
        edits
    }
}

struct StampEdit {
    place: Range<usize>,
    param: StampParam,
}

enum StampParam {
    Received(IpAddr),
    Rport(u16),
    Feedback(Feedback),
    Nothing,
}

impl StampEdit {
    fn write(&self, out: &mut Vec<u8>) {
        match self.param {
            StampParam::Received(addr) => {
                out.extend_from_slice(b";received=");
                write_ip(addr, out);
            }
            StampParam::Rport(port) => {
                out.extend_from_slice(b";rport=");
                write_u32(port.into(), out);
            }
            StampParam::Feedback(feedback) => feedback.write(out),
            StampParam::Nothing => {}
        }
    }
}

/// A response to be written by [`write_response`].
#[derive(Clone, Copy, Debug)]
pub struct Response<'r> {
    /// 100 to 699.
    pub status: u16,
    /// Reason phrase; the usual one if none.
    pub reason: Option<&'r str>,
    /// Tag for To: used unless To has one or the status is 100.
    pub to_tag: Option<&'r [u8]>,
    /// For the top Via, unless the request's bytes bear it already.
    pub stamp: ViaStamp,
    /// How long ago the request came, for the Timestamp of a 100 (§8.2.6.1).
    pub delay: Duration,
    /// Further headers, name and value.
    pub extra: &'r [(&'r str, &'r [u8])],
    /// The body; its Content-Type goes into `extra`.
    pub body: &'r [u8],
}

impl<'r> Response<'r> {
    /// A bare response.
    pub fn new(status: u16) -> Response<'r> {
        Response {
            status,
            reason: None,
            to_tag: None,
            stamp: ViaStamp::default(),
            delay: Duration::ZERO,
            extra: &[],
            body: b"",
        }
    }
}

/// Appends a response to a request (RFC 3261 §8.2.6.2): status line, all Via with the stamp in the topmost, From, To,
/// Call-ID, CSeq, Timestamp in a 100, all Record-Route in 101 to 299 to what makes a dialog (§12.1.1), `extra`,
/// Content-Length and the body.
///
/// `extra` goes out as it is: line ends in it are the caller's to keep out.
pub fn write_response(request: Message<'_>, response: &Response<'_>, out: &mut Vec<u8>) {
    out.reserve(request.head_len() + response.body.len() + 128);
    out.extend_from_slice(b"SIP/2.0 ");
    write_u32(response.status.into(), out);
    out.push(b' ');
    out.extend_from_slice(response.reason.unwrap_or(reason_phrase(response.status)).as_bytes());
    out.extend_from_slice(b"\r\n");
    write_vias(request, response.stamp, out);
    copy(request, Name::From, out);
    write_to(request, response, out);
    copy(request, Name::CallId, out);
    copy(request, Name::CSeq, out);
    if response.status == 100 {
        write_timestamp(request, response.delay, out);
    }
    let makes_dialog = matches!(
        request.method(),
        Some(Method::Invite | Method::Subscribe | Method::Refer | Method::Notify)
    );
    if makes_dialog && (101..300).contains(&response.status) {
        request
            .all(Name::RecordRoute)
            .for_each(|header| out.extend_from_slice(header.raw()));
    }
    for (name, value) in response.extra {
        write_header(name.as_bytes(), value, out);
    }
    out.extend_from_slice(b"Content-Length: ");
    write_u32(response.body.len() as u32, out);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(response.body);
}

fn write_vias(request: Message<'_>, stamp: ViaStamp, out: &mut Vec<u8>) {
    let mut vias = request.all(Name::Via);
    if !stamp.is_empty()
        && let Ok(via) = request.top_via()
    {
        // The first header, which the topmost value opens.
        vias.next();
        let line = via.value().header().line();
        let mut at = line.start;
        for edit in stamp.edits(&via) {
            out.extend_from_slice(&request.bytes()[at..edit.place.start]);
            edit.write(out);
            at = edit.place.end;
        }
        out.extend_from_slice(&request.bytes()[at..line.end]);
    }
    vias.for_each(|header| out.extend_from_slice(header.raw()));
}

fn write_to(request: Message<'_>, response: &Response<'_>, out: &mut Vec<u8>) {
    let Some(header) = request.first(Name::To) else {
        return;
    };
    // A To that cannot be read, in a request refused for it, goes back as it came.
    let needs_tag = response.status != 100 && request.to().is_ok_and(|to| to.tag().is_none());
    match response.to_tag.filter(|_| needs_tag) {
        None => out.extend_from_slice(header.raw()),
        Some(tag) => {
            let value_end = header.value_range().end;
            out.extend_from_slice(&request.bytes()[header.line().start..value_end]);
            out.extend_from_slice(b";tag=");
            out.extend_from_slice(tag);
            out.extend_from_slice(&request.bytes()[value_end..header.line().end]);
        }
    }
}

/// §8.2.6.1: the Timestamp as it came, with the delay behind it if there is one worth telling, in seconds.
fn write_timestamp(request: Message<'_>, delay: Duration, out: &mut Vec<u8>) {
    let Some(header) = request.first(Name::Timestamp) else {
        return;
    };
    if delay < Duration::from_millis(1) {
        return out.extend_from_slice(header.raw());
    }
    out.extend_from_slice(b"Timestamp: ");
    // A delay that is there already is not ours to tell.
    let said = header.value().split(u8::is_ascii_whitespace).next();
    out.extend_from_slice(said.unwrap_or_default());
    out.push(b' ');
    write_u32(delay.as_secs().min(u64::from(u32::MAX)) as u32, out);
    out.push(b'.');
    let ms = delay.subsec_millis();
    out.extend([ms / 100, ms / 10 % 10, ms % 10].map(|digit| b'0' + digit as u8));
    out.extend_from_slice(b"\r\n");
}

/// Appends the first header of that name as received, if there is one.
pub(crate) fn copy(message: Message<'_>, name: Name, out: &mut Vec<u8>) {
    if let Some(header) = message.first(name) {
        out.extend_from_slice(header.raw());
    }
}

/// Appends one header line.
pub fn write_header(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Index, Limits, parse};

    const REQUEST: &str = "INVITE sip:bob@biloxi.com SIP/2.0\r\nv: SIP/2.0/UDP bigbox3.site3.atlanta.com;rport;branch=z9hG4bK77,\r\n SIP/2.0/UDP two\r\n\
                           Via: SIP/2.0/UDP three\r\nRecord-Route: <sip:p;lr>\r\nf: <sip:a@b>;tag=1928\r\nTo: Bob <sip:bob@biloxi.com> \r\nCall-ID: x@y\r\n\
                           CSeq: 314 INVITE\r\nTimestamp: 54\r\nContent-Length: 0\r\n\r\n";

    fn respond(request: &str, response: &Response<'_>) -> String {
        let mut index = Index::default();
        let message = parse(request.as_bytes(), &mut index, &Limits::default()).unwrap();
        let mut out = Vec::new();
        write_response(message, response, &mut out);
        let mut index = Index::default();
        parse(&out, &mut index, &Limits::default()).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// §8.2.6.2, RFC 3581 §4
    #[test]
    fn all_vias_with_the_stamp_in_the_topmost_and_a_tag_in_to() {
        let stamp = ViaStamp {
            received: Some("192.0.2.1".parse().unwrap()),
            rport: Some(4711),
            ..ViaStamp::default()
        };
        let extra: [(&str, &[u8]); 1] = [("Allow", b"INVITE")];
        let response = Response {
            to_tag: Some(b"t1"),
            stamp,
            extra: &extra,
            body: b"body",
            ..Response::new(183)
        };
        assert_eq!(
            respond(REQUEST, &response),
            "SIP/2.0 183 Session Progress\r\nv: SIP/2.0/UDP bigbox3.site3.atlanta.com;rport=4711;branch=z9hG4bK77;received=192.0.2.1,\r\n SIP/2.0/UDP two\r\n\
             Via: SIP/2.0/UDP three\r\nf: <sip:a@b>;tag=1928\r\nTo: Bob <sip:bob@biloxi.com>;tag=t1 \r\nCall-ID: x@y\r\nCSeq: 314 INVITE\r\n\
             Record-Route: <sip:p;lr>\r\nAllow: INVITE\r\nContent-Length: 4\r\n\r\nbody"
        );
    }

    #[test]
    fn trying_has_timestamp_and_no_tag() {
        let response = Response {
            to_tag: Some(b"t1"),
            ..Response::new(100)
        };
        let text = respond(REQUEST, &response);
        assert!(
            text.contains("Timestamp: 54\r\n") && !text.contains("t1") && !text.contains("Record-Route"),
            "{text}"
        );
    }

    /// §8.2.6.1, §20.38
    #[test]
    fn a_late_trying_tells_its_delay() {
        let late = Response {
            delay: Duration::from_millis(3_507),
            ..Response::new(100)
        };
        for said in ["Timestamp: 54", "Timestamp: 54 0.2", "Timestamp:  54\r\n 0.2"] {
            let text = respond(&REQUEST.replace("Timestamp: 54", said), &late);
            assert!(text.contains("\r\nTimestamp: 54 3.507\r\n"), "{text}");
        }
        let text = respond(&REQUEST.replace("Timestamp: 54\r\n", ""), &late);
        assert!(!text.contains("Timestamp"), "{text}");
    }

    #[test]
    fn a_tag_already_there_stays_alone() {
        let response = Response {
            to_tag: Some(b"t1"),
            ..Response::new(404)
        };
        let text = respond(&REQUEST.replace("biloxi.com> ", "biloxi.com>;tag=own"), &response);
        assert!(text.contains(";tag=own\r\n") && !text.contains("t1"), "{text}");
    }

    /// §18.2.1, RFC 3581 §4
    #[test]
    fn what_a_source_needs_in_its_via() {
        let stamp =
            |via: &str, source: &str| ViaStamp::of(&Via::parse(via.as_bytes()).unwrap(), source.parse().unwrap());
        let ip = |text: &str| Some(text.parse().unwrap());
        assert!(stamp("SIP/2.0/UDP 192.0.2.1:5060", "192.0.2.1:9").is_empty());
        assert_eq!(
            stamp("SIP/2.0/UDP 192.0.2.2", "192.0.2.1:9"),
            ViaStamp {
                received: ip("192.0.2.1"),
                rport: None,
                ..ViaStamp::default()
            }
        );
        assert_eq!(
            stamp("SIP/2.0/UDP example.com", "[2001:db8::1]:9"),
            ViaStamp {
                received: ip("2001:db8::1"),
                rport: None,
                ..ViaStamp::default()
            }
        );
        assert_eq!(
            stamp("SIP/2.0/UDP 192.0.2.1;rport", "192.0.2.1:9"),
            ViaStamp {
                received: ip("192.0.2.1"),
                rport: Some(9),
                ..ViaStamp::default()
            }
        );
        assert_eq!(
            stamp("SIP/2.0/UDP 192.0.2.1;received=192.0.2.7", "192.0.2.1:9"),
            ViaStamp {
                received: ip("192.0.2.1"),
                rport: None,
                ..ViaStamp::default()
            }
        );
        assert!(stamp("SIP/2.0/UDP 192.0.2.1", "[::ffff:192.0.2.1]:9").is_empty());
    }

    #[test]
    fn values_the_sender_wrote_are_replaced() {
        let request = REQUEST.replace(";rport;", ";received=203.0.113.9 ; rport = 1;");
        let mut index = Index::default();
        let message = parse(request.as_bytes(), &mut index, &Limits::default()).unwrap();
        let via = message.top_via().unwrap();
        let mut patch = Patch::new(message.bytes());
        ViaStamp::of(&via, "192.0.2.1:4711".parse().unwrap()).patch(&via, &mut patch);
        let mut out = Vec::new();
        patch.write(&mut out);
        let expected = request.replace(";received=203.0.113.9 ; rport = 1;", ";received=192.0.2.1 ;rport=4711;");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

//! rsip.

use crate::{Case, View};
use rsip::headers::{ToTypedHeader, UntypedHeader};
use rsip::message::{HasHeaders, HeadersExt};
use rsip::{Header, Request, SipMessage};

pub struct Rsip;

fn request(bytes: &[u8]) -> Request {
    match SipMessage::try_from(bytes).unwrap() {
        SipMessage::Request(request) => request,
        SipMessage::Response(_) => unreachable!("the INVITE is a request"),
    }
}

impl Case for Rsip {
    const NAME: &'static str = "rsip";

    fn tokenise(&mut self, bytes: &[u8]) -> usize {
        request(bytes).headers.iter().count()
    }

    fn view(&mut self, bytes: &[u8]) -> View {
        let request = request(bytes);
        let via = request.via_header().unwrap().typed().unwrap();
        let contact = request.contact_header().unwrap().typed().unwrap();
        let length = request.headers().iter().find_map(|header| match header {
            Header::ContentLength(length) => Some(length.length().unwrap()),
            _ => None,
        });
        View {
            branch_len: via.branch().map_or(0, |branch| branch.value().len()),
            asks_rport: via
                .params
                .iter()
                .any(|param| matches!(param, rsip::Param::Other(name, None) if name.value() == "rport")),
            from_tag_len: request
                .from_header()
                .unwrap()
                .typed()
                .unwrap()
                .tag()
                .map_or(0, |tag| tag.value().len()),
            has_to_tag: request.to_header().unwrap().typed().unwrap().tag().is_some(),
            call_id_len: request.call_id_header().unwrap().value().len(),
            cseq: request.cseq_header().unwrap().typed().unwrap().seq,
            max_forwards: request.max_forwards_header().unwrap().num().unwrap(),
            contact_port: contact.uri.host_with_port.port.map(|port| *port.value()),
            has_route: request
                .route_header()
                .is_some_and(|route| !route.typed().unwrap().uris().is_empty()),
            has_record_route: request
                .record_route_header()
                .is_some_and(|route| !route.typed().unwrap().uris().is_empty()),
            content_length: length.unwrap() as usize,
            uri_port: request.uri.host_with_port.port.map(|port| *port.value()),
        }
    }
}

//! rsipstack.

use crate::{Case, View};
use rsipstack::sip::headers::untyped::ToTypedHeader;
use rsipstack::sip::message::{HasHeaders, HeadersExt};
use rsipstack::sip::uri::Param;
use rsipstack::sip::{Header, Request, SipMessage};

pub struct Rsipstack;

fn request(bytes: &[u8]) -> Request {
    match SipMessage::try_from(bytes).unwrap() {
        SipMessage::Request(request) => request,
        SipMessage::Response(_) => unreachable!("the INVITE is a request"),
    }
}

impl Case for Rsipstack {
    const NAME: &'static str = "rsipstack";

    fn tokenise(&mut self, bytes: &[u8]) -> usize {
        request(bytes).headers.iter().count()
    }

    fn view(&mut self, bytes: &[u8]) -> View {
        let request = request(bytes);
        let via = request.top_via_header().unwrap().typed().unwrap();
        let contact = request.contact_header().unwrap().typed().unwrap();
        let length = request.headers().iter().find_map(|header| match header {
            Header::ContentLength(length) => Some(length.value().parse().unwrap()),
            _ => None,
        });
        View {
            branch_len: via.branch().map_or(0, |branch| branch.value().len()),
            asks_rport: via.params.iter().any(|param| matches!(param, Param::Rport(_))),
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
            max_forwards: request.max_forwards_header().unwrap().value().parse().unwrap(),
            contact_port: contact.uri.host_with_port.port.map(|port| port.value()),
            has_route: !request.typed_route_headers().unwrap().is_empty(),
            has_record_route: !request.typed_record_route_headers().unwrap().is_empty(),
            content_length: length.unwrap(),
            uri_port: request.uri.host_with_port.port.map(|port| port.value()),
        }
    }
}

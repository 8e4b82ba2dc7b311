//! sps-wire.

use crate::{Case, View};
use sps_wire::{Index, Limits, Name, Uri, parse};

#[derive(Default)]
pub struct Sps {
    index: Index,
    limits: Limits,
}

impl Case for Sps {
    const NAME: &'static str = "sps-wire";

    fn tokenise(&mut self, bytes: &[u8]) -> usize {
        parse(bytes, &mut self.index, &self.limits).unwrap().headers().count()
    }

    fn view(&mut self, bytes: &[u8]) -> View {
        let message = parse(bytes, &mut self.index, &self.limits).unwrap();
        let via = message.top_via().unwrap();
        let contact = message.addresses(Name::Contact).next().unwrap().unwrap();
        View {
            branch_len: via.branch().map_or(0, <[u8]>::len),
            asks_rport: via.rport().is_some(),
            from_tag_len: message.from().unwrap().tag().map_or(0, <[u8]>::len),
            has_to_tag: message.to().unwrap().tag().is_some(),
            call_id_len: message.call_id().len(),
            cseq: message.cseq().unwrap().number,
            max_forwards: message.max_forwards().unwrap().unwrap().into(),
            contact_port: contact.parse_uri().unwrap().port,
            has_route: message
                .routes()
                .next()
                .is_some_and(|route| !route.unwrap().uri.is_empty()),
            has_record_route: message
                .record_routes()
                .next()
                .is_some_and(|route| !route.unwrap().uri.is_empty()),
            content_length: message.content_length().unwrap().unwrap(),
            uri_port: Uri::parse(message.request_uri().unwrap()).unwrap().port,
        }
    }
}

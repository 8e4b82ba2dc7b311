//! A dialog as one of its ends knows it (RFC 3261 §12): enough to send requests inside it and to see that they travel
//! the right way.

use crate::agent::Agent;
use crate::message::{Message, addr_uri};

/// One end's view of a dialog.
#[derive(Debug, Clone)]
pub struct Dialog {
    /// Call-ID.
    pub call_id: String,
    /// Own address with tag: From of what is sent.
    pub local: String,
    /// The other's address with tag: To of what is sent.
    pub remote: String,
    /// The other's Contact: Request-URI of what is sent.
    pub target: String,
    /// Route header values, nearest first.
    pub routes: Vec<String>,
    /// CSeq number of the last request sent.
    pub cseq: u32,
}

impl Dialog {
    /// The caller's view, from the request it sent and the response that made the dialog (§12.1.2).
    pub fn of_caller(request: &Message, response: &Message) -> Dialog {
        Dialog {
            call_id: request.must("Call-ID").to_owned(),
            local: request.must("From").to_owned(),
            remote: response.must("To").to_owned(),
            target: response.contact(),
            routes: response.values("Record-Route").into_iter().rev().collect(),
            cseq: request.cseq().0,
        }
    }

    /// The callee's view, from the request it got and the response it gave (§12.1.1).
    pub fn of_callee(request: &Message, response: &Message) -> Dialog {
        Dialog {
            call_id: request.must("Call-ID").to_owned(),
            local: response.must("To").to_owned(),
            remote: request.must("From").to_owned(),
            target: request.contact(),
            routes: request.values("Record-Route"),
            cseq: 100,
        }
    }

    /// The next request of this end (§12.2.1.1).
    pub fn request(&mut self, agent: &mut Agent, method: &str) -> Message {
        if method != "ACK" {
            self.cseq += 1;
        }
        let mut request = Message::request(method, &self.target)
            .with("Via", agent.via())
            .with("Max-Forwards", "70");
        for route in &self.routes {
            request = request.with("Route", route.clone());
        }
        let contact = format!("<{}>", agent.uri("tester"));
        request
            .with("From", self.local.clone())
            .with("To", self.remote.clone())
            .with("Call-ID", self.call_id.clone())
            .with("CSeq", format!("{} {method}", self.cseq))
            .with("Contact", contact)
    }

    /// The ACK for the INVITE that was sent with CSeq number `cseq`.
    pub fn ack(&mut self, agent: &mut Agent, cseq: u32) -> Message {
        self.request(agent, "ACK").set("CSeq", format!("{cseq} ACK"))
    }

    /// Where the next request goes: the first Route, else the target. Only addresses, no names.
    pub fn next_hop(&self) -> std::net::SocketAddr {
        let uri = self
            .routes
            .first()
            .map_or_else(|| self.target.clone(), |route| addr_uri(route));
        host_port(&uri)
    }
}

/// The socket address in a URI that has a literal one; port 5060 when it names none.
#[track_caller]
pub fn host_port(uri: &str) -> std::net::SocketAddr {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let rest = rest.split(['?', ';']).next().unwrap_or(rest);
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    host.parse()
        .or_else(|_| format!("{host}:5060").parse())
        .unwrap_or_else(|_| panic!("no address in {uri}"))
}

/// A session description as a phone offers it; with odd spacing and order that must arrive as they left.
pub const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns= \r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=x-odd:\t<>&\"\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::V4;

    #[test]
    fn both_ends_see_the_route_set_in_their_own_order() {
        let mut agent = Agent::udp(V4);
        let invite = agent
            .request("INVITE", "sip:b@h")
            .with("Record-Route", "<sip:127.0.0.1:2;lr>")
            .with("Record-Route", "<sip:127.0.0.1:1;lr>");
        let answer = invite
            .response(200, "OK")
            .to_tag("b")
            .with("Contact", "<sip:b@127.0.0.1:3>");
        let mut caller = Dialog::of_caller(&invite, &answer);
        assert_eq!(caller.next_hop(), "127.0.0.1:1".parse().unwrap());
        let bye = caller.request(&mut agent, "BYE");
        assert_eq!((bye.uri(), bye.cseq()), (Some("sip:b@127.0.0.1:3"), (2, "BYE")));
        assert_eq!(caller.ack(&mut agent, 1).cseq(), (1, "ACK"));
        let callee = Dialog::of_callee(&invite, &answer);
        assert_eq!(callee.next_hop(), "127.0.0.1:2".parse().unwrap());
        assert_eq!(host_port("sip:a@[::1]:70;lr"), "[::1]:70".parse().unwrap());
    }
}

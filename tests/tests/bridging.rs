//! Whole calls between every pair of transports and address families: INVITE, re-INVITE from both ends, BYE from either (RR-05,
//! NET-04, NET-09; RFC 5658 §3: a Record-Route for each side).

use std::net::{IpAddr, SocketAddr};

use sps_tests::net::{V4, V6, free_addr};
use sps_tests::tls::{Authority, TlsEnd, Wanted};
use sps_tests::{Agent, Dialog, Instance, Options, bounded};

/// A way to talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    transport: &'static str,
    ip: IpAddr,
}

struct House {
    sps: Instance,
    tls: [SocketAddr; 2],
    end: TlsEnd,
    _folder: tempfile::TempDir,
}

impl House {
    fn start() -> House {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let authority = Authority::new();
        let everywhere = Wanted::new().dns("sps.test").ip(V4).ip(V6);
        let own = authority.issue(&everywhere);
        let (certificate, key) = own.write(folder.path(), "own");
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, authority.pem()).expect("a file can be written");
        let tls = [free_addr(V4), free_addr(V6)];
        let mut sections = String::new();
        for addr in tls {
            sections.push_str(&format!(
                "[[listen]]\ntransport = \"tls\"\naddress = \"{}\"\nport = {}\n",
                addr.ip(),
                addr.port()
            ));
        }
        sections.push_str(&format!(
            "[tls]\nca = \"{}\"\n[[tls.certificate]]\ncertificate = \"{}\"\nkey = \"{}\"\n",
            ca.display(),
            certificate.display(),
            key.display()
        ));
        let options = Options::new().listen("udp", V6).listen("tcp", V6).section(&sections);
        House {
            sps: Instance::start(options),
            tls,
            end: TlsEnd::new(&authority, "sps.test", &own, false),
            _folder: folder,
        }
    }

    fn agent(&self, kind: Kind) -> Agent {
        match kind.transport {
            "udp" => Agent::udp(kind.ip),
            "tcp" => Agent::tcp(kind.ip),
            _ => Agent::tls(kind.ip, self.end.clone()),
        }
    }

    /// Our address for that way.
    fn door(&self, kind: Kind) -> SocketAddr {
        match kind.transport {
            "tls" => self.tls[usize::from(kind.ip == V6)],
            _ => SocketAddr::new(kind.ip, self.sps.addr().port()),
        }
    }
}

/// One call; the caller's or the callee's BYE ends it.
fn call(house: &House, from: Kind, to: Kind, user: &str, caller_ends: bool) {
    let (mut caller, mut callee) = (house.agent(from), house.agent(to));
    house.sps.register(user, &callee.uri("callee"), "1.0");
    let invite = caller
        .request("INVITE", &house.sps.uri(user))
        .with_body("application/sdp", sps_tests::call::SDP);
    caller.send(house.door(from), &invite);
    let got = callee.expect_request("INVITE");
    let via = got.message.must("Via").to_owned();
    assert!(
        via.starts_with(&format!("SIP/2.0/{} ", to.transport.to_uppercase())),
        "{via}"
    );
    let contact = format!("<{}>", callee.uri("callee"));
    let answer = got
        .message
        .response(200, "OK")
        .to_tag("callee")
        .with("Contact", contact.clone());
    let routes = got.message.values("Record-Route").len();
    assert_eq!(routes, if from == to { 1 } else { 2 }, "{}", got.message);
    callee.reply(&got, &answer);
    let ok = caller.final_response();
    assert_eq!(ok.status(), Some(200), "{ok}");
    let mut ours = Dialog::of_caller(&invite, &ok);
    let mut theirs = Dialog::of_callee(&got.message, &answer);
    // Each end finds the one of our addresses that it can reach.
    assert_eq!((ours.next_hop(), theirs.next_hop()), (house.door(from), house.door(to)));
    let (to_us, to_them) = (ours.next_hop(), theirs.next_hop());
    let ack = ours.ack(&mut caller, 1);
    caller.send(to_us, &ack);
    callee.expect_request("ACK");
    {
        let within = |who: &mut Agent, dialog: &mut Dialog, by: SocketAddr, other: &mut Agent, method: &str| {
            let request = dialog.request(who, method);
            who.send(by, &request);
            let got = other.expect_request(method);
            let contact = format!("<{}>", other.uri("other"));
            other.reply(&got, &got.message.response(200, "OK").with("Contact", contact));
            let ok = who.final_response();
            assert_eq!(ok.status(), Some(200), "{ok}");
            if method == "INVITE" {
                let ack = dialog.ack(who, dialog.cseq);
                who.send(by, &ack);
                other.expect_request("ACK");
            }
        };
        within(&mut caller, &mut ours, to_us, &mut callee, "INVITE");
        within(&mut callee, &mut theirs, to_them, &mut caller, "INVITE");
        if caller_ends {
            within(&mut caller, &mut ours, to_us, &mut callee, "BYE");
        } else {
            within(&mut callee, &mut theirs, to_them, &mut caller, "BYE");
        }
    }
}

#[test]
fn every_way_calls_every_other() {
    if !sps_tests::net::has_v6() {
        sps_tests::skip!("ipv6: no IPv6 on the loopback");
    }
    bounded(|| {
        let house = House::start();
        let kinds: Vec<Kind> = ["udp", "tcp", "tls"]
            .into_iter()
            .flat_map(|transport| [V4, V6].map(|ip| Kind { transport, ip }))
            .collect();
        for (i, from) in kinds.iter().enumerate() {
            for (j, to) in kinds.iter().enumerate() {
                for caller_ends in [true, false] {
                    eprintln!("{from:?} calls {to:?}, caller ends: {caller_ends}");
                    call(&house, *from, *to, &format!("u{i}x{j}{caller_ends}"), caller_ends);
                }
            }
        }
    });
}

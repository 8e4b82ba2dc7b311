//! TLS as peers meet it: calls inwards and outwards, whose certificates are believed, what is refused, and that nothing else
//! suffers from it.

use std::net::SocketAddr;
use std::path::Path;

use sps_tests::net::{V4, free_addr};
use sps_tests::tls::{Authority, Issued, TlsEnd};
use sps_tests::{Agent, Dialog, Instance, Message, Options, Uas, bounded};

/// An SPS with a TLS listener, whose certificates one CA signs.
struct Secure {
    sps: Instance,
    tls: SocketAddr,
    authority: Authority,
    /// Certificates and keys.
    _folder: tempfile::TempDir,
}

impl Secure {
    #[track_caller]
    fn start(keys: &str) -> Secure {
        Secure::start_with(Options::new(), keys)
    }

    /// `keys` go to `[tls]`.
    #[track_caller]
    fn start_with(options: Options, keys: &str) -> Secure {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let authority = Authority::new();
        authority.issue_for("sps.test").write(folder.path(), "own");
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).expect("a file can be written");
        let tls = free_addr(V4);
        let options = options.section(&sections(folder.path(), tls, keys));
        let sps = Instance::start(options);
        Secure {
            sps,
            tls,
            authority,
            _folder: folder,
        }
    }

    /// An end with a certificate for `name`, which expects us to be sps.test.
    fn agent(&self, name: &str) -> Agent {
        Agent::tls(V4, self.end(&self.authority.issue_for(name), false))
    }

    fn end(&self, own: &Issued, as_client: bool) -> TlsEnd {
        TlsEnd::new(&self.authority, "sps.test", own, as_client)
    }
}

/// A listener for TLS and what it needs.
fn sections(folder: &Path, tls: SocketAddr, keys: &str) -> String {
    let folder = folder.display();
    format!(
        "[[listen]]\ntransport = \"tls\"\naddress = \"{}\"\nport = {}\n[tls]\nca = \"{folder}/ca.pem\"\n{keys}\n\
         [[tls.certificate]]\ncertificate = \"{folder}/own.pem\"\nkey = \"{folder}/own.key\"\n",
        tls.ip(),
        tls.port(),
    )
}

/// A whole call from `caller` through `through` to a user who answers: INVITE, 200, ACK, BYE.
#[track_caller]
fn call(caller: &mut Agent, through: SocketAddr, uri: &str) -> (Message, Message) {
    let invite = caller
        .request("INVITE", uri)
        .with_body("application/sdp", sps_tests::call::SDP);
    let answer = caller.ask(through, &invite);
    assert_eq!(answer.status(), Some(200), "{answer}");
    let mut dialog = Dialog::of_caller(&invite, &answer);
    let ack = dialog.ack(caller, 1);
    caller.send(through, &ack);
    let bye = dialog.request(caller, "BYE");
    assert_eq!(caller.ask(through, &bye).status(), Some(200));
    (invite, answer)
}

/// RFC 3261 §26.2.1: a phone calls over TLS somebody who has UDP, and the other way round.
#[test]
fn a_call_comes_in_over_tls_and_leaves_over_udp() {
    bounded(|| {
        let secure = Secure::start("");
        let callee = Uas::answering(V4);
        secure.sps.register("bob", callee.uri(), "1.0");
        let mut caller = secure.agent("phone.test");
        let (_, answer) = call(&mut caller, secure.tls, &secure.sps.uri("bob"));
        let invite = callee.wait_for("INVITE", 1);
        callee.wait_for("ACK", 1);
        assert!(invite.must("Via").starts_with("SIP/2.0/UDP "), "{invite}");
        let routes = answer.values("Record-Route");
        assert_eq!(routes.len(), 2, "one for each side (RFC 5658 §3): {answer}");
        assert!(routes.iter().any(|route| route.contains("transport=tls")), "{answer}");
        secure.sps.wait_access(&["INVITE", "200"]);
        assert_eq!(secure.sps.daemon("sps-tls")["state"], "up");
    });
}

/// RFC 3261 §26.2.1, RFC 5922 §7.3
#[test]
fn a_call_leaves_over_tls() {
    bounded(|| {
        let secure = Secure::start("");
        let own = secure.authority.issue(&sps_tests::tls::Wanted::new().ip(V4));
        let callee = Uas::answering_as(Agent::tls(V4, secure.end(&own, false)), "callee");
        secure.sps.register("bob", callee.uri(), "1.0");
        let mut caller = Agent::udp(V4);
        call(&mut caller, secure.sps.addr(), &secure.sps.uri("bob"));
        let invite = callee.wait_for("INVITE", 1);
        callee.wait_for("ACK", 1);
        callee.wait_for("BYE", 1);
        assert!(invite.values("Via")[0].starts_with("SIP/2.0/TLS "), "{invite}");
    });
}

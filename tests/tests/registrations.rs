//! REGISTER from end to end (RFC 3261 §10.3, RFC 3327, RFC 3581) and the operator's view of registrations.

use serde_json::Value;
use sps_tests::instance::DOMAIN;
use sps_tests::net::V4;
use sps_tests::{Agent, Instance, Message, Options, Uas, bounded, wait_until};

/// A phone with the Call-ID and CSeq it registers with.
struct Phone {
    agent: Agent,
    call_id: String,
    cseq: u32,
}

impl Phone {
    fn udp() -> Phone {
        Phone::of(Agent::udp(V4))
    }

    fn of(mut agent: Agent) -> Phone {
        let call_id = agent.token();
        Phone {
            agent,
            call_id,
            cseq: 0,
        }
    }

    /// A REGISTER of `user` with this Contact header, if any.
    fn register(&mut self, user: &str, contact: Option<&str>) -> Message {
        self.cseq += 1;
        let aor = format!("<sip:{user}@{DOMAIN}>");
        let request = self
            .agent
            .request("REGISTER", &format!("sip:{DOMAIN}"))
            .without("Contact");
        let from = format!("{aor};tag={}", self.call_id);
        let request = request
            .set("From", from)
            .set("To", aor)
            .set("Call-ID", self.call_id.clone())
            .set("CSeq", format!("{} REGISTER", self.cseq));
        match contact {
            Some(contact) => request.with("Contact", contact),
            None => request,
        }
    }

    fn ask(&mut self, sps: &Instance, request: &Message) -> Message {
        self.agent.ask(sps.addr(), request)
    }

    fn contact(&self, user: &str) -> String {
        format!("<{}>", self.agent.uri(user))
    }
}

#[test]
fn a_phone_binds_refreshes_queries_and_leaves() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let mut phone = Phone::udp();
        let (contact, second) = (phone.contact("alice"), "<sip:alice@192.0.2.7:5070>;q=0.3");

        let request = phone.register("alice", Some(&contact)).with("Expires", "600");
        let answer = phone.ask(&sps, &request);
        assert_eq!(answer.status(), Some(200), "{answer}");
        assert!(answer.to_tag_value().is_some(), "§8.2.6.2: {answer}");
        let listed = answer.values("Contact");
        assert!(listed.len() == 1 && listed[0].starts_with(&contact), "{answer}");
        assert_expires(&listed[0], 590..=600);

        // A second contact with its own expiry beside the first.
        let request = phone.register("alice", Some(&format!("{second};expires=120")));
        let listed = phone.ask(&sps, &request).values("Contact");
        assert_eq!(listed.len(), 2, "{listed:?}");
        let other = listed
            .iter()
            .find(|value| value.contains("192.0.2.7"))
            .expect("the second contact is listed");
        assert_expires(other, 110..=120);
        assert!(other.contains("q=0.3"), "{other}");

        // Without Contact nothing changes (§10.2.3).
        let query = phone.register("alice", None);
        assert_eq!(phone.ask(&sps, &query).values("Contact").len(), 2);

        // Expiry 0 takes one away, * all (§10.2.2).
        let request = phone.register("alice", Some(&format!("{contact};expires=0")));
        let listed = phone.ask(&sps, &request).values("Contact");
        assert!(listed.len() == 1 && listed[0].contains("192.0.2.7"), "{listed:?}");
        let request = phone.register("alice", Some("*")).with("Expires", "0");
        let answer = phone.ask(&sps, &request);
        assert_eq!((answer.status(), answer.values("Contact").len()), (Some(200), 0));
        let query = phone.register("alice", None);
        assert_eq!(phone.ask(&sps, &query).values("Contact").len(), 0);
    });
}

#[track_caller]
fn assert_expires(contact: &str, range: std::ops::RangeInclusive<u32>) {
    let text = sps_tests::message::parameter(contact, "expires");
    let expires: u32 = text
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("no expires in {contact}"));
    assert!(range.contains(&expires), "{contact}");
}

#[test]
fn expiries_are_bounded_and_defaulted() {
    bounded(|| {
        let section = "[registrar]\nmin_expires_s = 100\nmax_expires_s = 1000\ndefault_expires_s = 500";
        let sps = Instance::start(Options::new().section(section));
        let mut phone = Phone::udp();
        let contact = phone.contact("alice");
        let request = phone.register("alice", Some(&contact));
        assert_expires(&phone.ask(&sps, &request).values("Contact")[0], 490..=500);
        let request = phone.register("alice", Some(&contact)).with("Expires", "9999999");
        assert_expires(&phone.ask(&sps, &request).values("Contact")[0], 990..=1000);
        // §10.3 step 7 and §21.4.17.
        let request = phone.register("alice", Some(&contact)).with("Expires", "99");
        let answer = phone.ask(&sps, &request);
        assert_eq!((answer.status(), answer.must("Min-Expires")), (Some(423), "100"));
        let query = phone.register("alice", None);
        assert_expires(&phone.ask(&sps, &query).values("Contact")[0], 900..=1000);
    });
}

/// §10.3 steps 6 and 7: what is older than what is there changes nothing; the very same again is a retransmission.
#[test]
fn an_older_cseq_of_the_same_call_id_changes_nothing() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let mut phone = Phone::udp();
        let contact = phone.contact("alice");
        phone.cseq = 10;
        let newer = phone.register("alice", Some(&contact)).with("Expires", "600");
        assert_eq!(phone.ask(&sps, &newer).status(), Some(200));
        phone.cseq = 8;
        let older = phone.register("alice", Some(&format!("{contact};expires=0")));
        let answer = phone.ask(&sps, &older);
        assert!(answer.status().is_some_and(|status| status >= 400), "{answer}");
        // A new transaction with the same Call-ID and CSeq and the same outcome.
        phone.cseq = 10;
        let again = phone.register("alice", Some(&contact)).with("Expires", "600");
        assert_eq!(phone.ask(&sps, &again).status(), Some(200));
        let query = phone.register("alice", None);
        assert_eq!(phone.ask(&sps, &query).values("Contact").len(), 1);
        // Another Call-ID is another life of the phone: its numbers begin anew (step 7).
        let mut reborn = Phone::of(phone.agent);
        let request = reborn.register("alice", Some(&contact)).with("Expires", "300");
        assert_expires(&reborn.ask(&sps, &request).values("Contact")[0], 290..=300);
    });
}

#[test]
fn wrong_registrations_are_refused() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let mut phone = Phone::udp();
        let contact = phone.contact("alice");
        // §10.3 step 2: an extension we do not know.
        let request = phone.register("alice", Some(&contact)).with("Require", "teleport");
        let answer = phone.ask(&sps, &request);
        assert_eq!((answer.status(), answer.must("Unsupported")), (Some(420), "teleport"));
        // Step 6: * with anything but Expires 0.
        let request = phone.register("alice", Some("*")).with("Expires", "60");
        assert_eq!(phone.ask(&sps, &request).status(), Some(400));
        let request = phone
            .register("alice", Some("*"))
            .with("Contact", contact.clone())
            .with("Expires", "0");
        assert_eq!(phone.ask(&sps, &request).status(), Some(400));
        // Step 5: not an address of ours.
        let request = phone
            .register("alice", Some(&contact))
            .set("To", "<sip:alice@elsewhere.example>");
        let status = phone.ask(&sps, &request).status();
        assert!(matches!(status, Some(403 | 404)), "{status:?}");
        let query = phone.register("alice", None);
        assert_eq!(
            phone.ask(&sps, &query).values("Contact").len(),
            0,
            "nothing of it stuck"
        );
    });
}

/// The AOR that is registered and the one that is called need not be spelled alike (§10.3 step 5, §19.1.4).
#[test]
fn one_address_has_many_spellings() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let callee = Uas::answering(V4);
        let mut phone = Phone::udp();
        let request = phone
            .register("al%69ce", Some(&format!("<{}>", callee.uri())))
            .set("To", "\"A\" <sip:al%69ce@SPS.Test:5060;x=y>");
        let answer = phone.ask(&sps, &request);
        // With an explicit port it may be another address; without one it must be the same.
        if answer.status() != Some(200) {
            assert!(matches!(answer.status(), Some(400 | 403 | 404)), "{answer}");
        }
        let request = phone
            .register("al%69ce", Some(&format!("<{}>", callee.uri())))
            .set("To", "\"A\" <sip:al%69ce@SPS.Test;x=y>");
        assert_eq!(phone.ask(&sps, &request).status(), Some(200));
        for uri in [
            "sip:alice@sps.test",
            "sip:%61lice@sps.TEST;transport=udp",
            "sip:alice@sps.test;lr?Subject=x",
        ] {
            let request = phone.agent.request("MESSAGE", uri);
            let answer = phone.agent.ask(sps.addr(), &request);
            assert_eq!(answer.status(), Some(200), "{uri}: {answer}");
        }
        let request = phone.agent.request("MESSAGE", "sip:Alice@sps.test");
        assert!(
            matches!(phone.agent.ask(sps.addr(), &request).status(), Some(404 | 480)),
            "the user part has its case"
        );
        assert_eq!(callee.requests("MESSAGE")[0].uri(), Some(callee.uri()));
    });
}

/// RFC 3581: a phone behind a translator gives a Contact that leads nowhere; calls go back the way its REGISTER came.
#[test]
fn a_phone_is_called_by_the_flow_it_registered_over() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        for agent in [Agent::udp(V4), Agent::tcp(V4)] {
            let mut phone = Phone::of(agent);
            let transport = phone.agent.transport();
            let user = format!("nat-{transport}");
            let contact = format!("<sip:{user}@192.0.2.99:6060;transport={transport}>");
            let request = phone.register(&user, Some(&contact));
            let via = format!(
                "SIP/2.0/{transport} 192.0.2.99:6060;rport;branch=z9hG4bK{}",
                phone.call_id
            );
            let request = request.set("Via", via);
            let answer = phone.ask(&sps, &request);
            assert_eq!(answer.status(), Some(200), "{answer}");
            assert!(answer.values("Via")[0].contains("received=127.0.0.1"), "{answer}");

            let mut caller = Agent::udp(V4);
            let message = caller.request("MESSAGE", &sps.uri(&user));
            caller.send(sps.addr(), &message);
            let got = phone.agent.expect_request("MESSAGE");
            assert_eq!(
                got.message.uri(),
                Some(&contact[1..contact.len() - 1]),
                "the Request-URI is the Contact"
            );
            phone.agent.reply(&got, &got.message.response(200, "OK").to_tag("p"));
            assert_eq!(caller.final_response().status(), Some(200));
        }
    });
}

/// RFC 3327: the Path of a REGISTER comes back in its answer and as Route in what is sent to the contact.
#[test]
fn a_path_is_kept_and_used() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let (edge, mut caller) = (Uas::answering(V4), Agent::udp(V4));
        let mut phone = Phone::udp();
        let path = format!("<sip:{};lr>", edge.addr());
        let request = phone
            .register("alice", Some("<sip:alice@192.0.2.50>"))
            .with("Supported", "path")
            .with("Path", path.clone())
            .with("Path", "<sip:192.0.2.51;lr>");
        let answer = phone.ask(&sps, &request);
        assert_eq!(
            answer.values("Path"),
            [path.clone(), "<sip:192.0.2.51;lr>".into()],
            "{answer}"
        );
        let message = caller.request("MESSAGE", &sps.uri("alice"));
        assert_eq!(caller.ask(sps.addr(), &message).status(), Some(200));
        let got = edge.wait_for("MESSAGE", 1);
        assert_eq!(got.values("Route"), [path, "<sip:192.0.2.51;lr>".into()], "{got}");
        assert_eq!(got.uri(), Some("sip:alice@192.0.2.50"));
    });
}

/// What the operator sees, adds and removes; a contact is static or dynamic, never both.
#[test]
fn the_operator_lists_adds_and_removes() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let mut phone = Phone::udp();
        let contact = phone.contact("alice");
        let request = phone.register("alice", Some(&contact));
        assert_eq!(phone.ask(&sps, &request).status(), Some(200));

        let dynamic = contact.trim_matches(['<', '>']);
        let refused = sps.spsctl(&["registration", "add", &sps.uri("alice"), dynamic, "--permanent"]);
        assert_ne!(refused.code, 0, "{refused:?}");
        assert!(!refused.stderr.trim().is_empty(), "the reason is told");

        let fixed = "sip:alice@192.0.2.30:5070";
        sps.register("alice", fixed, "0.5");
        let request = phone.register("alice", Some(&format!("<{fixed}>")));
        let answer = phone.ask(&sps, &request);
        assert!(
            answer.status().is_some_and(|status| status >= 400),
            "static stays static: {answer}"
        );

        let shown = json(&sps, &["--json", "registration", "show", &sps.uri("alice")]);
        let text = shown.to_string();
        assert!(text.contains(dynamic) && text.contains(fixed), "{text}");
        let listed = json(&sps, &["--json", "registration", "list"]);
        let rows = listed
            .as_array()
            .or_else(|| listed["registrations"].as_array())
            .expect("a list gives an array")
            .len();
        assert!(rows >= 1, "{listed}");

        sps.spsctl(&["registration", "remove", &sps.uri("alice"), fixed]).ok();
        let text = json(&sps, &["--json", "registration", "show", &sps.uri("alice")]).to_string();
        assert!(text.contains(dynamic) && !text.contains(fixed), "{text}");
        sps.spsctl(&["registration", "remove", &sps.uri("alice")]).ok();
        let gone = sps.spsctl(&["registration", "show", &sps.uri("alice")]);
        assert_ne!(gone.code, 0, "{gone:?}");
    });
}

#[track_caller]
fn json(sps: &Instance, arguments: &[&str]) -> Value {
    let said = sps.spsctl(arguments).ok();
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error} in {}", said.stdout))
}

/// Bindings, dynamic ones and permanent ones, are there again after a stop and a start.
#[test]
fn registrations_survive_a_restart() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let (callee, fixed) = (Uas::answering(V4), Uas::answering(V4));
        let mut phone = Phone::udp();
        let request = phone.register("alice", Some(&format!("<{}>", callee.uri())));
        assert_eq!(phone.ask(&sps, &request).status(), Some(200));
        sps.register("door", fixed.uri(), "1.0");
        sps.stop();
        sps.spsctl(&["start"]).ok();
        for (user, uas) in [("alice", &callee), ("door", &fixed)] {
            let request = phone.agent.request("MESSAGE", &sps.uri(user));
            assert_eq!(phone.agent.ask(sps.addr(), &request).status(), Some(200), "{user}");
            assert_eq!(uas.requests("MESSAGE").len(), 1);
        }
    });
}

/// A binding is gone when its time is over, without anybody asking.
#[test]
fn a_binding_expires() {
    bounded(|| {
        let sps = Instance::start(Options::new().section("[registrar]\nmin_expires_s = 1"));
        let callee = Uas::answering(V4);
        let mut phone = Phone::udp();
        let request = phone.register("alice", Some(&format!("<{}>;expires=1", callee.uri())));
        assert_eq!(phone.ask(&sps, &request).status(), Some(200));
        wait_until("alice has no registration any more", || {
            sps.spsctl(&["registration", "show", &sps.uri("alice")]).code != 0
        });
        let request = phone.agent.request("MESSAGE", &sps.uri("alice"));
        assert!(matches!(
            phone.agent.ask(sps.addr(), &request).status(),
            Some(404 | 480)
        ));
        assert!(callee.seen().is_empty());
    });
}

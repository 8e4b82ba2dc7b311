//! RFC 7339 on both sides: what we tell who sends to us, what we do when told.

use super::*;
use crate::overload::{INTERVAL, Standing};

fn with_feedback() -> House {
    let mut conf = conf();
    conf.overload.feedback = true;
    conf.overload.trusts = Trusts(Arc::new(|_| true));
    house_with(conf)
}

fn asking(branch: &str) -> String {
    request("INVITE", "sip:bob@example.com", branch, "")
        .replace("5060;branch", "5060;oc;oc-algo=\"A,loss\";branch")
        .replace("call-1", &format!("call-{branch}"))
}

/// The parameters of the top Via that have to do with overload.
fn oc(sent: &Sent) -> Vec<String> {
    let params = sent.header("Via")[0].split(';').skip(1);
    params
        .filter(|param| param.starts_with("oc"))
        .map(str::to_owned)
        .collect()
}

fn value(sent: &Sent, name: &str) -> Option<String> {
    let prefix = format!("{name}=");
    oc(sent)
        .iter()
        .find_map(|param| param.strip_prefix(&prefix).map(str::to_owned))
}

impl House {
    /// The shortest wait of an interval was this.
    fn interval(&mut self, wait_ms: u64) {
        (0..10).for_each(|_| self.core.waited(Duration::from_millis(wait_ms)));
        self.clock.now += INTERVAL;
        self.clock.unix_ms += INTERVAL.as_millis() as u64;
        let _ = self.core.watch_load(self.clock);
        self.core.shedding.waited = Duration::ZERO;
    }
}

/// RFC 7339 §5.1, §5.2: who asks learns that we know it, in every response, and who does not ask learns nothing.
#[test]
fn who_asks_is_told_that_nothing_is_to_be_held_back() {
    let mut house = with_feedback();
    house.interval(0);
    let sent = house.feed(CALLER, &asking("a"));
    let trying = only(&sent, "SIP/2.0 100");
    assert_eq!(value(trying, "oc").as_deref(), Some("0"));
    assert_eq!(value(trying, "oc-validity").as_deref(), Some("0"));
    assert_eq!(value(trying, "oc-algo").as_deref(), Some("\"loss\""));
    assert_eq!(value(trying, "oc-seq").as_deref(), Some("1800000000.10000"));
    assert_eq!(oc(trying).len(), 4, "what it asked by is gone");
    let forwarded = only(&sent, "INVITE").clone();
    for status in ["180 Ringing", "200 OK"] {
        let sent = house.feed("10.0.0.2:5060", &answer(&forwarded, status));
        assert_eq!(value(&sent[0], "oc").as_deref(), Some("0"), "{}", sent[0].text);
    }
    let plain = house.feed(
        CALLER,
        &request("INVITE", "sip:bob@example.com", "b", "").replace("call-1", "call-b"),
    );
    assert!(oc(only(&plain, "SIP/2.0 100")).is_empty());
}

/// RFC 7339 §5.6, §4.1: hop by hop. What the previous hop asked is not passed on; we ask ourselves.
#[test]
fn a_request_asks_for_us_and_no_longer_for_who_sent_it() {
    let mut house = with_feedback();
    let sent = house.feed(CALLER, &asking("a"));
    let forwarded = only(&sent, "INVITE");
    let vias = forwarded.header("Via");
    assert!(vias[0].ends_with(";oc;oc-algo=\"loss\""), "{}", vias[0]);
    assert!(
        !vias[0].contains("oc-seq") && !vias[0].contains("oc-validity"),
        "§4.3, §4.4"
    );
    assert_eq!(vias[1], "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKa");
    // §17.1.1.3, §9.1: an ACK and a CANCEL repeat the Via of their INVITE.
    let sent = house.feed("10.0.0.2:5060", &answer(forwarded, "486 Busy Here"));
    assert_eq!(only(&sent, "ACK").header("Via")[0], vias[0]);
}

/// RFC 7339 §5.4: what a server further down says about overload goes no further.
#[test]
fn what_lower_vias_say_is_taken_out() {
    for mut house in [with_feedback(), house()] {
        let sent = house.feed(CALLER, &invite());
        let forwarded = only(&sent, "INVITE").clone();
        let forged = answer(&forwarded, "180 Ringing").replace(
            "10.0.0.1:5060;branch",
            "10.0.0.1:5060;oc=99;oc-algo=\"loss\";oc-validity=60000;oc-seq=9.9;branch",
        );
        let sent = house.feed("10.0.0.2:5060", &forged);
        assert_eq!(sent[0].header("Via"), ["SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKa"]);
    }
}

/// RFC 7339 §5.2, §5.3, §4.4, §5.10.2: under overload the client is told how much; its numbers grow; what it still sends is
/// served, since it holds back by itself.
#[test]
fn under_overload_a_client_that_holds_back_is_told_and_served() {
    let mut house = with_feedback();
    let mut seqs = Vec::new();
    house.interval(40);
    for step in 0..6 {
        house.interval(40 + step * 30);
        let sent = house.feed(CALLER, &asking(&format!("a{step}")));
        let trying = only(&sent, "SIP/2.0 100");
        assert_eq!(value(trying, "oc-validity").as_deref(), Some("1000"));
        let percent: f64 = value(trying, "oc").unwrap().parse().unwrap();
        let asked = house.core.load().asked();
        assert!((percent - 100.0 * asked).abs() <= 1.0, "{percent} {asked}");
        seqs.push(value(trying, "oc-seq").unwrap().parse::<f64>().unwrap());
    }
    assert!(seqs.windows(2).all(|two| two[0] < two[1]), "{seqs:?}");
    assert_eq!(house.core.counters().overload, 0);
    // Who does not ask is refused in his place.
    let refused: usize = (0..40)
        .map(|n| request("INVITE", "sip:bob@example.com", &format!("p{n}"), "").replace("call-1", &format!("p{n}")))
        .map(|text| usize::from(lines(&house.feed_by(Transport::Tcp, CALLER, &text)) == ["SIP/2.0 503 Overload"]))
        .sum();
    assert!(refused > 10, "{refused}");
    // §5.7: the end is told as well.
    for _ in 0..100 {
        house.interval(0);
    }
    let sent = house.feed(CALLER, &asking("z"));
    assert_eq!(value(only(&sent, "SIP/2.0 100"), "oc-validity").as_deref(), Some("0"));
}

/// RFC 7339 §5.3: `oc` is a share of all requests, those of calls under way included.
#[test]
fn what_is_asked_for_is_a_share_of_all_requests() {
    let mut house = with_feedback();
    for step in 0..40 {
        for n in 0..4 {
            let mut bye = asking(&format!("{step}-{n}")).replace("INVITE", "BYE");
            if n > 0 {
                bye = bye.replace("To: <sip:bob@example.com>", "To: <sip:bob@example.com>;tag=x");
            }
            house.feed(CALLER, &bye);
        }
        house.interval(if step < 30 { 0 } else { 60 + step });
    }
    let share = house.core.load().share(Standing::Ordinary);
    assert!(share < 0.9);
    let sent = house.feed(CALLER, &asking("last"));
    let trying = sent
        .iter()
        .find(|sent| sent.text.starts_with("SIP/2.0 100"))
        .expect("served");
    let percent: f64 = value(trying, "oc").unwrap().parse().unwrap();
    // One in four was new.
    assert!(percent < 100.0 * (1.0 - share) * 0.8, "{percent} of {share}");
}

fn feedback(to: &Sent, status: &str, params: &str) -> String {
    answer(to, status).replacen(";oc;oc-algo=\"loss\"", &format!(";{params}"), 1)
}

/// RFC 7339 §5.5, §5.10: what a server does not want it does not get; with nowhere else to go the answer is 503 without
/// Retry-After, and not the 500 that §16.7 of RFC 3261 makes of a 503 that came from downstream.
#[test]
fn a_server_that_asks_us_to_hold_back_gets_less() {
    let mut house = with_feedback();
    let sent = house.feed(CALLER, &asking("a"));
    let forwarded = only(&sent, "INVITE").clone();
    house.feed(
        "10.0.0.2:5060",
        &feedback(
            &forwarded,
            "180 Ringing",
            "oc=100;oc-algo=\"loss\";oc-validity=2000;oc-seq=5.1",
        ),
    );
    assert_eq!(house.core.asking_neighbours(house.clock), 1);
    let sent = house.feed(CALLER, &asking("b"));
    let refused = only(&sent, "SIP/2.0 503");
    assert!(refused.header("Retry-After").is_empty());
    assert!(sent.iter().all(|sent| !sent.text.starts_with("INVITE")));
    assert_eq!(house.core.counters().held_back, 1);
    // What belongs to a call that it has comes later (§5.10.1); so does what is urgent.
    let word = feedback(
        &forwarded,
        "183 Session Progress",
        "oc=60;oc-algo=\"loss\";oc-validity=2000;oc-seq=5.15",
    );
    house.feed("10.0.0.2:5060", &word);
    let urgent = asking("u").replace("Contact:", "Resource-Priority: wps.0\r\nContact:");
    assert!(
        house
            .feed(CALLER, &urgent)
            .iter()
            .any(|sent| sent.text.starts_with("INVITE"))
    );
    let sent = house.feed(
        "10.0.0.2:5060",
        &feedback(
            &forwarded,
            "200 OK",
            "oc=60;oc-algo=\"loss\";oc-validity=2000;oc-seq=5.2",
        ),
    );
    let route = only(&sent, "SIP/2.0 200").header("Record-Route")[0].to_owned();
    let bye = request("BYE", "sip:bob@10.0.0.2:5060", "bye", &format!("Route: {route}\r\n"));
    let bye = bye.replace("call-1", "call-a");
    assert!(house.feed(CALLER, &bye)[0].text.starts_with("BYE "));
    // §5.7
    house.pass(Duration::from_secs(3));
    let sent = house.feed(CALLER, &asking("c"));
    assert!(sent.iter().any(|sent| sent.text.starts_with("INVITE")));
}

/// RFC 7339 §5.10: an alternate destination may carry what the first does not want.
#[test]
fn another_destination_takes_what_the_first_does_not_want() {
    let mut house = with_feedback();
    house.targets = vec![("sip:bob@10.0.0.2:5060", 1000, vec!["10.0.0.2:5060", "10.0.0.3:5060"])];
    let sent = house.feed(CALLER, &asking("a"));
    let forwarded = only(&sent, "INVITE").clone();
    house.feed(
        "10.0.0.2:5060",
        &feedback(
            &forwarded,
            "180 Ringing",
            "oc=100;oc-algo=\"loss\";oc-validity=2000;oc-seq=5.1",
        ),
    );
    let sent = house.feed(CALLER, &asking("b"));
    assert_eq!(only(&sent, "INVITE").to.to_string(), "10.0.0.3:5060");
}

/// RFC 7339 §11: only who got our request can know its branch.
#[test]
fn a_response_that_matches_nothing_is_not_listened_to() {
    let mut house = with_feedback();
    let sent = house.feed(CALLER, &asking("a"));
    let forwarded = only(&sent, "INVITE").clone();
    let word = feedback(
        &forwarded,
        "180 Ringing",
        "oc=100;oc-algo=\"loss\";oc-validity=2000;oc-seq=5.1",
    );
    let branch = forwarded.header("Via")[0]
        .split("branch=")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let mut guess = branch.clone();
    let last = guess.pop().unwrap();
    guess.push(if last == '0' { '1' } else { '0' });
    house.feed("10.0.0.9:5060", &word.replace(&branch, &guess));
    assert_eq!(house.core.asking_neighbours(house.clock), 0);
}

/// RFC 7339 §10.2: who does not want any of it gets none.
#[test]
fn switched_off_nobody_is_told_and_nobody_is_asked() {
    let mut house = house();
    let sent = house.feed(CALLER, &asking("a"));
    assert_eq!(
        oc(only(&sent, "SIP/2.0 100")),
        ["oc", "oc-algo=\"A,loss\""],
        "as it came"
    );
    let forwarded = only(&sent, "INVITE");
    assert!(!forwarded.header("Via")[0].contains("oc"));
    assert!(!forwarded.header("Via")[1].contains("oc"));
}

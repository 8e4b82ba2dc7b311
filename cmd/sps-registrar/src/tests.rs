//! The registrar over a real registry file, a real database and real sockets, in a folder of its own.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use sps_conf::{Config, Paths};
use sps_ipc::parent::{Frozen, MacKey};
use sps_ipc::registrar_ctl::{Lifetime, Reply, Request};
use sps_ipc::seqpacket::{AsyncConnection, AsyncListener, Connection, Listener, buffer};
use sps_ipc::service::{Batch, FromService, ToService, from_service};
use sps_registry::{Expiry, Kind, RegistryConf, RegistryReader};
use sps_wire::{Flow, Transport};
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::task::LocalSet;

use crate::operator::{self, Shared};
use crate::registrar::{Registrar, Unanswerable, unix_now};
use crate::serve;
use crate::setup::Setup;
use crate::statics::Statics;

fn frozen(root: &Path, domain: &str, further: &str) -> Frozen {
    let text = format!(
        "[server]\ndomain = \"{domain}\"\ndomains = [{further}]\n\n\
         [[listen]]\ntransport = \"udp\"\naddress = \"127.0.0.1\"\nport = 5060\n\n\
         [registrar]\nmax_contacts = 3\n"
    );
    let (conf, _) = Config::parse(Path::new("test.toml"), &text).expect("a test's configuration is right");
    Frozen {
        generation: 1,
        number: 1,
        conf,
        paths: Paths::new(Some(root)),
        mac_keys: vec![MacKey { id: 1, secret: [0; 32] }],
        tls: sps_conf::Material::default(),
        listeners: Vec::new(),
        workers: 1,
        levels: Vec::new(),
    }
}

/// A registrar's folder.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().expect("a folder for the test"));
        std::fs::create_dir_all(place.frozen().paths.data).expect("a data folder");
        place
    }

    fn frozen(&self) -> Frozen {
        frozen(self.0.path(), "example.com", "\"example.org\"")
    }

    fn open(&self) -> Registrar {
        self.open_for("example.com")
    }

    fn open_for(&self, domain: &str) -> Registrar {
        let other = if domain == "example.com" {
            "\"example.org\""
        } else {
            "\"example.com\""
        };
        let frozen = frozen(self.0.path(), domain, other);
        Registrar::open(&frozen.paths.registry_map(), Setup::of(&frozen)).expect("the registry opens")
    }

    fn statics(&self) -> Statics {
        Statics::new(self.frozen().paths.database())
    }

    fn shared(&self) -> Rc<Shared> {
        Rc::new(Shared {
            registrar: RefCell::new(self.open()),
            statics: self.statics(),
            changing: Mutex::new(()),
        })
    }

    fn reader(&self) -> RegistryReader {
        RegistryReader::open(&self.frozen().paths.registry_map()).expect("the registry can be read")
    }
}

fn flow() -> Flow {
    Flow {
        member: 0,
        transport: Transport::Udp,
        local: "127.0.0.1:5060".parse().unwrap(),
        remote: "127.0.0.7:40000".parse().unwrap(),
        connection: 0,
    }
}

fn register(user: &str, cseq: u32, contact: &str) -> String {
    format!(
        "REGISTER sip:example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP 10.0.0.4:5062;branch=z9hG4bK{cseq};rport\r\n\
         From: <sip:{user}>;tag=1\r\nTo: <sip:{user}>\r\nCall-ID: call\r\nCSeq: {cseq} REGISTER\r\n\
         {contact}Content-Length: 0\r\n\r\n"
    )
}

/// The status code and the whole of a response.
fn answer(registrar: &mut Registrar, request: &str) -> (u16, String) {
    let mut out = Vec::new();
    registrar
        .answer(&flow(), request.as_bytes(), &mut out)
        .expect("an answer");
    let text = String::from_utf8(out).expect("a response of text");
    (text["SIP/2.0 ".len()..][..3].parse().expect("a status code"), text)
}

const CONTACT: &str = "Contact: <sip:alice@10.0.0.4:5062>;expires=600\r\n";

/// The contacts of an AOR that others see in the file.
fn seen(reader: &RegistryReader, aor: &str) -> Vec<String> {
    let bindings = reader
        .record(aor.as_bytes())
        .map(|record| record.bindings)
        .unwrap_or_default();
    let current = bindings
        .into_iter()
        .filter(|binding| !binding.expires.is_past(unix_now()));
    current
        .map(|binding| String::from_utf8(binding.contact).expect("a contact of text"))
        .collect()
}

#[test]
fn what_a_200_says_others_can_read() {
    let place = Place::new();
    let mut registrar = place.open();
    let reader = place.reader();
    let (status, text) = answer(&mut registrar, &register("alice@example.com", 1, CONTACT));
    assert_eq!(status, 200, "{text}");
    assert!(
        text.contains("received=127.0.0.7") && text.contains("rport=40000"),
        "{text}"
    );
    assert_eq!(seen(&reader, "sip:alice@example.com"), ["sip:alice@10.0.0.4:5062"]);
    let kept = reader.record(b"sip:alice@example.com").expect("a record");
    let binding = &kept.bindings[0];
    assert_eq!(
        (binding.flow, binding.kind, binding.cseq),
        (Some(flow()), Kind::Dynamic, 1)
    );
    let (status, _) = answer(
        &mut registrar,
        &register("alice@example.com", 2, &CONTACT.replace("600", "0")),
    );
    assert_eq!(status, 200);
    assert!(seen(&reader, "sip:alice@example.com").is_empty());
}

/// Dropped without closing, as after kill -9: what was acknowledged is there.
#[test]
fn acknowledged_bindings_survive_the_registrar() {
    let place = Place::new();
    let mut registrar = place.open();
    for n in 0..50 {
        assert_eq!(
            answer(&mut registrar, &register(&format!("user{n}@example.com"), 1, CONTACT)).0,
            200
        );
    }
    drop(registrar);
    let mut registrar = place.open();
    let (status, text) = answer(&mut registrar, &register("user49@example.com", 9, ""));
    assert!(
        status == 200 && text.contains("Contact: <sip:alice@10.0.0.4:5062>;expires="),
        "{text}"
    );
    assert_eq!(registrar.registry.len(), 50);
}

/// Design: with a full disk refreshes go on and new bindings get 500.
#[test]
fn without_room_refreshes_go_on_and_new_bindings_get_500() {
    let place = Place::new();
    let conf = RegistryConf {
        initial_records: 64,
        max_file_len: Some(1024 * 1024),
        ..RegistryConf::default()
    };
    let frozen = place.frozen();
    let mut registrar =
        Registrar::open_as(&frozen.paths.registry_map(), Setup::of(&frozen), &conf).expect("the registry opens");
    let user = |n: u32| format!("user{n}@example.com");
    let full_at = (0..10_000).find(|n| {
        let (status, text) = answer(&mut registrar, &register(&user(*n), 1, CONTACT));
        assert!(
            status == 200 || (status == 500 && text.contains("Retry-After: ")),
            "{text}"
        );
        status == 500
    });
    let full_at = full_at.expect("a megabyte is full some time");
    assert!(full_at > 100, "{full_at}");
    for n in 0..full_at {
        let (status, text) = answer(&mut registrar, &register(&user(n), 2, &CONTACT.replace("600", "700")));
        assert_eq!(status, 200, "user {n} of {full_at}: {text}");
    }
    assert_eq!(answer(&mut registrar, &register(&user(full_at), 2, CONTACT)).0, 500);
    let (_, text) = answer(&mut registrar, &register(&user(full_at), 3, ""));
    assert!(!text.contains("Contact"), "what got 500 is not bound");
    assert_eq!(
        answer(&mut registrar, &register(&user(0), 3, &CONTACT.replace("600", "0"))).0,
        200
    );
}

#[test]
fn what_cannot_be_parsed_is_answered_or_left_to_the_proxy() {
    let mut registrar = Place::new().open();
    let broken = register("alice@example.com", 1, "").replace("Content-Length: 0", "Content-Length: 99");
    assert_eq!(answer(&mut registrar, &broken).0, 400);
    assert_eq!(
        registrar.answer(&flow(), b"REGISTER", &mut Vec::new()),
        Err(Unanswerable)
    );
    assert_eq!(
        answer(&mut registrar, &register("alice@elsewhere.net", 1, CONTACT)).0,
        404
    );
    assert_eq!(
        (
            registrar.counts.requests,
            registrar.counts.refused,
            registrar.counts.unanswerable
        ),
        (3, 3, 1)
    );
}

/// A user of an address of ours is a user of our domain, also when the address was only seen, not configured.
#[test]
fn the_address_a_request_came_to_is_ours() {
    let place = Place::new();
    let mut registrar = place.open();
    let at_address = flow();
    let mut out = Vec::new();
    let there = Flow {
        local: "127.0.0.9:5099".parse().unwrap(),
        ..at_address
    };
    registrar
        .answer(
            &there,
            register("alice@127.0.0.9:5099", 1, CONTACT).as_bytes(),
            &mut out,
        )
        .unwrap();
    assert!(out.starts_with(b"SIP/2.0 200"), "{}", String::from_utf8_lossy(&out));
    assert_eq!(seen(&place.reader(), "sip:alice@example.com").len(), 1);
}

/// A number is at the E.164 domain; when that domain changes, its record moves.
#[test]
fn records_move_when_the_rules_change() {
    let place = Place::new();
    let mut registrar = place.open();
    assert_eq!(
        answer(&mut registrar, &register("+15550100@example.org", 1, CONTACT)).0,
        200
    );
    assert_eq!(answer(&mut registrar, &register("bob@example.com", 1, CONTACT)).0, 200);
    let reader = place.reader();
    assert_eq!(seen(&reader, "sip:+15550100@example.com").len(), 1);

    let mut reversed = frozen(place.0.path(), "example.org", "\"example.com\"");
    reversed.number = 2;
    registrar.change_setup(Setup::of(&reversed));
    assert!(seen(&reader, "sip:+15550100@example.com").is_empty());
    assert_eq!(seen(&reader, "sip:+15550100@example.org").len(), 1);
    assert_eq!(seen(&reader, "sip:bob@example.com").len(), 1);
    // The same across a start.
    drop(registrar);
    let _registrar = place.open();
    assert_eq!(seen(&reader, "sip:+15550100@example.com").len(), 1);
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, future)
}

fn add(aor: &str, contact: &str, lifetime: Lifetime) -> Request {
    Request::Add {
        aor: aor.into(),
        contact: contact.into(),
        lifetime,
        q: 500,
    }
}

fn remove(aor: &str, contact: Option<&str>) -> Request {
    Request::Remove {
        aor: aor.into(),
        contact: contact.map(str::to_owned),
    }
}

fn code(reply: Reply) -> u8 {
    match reply {
        Reply::Refused { code, .. } => code,
        other => panic!("not refused: {other:?}"),
    }
}

const DONE: Reply = Reply::Done { changed: 1 };
const NOTHING: Reply = Reply::Done { changed: 0 };

#[test]
fn operators_add_show_and_remove() {
    let place = Place::new();
    let shared = place.shared();
    block_on(async {
        let ask = |request| operator::carry_out(request, &shared);
        assert_eq!(
            ask(add("bob@example.com", "sip:bob@192.0.2.5:5060", Lifetime::Seconds(300))).await,
            DONE
        );
        assert_eq!(
            ask(add("bob@example.com", "gate@192.0.2.9", Lifetime::Permanent)).await,
            DONE
        );
        assert_eq!(
            ask(add("bob@example.com", "sip:gate@192.0.2.9", Lifetime::Permanent)).await,
            NOTHING
        );
        let Reply::Page { records, next: None } = ask(Request::Show {
            aor: "sip:BOB@example.com".into(),
        })
        .await
        else {
            panic!("no page");
        };
        assert!(records.is_empty(), "users differ by case");
        let Reply::Page { records, next: None } = ask(Request::Show {
            aor: "sip:bob@EXAMPLE.com".into(),
        })
        .await
        else {
            panic!("no page");
        };
        assert_eq!(records[0].aor, "sip:bob@example.com");
        let listed: Vec<_> = records[0]
            .bindings
            .iter()
            .map(|one| (one.contact.as_str(), one.expires_in_s))
            .collect();
        assert_eq!(listed.len(), 2);
        assert!(listed.contains(&("sip:gate@192.0.2.9", None)));
        assert!(matches!(
            listed.iter().find(|one| one.0 == "sip:bob@192.0.2.5:5060"),
            Some((_, Some(299..=300)))
        ));
        assert_eq!(
            ask(remove("bob@example.com", Some("sip:bob@192.0.2.5"))).await,
            NOTHING,
            "another port"
        );
        assert_eq!(
            ask(remove("bob@example.com", Some("sip:b%6Fb@192.0.2.5:5060"))).await,
            DONE
        );
        assert_eq!(ask(remove("bob@example.com", None)).await, DONE);
        assert_eq!(ask(remove("bob@example.com", None)).await, NOTHING);
    });
    assert!(place.statics().read().expect("the database").is_empty());
}

#[test]
fn operators_are_told_why_not() {
    let place = Place::new();
    let shared = place.shared();
    block_on(async {
        let ask = |request| operator::carry_out(request, &shared);
        assert_eq!(
            code(ask(add("bob@elsewhere.net", "sip:b@192.0.2.5", Lifetime::Default)).await),
            65
        );
        assert_eq!(
            code(ask(add("example.com", "sip:b@192.0.2.5", Lifetime::Default)).await),
            65
        );
        assert_eq!(code(ask(add("bob@example.com", "sip:b@", Lifetime::Default)).await), 65);
        assert_eq!(
            code(ask(add("bob@example.com", "sip:b@192.0.2.5", Lifetime::Seconds(0))).await),
            65
        );
        for n in 0..3 {
            assert_eq!(
                ask(add("bob@example.com", &format!("sip:{n}@192.0.2.5"), Lifetime::Default)).await,
                DONE
            );
        }
        assert_eq!(
            code(ask(add("bob@example.com", "sip:3@192.0.2.5", Lifetime::Default)).await),
            73
        );
    });
}

/// A contact is static or dynamic, never both, whichever came first.
#[test]
fn one_contact_is_not_both_static_and_dynamic() {
    let place = Place::new();
    let shared = place.shared();
    block_on(async {
        let ask = |request| operator::carry_out(request, &shared);
        let contact = "sip:alice@10.0.0.4:5062";
        assert_eq!(
            answer(
                &mut shared.registrar.borrow_mut(),
                &register("alice@example.com", 1, CONTACT)
            )
            .0,
            200
        );
        assert_eq!(
            code(ask(add("alice@example.com", contact, Lifetime::Permanent)).await),
            73
        );
        assert!(
            place.statics().read().expect("the database").is_empty(),
            "refused means nothing was changed"
        );
        assert_eq!(ask(remove("alice@example.com", Some(contact))).await, DONE);
        assert_eq!(ask(add("alice@example.com", contact, Lifetime::Permanent)).await, DONE);
        let (status, text) = answer(
            &mut shared.registrar.borrow_mut(),
            &register("alice@example.com", 2, CONTACT),
        );
        assert!(status == 403 && text.contains("Warning: 399 example.com"), "{text}");
        assert_eq!(
            code(ask(add("alice@example.com", contact, Lifetime::Seconds(60))).await),
            73
        );
    });
}

/// The database is the truth about static registrations: a lost registry gets them back, stray ones go.
#[test]
fn static_registrations_come_back_from_the_database() {
    let place = Place::new();
    let shared = place.shared();
    block_on(async {
        let ask = |request| operator::carry_out(request, &shared);
        assert_eq!(
            ask(add("bob@example.com", "sip:gate@192.0.2.9", Lifetime::Permanent)).await,
            DONE
        );
        assert_eq!(
            ask(add("+15550100@example.com", "sip:gate@192.0.2.9", Lifetime::Permanent)).await,
            DONE
        );
    });
    drop(shared);
    std::fs::remove_file(place.frozen().paths.registry_map()).expect("the registry was there");
    let mut registrar = place.open();
    registrar.restore(&place.statics());
    let reader = place.reader();
    assert_eq!(seen(&reader, "sip:bob@example.com"), ["sip:gate@192.0.2.9"]);
    let kept = registrar.registry.record(b"sip:bob@example.com").expect("a record");
    assert_eq!(
        (kept.bindings[0].expires, kept.bindings[0].kind, kept.bindings[0].q),
        (Expiry::Permanent, Kind::Static, 500)
    );

    // Removed behind our back, with another one made.
    block_on(async {
        let statics = place.statics();
        assert_eq!(statics.remove("sip:bob@example.com".into(), None).await, Ok(1));
    });
    registrar.restore(&place.statics());
    assert!(seen(&reader, "sip:bob@example.com").is_empty());
    assert_eq!(seen(&reader, "sip:+15550100@example.com").len(), 1);

    // Another E.164 domain: the number is there now, in registry and database.
    drop(registrar);
    let mut registrar = place.open_for("example.org");
    registrar.restore(&place.statics());
    assert_eq!(seen(&reader, "sip:+15550100@example.org").len(), 1);
    assert!(seen(&reader, "sip:+15550100@example.com").is_empty());
    assert_eq!(
        place.statics().read().expect("the database")[0].aor,
        "sip:+15550100@example.org"
    );
}

#[test]
fn lists_come_by_pages() {
    let place = Place::new();
    let shared = place.shared();
    for n in 0..250 {
        let request = register(&format!("user{n}@example.com"), 1, CONTACT);
        assert_eq!(answer(&mut shared.registrar.borrow_mut(), &request).0, 200);
    }
    let mut found = std::collections::BTreeSet::new();
    let mut cursor = Some(0);
    block_on(async {
        while let Some(at) = cursor {
            let Reply::Page { records, next } = operator::carry_out(
                Request::List {
                    cursor: at,
                    limit: 1_000,
                },
                &shared,
            )
            .await
            else {
                panic!("no page");
            };
            assert!(records.len() <= 100);
            found.extend(records.into_iter().map(|record| record.aor));
            cursor = next;
        }
    });
    assert_eq!(found.len(), 250);
}

#[test]
fn bindings_that_are_over_are_taken_out() {
    let place = Place::new();
    let shared = place.shared();
    block_on(async {
        for n in 0..300 {
            let add = add(&format!("u{n}@example.com"), "sip:u@192.0.2.5", Lifetime::Seconds(1));
            assert_eq!(operator::carry_out(add, &shared).await, DONE);
        }
    });
    let begin = Instant::now();
    let mut expired = Vec::new();
    let mut registrar = shared.registrar.borrow_mut();
    while !registrar.registry.is_empty() {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "{} are left",
            registrar.registry.len()
        );
        registrar.expire(&mut expired);
        std::thread::yield_now();
    }
    assert_eq!(registrar.counts.expired, 300);
}

/// Connects a proxy of ours to a task that answers it.
async fn proxy(place: &Place, shared: Rc<Shared>) -> AsyncConnection {
    let path = place.0.path().join("registrar.sock");
    let listener = AsyncListener::new(Listener::bind(&path, 0o600, 4).expect("a socket")).expect("a listener");
    let ours = Connection::connect(&path, Instant::now() + Duration::from_secs(5)).expect("a connection");
    let theirs = listener.accept().await.expect("the connection");
    tokio::task::spawn_local(serve::answer_proxy(theirs, shared));
    AsyncConnection::new(ours).expect("a connection under tokio")
}

#[test]
fn a_batch_of_requests_gets_a_batch_of_responses() {
    let place = Place::new();
    let shared = place.shared();
    block_on(async {
        let proxy = proxy(&place, shared).await;
        let mut batch = Batch::default();
        batch
            .push(&ToService::Hello {
                version: sps_ipc::VERSION,
                conf: 1,
            })
            .unwrap();
        let requests: Vec<String> = (0..40)
            .map(|n| register(&format!("user{n}@example.com"), 1, CONTACT))
            .collect();
        for (id, request) in requests.iter().enumerate() {
            let message = request.as_bytes();
            batch
                .push(&ToService::Request {
                    id: id as u64,
                    flow: flow(),
                    received_at_ms: 0,
                    message,
                })
                .unwrap();
        }
        batch
            .push(&ToService::Request {
                id: 40,
                flow: flow(),
                received_at_ms: 0,
                message: b"REGISTER",
            })
            .unwrap();
        proxy.send(batch.bytes()).await.unwrap();
        let mut buffer = buffer();
        let mut answered = Vec::new();
        while answered.len() < 41 {
            let len = proxy.recv(&mut buffer).await.unwrap();
            assert!(len > 0, "hung up");
            for entry in from_service(&buffer[..len]) {
                match entry.unwrap() {
                    FromService::Response { id, message } => {
                        assert!(message.starts_with(b"SIP/2.0 200 "));
                        answered.push(id);
                    }
                    FromService::Busy { id } => {
                        assert_eq!(id, 40, "only what cannot be answered is left to the proxy");
                        answered.push(id);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(answered, (0..41).collect::<Vec<u64>>());
    });
}

/// An operator is told in words what a phone gets as a status, with an exit code that says whose fault it is.
#[test]
fn an_operator_reads_words_and_not_a_status() {
    let place = Place::new();
    let shared = place.shared();
    let add = |aor: &str, contact: &str| {
        let request = Request::Add {
            aor: aor.into(),
            contact: contact.into(),
            lifetime: Lifetime::Default,
            q: 1_000,
        };
        block_on(operator::carry_out(request, &shared))
    };
    let long = format!("sip:{}@192.0.2.1", "x".repeat(70_000));
    for (aor, contact, said) in [
        ("alice@example.com", long.as_str(), "too large"),
        ("+491234", "sip:192.0.2.1", "expected one such as sip:alice@example.com"),
        (
            "alice@example.com",
            "Bob <sip:b@192.0.2.1>",
            "expected one such as sip:alice@192.0.2.7",
        ),
    ] {
        match add(aor, contact) {
            Reply::Refused { code, reason } => assert!(code == 65 && reason.contains(said), "{code} {reason}"),
            other => panic!("{other:?}"),
        }
    }
}

/// Other builds and other tongues are hung up on.
#[test]
fn who_does_not_greet_is_hung_up_on() {
    let request = register("alice@example.com", 1, CONTACT);
    for first in [
        ToService::Hello {
            version: sps_ipc::VERSION + 1,
            conf: 1,
        },
        ToService::Request {
            id: 1,
            flow: flow(),
            received_at_ms: 0,
            message: request.as_bytes(),
        },
    ] {
        let place = Place::new();
        let shared = place.shared();
        block_on(async {
            let proxy = proxy(&place, shared).await;
            let mut batch = Batch::default();
            batch.push(&first).unwrap();
            proxy.send(batch.bytes()).await.unwrap();
            assert_eq!(proxy.recv(&mut buffer()).await.unwrap(), 0);
        });
        assert!(seen(&place.reader(), "sip:alice@example.com").is_empty());
    }
}

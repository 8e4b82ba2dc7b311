//! TLS as peers meet it: calls inwards and outwards, whose certificates are believed, what is refused, and that nothing else
//! suffers from it.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use sps_tests::kamailio::{self, Kamailio};
use sps_tests::net::{V4, free_addr};
use sps_tests::process::{Said, run_command, send_signal};
use sps_tests::tls::{Authority, Issued, TlsEnd, Wanted};
use sps_tests::{Agent, Dialog, Instance, Message, Options, PATIENCE, Uas, bounded, need, skip, wait_until};

/// An SPS with a TLS listener, whose certificates one CA signs.
struct Secure {
    sps: Instance,
    tls: SocketAddr,
    authority: Authority,
    /// Certificates and keys.
    folder: tempfile::TempDir,
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
        fs::write(folder.path().join("ca.pem"), authority.pem()).expect("a file can be written");
        let tls = free_addr(V4);
        let options = options.section(&sections(folder.path(), tls, keys));
        let sps = Instance::start(options);
        Secure {
            sps,
            tls,
            authority,
            folder,
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

/// `openssl s_client` against `addr`, ended at once; `more` are its arguments.
fn openssl(addr: SocketAddr, more: &[&str]) -> Said {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &addr.to_string()]).args(more);
    // Without input it says goodbye as soon as the handshake is over.
    run_command(PATIENCE, command)
}

impl Secure {
    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Waits until the error log says all of `words` in one line.
    #[track_caller]
    fn wait_error(&self, words: &[&str]) {
        wait_until(&format!("the error log has a line with {words:?}"), || {
            let log = self.sps.log("error_log");
            log.lines().any(|line| words.iter().all(|word| line.contains(word)))
        });
    }

    /// A figure of sps-tls.
    fn figure(&self, name: &str) -> u64 {
        self.sps.status()["tls"]["figures"][name].as_u64().unwrap_or(0)
    }
}

/// TLS-02: RFC 8996 and what it leaves.
#[test]
fn only_tls_1_2_and_1_3_with_aead_are_spoken() {
    need!("openssl");
    bounded(|| {
        let secure = Secure::start("");
        for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let said = openssl(secure.tls, &[version, "-brief", "-CAfile", &secure.file("ca.pem")]).ok();
            assert!(
                said.stderr.contains(&format!("Protocol version: {name}")),
                "{}",
                said.stderr
            );
            assert!(said.stderr.contains("Verification: OK"), "{}", said.stderr);
        }
        for refused in [
            &["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"][..],
            &["-tls1", "-cipher", "DEFAULT:@SECLEVEL=0"],
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:AES128-SHA:@SECLEVEL=0"],
        ] {
            let said = openssl(secure.tls, refused);
            assert_ne!(said.code, 0, "{refused:?}: {}", said.stdout);
        }
        secure.wait_error(&["TLS refused", "nothing in common"]);
        // Plain SIP at this port is told apart.
        let mut plain = TcpStream::connect(secure.tls).unwrap();
        plain.write_all(b"OPTIONS sip:sps.test SIP/2.0\r\n\r\n").unwrap();
        secure.wait_error(&["TLS refused", "does not speak TLS"]);
    });
}

/// TLS-03
#[test]
fn sessions_are_resumed_in_both_versions() {
    need!("openssl");
    bounded(|| {
        let secure = Secure::start("");
        for version in ["-tls1_2", "-tls1_3"] {
            let session = secure.file(&format!("session{version}"));
            // A request keeps the connection until its answer, behind which the tickets of TLS 1.3 have come.
            let ask = |more: &[&str]| {
                let mut command = Command::new("openssl");
                command
                    .args([
                        "s_client",
                        "-quiet",
                        "-no_ign_eof",
                        "-connect",
                        &secure.tls.to_string(),
                        version,
                    ])
                    .args(more)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null());
                let mut client = command.spawn().expect("openssl starts");
                let request = Agent::udp(V4).request("OPTIONS", "sip:sps.test").bytes();
                client.stdin.as_mut().unwrap().write_all(&request).unwrap();
                let mut answer = [0; 12];
                client.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
                assert_eq!(&answer, b"SIP/2.0 200 ");
                drop(client.stdin.take());
                client.wait().unwrap();
            };
            let before = secure.figure("resumed");
            ask(&["-sess_out", &session]);
            assert_eq!(secure.figure("resumed"), before);
            ask(&["-sess_in", &session]);
            assert_eq!(secure.figure("resumed"), before + 1, "{version}");
        }
    });
}

/// TLS-04: in TLS 1.2 a client that asks for renegotiation gets none, and the connection goes on.
#[test]
fn renegotiation_is_not_done() {
    need!("openssl");
    bounded(|| {
        let secure = Secure::start("");
        let mut command = Command::new("openssl");
        command
            .args(["s_client", "-connect", &secure.tls.to_string(), "-tls1_2"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut client = command.spawn().expect("openssl starts");
        client.stdin.as_mut().unwrap().write_all(b"R\n").unwrap();
        let mut said = String::new();
        client.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        client.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        client.wait().unwrap();
        assert!(said.contains("no renegotiation"), "{said}");
        assert_eq!(secure.sps.daemon("sps-tls")["restarts"], 0);
        let mut caller = secure.agent("phone.test");
        let options = caller.request("OPTIONS", "sip:sps.test");
        assert_eq!(caller.ask(secure.tls, &options).status(), Some(200));
    });
}

/// RFC 5922 §7.8
#[test]
fn a_client_that_says_whom_it_wants_gets_that_certificate() {
    need!("openssl");
    bounded(|| {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let (certificate, key) = authority.issue_for("other.test").write(folder.path(), "other");
        let more = format!(
            "[[tls.certificate]]\ncertificate = \"{}\"\nkey = \"{}\"\nnames = [\"alias.test\"]\n",
            certificate.display(),
            key.display()
        );
        let secure = Secure::start_with(Options::new().section(""), "");
        let sections = format!("{}{more}", sections(secure.folder.path(), secure.tls, ""));
        secure.sps.configure("", &sections);
        secure.sps.spsctl(&["reload"]).ok();
        let shown = |name: &str| {
            let said = openssl(secure.tls, &["-servername", name, "-showcerts"]).ok();
            let text = said.stdout;
            let pem = &text[text.find("-----BEGIN").unwrap()..text.find("-----END").unwrap()];
            fs::read_to_string(&certificate).unwrap().contains(pem)
        };
        assert!(shown("other.test") && shown("alias.test"));
        assert!(!shown("sps.test") && !shown("unknown.test"));
        let status = secure.sps.status();
        let certificates = status["tls"]["certificates"].as_array().unwrap().clone();
        assert_eq!(certificates.len(), 2);
        assert!(certificates[0]["expires_at_s"].as_i64().unwrap() > 0);
        assert_eq!(certificates[1]["names"][1], "alias.test");
    });
}

/// TLS-09: no certificate, a good one, one of another CA, one that has expired; none asked for, asked for, demanded.
#[test]
fn clients_show_what_is_demanded_of_them() {
    need!("openssl");
    bounded(|| {
        let secure = Secure::start("");
        let folder = secure.folder.path();
        secure.authority.issue_for("client.test").write(folder, "good");
        Authority::new().issue_for("client.test").write(folder, "foreign");
        secure
            .authority
            .issue(&Wanted::new().dns("client.test").expired())
            .write(folder, "expired");
        for (mode, absent, good, bad) in [
            ("none", true, true, true),
            ("request", true, true, false),
            ("require", false, true, false),
        ] {
            let keys = format!("client_certificate = \"{mode}\"");
            secure.sps.configure("", &sections(folder, secure.tls, &keys));
            secure.sps.spsctl(&["reload"]).ok();
            // In TLS 1.3 the client hears of its refusal only when it reads: 1.2 tells in the handshake.
            let try_with = |name: &str| {
                let (certificate, key) = (secure.file(&format!("{name}.pem")), secure.file(&format!("{name}.key")));
                let arguments = ["-tls1_2", "-cert", &certificate, "-key", &key];
                openssl(secure.tls, &arguments).code == 0
            };
            assert_eq!(openssl(secure.tls, &["-tls1_2"]).code == 0, absent, "{mode}: none");
            assert_eq!(try_with("good"), good, "{mode}: a good one");
            assert_eq!(try_with("foreign"), bad, "{mode}: of another CA");
            assert_eq!(try_with("expired"), bad, "{mode}: expired");
        }
        for words in ["showed no certificate", "no CA that we believe", "it has expired"] {
            secure.wait_error(&["TLS refused", words]);
        }
    });
}

/// RFC 5922 §7.4, TLS-09
#[test]
fn the_via_of_who_showed_a_certificate_must_name_it() {
    bounded(|| {
        let secure = Secure::start("client_certificate = \"request\"");
        let callee = Uas::answering(V4);
        secure.sps.register("bob", callee.uri(), "1.0");
        let own = secure.authority.issue_for("phone.test");
        let mut caller = Agent::tls(V4, secure.end(&own, true));
        let invite = caller.request("OPTIONS", &secure.sps.uri("bob"));
        let honest = invite.clone().set("Via", "SIP/2.0/TLS phone.test;branch=z9hG4bK1");
        let dishonest = invite.set("Via", "SIP/2.0/TLS other.test;branch=z9hG4bK2");
        assert_eq!(caller.ask(secure.tls, &honest).status(), Some(200));
        assert_eq!(caller.ask(secure.tls, &dishonest).status(), Some(403));
        secure.wait_error(&["request refused", "phone.test"]);
        let said = secure.sps.spsctl(&["tls", "peers"]).ok();
        assert!(
            said.stdout.contains("phone.test") && said.stdout.contains("TLS13"),
            "{}",
            said.stdout
        );
        // Who has shown nothing has nothing to match.
        let mut nobody = secure.agent("phone.test");
        let options = nobody.request("OPTIONS", &secure.sps.uri("bob"));
        assert_eq!(nobody.ask(secure.tls, &options).status(), Some(200));
    });
}

/// TLS-07, RFC 5922 §7.1 to §7.3: whom we believe to be the server that a call is for.
#[test]
fn a_server_must_be_who_the_call_is_for() {
    bounded(|| {
        let secure = Secure::start("");
        let ca = &secure.authority;
        let other: IpAddr = Ipv4Addr::new(127, 0, 0, 9).into();
        let serverless = rcgen_client_only();
        // The calls go to a name that the hosts of this machine know, and to an address.
        let cases: [(&str, &str, Issued, bool); 13] = [
            ("DNS name", "localhost", ca.issue(&Wanted::new().dns("localhost")), true),
            (
                "SIP URI",
                "localhost",
                ca.issue(&Wanted::new().uri("sip:localhost")),
                true,
            ),
            (
                "SIP URI of another, DNS name right",
                "localhost",
                ca.issue(&Wanted::new().uri("sip:other.test").dns("localhost")),
                false,
            ),
            (
                "no name but the common one",
                "localhost",
                ca.issue(&Wanted::new()),
                false,
            ),
            (
                "expired",
                "localhost",
                ca.issue(&Wanted::new().dns("localhost").expired()),
                false,
            ),
            (
                "another CA",
                "localhost",
                Authority::new().issue_for("localhost"),
                false,
            ),
            (
                "for clients only",
                "localhost",
                ca.issue(&Wanted::new().dns("localhost").purpose(serverless)),
                false,
            ),
            (
                "wrong name",
                "localhost",
                ca.issue(&Wanted::new().dns("other.test")),
                false,
            ),
            (
                "wildcard",
                "localhost",
                ca.issue(&Wanted::new().dns("*.localhost")),
                false,
            ),
            (
                "self-signed",
                "localhost",
                Wanted::new().dns("localhost").self_signed(),
                false,
            ),
            ("address", "127.0.0.1", ca.issue(&Wanted::new().ip(V4)), true),
            (
                "another address",
                "127.0.0.1",
                ca.issue(&Wanted::new().ip(other)),
                false,
            ),
            (
                "a name for an address",
                "127.0.0.1",
                ca.issue(&Wanted::new().dns("localhost")),
                false,
            ),
        ];
        let mut caller = Agent::udp(V4);
        for (at, (what, host, own, believed)) in cases.into_iter().enumerate() {
            let agent = Agent::tls(V4, secure.end(&own, false));
            let contact = format!("sip:uas@{host}:{};transport=tls", agent.addr().port());
            let callee = Uas::answering_as(agent, "callee");
            let user = format!("user{at}");
            secure.sps.register(&user, &contact, "1.0");
            let options = caller.request("OPTIONS", &secure.sps.uri(&user));
            let answer = caller.ask(secure.sps.addr(), &options);
            assert_eq!(answer.status() == Some(200), believed, "{what}: {answer}");
            assert_eq!(callee.seen().len(), usize::from(believed), "{what}");
        }
        // The first five: more are held back in one second.
        for words in [
            "it is for other.test, expected localhost",
            "it bears no name",
            "it has expired",
            "no CA that we believe",
            "it is not made for this",
        ] {
            secure.wait_error(&["TLS to a server failed", words]);
        }
    });
}

/// extendedKeyUsage of a client.
fn rcgen_client_only() -> rcgen::ExtendedKeyUsagePurpose {
    rcgen::ExtendedKeyUsagePurpose::ClientAuth
}

/// TLS-12: what was changed on its way is noticed, and no call comes of it.
#[test]
fn a_bit_changed_on_the_way_ends_the_connection() {
    bounded(|| {
        let secure = Secure::start("");
        let callee = Uas::answering(V4);
        secure.sps.register("bob", callee.uri(), "1.0");
        let bend = Arc::new(AtomicBool::new(false));
        let between = man_in_the_middle(secure.tls, bend.clone());
        let mut caller = secure.agent("phone.test");
        let options = caller.request("OPTIONS", "sip:sps.test");
        assert_eq!(caller.ask(between, &options).status(), Some(200), "unchanged it passes");
        bend.store(true, Ordering::SeqCst);
        let invite = caller.request("INVITE", &secure.sps.uri("bob"));
        caller.send(between, &invite);
        caller.wait_closed(between);
        secure.wait_error(&["TLS connection cut", "bytes were changed"]);
        assert!(callee.seen().is_empty(), "no call");
        assert_eq!(secure.figure("cut"), 1);
    });
}

/// Passes connections on to `behind`; once told, it changes a bit of what goes there.
fn man_in_the_middle(behind: SocketAddr, bend: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind((V4, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for front in listener.incoming().flatten() {
            let back = TcpStream::connect(behind).unwrap();
            let (mut from, mut to) = (back.try_clone().unwrap(), front.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
            let (mut from, mut to, bend) = (front, back, bend.clone());
            thread::spawn(move || {
                let mut buffer = [0; 16_384];
                while let Ok(len @ 1..) = from.read(&mut buffer) {
                    if bend.load(Ordering::SeqCst) {
                        buffer[len - 1] ^= 1;
                    }
                    if to.write_all(&buffer[..len]).is_err() {
                        return;
                    }
                }
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    addr
}

/// TLS-06: a new certificate with a connection standing; a bad one refused.
#[test]
fn certificates_are_replaced_without_closing_a_connection() {
    need!("openssl");
    bounded(|| {
        let secure = Secure::start("");
        let callee = Uas::answering(V4);
        secure.sps.register("bob", callee.uri(), "1.0");
        let mut caller = secure.agent("phone.test");
        let invite = caller.request("INVITE", &secure.sps.uri("bob"));
        let answer = caller.ask(secure.tls, &invite);
        let mut dialog = Dialog::of_caller(&invite, &answer);
        let ack = dialog.ack(&mut caller, 1);
        caller.send(secure.tls, &ack);
        let stands = caller.tls_peers();

        let folder = secure.folder.path();
        let new = secure.authority.issue_for("sps.test");
        let old_key = fs::read(folder.join("own.key")).unwrap();
        new.write(folder, "own");
        // The new certificate with the old key.
        fs::write(folder.join("own.key"), &old_key).unwrap();
        let said = secure.sps.spsctl(&["reload"]).code(78);
        assert!(
            said.stderr.contains("own.key") && said.stderr.contains("does not belong"),
            "{}",
            said.stderr
        );
        // A key that everybody may read.
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder.join("own.key"), fs::Permissions::from_mode(0o644)).unwrap();
        let said = secure.sps.spsctl(&["reload"]).code(78);
        assert!(said.stderr.contains("chmod 600"), "{}", said.stderr);
        let shown = || {
            openssl(secure.tls, &["-showcerts"])
                .ok()
                .stdout
                .contains(new.certificate.trim())
        };
        assert!(!shown(), "the old one stays in force");
        new.write(folder, "own");
        secure.sps.spsctl(&["reload"]).ok();
        assert!(shown(), "the new one is in force");

        let bye = dialog.request(&mut caller, "BYE");
        assert_eq!(caller.ask(secure.tls, &bye).status(), Some(200));
        assert_eq!(caller.tls_peers(), stands, "the connection stood all the time");
        callee.wait_for("BYE", 1);
    });
}

/// A daemon that dies takes its connections with it and nothing else, and is back within a second.
#[test]
fn killed_it_is_back_within_a_second_and_udp_goes_on() {
    bounded(|| {
        let secure = Secure::start("");
        let callee = Uas::answering(V4);
        secure.sps.register("bob", callee.uri(), "1.0");
        let own = secure.authority.issue(&Wanted::new().ip(V4));
        let agent = Agent::tls(V4, secure.end(&own, false));
        let secure_callee = Uas::answering_as(agent, "callee");
        secure.sps.register("carol", secure_callee.uri(), "1.0");
        let mut tls_caller = secure.agent("phone.test");
        let mut udp_caller = Agent::udp(V4);
        call(&mut tls_caller, secure.tls, &secure.sps.uri("bob"));
        let proxy = secure.sps.pid("sps-proxy");

        send_signal(secure.sps.pid("sps-tls"), Signal::SIGKILL);
        let killed_at = Instant::now();
        // It is dead when its connections are. What comes then, and to a callee who has TLS only, waits for the next one.
        tls_caller.wait_closed(secure.tls);
        let options = udp_caller.request("OPTIONS", &secure.sps.uri("carol"));
        udp_caller.send(secure.sps.addr(), &options);
        call(&mut Agent::udp(V4), secure.sps.addr(), &secure.sps.uri("bob"));
        assert_eq!(udp_caller.final_response().status(), Some(200));
        let mut again = secure.agent("phone.test");
        call(&mut again, secure.tls, &secure.sps.uri("bob"));
        assert!(
            killed_at.elapsed() < Duration::from_secs(3),
            "{:?}",
            killed_at.elapsed()
        );
        assert_eq!(secure.sps.pid("sps-proxy"), proxy);
    });
}

/// A daemon that hangs is as good as dead: who wants TLS of it is told in time, the rest goes on.
#[test]
fn hung_it_holds_up_nobody_but_tls() {
    bounded(|| {
        let options = Options::new().section("[proxy]\nconnect_timeout_ms = 500\n");
        let secure = Secure::start_with(options, "");
        let callee = Uas::answering(V4);
        secure.sps.register("bob", callee.uri(), "1.0");
        let nobody = free_addr(V4);
        secure
            .sps
            .register("carol", &format!("sip:carol@{nobody};transport=tls"), "1.0");
        let pid = secure.sps.pid("sps-tls");
        send_signal(pid, Signal::SIGSTOP);
        let mut caller = Agent::udp(V4);
        let options = caller.request("OPTIONS", &secure.sps.uri("carol"));
        let asked_at = Instant::now();
        let refused = caller.ask(secure.sps.addr(), &options);
        assert!(matches!(refused.status(), Some(500..600)), "{refused}");
        assert!(asked_at.elapsed() < Duration::from_secs(4), "{:?}", asked_at.elapsed());
        call(&mut caller, secure.sps.addr(), &secure.sps.uri("bob"));
        // The master ends it for its silence.
        wait_until("another one has its job", || {
            let daemon = secure.sps.daemon("sps-tls");
            daemon["state"] == "up" && daemon["pid"].as_u64() != Some(u64::from(pid))
        });
        call(&mut secure.agent("phone.test"), secure.tls, &secure.sps.uri("bob"));
    });
}

/// Handshakes that are begun and not gone on with keep nobody out.
#[test]
fn five_hundred_that_say_nothing_keep_nobody_out() {
    bounded(|| {
        let secure = Secure::start("max_handshakes = 100\nhandshake_timeout_ms = 2000");
        let callee = Uas::answering(V4);
        secure.sps.register("bob", callee.uri(), "1.0");
        let mut silent: Vec<_> = (0..500).map(|_| TcpStream::connect(secure.tls).unwrap()).collect();
        // Half of them begin a record.
        for stream in silent.iter_mut().step_by(2) {
            let _ = stream.write_all(&[22, 3, 1]);
        }
        let asked_at = Instant::now();
        let mut caller = secure.agent("phone.test");
        call(&mut caller, secure.tls, &secure.sps.uri("bob"));
        assert!(asked_at.elapsed() < Duration::from_secs(2), "{:?}", asked_at.elapsed());
        assert!(secure.figure("handshakes_evicted") >= 400);
        // None is left when the time is over.
        for stream in &mut silent {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut rest = [0; 64];
            // The end, or an alert before it, or a reset.
            let _ = stream.read(&mut rest);
        }
        secure.wait_error(&["handshakes at once"]);
        assert_eq!(secure.sps.daemon("sps-tls")["restarts"], 0);
    });
}

/// RFC 5630 §5.2, §5.3
#[test]
fn sips_means_tls_all_the_way() {
    bounded(|| {
        let secure = Secure::start("");
        let plain = Uas::answering(V4);
        secure.sps.register("plain", plain.uri(), "1.0");
        let own = secure.authority.issue(&Wanted::new().ip(V4));
        let agent = Agent::tls(V4, secure.end(&own, false));
        let contact = format!("sips:carol@{}", agent.addr());
        let callee = Uas::answering_as(agent, "callee");
        secure.sps.register("carol", &contact, "1.0");

        let mut caller = secure.agent("phone.test");
        let (_, answer) = call(&mut caller, secure.tls, "sips:carol@sps.test");
        let invite = callee.wait_for("INVITE", 1);
        assert_eq!(invite.uri(), Some(contact.as_str()));
        assert!(
            answer
                .values("Record-Route")
                .iter()
                .all(|route| route.starts_with("<sips:")),
            "{answer}"
        );
        callee.wait_for("BYE", 1);
        // A contact that is only sip: not by any way.
        let invite = caller.request("INVITE", "sips:plain@sps.test");
        let refused = caller.ask(secure.tls, &invite);
        assert_eq!(refused.status(), Some(480));
        assert!(refused.must("Warning").contains("380"), "{refused}");
        assert!(plain.seen().is_empty());
        // A sip call to who registered by sips: by TLS, and called sip.
        let mut udp = Agent::udp(V4);
        let options = udp.request("OPTIONS", "sip:carol@sps.test");
        assert_eq!(udp.ask(secure.sps.addr(), &options).status(), Some(200));
        let options = callee.wait_for("OPTIONS", 1);
        assert!(options.uri().is_some_and(|uri| uri.starts_with("sip:")) && options.must("Via").contains("/TLS "));
        // A secure contact is not bound to a way that is not.
        for (uri, status) in [("sip:sps.test", 400), ("sips:sps.test", 200)] {
            let register = caller
                .request("REGISTER", uri)
                .set("To", "<sip:dave@sps.test>")
                .set("Contact", "<sips:dave@phone.test>");
            assert_eq!(caller.ask(secure.tls, &register).status(), Some(status), "{uri}");
        }
    });
}

/// TLS-05: a certificate that nobody but itself signed, made as everybody makes it, is good where it is listed.
#[test]
fn a_self_signed_certificate_is_believed_where_it_is_listed() {
    need!("openssl");
    bounded(|| {
        let secure = Secure::start("");
        let (certificate, key) = (secure.file("self.pem"), secure.file("self.key"));
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
        ]);
        command.args(["-subj", "/CN=x", "-addext", "subjectAltName=DNS:localhost"]);
        command.args(["-keyout", &key, "-out", &certificate]);
        run_command(PATIENCE, command).ok();
        let own = Issued {
            certificate: fs::read_to_string(&certificate).unwrap(),
            key: fs::read_to_string(&key).unwrap(),
        };
        let agent = Agent::tls(V4, secure.end(&own, false));
        let contact = format!("sip:uas@localhost:{};transport=tls", agent.addr().port());
        let _callee = Uas::answering_as(agent, "callee");
        secure.sps.register("bob", &contact, "1.0");
        let mut caller = Agent::udp(V4);
        let mut ask = || {
            let options = caller.request("OPTIONS", &secure.sps.uri("bob"));
            caller.ask(secure.sps.addr(), &options).status()
        };
        assert_ne!(ask(), Some(200));
        let mut listed = fs::OpenOptions::new().append(true).open(secure.file("ca.pem")).unwrap();
        listed.write_all(own.certificate.as_bytes()).unwrap();
        secure.sps.spsctl(&["reload"]).ok();
        assert_eq!(ask(), Some(200));
    });
}

/// TLS-01: a foreign proxy as server and as client, certificates demanded and shown both ways.
#[test]
fn a_call_by_way_of_kamailio_both_hops_over_tls() {
    need!("kamailio");
    if !kamailio::has_tls() {
        skip!("kamailio-tls: not installed");
    }
    bounded(|| {
        // Kamailio's Via names its address; so does its certificate.
        let secure = Secure::start("client_certificate = \"require\"");
        let folder = secure.folder.path();
        let everywhere = Wanted::new().dns("sps.test").ip(V4);
        secure.authority.issue(&everywhere).write(folder, "own");
        secure.sps.spsctl(&["reload"]).ok();
        let (certificate, key) = secure.authority.issue(&Wanted::new().ip(V4)).write(folder, "kamailio");
        let callee = Uas::answering(V4);
        secure.sps.register("bob", callee.uri(), "1.0");
        let bob = secure.sps.uri("bob");
        let peer = Kamailio::start_tls(
            folder,
            V4,
            secure.tls,
            &bob,
            [&certificate, &key, &folder.join("ca.pem")],
        );
        let contact = format!("sip:way@{};transport=tls", peer.addr());
        secure.sps.register("way", &contact, "1.0");
        let mut caller = Agent::udp(V4);
        let (_, answer) = call(&mut caller, secure.sps.addr(), &secure.sps.uri("way"));
        let bye = callee.wait_for("BYE", 1);
        let hops = bye.values("Via");
        assert_eq!(hops.iter().filter(|via| via.contains("/TLS ")).count(), 2, "{bye}");
        assert_eq!(answer.values("Record-Route").len(), 5, "{answer}");
        let said = secure.sps.spsctl(&["tls", "peers"]).ok();
        assert!(said.stdout.contains("127.0.0.1"), "{}", said.stdout);
        assert!(secure.figure("accepted") >= 1 && secure.figure("connected") >= 1);
    });
}

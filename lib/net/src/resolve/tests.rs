//! The resolver against a toy name server and against a source of addresses held in the hand.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use sps_wire::flow::Transport;
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use super::dns::{Addresses, LookUp};
use super::toy::{Mode, Toy};
use super::{DnsConf, Resolve, ResolveError, Resolver, numeric};

const LONG: Duration = Duration::from_secs(20);

async fn local<T>(test: impl Future<Output = T>) -> T {
    timeout(LONG, LocalSet::new().run_until(test)).await.unwrap()
}

fn conf(toy: &Toy) -> DnsConf {
    DnsConf {
        servers: vec![toy.addr],
        timeout: Duration::from_millis(200),
        attempts: 0,
        ..DnsConf::default()
    }
}

async fn addrs(resolver: &Resolver, host: &str) -> Result<Vec<String>, ResolveError> {
    let found = resolver.resolve(host, None, None).await?;
    Ok(found.iter().map(|destination| destination.addr.to_string()).collect())
}

#[tokio::test]
async fn numeric_hosts_are_not_looked_up() {
    local(async {
        let resolver = Resolver::new(&DnsConf::default());
        for (host, port, transport, expected) in [
            ("192.0.2.1", None, None, "192.0.2.1:5060"),
            ("192.0.2.1", Some(5070), Some(Transport::Tcp), "192.0.2.1:5070"),
            ("[2001:db8::1]", None, Some(Transport::Tls), "[2001:db8::1]:5061"),
            ("2001:db8::1", None, None, "[2001:db8::1]:5060"),
        ] {
            let found = resolver.resolve(host, port, transport).await.unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].addr.to_string(), expected);
            assert_eq!(found[0].transport, transport.unwrap_or(Transport::Udp));
        }
        assert_eq!(resolver.counters().lookups, 0);
        assert_eq!(numeric("[192.0.2.1]", None, None), None);
        assert_eq!(numeric("example.com", None, None), None);
    })
    .await;
}

#[tokio::test]
async fn a_name_gives_its_addresses_of_both_families() {
    local(async {
        let toy = Toy::start().await;
        toy.add("gw.example.com", &["192.0.2.1", "2001:db8::1", "192.0.2.2"]);
        let resolver = Resolver::new(&conf(&toy));
        let found = resolver
            .resolve("GW.Example.com", Some(5071), Some(Transport::Tls))
            .await
            .unwrap();
        let addrs: Vec<_> = found.iter().map(|destination| destination.addr.to_string()).collect();
        assert_eq!(addrs, ["192.0.2.1:5071", "192.0.2.2:5071", "[2001:db8::1]:5071"]);
        assert!(
            found
                .iter()
                .all(|destination| destination.tls_name.as_deref() == Some("gw.example.com"))
        );
        let heard = toy.heard.get();
        resolver.resolve("gw.example.com.", None, None).await.unwrap();
        assert_eq!(toy.heard.get(), heard, "answered from the cache");
    })
    .await;
}

#[tokio::test]
async fn only_families_in_use_are_asked_for() {
    local(async {
        let toy = Toy::start().await;
        toy.add("gw.example.com", &["192.0.2.1", "2001:db8::1"]);
        let resolver = Resolver::new(&DnsConf {
            v4: false,
            ..conf(&toy)
        });
        assert_eq!(
            addrs(&resolver, "gw.example.com").await.unwrap(),
            ["[2001:db8::1]:5060"]
        );
        assert_eq!(toy.heard.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn each_failure_has_its_name_and_is_remembered() {
    local(async {
        let toy = Toy::start().await;
        let resolver = Resolver::new(&conf(&toy));
        for (mode, expected) in [
            (Mode::Answer, ResolveError::NotFound),
            (Mode::Fail, ResolveError::ServerFailed),
            (Mode::Silent, ResolveError::Timeout),
        ] {
            toy.mode.set(mode);
            let name = format!("{mode:?}.example.com");
            assert_eq!(addrs(&resolver, &name).await, Err(expected));
            let heard = toy.heard.get();
            assert!(heard > 0);
            assert_eq!(addrs(&resolver, &name).await, Err(expected));
            assert_eq!(toy.heard.get(), heard, "{mode:?}: asked again at once");
        }
        assert_eq!(resolver.counters().failed, 3);
        assert_eq!(resolver.counters().failures_remembered, 3);
        assert_eq!(resolver.counters().in_flight, 0);
    })
    .await;
}

#[tokio::test]
async fn one_family_that_is_never_answered_does_not_hide_the_other() {
    local(async {
        let toy = Toy::start().await;
        toy.add("gw.example.com", &["192.0.2.1"]);
        toy.mode.set(Mode::SilentAboutV6);
        let resolver = Resolver::new(&conf(&toy));
        assert_eq!(addrs(&resolver, "gw.example.com").await.unwrap(), ["192.0.2.1:5060"]);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_there_fails_in_time() {
    local(async {
        // A port that was ours a moment ago: nobody listens there.
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let conf = DnsConf {
            servers: vec![closed],
            total_timeout: Duration::from_millis(500),
            ..DnsConf::default()
        };
        let error = addrs(&Resolver::new(&conf), "gw.example.com").await.unwrap_err();
        assert!(
            matches!(error, ResolveError::ServerFailed | ResolveError::Timeout),
            "{error:?}"
        );
    })
    .await;
}

/// RFC 6761 §6.3 for the name, and a machine without any name server for the rest: nothing hangs.
#[tokio::test]
async fn without_servers_local_names_work_and_others_fail_at_once() {
    local(async {
        let dns = super::dns::Dns::without_servers();
        let resolver = Resolver::with(&DnsConf::default(), Box::new(dns), Box::new(Instant::now));
        let found = addrs(&resolver, "localhost").await.unwrap();
        assert!(found.contains(&"127.0.0.1:5060".to_owned()), "{found:?}");
        assert_eq!(addrs(&resolver, "gw.example.com").await, Err(ResolveError::NoServers));
    })
    .await;
}

type Answer = Result<Vec<IpAddr>, ResolveError>;

/// A name asked for and the way its answer takes.
type Open = (String, oneshot::Sender<Answer>);

/// Answers when the test says so.
#[derive(Clone, Default)]
struct Hand {
    open: Rc<RefCell<Vec<Open>>>,
}

impl LookUp for Hand {
    fn look_up(&self, name: &str) -> Addresses {
        let (answer, answered) = oneshot::channel();
        self.open.borrow_mut().push((name.to_owned(), answer));
        Box::pin(async move { answered.await.unwrap() })
    }
}

impl Hand {
    fn names(&self) -> Vec<String> {
        self.open.borrow().iter().map(|(name, _)| name.clone()).collect()
    }

    fn answer(&self, answer: Answer) {
        self.open.borrow_mut().remove(0).1.send(answer).unwrap();
    }
}

struct Scene {
    hand: Hand,
    now: Rc<Cell<Instant>>,
    resolver: Resolver,
}

fn scene(conf: DnsConf) -> Scene {
    let hand = Hand::default();
    let now = Rc::new(Cell::new(Instant::now()));
    let clock = Rc::clone(&now);
    let resolver = Resolver::with(&conf, Box::new(hand.clone()), Box::new(move || clock.get()));
    Scene { hand, now, resolver }
}

/// Lets every task run until it waits.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn equal_questions_asked_at_once_are_asked_once() {
    local(async {
        let scene = scene(DnsConf::default());
        let asking: Vec<_> = ["a.example", "A.example", "a.example.", "b.example"]
            .map(|host| spawn_local(scene.resolver.resolve(host, None, None)))
            .into();
        settle().await;
        assert_eq!(scene.hand.names(), ["a.example", "b.example"]);
        assert_eq!(scene.resolver.counters().in_flight, 2);
        assert_eq!(scene.resolver.counters().joined, 2);
        // The first asker loses interest; the others still get their answer.
        asking[0].abort();
        scene.hand.answer(Ok(vec!["192.0.2.1".parse().unwrap()]));
        scene.hand.answer(Err(ResolveError::NotFound));
        let mut results = Vec::new();
        for task in asking.into_iter().skip(1) {
            results.push(task.await.unwrap().map(|found| found.len()));
        }
        assert_eq!(results, [Ok(1), Ok(1), Err(ResolveError::NotFound)]);
        assert_eq!(scene.resolver.counters().in_flight, 0);
    })
    .await;
}

#[tokio::test]
async fn lookups_under_way_are_capped() {
    local(async {
        let scene = scene(DnsConf {
            max_in_flight: 1,
            ..DnsConf::default()
        });
        let first = spawn_local(scene.resolver.resolve("a.example", None, None));
        settle().await;
        assert_eq!(
            scene.resolver.resolve("b.example", None, None).await,
            Err(ResolveError::Busy)
        );
        scene.hand.answer(Ok(vec!["192.0.2.1".parse().unwrap()]));
        assert!(first.await.unwrap().is_ok());
        let second = spawn_local(scene.resolver.resolve("b.example", None, None));
        settle().await;
        assert_eq!(scene.hand.names(), ["b.example"], "being busy is not remembered");
        scene.hand.answer(Ok(vec![]));
        assert_eq!(
            second.await.unwrap(),
            Err(ResolveError::NotFound),
            "no address is no host"
        );
    })
    .await;
}

#[tokio::test]
async fn a_failure_is_remembered_for_its_seconds() {
    local(async {
        let scene = scene(DnsConf {
            failure_cache: Duration::from_secs(5),
            ..DnsConf::default()
        });
        let first = spawn_local(scene.resolver.resolve("a.example", None, None));
        settle().await;
        scene.hand.answer(Err(ResolveError::ServerFailed));
        assert_eq!(first.await.unwrap(), Err(ResolveError::ServerFailed));
        scene.now.set(scene.now.get() + Duration::from_millis(4_999));
        assert_eq!(
            scene.resolver.resolve("a.example", None, None).await,
            Err(ResolveError::ServerFailed)
        );
        assert!(scene.hand.names().is_empty());
        scene.now.set(scene.now.get() + Duration::from_millis(1));
        let again = spawn_local(scene.resolver.resolve("a.example", None, None));
        settle().await;
        scene.hand.answer(Ok(vec!["192.0.2.1".parse().unwrap()]));
        assert!(again.await.unwrap().is_ok());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_lookup_ends_whatever_the_servers_do() {
    local(async {
        let scene = scene(DnsConf {
            total_timeout: Duration::from_secs(2),
            ..DnsConf::default()
        });
        let started = tokio::time::Instant::now();
        assert_eq!(
            scene.resolver.resolve("a.example", None, None).await,
            Err(ResolveError::Timeout)
        );
        assert_eq!(started.elapsed(), Duration::from_secs(2));
        assert_eq!(scene.resolver.counters().in_flight, 0);
    })
    .await;
}

//! Streams over in-memory pipes with the clock in the hand, and over TCP on the loopback where the kernel's part matters.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use sps_wire::flow::{Destination, Flow, Transport};
use sps_wire::frame::FrameError;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio::time::{Instant, advance, timeout};

use super::{CloseReason, SendError, StreamConf, StreamEvent, StreamEvents, Streams};

const LONG: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

fn conf() -> StreamConf {
    StreamConf {
        worker: 2,
        idle_timeout: 60 * SECOND,
        header_timeout: 5 * SECOND,
        connect_timeout: 3 * SECOND,
        write_timeout: 32 * SECOND,
        first_message_timeout: 3600 * SECOND,
        ..StreamConf::default()
    }
}

async fn local<T>(test: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(test).await
}

/// Lets every task run until it waits.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn message(body: &str) -> Vec<u8> {
    let len = body.len();
    format!(
        "MESSAGE sip:bob@example.com SIP/2.0\r\n\
         Via: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK1\r\n\
         Call-ID: {len}@example.com\r\n\
         Content-Length: {len}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The worker's end of a test.
struct Worker {
    streams: Streams,
    events: StreamEvents,
    heard: std::collections::VecDeque<StreamEvent>,
}

impl Worker {
    fn new(conf: StreamConf) -> Worker {
        let (streams, events) = Streams::new(conf);
        Worker {
            streams,
            events,
            heard: Default::default(),
        }
    }

    /// A worker with one pipe of `len` bytes each way; the `Opened` event is taken already.
    async fn piped(conf: StreamConf, len: usize) -> (Worker, DuplexStream, Flow) {
        let mut worker = Worker::new(conf);
        let (ours, theirs) = duplex(len);
        let flow = worker
            .streams
            .adopt(ours, Transport::Tcp, addr("127.0.0.1:5060"), addr("127.0.0.9:40000"))
            .unwrap();
        assert_eq!(worker.opened().await, (flow, false));
        (worker, theirs, flow)
    }

    /// A worker that listens on TCP.
    fn listening(conf: StreamConf, any: &str) -> (Worker, SocketAddr) {
        let worker = Worker::new(conf);
        let listener = crate::bind::tcp(addr(any), 1, 64).unwrap().remove(0);
        let at = listener.local_addr().unwrap();
        worker.streams.listen(listener).unwrap();
        (worker, at)
    }

    async fn next(&mut self) -> StreamEvent {
        if self.heard.is_empty() {
            let mut events = Vec::new();
            timeout(10 * LONG, self.events.receive(&mut events, 1000))
                .await
                .expect("an event");
            self.heard.extend(events);
        }
        self.heard.pop_front().unwrap()
    }

    async fn opened(&mut self) -> (Flow, bool) {
        match self.next().await {
            StreamEvent::Opened { flow, outgoing } => (flow, outgoing),
            other => panic!("{other:?}"),
        }
    }

    async fn message(&mut self) -> (Flow, Bytes) {
        match self.next().await {
            StreamEvent::Message { flow, bytes } => (flow, bytes),
            other => panic!("{other:?}"),
        }
    }

    async fn closed(&mut self) -> (Flow, CloseReason) {
        match self.next().await {
            StreamEvent::Closed { flow, reason } => (flow, reason),
            other => panic!("{other:?}"),
        }
    }

    async fn send_failed(&mut self) -> (SocketAddr, Vec<u64>, CloseReason) {
        match self.next().await {
            StreamEvent::SendFailed {
                remote, tokens, reason, ..
            } => (remote, tokens, reason),
            other => panic!("{other:?}"),
        }
    }

    fn is_quiet(&mut self) -> bool {
        let mut events = Vec::new();
        self.events.take(&mut events, 1000);
        self.heard.extend(events);
        self.heard.is_empty()
    }
}

fn tcp(addr: SocketAddr) -> Destination {
    Destination {
        transport: Transport::Tcp,
        addr,
        tls_name: None,
    }
}

async fn read(stream: &mut (impl AsyncReadExt + Unpin), len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    timeout(LONG, stream.read_exact(&mut bytes))
        .await
        .expect("bytes in time")
        .unwrap();
    bytes
}

#[tokio::test]
async fn a_message_may_be_cut_anywhere() {
    local(async {
        let whole = message("hello\r\n\r\nworld");
        for cut in 1..whole.len() {
            let (mut worker, mut theirs, flow) = Worker::piped(conf(), 4096).await;
            theirs.write_all(&whole[..cut]).await.unwrap();
            settle().await;
            assert!(worker.is_quiet(), "{cut} bytes are no message");
            theirs.write_all(&whole[cut..]).await.unwrap();
            assert_eq!(worker.message().await, (flow, Bytes::from(whole.clone())));
        }
        let (mut worker, mut theirs, _) = Worker::piped(conf(), 4096).await;
        for _ in 0..3 {
            for byte in &whole {
                theirs.write_all(&[*byte]).await.unwrap();
                settle().await;
            }
            assert_eq!(worker.message().await.1, whole);
        }
        assert_eq!(worker.streams.counters().messages_in, 3);
    })
    .await;
}

#[tokio::test]
async fn messages_read_together_are_told_together() {
    local(async {
        let (mut worker, mut theirs, flow) = Worker::piped(conf(), 1 << 16).await;
        let messages: Vec<_> = (0..50).map(|i| message(&"x".repeat(i))).collect();
        let half = message("half");
        let (first, second) = half.split_at(30);
        let bytes = [&messages.concat()[..], b"\r\n", first].concat();
        theirs.write_all(&bytes).await.unwrap();
        let mut events = Vec::new();
        worker.events.receive(&mut events, 1000).await;
        assert_eq!(events.len(), 50);
        for (event, expected) in events.iter().zip(&messages) {
            assert!(matches!(event, StreamEvent::Message { flow: from, bytes } if *from == flow && bytes == expected));
        }
        theirs.write_all(second).await.unwrap();
        assert_eq!(worker.message().await.1, half);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_message_begun_must_be_finished_in_time() {
    local(async {
        let (mut worker, mut theirs, flow) = Worker::piped(conf(), 4096).await;
        // Long silence before a message is no fault, and a whole message clears the first one's time.
        advance(30 * SECOND).await;
        theirs.write_all(&message("")[..20]).await.unwrap();
        settle().await;
        advance(4 * SECOND).await;
        theirs.write_all(&message("")[20..]).await.unwrap();
        worker.message().await;
        let begun = Instant::now();
        // One byte a second, for ever.
        let whole = message("");
        let loris = async {
            for byte in &whole {
                if theirs.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(SECOND).await;
            }
        };
        let ((), closed) = tokio::join!(loris, worker.closed());
        assert_eq!(closed, (flow, CloseReason::HeaderTimeout));
        assert!(begun.elapsed() < 7 * SECOND);
        assert_eq!(worker.streams.counters().header_timeouts, 1);
        assert_eq!(worker.streams.counters().open, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    local(async {
        let (mut worker, mut theirs, flow) = Worker::piped(conf(), 4096).await;
        for _ in 0..3 {
            advance(50 * SECOND).await;
            theirs.write_all(b"\r\n\r\n").await.unwrap();
            assert_eq!(read(&mut theirs, 2).await, b"\r\n");
        }
        advance(50 * SECOND).await;
        worker
            .streams
            .send_on(&flow, Bytes::from_static(b"to them"), 1)
            .unwrap();
        read(&mut theirs, 7).await;
        let from = Instant::now();
        assert!(worker.is_quiet());
        assert_eq!(worker.closed().await, (flow, CloseReason::Idle));
        assert_eq!(from.elapsed(), 60 * SECOND);
        assert_eq!(theirs.read(&mut [0; 9]).await.unwrap(), 0);
        assert_eq!(worker.streams.counters().keepalives, 3);
    })
    .await;
}

/// RFC 5626 §4.4.1: two CRLF are a ping, one CRLF the pong, between messages only.
#[tokio::test]
async fn a_ping_is_answered_between_messages() {
    local(async {
        let (mut worker, mut theirs, flow) = Worker::piped(conf(), 4096).await;
        for byte in b"\r\n\r\n" {
            theirs.write_all(&[*byte]).await.unwrap();
            settle().await;
        }
        assert_eq!(read(&mut theirs, 2).await, b"\r\n");
        let bytes = [&b"\r\n\r\n"[..], &message("\r\n\r\n"), b"\r\n\r\n"].concat();
        theirs.write_all(&bytes).await.unwrap();
        assert_eq!(worker.message().await, (flow, message("\r\n\r\n").into()));
        assert_eq!(read(&mut theirs, 4).await, b"\r\n\r\n");
        // A pong or a stray CRLF is skipped without an answer.
        theirs.write_all(&[&b"\r\n"[..], &message("")].concat()).await.unwrap();
        worker.message().await;
        assert!(timeout(Duration::ZERO, theirs.read(&mut [0; 9])).await.is_err());
        assert_eq!(worker.streams.counters().keepalives, 3);
    })
    .await;
}

/// RFC 3261 §7.5: a lone CRLF, which phones send to keep their NAT open, begins no message that would have to be finished.
#[tokio::test(start_paused = true)]
async fn a_lone_line_end_is_no_message_begun() {
    local(async {
        let (mut worker, mut theirs, flow) = Worker::piped(conf(), 4096).await;
        for begin in [&b"\r\n"[..], b"\r\n\r"] {
            theirs.write_all(begin).await.unwrap();
            settle().await;
            advance(20 * SECOND).await;
            settle().await;
            assert!(worker.is_quiet(), "{begin:?}");
            theirs
                .write_all(&[&b"\r\n"[begin.len() - 2..], &message("")].concat())
                .await
                .unwrap();
            assert_eq!(worker.message().await, (flow, message("").into()));
        }
        // What follows it must be finished in time all the same.
        theirs.write_all(b"\r\nMESSAGE").await.unwrap();
        let begun = Instant::now();
        assert_eq!(worker.closed().await, (flow, CloseReason::HeaderTimeout));
        assert_eq!(begun.elapsed(), 5 * SECOND);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_too_long_can_still_be_answered() {
    local(async {
        let mut conf = conf();
        let whole = message(&"x".repeat(20_000));
        conf.limits.message_len = whole.len();
        let (mut worker, mut theirs, flow) = Worker::piped(conf, 1 << 20).await;
        theirs.write_all(&whole).await.unwrap();
        assert_eq!(worker.message().await.1, whole);
        theirs.write_all(&message(&"x".repeat(20_001))).await.unwrap();
        let StreamEvent::Broken {
            flow: from,
            error: FrameError::TooLong,
            bytes,
        } = worker.next().await
        else {
            panic!("not broken")
        };
        assert_eq!(from, flow);
        assert!(bytes.starts_with(b"MESSAGE sip:bob@example.com SIP/2.0\r\n"));
        theirs.write_all(b"more, which nobody reads").await.unwrap();
        settle().await;
        worker
            .streams
            .send_on(&flow, Bytes::from_static(b"SIP/2.0 513 Message Too Large"), 1)
            .unwrap();
        assert_eq!(read(&mut theirs, 29).await, b"SIP/2.0 513 Message Too Large");
        let from = Instant::now();
        assert_eq!(worker.closed().await, (flow, CloseReason::Broken(FrameError::TooLong)));
        assert!(from.elapsed() <= SECOND);
        assert_eq!(worker.streams.counters().broken, 1);
    })
    .await;
}

#[tokio::test]
async fn closing_a_broken_connection_need_not_wait() {
    local(async {
        let (mut worker, mut theirs, flow) = Worker::piped(conf(), 4096).await;
        theirs.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(matches!(
            worker.next().await,
            StreamEvent::Broken {
                error: FrameError::NotSip,
                ..
            }
        ));
        worker.streams.send_on(&flow, Bytes::from_static(b"bye"), 1).unwrap();
        worker.streams.close(flow.connection);
        assert_eq!(worker.closed().await, (flow, CloseReason::Broken(FrameError::NotSip)));
        assert_eq!(read(&mut theirs, 3).await, b"bye");
        assert_eq!(theirs.read(&mut [0; 9]).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_behind_is_not_flooded() {
    local(async {
        let conf = StreamConf {
            event_queue: 8,
            ..conf()
        };
        let (mut worker, theirs, _) = Worker::piped(conf, 4 * message("0123").len()).await;
        let (mut their_read, mut their_write) = tokio::io::split(theirs);
        let flood = tokio::task::spawn_local(async move {
            for i in 0..1_000 {
                their_write.write_all(&message(&format!("{i:04}"))).await.unwrap();
            }
        });
        settle().await;
        // Stopped for long; neither the half message in the pipe nor the silence is held against the peer.
        advance(600 * SECOND).await;
        settle().await;
        let mut events = Vec::new();
        let waiting = worker.events.take(&mut events, 1000);
        assert!((8..=12).contains(&waiting), "{waiting} waiting");
        assert!(!flood.is_finished());
        while events.len() < 1_000 {
            worker.events.receive(&mut events, 3).await;
        }
        for (i, event) in events.iter().enumerate() {
            let StreamEvent::Message { bytes, .. } = event else {
                panic!("{event:?}")
            };
            assert!(bytes.ends_with(format!("{i:04}").as_bytes()), "{i}");
        }
        flood.await.unwrap();
        assert!(
            timeout(Duration::ZERO, their_read.read(&mut [0; 1])).await.is_err(),
            "still open"
        );
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_is_behind_accepts_nobody() {
    local(async {
        let (mut worker, at) = Worker::listening(
            StreamConf {
                event_queue: 4,
                ..conf()
            },
            "127.0.0.1:0",
        );
        let mut peers = Vec::new();
        for _ in 0..8 {
            peers.push(TcpStream::connect(at).await.unwrap());
        }
        while worker.streams.counters().open < 4 {
            tokio::task::yield_now().await;
        }
        settle().await;
        assert_eq!(worker.streams.counters().open, 4);
        for _ in 0..8 {
            worker.opened().await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_given_up() {
    local(async {
        let (mut worker, mut theirs, flow) = Worker::piped(conf(), 100).await;
        for token in 1..=4 {
            worker
                .streams
                .send_on(&flow, Bytes::from(vec![b'x'; 80]), token)
                .unwrap();
        }
        settle().await;
        advance(20 * SECOND).await;
        // A little progress starts its time anew.
        read(&mut theirs, 80).await;
        settle().await;
        let from = Instant::now();
        let reason = CloseReason::WriteTimeout;
        assert_eq!(worker.send_failed().await, (flow.remote, vec![3, 4], reason));
        assert_eq!(worker.closed().await, (flow, reason));
        assert_eq!(from.elapsed(), 32 * SECOND);
        let counters = worker.streams.counters();
        assert_eq!(
            (counters.messages_out, counters.messages_lost, counters.write_timeouts),
            (2, 2, 1)
        );
        assert_eq!(
            worker.streams.send_on(&flow, Bytes::new(), 5),
            Err(SendError::NoConnection)
        );
    })
    .await;
}

#[tokio::test]
async fn what_a_lost_connection_had_queued_is_told_by_token() {
    local(async {
        let (mut worker, theirs, flow) = Worker::piped(conf(), 100).await;
        for token in 1..=3 {
            worker
                .streams
                .send_on(&flow, Bytes::from(vec![b'x'; 80]), token)
                .unwrap();
        }
        settle().await;
        drop(theirs);
        let (_, tokens, _) = worker.send_failed().await;
        assert_eq!(
            tokens,
            [2, 3],
            "the first fitted into the pipe, the second only in part"
        );
        assert_eq!(worker.closed().await.0, flow);
    })
    .await;
}

#[tokio::test]
async fn a_write_queue_is_bounded() {
    local(async {
        let conf = StreamConf {
            write_queue_len: 100,
            ..conf()
        };
        let (mut worker, mut theirs, flow) = Worker::piped(conf, 10).await;
        let sent: Vec<_> = (0..4)
            .map(|token| worker.streams.send_on(&flow, Bytes::from(vec![b'x'; 40]), token))
            .collect();
        assert_eq!(
            sent,
            [Ok(()), Ok(()), Err(SendError::QueueFull), Err(SendError::QueueFull)]
        );
        assert_eq!(worker.streams.counters().queue_full, 2);
        assert_eq!(read(&mut theirs, 80).await, [b'x'; 80]);
        worker.streams.send_on(&flow, Bytes::from_static(b"again"), 5).unwrap();
        assert_eq!(read(&mut theirs, 5).await, b"again");
        assert!(worker.is_quiet());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn closing_writes_what_is_queued_but_does_not_wait_for_ever() {
    local(async {
        let (mut worker, mut theirs, flow) = Worker::piped(conf(), 100).await;
        worker.streams.send_on(&flow, Bytes::from(vec![b'x'; 150]), 1).unwrap();
        worker.streams.close(flow.connection);
        assert!(!worker.streams.is_open(flow.connection));
        assert_eq!(
            worker.streams.send_on(&flow, Bytes::new(), 2),
            Err(SendError::NoConnection)
        );
        assert_eq!(read(&mut theirs, 150).await, [b'x'; 150]);
        assert_eq!(worker.closed().await, (flow, CloseReason::Ours));

        let (mut worker, _theirs, flow) = Worker::piped(conf(), 100).await;
        worker.streams.send_on(&flow, Bytes::from(vec![b'x'; 150]), 7).unwrap();
        worker.streams.close_all();
        let from = Instant::now();
        assert_eq!(worker.send_failed().await.1, [7]);
        assert_eq!(worker.closed().await, (flow, CloseReason::Ours));
        assert_eq!(from.elapsed(), SECOND);
    })
    .await;
}

#[tokio::test]
async fn tcp_both_ways_over_both_families() {
    local(async {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let mut left = Worker::new(conf());
            let (mut right, right_addr) = Worker::listening(StreamConf { worker: 5, ..conf() }, any);
            let question = Bytes::from(message("question"));
            let id = left
                .streams
                .send_to(&tcp(right_addr), None, question.clone(), 1)
                .unwrap();
            assert_eq!(super::worker_of(id), 2);
            let (left_flow, outgoing) = left.opened().await;
            assert!(outgoing);
            assert_eq!((left_flow.connection, left_flow.remote), (id, right_addr));
            let (right_flow, outgoing) = right.opened().await;
            assert!(!outgoing);
            assert_eq!(
                (right_flow.local, right_flow.remote),
                (left_flow.remote, left_flow.local)
            );
            assert_eq!(right.message().await, (right_flow, question));
            // Back by the flow, and back by the address it came from: the same connection.
            right.streams.send_on(&right_flow, message("answer").into(), 2).unwrap();
            let same = right
                .streams
                .send_to(&tcp(right_flow.remote), None, message("more").into(), 3)
                .unwrap();
            assert_eq!(same, right_flow.connection);
            assert_eq!(left.message().await, (left_flow, message("answer").into()));
            assert_eq!(left.message().await.1, message("more"));
            // And a second message there reuses it as well.
            assert_eq!(
                left.streams.send_to(&tcp(right_addr), None, message("again").into(), 4),
                Ok(id)
            );
            assert_eq!(right.message().await.1, message("again"));
            left.streams.close(id);
            assert_eq!(left.closed().await, (left_flow, CloseReason::Ours));
            assert_eq!(right.closed().await, (right_flow, CloseReason::Peer));
            assert!(!right.streams.is_open(right_flow.connection));
            assert_eq!(
                right.streams.send_on(&right_flow, Bytes::new(), 5),
                Err(SendError::NoConnection)
            );
            let other = left
                .streams
                .send_to(&tcp(right_addr), None, message("new").into(), 6)
                .unwrap();
            assert!(other > id, "ids are never used again");
        }
    })
    .await;
}

#[tokio::test]
async fn flows_name_the_addresses_in_use() {
    local(async {
        let (mut worker, at) = Worker::listening(conf(), "0.0.0.0:0");
        let asked = SocketAddr::from(([127, 0, 0, 2], at.port()));
        let peer = TcpStream::connect(asked).await.unwrap();
        let (flow, _) = worker.opened().await;
        assert_eq!((flow.local, flow.remote), (asked, peer.local_addr().unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let source = Some("127.0.0.3".parse().unwrap());
        worker
            .streams
            .send_to(&tcp(listener.local_addr().unwrap()), source, message("").into(), 1)
            .unwrap();
        let (_peer, remote) = timeout(LONG, listener.accept()).await.unwrap().unwrap();
        assert_eq!(Some(remote.ip()), source);
        assert_eq!(worker.opened().await.0.local, remote);
    })
    .await;
}

#[tokio::test]
async fn connections_are_capped_in_all_and_for_each_source() {
    local(async {
        let conf = StreamConf {
            max_connections: 8,
            max_connections_per_source: 3,
            ..conf()
        };
        let (mut worker, at) = Worker::listening(conf, "127.0.0.1:0");
        let mut open = Vec::new();
        for source in ["127.0.0.1", "127.0.0.2", "127.0.0.3"] {
            for i in 0..4 {
                let socket = tokio::net::TcpSocket::new_v4().unwrap();
                socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
                let mut peer = socket.connect(at).await.unwrap();
                let expected = if source == "127.0.0.3" { 1 } else { 3 };
                if i < expected {
                    worker.opened().await;
                    open.push(peer);
                } else {
                    let end = timeout(LONG, peer.read(&mut [0; 1])).await.unwrap();
                    assert!(matches!(end, Ok(0) | Err(_)), "{source} {i}");
                }
            }
        }
        let counters = worker.streams.counters();
        assert_eq!(
            (counters.open, counters.refused_source, counters.refused_total),
            (7, 2, 3)
        );
        // One gone makes room for one.
        drop(open.remove(0));
        assert_eq!(worker.closed().await.1, CloseReason::Peer);
        let _peer = TcpStream::connect(at).await.unwrap();
        worker.opened().await;
    })
    .await;
}

#[tokio::test]
async fn a_refused_connection_gives_every_message_back() {
    local(async {
        let closed = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let mut worker = Worker::new(conf());
        let ids: Vec<_> = (1..=3)
            .map(|token| {
                worker
                    .streams
                    .send_to(&tcp(closed), None, message("").into(), token)
                    .unwrap()
            })
            .collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "all wait for one connection");
        assert_eq!(worker.streams.counters().connecting, 1);
        let reason = CloseReason::ConnectFailed(ErrorKind::ConnectionRefused);
        assert_eq!(worker.send_failed().await, (closed, vec![1, 2, 3], reason));
        settle().await;
        assert!(worker.is_quiet(), "what was never open is not closed");
        let counters = worker.streams.counters();
        assert_eq!((counters.connecting, counters.open, counters.connect_failed), (0, 0, 1));
    })
    .await;
}

/// A listener that accepts nobody and whose queue is full lets the next one wait.
#[tokio::test]
async fn a_connection_that_is_not_answered_is_given_up() {
    let listener = crate::bind::tcp(addr("127.0.0.1:0"), 1, 0).unwrap().remove(0);
    let at = listener.local_addr().unwrap();
    let mut fill = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&at, Duration::from_millis(300)) {
        fill.push(stream);
        assert!(fill.len() < 100, "the queue never fills");
    }
    local(async {
        let mut worker = Worker::new(conf());
        // Nothing else goes on: the clock jumps to the deadline.
        tokio::time::pause();
        let from = Instant::now();
        worker.streams.send_to(&tcp(at), None, message("").into(), 9).unwrap();
        assert_eq!(worker.send_failed().await, (at, vec![9], CloseReason::ConnectTimeout));
        assert!(from.elapsed() >= 3 * SECOND && from.elapsed() < 4 * SECOND);
    })
    .await;
}

#[tokio::test]
async fn streams_alone_are_spoken_here() {
    local(async {
        let worker = Worker::new(conf());
        for transport in [Transport::Udp, Transport::Tls] {
            let destination = Destination {
                transport,
                addr: addr("127.0.0.1:9"),
                tls_name: None,
            };
            let sent = worker.streams.send_to(&destination, None, Bytes::new(), 1);
            assert_eq!(sent, Err(SendError::NoTransport));
        }
        assert_eq!(worker.streams.counters().connecting, 0);
    })
    .await;
}

#[tokio::test]
async fn after_close_all_nobody_is_accepted() {
    local(async {
        let (mut worker, at) = Worker::listening(conf(), "127.0.0.1:0");
        let mut peer = TcpStream::connect(at).await.unwrap();
        let (flow, _) = worker.opened().await;
        worker.streams.close_all();
        assert_eq!(worker.closed().await, (flow, CloseReason::Ours));
        assert_eq!(timeout(LONG, peer.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
        settle().await;
        assert_eq!(
            TcpStream::connect(at).await.unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
    })
    .await;
}

#[tokio::test]
async fn great_and_many_messages_cross_tcp_whole() {
    local(async {
        let (mut left, _) = Worker::listening(conf(), "127.0.0.1:0");
        let (mut right, right_addr) = Worker::listening(conf(), "127.0.0.1:0");
        let bodies: Vec<String> = (0..200).map(|i| "y".repeat((i * 7919) % 64_000)).collect();
        let mut sent = bodies.iter().peekable();
        let mut token = 0;
        let (flow, _) = {
            left.streams
                .send_to(&tcp(right_addr), None, message(sent.next().unwrap()).into(), 0)
                .unwrap();
            left.opened().await
        };
        right.opened().await;
        for body in &bodies {
            while let Some(next) = sent.peek() {
                token += 1;
                match left.streams.send_on(&flow, message(next).into(), token) {
                    Ok(()) => _ = sent.next(),
                    Err(SendError::QueueFull) => break,
                    Err(other) => panic!("{other}"),
                }
            }
            assert_eq!(right.message().await.1, message(body));
        }
        assert!(left.is_quiet());
        assert_eq!(left.streams.counters().messages_out, 200);
    })
    .await;
}

/// Line ends keep a connection alive once it has brought a message; before that they do not.
#[tokio::test(start_paused = true)]
async fn a_connection_that_never_brings_a_message_is_closed() {
    local(async {
        let conf = StreamConf {
            first_message_timeout: 30 * SECOND,
            ..conf()
        };
        let (mut worker, mut theirs, flow) = Worker::piped(conf.clone(), 4096).await;
        let begun = Instant::now();
        for _ in 0..2 {
            theirs.write_all(b"\r\n\r\n").await.unwrap();
            advance(14 * SECOND).await;
            settle().await;
        }
        assert_eq!(worker.closed().await, (flow, CloseReason::Idle));
        assert_eq!(begun.elapsed(), 30 * SECOND);
        let (mut worker, mut theirs, _) = Worker::piped(conf, 4096).await;
        theirs.write_all(&message("")).await.unwrap();
        worker.message().await;
        advance(50 * SECOND).await;
        settle().await;
        assert!(worker.is_quiet());
    })
    .await;
}

/// Slow writers: what all of them together have begun is bounded, and given back.
#[tokio::test(start_paused = true)]
async fn what_connections_hold_together_is_bounded() {
    local(async {
        let conf = StreamConf {
            buffered_len: 10_000,
            ..conf()
        };
        let mut worker = Worker::new(conf);
        let mut ends = Vec::new();
        for port in 0..10 {
            let (ours, theirs) = duplex(8192);
            let remote = SocketAddr::from(([127, 0, 0, 9], 40_000 + port));
            worker
                .streams
                .adopt(ours, Transport::Tcp, addr("127.0.0.1:5060"), remote)
                .unwrap();
            worker.opened().await;
            ends.push(theirs);
        }
        let begun = message(&"x".repeat(5_000));
        for end in &mut ends {
            end.write_all(&begun[..3_000]).await.unwrap();
            settle().await;
        }
        for _ in 0..7 {
            assert_eq!(worker.closed().await.1, CloseReason::Crowded);
        }
        assert!(worker.is_quiet());
        assert_eq!(worker.streams.counters().buffered_len, 9_000);
        assert_eq!(worker.streams.counters().buffers_full, 7);
        ends[0].write_all(&begun[3_000..]).await.unwrap();
        assert_eq!(worker.message().await.1.len(), begun.len());
        drop(ends);
        settle().await;
        assert_eq!(worker.streams.counters().buffered_len, 0, "all is given back");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_is_not_welcome_is_turned_away_and_put_out() {
    local(async {
        let (mut worker, _theirs, flow) = Worker::piped(conf(), 4096).await;
        worker
            .streams
            .set_gate(Box::new(|source| match source.to_string().as_str() {
                "127.0.0.6" => super::Welcome::No,
                _ => super::Welcome::Stranger,
            }));
        let (ours, _other) = duplex(10);
        let refused = worker
            .streams
            .adopt(ours, Transport::Tcp, addr("127.0.0.1:5060"), addr("127.0.0.6:1"));
        assert_eq!(refused.unwrap_err(), SendError::Unwelcome);
        assert_eq!(worker.streams.close_unwelcome(|source| source == flow.remote.ip()), 1);
        assert_eq!(worker.closed().await, (flow, CloseReason::Ours));
        assert_eq!(worker.streams.counters().refused_unwelcome, 1);
    })
    .await;
}

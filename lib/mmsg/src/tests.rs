//! Batches over the loopback, both families, and the kernel's ways of saying no.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::options::{self, Family};
use crate::{BATCH, Outgoing, Receiver, SLOT_LEN, Sender, Trouble, errors};

fn bound(addr: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(addr).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

/// Waits until the kernel reports one of `events` (or an error) on the socket.
fn wait(socket: impl AsFd, events: i16) {
    let mut poll = libc::pollfd {
        fd: socket.as_fd().as_raw_fd(),
        events,
        revents: 0,
    };
    // SAFETY: one valid pollfd, alive during the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 5_000) };
    assert_eq!(ready, 1, "nothing within five seconds");
}

/// Receives until `count` datagrams are in.
fn collect(receiver: &mut Receiver, socket: &UdpSocket, count: usize) -> Vec<(Vec<u8>, SocketAddr)> {
    let mut found = Vec::new();
    while found.len() < count {
        wait(socket, libc::POLLIN);
        receiver.receive(socket.as_fd()).unwrap();
        found.extend(
            receiver
                .datagrams()
                .map(|datagram| (datagram.bytes.to_vec(), datagram.remote)),
        );
    }
    found
}

fn flush_all(sender: &mut Sender<Vec<u8>>, socket: &UdpSocket) {
    let count = sender.len();
    let flushed = sender.flush(socket.as_fd(), |trouble| panic!("{trouble:?}"));
    assert_eq!(flushed.sent, count);
    assert!(sender.is_empty());
}

fn outgoing(remote: SocketAddr, bytes: impl Into<Vec<u8>>, token: u64) -> Outgoing<Vec<u8>> {
    Outgoing {
        remote,
        source: None,
        bytes: bytes.into(),
        token,
    }
}

#[test]
fn batches_arrive_whole_and_in_order() {
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let ((ours, our_addr), (theirs, their_addr)) = (bound(any), bound(any));
        let mut sender = Sender::new(BATCH, 100);
        for i in 0..100_u8 {
            sender
                .push(outgoing(their_addr, vec![i; usize::from(i) * 10], u64::from(i)))
                .unwrap();
        }
        flush_all(&mut sender, &ours);
        let mut receiver = Receiver::new(BATCH, SLOT_LEN);
        let found = collect(&mut receiver, &theirs, 100);
        for (i, (bytes, remote)) in found.iter().enumerate() {
            assert_eq!(*bytes, vec![i as u8; i * 10]);
            assert_eq!(*remote, our_addr);
        }
        assert_eq!(
            receiver.receive(theirs.as_fd()).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        assert_eq!(
            receiver.datagrams().count(),
            0,
            "an empty batch holds nothing of the one before"
        );
    }
}

#[test]
fn the_longest_datagram_arrives_and_a_longer_than_the_slot_says_so() {
    let ((ours, _), (theirs, their_addr)) = (bound("127.0.0.1:0"), bound("127.0.0.1:0"));
    let mut sender = Sender::new(2, 2);
    sender.push(outgoing(their_addr, vec![b'x'; 65_507], 1)).unwrap();
    flush_all(&mut sender, &ours);
    let mut receiver = Receiver::new(2, SLOT_LEN);
    assert_eq!(collect(&mut receiver, &theirs, 1)[0].0, vec![b'x'; 65_507]);

    let mut short = Receiver::new(2, 100);
    sender.push(outgoing(their_addr, vec![b'y'; 101], 2)).unwrap();
    sender.push(outgoing(their_addr, vec![b'z'; 100], 3)).unwrap();
    flush_all(&mut sender, &ours);
    wait(&theirs, libc::POLLIN);
    assert_eq!(short.receive(theirs.as_fd()).unwrap(), 2);
    let cut: Vec<_> = short
        .datagrams()
        .map(|datagram| (datagram.bytes.to_vec(), datagram.truncated))
        .collect();
    assert_eq!(cut, [(vec![b'y'; 100], true), (vec![b'z'; 100], false)]);
}

/// On a wildcard address an answer leaves from the address the question came to (RFC 3261 §18.2.2, RFC 3581 §4).
#[test]
fn a_wildcard_socket_knows_and_chooses_its_address() {
    for (wildcard, family, addresses) in [
        ("0.0.0.0:0", Family::V4, &["127.0.0.2", "127.9.8.7"][..]),
        ("[::]:0", Family::V6, &["::1"][..]),
    ] {
        let (ours, our_addr) = bound(wildcard);
        options::tell_local_address(ours.as_fd(), family).unwrap();
        let mut receiver = Receiver::new(BATCH, SLOT_LEN);
        let mut sender = Sender::new(BATCH, 8);
        for address in addresses {
            let asked: SocketAddr = (address.parse::<std::net::IpAddr>().unwrap(), our_addr.port()).into();
            let (theirs, _) = bound(if family == Family::V4 { "127.0.0.1:0" } else { "[::1]:0" });
            theirs.send_to(b"question", asked).unwrap();
            wait(&ours, libc::POLLIN);
            receiver.receive(ours.as_fd()).unwrap();
            let question = receiver.datagrams().next().unwrap();
            assert_eq!(question.local, Some(asked.ip()));
            let answer = Outgoing {
                source: question.local,
                ..outgoing(question.remote, &b"answer"[..], 1)
            };
            sender.push(answer).unwrap();
            flush_all(&mut sender, &ours);
            theirs
                .set_read_timeout(Some(std::time::Duration::from_secs(5)))
                .unwrap();
            let (len, from) = theirs.recv_from(&mut [0; 100]).unwrap();
            assert_eq!((len, from), (6, asked));
        }
    }
}

#[test]
fn a_refusal_names_the_destination_it_belongs_to() {
    for (any, family) in [("127.0.0.1:0", Family::V4), ("[::1]:0", Family::V6)] {
        let ((ours, _), (theirs, their_addr), (closed, closed_addr)) = (bound(any), bound(any), bound(any));
        drop(closed);
        options::queue_errors(ours.as_fd(), family).unwrap();
        let mut sender = Sender::new(BATCH, 8);
        // Three flushes: the refusal of the first comes before or during the second, which must not be blamed for it.
        let mut refused = Vec::new();
        for (remote, token) in [(closed_addr, 1), (their_addr, 2), (their_addr, 3)] {
            sender.push(outgoing(remote, vec![token as u8], token)).unwrap();
            let flushed = sender.flush(ours.as_fd(), |trouble| match trouble {
                Trouble::Icmp(icmp) => refused.push((icmp.destination, icmp.error.kind())),
                Trouble::Refused(outgoing, error) => panic!("{outgoing:?}: {error}"),
            });
            assert_eq!((flushed.sent, flushed.failed), (1, 0));
        }
        if refused.is_empty() {
            wait(&ours, 0);
            errors::read(ours.as_fd(), |icmp| refused.push((icmp.destination, icmp.error.kind())));
        }
        assert_eq!(refused, [(closed_addr, ErrorKind::ConnectionRefused)]);
        let mut receiver = Receiver::new(BATCH, SLOT_LEN);
        let found: Vec<_> = collect(&mut receiver, &theirs, 2)
            .into_iter()
            .map(|(bytes, _)| bytes)
            .collect();
        assert_eq!(found, [[2], [3]], "nothing else was lost");
    }
}

/// A pending ICMP error also meets the receiving side; after the error queue is read, what has arrived is there.
#[test]
fn a_refusal_does_not_stop_receiving() {
    let ((ours, our_addr), (theirs, _), (closed, closed_addr)) =
        (bound("127.0.0.1:0"), bound("127.0.0.1:0"), bound("127.0.0.1:0"));
    drop(closed);
    options::queue_errors(ours.as_fd(), Family::V4).unwrap();
    ours.send_to(b"?", closed_addr).unwrap();
    theirs.send_to(b"!", our_addr).unwrap();
    wait(&ours, libc::POLLIN);
    let mut receiver = Receiver::new(BATCH, SLOT_LEN);
    let error = receiver.receive(ours.as_fd()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let mut told = Vec::new();
    assert_eq!(
        errors::read(ours.as_fd(), |icmp| told.push((icmp.destination, icmp.offender))),
        1
    );
    assert_eq!(told, [(closed_addr, Some(closed_addr.ip()))]);
    assert_eq!(receiver.receive(ours.as_fd()).unwrap(), 1);
}

#[test]
fn one_impossible_datagram_does_not_hold_up_the_rest() {
    let ((ours, _), (theirs, their_addr)) = (bound("127.0.0.1:0"), bound("127.0.0.1:0"));
    let mut sender = Sender::new(BATCH, 8);
    sender.push(outgoing(their_addr, *b"one", 1)).unwrap();
    sender.push(outgoing(their_addr, vec![0; 65_508], 2)).unwrap();
    sender
        .push(outgoing("[::1]:9".parse().unwrap(), *b"other family", 3))
        .unwrap();
    sender.push(outgoing(their_addr, *b"four", 4)).unwrap();
    let mut refused = Vec::new();
    let flushed = sender.flush(ours.as_fd(), |trouble| match trouble {
        Trouble::Refused(outgoing, error) => refused.push((outgoing.token, error.raw_os_error())),
        Trouble::Icmp(icmp) => panic!("{icmp:?}"),
    });
    assert_eq!((flushed.sent, flushed.failed, flushed.blocked), (2, 2, false));
    assert_eq!(refused, [(2, Some(libc::EMSGSIZE)), (3, Some(libc::EAFNOSUPPORT))]);
    let mut receiver = Receiver::new(BATCH, SLOT_LEN);
    let found: Vec<_> = collect(&mut receiver, &theirs, 2)
        .into_iter()
        .map(|(bytes, _)| bytes)
        .collect();
    assert_eq!(found, [b"one".to_vec(), b"four".to_vec()]);
}

#[test]
fn a_full_queue_refuses_the_newest() {
    let mut sender = Sender::new(BATCH, 2);
    let to: SocketAddr = "127.0.0.1:9".parse().unwrap();
    assert!(sender.push(outgoing(to, *b"1", 1)).is_ok());
    assert!(sender.push(outgoing(to, *b"2", 2)).is_ok());
    assert_eq!(sender.push(outgoing(to, *b"3", 3)).unwrap_err().token, 3);
    assert_eq!(sender.len(), 2);
}

/// Over the loopback a UDP socket never fills its send buffer, so a pair of packet sockets stands in: they ignore the address,
/// keep message boundaries and block when the peer does not read.
#[test]
fn what_the_send_buffer_has_no_room_for_waits_its_turn() {
    let mut pair = [0; 2];
    // SAFETY: room for two descriptors, both taken over right below.
    let made = unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, pair.as_mut_ptr()) };
    assert_eq!(made, 0);
    // SAFETY: fresh descriptors that nobody else owns.
    let [ours, theirs] = pair.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    let to: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let mut sender = Sender::new(BATCH, 1_000);
    for i in 0..1_000_u16 {
        let mut bytes = vec![0; 2_000];
        bytes[..2].copy_from_slice(&i.to_be_bytes());
        sender.push(outgoing(to, bytes, u64::from(i))).unwrap();
    }
    let mut received = Vec::new();
    let mut blocked = 0;
    while received.len() < 1_000 {
        let before = sender.len();
        let flushed = sender.flush(ours.as_fd(), |trouble| panic!("{trouble:?}"));
        assert_eq!(before - sender.len(), flushed.sent, "what is not sent stays");
        assert_eq!(flushed.blocked, !sender.is_empty());
        blocked += usize::from(flushed.blocked);
        for _ in 0..flushed.sent {
            received.push(read_packet(theirs.as_fd()));
        }
    }
    assert!(blocked > 0, "the test never filled the buffer");
    assert_eq!(received, (0..1_000).collect::<Vec<u16>>());
}

fn read_packet(socket: BorrowedFd<'_>) -> u16 {
    let mut bytes = [0_u8; 2_000];
    // SAFETY: the buffer is as long as stated.
    let len = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            bytes.as_mut_ptr().cast(),
            bytes.len(),
            libc::MSG_DONTWAIT,
        )
    };
    assert_eq!(len, 2_000);
    u16::from_be_bytes([bytes[0], bytes[1]])
}

#[test]
fn drops_of_the_kernel_are_counted() {
    let ((ours, _), (theirs, their_addr)) = (bound("127.0.0.1:0"), bound("127.0.0.1:0"));
    options::count_drops(theirs.as_fd()).unwrap();
    let small: libc::c_int = 1;
    // SAFETY: an int as option value, alive during the call.
    let set = unsafe {
        let value = (&raw const small).cast();
        libc::setsockopt(
            theirs.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            value,
            size_of_val(&small) as u32,
        )
    };
    assert_eq!(set, 0);
    let mut receiver = Receiver::new(BATCH, SLOT_LEN);
    let mut sent = 0_u64;
    let mut got = 0_u64;
    // Overflow twice: the second time the counter must add up, not start again.
    for _ in 0..2 {
        for _ in 0..100 {
            ours.send_to(&[0; 500], their_addr).unwrap();
            sent += 1;
        }
        while let Ok(count) = receiver.receive(theirs.as_fd()) {
            got += count as u64;
        }
    }
    // Only a datagram that got through tells what was lost before it.
    ours.send_to(b"how many?", their_addr).unwrap();
    wait(&theirs, libc::POLLIN);
    assert_eq!(receiver.receive(theirs.as_fd()).unwrap(), 1);
    assert!(got < sent);
    assert_eq!(receiver.drops(), sent - got);
}

#[test]
fn both_ends_may_move_to_another_thread() {
    let ((ours, _), (theirs, their_addr)) = (bound("127.0.0.1:0"), bound("127.0.0.1:0"));
    let mut sender = Sender::new(BATCH, 4);
    sender.push(outgoing(their_addr, *b"moved", 1)).unwrap();
    let receiver = Receiver::new(BATCH, SLOT_LEN);
    std::thread::spawn(move || {
        let (mut sender, mut receiver) = (sender, receiver);
        flush_all(&mut sender, &ours);
        assert_eq!(collect(&mut receiver, &theirs, 1)[0].0, b"moved");
    })
    .join()
    .unwrap();
}

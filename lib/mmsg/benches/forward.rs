//! What one datagram costs that only comes in and goes out again, in batches of several sizes and without batches.
//!
//! `cargo bench -p sps-mmsg`. Time is for receiving and sending `n` datagrams of 500 bytes over the loopback, whose delivery to the
//! next socket the sender pays for; filling the input and draining the output are not counted. Divide by `n`, or read the
//! items per second.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use divan::counter::ItemsCount;
use sps_mmsg::{BATCH, Outgoing, Receiver, SLOT_LEN, Sender};

#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

const LEN: usize = 500;
const SIZES: [usize; 4] = [1, 4, 16, 32];

/// A source, the forwarder in the middle, and a sink.
struct Scene {
    source: UdpSocket,
    middle: UdpSocket,
    middle_addr: SocketAddr,
    sink: UdpSocket,
    sink_addr: SocketAddr,
}

impl Scene {
    fn new() -> Scene {
        let open = || {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a loopback port");
            socket.set_nonblocking(true).expect("non-blocking");
            let addr = socket.local_addr().expect("an address");
            (socket, addr)
        };
        let ((source, _), (middle, middle_addr), (sink, sink_addr)) = (open(), open(), open());
        Scene {
            source,
            middle,
            middle_addr,
            sink,
            sink_addr,
        }
    }

    fn fill(&self, count: usize) {
        let mut rest = [0; LEN];
        while self.sink.recv(&mut rest).is_ok() {}
        for _ in 0..count {
            self.source
                .send_to(&[b'x'; LEN], self.middle_addr)
                .expect("room in the loopback");
        }
    }
}

#[divan::bench(args = SIZES)]
fn batched(bencher: divan::Bencher<'_, '_>, count: usize) {
    let scene = Scene::new();
    let mut receiver = Receiver::new(BATCH, SLOT_LEN);
    let mut sender = Sender::new(BATCH, BATCH);
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| scene.fill(count))
        .bench_local_values(|()| {
            let received = receiver.receive(scene.middle.as_fd()).expect("what was sent");
            assert_eq!(received, count);
            for datagram in receiver.datagrams() {
                let mut bytes = [0; LEN];
                bytes.copy_from_slice(datagram.bytes);
                let queued = sender.push(Outgoing {
                    remote: scene.sink_addr,
                    source: None,
                    bytes,
                    token: 0,
                });
                assert!(queued.is_ok());
            }
            let flushed = sender.flush(scene.middle.as_fd(), |trouble| panic!("{trouble:?}"));
            assert_eq!(flushed.sent, count);
        });
}

#[divan::bench(args = SIZES)]
fn one_by_one(bencher: divan::Bencher<'_, '_>, count: usize) {
    let scene = Scene::new();
    let mut bytes = [0; SLOT_LEN];
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| scene.fill(count))
        .bench_local_values(|()| {
            for _ in 0..count {
                let (len, _) = scene.middle.recv_from(&mut bytes).expect("what was sent");
                scene
                    .middle
                    .send_to(&bytes[..len], scene.sink_addr)
                    .expect("room in the loopback");
            }
        });
}

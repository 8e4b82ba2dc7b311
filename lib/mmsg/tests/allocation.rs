//! A steady stream of datagrams costs no allocation.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::UdpSocket;
use std::os::fd::AsFd;

use sps_mmsg::options::{self, Family};
use sps_mmsg::{BATCH, Outgoing, Receiver, SLOT_LEN, Sender};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract, and the block came from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn forwarding_allocates_nothing() {
    let ours = UdpSocket::bind("0.0.0.0:0").unwrap();
    ours.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    options::tell_local_address(ours.as_fd(), Family::V4).unwrap();
    let theirs = UdpSocket::bind("127.0.0.1:0").unwrap();
    theirs.set_nonblocking(true).unwrap();
    let to = std::net::SocketAddr::from(([127, 0, 0, 2], ours.local_addr().unwrap().port()));
    let mut receiver = Receiver::new(BATCH, SLOT_LEN);
    let mut sender = Sender::new(BATCH, 1000);
    let mut forwarded = 0;
    let mut before = 0;
    for round in 0..10 {
        for _ in 0..BATCH {
            theirs.send_to(&[b'x'; 700], to).unwrap();
        }
        ours.peek(&mut []).unwrap();
        if round == 1 {
            before = COUNT.get();
        }
        while let Ok(count) = receiver.receive(ours.as_fd()) {
            for datagram in receiver.datagrams() {
                let outgoing = Outgoing {
                    remote: datagram.remote,
                    source: datagram.local,
                    bytes: &b"answer"[..],
                    token: 1,
                };
                sender.push(outgoing).unwrap();
            }
            assert_eq!(sender.flush(ours.as_fd(), |trouble| panic!("{trouble:?}")).sent, count);
            forwarded += count;
        }
        if round > 0 {
            assert_eq!(COUNT.get(), before, "round {round}");
        }
        while theirs.recv(&mut [0; 10]).is_ok() {}
    }
    assert_eq!(forwarded, 10 * BATCH);
}

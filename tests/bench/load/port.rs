//! A UDP socket with its batches: what arrived, what is to go, and waiting for either of two.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use sps_mmsg::{BATCH, Outgoing, Receiver, Sender};

/// A socket that reads and writes in batches.
pub struct Port {
    socket: UdpSocket,
    receiver: Receiver,
    sender: Sender<Vec<u8>>,
    local: SocketAddr,
}

impl Port {
    /// Binds `addr` (port 0: any).
    pub fn bind(addr: SocketAddr) -> io::Result<Port> {
        let socket = UdpSocket::bind(addr)?;
        socket.set_nonblocking(true)?;
        // A second of traffic may wait; what the kernel refuses beyond its limit is not needed.
        let _ = setsockopt(&socket, sockopt::RcvBuf, &BUFFER_LEN);
        let _ = setsockopt(&socket, sockopt::SndBuf, &BUFFER_LEN);
        let local = socket.local_addr()?;
        Ok(Port {
            socket,
            receiver: Receiver::new(BATCH, SLOT_LEN),
            sender: Sender::new(BATCH, QUEUE),
            local,
        })
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        self.local
    }

    /// Queues a datagram; [`Self::flush`] sends it.
    pub fn send(&mut self, remote: SocketAddr, bytes: Vec<u8>) {
        let refused = self.sender.push(Outgoing {
            remote,
            source: None,
            bytes,
            token: 0,
        });
        assert!(
            refused.is_ok(),
            "the generator has {QUEUE} datagrams waiting: nobody takes them"
        );
    }

    /// Sends what is queued.
    pub fn flush(&mut self) {
        while !self.sender.is_empty() {
            let flushed = self.sender.flush(self.socket.as_fd(), |_| {});
            if flushed.blocked {
                let mut waits = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
                let _ = poll(&mut waits, PollTimeout::from(10_u8));
            }
        }
    }

    /// Reads one batch and hands over each datagram with its sender. Returns how many there were.
    pub fn receive(&mut self, mut on_datagram: impl FnMut(&[u8], SocketAddr)) -> usize {
        match self.receiver.receive(self.socket.as_fd()) {
            Ok(count) => {
                for datagram in self.receiver.datagrams() {
                    on_datagram(datagram.bytes, datagram.remote);
                }
                count
            }
            // Nothing there, or news of an ICMP error, which the next call is free of.
            Err(_) => 0,
        }
    }
}

/// Waits until one of the ports has something to read, at most `limit`.
pub fn wait(ports: &[&Port], limit: Duration) {
    let mut waits: Vec<_> = ports
        .iter()
        .map(|port| PollFd::new(port.socket.as_fd(), PollFlags::POLLIN))
        .collect();
    let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    let _ = poll(&mut waits, limit);
}

const BUFFER_LEN: usize = 8 << 20;
/// Above what any message of the workloads takes.
const SLOT_LEN: usize = 4_096;
const QUEUE: usize = 1 << 20;

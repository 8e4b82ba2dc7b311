//! Many datagrams out: a bounded queue, `sendmmsg`, and the right blame for what fails.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::address::Address;
use crate::control::Control;
use crate::errors::{self, IcmpError};
use crate::receiver::Fixed;

/// One datagram on its way out. `B` is any owner of bytes that always gives the same slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing<B> {
    /// Where to.
    pub remote: SocketAddr,
    /// The local address to leave from; `None` lets the kernel choose. Same family as `remote`.
    pub source: Option<IpAddr>,
    /// The payload.
    pub bytes: B,
    /// Whatever the caller wants to know it by.
    pub token: u64,
}

/// What one flush did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Datagrams the kernel took.
    pub sent: usize,
    /// Datagrams the kernel would not take; each was told.
    pub failed: usize,
    /// Datagrams lost on this machine for want of room in a device's queue: as good as lost in the network.
    pub lost: usize,
    /// ICMP errors met on the way; each was told.
    pub icmp: usize,
    /// The send buffer is full: the rest waits in the queue until the socket is writable.
    pub blocked: bool,
}

/// What goes wrong during a flush.
#[derive(Debug)]
pub enum Trouble<B> {
    /// The kernel would not take this datagram.
    Refused(Outgoing<B>, io::Error),
    /// Somebody complained about a datagram sent earlier.
    Icmp(IcmpError),
}

/// A bounded queue of datagrams and the arrays to send it in batches.
#[derive(Debug)]
pub struct Sender<B> {
    queue: VecDeque<Outgoing<B>>,
    limit: usize,
    addresses: Fixed<Address>,
    controls: Fixed<Control>,
    vectors: Fixed<libc::iovec>,
    headers: Fixed<libc::mmsghdr>,
}

/// How often a datagram is tried again when the error met may be an older one's.
const TRIES: usize = 4;

impl<B: AsRef<[u8]>> Sender<B> {
    /// Makes a queue of at most `limit` datagrams, sent `batch` at a time.
    pub fn new(batch: usize, limit: usize) -> Sender<B> {
        let batch = batch.max(1);
        // SAFETY: all-zero is a valid iovec and a valid mmsghdr: null pointers with zero lengths.
        let (vector, header): (libc::iovec, libc::mmsghdr) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        Sender {
            queue: VecDeque::with_capacity(batch.min(limit)),
            limit,
            addresses: Fixed::from(vec![Address::EMPTY; batch]),
            controls: Fixed::from(vec![Control::EMPTY; batch]),
            vectors: Fixed::from(vec![vector; batch]),
            headers: Fixed::from(vec![header; batch]),
        }
    }

    /// Queues a datagram behind the others.
    ///
    /// # Errors
    /// Gives it back if the queue is full.
    pub fn push(&mut self, outgoing: Outgoing<B>) -> Result<(), Outgoing<B>> {
        if self.queue.len() >= self.limit {
            return Err(outgoing);
        }
        self.queue.push_back(outgoing);
        Ok(())
    }

    /// Datagrams waiting.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many datagrams go with one system call.
    pub fn batch(&self) -> usize {
        self.headers.len()
    }

    /// Sends until the queue is empty or the send buffer full. A datagram that the kernel will not take is told and the rest
    /// goes on.
    pub fn flush(&mut self, socket: BorrowedFd<'_>, mut tell: impl FnMut(Trouble<B>)) -> Flushed {
        let mut flushed = Flushed::default();
        let mut tries = 0;
        while !self.queue.is_empty() {
            let error = match self.send_batch(socket) {
                Ok(sent) => {
                    self.queue.drain(..sent);
                    flushed.sent += sent;
                    tries = 0;
                    continue;
                }
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EAGAIN) => {
                    flushed.blocked = true;
                    break;
                }
                Some(libc::EINTR) => continue,
                _ => {}
            }
            // The error may be an ICMP error about an older datagram, which the socket holds against the next call whatever
            // that sends. Read what is queued and try again before the datagram at the head is blamed.
            tries += 1;
            let read = errors::read(socket, |icmp| tell(Trouble::Icmp(icmp)));
            flushed.icmp += read;
            if tries == 1 || (read > 0 && tries < TRIES) {
                continue;
            }
            tries = 0;
            if let Some(outgoing) = self.queue.pop_front() {
                if error.raw_os_error() == Some(libc::ENOBUFS) {
                    flushed.lost += 1;
                } else {
                    flushed.failed += 1;
                    tell(Trouble::Refused(outgoing, error));
                }
            }
        }
        flushed
    }

    /// One system call for the head of the queue.
    fn send_batch(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let count = self.queue.len().min(self.headers.len());
        for (i, outgoing) in self.queue.iter().take(count).enumerate() {
            let bytes = outgoing.bytes.as_ref();
            self.vectors.as_mut_slice()[i] = libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            };
            let address_len = self.addresses.as_mut_slice()[i].write(&outgoing.remote);
            let control_len = outgoing
                .source
                .as_ref()
                .map_or(0, |source| self.controls.as_mut_slice()[i].write_source(source));
            let (name, vector) = (self.addresses.at(i), self.vectors.at(i));
            let control = if control_len == 0 {
                std::ptr::null_mut()
            } else {
                self.controls.at(i)
            };
            let header = &mut self.headers.as_mut_slice()[i].msg_hdr;
            header.msg_name = name.cast();
            header.msg_namelen = address_len as libc::socklen_t;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_control = control.cast();
            header.msg_controllen = control_len;
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the descriptor is open while borrowed. The first `count` headers were just filled with pointers to arrays
        // owned by `self` and to payloads owned by `self.queue`; none of them changes or moves before the call returns, and
        // the kernel only reads what they point to. A `msghdr` is the first field of an `mmsghdr`.
        let result = unsafe {
            if count == 1 {
                // A lone datagram goes cheaper by itself.
                let len = libc::sendmsg(socket.as_raw_fd(), self.headers.at(0).cast(), flags);
                if len < 0 { -1 } else { 1 }
            } else {
                libc::sendmmsg(socket.as_raw_fd(), self.headers.at(0), count as libc::c_uint, flags)
            }
        };
        usize::try_from(result)
            .map(|sent| sent.min(count))
            .map_err(|_| io::Error::last_os_error())
    }
}

// SAFETY: a sender owns all memory that its pointers lead to while a call is made, and lends nothing out.
unsafe impl<B: Send> Send for Sender<B> {}

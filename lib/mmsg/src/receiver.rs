//! Many datagrams in: `recvmmsg` into buffers made once.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use crate::address::{ADDRESS_LEN, Address};
use crate::control::{self, CONTROL_LEN, Control};

/// Buffers for one batch of datagrams.
///
/// A slot's memory is only touched as far as datagrams fill it: 32 slots of 64 KiB holding usual SIP messages occupy
/// 128 KiB, not 2 MiB.
#[derive(Debug)]
pub struct Receiver {
    slots: Fixed<u8>,
    addresses: Fixed<Address>,
    controls: Fixed<Control>,
    /// Never read again, but pointed to by `headers`.
    _vectors: Fixed<libc::iovec>,
    headers: Fixed<libc::mmsghdr>,
    slot_len: usize,
    stride: usize,
    /// How many slots the last call filled.
    filled: usize,
    drops: u64,
    last_drops: u32,
}

/// One datagram of the last batch.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// The payload, as far as it fitted.
    pub bytes: &'a [u8],
    /// Who sent it.
    pub remote: SocketAddr,
    /// The local address it came to, where [`tell_local_address`](crate::options::tell_local_address) is on.
    pub local: Option<IpAddr>,
    /// When it arrived, nanoseconds since 1970, where [`stamp_arrivals`](crate::options::stamp_arrivals) is on.
    pub arrived_ns: Option<u64>,
    /// The datagram was longer than a slot: the rest is lost.
    pub truncated: bool,
}

impl Receiver {
    /// Makes room for `batch` datagrams of up to `slot_len` bytes each.
    pub fn new(batch: usize, slot_len: usize) -> Receiver {
        let batch = batch.max(1);
        // Slots a multiple of 4 KiB apart would meet in the same sets of the first-level cache.
        let stride = slot_len.next_multiple_of(64) + 17 * 64;
        let slots = Fixed::from(vec![0_u8; batch * stride]);
        let addresses = Fixed::from(vec![Address::EMPTY; batch]);
        let controls = Fixed::from(vec![Control::EMPTY; batch]);
        let vectors = Fixed::from(
            (0..batch)
                .map(|i| libc::iovec {
                    iov_base: slots.at(i * stride).cast(),
                    iov_len: slot_len,
                })
                .collect::<Vec<_>>(),
        );
        let headers = Fixed::from(
            (0..batch)
                .map(|i| {
                    // SAFETY: all-zero is a valid mmsghdr: null pointers with zero lengths.
                    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
                    header.msg_hdr.msg_name = addresses.at(i).cast();
                    header.msg_hdr.msg_namelen = ADDRESS_LEN as libc::socklen_t;
                    header.msg_hdr.msg_iov = vectors.at(i);
                    header.msg_hdr.msg_iovlen = 1;
                    header.msg_hdr.msg_control = controls.at(i).cast();
                    header.msg_hdr.msg_controllen = CONTROL_LEN;
                    header
                })
                .collect::<Vec<_>>(),
        );
        Receiver {
            slots,
            addresses,
            controls,
            _vectors: vectors,
            headers,
            slot_len,
            stride,
            filled: 0,
            drops: 0,
            last_drops: 0,
        }
    }

    /// How many datagrams fit into a batch.
    pub fn batch(&self) -> usize {
        self.headers.len()
    }

    /// Takes what has arrived, at most one batch, without waiting; what the last batch held is gone. Returns how many there
    /// are now in [`datagrams`](Self::datagrams), at least one.
    ///
    /// # Errors
    /// `WouldBlock` if nothing has arrived; otherwise what `recvmmsg` said, which on an unconnected socket may be the news of
    /// an ICMP error: read it by [`errors::read`](crate::errors::read) and try again.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let filled = std::mem::take(&mut self.filled);
        for header in &mut self.headers.as_mut_slice()[..filled] {
            header.msg_hdr.msg_namelen = ADDRESS_LEN as libc::socklen_t;
            header.msg_hdr.msg_controllen = CONTROL_LEN;
        }
        // SAFETY: the descriptor is open while borrowed. Every header points to an address, a control buffer, one iovec and
        // through it a slot, all of the stated lengths, none shared with another header; they are owned by `self`, never
        // move, and nothing else looks at them during the call.
        let result = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.at(0),
                self.headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(result) else {
            return Err(io::Error::last_os_error());
        };
        self.filled = count.min(self.headers.len());
        if let Some(last) = self.filled.checked_sub(1) {
            self.note_drops(last);
        }
        Ok(self.filled)
    }

    /// The datagrams of the last batch.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        let headers = &self.headers.as_slice()[..self.filled];
        headers.iter().enumerate().filter_map(|(i, header)| {
            let len = (header.msg_len as usize).min(self.slot_len);
            let start = i * self.stride;
            let (mut local, mut arrived_ns) = (None, None);
            for item in control::items(self.control(i)) {
                local = local.or_else(|| control::local_address(&item));
                arrived_ns = arrived_ns.or_else(|| control::arrival(&item));
            }
            Some(Datagram {
                bytes: &self.slots.as_slice()[start..start + len],
                remote: self.addresses.as_slice()[i].read(header.msg_hdr.msg_namelen as usize)?,
                local,
                arrived_ns,
                truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            })
        })
    }

    /// Datagrams that the kernel dropped since this receiver was made, as far as later datagrams told
    /// ([`count_drops`](crate::options::count_drops)). Use one receiver for one socket if this is to mean anything.
    pub fn drops(&self) -> u64 {
        self.drops
    }

    fn control(&self, i: usize) -> &[u8] {
        let len = self.headers.as_slice()[i].msg_hdr.msg_controllen;
        self.controls.as_slice()[i].0.get(..len).unwrap_or_default()
    }

    /// The newest datagram of a batch has the highest count; a missing count means none so far.
    fn note_drops(&mut self, last: usize) {
        let count = control::items(self.control(last)).find_map(|item| control::drop_counter(&item));
        if let Some(count) = count {
            self.drops += u64::from(count.wrapping_sub(self.last_drops));
            self.last_drops = count;
        }
    }
}

// SAFETY: a receiver owns all memory that its pointers lead to, and lends it only through `&self` and `&mut self`.
unsafe impl Send for Receiver {}

/// A boxed slice that is only reached through one raw pointer, so that the kernel's pointers into it stay valid whatever
/// happens to the owner (a `Box` that is moved may not be pointed into).
#[derive(Debug)]
pub(crate) struct Fixed<T>(NonNull<[T]>);

impl<T> From<Vec<T>> for Fixed<T> {
    fn from(items: Vec<T>) -> Self {
        Fixed(NonNull::from(Box::leak(items.into_boxed_slice())))
    }
}

impl<T> Fixed<T> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// A pointer to one element.
    pub(crate) fn at(&self, i: usize) -> *mut T {
        assert!(i < self.len());
        self.0.cast::<T>().as_ptr().wrapping_add(i)
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: the slice was a box's, is freed only in `drop`, and is written to only through `&mut self` of the owner.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above, and `&mut self` keeps other references away.
        unsafe { self.0.as_mut() }
    }
}

impl<T> Drop for Fixed<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a leaked box and nobody else frees it.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

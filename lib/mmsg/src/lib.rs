//! Batched UDP sockets: many datagrams for one system call, and one of the two crates that may say `unsafe`.
//!
//! [`Receiver`] and [`Sender`] own everything that `recvmmsg` and `sendmmsg` point into, so that a batch costs no
//! allocation. Sockets stay with the caller (borrowed for each call) and are expected to be non-blocking in spirit: every
//! call passes `MSG_DONTWAIT`. [`errors`] reads what ICMP said about datagrams sent earlier. Linux only.
//!
//! Readiness, queues between tasks and everything that knows SIP are left to `sps-net`.

mod address;
mod control;
pub mod errors;
pub mod options;
mod receiver;
mod sender;

pub use errors::IcmpError;
pub use receiver::{Datagram, Receiver};
pub use sender::{Flushed, Outgoing, Sender, Trouble};

/// Datagrams moved by one system call: beyond 32 the gain is lost in the noise.
pub const BATCH: usize = 32;
/// Longest UDP payload there is is 65,507 octets; a slot this long never cuts one.
pub const SLOT_LEN: usize = 65_535;

#[cfg(test)]
mod tests;

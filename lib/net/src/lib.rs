//! The edge between a worker and the network: bytes and deadlines into events.
//!
//! Everything here lives on one worker, that is on one current-thread tokio runtime inside a `LocalSet`: types are `!Send`
//! where that saves a lock, and tasks are spawned with `spawn_local`.
//!
//! * [`Udp`]: one bound socket, batches in and out.
//! * [`Streams`]: every TCP connection of a worker, and later the plain streams that `sps-tls` hands over.
//! * [`Resolver`]: names to destinations (RFC 3263), behind the [`Resolve`] trait.
//! * [`bind`]: how listeners are opened (used by `sps-master`).
//!
//! What a transaction is, which branch a response belongs to and what is done about a failure is the worker's business.
#![forbid(unsafe_code)]

pub mod bind;
pub mod interfaces;
pub mod resolve;
pub mod streams;
pub mod udp;

pub use resolve::{DnsConf, Resolve, ResolveError, Resolver};
pub use sps_wire::flow::{Destination, Flow, Transport};
pub use streams::{StreamConf, StreamEvent, StreamEvents, Streams};
pub use udp::{Datagram, Udp, UdpConf, UdpFailure};

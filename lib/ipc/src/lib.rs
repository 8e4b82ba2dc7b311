//! Every message that crosses a Unix socket between SPS processes: its shape, its version, its framing, its bounds.
//!
//! One file per conversation; each opens with who speaks first, what one reply means, what the asker does when nobody answers,
//! and the deadline.
//!
//! | file | who talks | over what |
//! |---|---|---|
//! | [`parent`] | `sps-master` and one child | a private channel, descriptors beside it |
//! | [`starter`] | `sps-master` to whoever started it | a pipe |
//! | [`operator`] | `spsctl` to `sps-master` | `run/sps.sock` |
//! | [`service`] | `sps-proxy` to `sps-registrar` | `run/gen-N/registrar.sock` |
//! | [`tls`] | `sps-proxy` and `sps-tls` | `run/gen-N/tls.sock`, descriptors beside it |
//! | [`tls_ctl`] | `spsctl` to `sps-tls` | `run/gen-N/tls.ctl` |
//! | [`registrar_ctl`] | `spsctl` to `sps-registrar` | `run/gen-N/registrar.ctl` |
//! | [`proxy_ctl`] | `spsctl`, `spsroute` to `sps-proxy` | `run/gen-N/proxy.ctl` |
//!
//! [`seqpacket`] is the ground they stand on: whole messages, kernel credentials, every wait with a deadline. Nothing here
//! knows what a daemon does with a message.
#![forbid(unsafe_code)]

pub mod ask;
pub mod frame;
pub mod operator;
pub mod parent;
pub mod peer;
pub mod proxy_ctl;
pub mod registrar_ctl;
pub mod rights;
pub mod seqpacket;
pub mod service;
pub mod starter;
pub mod tls;
pub mod tls_ctl;

pub use frame::Malformed;
pub use peer::Peer;

/// Goes up with every change of shape in this crate, the operator conversation apart ([`operator::VERSION`]). Inside one
/// generation both ends are one build: unequal means hang up.
pub const VERSION: u16 = 1;

/// The longest message on any of these sockets. Two of the largest SIP messages fit, and a Unix socket's default send buffer
/// (208 KiB on Linux) takes it whole.
pub const MAX_FRAME_LEN: usize = 128 * 1024;

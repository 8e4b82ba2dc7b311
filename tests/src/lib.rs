//! What the system tests share: instances of SPS in fresh folders, foreign peers as child processes, and SIP ends of
//! our own for assertions message by message.
//!
//! The SIP reader and writer here are deliberately not `sps-wire`: a mistake there must not hide itself. Every wait has
//! a deadline; nothing sleeps for a guessed time. A peer that is not installed is a skip (see [`skip!`]), never a pass
//! in silence.
#![forbid(unsafe_code)]

pub mod agent;
pub mod attack;
pub mod baresip;
pub mod call;
pub mod conformance;
pub mod dns;
pub mod instance;
pub mod kamailio;
#[path = "../bench/load/mod.rs"]
pub mod load;
pub mod message;
pub mod named;
pub mod net;
pub mod next_hop;
pub mod pcap;
pub mod process;
pub mod random;
pub mod readers;
pub mod relay;
pub mod sipp;
pub mod sipsak;
pub mod skip;
pub mod tls;
pub mod torture;
pub mod uas;
pub mod wait;

pub use agent::Agent;
pub use call::Dialog;
pub use instance::{Instance, Options};
pub use message::Message;
pub use uas::Uas;
pub use wait::{PATIENCE, bounded, wait_until};

//! The four transaction machines of RFC 3261 §17 with the corrections of RFC 6026, one file each, sans-IO.
//!
//! A machine reads no clock and owns no socket: tell it what happened and when, then do **all** that it pushed to
//! `todo`, in that order, before feeding the next event. It is generic over the message buffer `M`, which it only clones
//! and hands back, and lets go of a message as soon as its state cannot need it again. Matching messages to machines
//! (§17.1.3, §17.2.3) is the caller's, as are 100 Trying (sent at once by a proxy), Timer C and the ACK for a 2xx.

mod invite_client;
mod invite_server;
mod non_invite_client;
mod non_invite_server;
#[cfg(test)]
mod scenario;
#[cfg(test)]
mod table;

pub use invite_client::InviteClient;
pub use invite_server::InviteServer;
pub use non_invite_client::NonInviteClient;
pub use non_invite_server::NonInviteServer;

/// What the caller must do, in the order pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<M> {
    /// Send these bytes to where this transaction's messages go.
    Transmit(M),
    /// The message just fed goes to the transaction user.
    Deliver,
    /// Nobody answered within Timer B or F, or acknowledged within Timer H: tell the transaction user.
    /// `Terminated` follows.
    Timeout,
    /// The transport gave up on a message of ours: tell the transaction user. On the client side `Terminated` follows;
    /// a server transaction stays, to absorb retransmissions (RFC 6026 §8.8).
    TransportFailed,
    /// The machine is done and may be dropped. Pushed exactly once, last.
    Terminated,
}

/// Where a machine stands (figures 5 to 8 of RFC 3261; figures 5 and 7 are those of RFC 6026).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// INVITE client: sent, no response yet.
    Calling,
    /// Non-INVITE, either side: no response yet.
    Trying,
    /// A provisional response came or went; an INVITE server starts here.
    Proceeding,
    /// INVITE, either side: a 2xx passed, others may follow.
    Accepted,
    /// A final response came or went.
    Completed,
    /// INVITE server: the ACK came.
    Confirmed,
    /// Done.
    Terminated,
}

/// What a status code means to a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// 1xx.
    Provisional,
    /// 2xx.
    Success,
    /// 3xx to 6xx; to a transaction a redirection is a failure.
    Failure,
}

impl Class {
    fn of(status: u16) -> Class {
        match status {
            0..=199 => Class::Provisional,
            200..=299 => Class::Success,
            300.. => Class::Failure,
        }
    }
}

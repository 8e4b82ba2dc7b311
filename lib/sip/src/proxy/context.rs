//! The response context (RFC 3261 §16.7) with its server transaction, and the client transactions that serve it.
//!
//! What a phase needs lives only as long as the phase: the request, its target set and its branches hang in one box that
//! goes when the final response has gone upstream; what is left then is the machine and the way back.

use std::net::{SocketAddr, SocketAddrV4};
use std::num::NonZeroU64;
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;
use sps_wire::Index;
use sps_wire::Message;
use sps_wire::flow::{Destination, Flow, Transport};

use super::recurse::Redirection;
use super::token::RouteToken;
use super::{Target, Ticket};
use crate::timers::TimerConf;
use crate::transaction::{self, InviteClient, InviteServer, NonInviteClient, NonInviteServer};

/// A server transaction and, while it is undecided, what is known of its request.
pub(super) struct Context<W> {
    /// Tells successive owners of one place in the table apart.
    pub serial: u32,
    /// What retransmissions, CANCEL and ACK are matched by (§17.2.3); none for an ACK on its way through.
    pub fingerprint: Option<Fingerprint>,
    pub server: Server,
    /// Where responses go (§18.2.2, RFC 3581): the flow the request came by, its remote port as the Via asks.
    pub reply: Way,
    /// The earliest time the wheel wakes this context; later deadlines need no entry of their own.
    pub wake_at: Option<Instant>,
    /// Bytes of the final response, kept for who asks again.
    pub kept_len: u32,
    pub active: Option<Box<Active<W>>>,
}

/// A fingerprint where many are kept: two words, so that it wants no alignment of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    high: NonZeroU64,
    low: u64,
}

impl Fingerprint {
    /// A keyed hash whose upper half is zero is one of 2^64; it is kept as one that is not.
    pub fn new(fingerprint: u128) -> Fingerprint {
        Fingerprint {
            high: NonZeroU64::new((fingerprint >> 64) as u64).unwrap_or(NonZeroU64::MIN),
            low: fingerprint as u64,
        }
    }

    /// What a table of them is ordered by; it is a keyed hash already.
    pub fn hash(self) -> u64 {
        self.low
    }

    /// As other workers know it.
    pub fn to_u128(self) -> u128 {
        u128::from(self.high.get()) << 64 | u128::from(self.low)
    }
}

/// A flow where many are kept: most of them are IPv4 and need a third of the room.
#[derive(Debug, Clone)]
pub(super) enum Way {
    V4 {
        member: u16,
        transport: Transport,
        local: SocketAddrV4,
        remote: SocketAddrV4,
        connection: u64,
    },
    Other(Box<Flow>),
}

impl Way {
    pub fn new(flow: Flow) -> Way {
        match (flow.local, flow.remote) {
            (SocketAddr::V4(local), SocketAddr::V4(remote)) => Way::V4 {
                member: flow.member,
                transport: flow.transport,
                local,
                remote,
                connection: flow.connection,
            },
            (SocketAddr::V6(_), _) | (_, SocketAddr::V6(_)) => Way::Other(Box::new(flow)),
        }
    }

    pub fn flow(&self) -> Flow {
        match self {
            Way::V4 {
                member,
                transport,
                local,
                remote,
                connection,
            } => Flow {
                member: *member,
                transport: *transport,
                local: SocketAddr::V4(*local),
                remote: SocketAddr::V4(*remote),
                connection: *connection,
            },
            Way::Other(flow) => **flow,
        }
    }
}

pub(super) enum Server {
    Invite(InviteServer<Bytes>),
    Other(NonInviteServer<Bytes>),
    /// None so far: whether one is made depends on what routing finds (§16.11, §8.2.7).
    Deferred,
    /// An ACK for a 2xx: forwarded without a transaction (§16.11 is not meant: §13.2.2.4, §17.1.1.3).
    Ack,
}

/// What is known of a request until its final response has gone upstream.
pub(super) struct Active<W> {
    pub request: Bytes,
    pub index: Box<Index>,
    /// The flow the request came by, untouched.
    pub flow: Flow,
    pub received_at: Instant,
    pub received_ms: u64,
    /// Bytes that the request and its copies take, about.
    pub kept_len: usize,
    /// Nothing speaks for its source: it goes first where there is little room.
    pub stranger: bool,
    pub route: RouteFacts,
    pub loop_hash: u64,
    /// RFC 5393 §5.3.2: Incoming Max-Breadth.
    pub breadth: u16,
    /// Targets not yet tried, best first.
    pub waiting: SmallVec<[Target<W>; 1]>,
    pub branches: SmallVec<[Branch<W>; 1]>,
    /// The best final response so far (§16.7 step 6), as it will go upstream.
    pub best: Option<Best>,
    /// Header lines of 401 and 407 responses that were not the best (§16.7 step 7).
    pub challenges: Vec<u8>,
    /// Responses of class 3xx whose contacts were followed (§16.7 step 4).
    pub redirections: Vec<Redirection>,
    /// Header lines with the contacts of 3xx responses that were not the best.
    pub alternatives: Vec<u8>,
    /// The routing stage that decided, for the access log.
    pub stage: &'static str,
    /// Where the request went last, for the access log.
    pub next: Option<Destination>,
    /// The targets are not known yet: routing has been asked.
    pub routing: bool,
    /// CANCEL came from upstream, or a 6xx from downstream: no new branch is begun.
    pub cancelled: bool,
    /// The previous hop is told how much to hold back (RFC 7339).
    pub asks_for_feedback: bool,
    /// A branch did not go where it should because the server there asked us to hold back.
    pub held_back: bool,
    /// CANCEL came from upstream: the answer is 487.
    pub caller_cancelled: bool,
    /// Reason headers, whole lines, for the CANCELs we send (RFC 3326).
    pub cancel_reason: Vec<u8>,
}

impl<W> Active<W> {
    pub fn message(&self) -> Message<'_> {
        self.index
            .message(&self.request)
            .unwrap_or_else(|| unreachable!("the index was made of these bytes"))
    }

    /// Whether some branch may still give a final response.
    pub fn pending(&self) -> bool {
        self.routing
            || self.branches.iter().any(|branch| !branch.done)
            || self.redirections.iter().any(Redirection::is_open)
    }
}

/// What §16.4 made of the Route header and the Request-URI.
#[derive(Debug, Default, Clone)]
pub(super) struct RouteFacts {
    /// Route values of ours, on top, to be taken off.
    pub own_routes: usize,
    /// The Request-URI, where it is not the one received.
    pub request_uri: Option<Bytes>,
    /// A strict router put our Record-Route URI into the Request-URI: the last Route value was the real one.
    pub last_route_moved: bool,
    /// The Route that pointed at us bore a valid MAC: the request belongs to a dialog we let through.
    pub token: Option<RouteToken>,
    /// The flow that leads to the dialog's other side, if its token names one.
    pub flow: Option<Flow>,
}

pub(super) struct Best {
    pub status: u16,
    /// As received, our Via taken off; empty for a response to be made here.
    pub bytes: Bytes,
}

/// One attempt: a target and the client transaction that tries its destinations in turn.
pub(super) struct Branch<W> {
    pub target: Target<W>,
    /// Place in the table of client transactions.
    pub client: Option<Ticket>,
    pub done: bool,
    /// Its share of the request's Max-Breadth.
    pub breadth: u16,
    /// Best status so far, for failover: what the last destination said.
    pub status: u16,
}

/// A client transaction.
pub(super) struct Client {
    pub serial: u32,
    pub context: Ticket,
    pub branch: u16,
    pub machine: ClientMachine,
    pub wake_at: Option<Instant>,
    /// While it is [`Standing::Silent`], when another destination is looked for. Then Timer C (§16.6 step 11); after a CANCEL, when
    /// the branch is given up (§9.1).
    pub give_up_at: Option<Instant>,
    pub standing: Standing,
    /// It took TCP for its size alone (§18.1.1).
    pub moved: bool,
    pub cancel: Cancel,
    /// Where its messages go. Gone with the request once a 2xx came.
    pub leave: Option<Box<Leave>>,
}

/// How a client transaction stands with its branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing has come yet.
    Silent,
    /// Nothing has come, and whether there is another destination is being found out.
    Searching,
    /// Nothing has come, and it is waited for all the same.
    Alone,
    /// Some response has come.
    Heard,
    /// The branch has gone on at another destination.
    Left,
}

pub(super) enum ClientMachine {
    Invite(InviteClient<Bytes>),
    Other(NonInviteClient<Bytes>),
}

/// Whether an INVITE of ours is being cancelled (§9.1).
pub(super) enum Cancel {
    No,
    /// Not before a provisional response has come.
    Wanted,
    /// The CANCEL's own transaction; its branch token is that of the INVITE, so it lives with it.
    Sent(Box<NonInviteClient<Bytes>>),
}

impl Cancel {
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Cancel::Sent(machine) => machine.deadline(),
            Cancel::No | Cancel::Wanted => None,
        }
    }

    /// Whether there was a machine to tell.
    pub fn on_deadline(&mut self, now: Instant, conf: &TimerConf, steps: &mut Vec<transaction::Action<Bytes>>) -> bool {
        match self {
            Cancel::Sent(machine) => {
                machine.on_deadline(now, conf, steps);
                true
            }
            Cancel::No | Cancel::Wanted => false,
        }
    }
}

/// How a message leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leave {
    /// Back where a request came from. If its stream is gone, a new one to the same address is opened (§18.2.2).
    Reply(Flow),
    /// Over a flow that a binding or a dialog is reached by; if it is gone, the send has failed.
    Flow(Flow),
    /// To a destination, by the listener of that number.
    Onward {
        /// Index into [`super::Conf::listeners`].
        listener: usize,
        /// Where to.
        destination: Destination,
    },
}

impl Leave {
    /// Whether the transport repeats lost bytes by itself.
    pub fn is_reliable(&self) -> bool {
        match self {
            Leave::Reply(flow) | Leave::Flow(flow) => flow.transport.is_reliable(),
            Leave::Onward { destination, .. } => destination.transport.is_reliable(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a finished call leaves lies here for half a minute: a field that makes it larger is to be seen.
    #[test]
    fn what_is_kept_of_a_transaction_is_small() {
        assert!(
            size_of::<Option<Context<[u8; 64]>>>() <= 104,
            "{}",
            size_of::<Option<Context<[u8; 64]>>>()
        );
        assert!(size_of::<Option<Client>>() <= 112, "{}", size_of::<Option<Client>>());
    }

    #[test]
    fn a_way_back_is_the_flow_it_was_made_of() {
        for (local, remote) in [
            ("192.0.2.1:5060", "198.51.100.7:5070"),
            ("[2001:db8::1]:5060", "[fe80::1%3]:5070"),
            ("[::ffff:192.0.2.1]:5060", "198.51.100.7:5070"),
        ] {
            let flow = Flow {
                member: 3,
                transport: Transport::Tcp,
                local: local.parse().expect("an address"),
                remote: remote.parse().expect("an address"),
                connection: 77,
            };
            assert_eq!(Way::new(flow).flow(), flow);
        }
    }
}

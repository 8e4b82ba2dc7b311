//! What the RFCs ask of a transaction-stateful proxy, clause by clause, observed from outside: messages in, messages out,
//! a hand-moved clock. RFC 3261 §9, §16, §17, §18 with RFC 3326, 3581, 4320, 5393 and 6026.
//!
//! Every scenario ends by letting time run out: whatever happened, nothing may be left behind.

mod breadth;
mod cancelling;
mod chaos;
mod failover;
mod forwarding;
mod house;
mod matching;
mod recording;
mod responses;
mod transport;
mod validation;

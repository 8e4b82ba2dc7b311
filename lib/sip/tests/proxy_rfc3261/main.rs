//! What the RFCs ask of a proxy, transaction-stateful where nothing else is said, clause by clause, observed from outside: messages in, messages out,
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
mod recursion;
mod redirect;
mod registrar_alone;
mod responses;
mod stateless;
mod transport;
mod validation;

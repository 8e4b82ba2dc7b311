//! Server side of an INVITE transaction (RFC 3261 §17.2.1, RFC 6026 §8.11).

use std::time::Instant;

use super::{Action, State};
use crate::timers::TimerConf;

/// Server side of an INVITE transaction.
#[derive(Debug, Clone)]
pub struct InviteServer<M>(std::marker::PhantomData<M>);

impl<M: Clone> InviteServer<M> {
    /// An INVITE came that matches no transaction. The caller sends 100 at once by [`Self::respond`].
    pub fn start(_reliable: bool) -> Self {
        unimplemented!()
    }

    /// The same INVITE came again: the last response < 200 or ≥ 300 is repeated, after a 2xx it is absorbed.
    pub fn on_retransmission(&mut self, _todo: &mut Vec<Action<M>>) {
        unimplemented!()
    }

    /// The transaction user answers. Gives whether the response was taken: one that no longer fits (a provisional or a
    /// second final ≥ 300 after a final) is dropped.
    pub fn respond(&mut self, _now: Instant, _status: u16, _response: M, _conf: &TimerConf, _todo: &mut Vec<Action<M>>) -> bool {
        unimplemented!()
    }

    /// An ACK that matches this transaction. `Deliver` is pushed in Accepted only: it acknowledges a 2xx.
    pub fn on_ack(&mut self, _now: Instant, _conf: &TimerConf, _todo: &mut Vec<Action<M>>) {
        unimplemented!()
    }

    /// The time of [`Self::deadline`] has come; harmless when called early or late.
    pub fn on_deadline(&mut self, _now: Instant, _conf: &TimerConf, _todo: &mut Vec<Action<M>>) {
        unimplemented!()
    }

    /// A response that was transmitted for this transaction could not be sent.
    pub fn on_transport_error(&mut self, _todo: &mut Vec<Action<M>>) {
        unimplemented!()
    }

    /// When to call [`Self::on_deadline`] next.
    pub fn deadline(&self) -> Option<Instant> {
        unimplemented!()
    }

    /// Where the machine stands.
    pub fn state(&self) -> State {
        unimplemented!()
    }

    /// Whether it can be dropped.
    pub fn is_terminated(&self) -> bool {
        self.state() == State::Terminated
    }
}

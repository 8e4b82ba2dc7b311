//! Server side of a non-INVITE transaction (RFC 3261 §17.2.2).

use std::time::Instant;

use super::{Action, State};
use crate::timers::TimerConf;

/// Server side of a non-INVITE transaction.
#[derive(Debug, Clone)]
pub struct NonInviteServer<M>(std::marker::PhantomData<M>);

impl<M: Clone> NonInviteServer<M> {
    /// A request other than INVITE and ACK came that matches no transaction.
    pub fn start(_reliable: bool) -> Self {
        unimplemented!()
    }

    /// The same request came again: the last response, if any, is repeated.
    pub fn on_retransmission(&mut self, _todo: &mut Vec<Action<M>>) {
        unimplemented!()
    }

    /// The transaction user answers. Gives whether the response was taken: one that no longer fits (any
    /// after a final) is dropped.
    pub fn respond(&mut self, _now: Instant, _status: u16, _response: M, _conf: &TimerConf, _todo: &mut Vec<Action<M>>) -> bool {
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

//! Client side of an INVITE transaction (RFC 3261 §17.1.1, RFC 6026 §8.4).

use std::time::Instant;

use super::{Action, State};
use crate::timers::TimerConf;

/// Client side of an INVITE transaction.
#[derive(Debug, Clone)]
pub struct InviteClient<M>(std::marker::PhantomData<M>);

impl<M: Clone> InviteClient<M> {
    /// Sends `request` (pushes it to `todo`) and starts Timers A and B.
    pub fn start(_now: Instant, _request: M, _reliable: bool, _conf: &TimerConf, _todo: &mut Vec<Action<M>>) -> Self {
        unimplemented!()
    }

    /// A response that matches this transaction (§17.1.3). `ack` builds the ACK for a response ≥ 300 from the request
    /// kept here (§17.1.1.3); it is called at most once, and only for such a response.
    pub fn on_response(&mut self, _now: Instant, _status: u16, _ack: impl FnOnce(&M) -> M, _conf: &TimerConf, _todo: &mut Vec<Action<M>>) {
        unimplemented!()
    }

    /// The time of [`Self::deadline`] has come; harmless when called early or late.
    pub fn on_deadline(&mut self, _now: Instant, _conf: &TimerConf, _todo: &mut Vec<Action<M>>) {
        unimplemented!()
    }

    /// A message that was transmitted for this transaction could not be sent.
    pub fn on_transport_error(&mut self, _todo: &mut Vec<Action<M>>) {
        unimplemented!()
    }

    /// When to call [`Self::on_deadline`] next.
    pub fn deadline(&self) -> Option<Instant> {
        unimplemented!()
    }

    /// The request while it is still kept: in Calling and Proceeding. A CANCEL is built from it (§9.1).
    pub fn request(&self) -> Option<&M> {
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

//! Server side of a non-INVITE transaction (RFC 3261 §17.2.2, RFC 6026 §8.8).
//!
//! RFC 4320 advises against provisional responses other than a late 100 here; the transaction user decides, this
//! machine sends what it is given.

use std::time::Instant;

use super::{Action, Class, State};
use crate::timers::TimerConf;

/// Server side of a non-INVITE transaction.
#[derive(Debug, Clone)]
pub struct NonInviteServer<M> {
    phase: Phase<M>,
    reliable: bool,
}

/// Each state with what only it needs, so that neither a message nor a timer outlives the state that wanted it.
#[derive(Debug, Clone)]
enum Phase<M> {
    Trying,
    Proceeding {
        response: Box<M>,
    },
    /// The final response is repeated when the request is, until Timer J.
    Completed(Box<Answered<M>>),
    Terminated,
}

/// A final response, to be repeated when the request is. In a box, so that other states are small.
#[derive(Debug, Clone)]
struct Answered<M> {
    response: M,
    /// Timer J.
    end_at: Instant,
}

impl<M: Clone> NonInviteServer<M> {
    /// A request other than INVITE and ACK came that matches no transaction.
    pub fn start(reliable: bool) -> Self {
        NonInviteServer {
            phase: Phase::Trying,
            reliable,
        }
    }

    /// The same request came again: the last response, if any, is repeated.
    pub fn on_retransmission(&mut self, todo: &mut Vec<Action<M>>) {
        match &self.phase {
            Phase::Proceeding { response } => todo.push(Action::Transmit(M::clone(response))),
            Phase::Completed(answered) => todo.push(Action::Transmit(answered.response.clone())),
            Phase::Trying | Phase::Terminated => {}
        }
    }

    /// The transaction user answers. Gives whether the response was taken: one that no longer fits (any after a final)
    /// is dropped.
    pub fn respond(
        &mut self,
        now: Instant,
        status: u16,
        response: M,
        conf: &TimerConf,
        todo: &mut Vec<Action<M>>,
    ) -> bool {
        match (&self.phase, Class::of(status)) {
            (Phase::Trying | Phase::Proceeding { .. }, Class::Provisional) => {
                todo.push(Action::Transmit(response.clone()));
                self.phase = Phase::Proceeding {
                    response: Box::new(response),
                };
                true
            }
            // Timer J is zero on reliable transports: Completed is left as it is entered.
            (Phase::Trying | Phase::Proceeding { .. }, Class::Success | Class::Failure) if self.reliable => {
                todo.push(Action::Transmit(response));
                self.terminate(todo);
                true
            }
            (Phase::Trying | Phase::Proceeding { .. }, Class::Success | Class::Failure) => {
                todo.push(Action::Transmit(response.clone()));
                self.phase = Phase::Completed(Box::new(Answered {
                    response,
                    end_at: now + conf.timer_j(false),
                }));
                true
            }
            (Phase::Completed(_) | Phase::Terminated, Class::Provisional | Class::Success | Class::Failure) => false,
        }
    }

    /// The time of [`Self::deadline`] has come; harmless when called early or late.
    pub fn on_deadline(&mut self, now: Instant, _conf: &TimerConf, todo: &mut Vec<Action<M>>) {
        match &self.phase {
            Phase::Completed(answered) if answered.end_at <= now => self.terminate(todo),
            Phase::Trying | Phase::Proceeding { .. } | Phase::Completed(_) | Phase::Terminated => {}
        }
    }

    /// A response that was transmitted for this transaction could not be sent. The machine stays, so that a
    /// retransmitted request does not pass for a new one (RFC 6026 §8.8).
    pub fn on_transport_error(&mut self, todo: &mut Vec<Action<M>>) {
        match self.phase {
            Phase::Proceeding { .. } | Phase::Completed(_) => todo.push(Action::TransportFailed),
            Phase::Trying | Phase::Terminated => {}
        }
    }

    /// When to call [`Self::on_deadline`] next.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Completed(answered) => Some(answered.end_at),
            Phase::Trying | Phase::Proceeding { .. } | Phase::Terminated => None,
        }
    }

    /// Where the machine stands.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Trying => State::Trying,
            Phase::Proceeding { .. } => State::Proceeding,
            Phase::Completed(_) => State::Completed,
            Phase::Terminated => State::Terminated,
        }
    }

    /// Whether it can be dropped.
    pub fn is_terminated(&self) -> bool {
        matches!(self.phase, Phase::Terminated)
    }

    fn terminate(&mut self, todo: &mut Vec<Action<M>>) {
        self.phase = Phase::Terminated;
        todo.push(Action::Terminated);
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{self, CONF, Fed};
    use super::*;

    const EVENTS: &[&str] = &[
        "request",
        "1xx",
        "200-699",
        "transport-error",
        "early",
        "T1",
        "T4",
        "64*T1",
    ];

    fn feed(state: &str, event: &str, reliable: bool) -> Fed {
        let now = Instant::now();
        let mut todo = Vec::new();
        let mut machine = NonInviteServer::start(reliable);
        match state {
            "Trying" => {}
            "Proceeding" => assert!(machine.respond(now, 100, "100", &CONF, &mut todo)),
            "Completed" => assert!(machine.respond(now, 200, "200", &CONF, &mut todo)),
            _ => {
                machine.respond(now, 200, "200", &CONF, &mut todo);
                machine.on_deadline(now + CONF.timer_j(false), &CONF, &mut todo);
            }
        }
        assert_eq!(table::name(machine.state()), state);
        todo.clear();
        match event {
            "request" => machine.on_retransmission(&mut todo),
            "1xx" => assert_eq!(machine.respond(now, 182, "182", &CONF, &mut todo), !todo.is_empty()),
            "200-699" => assert_eq!(machine.respond(now, 500, "500", &CONF, &mut todo), !todo.is_empty()),
            "transport-error" => machine.on_transport_error(&mut todo),
            wait => machine.on_deadline(now + table::wait(wait), &CONF, &mut todo),
        }
        Fed {
            state: machine.state(),
            todo,
            deadline: machine.deadline(),
            now,
        }
    }

    /// Figure 8 with RFC 6026 §8.8 (a transport error no longer ends it); Timer J is due in Completed.
    #[test]
    fn every_state_meets_every_event_as_in_figure_8_unreliable() {
        let states = &["Trying", "Proceeding", "Completed", "Terminated"];
        table::check(
            states,
            EVENTS,
            |state, event| feed(state, event, false),
            "
            Trying      request          Trying      -                 next=never
            Trying      1xx              Proceeding  transmit:182      next=never
            Trying      200-699          Completed   transmit:500      next=64*T1
            Trying      transport-error  Trying      -                 next=never
            Trying      early            Trying      -                 next=never
            Trying      T1               Trying      -                 next=never
            Trying      T4               Trying      -                 next=never
            Trying      64*T1            Trying      -                 next=never
            Proceeding  request          Proceeding  transmit:100      next=never
            Proceeding  1xx              Proceeding  transmit:182      next=never
            Proceeding  200-699          Completed   transmit:500      next=64*T1
            Proceeding  transport-error  Proceeding  transport-failed  next=never
            Proceeding  early            Proceeding  -                 next=never
            Proceeding  T1               Proceeding  -                 next=never
            Proceeding  T4               Proceeding  -                 next=never
            Proceeding  64*T1            Proceeding  -                 next=never
            Completed   request          Completed   transmit:200      next=64*T1
            Completed   1xx              Completed   -                 next=64*T1
            Completed   200-699          Completed   -                 next=64*T1
            Completed   transport-error  Completed   transport-failed  next=64*T1
            Completed   early            Completed   -                 next=64*T1
            Completed   T1               Completed   -                 next=64*T1
            Completed   T4               Completed   -                 next=64*T1
            Completed   64*T1            Terminated  terminated        next=never
            Terminated  request          Terminated  -                 next=never
            Terminated  1xx              Terminated  -                 next=never
            Terminated  200-699          Terminated  -                 next=never
            Terminated  transport-error  Terminated  -                 next=never
            Terminated  early            Terminated  -                 next=never
            Terminated  T1               Terminated  -                 next=never
            Terminated  T4               Terminated  -                 next=never
            Terminated  64*T1            Terminated  -                 next=never",
        );
    }

    /// The same figure where the transport is reliable: Timer J is zero, so that Completed is never seen.
    #[test]
    fn every_state_meets_every_event_as_in_figure_8_reliable() {
        let states = &["Trying", "Proceeding", "Terminated"];
        table::check(
            states,
            EVENTS,
            |state, event| feed(state, event, true),
            "
            Trying      request          Trying      -                        next=never
            Trying      1xx              Proceeding  transmit:182             next=never
            Trying      200-699          Terminated  transmit:500 terminated  next=never
            Trying      transport-error  Trying      -                        next=never
            Trying      early            Trying      -                        next=never
            Trying      T1               Trying      -                        next=never
            Trying      T4               Trying      -                        next=never
            Trying      64*T1            Trying      -                        next=never
            Proceeding  request          Proceeding  transmit:100             next=never
            Proceeding  1xx              Proceeding  transmit:182             next=never
            Proceeding  200-699          Terminated  transmit:500 terminated  next=never
            Proceeding  transport-error  Proceeding  transport-failed         next=never
            Proceeding  early            Proceeding  -                        next=never
            Proceeding  T1               Proceeding  -                        next=never
            Proceeding  T4               Proceeding  -                        next=never
            Proceeding  64*T1            Proceeding  -                        next=never
            Terminated  request          Terminated  -                        next=never
            Terminated  1xx              Terminated  -                        next=never
            Terminated  200-699          Terminated  -                        next=never
            Terminated  transport-error  Terminated  -                        next=never
            Terminated  early            Terminated  -                        next=never
            Terminated  T1               Terminated  -                        next=never
            Terminated  T4               Terminated  -                        next=never
            Terminated  64*T1            Terminated  -                        next=never",
        );
    }

    #[test]
    fn the_machine_is_small_with_a_shared_buffer() {
        assert!(
            size_of::<NonInviteServer<bytes::Bytes>>() <= 96,
            "{}",
            size_of::<NonInviteServer<bytes::Bytes>>()
        );
    }
}

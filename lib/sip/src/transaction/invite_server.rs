//! Server side of an INVITE transaction (RFC 3261 §17.2.1, RFC 6026 §8.5 to §8.8).
//!
//! In a proxy the transaction user is the response context. It passes every 2xx that comes from downstream, the
//! retransmitted ones too; this machine repeats none of them by itself.

use std::time::{Duration, Instant};

use super::{Action, Class, State};
use crate::timers::TimerConf;

/// Server side of an INVITE transaction.
#[derive(Debug, Clone)]
pub struct InviteServer<M> {
    phase: Phase<M>,
    reliable: bool,
}

/// Each state with what only it needs, so that neither a message nor a timer outlives the state that wanted it.
#[derive(Debug, Clone)]
enum Phase<M> {
    /// The last provisional response, to be repeated when the INVITE is.
    Proceeding {
        response: Option<Box<M>>,
    },
    /// A 2xx went out; INVITEs are absorbed until Timer L.
    Accepted {
        end_at: Instant,
    },
    Completed(Box<Unacknowledged<M>>),
    /// Repeated ACKs are absorbed until Timer I.
    Confirmed {
        end_at: Instant,
    },
    Terminated,
}

/// A final response ≥ 300 that waits for its ACK. In a box: what is left after a 2xx is to be small, since a call leaves it for half
/// a minute.
#[derive(Debug, Clone)]
struct Unacknowledged<M> {
    response: M,
    /// Timer G: when the response goes out again; never on reliable transports.
    resend_at: Option<Instant>,
    /// The wait that leads to `resend_at`; doubles up to T2.
    resend_wait: Duration,
    /// Timer H.
    timeout_at: Instant,
}

impl<M: Clone> InviteServer<M> {
    /// An INVITE came that matches no transaction. The caller sends 100 at once by [`Self::respond`].
    pub fn start(reliable: bool) -> Self {
        InviteServer {
            phase: Phase::Proceeding { response: None },
            reliable,
        }
    }

    /// The same INVITE came again: the last response < 200 or ≥ 300 is repeated, after a 2xx it is absorbed.
    pub fn on_retransmission(&mut self, todo: &mut Vec<Action<M>>) {
        match &self.phase {
            Phase::Proceeding {
                response: Some(response),
            } => todo.push(Action::Transmit(M::clone(response))),
            Phase::Completed(waiting) => todo.push(Action::Transmit(waiting.response.clone())),
            Phase::Proceeding { response: None }
            | Phase::Accepted { .. }
            | Phase::Confirmed { .. }
            | Phase::Terminated => {}
        }
    }

    /// The transaction user answers. Gives whether the response was taken: one that no longer fits (anything after a
    /// final response, except a 2xx after a 2xx) is dropped.
    pub fn respond(
        &mut self,
        now: Instant,
        status: u16,
        response: M,
        conf: &TimerConf,
        todo: &mut Vec<Action<M>>,
    ) -> bool {
        match (&mut self.phase, Class::of(status)) {
            (Phase::Proceeding { response: last }, Class::Provisional) => match last {
                Some(last) => **last = response.clone(),
                None => *last = Some(Box::new(response.clone())),
            },
            (Phase::Proceeding { .. }, Class::Success) => {
                self.phase = Phase::Accepted {
                    end_at: now + conf.timer_l(),
                };
            }
            (Phase::Proceeding { .. }, Class::Failure) => {
                let resend_wait = conf.timer_g();
                self.phase = Phase::Completed(Box::new(Unacknowledged {
                    response: response.clone(),
                    resend_at: (!self.reliable).then(|| now + resend_wait),
                    resend_wait,
                    timeout_at: now + conf.timer_h(),
                }));
            }
            // From another fork, or the callee repeats it because the ACK is late.
            (Phase::Accepted { .. }, Class::Success) => {}
            (Phase::Accepted { .. }, Class::Provisional | Class::Failure)
            | (
                Phase::Completed(_) | Phase::Confirmed { .. } | Phase::Terminated,
                Class::Provisional | Class::Success | Class::Failure,
            ) => return false,
        }
        todo.push(Action::Transmit(response));
        true
    }

    /// An ACK that matches this transaction. `Deliver` is pushed in Accepted only, where it acknowledges a 2xx.
    pub fn on_ack(&mut self, now: Instant, conf: &TimerConf, todo: &mut Vec<Action<M>>) {
        match self.phase {
            Phase::Accepted { .. } => todo.push(Action::Deliver),
            // Timer I is zero on reliable transports: Confirmed is left as it is entered.
            Phase::Completed(_) if self.reliable => self.terminate(todo),
            Phase::Completed(_) => {
                self.phase = Phase::Confirmed {
                    end_at: now + conf.timer_i(false),
                }
            }
            Phase::Proceeding { .. } | Phase::Confirmed { .. } | Phase::Terminated => {}
        }
    }

    /// The time of [`Self::deadline`] has come; harmless when called early or late.
    pub fn on_deadline(&mut self, now: Instant, conf: &TimerConf, todo: &mut Vec<Action<M>>) {
        match &mut self.phase {
            Phase::Completed(waiting) if waiting.timeout_at <= now => {
                todo.push(Action::Timeout);
                self.terminate(todo);
            }
            Phase::Completed(waiting) if waiting.resend_at.is_some_and(|at| at <= now) => {
                todo.push(Action::Transmit(waiting.response.clone()));
                waiting.resend_wait = conf.t2.min(waiting.resend_wait * 2);
                waiting.resend_at = Some(now + waiting.resend_wait);
            }
            Phase::Accepted { end_at } | Phase::Confirmed { end_at } if *end_at <= now => self.terminate(todo),
            Phase::Proceeding { .. }
            | Phase::Accepted { .. }
            | Phase::Completed(_)
            | Phase::Confirmed { .. }
            | Phase::Terminated => {}
        }
    }

    /// A response that was transmitted for this transaction could not be sent. The machine stays, so that a
    /// retransmitted INVITE does not pass for a new one (RFC 6026 §7.1).
    pub fn on_transport_error(&mut self, todo: &mut Vec<Action<M>>) {
        match self.phase {
            Phase::Proceeding { .. } | Phase::Accepted { .. } | Phase::Completed(_) => {
                todo.push(Action::TransportFailed);
            }
            Phase::Confirmed { .. } | Phase::Terminated => {}
        }
    }

    /// When to call [`Self::on_deadline`] next.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Completed(waiting) => Some(
                waiting
                    .resend_at
                    .map_or(waiting.timeout_at, |at| at.min(waiting.timeout_at)),
            ),
            Phase::Accepted { end_at } | Phase::Confirmed { end_at } => Some(*end_at),
            Phase::Proceeding { .. } | Phase::Terminated => None,
        }
    }

    /// Where the machine stands.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Proceeding { .. } => State::Proceeding,
            Phase::Accepted { .. } => State::Accepted,
            Phase::Completed(_) => State::Completed,
            Phase::Confirmed { .. } => State::Confirmed,
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

    const STATES: &[&str] = &["Proceeding", "Accepted", "Completed", "Confirmed", "Terminated"];
    const EVENTS: &[&str] = &[
        "INVITE",
        "ACK",
        "1xx",
        "2xx",
        "300-699",
        "transport-error",
        "early",
        "T1",
        "T4",
        "64*T1",
    ];

    fn feed(state: &str, event: &str, reliable: bool) -> Fed {
        let now = Instant::now();
        let mut todo = Vec::new();
        let mut machine = InviteServer::start(reliable);
        assert!(machine.respond(now, 100, "100", &CONF, &mut todo));
        match state {
            "Proceeding" => {}
            "Accepted" => assert!(machine.respond(now, 200, "200", &CONF, &mut todo)),
            "Completed" => assert!(machine.respond(now, 486, "486", &CONF, &mut todo)),
            "Confirmed" => {
                machine.respond(now, 486, "486", &CONF, &mut todo);
                machine.on_ack(now, &CONF, &mut todo);
            }
            _ => {
                machine.respond(now, 486, "486", &CONF, &mut todo);
                machine.on_deadline(now + CONF.timer_h(), &CONF, &mut todo);
            }
        }
        assert_eq!(table::name(machine.state()), state);
        todo.clear();
        let taken = match event {
            "INVITE" => {
                machine.on_retransmission(&mut todo);
                None
            }
            "ACK" => {
                machine.on_ack(now, &CONF, &mut todo);
                None
            }
            "1xx" => Some(machine.respond(now, 180, "180", &CONF, &mut todo)),
            "2xx" => Some(machine.respond(now, 202, "202", &CONF, &mut todo)),
            "300-699" => Some(machine.respond(now, 603, "603", &CONF, &mut todo)),
            "transport-error" => {
                machine.on_transport_error(&mut todo);
                None
            }
            wait => {
                machine.on_deadline(now + table::wait(wait), &CONF, &mut todo);
                None
            }
        };
        if let Some(taken) = taken {
            assert_eq!(taken, !todo.is_empty(), "{state} {event}: taken means sent");
        }
        Fed {
            state: machine.state(),
            todo,
            deadline: machine.deadline(),
            now,
        }
    }

    /// RFC 6026 figure 7; Timers G and H are due in Completed, I in Confirmed, L in Accepted.
    #[test]
    fn every_state_meets_every_event_as_in_figure_7_unreliable() {
        table::check(
            STATES,
            EVENTS,
            |state, event| feed(state, event, false),
            "
            Proceeding  INVITE           Proceeding  transmit:100        next=never
            Proceeding  ACK              Proceeding  -                   next=never
            Proceeding  1xx              Proceeding  transmit:180        next=never
            Proceeding  2xx              Accepted    transmit:202        next=64*T1
            Proceeding  300-699          Completed   transmit:603        next=T1
            Proceeding  transport-error  Proceeding  transport-failed    next=never
            Proceeding  early            Proceeding  -                   next=never
            Proceeding  T1               Proceeding  -                   next=never
            Proceeding  T4               Proceeding  -                   next=never
            Proceeding  64*T1            Proceeding  -                   next=never
            Accepted    INVITE           Accepted    -                   next=64*T1
            Accepted    ACK              Accepted    deliver             next=64*T1
            Accepted    1xx              Accepted    -                   next=64*T1
            Accepted    2xx              Accepted    transmit:202        next=64*T1
            Accepted    300-699          Accepted    -                   next=64*T1
            Accepted    transport-error  Accepted    transport-failed    next=64*T1
            Accepted    early            Accepted    -                   next=64*T1
            Accepted    T1               Accepted    -                   next=64*T1
            Accepted    T4               Accepted    -                   next=64*T1
            Accepted    64*T1            Terminated  terminated          next=never
            Completed   INVITE           Completed   transmit:486        next=T1
            Completed   ACK              Confirmed   -                   next=T4
            Completed   1xx              Completed   -                   next=T1
            Completed   2xx              Completed   -                   next=T1
            Completed   300-699          Completed   -                   next=T1
            Completed   transport-error  Completed   transport-failed    next=T1
            Completed   early            Completed   -                   next=T1
            Completed   T1               Completed   transmit:486        next=3*T1
            Completed   T4               Completed   transmit:486        next=T4+2*T1
            Completed   64*T1            Terminated  timeout terminated  next=never
            Confirmed   INVITE           Confirmed   -                   next=T4
            Confirmed   ACK              Confirmed   -                   next=T4
            Confirmed   1xx              Confirmed   -                   next=T4
            Confirmed   2xx              Confirmed   -                   next=T4
            Confirmed   300-699          Confirmed   -                   next=T4
            Confirmed   transport-error  Confirmed   -                   next=T4
            Confirmed   early            Confirmed   -                   next=T4
            Confirmed   T1               Confirmed   -                   next=T4
            Confirmed   T4               Terminated  terminated          next=never
            Confirmed   64*T1            Terminated  terminated          next=never
            Terminated  INVITE           Terminated  -                   next=never
            Terminated  ACK              Terminated  -                   next=never
            Terminated  1xx              Terminated  -                   next=never
            Terminated  2xx              Terminated  -                   next=never
            Terminated  300-699          Terminated  -                   next=never
            Terminated  transport-error  Terminated  -                   next=never
            Terminated  early            Terminated  -                   next=never
            Terminated  T1               Terminated  -                   next=never
            Terminated  T4               Terminated  -                   next=never
            Terminated  64*T1            Terminated  -                   next=never",
        );
    }

    /// The same figure where the transport is reliable: no Timer G, Timer I is zero, so that Confirmed is never seen.
    #[test]
    fn every_state_meets_every_event_as_in_figure_7_reliable() {
        let states = &["Proceeding", "Accepted", "Completed", "Terminated"];
        table::check(
            states,
            EVENTS,
            |state, event| feed(state, event, true),
            "
            Proceeding  INVITE           Proceeding  transmit:100        next=never
            Proceeding  ACK              Proceeding  -                   next=never
            Proceeding  1xx              Proceeding  transmit:180        next=never
            Proceeding  2xx              Accepted    transmit:202        next=64*T1
            Proceeding  300-699          Completed   transmit:603        next=64*T1
            Proceeding  transport-error  Proceeding  transport-failed    next=never
            Proceeding  early            Proceeding  -                   next=never
            Proceeding  T1               Proceeding  -                   next=never
            Proceeding  T4               Proceeding  -                   next=never
            Proceeding  64*T1            Proceeding  -                   next=never
            Accepted    INVITE           Accepted    -                   next=64*T1
            Accepted    ACK              Accepted    deliver             next=64*T1
            Accepted    1xx              Accepted    -                   next=64*T1
            Accepted    2xx              Accepted    transmit:202        next=64*T1
            Accepted    300-699          Accepted    -                   next=64*T1
            Accepted    transport-error  Accepted    transport-failed    next=64*T1
            Accepted    early            Accepted    -                   next=64*T1
            Accepted    T1               Accepted    -                   next=64*T1
            Accepted    T4               Accepted    -                   next=64*T1
            Accepted    64*T1            Terminated  terminated          next=never
            Completed   INVITE           Completed   transmit:486        next=64*T1
            Completed   ACK              Terminated  terminated          next=never
            Completed   1xx              Completed   -                   next=64*T1
            Completed   2xx              Completed   -                   next=64*T1
            Completed   300-699          Completed   -                   next=64*T1
            Completed   transport-error  Completed   transport-failed    next=64*T1
            Completed   early            Completed   -                   next=64*T1
            Completed   T1               Completed   -                   next=64*T1
            Completed   T4               Completed   -                   next=64*T1
            Completed   64*T1            Terminated  timeout terminated  next=never
            Terminated  INVITE           Terminated  -                   next=never
            Terminated  ACK              Terminated  -                   next=never
            Terminated  1xx              Terminated  -                   next=never
            Terminated  2xx              Terminated  -                   next=never
            Terminated  300-699          Terminated  -                   next=never
            Terminated  transport-error  Terminated  -                   next=never
            Terminated  early            Terminated  -                   next=never
            Terminated  T1               Terminated  -                   next=never
            Terminated  T4               Terminated  -                   next=never
            Terminated  64*T1            Terminated  -                   next=never",
        );
    }

    /// §17.2.1: Timer G doubles up to T2 until Timer H.
    #[test]
    fn an_unacknowledged_failure_goes_out_at_intervals_that_double_up_to_t2() {
        let begin = Instant::now();
        let mut todo = Vec::new();
        let mut machine = InviteServer::start(false);
        machine.respond(begin, 404, "404", &CONF, &mut todo);
        let mut sent_at = vec![0];
        while let Some(at) = machine.deadline() {
            todo.clear();
            machine.on_deadline(at, &CONF, &mut todo);
            if todo == [Action::Transmit("404")] {
                sent_at.push((at - begin).as_millis());
            }
        }
        assert_eq!(
            sent_at,
            [0, 500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]
        );
        assert_eq!(todo, [Action::Timeout, Action::Terminated]);
    }

    /// §17.2.1: "the most recent provisional response", and nothing when there was none yet.
    #[test]
    fn a_repeated_invite_gets_the_last_provisional_response() {
        let now = Instant::now();
        let mut todo = Vec::new();
        let mut machine = InviteServer::start(false);
        machine.on_retransmission(&mut todo);
        assert_eq!(todo, []);
        machine.respond(now, 100, "100", &CONF, &mut todo);
        machine.respond(now, 183, "183", &CONF, &mut todo);
        todo.clear();
        machine.on_retransmission(&mut todo);
        assert_eq!(todo, [Action::Transmit("183")]);
    }

    #[test]
    fn the_machine_is_small_with_a_shared_buffer() {
        assert!(
            size_of::<InviteServer<bytes::Bytes>>() <= 96,
            "{}",
            size_of::<InviteServer<bytes::Bytes>>()
        );
    }
}

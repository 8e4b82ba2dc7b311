//! Client side of an INVITE transaction (RFC 3261 §17.1.1, RFC 6026 §8.4).
//!
//! In a proxy the transaction user is the response context: it forwards each 2xx that is delivered here and leaves the
//! ACK for it to the caller's end; the ACK for 300 to 699 is this machine's.

use std::mem;
use std::time::{Duration, Instant};

use super::{Action, Class, State};
use crate::timers::TimerConf;

/// Client side of an INVITE transaction.
#[derive(Debug, Clone)]
pub struct InviteClient<M> {
    phase: Phase<M>,
    reliable: bool,
}

/// Each state with what only it needs, so that neither a message nor a timer outlives the state that wanted it.
#[derive(Debug, Clone)]
enum Phase<M> {
    Calling(Box<Pending<M>>),
    /// No timer runs: how long it may ring is Timer C's to say, and that one is the proxy core's.
    Proceeding(Box<Pending<M>>),
    /// A 2xx went up; 2xx from other forks must still follow it, until Timer M.
    Accepted {
        end_at: Instant,
    },
    /// Repeated final responses are acknowledged again until Timer D.
    Completed {
        ack: Box<M>,
        end_at: Instant,
    },
    Terminated,
}

/// An INVITE without its final response. In a box: what outlasts it is to be small, since a call leaves it for half a minute.
#[derive(Debug, Clone)]
struct Pending<M> {
    request: M,
    /// Timer A: when the INVITE goes out again; never on reliable transports.
    resend_at: Option<Instant>,
    /// The wait that leads to `resend_at`; doubles at each resend.
    resend_wait: Duration,
    /// Timer B.
    timeout_at: Instant,
}

impl<M: Clone> InviteClient<M> {
    /// Sends `request` (pushes it to `todo`) and starts Timers A and B.
    pub fn start(now: Instant, request: M, reliable: bool, conf: &TimerConf, todo: &mut Vec<Action<M>>) -> Self {
        todo.push(Action::Transmit(request.clone()));
        let resend_wait = conf.timer_a();
        let pending = Pending {
            request,
            resend_at: (!reliable).then(|| now + resend_wait),
            resend_wait,
            timeout_at: now + conf.timer_b(),
        };
        InviteClient {
            phase: Phase::Calling(Box::new(pending)),
            reliable,
        }
    }

    /// A response that matches this transaction (§17.1.3). `ack` builds the ACK for a response ≥ 300 from the request
    /// kept here (§17.1.1.3); it is called at most once in a machine's life, and only for such a response.
    pub fn on_response(
        &mut self,
        now: Instant,
        status: u16,
        ack: impl FnOnce(&M) -> M,
        conf: &TimerConf,
        todo: &mut Vec<Action<M>>,
    ) {
        self.phase = match (mem::replace(&mut self.phase, Phase::Terminated), Class::of(status)) {
            (Phase::Calling(pending) | Phase::Proceeding(pending), Class::Provisional) => {
                todo.push(Action::Deliver);
                Phase::Proceeding(pending)
            }
            (Phase::Calling(_) | Phase::Proceeding(_), Class::Success) => {
                todo.push(Action::Deliver);
                Phase::Accepted {
                    end_at: now + conf.timer_m(),
                }
            }
            (Phase::Calling(pending) | Phase::Proceeding(pending), Class::Failure) => {
                let ack = ack(&pending.request);
                todo.extend([Action::Transmit(ack.clone()), Action::Deliver]);
                // Timer D is zero on reliable transports: Completed is left as it is entered.
                if self.reliable {
                    todo.push(Action::Terminated);
                    Phase::Terminated
                } else {
                    Phase::Completed {
                        ack: Box::new(ack),
                        end_at: now + conf.timer_d(false),
                    }
                }
            }
            (phase @ Phase::Accepted { .. }, Class::Success) => {
                todo.push(Action::Deliver);
                phase
            }
            // Our ACK was lost: repeat it, and do not bother the user twice.
            (Phase::Completed { ack, end_at }, Class::Failure) => {
                todo.push(Action::Transmit(M::clone(&ack)));
                Phase::Completed { ack, end_at }
            }
            (phase @ Phase::Accepted { .. }, Class::Provisional | Class::Failure)
            | (phase @ Phase::Completed { .. }, Class::Provisional | Class::Success)
            | (phase @ Phase::Terminated, Class::Provisional | Class::Success | Class::Failure) => phase,
        };
    }

    /// The time of [`Self::deadline`] has come; harmless when called early or late.
    pub fn on_deadline(&mut self, now: Instant, _conf: &TimerConf, todo: &mut Vec<Action<M>>) {
        match &mut self.phase {
            Phase::Calling(pending) if pending.timeout_at <= now => {
                todo.push(Action::Timeout);
                self.terminate(todo);
            }
            Phase::Calling(pending) if pending.resend_at.is_some_and(|at| at <= now) => {
                todo.push(Action::Transmit(pending.request.clone()));
                pending.resend_wait *= 2;
                pending.resend_at = Some(now + pending.resend_wait);
            }
            Phase::Accepted { end_at } | Phase::Completed { end_at, .. } if *end_at <= now => self.terminate(todo),
            Phase::Calling(_)
            | Phase::Proceeding(_)
            | Phase::Accepted { .. }
            | Phase::Completed { .. }
            | Phase::Terminated => {}
        }
    }

    /// Sends the request no more: it has gone on elsewhere, and only what may still come back matters.
    pub fn stop_resending(&mut self) {
        if let Phase::Calling(calling) = &mut self.phase {
            calling.resend_at = None;
        }
    }

    /// A message that was transmitted for this transaction could not be sent.
    pub fn on_transport_error(&mut self, todo: &mut Vec<Action<M>>) {
        match self.phase {
            Phase::Calling(_) | Phase::Completed { .. } => {
                todo.push(Action::TransportFailed);
                self.terminate(todo);
            }
            // Nothing was sent in these states; what is still to come may come by another connection (§18.2.2).
            Phase::Proceeding(_) | Phase::Accepted { .. } | Phase::Terminated => {}
        }
    }

    /// When to call [`Self::on_deadline`] next.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Calling(pending) => Some(
                pending
                    .resend_at
                    .map_or(pending.timeout_at, |at| at.min(pending.timeout_at)),
            ),
            Phase::Accepted { end_at } | Phase::Completed { end_at, .. } => Some(*end_at),
            Phase::Proceeding(_) | Phase::Terminated => None,
        }
    }

    /// The request while it is still kept: in Calling and Proceeding. A CANCEL is built from it (§9.1).
    pub fn request(&self) -> Option<&M> {
        match &self.phase {
            Phase::Calling(pending) | Phase::Proceeding(pending) => Some(&pending.request),
            Phase::Accepted { .. } | Phase::Completed { .. } | Phase::Terminated => None,
        }
    }

    /// Where the machine stands.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Calling(_) => State::Calling,
            Phase::Proceeding(_) => State::Proceeding,
            Phase::Accepted { .. } => State::Accepted,
            Phase::Completed { .. } => State::Completed,
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

    const STATES: &[&str] = &["Calling", "Proceeding", "Accepted", "Completed", "Terminated"];
    const EVENTS: &[&str] = &["1xx", "2xx", "300-699", "transport-error", "early", "T1", "T4", "64*T1"];

    fn reach(state: &str, reliable: bool, now: Instant) -> InviteClient<&'static str> {
        let mut todo = Vec::new();
        let mut machine = InviteClient::start(now, "INVITE", reliable, &CONF, &mut todo);
        let ack = |request: &&'static str| {
            assert_eq!(*request, "INVITE", "the ACK is made from the request");
            "ACK"
        };
        match state {
            "Calling" => {}
            "Proceeding" => machine.on_response(now, 180, ack, &CONF, &mut todo),
            "Accepted" => machine.on_response(now, 200, ack, &CONF, &mut todo),
            "Completed" => machine.on_response(now, 486, ack, &CONF, &mut todo),
            _ => machine.on_transport_error(&mut todo),
        }
        assert_eq!(table::name(machine.state()), state);
        machine
    }

    fn feed(state: &str, event: &str, reliable: bool) -> Fed {
        let now = Instant::now();
        let mut machine = reach(state, reliable, now);
        let mut todo = Vec::new();
        match event {
            "1xx" => machine.on_response(now, 183, |_| "ACK", &CONF, &mut todo),
            "2xx" => machine.on_response(now, 202, |_| "ACK", &CONF, &mut todo),
            "300-699" => machine.on_response(now, 603, |_| "ACK", &CONF, &mut todo),
            "transport-error" => machine.on_transport_error(&mut todo),
            wait => machine.on_deadline(now + table::wait(wait), &CONF, &mut todo),
        }
        assert_eq!(
            machine.request().is_some(),
            matches!(machine.state(), State::Calling | State::Proceeding)
        );
        Fed {
            state: machine.state(),
            todo,
            deadline: machine.deadline(),
            now,
        }
    }

    /// RFC 6026 figure 5; Timers A and B are due in Calling, D in Completed, M in Accepted, none in Proceeding.
    #[test]
    fn every_state_meets_every_event_as_in_figure_5_unreliable() {
        table::check(
            STATES,
            EVENTS,
            |state, event| feed(state, event, false),
            "
            Calling     1xx              Proceeding  deliver                        next=never
            Calling     2xx              Accepted    deliver                        next=64*T1
            Calling     300-699          Completed   transmit:ACK deliver           next=64*T1
            Calling     transport-error  Terminated  transport-failed terminated    next=never
            Calling     early            Calling     -                              next=T1
            Calling     T1               Calling     transmit:INVITE                next=3*T1
            Calling     T4               Calling     transmit:INVITE                next=T4+2*T1
            Calling     64*T1            Terminated  timeout terminated             next=never
            Proceeding  1xx              Proceeding  deliver                        next=never
            Proceeding  2xx              Accepted    deliver                        next=64*T1
            Proceeding  300-699          Completed   transmit:ACK deliver           next=64*T1
            Proceeding  transport-error  Proceeding  -                              next=never
            Proceeding  early            Proceeding  -                              next=never
            Proceeding  T1               Proceeding  -                              next=never
            Proceeding  T4               Proceeding  -                              next=never
            Proceeding  64*T1            Proceeding  -                              next=never
            Accepted    1xx              Accepted    -                              next=64*T1
            Accepted    2xx              Accepted    deliver                        next=64*T1
            Accepted    300-699          Accepted    -                              next=64*T1
            Accepted    transport-error  Accepted    -                              next=64*T1
            Accepted    early            Accepted    -                              next=64*T1
            Accepted    T1               Accepted    -                              next=64*T1
            Accepted    T4               Accepted    -                              next=64*T1
            Accepted    64*T1            Terminated  terminated                     next=never
            Completed   1xx              Completed   -                              next=64*T1
            Completed   2xx              Completed   -                              next=64*T1
            Completed   300-699          Completed   transmit:ACK                   next=64*T1
            Completed   transport-error  Terminated  transport-failed terminated    next=never
            Completed   early            Completed   -                              next=64*T1
            Completed   T1               Completed   -                              next=64*T1
            Completed   T4               Completed   -                              next=64*T1
            Completed   64*T1            Terminated  terminated                     next=never
            Terminated  1xx              Terminated  -                              next=never
            Terminated  2xx              Terminated  -                              next=never
            Terminated  300-699          Terminated  -                              next=never
            Terminated  transport-error  Terminated  -                              next=never
            Terminated  early            Terminated  -                              next=never
            Terminated  T1               Terminated  -                              next=never
            Terminated  T4               Terminated  -                              next=never
            Terminated  64*T1            Terminated  -                              next=never",
        );
    }

    /// The same figure where the transport is reliable: no Timer A, Timer D is zero, so that Completed is never seen.
    #[test]
    fn every_state_meets_every_event_as_in_figure_5_reliable() {
        let states = &["Calling", "Proceeding", "Accepted", "Terminated"];
        table::check(
            states,
            EVENTS,
            |state, event| feed(state, event, true),
            "
            Calling     1xx              Proceeding  deliver                          next=never
            Calling     2xx              Accepted    deliver                          next=64*T1
            Calling     300-699          Terminated  transmit:ACK deliver terminated  next=never
            Calling     transport-error  Terminated  transport-failed terminated      next=never
            Calling     early            Calling     -                                next=64*T1
            Calling     T1               Calling     -                                next=64*T1
            Calling     T4               Calling     -                                next=64*T1
            Calling     64*T1            Terminated  timeout terminated               next=never
            Proceeding  1xx              Proceeding  deliver                          next=never
            Proceeding  2xx              Accepted    deliver                          next=64*T1
            Proceeding  300-699          Terminated  transmit:ACK deliver terminated  next=never
            Proceeding  transport-error  Proceeding  -                                next=never
            Proceeding  early            Proceeding  -                                next=never
            Proceeding  T1               Proceeding  -                                next=never
            Proceeding  T4               Proceeding  -                                next=never
            Proceeding  64*T1            Proceeding  -                                next=never
            Accepted    1xx              Accepted    -                                next=64*T1
            Accepted    2xx              Accepted    deliver                          next=64*T1
            Accepted    300-699          Accepted    -                                next=64*T1
            Accepted    transport-error  Accepted    -                                next=64*T1
            Accepted    early            Accepted    -                                next=64*T1
            Accepted    T1               Accepted    -                                next=64*T1
            Accepted    T4               Accepted    -                                next=64*T1
            Accepted    64*T1            Terminated  terminated                       next=never
            Terminated  1xx              Terminated  -                                next=never
            Terminated  2xx              Terminated  -                                next=never
            Terminated  300-699          Terminated  -                                next=never
            Terminated  transport-error  Terminated  -                                next=never
            Terminated  early            Terminated  -                                next=never
            Terminated  T1               Terminated  -                                next=never
            Terminated  T4               Terminated  -                                next=never
            Terminated  64*T1            Terminated  -                                next=never",
        );
    }

    /// §17.1.1.2: "intervals that double after each transmission", seven requests in 64·T1.
    #[test]
    fn an_unanswered_invite_goes_out_seven_times_at_doubling_intervals() {
        let begin = Instant::now();
        let mut todo = Vec::new();
        let mut machine = InviteClient::start(begin, "INVITE", false, &CONF, &mut todo);
        let mut sent_at = vec![0];
        while let Some(at) = machine.deadline() {
            todo.clear();
            machine.on_deadline(at, &CONF, &mut todo);
            if todo == [Action::Transmit("INVITE")] {
                sent_at.push((at - begin).as_millis());
            }
        }
        assert_eq!(sent_at, [0, 500, 1500, 3500, 7500, 15500, 31500]);
        assert_eq!(todo, [Action::Timeout, Action::Terminated]);
    }

    #[test]
    fn the_machine_is_small_with_a_shared_buffer() {
        assert!(
            size_of::<InviteClient<bytes::Bytes>>() <= 96,
            "{}",
            size_of::<InviteClient<bytes::Bytes>>()
        );
    }
}

//! Client side of a non-INVITE transaction (RFC 3261 §17.1.2).

use std::mem;
use std::time::{Duration, Instant};

use super::{Action, Class, State};
use crate::timers::TimerConf;

/// Client side of a non-INVITE transaction.
#[derive(Debug, Clone)]
pub struct NonInviteClient<M> {
    phase: Phase<M>,
    reliable: bool,
}

/// Each state with what only it needs, so that neither a message nor a timer outlives the state that wanted it.
#[derive(Debug, Clone)]
enum Phase<M> {
    Trying(Box<Pending<M>>),
    /// As Trying, but Timer E is T2 from its next firing on.
    Proceeding(Box<Pending<M>>),
    /// Repeated responses are absorbed until Timer K.
    Completed {
        end_at: Instant,
    },
    Terminated,
}

/// A request without its final response. In a box: what outlasts it is to be small.
#[derive(Debug, Clone)]
struct Pending<M> {
    request: M,
    /// Timer E: when the request goes out again; never on reliable transports.
    resend_at: Option<Instant>,
    /// The wait that leads to `resend_at`; doubles up to T2.
    resend_wait: Duration,
    /// Timer F.
    timeout_at: Instant,
}

impl<M: Clone> NonInviteClient<M> {
    /// Sends `request` (pushes it to `todo`) and starts Timers E and F.
    pub fn start(now: Instant, request: M, reliable: bool, conf: &TimerConf, todo: &mut Vec<Action<M>>) -> Self {
        todo.push(Action::Transmit(request.clone()));
        let resend_wait = conf.timer_e();
        let pending = Pending {
            request,
            resend_at: (!reliable).then(|| now + resend_wait),
            resend_wait,
            timeout_at: now + conf.timer_f(),
        };
        NonInviteClient {
            phase: Phase::Trying(Box::new(pending)),
            reliable,
        }
    }

    /// A response that matches this transaction (§17.1.3).
    pub fn on_response(&mut self, now: Instant, status: u16, conf: &TimerConf, todo: &mut Vec<Action<M>>) {
        self.phase = match (mem::replace(&mut self.phase, Phase::Terminated), Class::of(status)) {
            (Phase::Trying(pending) | Phase::Proceeding(pending), Class::Provisional) => {
                todo.push(Action::Deliver);
                Phase::Proceeding(pending)
            }
            (Phase::Trying(_) | Phase::Proceeding(_), Class::Success | Class::Failure) => {
                todo.push(Action::Deliver);
                // Timer K is zero on reliable transports: Completed is left as it is entered.
                if self.reliable {
                    todo.push(Action::Terminated);
                    Phase::Terminated
                } else {
                    Phase::Completed {
                        end_at: now + conf.timer_k(false),
                    }
                }
            }
            (
                phase @ (Phase::Completed { .. } | Phase::Terminated),
                Class::Provisional | Class::Success | Class::Failure,
            ) => phase,
        };
    }

    /// The time of [`Self::deadline`] has come; harmless when called early or late.
    pub fn on_deadline(&mut self, now: Instant, conf: &TimerConf, todo: &mut Vec<Action<M>>) {
        match &mut self.phase {
            Phase::Trying(pending) | Phase::Proceeding(pending) if pending.timeout_at <= now => {
                todo.push(Action::Timeout);
                self.terminate(todo);
            }
            Phase::Trying(pending) if pending.is_resend_due(now) => {
                let wait = conf.t2.min(pending.resend_wait * 2);
                pending.resend(now, wait, todo);
            }
            Phase::Proceeding(pending) if pending.is_resend_due(now) => pending.resend(now, conf.t2, todo),
            Phase::Completed { end_at } if *end_at <= now => self.terminate(todo),
            Phase::Trying(_) | Phase::Proceeding(_) | Phase::Completed { .. } | Phase::Terminated => {}
        }
    }

    /// Sends the request no more: it has gone on elsewhere, and only what may still come back matters.
    pub fn stop_resending(&mut self) {
        if let Phase::Trying(pending) | Phase::Proceeding(pending) = &mut self.phase {
            pending.resend_at = None;
        }
    }

    /// The request that was transmitted for this transaction could not be sent.
    pub fn on_transport_error(&mut self, todo: &mut Vec<Action<M>>) {
        match self.phase {
            Phase::Trying(_) | Phase::Proceeding(_) => {
                todo.push(Action::TransportFailed);
                self.terminate(todo);
            }
            Phase::Completed { .. } | Phase::Terminated => {}
        }
    }

    /// When to call [`Self::on_deadline`] next.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Trying(pending) | Phase::Proceeding(pending) => Some(
                pending
                    .resend_at
                    .map_or(pending.timeout_at, |at| at.min(pending.timeout_at)),
            ),
            Phase::Completed { end_at } => Some(*end_at),
            Phase::Terminated => None,
        }
    }

    /// The request while it is still kept: in Trying and Proceeding.
    pub fn request(&self) -> Option<&M> {
        match &self.phase {
            Phase::Trying(pending) | Phase::Proceeding(pending) => Some(&pending.request),
            Phase::Completed { .. } | Phase::Terminated => None,
        }
    }

    /// Where the machine stands.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Trying(_) => State::Trying,
            Phase::Proceeding(_) => State::Proceeding,
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

impl<M: Clone> Pending<M> {
    fn is_resend_due(&self, now: Instant) -> bool {
        self.resend_at.is_some_and(|at| at <= now)
    }

    /// Timer E fired; `wait` until it does again.
    fn resend(&mut self, now: Instant, wait: Duration, todo: &mut Vec<Action<M>>) {
        todo.push(Action::Transmit(self.request.clone()));
        self.resend_wait = wait;
        self.resend_at = Some(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{self, CONF, Fed};
    use super::*;

    const EVENTS: &[&str] = &["1xx", "200-699", "transport-error", "early", "T1", "T4", "64*T1"];

    fn feed(state: &str, event: &str, reliable: bool) -> Fed {
        let now = Instant::now();
        let mut todo = Vec::new();
        let mut machine = NonInviteClient::start(now, "BYE", reliable, &CONF, &mut todo);
        match state {
            "Trying" => {}
            "Proceeding" => machine.on_response(now, 100, &CONF, &mut todo),
            "Completed" => machine.on_response(now, 200, &CONF, &mut todo),
            _ => machine.on_transport_error(&mut todo),
        }
        assert_eq!(table::name(machine.state()), state);
        todo.clear();
        match event {
            "1xx" => machine.on_response(now, 100, &CONF, &mut todo),
            "200-699" => machine.on_response(now, 481, &CONF, &mut todo),
            "transport-error" => machine.on_transport_error(&mut todo),
            wait => machine.on_deadline(now + table::wait(wait), &CONF, &mut todo),
        }
        assert_eq!(
            machine.request().is_some(),
            matches!(machine.state(), State::Trying | State::Proceeding)
        );
        Fed {
            state: machine.state(),
            todo,
            deadline: machine.deadline(),
            now,
        }
    }

    /// Figure 6: Timers E and F are due in Trying and Proceeding, K in Completed.
    #[test]
    fn every_state_meets_every_event_as_in_figure_6_unreliable() {
        let states = &["Trying", "Proceeding", "Completed", "Terminated"];
        table::check(
            states,
            EVENTS,
            |state, event| feed(state, event, false),
            "
            Trying      1xx              Proceeding  deliver                      next=T1
            Trying      200-699          Completed   deliver                      next=T4
            Trying      transport-error  Terminated  transport-failed terminated  next=never
            Trying      early            Trying      -                            next=T1
            Trying      T1               Trying      transmit:BYE                 next=3*T1
            Trying      T4               Trying      transmit:BYE                 next=T4+2*T1
            Trying      64*T1            Terminated  timeout terminated           next=never
            Proceeding  1xx              Proceeding  deliver                      next=T1
            Proceeding  200-699          Completed   deliver                      next=T4
            Proceeding  transport-error  Terminated  transport-failed terminated  next=never
            Proceeding  early            Proceeding  -                            next=T1
            Proceeding  T1               Proceeding  transmit:BYE                 next=T1+T2
            Proceeding  T4               Proceeding  transmit:BYE                 next=T4+T2
            Proceeding  64*T1            Terminated  timeout terminated           next=never
            Completed   1xx              Completed   -                            next=T4
            Completed   200-699          Completed   -                            next=T4
            Completed   transport-error  Completed   -                            next=T4
            Completed   early            Completed   -                            next=T4
            Completed   T1               Completed   -                            next=T4
            Completed   T4               Terminated  terminated                   next=never
            Completed   64*T1            Terminated  terminated                   next=never
            Terminated  1xx              Terminated  -                            next=never
            Terminated  200-699          Terminated  -                            next=never
            Terminated  transport-error  Terminated  -                            next=never
            Terminated  early            Terminated  -                            next=never
            Terminated  T1               Terminated  -                            next=never
            Terminated  T4               Terminated  -                            next=never
            Terminated  64*T1            Terminated  -                            next=never",
        );
    }

    /// The same figure where the transport is reliable: no Timer E, Timer K is zero, so that Completed is never seen.
    #[test]
    fn every_state_meets_every_event_as_in_figure_6_reliable() {
        let states = &["Trying", "Proceeding", "Terminated"];
        table::check(
            states,
            EVENTS,
            |state, event| feed(state, event, true),
            "
            Trying      1xx              Proceeding  deliver                      next=64*T1
            Trying      200-699          Terminated  deliver terminated           next=never
            Trying      transport-error  Terminated  transport-failed terminated  next=never
            Trying      early            Trying      -                            next=64*T1
            Trying      T1               Trying      -                            next=64*T1
            Trying      T4               Trying      -                            next=64*T1
            Trying      64*T1            Terminated  timeout terminated           next=never
            Proceeding  1xx              Proceeding  deliver                      next=64*T1
            Proceeding  200-699          Terminated  deliver terminated           next=never
            Proceeding  transport-error  Terminated  transport-failed terminated  next=never
            Proceeding  early            Proceeding  -                            next=64*T1
            Proceeding  T1               Proceeding  -                            next=64*T1
            Proceeding  T4               Proceeding  -                            next=64*T1
            Proceeding  64*T1            Terminated  timeout terminated           next=never
            Terminated  1xx              Terminated  -                            next=never
            Terminated  200-699          Terminated  -                            next=never
            Terminated  transport-error  Terminated  -                            next=never
            Terminated  early            Terminated  -                            next=never
            Terminated  T1               Terminated  -                            next=never
            Terminated  T4               Terminated  -                            next=never
            Terminated  64*T1            Terminated  -                            next=never",
        );
    }

    fn sent_at(provisional_at: Option<u64>) -> Vec<u128> {
        let begin = Instant::now();
        let mut todo = Vec::new();
        let mut machine = NonInviteClient::start(begin, "BYE", false, &CONF, &mut todo);
        let mut sent_at = vec![0];
        let mut provisional_at = provisional_at.map(|ms| begin + Duration::from_millis(ms));
        while let Some(at) = machine.deadline() {
            if let Some(first) = provisional_at.take_if(|first| *first <= at) {
                machine.on_response(first, 100, &CONF, &mut todo);
                continue;
            }
            todo.clear();
            machine.on_deadline(at, &CONF, &mut todo);
            if todo == [Action::Transmit("BYE")] {
                sent_at.push((at - begin).as_millis());
            }
        }
        assert_eq!(todo, [Action::Timeout, Action::Terminated]);
        sent_at
    }

    /// §17.1.2.2: "500 ms, 1 s, 2 s, 4 s, 4 s, 4 s, etc."
    #[test]
    fn an_unanswered_request_goes_out_at_intervals_that_double_up_to_t2() {
        assert_eq!(
            sent_at(None),
            [0, 500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]
        );
    }

    /// §17.1.2.2: a provisional response does not stop Timer E, it only stretches it to T2 from the next firing on.
    #[test]
    fn a_provisional_response_slows_retransmission_down_to_t2() {
        assert_eq!(
            sent_at(Some(600)),
            [0, 500, 1500, 5500, 9500, 13500, 17500, 21500, 25500, 29500]
        );
    }

    #[test]
    fn the_machine_is_small_with_a_shared_buffer() {
        assert!(
            size_of::<NonInviteClient<bytes::Bytes>>() <= 96,
            "{}",
            size_of::<NonInviteClient<bytes::Bytes>>()
        );
    }
}

//! The way from the connections to their worker: bounded in events and bytes. While it is full nobody reads or accepts.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use super::StreamEvent;

/// Events on their way to the worker.
///
/// While the queue is full no connection is read and none accepted. What happens to those that are open is queued all the same:
/// at most their closing and the loss of what they had to write.
#[derive(Debug)]
pub(super) struct Queue {
    state: RefCell<State>,
    events_limit: usize,
    bytes_limit: usize,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<StreamEvent>,
    bytes: usize,
    /// Full once, and not yet half empty again.
    full: bool,
    /// The worker is gone.
    abandoned: bool,
    worker: Option<Waker>,
    /// Connections that wait and have read nothing since they last waited: they go first.
    hungry: Vec<Waker>,
    /// Connections that wait and have had their turn.
    served: Vec<Waker>,
    /// Counts how often the waiting ones were woken, all at once.
    round: u64,
}

/// A connection's place among those that wait.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The round it waits for; `None` while it does not wait.
    round: Option<u64>,
    /// It has read since it last waited.
    fed: bool,
}

impl Place {
    /// Whether the connection was stopped when it last asked.
    pub(super) fn is_waiting(&self) -> bool {
        self.round.is_some()
    }
}

impl Queue {
    pub(super) fn new(events_limit: usize, bytes_limit: usize) -> Queue {
        Queue {
            state: RefCell::default(),
            events_limit: events_limit.max(1),
            bytes_limit: bytes_limit.max(1),
        }
    }

    /// Appends an event and wakes the worker.
    pub(super) fn push(&self, event: StreamEvent) {
        let mut state = self.state.borrow_mut();
        if state.abandoned {
            return;
        }
        if let StreamEvent::Message { bytes, .. } = &event {
            state.bytes += bytes.len();
        }
        state.events.push_back(event);
        state.full |= state.events.len() >= self.events_limit || state.bytes >= self.bytes_limit;
        if let Some(worker) = state.worker.take() {
            worker.wake();
        }
    }

    /// Ready when a connection may read (or be accepted); else the asker will be woken. Ask before each read.
    pub(super) fn poll_room(&self, place: &mut Place, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.borrow_mut();
        if !state.full {
            place.round = None;
            place.fed = true;
            return Poll::Ready(());
        }
        if place.round != Some(state.round) {
            place.round = Some(state.round);
            let waiting = if place.fed {
                &mut state.served
            } else {
                &mut state.hungry
            };
            waiting.push(cx.waker().clone());
            place.fed = false;
        }
        Poll::Pending
    }

    /// Moves up to `limit` events out; returns how many.
    pub(super) fn take(&self, events: &mut Vec<StreamEvent>, limit: usize) -> usize {
        let mut state = self.state.borrow_mut();
        let count = limit.min(state.events.len());
        let state = &mut *state;
        for event in state.events.drain(..count) {
            if let StreamEvent::Message { bytes, .. } = &event {
                state.bytes -= bytes.len();
            }
            events.push(event);
        }
        if state.full && state.events.len() <= self.events_limit / 2 && state.bytes <= self.bytes_limit / 2 {
            state.full = false;
            state.round += 1;
            state
                .hungry
                .drain(..)
                .chain(state.served.drain(..))
                .for_each(Waker::wake);
        }
        count
    }

    /// As [`take`](Self::take), but waits for the first.
    pub(super) fn poll_take(&self, events: &mut Vec<StreamEvent>, limit: usize, cx: &Context<'_>) -> Poll<usize> {
        let count = self.take(events, limit);
        if count > 0 {
            return Poll::Ready(count);
        }
        let mut state = self.state.borrow_mut();
        if !state.worker.as_ref().is_some_and(|worker| worker.will_wake(cx.waker())) {
            state.worker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// The worker will not ask again: nothing is kept, and nobody reads.
    pub(super) fn abandon(&self) {
        let mut state = self.state.borrow_mut();
        state.abandoned = true;
        state.full = true;
        state.events.clear();
        state.hungry.clear();
        state.served.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use bytes::Bytes;
    use sps_wire::flow::{Flow, Transport};

    use super::*;

    /// Notes in which order it was woken.
    struct Bell {
        clock: Arc<AtomicUsize>,
        rang_at: AtomicUsize,
    }

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.rang_at
                .store(self.clock.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    fn bell(clock: &Arc<AtomicUsize>) -> (Arc<Bell>, Waker) {
        let bell = Arc::new(Bell {
            clock: clock.clone(),
            rang_at: AtomicUsize::new(0),
        });
        (bell.clone(), bell.into())
    }

    fn message(len: usize) -> StreamEvent {
        let addr = "127.0.0.1:5060".parse().unwrap();
        let flow = Flow {
            member: 0,
            transport: Transport::Tcp,
            local: addr,
            remote: addr,
            connection: 1,
        };
        StreamEvent::Message {
            flow,
            bytes: Bytes::from(vec![0; len]),
        }
    }

    #[test]
    fn readers_stop_when_it_is_full_and_go_on_when_it_is_half_empty() {
        let queue = Queue::new(4, 1_000);
        let (_, waker) = bell(&Arc::default());
        let cx = Context::from_waker(&waker);
        let mut place = Place::default();
        let mut events = Vec::new();
        for _ in 0..4 {
            assert!(queue.poll_room(&mut place, &cx).is_ready());
            queue.push(message(1));
        }
        assert!(queue.poll_room(&mut place, &cx).is_pending());
        assert_eq!(queue.take(&mut events, 1), 1);
        assert!(queue.poll_room(&mut place, &cx).is_pending());
        assert_eq!(queue.take(&mut events, 1), 1);
        assert!(queue.poll_room(&mut place, &cx).is_ready());
        queue.push(message(999));
        assert!(queue.poll_room(&mut place, &cx).is_pending(), "bytes count as well");
    }

    #[test]
    fn who_has_waited_longest_reads_first() {
        let queue = Queue::new(1, 1_000);
        let clock = Arc::default();
        let ((greedy, greedy_waker), (patient, patient_waker)) = (bell(&clock), bell(&clock));
        let (greedy_cx, patient_cx) = (Context::from_waker(&greedy_waker), Context::from_waker(&patient_waker));
        let (mut greedy_place, mut patient_place) = (Place::default(), Place::default());
        let mut events = Vec::new();
        // The greedy one fills the queue and stands in line before the other even asks.
        assert!(queue.poll_room(&mut greedy_place, &greedy_cx).is_ready());
        queue.push(message(1));
        assert!(queue.poll_room(&mut greedy_place, &greedy_cx).is_pending());
        assert!(queue.poll_room(&mut patient_place, &patient_cx).is_pending());
        assert!(
            queue.poll_room(&mut patient_place, &patient_cx).is_pending(),
            "asking twice is waiting once"
        );
        queue.take(&mut events, 1);
        let order = [&patient, &greedy].map(|bell| bell.rang_at.load(Ordering::Relaxed));
        assert_eq!(order, [1, 2]);
    }

    #[test]
    fn other_events_pass_a_full_queue() {
        let queue = Queue::new(1, 1);
        queue.push(message(1));
        let StreamEvent::Message { flow, .. } = message(0) else {
            unreachable!()
        };
        queue.push(StreamEvent::Closed {
            flow,
            reason: super::super::CloseReason::Peer,
        });
        assert_eq!(queue.take(&mut Vec::new(), 10), 2);
    }
}

//! Questions of routing that take time: names looked up beside everything else, answers fed back to who asked.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use sps_daemon::RateLimit;
use sps_net::resolve::{Notes, ResolveCounters, Wanted};
use sps_net::{Resolve, ResolveError, Resolver};
use sps_route::{Answer, Ask, Question, Resolved, Unresolved};
use sps_sip::proxy::BranchTicket;
use tokio::sync::mpsc;

use crate::engine::Asked;

/// Who waits for an answer.
#[derive(Debug, Clone, Copy)]
pub enum Asker {
    /// The routing of a request.
    Routing(Asked),
    /// The walk over a branch's next hops.
    Branch(BranchTicket),
}

/// Questions that are out.
pub struct Names {
    resolver: Rc<Resolver>,
    answers: mpsc::Sender<(Asker, Answer)>,
    /// Open questions of strangers.
    strangers: Rc<Cell<usize>>,
    refused: Cell<u64>,
}

/// Questions of one worker that may be open; over it the answer is at once that nothing was found.
const MAX_OPEN: usize = 4096;

/// Of these, questions of requests that nothing speaks for: fewer than there may be lookups under way, so that names chosen
/// for being slow to resolve do not keep others from being asked.
const MAX_OPEN_STRANGERS: usize = 384;

impl Names {
    /// A place to ask, and where answers come out. Must be called inside the worker's runtime.
    pub fn new(resolver: Resolver) -> (Names, mpsc::Receiver<(Asker, Answer)>) {
        let (answers, receiver) = mpsc::channel(MAX_OPEN);
        (
            Names {
                resolver: Rc::new(resolver),
                answers,
                strangers: Rc::default(),
                refused: Cell::new(0),
            },
            receiver,
        )
    }

    /// Asks; `stranger`: for a request that nothing speaks for. Gives the answer at once if too much is open.
    pub fn ask(&self, asker: Asker, ask: Ask, stranger: bool) -> Option<Answer> {
        let ticket = ask.ticket;
        let refused = || {
            self.refused.set(self.refused.get() + 1);
            let resolved = Resolved::Failed(Unresolved::Failed);
            Some(Answer { ticket, resolved })
        };
        if stranger && self.strangers.get() >= MAX_OPEN_STRANGERS {
            return refused();
        }
        // A place in the queue is held for the answer, so that sending it never waits.
        let Ok(place) = self.answers.clone().try_reserve_owned() else {
            return refused();
        };
        let resolver = self.resolver.clone();
        let open = stranger.then(|| Open::of(&self.strangers));
        tokio::task::spawn_local(async move {
            let _open = open;
            let resolved = answer(&resolver, ask, None).await;
            place.send((asker, Answer { ticket, resolved }));
        });
        None
    }

    /// What has been looked up so far.
    pub fn counters(&self) -> ResolveCounters {
        self.resolver.counters()
    }

    /// Questions not asked because too many were open.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }
}

/// Counts one open question as long as it lives.
struct Open(Rc<Cell<usize>>);

impl Open {
    fn of(count: &Rc<Cell<usize>>) -> Open {
        count.set(count.get() + 1);
        Open(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The answer to one question, in time. `notes` hears how it came about.
pub async fn answer(resolver: &Resolver, ask: Ask, notes: Option<Notes>) -> Resolved {
    let Question::Resolve {
        host,
        port,
        transport,
        secure,
        naptr,
    } = ask.question;
    let wanted = Wanted {
        host,
        port,
        transport,
        secure,
        naptr,
    };
    let wait = ask.deadline.saturating_duration_since(Instant::now());
    let found = tokio::time::timeout(wait, resolver.resolve(&wanted, notes)).await;
    match found.unwrap_or(Err(ResolveError::Timeout)) {
        Ok(destinations) => Resolved::Destinations(destinations),
        Err(error) => {
            let host = &wanted.host;
            // Who asks for what does not exist is a stranger's doing; servers that fail are the operator's.
            if !error.is_passing() {
                tracing::debug!(%host, %error, "name not resolved");
            } else if let Some(held_back) = UNRESOLVED.pass() {
                tracing::warn!(%host, %error, held_back, "name not resolved");
            }
            Resolved::Failed(match error {
                ResolveError::Timeout => Unresolved::Unanswered,
                ResolveError::ServerFailed | ResolveError::Busy | ResolveError::NoServers => Unresolved::Failed,
                ResolveError::BadName
                | ResolveError::NotFound
                | ResolveError::NoService
                | ResolveError::NoTransport => Unresolved::Absent,
            })
        }
    }
}

static UNRESOLVED: RateLimit = RateLimit::per_second(5);

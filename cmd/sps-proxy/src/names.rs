//! Questions of routing that take time: names looked up beside everything else, answers fed back to who asked.

use std::rc::Rc;
use std::time::Instant;

use sps_daemon::RateLimit;
use sps_net::resolve::{Notes, ResolveCounters, Wanted};
use sps_net::{Resolve, ResolveError, Resolver};
use sps_route::{Answer, Ask, Question, Resolved, Unresolved};
use sps_sip::proxy::{BranchTicket, Ticket};
use tokio::sync::mpsc;

/// Who waits for an answer.
#[derive(Debug, Clone, Copy)]
pub enum Asker {
    /// The routing of a request.
    Routing(Ticket),
    /// The walk over a branch's next hops.
    Branch(BranchTicket),
}

/// Questions that are out.
pub struct Names {
    resolver: Rc<Resolver>,
    answers: mpsc::Sender<(Asker, Answer)>,
}

/// Questions of one worker that may be open; over it the answer is at once that nothing was found.
const MAX_OPEN: usize = 4096;

impl Names {
    /// A place to ask, and where answers come out. Must be called inside the worker's runtime.
    pub fn new(resolver: Resolver) -> (Names, mpsc::Receiver<(Asker, Answer)>) {
        let (answers, receiver) = mpsc::channel(MAX_OPEN);
        (
            Names {
                resolver: Rc::new(resolver),
                answers,
            },
            receiver,
        )
    }

    /// Asks. Gives the answer at once if too much is open.
    pub fn ask(&self, asker: Asker, ask: Ask) -> Option<Answer> {
        let ticket = ask.ticket;
        // A place in the queue is held for the answer, so that sending it never waits.
        let Ok(place) = self.answers.clone().try_reserve_owned() else {
            return Some(Answer {
                ticket,
                resolved: Resolved::Failed(Unresolved::Failed),
            });
        };
        let resolver = self.resolver.clone();
        tokio::task::spawn_local(async move {
            let resolved = answer(&resolver, ask, None).await;
            place.send((asker, Answer { ticket, resolved }));
        });
        None
    }

    /// What has been looked up so far.
    pub fn counters(&self) -> ResolveCounters {
        self.resolver.counters()
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

static UNRESOLVED: RateLimit = RateLimit::per_second(1);

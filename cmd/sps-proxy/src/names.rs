//! Questions of routing that take time: names looked up beside everything else, answers fed back to who asked.

use std::rc::Rc;
use std::time::Instant;

use sps_net::{Resolve, Resolver};
use sps_route::{Answer, Ask, Question, Resolved};
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
                resolved: Resolved::Failed,
            });
        };
        let resolver = self.resolver.clone();
        tokio::task::spawn_local(async move {
            let Question::Resolve { host, port, transport } = ask.question;
            let wait = ask.deadline.saturating_duration_since(Instant::now());
            let resolved = match tokio::time::timeout(wait, resolver.resolve(&host, port, transport)).await {
                Ok(Ok(destinations)) => Resolved::Destinations(destinations),
                Ok(Err(error)) => {
                    tracing::debug!(%host, %error, "name not resolved");
                    Resolved::Failed
                }
                Err(_) => Resolved::Failed,
            };
            place.send((asker, Answer { ticket, resolved }));
        });
        None
    }
}

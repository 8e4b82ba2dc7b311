//! The handshakes under way: bounded, and when there are too many the oldest of whoever has the most is given up. So a crowd that
//! begins and never goes on gets in nobody's way but its own.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

use crate::peers::Source;

/// All handshakes under way. Clones are the same thing.
#[derive(Clone, Default)]
pub struct Handshakes(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    last: u64,
    count: usize,
    /// The oldest in front.
    by_source: HashMap<Source, VecDeque<(u64, Option<AbortHandle>)>>,
}

/// One of them, until dropped.
pub struct Begun {
    handshakes: Handshakes,
    source: Source,
    id: u64,
}

impl Handshakes {
    /// Begins one; gives whether another one had to go for it. [`Handshakes::runs`] must follow.
    pub fn begin(&self, source: Source, max: usize) -> (Begun, bool) {
        let mut state = self.lock();
        let evicted = state.count >= max && state.evict();
        state.last += 1;
        state.count += 1;
        let id = state.last;
        state.by_source.entry(source).or_default().push_back((id, None));
        let begun = Begun {
            handshakes: self.clone(),
            source,
            id,
        };
        (begun, evicted)
    }

    /// Which task it is.
    pub fn runs(&self, source: Source, id: u64, task: AbortHandle) {
        let mut state = self.lock();
        // It may be over already, or have been evicted before it ran.
        match state
            .by_source
            .get_mut(&source)
            .and_then(|all| all.iter_mut().find(|(other, _)| *other == id))
        {
            Some((_, handle)) => *handle = Some(task),
            None => drop(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Begun {
    /// For [`Handshakes::runs`].
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.handshakes.lock().remove(self.source, self.id);
    }
}

impl State {
    /// Gives up the oldest of the source that has the most.
    fn evict(&mut self) -> bool {
        let Some(source) = self
            .by_source
            .iter()
            .max_by_key(|(_, all)| all.len())
            .map(|(source, _)| *source)
        else {
            return false;
        };
        let oldest = self.by_source.get_mut(&source).and_then(|all| {
            let at = all.iter().position(|(_, task)| task.is_some())?;
            all.remove(at)
        });
        let Some((_, Some(task))) = oldest else { return false };
        self.count -= 1;
        self.forget_empty(source);
        // Its connection goes with the task.
        task.abort();
        true
    }

    fn remove(&mut self, source: Source, id: u64) {
        let Some(all) = self.by_source.get_mut(&source) else {
            return;
        };
        let Some(at) = all.iter().position(|(other, _)| *other == id) else {
            return;
        };
        all.remove(at);
        self.count -= 1;
        self.forget_empty(source);
    }

    fn forget_empty(&mut self, source: Source) {
        if self.by_source.get(&source).is_some_and(VecDeque::is_empty) {
            self.by_source.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn the_oldest_of_the_greediest_has_to_go() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let handshakes = Handshakes::default();
            let mut tasks = Vec::new();
            let mut begin = |ip: &str| {
                let source = Source::from(ip.parse::<IpAddr>().unwrap());
                let (begun, evicted) = handshakes.begin(source, 4);
                let id = begun.id();
                let task = tokio::spawn(async move {
                    let _begun = begun;
                    std::future::pending::<()>().await;
                });
                handshakes.runs(source, id, task.abort_handle());
                tasks.push(task);
                evicted
            };
            assert!(!begin("192.0.2.1"));
            for _ in 0..3 {
                assert!(!begin("192.0.2.66"));
            }
            for _ in 0..50 {
                assert!(begin("192.0.2.66"));
            }
            assert!(begin("192.0.2.2"));
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            let alive: Vec<usize> = (0..tasks.len()).filter(|at| !tasks[*at].is_finished()).collect();
            assert_eq!(
                alive,
                [0, 52, 53, 54],
                "the modest ones, and the newest of the greedy one"
            );
            assert_eq!(handshakes.lock().count, 4);
            tasks.iter().for_each(|task| task.abort());
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            assert_eq!(handshakes.lock().count, 0);
            assert!(handshakes.lock().by_source.is_empty());
        });
    }
}

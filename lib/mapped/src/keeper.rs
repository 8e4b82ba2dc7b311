//! A thread that puts what changed on the disk at intervals, so that no change has to wait for it.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Ends its thread when dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    is_dirty: AtomicBool,
    failures: AtomicU64,
}

#[derive(Debug)]
struct State {
    file: Arc<File>,
    stop: bool,
}

impl Keeper {
    pub fn start(file: Arc<File>, interval: Duration) -> io::Result<Keeper> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { file, stop: false }),
            wake: Condvar::new(),
            is_dirty: AtomicBool::new(false),
            failures: AtomicU64::new(0),
        });
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("table-keep".to_owned())
            .spawn(move || theirs.run(interval))?;
        Ok(Keeper {
            shared,
            thread: Some(thread),
        })
    }

    /// Something changed.
    #[inline]
    pub fn touch(&self) {
        if !self.shared.is_dirty.load(Relaxed) {
            self.shared.is_dirty.store(true, Relaxed);
        }
    }

    /// The table lives in another file now.
    pub fn follow(&self, file: Arc<File>) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).file = file;
    }

    /// How often the disk has refused.
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Relaxed)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, interval: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Instant::now() + interval;
        while !state.stop {
            let now = Instant::now();
            if now < next {
                state = self
                    .wake
                    .wait_timeout(state, next - now)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
                continue;
            }
            next = now + interval;
            // Cleared first: what changes while the disk works is for the next time.
            if self.is_dirty.swap(false, Relaxed) {
                let file = state.file.clone();
                drop(state);
                if file.sync_data().is_err() {
                    self.failures.fetch_add(1, Relaxed);
                    self.is_dirty.store(true, Relaxed);
                }
                state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

//! Everything that can happen to the master, in one queue. Threads put it there and own nothing else.

use std::process::ExitStatus;
use std::sync::mpsc::Sender;

use sps_ipc::operator::{Reply, Request};
use sps_ipc::parent::Report;

/// Events that can wait; who has more waits itself.
pub const QUEUE_LEN: usize = 256;

/// One thing that happened.
#[derive(Debug)]
pub enum Event {
    /// A child said something, or ended. `life` tells one process of a daemon from the next.
    Child { child: usize, life: u64, what: ChildEvent },
    /// An operator asks. Any number of [`Reply::Progress`], then one other reply.
    Asked { request: Request, reply: Sender<Reply> },
    /// TERM or INT.
    Signal(i32),
}

/// What a child did.
#[derive(Debug)]
pub enum ChildEvent {
    /// It reported.
    Said(Report),
    /// The channel to it could not be set up; it will be ended.
    NoChannel(String),
    /// Its process has ended, and it has said all it had to say.
    Exited(ExitStatus),
}

//! What the mains of all daemons share: the parent, the logs, the limits, the sandbox, the way out.
//!
//! A daemon's `run` is, each step relying on the ones above it:
//!
//! ```no_run
//! # use sps_daemon::{ChildArgs, Confine, Fatal, Parent};
//! fn run(args: &ChildArgs) -> Result<(), Fatal> {
//!     let mut parent = Parent::connect("sps-registrar", args)?;
//!     let frozen = parent.configuration();
//!     sps_daemon::start_log("sps-registrar", &frozen)?;
//!     // open files, listen
//!     sps_daemon::confine(&Confine::of(&frozen))?;
//!     parent.ready()?;
//!     sps_daemon::block_on(async move {
//!         loop {
//!             match parent.next_order().await {
//!                 // prepare, commit, abort, stop
//!                 # order => { order.done(); return Ok(()) }
//!             }
//!         }
//!     })
//! }
//! ```
//!
//! Threads are started by [`Parent::ready`] and later, never before: the sandbox holds for the calling thread and those it starts.
#![forbid(unsafe_code)]

pub mod access;
mod confine;
mod exit;
mod file;
mod instance;
mod limits;
mod log;
mod parent;
mod rate;
mod runtime;
pub mod time;
mod user;

pub use access::{AccessLog, AccessWriter};
pub use confine::{Confine, Confined, confine};
pub use exit::{Exit, Fatal, OrFatal, exit, main};
pub use file::open_log_file;
pub use instance::{Lock, Orphan, Running, end_orphans, find_orphans, running};
pub use limits::{open_files, raise_open_files};
pub use log::{LogConf, flush_log, log_configure, log_level, log_reopen, start_log, start_log_thread, start_log_with};
pub use parent::{ChildArgs, Delivered, Listener, Order, Parent, Pulse};
pub use rate::RateLimit;
pub use runtime::block_on;
pub use user::{Ids, look_up_user};

//! The runtime of a daemon's main thread.

use std::future::Future;

use crate::{Exit, Fatal, OrFatal};

/// Runs `serve` to its end on the calling thread.
///
/// # Errors
/// Those of `serve`; [`Exit::System`] when there is no runtime to be had.
pub fn block_on(serve: impl Future<Output = Result<(), Fatal>>) -> Result<(), Fatal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_fatal(Exit::System, "start the event loop")?;
    let result = runtime.block_on(serve);
    // Whatever a blocking task still does must not hold up the exit.
    runtime.shutdown_background();
    result
}

//! What spsctl and spsroute share: global arguments, exit codes, tables, JSON, progress, error printing.
//!
//! Results go to stdout and words to stderr. A command's `main` is:
//!
//! ```no_run
//! # use clap::Parser;
//! #[derive(Parser)]
//! struct Args {
//!     #[command(flatten)]
//!     global: sps_cli::GlobalArgs,
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     sps_cli::main::<Args>(|args| {
//!         let out = args.global.output();
//!         out.note("nothing to do");
//!         Ok(())
//!     })
//! }
//! ```
#![forbid(unsafe_code)]

mod args;
mod exit;
mod output;
mod progress;
mod table;

pub use args::{GlobalArgs, completions, main};
pub use clap_complete::Shell;
pub use exit::{Exit, Failure, OrFail};
pub use output::{Output, printable};
pub use progress::Progress;
pub use table::Table;

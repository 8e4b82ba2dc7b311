//! The way out of a daemon: an exit code after sysexits(3), and a text for the operator.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

/// How a daemon ended, after sysexits(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The command line makes no sense.
    Usage = 64,
    /// A file to be read is not there.
    NoInput = 66,
    /// The user to run as does not exist.
    NoUser = 67,
    /// An address could not be bound, a socket not be made.
    Network = 69,
    /// A fault of SPS itself.
    Software = 70,
    /// The system gave no process, thread or descriptor.
    System = 71,
    /// A file or folder could not be made.
    CantCreate = 73,
    /// A file could not be read or written.
    Storage = 74,
    /// Not now: already running, port in use.
    Later = 75,
    /// The other side spoke another version.
    Protocol = 76,
    /// The rights for it are missing.
    Privilege = 77,
    /// The configuration is wrong.
    Config = 78,
}

impl Exit {
    /// The number that the parent sees.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The meaning of a number, when it is one of ours.
    pub fn from_code(code: u8) -> Option<Self> {
        use Exit::*;
        let all = [
            Usage, NoInput, NoUser, Network, Software, System, CantCreate, Storage, Later, Protocol, Privilege, Config,
        ];
        all.into_iter().find(|exit| exit.code() == code)
    }
}

/// Why a daemon cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fatal {
    /// The exit code.
    pub exit: Exit,
    /// For the operator; lower case, no full stop. May have several lines (configuration problems).
    pub text: String,
}

impl Fatal {
    /// A fatal error of our own finding.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self {
            exit,
            text: text.into(),
        }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fatal {}

/// Turns any error into a [`Fatal`].
pub trait OrFatal<T> {
    /// Exit with `exit`, saying `what` could not be done and, after a colon, why (all causes in a row).
    ///
    /// # Errors
    /// Whatever `self` held.
    fn or_fatal(self, exit: Exit, what: impl fmt::Display) -> Result<T, Fatal>;
}

impl<T, E: std::error::Error> OrFatal<T> for Result<T, E> {
    fn or_fatal(self, exit: Exit, what: impl fmt::Display) -> Result<T, Fatal> {
        self.map_err(|error| {
            let mut text = format!("{what}: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(": ");
                text.push_str(&error.to_string());
                cause = error.source();
            }
            Fatal { exit, text }
        })
    }
}

/// A daemon's whole `main`: parses the command line (64 when it makes no sense), runs, and ends as [`exit`] does.
pub fn main<A: clap::Parser>(run: impl FnOnce(A) -> Result<(), Fatal>) -> ExitCode {
    match A::try_parse() {
        Ok(args) => exit(run(args)),
        Err(error) => {
            // A closed stderr or stdout must not turn a usage error into something else.
            let _ = error.print();
            if error.use_stderr() {
                ExitCode::from(Exit::Usage.code())
            } else {
                ExitCode::SUCCESS
            }
        }
    }
}

/// Ends `main`: a fatal error goes to the error log, to the master when there is one, else to stderr. What is logged so far is
/// written out.
pub fn exit(result: Result<(), Fatal>) -> ExitCode {
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            tracing::error!(code = fatal.exit.code(), "{fatal}");
            if !crate::parent::report_fatal(&fatal) {
                let program = std::env::args().next().unwrap_or_default();
                let name = program.rsplit('/').next().unwrap_or_default();
                // A closed stderr must not turn one error into another.
                let _ = writeln!(std::io::stderr(), "{name}: {fatal}");
            }
            ExitCode::from(fatal.exit.code())
        }
    };
    crate::access::finish_all();
    crate::log::flush_log();
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_causes_stand_in_the_text() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        let result: Result<(), _> = Err(Outer(std::io::Error::other("inner")));
        let fatal = result.or_fatal(Exit::Storage, "open registry").unwrap_err();
        assert_eq!(
            (fatal.exit.code(), fatal.text.as_str()),
            (74, "open registry: outer: inner")
        );
    }
}

//! Exit codes after sysexits(3), and the error that carries one to `main`.

use std::fmt;

/// How a command ended, after sysexits(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The command line makes no sense.
    Usage = 64,
    /// The data given (a CSV line, a URI, a pattern) is wrong.
    Data = 65,
    /// A file to be read is not there, or what was asked for does not exist.
    NoInput = 66,
    /// The user to run as does not exist.
    NoUser = 67,
    /// A daemon that is needed does not run or does not answer, or an address could not be bound.
    Unavailable = 69,
    /// A fault of SPS itself.
    Software = 70,
    /// The system gave no process, thread or descriptor.
    System = 71,
    /// A file could not be made.
    CantCreate = 73,
    /// Reading or writing failed.
    Io = 74,
    /// Not now: already running, locked, draining; the same command may work later.
    TempFail = 75,
    /// The other side spoke another version.
    Protocol = 76,
    /// The rights for it are missing.
    NoPermission = 77,
    /// The configuration is wrong.
    Config = 78,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// What a daemon gave as its reason; a number that is none of these is a fault of SPS.
    pub fn from_code(code: u8) -> Self {
        ALL.into_iter()
            .find(|exit| exit.code() == code)
            .unwrap_or(Self::Software)
    }
}

const ALL: [Exit; 13] = [
    Exit::Usage,
    Exit::Data,
    Exit::NoInput,
    Exit::NoUser,
    Exit::Unavailable,
    Exit::Software,
    Exit::System,
    Exit::CantCreate,
    Exit::Io,
    Exit::TempFail,
    Exit::Protocol,
    Exit::NoPermission,
    Exit::Config,
];

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command failed: an exit code, a text for the operator, perhaps the cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the shell sees.
    pub exit: Exit,
    /// What went wrong; lower case, no full stop. May have several lines (configuration problems).
    pub text: String,
    /// What the operator can do about it.
    pub cure: Option<String>,
    /// The text is a report that says itself what each line is about, and what reads it may look for `FILE:LINE:COLUMN` at the
    /// beginning of a line: it is printed without the program's name.
    pub(crate) is_report: bool,
}

impl Failure {
    /// A failure with a text.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self {
            exit,
            text: text.into(),
            cure: None,
            is_report: false,
        }
    }

    /// The same with a line on what to do about it.
    #[must_use]
    pub fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.cure {
            Some(cure) => write!(f, "\n  {cure}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// An unusable configuration: 66 when it cannot be read, 78 otherwise; the text is the whole report.
impl From<sps_conf::Problems> for Failure {
    fn from(problems: sps_conf::Problems) -> Self {
        let exit = if problems.is_unreadable() {
            Exit::NoInput
        } else {
            Exit::Config
        };
        Self {
            is_report: true,
            ..Self::new(exit, problems.to_string())
        }
    }
}

/// Turns any error into a [`Failure`].
pub trait OrFail<T> {
    /// Exit with `exit`, saying `what` could not be done and, after a colon, why (all causes in a row).
    ///
    /// # Errors
    /// Whatever `self` held.
    fn or_fail(self, exit: Exit, what: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: std::error::Error> OrFail<T> for Result<T, E> {
    fn or_fail(self, exit: Exit, what: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| {
            let mut text = format!("{what}: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(": ");
                text.push_str(&error.to_string());
                cause = error.source();
            }
            Failure::new(exit, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_failure_tells_all_causes_and_the_cure() {
        let result: Result<(), Outer> = Err(Outer(std::io::Error::other("inner")));
        let failure = result.or_fail(Exit::Io, "write x").unwrap_err().cure("make room");
        assert_eq!(failure.to_string(), "write x: outer: inner\n  make room");
        assert_eq!(failure.exit.code(), 74);
    }

    #[test]
    fn codes_come_back_to_what_they_were() {
        for exit in ALL {
            assert_eq!(Exit::from_code(exit.code()), exit);
        }
        assert_eq!(Exit::from_code(1), Exit::Software);
    }

    #[test]
    fn a_configuration_that_is_not_there_is_not_a_wrong_one() {
        let missing = sps_conf::Config::load("/nowhere/sps.toml".as_ref()).unwrap_err();
        assert_eq!(Failure::from(missing).exit, Exit::NoInput);
        let wrong = sps_conf::Config::parse("f".as_ref(), "x").unwrap_err();
        assert_eq!(Failure::from(wrong).exit, Exit::Config);
    }
}

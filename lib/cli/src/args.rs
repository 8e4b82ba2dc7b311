//! The command line: what every tool takes, and how `main` ends.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser};
use clap_complete::Shell;
use sps_conf::Paths;

use crate::{Exit, Failure, Output};

/// Arguments that every tool takes, before or after the subcommand. Flatten them into the tool's own.
#[derive(Debug, Clone, Default, Args)]
pub struct GlobalArgs {
    /// Folder that holds the whole instance (configuration, data, sockets, logs) instead of the system's folders
    #[arg(long, env = "SPS_ROOT", value_name = "DIR", global = true)]
    pub root: Option<PathBuf>,
    /// Print results as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

impl GlobalArgs {
    /// Where everything lies for this instance.
    pub fn paths(&self) -> Paths {
        Paths::new(self.root.as_deref().filter(|root| !root.as_os_str().is_empty()))
    }

    /// How to print results.
    pub fn output(&self) -> Output {
        Output::new(self.json)
    }
}

/// Parses the command line and runs `run`: usage errors exit with 64, `--help` and `--version` with 0, a [`Failure`] is printed
/// on stderr, behind the program's name unless it is a report on a file, and gives its own code.
pub fn main<A: Parser>(run: impl FnOnce(A) -> Result<(), Failure>) -> ExitCode {
    let args = match A::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // A closed stderr or stdout must not turn a usage error into something else.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.is_report {
                eprintln!("{failure}");
            } else {
                eprintln!("{}: {failure}", A::command().get_name());
            }
            failure.exit.into()
        }
    }
}

/// Writes the completion script of tool `A` for `shell` to stdout.
///
/// # Errors
/// When stdout cannot be written.
pub fn completions<A: CommandFactory>(shell: Shell) -> Result<(), Failure> {
    let mut command = A::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    crate::output::write_stdout(&script)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "tool", version)]
    struct Tool {
        #[command(flatten)]
        global: GlobalArgs,
        #[command(subcommand)]
        command: Option<Command>,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Command {
        /// Shows it
        Show,
    }

    #[test]
    fn global_arguments_stand_before_or_after_the_subcommand() {
        for line in [["tool", "--root", "/r", "show"], ["tool", "show", "--root", "/r"]] {
            let tool = Tool::try_parse_from(line).unwrap();
            assert_eq!(tool.global.paths().root.as_deref(), Some(Path::new("/r")));
            assert!(!tool.global.output().is_json());
            assert!(matches!(tool.command, Some(Command::Show)));
        }
        assert!(Tool::try_parse_from(["tool", "show", "--json"]).unwrap().global.json);
    }

    #[test]
    fn an_empty_root_is_none() {
        let global = GlobalArgs {
            root: Some(PathBuf::new()),
            json: false,
        };
        assert_eq!(global.paths(), Paths::new(None));
    }
}

//! spsctl: runs SPS and looks after its registrations. See spsctl(1).
#![forbid(unsafe_code)]

mod ban;
mod init;
mod master;
mod offline;
mod registration;
mod start;
mod status;
mod stop;
mod tls;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use sps_cli::{Exit, Failure, GlobalArgs, Shell};
use sps_conf::{Config, Level, Listen, Paths};
use sps_ipc::operator::Request;

/// Runs the SIP proxy suite SPS and looks after its registrations
///
/// Results go to standard output, words to standard error. Every command may be repeated.
#[derive(Debug, Parser)]
#[command(name = "spsctl", version, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a commented sps.toml and make the folders; never over what is there
    Init(InitArgs),
    /// Start SPS and return when every daemon is ready
    Start {
        /// Stay in the foreground until the end, and log to the terminal as well
        #[arg(long)]
        foreground: bool,
    },
    /// Stop SPS and return when all is over
    Stop {
        /// Seconds for ending what has begun; it is cut then
        #[arg(long, value_name = "S", default_value_t = stop::DEFAULT_TIMEOUT_S, value_parser = clap::value_parser!(u64).range(..=stop::MAX_TIMEOUT_S))]
        timeout: u64,
    },
    /// Show each daemon, what SPS listens on, and its counters
    Status,
    /// Check the configuration, or FILE, and change nothing
    Check {
        /// Another file than the instance's own
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Put the changed configuration in force, or say why not
    Reload,
    /// Show and change registrations
    #[command(subcommand)]
    Registration(registration::Command),
    /// Show TLS connections
    #[command(subcommand)]
    Tls(tls::Command),
    /// Show, add and remove bans of sources that are not listened to
    #[command(subcommand)]
    Ban(ban::Command),
    /// Open the log files anew, or write more or less into them
    #[command(subcommand)]
    Log(LogCommand),
    /// Print the completion script for a shell
    #[command(hide = true)]
    Completions {
        /// bash, zsh or fish
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
}

#[derive(Debug, Args)]
struct InitArgs {
    /// Our domain: the part behind the @ of our users [default: localhost]
    #[arg(long, value_name = "D")]
    domain: Option<String>,
    /// Where to listen, as in udp:192.0.2.10:5060 or tcp:[2001:db8::10]:5060; may be repeated [default: UDP and TCP at 127.0.0.1:5060]
    #[arg(long, value_name = "T:A:P")]
    listen: Vec<Listen>,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Open the log files anew, after they have been moved away
    Reopen,
    /// Write more or less into the error log until the next start
    Level {
        /// A daemon (sps-proxy, or just proxy), or one module of it (proxy::net::udp)
        #[arg(value_name = "DAEMON[::MODULE]")]
        target: String,
        /// error, warn, info, debug or trace
        #[arg(value_name = "LEVEL", value_parser = parse_level)]
        level: Level,
    },
}

fn main() -> ExitCode {
    sps_cli::main(|arguments: Arguments| {
        let (paths, out) = (arguments.global.paths(), arguments.global.output());
        match arguments.command {
            Command::Init(InitArgs { domain, listen }) => init::run(&paths, out, domain, listen),
            Command::Start { foreground: true } => start::foreground(&paths),
            Command::Start { foreground: false } => start::background(&paths, out),
            Command::Stop { timeout } => stop::run(&paths, out, timeout),
            Command::Status => status::run(&paths, out),
            Command::Check { file } => check(paths, file, out),
            Command::Reload => {
                master::order(&paths, out, &Request::Reload)?;
                out.note("the new configuration is in force");
                Ok(())
            }
            Command::Registration(command) => registration::run(&paths, out, command),
            Command::Tls(command) => tls::run(&paths, out, &command),
            Command::Ban(command) => ban::run(&paths, out, command),
            Command::Log(LogCommand::Reopen) => master::order(&paths, out, &Request::LogReopen),
            Command::Log(LogCommand::Level { target, level }) => {
                let (daemon, module) = match target.split_once("::") {
                    Some((daemon, module)) => (daemon.to_owned(), Some(module.to_owned())),
                    None => (target, None),
                };
                master::order(&paths, out, &Request::LogLevel { daemon, module, level })
            }
            Command::Completions { shell } => sps_cli::completions::<Arguments>(shell),
        }
    })
}

/// Tells every problem of a file and of those it names, warnings too.
fn check(mut paths: Paths, file: Option<PathBuf>, out: sps_cli::Output) -> Result<(), Failure> {
    if let Some(file) = file {
        // What it names lies beside it.
        paths.config = std::path::absolute(&file).unwrap_or(file);
    }
    let file = &paths.config;
    let (conf, warnings) = Config::load_noting(file)?;
    match conf.tls_material(&paths) {
        Err(error) if error.denied && !rustix::process::geteuid().is_root() => {
            out.note(&format!("{error}; not looked at (root may)"));
        }
        Err(error) => return fail(Exit::Config, error.to_string()),
        Ok(_) => {}
    }
    if !warnings.is_empty() {
        out.note(&warnings.to_string());
    }
    out.note(&format!("{}: no errors", file.display()));
    Ok(())
}

fn parse_level(text: &str) -> Result<Level, String> {
    let all = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
    all.into_iter()
        .find(|level| level.as_str() == text)
        .ok_or_else(|| "expected error, warn, info, debug or trace".into())
}

/// A failure of our own finding.
fn fail<T>(exit: Exit, text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::new(exit, text))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_free_of_contradictions() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_arguments_may_stand_behind_the_command() {
        let arguments = Arguments::try_parse_from(["spsctl", "status", "--root", "/r", "--json"]).unwrap();
        assert!(arguments.global.json && arguments.global.root.is_some());
        assert!(Arguments::try_parse_from(["spsctl", "log", "level", "proxy", "loud"]).is_err());
    }
}

//! spsroute: checks, explains and edits the route table. See spsroute(1).
#![forbid(unsafe_code)]

mod change;
mod explain;
mod failure;
mod file;
mod here;
mod list;

use clap::{Args, Parser, Subcommand};
use sps_cli::{Failure, GlobalArgs, Shell};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Check, explain and edit the route table of SPS
#[derive(Parser)]
#[command(name = "spsroute", version)]
struct Arguments {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List routes, all or those within a pattern or domain
    List {
        /// Only routes for numbers that this pattern matches too, or for domains within this one
        #[arg(value_name = "PATTERN")]
        within: Option<String>,
    },
    /// Add a route for numbers or, with --domain, for a domain
    #[command(override_usage = "spsroute add [OPTIONS] PATTERN NEXT-HOP\n       \
                                spsroute add [OPTIONS] --domain D NEXT-HOP")]
    Add(Add),
    /// Remove a route
    Remove {
        /// The number in the first column of `spsroute list`
        id: u64,
    },
    /// Add the routes of a CSV file, all or none
    Import {
        /// The file, or - for the standard input
        #[arg(value_name = "FILE.csv")]
        file: PathBuf,
        /// Remove the routes that are not in the file
        #[arg(long)]
        replace: bool,
    },
    /// Write all routes as CSV, in the form that import reads
    Export,
    /// Tell stage by stage where a request would go; nothing is sent
    Explain(Explain),
    /// Print a completion script
    Completions {
        /// For which shell
        shell: Shell,
    },
}

#[derive(Args)]
struct Add {
    /// Digits and an optional +, `.` for any one digit, a trailing * for any rest
    #[arg(value_name = "PATTERN")]
    first: String,
    /// HOST, HOST:PORT or [V6]:PORT
    #[arg(value_name = "NEXT-HOP")]
    second: Option<String>,
    /// Hosts instead of numbers: a domain, *.DOMAIN for all below it, or * for all that are not ours
    #[arg(long, value_name = "D")]
    domain: Option<String>,
    /// udp, tcp or tls; otherwise as DNS says, or udp
    #[arg(long, value_name = "T")]
    transport: Option<String>,
    /// Routes of a lower number are tried first
    #[arg(long, value_name = "N", default_value_t = sps_store::DEFAULT_PRIORITY)]
    priority: u16,
    /// Share of the calls among routes of the same priority
    #[arg(long, value_name = "N", default_value_t = sps_store::DEFAULT_WEIGHT)]
    weight: u16,
}

#[derive(Args)]
struct Explain {
    /// The Request-URI; a bare number or user is taken to be at our domain
    uri: String,
    /// The caller
    #[arg(long, value_name = "URI")]
    from: Option<String>,
    /// The method [default: INVITE]
    #[arg(long, value_name = "M", value_parser = method)]
    method: Option<String>,
    /// Where the request comes from, as ADDRESS or ADDRESS:PORT [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS", value_parser = source)]
    source: Option<SocketAddr>,
}

fn main() -> ExitCode {
    sps_cli::main::<Arguments>(|arguments| {
        let (paths, out) = (arguments.global.paths(), arguments.global.output());
        match arguments.command {
            Command::List { within } => list::list(&paths, out, within.as_deref()),
            Command::Add(add) => change::add(&paths, out, &add),
            Command::Remove { id } => change::remove(&paths, out, id),
            Command::Import { file, replace } => file::import(&paths, out, &file, replace),
            Command::Export => file::export(&paths, out),
            Command::Explain(explain) => explain::explain(&paths, out, &explain),
            Command::Completions { shell } => completions(shell),
        }
    })
}

fn completions(shell: Shell) -> Result<(), Failure> {
    sps_cli::completions::<Arguments>(shell)
}

/// A token (RFC 3261 §25.1).
fn method(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_token) {
        true => Ok(text.into()),
        false => Err("expected one word, such as INVITE".into()),
    }
}

fn source(text: &str) -> Result<SocketAddr, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    match (text.parse(), bare.parse()) {
        (Ok(addr), _) => Ok(addr),
        (_, Ok(ip)) => Ok(SocketAddr::new(ip, 5060)),
        _ => Err("neither an address nor ADDRESS:PORT".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_source_has_a_port_or_gets_one() {
        for (text, addr) in [
            ("192.0.2.1", "192.0.2.1:5060"),
            ("192.0.2.1:7", "192.0.2.1:7"),
            ("::1", "[::1]:5060"),
            ("[::1]", "[::1]:5060"),
            ("[::1]:7", "[::1]:7"),
        ] {
            assert_eq!(source(text), Ok(addr.parse().unwrap()));
        }
        assert!(source("gw").is_err());
    }
}

//! `spsctl registration`: asks `sps-registrar` while it runs, and goes to the files while it does not.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde::Serialize;
use sps_cli::{Exit, Failure, OrFail, Output, Table};
use sps_conf::Paths;
use sps_ipc::ask::Asker;
use sps_ipc::registrar_ctl::{Binding, Lifetime, MAX_PAGE, REPLY_TIMEOUT, Record, Reply, Request};

use crate::offline::Files;
use crate::{fail, master};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show all addresses with their contacts
    List,
    /// Show one address, with all that is known of each contact
    Show {
        /// The address, as in sip:alice@example.com; sip: may be left out
        #[arg(value_name = "AOR")]
        aor: String,
    },
    /// Register a contact for an address, as if it had done so itself
    Add(AddArgs),
    /// Remove one contact of an address, or all of them
    Remove {
        /// The address, as in sip:alice@example.com
        #[arg(value_name = "AOR")]
        aor: String,
        /// The contact; without it all go
        #[arg(value_name = "CONTACT")]
        contact: Option<String>,
    },
}

#[derive(Debug, Args)]
pub struct AddArgs {
    /// The address, as in sip:alice@example.com
    #[arg(value_name = "AOR")]
    aor: String,
    /// Where it is reached, as in sip:alice@192.0.2.7:5060
    #[arg(value_name = "CONTACT")]
    contact: String,
    /// For how many seconds [default: default_expires_s of the configuration]
    #[arg(long, value_name = "S", conflicts_with = "permanent")]
    expires: Option<u32>,
    /// Until it is removed, over all restarts
    #[arg(long)]
    permanent: bool,
    /// From 0 to 1; contacts of higher q are tried first
    #[arg(long, value_name = "Q", default_value = "1", value_parser = parse_q)]
    q: u16,
}

pub fn run(paths: &Paths, out: Output, command: Command) -> Result<(), Failure> {
    let mut registry = Registry::open(paths)?;
    match command {
        Command::List => list(&mut registry, out),
        Command::Show { aor } => show(&registry.ask_page(&Request::Show { aor: aor.clone() })?.0, &aor, out),
        Command::Add(AddArgs {
            aor,
            contact,
            expires,
            permanent,
            q,
        }) => {
            let lifetime = match expires {
                Some(seconds) => Lifetime::Seconds(seconds),
                None if permanent => Lifetime::Permanent,
                None => Lifetime::Default,
            };
            match registry.change(&Request::Add {
                aor,
                contact,
                lifetime,
                q,
            })? {
                0 => out.note("it is registered like that already"),
                _ => out.note("registered"),
            }
            Ok(())
        }
        Command::Remove { aor, contact } => {
            match registry.change(&Request::Remove { aor, contact })? {
                0 => out.note("there was nothing to remove"),
                1 => out.note("removed one contact"),
                count => out.note(&format!("removed {count} contacts")),
            }
            Ok(())
        }
    }
}

/// Who knows the registrations.
enum Registry {
    Daemon(Asker),
    Files(Box<Files>),
}

/// How long a registrar that is being started again may take.
const RESTART_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_WAIT: Duration = Duration::from_millis(50);

impl Registry {
    fn open(paths: &Paths) -> Result<Self, Failure> {
        let path = Paths::registrar_ctl(&paths.current());
        let deadline = Instant::now() + RESTART_TIMEOUT;
        loop {
            match Asker::connect(&path, REPLY_TIMEOUT) {
                Ok(asker) => return Ok(Self::Daemon(asker)),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                    let runs = sps_daemon::running(paths).is_some()
                        || sps_daemon::find_orphans(&paths.run)
                            .iter()
                            .any(|orphan| orphan.name == "sps-registrar");
                    if !runs {
                        return Files::open(paths).map(|files| Self::Files(Box::new(files)));
                    }
                    if Instant::now() >= deadline {
                        return fail(Exit::Unavailable, "sps-registrar does not run")
                            .map_err(|failure: Failure| failure.cure("spsctl status and the error log say more"));
                    }
                    std::thread::sleep(RETRY_WAIT);
                }
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    return fail(Exit::NoPermission, "only root and the user sps runs as may do this");
                }
                Err(error) => return Err(error).or_fail(Exit::Unavailable, "reach sps-registrar"),
            }
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, Failure> {
        let reply = match self {
            Self::Daemon(asker) => match asker.ask(request) {
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    return fail(Exit::Unavailable, "sps-registrar does not answer");
                }
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    return fail(Exit::Protocol, "the running sps-registrar is another release");
                }
                Err(error) if is_hang_up(&error) => {
                    return fail(Exit::Unavailable, "sps-registrar went away without an answer")
                        .map_err(|failure: Failure| failure.cure("try again in a moment; spsctl status says more"));
                }
                other => other.or_fail(Exit::Unavailable, "ask sps-registrar")?,
            },
            Self::Files(files) => files.answer(request)?,
        };
        match reply {
            Reply::Refused { code, reason } => Err(master::refused(code, &reason)),
            reply => Ok(reply),
        }
    }

    fn ask_page(&mut self, request: &Request) -> Result<(Vec<Record>, Option<u64>), Failure> {
        match self.ask(request)? {
            Reply::Page { records, next } => Ok((records, next)),
            Reply::Done { .. } | Reply::Refused { .. } => {
                fail(Exit::Protocol, "sps-registrar answers what was not asked")
            }
        }
    }

    /// How many bindings changed.
    fn change(&mut self, request: &Request) -> Result<u32, Failure> {
        match self.ask(request)? {
            Reply::Done { changed } => Ok(changed),
            Reply::Page { .. } | Reply::Refused { .. } => {
                fail(Exit::Protocol, "sps-registrar answers what was not asked")
            }
        }
    }
}

/// Whether the daemon has died, or been killed, under the question.
fn is_hang_up(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
    )
}

/// What `--json` prints; the names are those of spsctl(1) and stay.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    aor: &'a str,
    contacts: Vec<ShownContact<'a>>,
}

#[derive(Debug, Serialize)]
struct ShownContact<'a> {
    contact: &'a str,
    q: f64,
    /// Null for a permanent one.
    expires_in_s: Option<u32>,
    permanent: bool,
    call_id: &'a str,
    cseq: u32,
    path: &'a [String],
    flow: &'a str,
    instance_id: &'a str,
    user_agent: &'a str,
}

impl<'a> From<&'a Record> for Shown<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            aor: &record.aor,
            contacts: record.bindings.iter().map(ShownContact::from).collect(),
        }
    }
}

impl<'a> From<&'a Binding> for ShownContact<'a> {
    fn from(binding: &'a Binding) -> Self {
        Self {
            contact: &binding.contact,
            q: f64::from(binding.q) / 1_000.0,
            expires_in_s: binding.expires_in_s,
            permanent: binding.expires_in_s.is_none(),
            call_id: &binding.call_id,
            cseq: binding.cseq,
            path: &binding.path,
            flow: &binding.flow,
            instance_id: &binding.instance_id,
            user_agent: &binding.user_agent,
        }
    }
}

fn list(registry: &mut Registry, out: Output) -> Result<(), Failure> {
    let mut records = Vec::new();
    let mut cursor = 0;
    loop {
        let (page, next) = registry.ask_page(&Request::List {
            cursor,
            limit: MAX_PAGE,
        })?;
        records.extend(page);
        match next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    records.sort_by(|left, right| left.aor.cmp(&right.aor));
    if records.is_empty() && !out.is_json() {
        out.note("no registrations");
        return Ok(());
    }
    let shown: Vec<_> = records.iter().map(Shown::from).collect();
    out.show(&shown, |records| {
        let mut table = Table::new(["aor", "contact", "q", "expires", "flow"]).right([2, 3]);
        for record in records {
            for contact in &record.contacts {
                table.row([
                    record.aor,
                    contact.contact,
                    &contact.q.to_string(),
                    &expires(contact),
                    contact.flow,
                ]);
            }
        }
        table
    })
}

fn show(records: &[Record], aor: &str, out: Output) -> Result<(), Failure> {
    let Some(record) = records.first() else {
        return fail(Exit::NoInput, format!("{aor} has no contact"));
    };
    out.show(&Shown::from(record), |shown| {
        let mut table = Table::new(["what", "value"]);
        table.row(["aor", shown.aor]);
        for contact in &shown.contacts {
            table.row(["contact", contact.contact]);
            table.row(["  q", &contact.q.to_string()]);
            table.row(["  expires", &expires(contact)]);
            let known = [
                ("  call-id", contact.call_id),
                ("  flow", contact.flow),
                ("  instance", contact.instance_id),
                ("  user agent", contact.user_agent),
            ];
            for (name, value) in known.into_iter().filter(|(_, value)| !value.is_empty()) {
                table.row([name, value]);
            }
            for path in contact.path {
                table.row(["  path", path]);
            }
        }
        table
    })
}

fn expires(contact: &ShownContact<'_>) -> String {
    contact
        .expires_in_s
        .map_or("permanent".into(), |seconds| seconds.to_string())
}

/// `0.5` to thousandths (RFC 3261 §25.1: up to three decimals).
fn parse_q(text: &str) -> Result<u16, String> {
    let error = || "expected a number from 0 to 1 with up to three decimals".to_owned();
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(error());
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().map_err(|_| error())?;
    match whole {
        "0" => Ok(thousandths),
        "1" if thousandths == 0 => Ok(1_000),
        _ => Err(error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3261 §25.1, qvalue.
    #[test]
    fn q_is_a_qvalue() {
        for (text, q) in [
            ("0", 0),
            ("1", 1_000),
            ("0.5", 500),
            ("0.05", 50),
            ("0.125", 125),
            ("1.000", 1_000),
            ("0.", 0),
        ] {
            assert_eq!(parse_q(text), Ok(q), "{text}");
        }
        for text in ["", "2", "1.1", "0.1234", "-0.1", ".5", "0.x", "+1"] {
            assert!(parse_q(text).is_err(), "{text}");
        }
    }
}

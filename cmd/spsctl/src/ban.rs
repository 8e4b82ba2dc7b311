//! `spsctl ban`: who is not listened to. The operator's bans lie in `sps.db`, whether SPS runs or not; those that the guard begins
//! itself live in `sps-proxy`.

use std::io::ErrorKind;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use serde::Serialize;
use sps_cli::{Exit, Failure, OrFail, Output, Table};
use sps_conf::{Cidr, Config, Paths};
use sps_ipc::ask::Asker;
use sps_ipc::proxy_ctl::{self, REPLY_TIMEOUT, Reply, Request};
use sps_store::{Ban, Database};

use crate::{fail, master};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show who is banned, why, since when, until when, and how often it was felt
    List,
    /// Ban an address or a network: nothing it sends is read, its connections are closed
    Add {
        /// As in 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32
        #[arg(value_name = "ADDRESS[/PREFIX]")]
        network: Cidr,
        /// For how many seconds [default: until it is removed]
        #[arg(long = "for", value_name = "S", value_parser = clap::value_parser!(u64).range(1..=MAX_FOR_S))]
        seconds: Option<u64>,
        /// Why, for whoever reads the list
        #[arg(long, value_name = "TEXT", default_value = "", value_parser = parse_reason, hide_default_value = true)]
        reason: String,
    },
    /// End a ban, one of the guard's own included
    Remove {
        /// As it stands in the list; an address alone ends all bans that are of it alone
        #[arg(value_name = "ADDRESS[/PREFIX]")]
        network: Cidr,
    },
}

/// A hundred years: longer bans have no end.
const MAX_FOR_S: u64 = 3_155_760_000;

const MAX_REASON_LEN: usize = 200;

pub fn run(paths: &Paths, out: Output, command: Command) -> Result<(), Failure> {
    match command {
        Command::List => list(paths, out),
        Command::Add {
            network,
            seconds,
            reason,
        } => add(paths, out, network, seconds, reason),
        Command::Remove { network } => remove(paths, out, network),
    }
}

fn add(paths: &Paths, out: Output, network: Cidr, seconds: Option<u64>, reason: String) -> Result<(), Failure> {
    let mut proxy = proxy(paths)?;
    may_ban(paths, proxy.as_mut(), network)?;
    let now = unix_s();
    let ban = Ban {
        network: network.to_string(),
        reason,
        created_at: now,
        until: seconds.map(|seconds| now + seconds),
    };
    let before = open(paths)?.put_ban(&ban).or_fail(Exit::Io, "write the ban")?;
    put_in_force(proxy.as_mut(), None)?;
    match before {
        Some(before) if before.until == ban.until && before.reason == ban.reason => out.note("it was banned already"),
        Some(_) => out.note("it was banned already; the ban is changed"),
        None => out.note("banned"),
    }
    Ok(())
}

fn remove(paths: &Paths, out: Output, network: Cidr) -> Result<(), Failure> {
    let mut proxy = proxy(paths)?;
    let network = network.to_string();
    let was = open(paths)?.remove_ban(&network).or_fail(Exit::Io, "remove the ban")?;
    let lifted = put_in_force(proxy.as_mut(), Some(network.clone()))?;
    match (was, lifted) {
        (false, 0) => out.note(&format!("{network} is not banned")),
        (true, 0) => out.note("the ban is over"),
        (was, lifted) => {
            let own = if was { "the ban is over, and " } else { "" };
            out.note(&format!("{own}{lifted} of the guard's own are over"));
        }
    }
    Ok(())
}

/// Friends are never banned; what the running proxy holds for one counts, else what the file says.
fn may_ban(paths: &Paths, proxy: Option<&mut Asker>, network: Cidr) -> Result<(), Failure> {
    let refusal = match proxy {
        Some(proxy) => match ask(
            proxy,
            &Request::MayBan {
                network: network.to_string(),
            },
        )? {
            Reply::Refused { code, reason } => return Err(cure(master::refused(code, &reason))),
            _ => None,
        },
        None => Config::load(&paths.config)?.friend_around(&network),
    };
    match refusal {
        Some(reason) => fail(Exit::Config, reason).map_err(cure),
        None => Ok(()),
    }
}

fn cure(failure: Failure) -> Failure {
    failure.cure("take it out of there, then spsctl reload")
}

/// In every worker when this returns. How many of the guard's own bans ended by it.
fn put_in_force(proxy: Option<&mut Asker>, lift: Option<String>) -> Result<u32, Failure> {
    let Some(proxy) = proxy else { return Ok(0) };
    match ask(proxy, &Request::BansChanged { lift })? {
        Reply::Lifted(count) => Ok(count),
        Reply::Refused { code, reason } => {
            Err(master::refused(code, &reason).cure("the ban is stored, and in force from the next start"))
        }
        _ => fail(Exit::Protocol, "sps-proxy answers what was not asked"),
    }
}

/// What `--json` prints; the names are those of spsctl(1) and stay.
#[derive(Debug, Serialize)]
struct Shown {
    network: String,
    /// `operator`, or what the guard found: `malformed`, `refused`, `stray`, `flood`.
    cause: String,
    reason: String,
    /// Seconds since 1970.
    since: u64,
    /// Null: until it is removed.
    until: Option<u64>,
    left_s: Option<u64>,
    /// Null while sps-proxy does not run.
    hits: Option<u64>,
    strikes: u8,
}

fn list(paths: &Paths, out: Output) -> Result<(), Failure> {
    let now = unix_s();
    let (felt, more) = match proxy(paths)? {
        Some(mut proxy) => match ask(&mut proxy, &Request::Bans)? {
            Reply::Bans(bans, more) => (Some(bans), more),
            Reply::Refused { code, reason } => return Err(master::refused(code, &reason)),
            _ => return fail(Exit::Protocol, "sps-proxy answers what was not asked"),
        },
        None => (None, 0),
    };
    let stored = match paths.database().exists() {
        true => open(paths)?.bans(now).or_fail(Exit::Io, "read the bans")?,
        false => Vec::new(),
    };
    let hits = |network: &str| {
        let all = felt.as_ref()?;
        let known = all.iter().find(|ban| ban.reason.is_none() && ban.network == network);
        Some(known.map_or(0, |ban| ban.hits))
    };
    let mut shown: Vec<Shown> = stored
        .into_iter()
        .map(|ban| Shown {
            cause: "operator".into(),
            since: ban.created_at,
            left_s: ban.until.map(|until| until.saturating_sub(now)),
            until: ban.until,
            hits: hits(&ban.network),
            strikes: 0,
            reason: ban.reason,
            network: ban.network,
        })
        .collect();
    shown.extend(felt.into_iter().flatten().filter_map(|ban| own(ban, now)));
    if shown.is_empty() && !out.is_json() {
        out.note("nobody is banned");
        return Ok(());
    }
    if more > 0 {
        out.note(&format!("{more} more are banned; these were felt most"));
    }
    out.show(&shown, |bans| {
        let mut table = Table::new(["network", "cause", "since", "left", "hits", "reason"]).right([2, 3, 4]);
        for ban in bans {
            table.row([
                ban.network.clone(),
                ban.cause.clone(),
                format!("{} s ago", now.saturating_sub(ban.since)),
                ban.left_s.map_or("no end".into(), |left| format!("{left} s")),
                ban.hits.map_or(String::new(), |hits| hits.to_string()),
                ban.reason.clone(),
            ]);
        }
        table
    })
}

/// A ban of the guard's own.
fn own(ban: proxy_ctl::Ban, now: u64) -> Option<Shown> {
    Some(Shown {
        cause: ban.reason?,
        reason: String::new(),
        since: now.saturating_sub(ban.since_s),
        until: ban.left_s.map(|left| now + left),
        left_s: ban.left_s,
        hits: Some(ban.hits),
        strikes: ban.strikes,
        network: ban.network,
    })
}

/// A conversation with sps-proxy; none while SPS does not run.
fn proxy(paths: &Paths) -> Result<Option<Asker>, Failure> {
    match Asker::connect(&Paths::proxy_ctl(&paths.current()), REPLY_TIMEOUT) {
        Ok(asker) => Ok(Some(asker)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            match sps_daemon::running(paths) {
                None => Ok(None),
                Some(_) => fail(Exit::Unavailable, "sps-proxy does not run")
                    .map_err(|failure: Failure| failure.cure("try again in a moment; spsctl status says more")),
            }
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            fail(Exit::NoPermission, "only root and the user sps runs as may do this")
        }
        Err(error) => Err(error).or_fail(Exit::Unavailable, "reach sps-proxy"),
    }
}

fn ask(proxy: &mut Asker, request: &Request) -> Result<Reply, Failure> {
    match proxy.ask(request) {
        Err(error) if error.kind() == ErrorKind::TimedOut => fail(Exit::Unavailable, "sps-proxy does not answer"),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            fail(Exit::Protocol, "the running sps-proxy is another release")
        }
        other => other.or_fail(Exit::Unavailable, "ask sps-proxy"),
    }
}

fn open(paths: &Paths) -> Result<Database, Failure> {
    Database::open(&paths.database()).or_fail(Exit::Io, "open the database")
}

fn parse_reason(text: &str) -> Result<String, String> {
    if text.len() > MAX_REASON_LEN || text.chars().any(char::is_control) {
        return Err(format!("one line of at most {MAX_REASON_LEN} bytes"));
    }
    Ok(text.to_owned())
}

fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

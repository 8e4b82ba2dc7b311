//! What `sps-tls` tells: certificates and figures for `spsctl status`, connections for `spsctl tls peers`.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use clap::Subcommand;
use serde::Serialize;
use sps_cli::{Exit, Failure, OrFail, Output, Table};
use sps_conf::Paths;
use sps_ipc::ask::Asker;
use sps_ipc::tls_ctl::{Peer, REPLY_TIMEOUT, Reply, Request};

use crate::fail;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the TLS connections, and what each peer has proved to be
    Peers,
}

/// What `status --json` prints below `tls`; the names are those of spsctl(1) and stay.
#[derive(Debug, Default, Serialize)]
pub struct Shown {
    pub certificates: Vec<ShownCertificate>,
    /// By name.
    pub figures: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
pub struct ShownCertificate {
    pub file: String,
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub expires_at_s: i64,
}

#[derive(Debug, Serialize)]
struct ShownPeer {
    connection: u64,
    outgoing: bool,
    local: String,
    remote: String,
    names: Option<Vec<String>>,
    cipher: String,
    age_s: u64,
}

impl ShownCertificate {
    /// Whole days until it expires; below 0 when it has.
    pub fn days_left(&self, now_s: i64) -> i64 {
        self.expires_at_s.saturating_sub(now_s).div_euclid(86_400)
    }
}

/// Certificates and figures; `None` when TLS is not spoken, or sps-tls does not answer.
pub fn state(paths: &Paths) -> Option<Shown> {
    let mut asker = Asker::connect(&Paths::tls_ctl(&paths.current()), REPLY_TIMEOUT).ok()?;
    match asker.ask(&Request::State).ok()? {
        Reply::State { certificates, figures } => Some(Shown {
            certificates: certificates
                .into_iter()
                .map(|one| ShownCertificate {
                    file: one.file,
                    names: one.names,
                    expires_at_s: one.expires_at_s,
                })
                .collect(),
            figures: figures.into_iter().collect(),
        }),
        Reply::Peers { .. } => None,
    }
}

pub fn run(paths: &Paths, out: Output, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Peers => peers(paths, out),
    }
}

fn peers(paths: &Paths, out: Output) -> Result<(), Failure> {
    let mut asker = match Asker::connect(&Paths::tls_ctl(&paths.current()), REPLY_TIMEOUT) {
        Ok(asker) => asker,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return fail(Exit::Unavailable, "sps-tls does not run").map_err(|failure: Failure| {
                failure.cure("it is started where a [[listen]] has transport = \"tls\"; spsctl status says more")
            });
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return fail(Exit::NoPermission, "only root and the users sps runs as may do this");
        }
        Err(error) => return Err(error).or_fail(Exit::Unavailable, "reach sps-tls"),
    };
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let reply = asker
            .ask(&Request::Peers { after })
            .or_fail(Exit::Unavailable, "ask sps-tls")?;
        let Reply::Peers { peers, more } = reply else {
            return fail(Exit::Protocol, "sps-tls answers what was not asked");
        };
        after = peers.last().map_or(after, |peer| peer.connection);
        let last = !more || peers.is_empty();
        all.extend(peers.into_iter().map(shown));
        if last {
            break;
        }
    }
    if out.is_json() {
        return out.json(&all);
    }
    let mut table = Table::new(["connection", "way", "peer", "proved to be", "cipher", "age"]).right([0, 5]);
    for peer in all {
        table.row([
            peer.connection.to_string(),
            if peer.outgoing { "out" } else { "in" }.into(),
            peer.remote,
            peer.names.map_or(String::new(), |names| names.join(" ")),
            peer.cipher,
            format!("{} s", peer.age_s),
        ]);
    }
    out.text(&table.to_string())
}

fn shown(peer: Peer) -> ShownPeer {
    ShownPeer {
        connection: peer.connection,
        outgoing: peer.outgoing,
        local: peer.local.to_string(),
        remote: peer.remote.to_string(),
        names: peer.names,
        cipher: peer.cipher,
        age_s: peer.age_s,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_whole_and_those_gone_by_count_backwards() {
        let certificate = ShownCertificate {
            file: String::new(),
            names: Vec::new(),
            expires_at_s: 10 * 86_400,
        };
        assert_eq!(certificate.days_left(0), 10);
        assert_eq!(certificate.days_left(86_400 + 1), 8);
        assert_eq!(certificate.days_left(10 * 86_400 + 1), -1);
    }
}

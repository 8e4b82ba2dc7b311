//! The operator's bans on their way from `sps.db` to the workers, and who is banned on its way back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sps_conf::{Cidr, Paths};
use sps_ipc::parent::Frozen;
use sps_ipc::proxy_ctl::{self, MAX_BANS, Reply};
use sps_sip::guard::{Ban, Network, OperatorBan};
use sps_store::Database;
use tokio::sync::oneshot;

use crate::engine;
use crate::mail::{Mail, Post};

/// The operator's bans in force, as `sps.db` has them; none if there is no database.
///
/// # Errors
/// It cannot be read.
pub fn load(paths: &Paths) -> Result<Vec<OperatorBan>, String> {
    let path = paths.database();
    if !path.exists() {
        return Ok(Vec::new());
    }
    let (now, unix_s) = (Instant::now(), engine::clock().unix_ms / 1000);
    let database = Database::open(&path).map_err(|error| error.to_string())?;
    let stored = database.bans(unix_s).map_err(|error| error.to_string())?;
    let bans = stored.iter().filter_map(|ban| {
        let until = ban
            .until
            .map(|until| now + Duration::from_secs(until.saturating_sub(unix_s)));
        Some(OperatorBan {
            network: network(&ban.network)?,
            until,
        })
    });
    Ok(bans.collect())
}

/// `ADDRESS/BITS`.
pub fn network(text: &str) -> Option<Network> {
    let Cidr { address, prefix } = text.parse().ok()?;
    Network::new(address, prefix)
}

/// Whether the operator may ban a network: not one that lies in a friend's.
pub fn may_ban(frozen: &Frozen, text: &str) -> Reply {
    let refused = |code, reason: String| Reply::Refused { code, reason };
    match text.parse() {
        Ok(network) => match frozen.conf.friend_around(&network) {
            Some(friend) => refused(sps_daemon::Exit::Config.code(), friend),
            None => Reply::Done,
        },
        Err(why) => refused(sps_daemon::Exit::Usage.code(), why),
    }
}

/// Puts what `sps.db` says in force in every worker.
pub async fn changed(post: &Post, paths: &Paths, lift: Option<Network>) -> Reply {
    let bans: Arc<[OperatorBan]> = match load(paths) {
        Ok(bans) => bans.into(),
        Err(reason) => {
            return Reply::Refused {
                code: sps_daemon::Exit::Storage.code(),
                reason,
            };
        }
    };
    let mut lifted = 0;
    for worker in 0..post.workers() {
        let (done, seen) = oneshot::channel();
        post.deliver(worker, Mail::Deny(bans.clone(), lift, done)).await;
        lifted = lifted.max(seen.await.unwrap_or(0));
    }
    Reply::Lifted(lifted as u32)
}

/// Who is banned: what the workers say, put together.
pub async fn list(post: &Post, paths: &Paths) -> Reply {
    let mut own: Vec<Ban> = Vec::new();
    let mut hits: Vec<(Network, u64)> = Vec::new();
    for worker in 0..post.workers() {
        let (done, seen) = oneshot::channel();
        post.deliver(worker, Mail::Bans(done)).await;
        let Ok((bans, felt)) = seen.await else { continue };
        for ban in bans {
            match own.iter_mut().find(|known| known.source == ban.source) {
                Some(known) => {
                    known.hits += ban.hits;
                    known.left = known.left.max(ban.left);
                }
                None => own.push(ban),
            }
        }
        hits.extend(felt);
    }
    let now = Instant::now();
    let operators = load(paths).unwrap_or_default();
    let mut list: Vec<proxy_ctl::Ban> = operators
        .iter()
        .map(|ban| proxy_ctl::Ban {
            network: ban.network.to_string(),
            reason: None,
            since_s: 0,
            left_s: ban.until.map(|until| until.saturating_duration_since(now).as_secs()),
            hits: hits
                .iter()
                .filter(|(felt, _)| *felt == ban.network)
                .map(|(_, hits)| hits)
                .sum(),
            strikes: 0,
        })
        .collect();
    own.sort_by_key(|ban| std::cmp::Reverse(ban.hits));
    list.extend(own.into_iter().map(|ban| proxy_ctl::Ban {
        network: network_of(&ban),
        reason: Some(ban.reason.as_str().to_owned()),
        since_s: ban.since.as_secs(),
        left_s: Some(ban.left.as_secs()),
        hits: ban.hits,
        strikes: ban.strikes,
    }));
    let more = list.len().saturating_sub(MAX_BANS) as u32;
    list.truncate(MAX_BANS);
    Reply::Bans(list, more)
}

/// What a source stands for: an address, or a /64.
fn network_of(ban: &Ban) -> String {
    let prefix = if ban.source.is_ipv4() { 32 } else { 64 };
    Network::new(ban.source, prefix).map_or_else(|| ban.source.to_string(), |network| network.to_string())
}

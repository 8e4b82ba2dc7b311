//! Hostile peers: how much of what a source sends leads nowhere, and from when on nothing of it is read. Sans-IO.
//!
//! One [`Guard`] belongs to one worker. A source is an IPv4 address or an IPv6 /64. Each has a budget for every
//! [`Kind`] of useless message; who passes one is *banned*: dropped unread and unanswered for a time that doubles with each
//! ban. Everything lives in one table of fixed size, so that an attacker costs nothing but his own place in it.
//!
//! The source of a datagram may be forged. Hence the [`Standing`]s: *friends* (listed by the operator) are never banned;
//! *proven* sources, which did something that takes receiving what we send, have eight times the budgets, and datagrams
//! never get them banned: what is over their budget is dropped, the rest goes on. A proven or banned source is never
//! pushed out of the table by an unknown one, and among unknown ones those go first that have done the least.

mod conf;
mod network;
mod source;
mod table;

use std::net::IpAddr;
use std::time::{Duration, Instant};

pub use conf::{Friends, GuardConf};
pub use network::{Network, OperatorBan};

use network::Denied;
use source::Source;
use table::{Entry, Table};

/// What a message was that led nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It could not be read as SIP.
    Malformed,
    /// A request that we refused: scans for users, numbers and passwords.
    Refused,
    /// A response that nobody waits for.
    Stray,
    /// A request that begins a transaction, or a connection: harmless, unless there are too many.
    New,
}

/// Budgets, one for each kind and one for answers.
const RATES: usize = 5;
type Rates = [f32; RATES];

/// The budget for answers stands behind those of the kinds.
const ANSWERS: usize = 4;

/// What is known of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing good.
    Unknown,
    /// It registered, is part of a dialog that we let through, or answered a request of ours.
    Proven,
    /// The operator listed it.
    Friend,
}

/// Why a source is banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Too many messages of a kind.
    Over(Kind),
    /// The operator wants it.
    Operator,
}

impl Reason {
    /// As logs and lists show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Over(Kind::Malformed) => "malformed",
            Reason::Over(Kind::Refused) => "refused",
            Reason::Over(Kind::Stray) => "stray",
            Reason::Over(Kind::New) => "flood",
            Reason::Operator => "operator",
        }
    }
}

/// A source that has just been banned, or one that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban {
    /// Its address; of an IPv6 source the first of its /64.
    pub source: IpAddr,
    /// Why.
    pub reason: Reason,
    /// How long ago it began.
    pub since: Duration,
    /// How much longer it lasts.
    pub left: Duration,
    /// How often the source has been banned in a row, this time included.
    pub strikes: u8,
    /// It was proven, and no datagrams were what it did.
    pub despite_proof: bool,
    /// Messages and connections dropped because of it.
    pub hits: u64,
}

/// What was dropped of one source since it was last told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Its address; `None` for all sources that the list has no room for.
    pub source: Option<IpAddr>,
    /// Why, where there is one reason.
    pub reason: &'static str,
    /// How many messages.
    pub dropped: u64,
}

/// Figures; all only grow, but for the last two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GuardCounters {
    /// Messages and connections of banned sources.
    pub banned: u64,
    /// Messages over the budget of a source that is not banned for it.
    pub excess: u64,
    /// Answers not sent: an unknown source asked for too many.
    pub unanswered: u64,
    /// Bans begun here.
    pub bans: u64,
    /// Sources that found no place in the table.
    pub untracked: u64,
    /// Sources known now.
    pub sources: u64,
    /// Sources banned now, those of the operator's networks not counted.
    pub banned_now: u64,
}

/// The guard of one worker.
#[derive(Debug)]
pub struct Guard {
    conf: GuardConf,
    rates: Rates,
    began: Instant,
    turn: (Instant, Tick),
    table: Table,
    denied: Denied,
    /// Changes whenever what is noted in an entry about lists is no longer true.
    epoch: u16,
    /// Shares one budget: sources that found no place.
    crowd: Entry,
    news: Vec<Ban>,
    /// Sources proven anew, for the other workers.
    proofs: Vec<IpAddr>,
    /// Entries that dropped something since the last summary.
    dropping: Vec<u32>,
    dropped_elsewhere: u64,
    /// Entries that are banned, or were a moment ago.
    banned: Vec<u32>,
    counters: GuardCounters,
}

/// Points of time in sixteenths of a second since the guard was made; the first is 1, so that 0 can mean never.
type Tick = u32;

const TICKS_PER_S: u32 = 16;

/// What proven sources may do more than unknown ones.
const PROVEN_FACTOR: f32 = 8.0;

/// What all sources without a place may do together.
const CROWD_FACTOR: f32 = 16.0;

/// A budget is for each second; so much may be used at once.
const BURST_S: f32 = 10.0;

/// The same for answers, which a forged source must not be sent many of at once.
const ANSWER_BURST_S: f32 = 2.0;

/// How long something good is remembered: longer than a registration usually lasts.
const PROVEN_FOR: Duration = Duration::from_secs(2 * 3600);

/// News kept until they are taken.
const MAX_NEWS: usize = 256;

/// Proofs kept until they are taken; one that is left out is noted with the source's next.
const MAX_PROOFS: usize = 1024;

/// Sources that one summary names.
const MAX_SUMMARIES: usize = 32;

impl Guard {
    /// A guard that has seen nobody yet. `seed` makes its table unlike that of others, so that nobody can aim at a place in it.
    pub fn new(conf: GuardConf, seed: u64, now: Instant) -> Guard {
        Guard {
            table: Table::new(conf.places(), seed),
            rates: conf.rates(),
            conf,
            began: now,
            turn: (now, 1),
            denied: Denied::default(),
            epoch: 1,
            crowd: Entry::default(),
            news: Vec::new(),
            proofs: Vec::new(),
            dropping: Vec::new(),
            dropped_elsewhere: 0,
            banned: Vec::new(),
            counters: GuardCounters::default(),
        }
    }

    /// Works by another configuration from now on. Who is banned or proven stays so, unless he is a friend now.
    pub fn reconfigure(&mut self, conf: GuardConf) {
        if self.table.resize(conf.places()) {
            self.dropping.clear();
            self.banned = self
                .table
                .all()
                .filter(|(_, entry)| entry.banned_until != 0)
                .map(|(at, _)| at)
                .collect();
        }
        self.rates = conf.rates();
        self.conf = conf;
        self.next_epoch();
    }

    /// Puts the operator's bans in force, all of them.
    pub fn deny(&mut self, bans: &[OperatorBan], now: Instant) {
        self.denied.replace(bans, now);
        self.next_epoch();
    }

    /// Whether a message of `source` is to be read at all, or a connection of it taken. Call it for each, first of all.
    pub fn admit(&mut self, now: Instant, source: IpAddr) -> bool {
        let tick = self.turn(now);
        let source_key = Source::from(source);
        let Some(at) = self.place(source_key, source, tick) else {
            // Without a place the lists alone speak.
            if (self.conf.enabled || !self.denied.is_empty()) && self.denied.hit(source) && !self.is_friend(source) {
                self.counters.banned += 1;
                self.dropped_elsewhere += 1;
                return false;
            }
            return true;
        };
        let entry = self.table.entry(at);
        if !entry.denied && entry.banned_until <= tick {
            return true;
        }
        if entry.denied {
            self.denied.hit(source);
        }
        self.counters.banned += 1;
        self.note_dropped(at);
        false
    }

    /// A message of `source` led nowhere. `forgeable`: it came without proof of where from, by UDP. `false`: leave it at that,
    /// and answer nothing.
    pub fn note(&mut self, now: Instant, source: IpAddr, forgeable: bool, kind: Kind) -> bool {
        if !self.conf.enabled {
            return true;
        }
        let tick = self.turn(now);
        let Some(at) = self.place(Source::from(source), source, tick) else {
            let over = self.crowd.add(kind as usize, tick, &self.rates, CROWD_FACTOR, BURST_S);
            self.counters.excess += u64::from(over);
            return !over;
        };
        let entry = self.table.entry_mut(at);
        if entry.friend {
            return true;
        }
        if entry.banned_until > tick {
            // Read before it was banned.
            return false;
        }
        let proven = entry.proven_until > tick;
        let factor = if proven { PROVEN_FACTOR } else { 1.0 };
        if !entry.add(kind as usize, tick, &self.rates, factor, BURST_S) {
            return true;
        }
        if self.conf.ban_for.is_zero() || (proven && (forgeable || kind == Kind::New)) {
            self.counters.excess += 1;
            self.note_dropped(at);
            return false;
        }
        self.ban_entry(at, tick, kind, proven);
        false
    }

    /// `source` did something that only who gets our messages can do.
    pub fn prove(&mut self, now: Instant, source: IpAddr) {
        let tick = self.turn(now);
        let Some(at) = self.place(Source::from(source), source, tick) else {
            return;
        };
        let entry = self.table.entry_mut(at);
        // The others need to hear of it now and then only.
        if !entry.friend
            && entry.proven_until < tick.saturating_add(ticks(PROVEN_FOR / 2))
            && self.proofs.len() < MAX_PROOFS
        {
            self.proofs.push(source);
        }
        entry.proven_until = tick.saturating_add(ticks(PROVEN_FOR));
    }

    /// Another worker has proof of these.
    pub fn adopt_proofs(&mut self, now: Instant, sources: &[IpAddr]) {
        let tick = self.tick(now);
        for source in sources {
            if let Some(at) = self.place(Source::from(*source), *source, tick) {
                self.table.entry_mut(at).proven_until = tick.saturating_add(ticks(PROVEN_FOR));
            }
        }
    }

    /// Sources that were proven here since it was last asked.
    pub fn take_proofs(&mut self) -> Vec<IpAddr> {
        std::mem::take(&mut self.proofs)
    }

    /// What is known of `source`.
    pub fn standing(&mut self, now: Instant, source: IpAddr) -> Standing {
        let tick = self.turn(now);
        let Some(at) = self.place(Source::from(source), source, tick) else {
            return if self.is_friend(source) {
                Standing::Friend
            } else {
                Standing::Unknown
            };
        };
        let entry = self.table.entry(at);
        if entry.friend {
            Standing::Friend
        } else if entry.proven_until > tick {
            Standing::Proven
        } else {
            Standing::Unknown
        }
    }

    /// Whether a response of our own making may go to `source`, whose address may be forged: an unknown one is sent so many
    /// and no more, for it may not have asked.
    pub fn may_answer(&mut self, now: Instant, source: IpAddr) -> bool {
        if !self.conf.enabled {
            return true;
        }
        let tick = self.turn(now);
        let over = match self.place(Source::from(source), source, tick) {
            Some(at) => {
                let entry = self.table.entry_mut(at);
                if entry.friend || entry.proven_until > tick {
                    return true;
                }
                entry.add(ANSWERS, tick, &self.rates, 1.0, ANSWER_BURST_S)
            }
            None => self.crowd.add(ANSWERS, tick, &self.rates, CROWD_FACTOR, ANSWER_BURST_S),
        };
        self.counters.unanswered += u64::from(over);
        !over
    }

    /// Another worker banned `ban.source`.
    pub fn adopt(&mut self, now: Instant, ban: &Ban) {
        let tick = self.tick(now);
        if let Some(at) = self.place(Source::from(ban.source), ban.source, tick)
            && let Reason::Over(kind) = ban.reason
        {
            let entry = self.table.entry_mut(at);
            if !entry.friend && (entry.proven_until <= tick || ban.despite_proof) {
                entry.begin_ban(tick, ticks(ban.left), kind, ban.strikes);
                self.remember_banned(at);
            }
        }
    }

    /// Ends the bans of all sources in `network`, those of the operator excepted. Gives how many there were.
    pub fn lift(&mut self, now: Instant, network: &Network) -> usize {
        let tick = self.tick(now);
        let mut lifted = 0;
        for at in &self.banned {
            let (key, entry) = self.table.at(*at);
            if entry.banned_until > tick && network.contains(key.address()) {
                self.table.entry_mut(*at as usize).end_ban();
                lifted += 1;
            }
        }
        lifted
    }

    /// All sources banned now, those of the operator's networks excepted.
    pub fn bans(&self, now: Instant) -> Vec<Ban> {
        let tick = self.tick(now);
        let all = self.banned.iter().map(|at| self.table.at(*at));
        let banned = all.filter(|(_, entry)| entry.banned_until > tick);
        banned.map(|(key, entry)| entry.ban(key.address(), tick)).collect()
    }

    /// How often each of the operator's bans was hit.
    pub fn operator_hits(&self) -> Vec<(Network, u64)> {
        self.denied.hits()
    }

    /// Whether [`Self::take_news`] or [`Self::take_proofs`] has something.
    pub fn has_news(&self) -> bool {
        !self.news.is_empty() || !self.proofs.is_empty()
    }

    /// Whether nothing of `source` is listened to. Counts nothing.
    pub fn is_banned(&self, now: Instant, source: IpAddr) -> bool {
        let tick = self.tick(now);
        let banned = match self.table.find(Source::from(source)) {
            Some(entry) => entry.banned_until > tick,
            None => false,
        };
        banned || (self.denied.covers(source) && !self.is_friend(source))
    }

    /// Bans begun here since it was last asked.
    pub fn take_news(&mut self) -> Vec<Ban> {
        std::mem::take(&mut self.news)
    }

    /// What was dropped since it was last asked: ask once a second. Names a bounded number of sources.
    pub fn take_summaries(&mut self, now: Instant) -> Vec<Summary> {
        let tick = self.tick(now);
        let mut summaries = Vec::new();
        for at in std::mem::take(&mut self.dropping) {
            let (key, entry) = self.table.at(at);
            let reason = if entry.denied {
                Reason::Operator.as_str()
            } else if entry.banned_until > tick {
                Reason::Over(entry.reason).as_str()
            } else {
                "excess"
            };
            if entry.dropped > 0 {
                summaries.push(Summary {
                    source: Some(key.address()),
                    reason,
                    dropped: u64::from(entry.dropped),
                });
                self.table.entry_mut(at as usize).dropped = 0;
            }
        }
        let dropped = std::mem::take(&mut self.dropped_elsewhere);
        if dropped > 0 {
            summaries.push(Summary {
                source: None,
                reason: "others",
                dropped,
            });
        }
        summaries
    }

    /// Once a second: bans that have ended are forgotten.
    pub fn on_second(&mut self, now: Instant) {
        if self.denied.expire(now) {
            self.next_epoch();
        }
        let tick = self.tick(now);
        let table = &self.table;
        self.banned.retain(|at| table.at(*at).1.banned_until > tick);
        self.counters.banned_now = self.banned.len() as u64;
        self.counters.sources = self.table.len() as u64;
    }

    /// The figures.
    pub fn counters(&self) -> GuardCounters {
        self.counters
    }

    fn is_friend(&self, source: IpAddr) -> bool {
        (self.conf.friends.0)(source)
    }

    /// The place of a source, made if need be; none if the table is full of better ones.
    fn place(&mut self, key: Source, source: IpAddr, tick: Tick) -> Option<usize> {
        if self.table.is_empty() {
            return None;
        }
        let Some(at) = self.table.find_or_insert(key, tick) else {
            self.counters.untracked += 1;
            return None;
        };
        if self.table.entry(at).epoch != self.epoch {
            let friend = self.is_friend(source);
            let denied = !friend && self.denied.covers(source);
            let entry = self.table.entry_mut(at);
            // Of a /64 one address may be listed and another not: what is said once holds for the source.
            (entry.epoch, entry.friend, entry.denied) = (self.epoch, friend, denied);
            if friend {
                entry.end_ban();
            }
        }
        Some(at)
    }

    fn ban_entry(&mut self, at: usize, tick: Tick, kind: Kind, despite_proof: bool) {
        let entry = self.table.entry_mut(at);
        let strikes = entry.strikes.saturating_add(1);
        let wait = self
            .conf
            .ban_for
            .saturating_mul(1 << u32::from(strikes - 1).min(16))
            .min(self.conf.max_ban_for.max(self.conf.ban_for));
        entry.begin_ban(tick, ticks(wait), kind, strikes);
        self.counters.bans += 1;
        let (key, entry) = self.table.at(at as u32);
        let ban = Ban {
            despite_proof,
            ..entry.ban(key.address(), tick)
        };
        self.remember_banned(at);
        if self.news.len() < MAX_NEWS {
            self.news.push(ban);
        }
        self.note_dropped(at);
    }

    fn remember_banned(&mut self, at: usize) {
        if !self.banned.contains(&(at as u32)) {
            self.banned.push(at as u32);
        }
    }

    fn note_dropped(&mut self, at: usize) {
        let entry = self.table.entry_mut(at);
        entry.hits = entry.hits.saturating_add(1);
        if entry.dropped == 0 {
            if self.dropping.len() >= MAX_SUMMARIES {
                self.dropped_elsewhere += 1;
                return;
            }
            self.dropping.push(at as u32);
        }
        entry.dropped = entry.dropped.saturating_add(1);
    }

    fn next_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1).max(1);
    }

    fn tick(&self, now: Instant) -> Tick {
        let since = now.saturating_duration_since(self.began);
        let seconds = since.as_secs() as u32 * TICKS_PER_S;
        (seconds + since.subsec_nanos() / (1_000_000_000 / TICKS_PER_S)).saturating_add(1)
    }

    /// The same for a message: those of one turn come at the same time.
    fn turn(&mut self, now: Instant) -> Tick {
        if self.turn.0 != now {
            self.turn = (now, self.tick(now));
        }
        self.turn.1
    }
}

fn ticks(wait: Duration) -> Tick {
    u32::try_from(wait.as_millis() * u128::from(TICKS_PER_S) / 1000).unwrap_or(u32::MAX / 2)
}

fn wait(ticks: Tick) -> Duration {
    Duration::from_millis(u64::from(ticks) * 1000 / u64::from(TICKS_PER_S))
}

#[cfg(test)]
mod tests;

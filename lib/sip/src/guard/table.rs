//! The guard's memory: sets of eight places, one cache line of keys each. Its size is fixed; nothing is allocated for a source.

use super::source::Source;
use super::{Ban, Kind, RATES, Rates, Reason, TICKS_PER_S, Tick, wait};
use std::net::IpAddr;

/// What is remembered of one source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// What it has used of each budget, as of `touched`.
    levels: Rates,
    touched: Tick,
    /// 0: not banned.
    pub banned_until: Tick,
    banned_since: Tick,
    /// How often in a row, until it has behaved for as long as the last ban.
    pub strikes: u8,
    pub reason: Kind,
    pub proven_until: Tick,
    /// Which lists `friend` and `denied` are from.
    pub epoch: u16,
    pub friend: bool,
    pub denied: bool,
    /// Dropped because of the ban.
    pub hits: u32,
    /// Dropped since the last summary.
    pub dropped: u32,
}

impl Default for Entry {
    fn default() -> Entry {
        Entry {
            levels: [0.0; RATES],
            touched: 0,
            banned_until: 0,
            banned_since: 0,
            strikes: 0,
            reason: Kind::Malformed,
            proven_until: 0,
            epoch: 0,
            friend: false,
            denied: false,
            hits: 0,
            dropped: 0,
        }
    }
}

impl Entry {
    /// Notes one more of what budget `which` is for. Gives whether that is more than `burst_s` seconds' worth of its rate. Of
    /// all rates `factor` times as much is meant.
    pub fn add(&mut self, which: usize, tick: Tick, rates: &Rates, factor: f32, burst_s: f32) -> bool {
        let since = tick.saturating_sub(self.touched) as f32 / TICKS_PER_S as f32;
        if since > 0.0 {
            for (level, rate) in self.levels.iter_mut().zip(rates) {
                *level = (*level - rate * factor * since).max(0.0);
            }
            self.touched = tick;
        }
        let most = rates[which] * factor * burst_s;
        let level = &mut self.levels[which];
        if *level + 1.0 > most {
            // Stays full: who goes on is over it, who stops has it back in time.
            *level = most;
            return true;
        }
        *level += 1.0;
        false
    }

    pub fn begin_ban(&mut self, tick: Tick, ticks: Tick, reason: Kind, strikes: u8) {
        self.banned_since = tick;
        self.banned_until = tick.saturating_add(ticks.max(1));
        self.reason = reason;
        self.strikes = strikes;
        self.hits = 0;
        self.levels = [0.0; RATES];
        // What it proved it has gambled away.
        self.proven_until = 0;
    }

    pub fn end_ban(&mut self) {
        self.banned_until = 0;
        self.strikes = 0;
    }

    /// Forgets earlier bans of a source that has behaved for ten times as long as the last one.
    fn forgive(&mut self, tick: Tick) {
        if self.strikes > 0 && self.banned_until <= tick {
            let lasted = self.banned_until.saturating_sub(self.banned_since);
            if tick.saturating_sub(self.banned_until) > lasted.saturating_mul(10) {
                self.end_ban();
            }
        }
    }

    pub fn ban(&self, source: IpAddr, tick: Tick) -> Ban {
        Ban {
            source,
            reason: Reason::Over(self.reason),
            since: wait(tick.saturating_sub(self.banned_since)),
            left: wait(self.banned_until.saturating_sub(tick)),
            strikes: self.strikes,
            despite_proof: false,
            hits: u64::from(self.hits),
        }
    }

    /// How much would be lost with it; `None` if it must stay.
    fn worth(&self, tick: Tick) -> Option<f32> {
        if self.banned_until > tick || self.proven_until > tick {
            return None;
        }
        let idle_s = tick.saturating_sub(self.touched) as f32 / TICKS_PER_S as f32;
        Some(self.levels.iter().sum::<f32>() + f32::from(self.strikes) * 1000.0 - idle_s)
    }
}

/// All places.
#[derive(Debug)]
pub(super) struct Table {
    /// Keys, eight to a set; 0 is an empty place.
    keys: Vec<[u64; WAYS]>,
    entries: Vec<Entry>,
    seed: (u64, u64),
    /// The place found last: datagrams of one source often come together.
    last: (u64, usize),
    used: usize,
}

const WAYS: usize = 8;

impl Table {
    /// Room for `places` sources, rounded up to a power of two; 0 is a table that has nobody.
    pub fn new(places: usize, seed: u64) -> Table {
        let mut table = Table {
            keys: Vec::new(),
            entries: Vec::new(),
            // Odd, so that no bit of a key is lost in the product.
            seed: (seed.rotate_left(29) ^ 0x9e37_79b9_7f4a_7c15, seed | 1),
            last: (0, 0),
            used: 0,
        };
        table.allocate(places);
        table
    }

    fn allocate(&mut self, places: usize) {
        let sets = match places {
            0 => 0,
            places => places.div_ceil(WAYS).next_power_of_two(),
        };
        self.keys = vec![[0; WAYS]; sets];
        self.entries = vec![Entry::default(); sets * WAYS];
        self.last = (0, 0);
        self.used = 0;
    }

    /// Changes the size; who must stay does, as long as there is room. Gives whether places have changed.
    pub fn resize(&mut self, places: usize) -> bool {
        let sets = if places == 0 {
            0
        } else {
            places.div_ceil(WAYS).next_power_of_two()
        };
        if sets == self.keys.len() {
            return false;
        }
        let keys = std::mem::take(&mut self.keys);
        let entries = std::mem::take(&mut self.entries);
        self.allocate(places);
        if sets == 0 {
            return true;
        }
        for (key, entry) in keys.into_iter().flatten().zip(entries).filter(|(key, _)| *key != 0) {
            if let Some(at) = self.find_or_insert(Source(key), entry.touched) {
                self.entries[at] = entry;
            }
        }
        true
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn len(&self) -> usize {
        self.used
    }

    pub fn entry(&self, at: usize) -> &Entry {
        &self.entries[at]
    }

    pub fn entry_mut(&mut self, at: usize) -> &mut Entry {
        &mut self.entries[at]
    }

    pub fn at(&self, at: u32) -> (Source, &Entry) {
        let at = at as usize;
        (Source(self.keys[at / WAYS][at % WAYS]), &self.entries[at])
    }

    /// Places that are taken.
    pub fn all(&self) -> impl Iterator<Item = (u32, &Entry)> {
        let keys = self.keys.iter().flatten();
        let taken = keys.zip(&self.entries).enumerate().filter(|(_, (key, _))| **key != 0);
        taken.map(|(at, (_, entry))| (at as u32, entry))
    }

    /// What is remembered of a source.
    pub fn find(&self, source: Source) -> Option<&Entry> {
        if self.is_empty() {
            return None;
        }
        let set = self.set(source.0);
        let way = self.keys[set].iter().position(|known| *known == source.0)?;
        Some(&self.entries[set * WAYS + way])
    }

    /// The place of a source; a new one takes an empty place or that of an unknown source that is worth the least.
    pub fn find_or_insert(&mut self, source: Source, tick: Tick) -> Option<usize> {
        let key = source.0;
        if self.last.0 == key {
            return Some(self.last.1);
        }
        let set = self.set(key);
        let ways = &self.keys[set];
        if let Some(way) = ways.iter().position(|known| *known == key) {
            let at = set * WAYS + way;
            self.last = (key, at);
            self.entries[at].forgive(tick);
            return Some(at);
        }
        let way = match ways.iter().position(|known| *known == 0) {
            Some(way) => {
                self.used += 1;
                way
            }
            None => self.least(set, tick)?,
        };
        let at = set * WAYS + way;
        self.keys[set][way] = key;
        self.entries[at] = Entry {
            touched: tick,
            ..Entry::default()
        };
        self.last = (key, at);
        Some(at)
    }

    fn least(&self, set: usize, tick: Tick) -> Option<usize> {
        let entries = &self.entries[set * WAYS..][..WAYS];
        let worth = entries
            .iter()
            .enumerate()
            .filter_map(|(way, entry)| Some((way, entry.worth(tick)?)));
        worth.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(way, _)| way)
    }

    /// A folded product: the seed is not known outside, and nothing tells a stranger which sources share a set.
    fn set(&self, key: u64) -> usize {
        let product = u128::from(key ^ self.seed.0) * u128::from(self.seed.1);
        let hash = (product >> 64) as u64 ^ product as u64;
        // Upper bits, which every bit of the key has reached.
        (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & (self.keys.len() - 1)
    }
}

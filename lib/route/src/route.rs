//! A static route, and the routes that apply to one request in the order they are to be tried.

use crate::host::{HopAddress, Host};
use crate::pattern::Selector;
use smallvec::SmallVec;
use sps_wire::flow::Transport;
use std::collections::BTreeMap;

/// Further conditions and properties of a route by name (right, method, source, cost, hours): kept and shown, none
/// obeyed yet.
pub type Attributes = BTreeMap<String, String>;

/// A static route as the operator wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Given by the database, never used twice.
    pub id: u64,
    /// What it applies to.
    pub selector: Selector,
    /// Where such requests go.
    pub hop: HopAddress,
    /// `None`: what DNS says, else UDP.
    pub transport: Option<Transport>,
    /// The lowest number of those that match is tried first.
    pub priority: u16,
    /// Share among routes of the same priority (RFC 2782).
    pub weight: u16,
    /// Room for more.
    pub attributes: Attributes,
}

/// What a lookup gives of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteEntry {
    /// [`Route::id`].
    pub id: u64,
    /// Next hop.
    pub host: Host,
    /// Its port.
    pub port: Option<u16>,
    /// Its transport.
    pub transport: Option<Transport>,
    /// Lower first.
    pub priority: u16,
    /// Share among equals.
    pub weight: u16,
}

/// The equally specific routes that apply, filled by [`crate::Tables`]; reusable.
#[derive(Debug, Default, Clone)]
pub struct RouteSet {
    entries: SmallVec<[RouteEntry; 2]>,
}

impl RouteSet {
    /// Adds one; order does not matter.
    pub fn push(&mut self, entry: RouteEntry) {
        self.entries.push(entry);
    }

    /// What is in it.
    pub fn entries(&self) -> &[RouteEntry] {
        &self.entries
    }

    /// Whether no route applies.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether all have one priority: shares of a load, none held in reserve for when others fail.
    pub fn is_level(&self) -> bool {
        self.entries
            .first()
            .is_none_or(|first| self.entries.iter().all(|entry| entry.priority == first.priority))
    }

    /// Empties it for the next lookup.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = RouteEntry> + '_ {
        self.entries.drain(..)
    }

    /// Puts the first `wanted` entries into the order they are to be tried, and drops the rest: ascending priority, and
    /// within a priority drawn by weight without putting back (RFC 2782). `random` gives uniformly distributed numbers.
    pub fn arrange(&mut self, wanted: usize, random: &mut dyn FnMut() -> u64) {
        if self.entries.len() > 1 {
            self.entries.sort_unstable_by_key(|entry| (entry.priority, entry.id));
            for at in 0..self.entries.len().min(wanted) {
                let picked = at + draw(&self.entries[at..], random);
                self.entries[at..=picked].rotate_right(1);
            }
        }
        self.entries.truncate(wanted);
    }
}

/// Draws one of those that have the priority of the first.
///
/// Departs from RFC 2782: it draws from 0 to the sum of weights with both ends included, which gives the first record
/// one chance too many (two records of weight 1 would get 2/3 and 1/3). Here the shares are exact, and a weight of 0
/// counts as a thousandth of 1: the "very small chance" the RFC wants for it.
fn draw(rest: &[RouteEntry], random: &mut dyn FnMut() -> u64) -> usize {
    let share = |entry: &RouteEntry| (u64::from(entry.weight) * 1000).max(1);
    let equals = rest.iter().take_while(|entry| entry.priority == rest[0].priority);
    if equals.clone().nth(1).is_none() {
        return 0;
    }
    let mut left = random() % equals.clone().map(share).sum::<u64>();
    for (at, entry) in equals.enumerate() {
        match left.checked_sub(share(entry)) {
            Some(after) => left = after,
            None => return at,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn set(routes: &[(u64, u16, u16)]) -> RouteSet {
        let mut set = RouteSet::default();
        for &(id, priority, weight) in routes {
            let host = Host::Addr(Ipv4Addr::LOCALHOST.into());
            set.push(RouteEntry {
                id,
                host,
                port: None,
                transport: None,
                priority,
                weight,
            });
        }
        set
    }

    /// SplitMix64: repeatable, and good enough for shares.
    fn dice() -> impl FnMut() -> u64 {
        let mut state = 1u64;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }
    }

    fn ids(set: &RouteSet) -> Vec<u64> {
        set.entries().iter().map(|entry| entry.id).collect()
    }

    #[test]
    fn the_lower_priority_number_comes_first() {
        let mut set = set(&[(1, 20, 1), (2, 10, 1), (3, 30, 1)]);
        set.arrange(8, &mut dice());
        assert_eq!(ids(&set), [2, 1, 3]);
    }

    #[test]
    fn first_places_are_shared_by_weight() {
        let mut random = dice();
        let mut first = [0u32; 4];
        for _ in 0..10_000 {
            let mut set = set(&[(0, 1, 60), (1, 1, 30), (2, 1, 10), (3, 1, 0)]);
            set.arrange(8, &mut random);
            first[set.entries()[0].id as usize] += 1;
            assert_eq!(set.entries().len(), 4, "nobody is lost");
        }
        // Four standard deviations around 6000, 3000 and 1000 of 10,000.
        assert!((5800..6200).contains(&first[0]), "{first:?}");
        assert!((2810..3190).contains(&first[1]), "{first:?}");
        assert!((880..1120).contains(&first[2]), "{first:?}");
        assert!(first[3] < 5, "{first:?}");
    }

    #[test]
    fn equal_weights_and_no_weights_share_evenly() {
        let mut random = dice();
        for weight in [0, 1] {
            let mut first = [0u32; 2];
            for _ in 0..10_000 {
                let mut set = set(&[(0, 1, weight), (1, 1, weight)]);
                set.arrange(8, &mut random);
                first[set.entries()[0].id as usize] += 1;
            }
            assert!((4800..5200).contains(&first[0]), "{first:?}");
        }
    }

    #[test]
    fn no_more_than_wanted_are_kept() {
        let mut set = set(&[(1, 3, 1), (2, 1, 1), (3, 2, 1)]);
        set.arrange(2, &mut dice());
        assert_eq!(ids(&set), [2, 3]);
    }
}

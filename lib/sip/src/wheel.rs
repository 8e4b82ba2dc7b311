//! A hashed hierarchical timing wheel (Varghese and Lauck): the one place where a worker keeps its deadlines.
//!
//! Nothing is cancelled. A key whose deadline moved or went away comes out at the old time, its owner looks at the
//! machine, finds nothing due, and inserts it again if there is still something to wait for.
//!
//! Time is counted in milliseconds since the wheel was made and read as digits to the base 256. A key waits at the level
//! of the highest digit in which its deadline differs from the present, in the slot of that digit's value; when the
//! present reaches the slot, its keys move down a level or come out. A deadline within the hour moves twice at most.
//! Slots are lists through one table, whose memory follows the number of keys that wait.

use std::time::{Duration, Instant};

use crate::table::Table;

/// Deadlines of many keys, to the millisecond, never early.
#[derive(Debug)]
pub struct Wheel<K> {
    origin: Instant,
    /// The present: everything due up to here has come out.
    tick: u64,
    levels: Box<[Level; LEVELS]>,
    /// List of keys that were already due when they were inserted.
    overdue: u32,
    entries: Table<Entry<K>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry<K> {
    tick: u64,
    key: K,
    next: u32,
}

/// All slots in use lie above the present's digit of this level.
#[derive(Debug)]
struct Level {
    heads: [u32; SLOTS],
    /// One bit for each slot that holds a key.
    occupied: [u64; SLOTS / 64],
}

const SLOT_BITS: u32 = 8;
const SLOTS: usize = 1 << SLOT_BITS;
/// Six digits are 8,900 years of milliseconds.
const LEVELS: usize = 6;
const LAST_TICK: u64 = (1 << (SLOT_BITS * LEVELS as u32)) - 1;
/// End of a list.
const NONE: u32 = u32::MAX;

impl<K: Copy> Wheel<K> {
    /// An empty wheel. `now` is where its time begins; deadlines before it are due at once.
    pub fn new(now: Instant) -> Self {
        Wheel {
            origin: now,
            tick: 0,
            levels: Box::new(
                [const {
                    Level {
                        heads: [NONE; SLOTS],
                        occupied: [0; SLOTS / 64],
                    }
                }; LEVELS],
            ),
            overdue: NONE,
            entries: Table::new(),
        }
    }

    /// Wakes `key` at `at`, rounded up to a millisecond.
    pub fn insert(&mut self, at: Instant, key: K) {
        let since = at.saturating_duration_since(self.origin);
        let tick = since
            .as_secs()
            .saturating_mul(1_000)
            .saturating_add(since.subsec_nanos().div_ceil(1_000_000).into());
        let entry = Entry {
            tick: tick.min(LAST_TICK),
            key,
            next: NONE,
        };
        // Memory ends long before 2^32 entries of 16 bytes and more do.
        let index = self.entries.insert(entry) as u32;
        self.place(index);
    }

    /// Moves time on to `now` and appends the keys that are due to `due`, earliest millisecond first. Time does not go
    /// back: a `now` before the last one only brings out what was overdue.
    pub fn advance(&mut self, now: Instant, due: &mut Vec<K>) {
        let since = now.saturating_duration_since(self.origin);
        let to = (since
            .as_secs()
            .saturating_mul(1_000)
            .saturating_add(since.subsec_millis().into()))
        .min(LAST_TICK);
        let overdue = std::mem::replace(&mut self.overdue, NONE);
        self.release(overdue, due);
        while let Some((level, slot, tick)) = self.first_slot() {
            if tick > to {
                break;
            }
            self.tick = tick;
            let head = self.levels[level].take(slot);
            if level == 0 {
                self.release(head, due);
            } else {
                self.move_down(head, due);
            }
        }
        self.tick = self.tick.max(to);
    }

    /// When to call [`Self::advance`] next: never after the earliest deadline, sometimes before it. `None` when empty.
    pub fn next(&self) -> Option<Instant> {
        if self.overdue != NONE {
            return Some(self.origin + Duration::from_millis(self.tick));
        }
        self.first_slot()
            .map(|(_, _, tick)| self.origin + Duration::from_millis(tick))
    }

    /// Keys that wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no key waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Links an entry into the slot its deadline belongs to, seen from the present.
    fn place(&mut self, index: u32) {
        let entry = entry(&mut self.entries, index);
        if entry.tick <= self.tick {
            entry.next = std::mem::replace(&mut self.overdue, index);
            return;
        }
        let level = ((entry.tick ^ self.tick).ilog2() / SLOT_BITS) as usize;
        let slot = digit(entry.tick, level);
        let level = &mut self.levels[level];
        entry.next = std::mem::replace(&mut level.heads[slot], index);
        level.occupied[slot / 64] |= 1 << (slot % 64);
    }

    /// The slot that is reached first, and when. Lower levels lie before higher ones.
    fn first_slot(&self) -> Option<(usize, usize, u64)> {
        self.levels.iter().enumerate().find_map(|(level, content)| {
            let slot = content.first()?;
            let shift = SLOT_BITS * level as u32;
            let above = self.tick >> shift >> SLOT_BITS << SLOT_BITS;
            Some((level, slot, (above | slot as u64) << shift))
        })
    }

    /// Gives the keys of a list out and its entries back to the arena.
    fn release(&mut self, mut index: u32, due: &mut Vec<K>) {
        while index != NONE {
            let Some(entry) = self.entries.remove(index as usize) else {
                return;
            };
            due.push(entry.key);
            index = entry.next;
        }
    }

    /// The present has reached a slot of an upper level: its keys are due now or wait further down.
    fn move_down(&mut self, mut index: u32, due: &mut Vec<K>) {
        while index != NONE {
            let entry = entry(&mut self.entries, index);
            let next = entry.next;
            if entry.tick <= self.tick {
                entry.next = NONE;
                self.release(index, due);
            } else {
                self.place(index);
            }
            index = next;
        }
    }
}

impl Level {
    fn first(&self) -> Option<usize> {
        let word = self.occupied.iter().position(|&bits| bits != 0)?;
        Some(word * 64 + self.occupied[word].trailing_zeros() as usize)
    }

    fn take(&mut self, slot: usize) -> u32 {
        self.occupied[slot / 64] &= !(1 << (slot % 64));
        std::mem::replace(&mut self.heads[slot], NONE)
    }
}

fn entry<K>(entries: &mut Table<Entry<K>>, index: u32) -> &mut Entry<K> {
    entries
        .get_mut(index as usize)
        .expect("lists hold entries of the table")
}

fn digit(tick: u64, level: usize) -> usize {
    (tick >> (SLOT_BITS * level as u32)) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_key_comes_out_at_its_millisecond_and_not_before() {
        let origin = Instant::now();
        for wait in [
            1,
            2,
            255,
            256,
            257,
            500,
            511,
            512,
            5_000,
            32_000,
            65_535,
            65_536,
            7_200_000,
            20_000_000_000,
        ] {
            let mut wheel = Wheel::new(origin);
            let mut due = Vec::new();
            wheel.insert(origin + ms(wait), wait);
            wheel.advance(origin + ms(wait) - Duration::from_nanos(1), &mut due);
            assert_eq!(due, [], "early: {wait}");
            wheel.advance(origin + ms(wait), &mut due);
            assert_eq!(due, [wait]);
            assert!(wheel.is_empty() && wheel.next().is_none());
        }
    }

    #[test]
    fn a_deadline_that_has_passed_comes_out_at_the_same_instant() {
        let origin = Instant::now();
        let mut wheel = Wheel::new(origin);
        let mut due = Vec::new();
        wheel.advance(origin + ms(700), &mut due);
        wheel.insert(origin + ms(3), 'a');
        wheel.insert(origin + ms(700), 'b');
        assert_eq!(wheel.next(), Some(origin + ms(700)));
        wheel.advance(origin + ms(700), &mut due);
        due.sort();
        assert_eq!(due, ['a', 'b']);
    }

    #[test]
    fn nothing_is_kept_of_what_came_out() {
        let origin = Instant::now();
        let mut wheel = Wheel::new(origin);
        let mut due = Vec::new();
        for round in 0..1_000 {
            for key in 0..10 {
                wheel.insert(origin + ms(round * 100 + key), key);
            }
            wheel.advance(origin + ms(round * 100 + 50), &mut due);
            due.clear();
        }
        assert!(wheel.entries.is_empty() && wheel.is_empty());
    }

    /// What happens to the wheel and to the model.
    #[derive(Debug, Clone)]
    enum Step {
        /// Microseconds from the present, either way.
        Insert(i64),
        /// Microseconds.
        Advance(u64),
        AdvanceToNext,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => prop_oneof![-2_000_i64..300_000, 0_i64..70_000_000, 0_i64..20_000_000_000].prop_map(Step::Insert),
            3 => prop_oneof![0_u64..3_000, 0_u64..600_000, 0_u64..70_000_000, 0_u64..5_000_000_000].prop_map(Step::Advance),
            3 => Just(Step::AdvanceToNext),
        ]
    }

    proptest! {
        #[test]
        fn the_wheel_behaves_like_a_sorted_list(steps in proptest::collection::vec(step(), 1..200)) {
            let origin = Instant::now() + Duration::from_secs(10);
            let mut wheel = Wheel::new(origin);
            let mut model: Vec<(u64, usize)> = Vec::new(); // due at this millisecond, key
            let mut now = origin;
            for (key, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(offset) => {
                        let at = if offset < 0 {
                            now - Duration::from_micros(offset.unsigned_abs())
                        } else {
                            now + Duration::from_micros(offset.unsigned_abs())
                        };
                        wheel.insert(at, key);
                        model.push((at.saturating_duration_since(origin).as_micros().div_ceil(1_000) as u64, key));
                        continue;
                    }
                    Step::Advance(by) => now += Duration::from_micros(by),
                    Step::AdvanceToNext => match wheel.next() {
                        Some(at) => now = now.max(at),
                        None => prop_assert!(model.is_empty()),
                    },
                }
                let mut due = Vec::new();
                wheel.advance(now, &mut due);
                let present = (now - origin).as_millis() as u64;
                let position = |key: &usize| model.iter().find(|(_, k)| k == key).map(|(tick, _)| *tick);
                let ticks: Vec<_> = due.iter().map(|key| position(key).expect("a key came out twice or never went in")).collect();
                prop_assert!(ticks.iter().all(|tick| *tick <= present), "early");
                model.retain(|(_, key)| !due.contains(key));
                prop_assert!(model.iter().all(|(tick, _)| *tick > present), "late");
                prop_assert_eq!(wheel.len(), model.len());
                match (wheel.next(), model.iter().min()) {
                    (None, None) => {}
                    (Some(next), Some((tick, _))) => {
                        prop_assert!(next <= origin + ms(*tick), "next is too late");
                        prop_assert!(next > now, "next makes no progress");
                    }
                    (next, least) => prop_assert!(false, "{:?} against {:?}", next, least),
                }
            }
        }
    }

    #[test]
    fn keys_come_out_in_the_order_of_their_milliseconds() {
        let origin = Instant::now();
        let mut wheel = Wheel::new(origin);
        let waits = [70_000, 3, 256, 255, 9_000, 512, 65_536, 4, 300_000, 257];
        for wait in waits {
            wheel.insert(origin + ms(wait), wait);
        }
        let mut due = Vec::new();
        wheel.advance(origin + ms(1_000_000), &mut due);
        let mut sorted = waits.to_vec();
        sorted.sort();
        assert_eq!(due, sorted);
    }
}

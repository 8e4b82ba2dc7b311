//! A table of things that come and go, named by the place they lie in.
//!
//! Grows by whole chunks, so that no growth copies what is there and none doubles it; fills the lowest chunk that has room
//! and gives back those that have emptied, so that a storm leaves no sea behind.

/// See the module. Places are used again: who keeps one keeps a serial beside it.
#[derive(Debug)]
pub struct Table<T> {
    chunks: Vec<Option<Chunk<T>>>,
    /// One bit for each chunk that is there and has room.
    rooms: Vec<u64>,
    /// No word of `rooms` before this one has a bit.
    lowest: usize,
    len: usize,
    /// Places in all chunks that are there.
    places: usize,
}

#[derive(Debug)]
struct Chunk<T> {
    entries: Box<[Option<T>]>,
    /// For each empty place, the next one.
    next: Box<[u16]>,
    /// The first empty place.
    free: u16,
    used: u16,
}

/// Places in a chunk: enough that making one is rare, few enough that one is soon empty again.
const CHUNK: usize = 256;
const NONE: u16 = u16::MAX;

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table::new()
    }
}

impl<T> Table<T> {
    /// An empty table. Allocates nothing yet.
    pub fn new() -> Self {
        Table {
            chunks: Vec::new(),
            rooms: Vec::new(),
            lowest: 0,
            len: 0,
            places: 0,
        }
    }

    /// How many things lie here.
    pub fn len(&self) -> usize {
        self.len
    }

    /// One more than the last place that may be taken.
    pub fn end(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// Whether nothing does.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts `value` somewhere and gives the place.
    pub fn insert(&mut self, value: T) -> usize {
        let number = self.room();
        let chunk = self.chunks[number].as_mut().expect("what has room is there");
        let at = usize::from(chunk.free);
        chunk.free = chunk.next[at];
        chunk.entries[at] = Some(value);
        chunk.used += 1;
        if chunk.free == NONE {
            self.rooms[number / 64] &= !(1 << (number % 64));
        }
        self.len += 1;
        number * CHUNK + at
    }

    /// Where the next thing will be put: the same place until then.
    pub fn next_place(&mut self) -> usize {
        let number = self.room();
        let chunk = self.chunks[number].as_ref().expect("what has room is there");
        number * CHUNK + usize::from(chunk.free)
    }

    /// What lies at `place`.
    pub fn get(&self, place: usize) -> Option<&T> {
        let (number, at) = split(place);
        self.chunks.get(number)?.as_ref()?.entries[at].as_ref()
    }

    /// What lies at `place`.
    pub fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        let (number, at) = split(place);
        self.chunks.get_mut(number)?.as_mut()?.entries[at].as_mut()
    }

    /// Takes what lies at `place`.
    pub fn remove(&mut self, place: usize) -> Option<T> {
        let (number, at) = split(place);
        let chunk = self.chunks.get_mut(number)?.as_mut()?;
        let value = chunk.entries[at].take()?;
        chunk.next[at] = chunk.free;
        chunk.free = at as u16;
        chunk.used -= 1;
        self.len -= 1;
        // One chunk's worth of room stays, so that a table at an edge does not make and drop a chunk for each that comes.
        if chunk.used == 0 && self.places - self.len >= 2 * CHUNK {
            self.chunks[number] = None;
            self.places -= CHUNK;
            self.rooms[number / 64] &= !(1 << (number % 64));
            while matches!(self.chunks.last(), Some(None)) {
                self.chunks.pop();
            }
        } else {
            self.rooms[number / 64] |= 1 << (number % 64);
            self.lowest = self.lowest.min(number / 64);
        }
        Some(value)
    }

    /// Everything with its place, by rising place.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.chunks.iter().enumerate().flat_map(|(number, chunk)| {
            let entries = chunk.iter().flat_map(|chunk| chunk.entries.iter().enumerate());
            entries.filter_map(move |(at, entry)| Some((number * CHUNK + at, entry.as_ref()?)))
        })
    }

    /// The lowest chunk that has room; a new one where none has.
    fn room(&mut self) -> usize {
        while let Some(word) = self.rooms.get(self.lowest) {
            if *word != 0 {
                return self.lowest * 64 + word.trailing_zeros() as usize;
            }
            self.lowest += 1;
        }
        let number = match self.chunks.iter().position(Option::is_none) {
            Some(gap) => gap,
            None => {
                self.chunks.push(None);
                self.chunks.len() - 1
            }
        };
        self.chunks[number] = Some(Chunk::new());
        self.places += CHUNK;
        if self.rooms.len() <= number / 64 {
            self.rooms.resize(number / 64 + 1, 0);
        }
        self.rooms[number / 64] |= 1 << (number % 64);
        self.lowest = number / 64;
        number
    }
}

impl<T> Chunk<T> {
    fn new() -> Chunk<T> {
        Chunk {
            entries: std::iter::repeat_with(|| None).take(CHUNK).collect(),
            next: (1..CHUNK as u16).chain([NONE]).collect(),
            free: 0,
            used: 0,
        }
    }
}

fn split(place: usize) -> (usize, usize) {
    (place / CHUNK, place % CHUNK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_place_is_used_again_and_the_lowest_first() {
        let mut table = Table::new();
        let places: Vec<usize> = (0..3 * CHUNK).map(|n| table.insert(n)).collect();
        assert_eq!(places, (0..3 * CHUNK).collect::<Vec<_>>());
        assert_eq!(table.remove(700), Some(700));
        assert_eq!(table.remove(5), Some(5));
        assert_eq!(table.insert(1000), 5);
        assert_eq!(table.insert(1001), 700);
        assert_eq!((table.get(5), table.len()), (Some(&1000), 3 * CHUNK));
    }

    #[test]
    fn what_a_storm_took_is_given_back() {
        let mut table = Table::new();
        let places: Vec<usize> = (0..100 * CHUNK).map(|n| table.insert(n)).collect();
        assert_eq!(table.places, 100 * CHUNK);
        for place in &places[10..] {
            table.remove(*place);
        }
        assert_eq!(table.len(), 10);
        assert!(table.places <= 2 * CHUNK, "{} places for ten", table.places);
        for place in &places[..10] {
            table.remove(*place);
        }
        assert!(table.is_empty() && table.places == CHUNK);
    }

    #[test]
    fn at_an_edge_no_chunk_comes_and_goes_with_each_thing() {
        let mut table = Table::new();
        for n in 0..CHUNK {
            table.insert(n);
        }
        let before = table.places;
        let over = table.insert(CHUNK);
        for _ in 0..10 {
            table.remove(over);
            assert_eq!(table.places, before + CHUNK);
            table.insert(CHUNK);
        }
    }

    proptest! {
        /// It keeps what it was given, whatever comes and goes.
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..3000)) {
            let mut table = Table::new();
            let mut model: HashMap<usize, usize> = HashMap::new();
            for (n, (add, pick)) in steps.into_iter().enumerate() {
                if add || model.is_empty() {
                    let foretold = table.next_place();
                    let place = table.insert(n);
                    prop_assert_eq!(place, foretold);
                    prop_assert!(model.insert(place, n).is_none(), "a place in use was given out");
                } else {
                    let mut places: Vec<usize> = model.keys().copied().collect();
                    places.sort_unstable();
                    let place = *pick.get(&places);
                    prop_assert_eq!(table.remove(place), model.remove(&place));
                    prop_assert_eq!(table.remove(place), None);
                }
                prop_assert_eq!(table.len(), model.len());
            }
            let mut found: Vec<(usize, usize)> = table.iter().map(|(place, n)| (place, *n)).collect();
            let mut wanted: Vec<(usize, usize)> = model.into_iter().collect();
            found.sort_unstable();
            wanted.sort_unstable();
            prop_assert_eq!(found, wanted);
        }
    }
}

//! Which places of the heap are free: the writer's knowledge, rebuilt from the slots when the file was not closed.
//!
//! The file knows the size class of each chunk at any instant; which places are taken it knows only after closing, since the
//! slots say the same. What is known here is exact: a place is taken if and only if a slot points to it or is about to.

use crate::classes::Class;
use crate::layout::{CHUNK_HEAD_LEN, CHUNK_LEN, Shape};
use crate::map::{Map, as_bytes};
use crate::protocol::Words;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;

/// Words of a chunk's map of places.
const MAP_WORDS: usize = CHUNK_HEAD_LEN / 2 / 8;

/// The allocator of one file.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    chunks: Vec<Chunk>,
    /// For each class, chunks with a place free: taken from the back, put in at the front, so that a place just left rests.
    open: Vec<VecDeque<u32>>,
    /// For each class, how many places are free.
    free: Vec<u64>,
    /// Chunks of no class.
    spare: Vec<u32>,
    used_len: u64,
}

#[derive(Debug)]
struct Chunk {
    class: Option<Class>,
    used: u16,
    /// Where the search for a free place goes on, so that a place just left is taken again as late as possible.
    next: u16,
    /// `None` while the file's own map of places is good and was not needed yet.
    places: Option<Box<[u64; MAP_WORDS]>>,
}

/// The map of places in the file is not the one that was closed: everything must be rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Untrue;

/// What a place is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A record more. Leaves the last free place of its class alone, so that the records there can still be rewritten on a full disk.
    Insert,
    /// A new version of a record whose old place, of the same class, is given back right after.
    Rewrite,
}

impl Heap {
    fn empty() -> Heap {
        Heap {
            chunks: Vec::new(),
            open: vec![VecDeque::new(); Class::COUNT],
            free: vec![0; Class::COUNT],
            spare: Vec::new(),
            used_len: 0,
        }
    }

    /// With every chunk free, whatever the file says of their classes.
    pub fn of_classes(classes: impl Iterator<Item = Option<Class>>) -> Heap {
        let mut heap = Heap::empty();
        for class in classes {
            heap.chunks.push(Chunk {
                class,
                used: 0,
                next: 0,
                places: Some(Box::new([0; MAP_WORDS])),
            });
        }
        heap
    }

    /// From the chunk words of a file that was closed.
    pub fn of_closed(map: &Map, shape: &Shape, chunks: usize) -> Heap {
        let mut heap = Heap::empty();
        for index in 0..chunks {
            let word = map.load(shape.chunk_words_at() + index * 8, Ordering::Relaxed);
            let class = Class::from_byte(word as u8);
            let used = (word >> 8) as u16;
            heap.chunks.push(Chunk {
                class,
                used,
                next: 0,
                places: None,
            });
        }
        heap.settle();
        heap
    }

    /// Marks the place at `at` as taken while rebuilding. False if that cannot be: no chunk, no class, not the beginning of a place, or taken.
    pub fn claim(&mut self, shape: &Shape, at: usize) -> bool {
        let Some((index, class, place)) = self.place_of(shape, at) else {
            return false;
        };
        let chunk = &mut self.chunks[index];
        let Some(places) = chunk.places.as_mut() else {
            return false;
        };
        let (word, bit) = (place / 64, 1u64 << (place % 64));
        if place >= class.places() || places[word] & bit != 0 {
            return false;
        }
        places[word] |= bit;
        chunk.used += 1;
        true
    }

    /// After the last [`Heap::claim`]: counts what is free.
    pub fn settle(&mut self) {
        for (index, chunk) in self.chunks.iter_mut().enumerate() {
            match chunk.class {
                Some(class) if chunk.used > 0 => {
                    let free = class.places().saturating_sub(usize::from(chunk.used));
                    self.free[class.index()] += free as u64;
                    self.used_len += (usize::from(chunk.used) * class.size()) as u64;
                    if free > 0 {
                        self.open[class.index()].push_back(index as u32);
                    }
                }
                _ => {
                    chunk.class = None;
                    self.spare.push(index as u32);
                }
            }
        }
        // Low chunks first, here and in what follows.
        self.spare.reverse();
        self.open.iter_mut().for_each(|list| list.make_contiguous().reverse());
    }

    /// Chunks more at the end of the file.
    pub fn extend(&mut self, count: usize) {
        let from = self.chunks.len() as u32;
        for _ in 0..count {
            self.chunks.push(Chunk {
                class: None,
                used: 0,
                next: 0,
                places: Some(Box::new([0; MAP_WORDS])),
            });
        }
        // In front of the others, that is, used last.
        let more: Vec<u32> = (from..from + count as u32).rev().collect();
        self.spare.splice(0..0, more);
    }

    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Bytes of places taken.
    pub fn used_len(&self) -> u64 {
        self.used_len
    }

    /// The class of the place at `at`, if it is one.
    pub fn class_at(&self, shape: &Shape, at: usize) -> Option<Class> {
        self.place_of(shape, at).map(|(_, class, _)| class)
    }

    /// Takes a place, `Ok(None)` if the class has none for that purpose: then try [`Heap::adopt`] first, or extend.
    pub fn take(&mut self, map: &Map, shape: &Shape, class: Class, purpose: Purpose) -> Result<Option<usize>, Untrue> {
        let kept_back = if purpose == Purpose::Insert { 1 } else { 0 };
        if self.free[class.index()] <= kept_back {
            return Ok(None);
        }
        while let Some(&index) = self.open[class.index()].back() {
            let chunk = &mut self.chunks[index as usize];
            let next = usize::from(chunk.next);
            let places = chunk.load(map, shape, index as usize)?;
            if let Some(place) = first_free(places, next, class.places()) {
                places[place / 64] |= 1 << (place % 64);
                chunk.next = (place + 1) as u16;
                chunk.used += 1;
                self.free[class.index()] -= 1;
                self.used_len += class.size() as u64;
                if usize::from(chunk.used) >= class.places() {
                    self.open[class.index()].pop_back();
                }
                return Ok(Some(
                    shape.heap_at() + index as usize * CHUNK_LEN + CHUNK_HEAD_LEN + place * class.size(),
                ));
            }
            self.open[class.index()].pop_back();
        }
        // The counts said otherwise.
        Err(Untrue)
    }

    /// Gives a spare chunk to a class. The file is told, after everything that made the chunk spare is seen. False if there is none.
    pub fn adopt(&mut self, map: &Map, shape: &Shape, class: Class) -> bool {
        let Some(index) = self.spare.pop() else { return false };
        let chunk = &mut self.chunks[index as usize];
        chunk.class = Some(class);
        chunk.next = 0;
        chunk.used = 0;
        chunk.places = Some(Box::new([0; MAP_WORDS]));
        map.fence(Ordering::Release);
        map.store(
            shape.chunk_words_at() + index as usize * 8,
            u64::from(class.to_byte()),
            Ordering::Relaxed,
        );
        self.free[class.index()] += class.places() as u64;
        self.open[class.index()].push_back(index);
        true
    }

    /// Whether an insertion into that class would find a place.
    pub fn has_room(&self, class: Class) -> bool {
        self.free[class.index()] > 1
    }

    /// Gives a place back. The slot has been turned away from it before. Says so if it was none.
    pub fn give_back(&mut self, map: &Map, shape: &Shape, at: usize) -> Result<(), Untrue> {
        let (index, class, place) = self.place_of(shape, at).ok_or(Untrue)?;
        let chunk = &mut self.chunks[index];
        let places = chunk.load(map, shape, index)?;
        let (word, bit) = (place / 64, 1u64 << (place % 64));
        if place >= class.places() || places[word] & bit == 0 {
            return Err(Untrue);
        }
        places[word] &= !bit;
        let was_full = usize::from(chunk.used) >= class.places();
        chunk.used -= 1;
        self.free[class.index()] += 1;
        self.used_len -= class.size() as u64;
        let open = &mut self.open[class.index()];
        if chunk.used == 0 {
            chunk.class = None;
            self.free[class.index()] -= class.places() as u64;
            if !was_full {
                open.retain(|other| *other != index as u32);
            }
            self.spare.push(index as u32);
        } else if was_full {
            open.push_front(index as u32);
        }
        Ok(())
    }

    /// Writes everything down for [`Heap::of_closed`].
    pub fn write_down(&self, map: &Map, shape: &Shape) {
        for (index, chunk) in self.chunks.iter().enumerate() {
            let at = shape.chunk_words_at() + index * 8;
            let Some(places) = &chunk.places else { continue };
            let class = chunk.class.map_or(0, Class::to_byte);
            let sum = crc32c::crc32c(as_bytes(&places[..]));
            map.store(
                at,
                u64::from(class) | u64::from(chunk.used) << 8 | u64::from(sum) << 32,
                Ordering::Relaxed,
            );
            if chunk.class.is_some() {
                map.paste(shape.heap_at() + index * CHUNK_LEN, &places[..]);
            }
        }
    }

    /// Chunk, class, and place within the chunk.
    fn place_of(&self, shape: &Shape, at: usize) -> Option<(usize, Class, usize)> {
        let within = at.checked_sub(shape.heap_at())?;
        let index = within / CHUNK_LEN;
        let class = self.chunks.get(index)?.class?;
        let within = (within % CHUNK_LEN).checked_sub(CHUNK_HEAD_LEN)?;
        within
            .is_multiple_of(class.size())
            .then_some((index, class, within / class.size()))
    }
}

impl Chunk {
    /// The map of places, from the file if this is the first look since it was closed.
    fn load(&mut self, map: &Map, shape: &Shape, index: usize) -> Result<&mut [u64; MAP_WORDS], Untrue> {
        if self.places.is_none() {
            let mut places = Box::new([0; MAP_WORDS]);
            map.copy(shape.heap_at() + index * CHUNK_LEN, &mut places[..]);
            let word = map.load(shape.chunk_words_at() + index * 8, Ordering::Relaxed);
            let used: u32 = places.iter().map(|word| word.count_ones()).sum();
            if self.class.is_some()
                && (u64::from(crc32c::crc32c(as_bytes(&places[..]))) != word >> 32 || used != u32::from(self.used))
            {
                return Err(Untrue);
            }
            self.places = Some(places);
        }
        self.places.as_deref_mut().ok_or(Untrue)
    }
}

/// The first free place from `from` on, going round once.
fn first_free(places: &[u64; MAP_WORDS], from: usize, count: usize) -> Option<usize> {
    let words = count.div_ceil(64);
    let first = (from / 64) % words.max(1);
    for step in 0..=words {
        let word = (first + step) % words;
        let mut free = !places[word];
        if step == 0 {
            free &= !0 << (from % 64);
        }
        let place = word * 64 + free.trailing_zeros() as usize;
        if free != 0 && place < count {
            return Some(place);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_for_a_free_place_goes_round() {
        let mut places = [0; MAP_WORDS];
        assert_eq!(first_free(&places, 0, 100), Some(0));
        assert_eq!(first_free(&places, 99, 100), Some(99));
        assert_eq!(first_free(&places, 100, 100), Some(0));
        places[0] = !0;
        assert_eq!(first_free(&places, 3, 100), Some(64));
        places[1] = (1 << 36) - 1;
        assert_eq!(first_free(&places, 3, 100), None);
        places[0] = !(1 << 2);
        assert_eq!(first_free(&places, 3, 100), Some(2));
        assert_eq!(first_free(&places, 70, 3), Some(2));
    }
}

//! One table file, opened for writing: searching, storing, removing. Knows nothing of locks, growth and other files.

use crate::classes::Class;
use crate::heap::{Heap, Purpose, Untrue};
use crate::layout::*;
use crate::map::{Map, allocate, as_bytes_mut, folder_of, give_to_folder_owner, is_full};
use crate::protocol::{self, Words};
use crate::{Cursor, MAX_KEY_LEN, PutError};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::{Duration, Instant};

/// A table file and all that its writer knows about it.
#[derive(Debug)]
pub(crate) struct Volume {
    pub map: Arc<Map>,
    pub shape: Shape,
    pub hash: Hash,
    pub heap: Heap,
    pub records: u64,
    pub tombs: u64,
    pub sequence: u32,
    /// Damaged records met and dropped.
    pub damaged: u64,
    limit: Option<u64>,
    /// After the disk refused room: when to ask again.
    ask_again_at: Option<Instant>,
    scratch: Vec<u64>,
}

/// Why a record could not be stored.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// No room on the disk, or the heap is used up.
    Full,
    /// No free slot within reach: the table must grow.
    Crowded,
    /// The allocator was misled by a damaged file: rebuild, then try again.
    Untrue,
    Io(io::Error),
}

impl From<Untrue> for Refusal {
    fn from(_: Untrue) -> Self {
        Refusal::Untrue
    }
}

/// Where a key is, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Found { index: usize, slot: Slot },
    Absent { index: usize, was_tomb: bool },
    Crowded,
}

/// Room is asked for in steps between these: few system calls, none of them long.
const MIN_STEP: usize = 4 * CHUNK_LEN;
const MAX_STEP: usize = 8 * CHUNK_LEN;
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);

impl Volume {
    /// Makes a file (replacing one of that name, which is no table in use).
    pub fn create(path: &Path, shape: Shape, mode: u32, limit: Option<u64>) -> io::Result<Volume> {
        if limit.is_some_and(|limit| shape.heap_at() as u64 > limit) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        let made = give_to_folder_owner(&file, path)
            .and_then(|()| allocate(&file, shape.heap_at()))
            .and_then(|()| Map::new(file, shape.full_len(), true));
        let map = match made {
            Ok(map) => map,
            Err(error) => {
                let _ = std::fs::remove_file(path);
                return Err(error);
            }
        };
        let mut volume = Volume::on(Arc::new(map), shape, Heap::of_classes(std::iter::empty()), limit);
        volume.write_shape();
        volume.claim_file();
        Ok(volume)
    }

    /// On a mapping whose head has been read.
    pub fn on(map: Arc<Map>, shape: Shape, heap: Heap, limit: Option<u64>) -> Volume {
        Volume {
            map,
            shape,
            hash: Hash::new(shape.seed),
            heap,
            records: 0,
            tombs: 0,
            sequence: 0,
            damaged: 0,
            limit,
            ask_again_at: None,
            scratch: Vec::new(),
        }
    }

    /// Writes the part of the head that never changes, and its copy.
    pub fn write_shape(&self) {
        let words = self.shape.to_words();
        self.map.paste(COPY_AT, &words);
        self.map.paste(0, &words);
    }

    /// From now on the file is this process's and not closed.
    pub fn claim_file(&mut self) {
        self.map.store(CLEAN_AT, 0, Relaxed);
        self.map.store(MOVED_AT, 0, Release);
        self.map.store(WRITER_PID_AT, u64::from(std::process::id()), Relaxed);
        for (i, word) in boot_id().into_iter().enumerate() {
            self.map.store(BOOT_ID_AT + i * 8, word, Relaxed);
        }
        self.map
            .store(HEAP_LEN_AT, (self.heap.chunks() * CHUNK_LEN) as u64, Relaxed);
        self.note_counts();
    }

    fn note_counts(&self) {
        self.map.store(RECORDS_AT, self.records, Relaxed);
        self.map.store(TOMBS_AT, self.tombs, Relaxed);
        self.map.store(SEQUENCE_AT, u64::from(self.sequence), Relaxed);
    }

    /// Writes down what the next opening would otherwise have to find out, puts everything on the disk, and marks the file as closed.
    pub fn close(&mut self) -> io::Result<()> {
        self.heap.write_down(&self.map, &self.shape);
        self.note_counts();
        self.map.store(
            CLOSED_SUM_AT,
            closed_sum(&self.map, &self.shape, self.heap.chunks()),
            Relaxed,
        );
        self.map.file().sync_data()?;
        self.map.store(CLEAN_AT, 1, Release);
        self.map.file().sync_data()
    }

    /// Looks for a key; if it is not there, for the slot it would take.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Place {
        let home = self.shape.home(hash);
        let mut tomb = None;
        for index in home..home + MAX_PROBE {
            let slot = Slot(self.map.load(self.shape.slot_at(index), Relaxed));
            if slot == Slot::EMPTY {
                return match tomb {
                    Some(index) => Place::Absent { index, was_tomb: true },
                    None => Place::Absent { index, was_tomb: false },
                };
            }
            if !slot.is_record() {
                tomb = tomb.or(Some(index));
            } else if slot.has_tag_of(hash) && self.key_at(slot).is_some_and(|(_, other)| other == key) {
                return Place::Found { index, slot };
            }
        }
        tomb.map_or(Place::Crowded, |index| Place::Absent { index, was_tomb: true })
    }

    /// Head and key of the record a slot points to, if they lie inside of the file.
    #[inline]
    pub fn key_at(&self, slot: Slot) -> Option<(RecordHead, &[u8])> {
        let at = slot.at();
        let end = self.map.len();
        if at < self.shape.heap_at() || at + RecordHead::LEN > end {
            return None;
        }
        let head = RecordHead::from_words([self.map.load(at, Relaxed), self.map.load(at + 8, Relaxed)]);
        if head.key_len == 0 || head.record_len() > end - at {
            return None;
        }
        Some((head, self.map.bytes(at + RecordHead::KEY_AT, usize::from(head.key_len))))
    }

    /// The whole record a slot points to, if it is undamaged.
    pub fn record_at(&self, slot: Slot) -> Option<(RecordHead, &[u8], &[u8])> {
        let (head, key) = self.key_at(slot)?;
        let whole = self.map.bytes(slot.at(), head.record_len());
        let fits = Class::from_byte(head.class).is_some_and(|class| whole.len() <= class.size());
        if !fits || !slot.has_sequence_of(head.sequence) || crc32c::crc32c(&whole[4..]) != head.sum {
            return None;
        }
        let value = &whole[head.value_at()..head.value_at() + head.value_len as usize];
        Some((head, key, value))
    }

    #[inline]
    pub fn slot(&self, index: usize) -> Slot {
        Slot(self.map.load(self.shape.slot_at(index), Relaxed))
    }

    pub fn get(&self, hash: u64, key: &[u8]) -> Option<&[u8]> {
        match self.find(hash, key) {
            Place::Found { slot, .. } => self.record_at(slot).map(|(_, _, value)| value),
            _ => None,
        }
    }

    /// Stores a record. In force, for readers and after the death of this process, when this returns.
    pub fn put(&mut self, hash: u64, key: &[u8], value: &[u8]) -> Result<(), Refusal> {
        let len = record_len(key.len(), value.len());
        let wanted = Class::holding(len).ok_or(Refusal::Full)?;
        let place = self.find(hash, key);
        let (index, old) = match place {
            Place::Found { index, slot } => (index, Some(slot)),
            Place::Absent { index, .. } => (index, None),
            Place::Crowded => return Err(Refusal::Crowded),
        };
        let old_class = old.and_then(|slot| self.heap.class_at(&self.shape, slot.at()));
        let (class, at) = self.take_place(wanted, old_class)?;

        self.sequence = self.sequence.wrapping_add(1);
        self.map.store(SEQUENCE_AT, u64::from(self.sequence), Relaxed);
        self.compose(key, value, class);
        protocol::lay(&*self.map, at, &self.scratch);
        protocol::turn(
            &*self.map,
            self.shape.slot_at(index),
            Slot::new(at, hash, self.sequence).0,
        );

        if let Some(slot) = old {
            self.leave(slot);
        } else {
            self.records += 1;
            self.map.store(RECORDS_AT, self.records, Relaxed);
            if matches!(place, Place::Absent { was_tomb: true, .. }) {
                self.tombs = self.tombs.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// Removes a record, damaged or not.
    pub fn remove(&mut self, hash: u64, key: &[u8]) -> bool {
        let Place::Found { index, slot } = self.find(hash, key) else {
            return false;
        };
        // Counted down first: killed in between, the count is never higher than what is there.
        self.records = self.records.saturating_sub(1);
        self.map.store(RECORDS_AT, self.records, Relaxed);
        self.bury(index);
        self.leave(slot);
        true
    }

    /// Turns a slot away from its record. If nothing lies behind it, searches may end there.
    pub fn bury(&mut self, index: usize) {
        let behind = if index + 1 < self.shape.all_slots() {
            self.slot(index + 1)
        } else {
            Slot::EMPTY
        };
        if behind != Slot::EMPTY {
            self.tombs += 1;
            protocol::turn(&*self.map, self.shape.slot_at(index), Slot::TOMB.0);
            return;
        }
        protocol::turn(&*self.map, self.shape.slot_at(index), Slot::EMPTY.0);
        let mut before = index;
        while before > 0 && self.slot(before - 1) == Slot::TOMB {
            before -= 1;
            self.tombs = self.tombs.saturating_sub(1);
            protocol::turn(&*self.map, self.shape.slot_at(before), Slot::EMPTY.0);
        }
    }

    /// Gives back the place of a record that no slot points to any more.
    fn leave(&mut self, slot: Slot) {
        if self.heap.give_back(&self.map, &self.shape, slot.at()).is_err() {
            // The slot was damaged and pointed to no place that was taken: nothing to give back.
            self.damaged += 1;
        }
    }

    fn compose(&mut self, key: &[u8], value: &[u8], class: Class) {
        let mut head = RecordHead {
            sum: 0,
            key_len: key.len() as u16,
            class: class.to_byte(),
            value_len: value.len() as u32,
            sequence: self.sequence,
        };
        let words = head.record_len() / 8;
        self.scratch.resize(words, 0);
        // The padding is covered by the checksum: it must be the same for the same record.
        self.scratch[words - 1] = 0;
        self.scratch[..2].copy_from_slice(&head.to_words());
        let (key_at, value_at) = (RecordHead::KEY_AT, head.value_at());
        let bytes = as_bytes_mut(&mut self.scratch);
        bytes[key_at..value_at][key.len()..].fill(0);
        bytes[key_at..][..key.len()].copy_from_slice(key);
        bytes[value_at..][..value.len()].copy_from_slice(value);
        head.sum = record_sum(&self.scratch);
        self.scratch[..2].copy_from_slice(&head.to_words());
    }

    /// Finds a place for a record of class `wanted` that takes the place of one of class `old`.
    fn take_place(&mut self, wanted: Class, old: Option<Class>) -> Result<(Class, usize), Refusal> {
        let purpose = if old == Some(wanted) {
            Purpose::Rewrite
        } else {
            Purpose::Insert
        };
        if let Some(at) = self.heap.take(&self.map, &self.shape, wanted, purpose)? {
            return Ok((wanted, at));
        }
        if self.heap.adopt(&self.map, &self.shape, wanted) || self.extend()? {
            if !self.heap.has_room(wanted) {
                self.heap.adopt(&self.map, &self.shape, wanted);
            }
            if let Some(at) = self.heap.take(&self.map, &self.shape, wanted, purpose)? {
                return Ok((wanted, at));
            }
        }
        // No room in the file: the class of the old version if it is long enough, then a place that is too long but free.
        if let Some(old) = old.filter(|old| *old > wanted)
            && let Some(at) = self.heap.take(&self.map, &self.shape, old, Purpose::Rewrite)?
        {
            return Ok((old, at));
        }
        for class in Class::all().filter(|class| *class > wanted) {
            if let Some(at) = self.heap.take(&self.map, &self.shape, class, Purpose::Insert)? {
                return Ok((class, at));
            }
        }
        Err(Refusal::Full)
    }

    /// Makes the file longer. False if it is as long as it may be, or the disk is full.
    fn extend(&mut self) -> Result<bool, Refusal> {
        if self.ask_again_at.is_some_and(|at| Instant::now() < at) {
            return Ok(false);
        }
        let len = self.heap.chunks() * CHUNK_LEN;
        let longest = match self.limit {
            Some(limit) => (limit.saturating_sub(self.shape.heap_at() as u64) as usize).min(self.shape.heap_capacity),
            None => self.shape.heap_capacity,
        };
        let step = (len / 8).next_multiple_of(CHUNK_LEN).clamp(MIN_STEP, MAX_STEP);
        for step in [step, CHUNK_LEN] {
            if len + step > longest {
                continue;
            }
            match self.map.allocate(self.shape.heap_at() + len + step) {
                Ok(()) => {
                    self.ask_again_at = None;
                    self.heap.extend(step / CHUNK_LEN);
                    self.map.store(HEAP_LEN_AT, (len + step) as u64, Relaxed);
                    return Ok(true);
                }
                Err(error) if is_full(&error) => {}
                Err(error) => return Err(Refusal::Io(error)),
            }
        }
        self.ask_again_at = Some(Instant::now() + ASK_AGAIN_AFTER);
        Ok(false)
    }

    /// A share of the slots is in use that makes searches longer, or the heap comes to its end: a new file should be begun.
    pub fn wants_growth(&self) -> bool {
        let used = self.records + self.tombs;
        used * 100 >= self.shape.slots() * 65
            || (self.heap.chunks() * 4 >= self.shape.chunks() * 3
                && self.next_shape().heap_capacity > self.shape.heap_capacity)
    }

    /// Past the point where growing bit by bit would be in time.
    pub fn needs_growth(&self) -> bool {
        (self.records + self.tombs) * 100 >= self.shape.slots() * 85
    }

    /// What the file should be that this one grows into.
    pub fn next_shape(&self) -> Shape {
        let slots = if self.records * 100 >= self.shape.slots() * 35 {
            self.shape.slots() * 2
        } else {
            self.shape.slots()
        };
        let heap = self.heap.chunks() * CHUNK_LEN * 2;
        Shape::sized(slots, heap, self.shape.generation + 1, self.shape.seed)
    }

    /// Calls `f(key, value)` for undamaged records from `cursor` on.
    pub fn scan(&self, cursor: Cursor, limit: usize, mut f: impl FnMut(&[u8], &[u8])) -> Option<Cursor> {
        let mut given = 0;
        for index in cursor.index(&self.shape)..self.shape.all_slots() {
            let slot = self.slot(index);
            if !slot.is_record() {
                continue;
            }
            if given == limit {
                return Some(Cursor::at(index, &self.shape));
            }
            if let Some((_, key, value)) = self.record_at(slot) {
                f(key, value);
                given += 1;
            }
        }
        None
    }

    pub fn meta(&self, index: usize) -> u64 {
        self.map.load(META_AT + index * 8, Relaxed)
    }

    pub fn set_meta(&self, index: usize, word: u64) {
        // In order after the changes made before it.
        self.map.store(META_AT + index * 8, word, Release);
    }
}

/// Whether key and value can be stored at all.
pub(crate) fn check_size(key: &[u8], value: &[u8]) -> Result<(), PutError> {
    let fits = !key.is_empty() && key.len() <= MAX_KEY_LEN && value.len() <= crate::MAX_RECORD_LEN;
    if fits && record_len(key.len(), value.len()) <= crate::MAX_RECORD_LEN + RecordHead::LEN {
        return Ok(());
    }
    Err(PutError::Size {
        key_len: key.len(),
        value_len: value.len(),
    })
}

/// Covers what a clean opening believes without looking further.
pub(crate) fn closed_sum(map: &Map, shape: &Shape, chunks: usize) -> u64 {
    let mut words = vec![0; chunks];
    map.copy(shape.chunk_words_at(), &mut words);
    for at in [HEAP_LEN_AT, RECORDS_AT, TOMBS_AT, SEQUENCE_AT] {
        words.push(map.load(at, Relaxed));
    }
    u64::from(crc32c::crc32c(crate::map::as_bytes(&words)))
}

/// Which start of the machine this is; zeros if it does not tell.
pub(crate) fn boot_id() -> [u64; 2] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let half = |range: std::ops::Range<usize>| digits.get(range).and_then(|hex| u64::from_str_radix(hex, 16).ok());
    match (half(0..16), half(16..32)) {
        (Some(high), Some(low)) => [high, low],
        _ => [0, 0],
    }
}

/// Makes what was renamed in the folder of `path` survive a power cut.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

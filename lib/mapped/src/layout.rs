//! What lies where in a table's file.
//!
//! ```text
//! 0       head: what never changes (with a copy at 4096), then the words that do
//! 8192    slots, one word each, and TAIL more so that no probe needs to wrap around
//!         chunk words: size class and use of each chunk
//!         heap: chunks of 256 KiB, each for records of one size class; the file ends with the last chunk in use
//! ```
//! All words are in the byte order of the machine, which the head names.

use crate::map::as_bytes;

pub(crate) const MAGIC: u64 = u64::from_ne_bytes(*b"SPStable");
pub(crate) const BYTE_ORDER: u64 = 0x0102_0304_0506_0708;
pub(crate) const FORMAT: u64 = 1;
/// The hash of the keys; a file with another name here cannot be searched.
pub(crate) const HASH_NAME: [u8; 16] = *b"rapidhash-v3\0\0\0\0";

pub(crate) const HEAD_LEN: usize = 8192;
pub(crate) const COPY_AT: usize = 4096;

/// Readers look at this one first: not 0 if the table lives in another file by now. Shares its cache line with words that never change.
pub(crate) const MOVED_AT: usize = 112;
/// 1 from closing to the next opening for writing.
pub(crate) const CLEAN_AT: usize = 256;
pub(crate) const WRITER_PID_AT: usize = 264;
pub(crate) const BOOT_ID_AT: usize = 272;
/// Checksum, set when closing, over the head's changing words and the chunk words.
pub(crate) const CLOSED_SUM_AT: usize = 288;
pub(crate) const HEAP_LEN_AT: usize = 320;
pub(crate) const RECORDS_AT: usize = 328;
pub(crate) const TOMBS_AT: usize = 336;
pub(crate) const SEQUENCE_AT: usize = 344;
pub(crate) const META_AT: usize = 384;

/// Slots beyond the last home place.
pub(crate) const TAIL: usize = 1024;
/// A key lies at most so far from its home place.
pub(crate) const MAX_PROBE: usize = 1024;

/// Offsets in slots count units of this many bytes.
pub(crate) const UNIT: usize = 32;
pub(crate) const CHUNK_LEN: usize = 256 * 1024;
/// In front of a chunk's records: which places are taken, as of the last closing.
pub(crate) const CHUNK_HEAD_LEN: usize = 1024;
/// 32-bit offsets in units end here.
pub(crate) const MAX_FILE_LEN: u64 = (UNIT as u64) << 32;
pub(crate) const MAX_SLOTS: u64 = 1 << 32;
pub(crate) const MIN_SLOTS: u64 = 1 << 10;

/// The part of the head that never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Seeds the hash, so that a stranger cannot choose keys that collide.
    pub seed: u64,
    /// log2 of the number of home places.
    pub bits: u32,
    /// Most bytes of heap.
    pub heap_capacity: usize,
    /// Counts the files the table has lived in.
    pub generation: u64,
}

/// Why a head is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BadHead {
    Damaged(String),
    Foreign(String),
}

impl Shape {
    /// For `slots` places (rounded up) and at least `heap` bytes of heap.
    pub fn sized(slots: u64, heap: usize, generation: u64, seed: u64) -> Shape {
        let slots = slots.clamp(MIN_SLOTS, MAX_SLOTS).next_power_of_two();
        let bits = slots.trailing_zeros();
        let most = MAX_FILE_LEN as usize - (HEAD_LEN + (slots as usize + TAIL) * 8) * 2;
        let heap = heap.max(slots as usize * 1024).max(64 << 20).min(most);
        Shape {
            seed,
            bits,
            heap_capacity: heap / CHUNK_LEN * CHUNK_LEN,
            generation,
        }
    }

    pub fn slots(&self) -> u64 {
        1 << self.bits
    }

    /// All slots, those behind the last home place included.
    pub fn all_slots(&self) -> usize {
        (1usize << self.bits) + TAIL
    }

    pub fn slot_at(&self, index: usize) -> usize {
        HEAD_LEN + index * 8
    }

    pub fn chunks(&self) -> usize {
        self.heap_capacity / CHUNK_LEN
    }

    pub fn chunk_words_at(&self) -> usize {
        HEAD_LEN + self.all_slots() * 8
    }

    pub fn heap_at(&self) -> usize {
        (self.chunk_words_at() + self.chunks() * 8).next_multiple_of(4096)
    }

    /// The length of the file when the heap is used up.
    pub fn full_len(&self) -> usize {
        self.heap_at() + self.heap_capacity
    }

    /// The home place of a hash.
    #[inline]
    pub fn home(&self, hash: u64) -> usize {
        (hash >> (64 - self.bits)) as usize
    }

    pub fn to_words(self) -> [u64; 13] {
        let [name_a, name_b] = hash_name();
        let mut words = [
            MAGIC,
            BYTE_ORDER,
            FORMAT,
            name_a,
            name_b,
            self.seed,
            hash_check(self.seed),
            u64::from(self.bits),
            self.heap_capacity as u64,
            CHUNK_LEN as u64,
            UNIT as u64,
            self.generation,
            0,
        ];
        words[12] = u64::from(crc32c::crc32c(as_bytes(&words[..12])));
        words
    }

    pub fn from_words(words: &[u64; 13]) -> Result<Shape, BadHead> {
        let damaged = |what: &str| Err(BadHead::Damaged(what.to_owned()));
        if words[0] != MAGIC {
            if words[0] == MAGIC.swap_bytes() {
                return Err(BadHead::Foreign("byte order of another kind of machine".to_owned()));
            }
            return damaged("it does not begin as a table does");
        }
        if words[12] != u64::from(crc32c::crc32c(as_bytes(&words[..12]))) {
            return damaged("the checksum of its head is wrong");
        }
        if words[1] != BYTE_ORDER {
            return Err(BadHead::Foreign("byte order of another kind of machine".to_owned()));
        }
        if words[2] != FORMAT {
            return Err(BadHead::Foreign(format!(
                "format {} where {FORMAT} is spoken",
                words[2]
            )));
        }
        if [words[3], words[4]] != hash_name() || words[6] != hash_check(words[5]) {
            return Err(BadHead::Foreign("another hash of keys".to_owned()));
        }
        if words[9] != CHUNK_LEN as u64 || words[10] != UNIT as u64 {
            return Err(BadHead::Foreign("another division of the heap".to_owned()));
        }
        let (bits, heap) = (words[7], words[8]);
        if !(MIN_SLOTS.trailing_zeros()..=MAX_SLOTS.trailing_zeros()).contains(&u32::try_from(bits).unwrap_or(0)) {
            return damaged("an impossible number of slots");
        }
        if heap > MAX_FILE_LEN || heap % CHUNK_LEN as u64 != 0 {
            return damaged("an impossible size of the heap");
        }
        let shape = Shape {
            seed: words[5],
            bits: bits as u32,
            heap_capacity: heap as usize,
            generation: words[11],
        };
        if shape.full_len() as u64 > MAX_FILE_LEN {
            damaged("an impossible size")
        } else {
            Ok(shape)
        }
    }
}

fn hash_name() -> [u64; 2] {
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&HASH_NAME[at..at + 8]);
        u64::from_ne_bytes(bytes)
    };
    [word(0), word(8)]
}

/// A known key hashed with the file's seed: shows that the hash still is what it was when the file was made.
fn hash_check(seed: u64) -> u64 {
    Hash::new(seed).of(&HASH_NAME)
}

/// Hashes keys as one file wants it.
#[derive(Debug, Clone)]
pub(crate) struct Hash(rapidhash::v3::RapidSecrets);

impl Hash {
    pub fn new(seed: u64) -> Hash {
        Hash(rapidhash::v3::RapidSecrets::seed(seed))
    }

    #[inline]
    pub fn of(&self, key: &[u8]) -> u64 {
        rapidhash::v3::rapidhash_v3_seeded(key, &self.0)
    }
}

/// A slot: where a record lies (32 bits, in units), 16 bits of its key's hash so that most others are passed over without a look, and 16
/// bits of its sequence number so that a place that was left and taken again looks different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub u64);

impl Slot {
    pub const EMPTY: Slot = Slot(0);
    /// Was in use: a search goes on behind it.
    pub const TOMB: Slot = Slot(1 << 32);

    #[inline]
    pub fn new(at: usize, hash: u64, sequence: u32) -> Slot {
        Slot((at / UNIT) as u64 | (hash & 0xffff) << 32 | u64::from(sequence & 0xffff) << 48)
    }

    /// Byte offset of the record; 0 if there is none.
    #[inline]
    pub fn at(self) -> usize {
        (self.0 & 0xffff_ffff) as usize * UNIT
    }

    #[inline]
    pub fn is_record(self) -> bool {
        self.0 & 0xffff_ffff != 0
    }

    #[inline]
    pub fn has_tag_of(self, hash: u64) -> bool {
        (self.0 >> 32) & 0xffff == hash & 0xffff
    }

    #[inline]
    pub fn has_sequence_of(self, sequence: u32) -> bool {
        self.0 >> 48 == u64::from(sequence & 0xffff)
    }
}

/// The first two words of a record: checksum of all that follows it, lengths, size class, sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHead {
    pub sum: u32,
    pub key_len: u16,
    pub class: u8,
    pub value_len: u32,
    pub sequence: u32,
}

impl RecordHead {
    pub const LEN: usize = 16;

    #[inline]
    pub fn to_words(self) -> [u64; 2] {
        [
            u64::from(self.sum) | u64::from(self.key_len) << 32 | u64::from(self.class) << 48,
            u64::from(self.value_len) | u64::from(self.sequence) << 32,
        ]
    }

    #[inline]
    pub fn from_words(words: [u64; 2]) -> RecordHead {
        RecordHead {
            sum: words[0] as u32,
            key_len: (words[0] >> 32) as u16,
            class: (words[0] >> 48) as u8,
            value_len: words[1] as u32,
            sequence: (words[1] >> 32) as u32,
        }
    }

    /// Bytes of the whole record, in whole words. Cannot overflow, but may be more than any class holds if the head is damaged.
    #[inline]
    pub fn record_len(&self) -> usize {
        record_len(usize::from(self.key_len), self.value_len as usize)
    }

    /// The key's bytes begin here, behind the start of the record.
    pub const KEY_AT: usize = Self::LEN;

    /// The value's bytes begin here, behind the start of the record.
    #[inline]
    pub fn value_at(&self) -> usize {
        Self::LEN + usize::from(self.key_len).next_multiple_of(8)
    }
}

#[inline]
pub(crate) fn record_len(key_len: usize, value_len: usize) -> usize {
    RecordHead::LEN + key_len.next_multiple_of(8) + value_len.next_multiple_of(8)
}

/// The checksum of a record: over everything behind the checksum itself, so that lengths and sequence number are covered as well.
#[inline]
pub(crate) fn record_sum(record: &[u64]) -> u32 {
    crc32c::crc32c(&as_bytes(record)[4..])
}

// The checksum skips the first four bytes, which hold it on little-endian machines only.
#[cfg(target_endian = "big")]
compile_error!("records put their checksum first by little-endian order");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_survives_its_words() {
        let shape = Shape::sized(131_072, 0, 7, 99);
        assert_eq!(Shape::from_words(&shape.to_words()), Ok(shape));
        assert_eq!(shape.slots(), 131_072);
        assert!(shape.heap_at().is_multiple_of(4096));
    }

    #[test]
    fn any_changed_word_of_the_head_is_noticed() {
        let good = Shape::sized(1 << 20, 0, 7, 99).to_words();
        for word in 0..good.len() {
            for bit in 0..64 {
                let mut bad = good;
                bad[word] ^= 1 << bit;
                assert!(Shape::from_words(&bad).is_err(), "word {word} bit {bit}");
            }
        }
    }

    #[test]
    fn the_largest_table_fits_its_offsets() {
        let shape = Shape::sized(u64::MAX, usize::MAX, 1, 1);
        assert!(shape.full_len() as u64 <= MAX_FILE_LEN);
    }

    #[test]
    fn the_hash_is_the_one_that_older_files_were_written_with() {
        assert_eq!(Hash::new(1).of(b"sip:alice@example.com"), 15302878138512903295);
        assert_eq!(Hash::new(0x1234_5678_9abc_def0).of(b"4930123456"), 15491755325959286516);
    }

    #[test]
    fn heads_and_slots_keep_their_parts() {
        let head = RecordHead {
            sum: 0xdead_beef,
            key_len: 4096,
            class: 17,
            value_len: 60_000,
            sequence: 0x1234_5678,
        };
        assert_eq!(RecordHead::from_words(head.to_words()), head);
        let slot = Slot::new(UNIT * 77, 0xabcd, 0x1234_5678);
        assert_eq!(slot.at(), UNIT * 77);
        assert!(slot.has_tag_of(0xffff_abcd) && slot.has_sequence_of(0x5678) && slot.is_record());
        assert!(!Slot::TOMB.is_record() && !Slot::EMPTY.is_record());
    }
}

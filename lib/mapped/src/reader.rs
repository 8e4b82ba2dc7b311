//! The reading end of a table.

use crate::layout::*;
use crate::map::{Map, as_bytes};
use crate::protocol::{self, Words};
use crate::recover::{Unusable, read_shape};
use crate::{Cursor, META_SLOTS, OpenError};
use arc_swap::{ArcSwapOption, Guard};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Reads a table that another process writes. Cheap to share between threads (`&self`), lock-free, and follows the writer to a new
/// file by itself when the table grows or is replaced.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    current: ArcSwapOption<View>,
    /// Held while looking for another file.
    looking: Mutex<()>,
    damaged: AtomicU64,
    contended: AtomicU64,
}

/// One file, mapped read-only.
#[derive(Debug)]
struct View {
    map: Map,
    shape: Shape,
    hash: Hash,
    /// Device and inode: tells this file from another of the same name.
    identity: (u64, u64),
}

/// Room for one record, reused from lookup to lookup so that none of them allocates.
#[derive(Debug, Default)]
pub struct Buffer {
    words: Vec<u64>,
}

impl Buffer {
    /// Empty; grows to the longest record it has seen.
    pub fn new() -> Self {
        Self::default()
    }
}

/// How often a record that changes under the hand is copied again. Each time the writer was faster than a copy of some hundred bytes.
const MAX_TRIES: usize = 1000;
/// From then on the processor is given away between tries: the writer may need this one.
const TRIES_BEFORE_YIELD: usize = 32;

impl Reader {
    /// Maps an existing table.
    ///
    /// # Errors
    /// [`OpenError::Missing`] while its writer has not made it yet; the others as they are named.
    pub fn open(path: &Path) -> Result<Reader, OpenError> {
        let view = View::open(path).map_err(|unusable| unusable.at(path))?;
        Ok(Reader::on(path, Some(view)))
    }

    /// Like [`Reader::open`], but a table that is missing or unusable reads as empty until [`Reader::refresh`] finds it.
    pub fn open_or_wait(path: &Path) -> Reader {
        Reader::on(path, View::open(path).ok())
    }

    fn on(path: &Path, view: Option<View>) -> Reader {
        Reader {
            path: path.to_owned(),
            current: ArcSwapOption::from(view.map(Arc::new)),
            looking: Mutex::new(()),
            damaged: AtomicU64::new(0),
            contended: AtomicU64::new(0),
        }
    }

    /// Looks for a new file under the table's name, as after the writer had to recreate it. Growth and replacement need no call: lookups
    /// notice them. Costs a system call; once a second is plenty. True if another file is read from now on.
    pub fn refresh(&self) -> bool {
        // Whoever comes second waits for what the first one finds: some microseconds.
        let _looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(metadata) = std::fs::metadata(&self.path) else {
            return false;
        };
        let identity = (metadata.dev(), metadata.ino());
        if self
            .current
            .load()
            .as_ref()
            .is_some_and(|view| view.identity == identity)
        {
            return false;
        }
        let Ok(view) = View::open(&self.path) else { return false };
        if let Some(old) = self.current.swap(Some(Arc::new(view))) {
            // Giving back a large mapping, perhaps the last one of a file that is gone, takes long.
            let _ = std::thread::Builder::new()
                .name("table-drop".to_owned())
                .spawn(move || drop(old));
        }
        true
    }

    /// The file to read now: follows the writer if it has moved.
    #[inline]
    fn file(&self) -> Guard<Option<Arc<View>>> {
        let view = self.current.load();
        if view.as_ref().is_some_and(|view| view.map.load(MOVED_AT, Acquire) == 0) {
            return view;
        }
        self.moved_file(view)
    }

    #[cold]
    fn moved_file(&self, view: Guard<Option<Arc<View>>>) -> Guard<Option<Arc<View>>> {
        if view.is_none() {
            return view;
        }
        // If there is no other file yet, the old one is complete, and the writer about to rename the new one or gone.
        self.refresh();
        self.current.load()
    }

    /// The value of `key`, copied to `buffer` as one whole: never parts of two versions of it.
    #[inline]
    pub fn view<'b>(&self, key: &[u8], buffer: &'b mut Buffer) -> Option<&'b [u8]> {
        let guard = self.file();
        let view = guard.as_ref()?;
        let hash = view.hash.of(key);
        let home = view.shape.home(hash);
        for index in home..home + MAX_PROBE {
            let slot_at = view.shape.slot_at(index);
            let mut slot = Slot(protocol::look(&view.map, slot_at));
            if slot == Slot::EMPTY {
                return None;
            }
            if !slot.has_tag_of(hash) || !slot.is_record() {
                continue;
            }
            if let Some(head) = self.copy(view, slot_at, &mut slot, Some((hash, key)), &mut buffer.words) {
                return Some(&as_bytes(&buffer.words)[head.value_at()..][..head.value_len as usize]);
            }
        }
        None
    }

    /// Copies the record of a slot, again and again until no change of it came in between. `None` if it is damaged, or if the slot turned to
    /// another key than the one wanted.
    #[inline]
    fn copy(
        &self,
        view: &View,
        slot_at: usize,
        slot: &mut Slot,
        wanted: Option<(u64, &[u8])>,
        words: &mut Vec<u64>,
    ) -> Option<RecordHead> {
        for tries in 0..MAX_TRIES {
            match view.copy(slot_at, *slot, wanted.map(|(_, key)| key), words) {
                Copied::Whole(head) => return Some(head),
                Copied::OtherKey => return None,
                // Once more: the slot may, by the rarest chance, have been turned all the way round.
                Copied::Damaged if tries == 0 => {}
                Copied::Damaged => {
                    self.damaged.fetch_add(1, Relaxed);
                    return None;
                }
                Copied::Turned => {}
            }
            *slot = Slot(protocol::look(&view.map, slot_at));
            if !slot.is_record() || wanted.is_some_and(|(hash, _)| !slot.has_tag_of(hash)) {
                return None;
            }
            if tries > TRIES_BEFORE_YIELD {
                std::thread::yield_now();
            }
        }
        self.contended.fetch_add(1, Relaxed);
        None
    }

    /// The value of `key`, copied to `out` (which is emptied first); its length.
    pub fn get(&self, key: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let mut buffer = Buffer::new();
        out.clear();
        let value = self.view(key, &mut buffer)?;
        out.extend_from_slice(value);
        Some(value.len())
    }

    /// Calls `f(key, value)` for at most `limit` records; where to go on, or `None` at the end. Order is that of the hash.
    pub fn scan(&self, cursor: Cursor, limit: usize, mut f: impl FnMut(&[u8], &[u8])) -> Option<Cursor> {
        let guard = self.file();
        let view = guard.as_ref()?;
        let mut words = Vec::new();
        let mut given = 0;
        for index in cursor.index(&view.shape)..view.shape.all_slots() {
            let slot_at = view.shape.slot_at(index);
            let mut slot = Slot(protocol::look(&view.map, slot_at));
            if !slot.is_record() {
                continue;
            }
            if given == limit {
                return Some(Cursor::at(index, &view.shape));
            }
            if let Some(head) = self.copy(view, slot_at, &mut slot, None, &mut words) {
                let bytes = as_bytes(&words);
                f(
                    &bytes[RecordHead::KEY_AT..][..usize::from(head.key_len)],
                    &bytes[head.value_at()..][..head.value_len as usize],
                );
                given += 1;
            }
        }
        None
    }

    /// A word of the owner's ([`crate::Writer::set_meta`]); 0 if never set.
    ///
    /// # Panics
    /// If `index` is not below [`crate::META_SLOTS`].
    pub fn meta(&self, index: usize) -> u64 {
        assert!(index < META_SLOTS, "no owner's word {index}");
        self.file()
            .as_ref()
            .map_or(0, |view| view.map.load(META_AT + index * 8, Acquire))
    }

    /// Number of records, as far as the writer has told.
    pub fn len(&self) -> u64 {
        self.file()
            .as_ref()
            .map_or(0, |view| view.map.load(RECORDS_AT, Relaxed))
    }

    /// No record at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts the files that this table has lived in; 0 while there is none.
    pub fn generation(&self) -> u64 {
        self.file().as_ref().map_or(0, |view| view.shape.generation)
    }

    /// Records met that were damaged, and read as missing.
    pub fn damaged(&self) -> u64 {
        self.damaged.load(Relaxed)
    }

    /// Lookups given up because the record changed all the time, and answered as missing.
    pub fn contended(&self) -> u64 {
        self.contended.load(Relaxed)
    }
}

/// What became of one attempt to copy a record.
enum Copied {
    Whole(RecordHead),
    OtherKey,
    /// It changed meanwhile.
    Turned,
    Damaged,
}

impl View {
    fn open(path: &Path) -> Result<View, Unusable> {
        let file = File::open(path).map_err(Unusable::io("open"))?;
        let (shape, _) = read_shape(&file)?;
        let metadata = file.metadata().map_err(Unusable::io("measure"))?;
        if metadata.len() < shape.heap_at() as u64 {
            return Err(Unusable::Head(BadHead::Damaged("it has been cut".to_owned())));
        }
        let map = Map::new(file, shape.full_len(), false).map_err(Unusable::io("map"))?;
        Ok(View {
            map,
            shape,
            hash: Hash::new(shape.seed),
            identity: (metadata.dev(), metadata.ino()),
        })
    }

    /// Copies the record that `slot` points to, all of it, and checks it.
    #[inline]
    fn copy(&self, slot_at: usize, slot: Slot, key: Option<&[u8]>, words: &mut Vec<u64>) -> Copied {
        let at = slot.at();
        let unusable = || {
            if protocol::is_still(&self.map, slot_at, slot.0) {
                Copied::Damaged
            } else {
                Copied::Turned
            }
        };
        if at < self.shape.heap_at() || !self.map.covers(at, RecordHead::LEN) {
            return unusable();
        }
        // Perhaps of another record already: the lengths are believed only as far as they stay inside of the file.
        let head = RecordHead::from_words([self.map.load(at, Relaxed), self.map.load(at + 8, Relaxed)]);
        let len = head.record_len();
        if head.key_len == 0 || len > CHUNK_LEN || !self.map.covers(at, len) {
            return unusable();
        }
        if key.is_some_and(|key| key.len() != usize::from(head.key_len)) {
            return if protocol::is_still(&self.map, slot_at, slot.0) {
                Copied::OtherKey
            } else {
                Copied::Turned
            };
        }
        words.resize(len / 8, 0);
        if !protocol::take(&self.map, slot_at, slot.0, at, words) {
            return Copied::Turned;
        }
        let head = RecordHead::from_words([words[0], words[1]]);
        if head.record_len() != len || !slot.has_sequence_of(head.sequence) || record_sum(words) != head.sum {
            return Copied::Damaged;
        }
        if key.is_some_and(|key| as_bytes(words)[RecordHead::KEY_AT..][..key.len()] != *key) {
            return Copied::OtherKey;
        }
        Copied::Whole(head)
    }
}

impl Unusable {
    fn at(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            Unusable::Missing => OpenError::Missing(path),
            Unusable::Head(BadHead::Damaged(what)) => OpenError::Damaged { path, what },
            Unusable::Head(BadHead::Foreign(what)) => OpenError::Foreign { path, what },
            Unusable::Io(doing, source) => OpenError::Io { doing, path, source },
        }
    }
}

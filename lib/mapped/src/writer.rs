//! The writing end of a table.

use crate::files::{beside, create, io_at, lock};
use crate::growth::{self, Growth};
use crate::keeper::Keeper;
use crate::layout::{BadHead, Slot};
use crate::recover::{self, Unusable};
use crate::replacement::Replacement;
use crate::report::{OpenReport, TableStats};
use crate::volume::{Place, Refusal, Volume, check_size};
use crate::{Cursor, META_SLOTS, OnDamage, OpenError, PutError, TableConf};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The one writer of a table.
///
/// A change is in force for readers, and survives the death of this process, when the call returns. It survives a power cut after
/// [`Writer::sync`] or within [`TableConf::sync_interval`].
#[derive(Debug)]
pub struct Writer {
    pub(crate) path: PathBuf,
    pub(crate) conf: TableConf,
    pub(crate) volume: Volume,
    growth: Option<Growth>,
    /// After a growth that the disk had no room for: when to try again.
    grow_again_at: Option<Instant>,
    keeper: Option<Keeper>,
    refused: u64,
    /// Held for as long as the writer lives; the kernel lets go of it however this process ends.
    _lock: File,
}

const GROW_AGAIN_AFTER: Duration = Duration::from_secs(5);

impl Writer {
    /// Opens the table for writing, making it if there is none, and takes the lock `NAME.lock` beside it.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another process writes it; damage that can be dropped record by record is no error.
    pub fn open(path: &Path, conf: &TableConf) -> Result<(Writer, OpenReport), OpenError> {
        let began = Instant::now();
        let lock = lock(path, conf.mode)?;
        for unfinished in ["new", "import", "import2"] {
            let _ = std::fs::remove_file(beside(path, unfinished));
        }
        let (volume, mut report) = match recover::open(path, conf) {
            Ok(opened) => opened,
            Err(Unusable::Missing) => create(path, conf, None)?,
            Err(Unusable::Head(BadHead::Foreign(what))) if conf.on_damage == OnDamage::Refuse => {
                return Err(OpenError::Foreign {
                    path: path.to_owned(),
                    what,
                });
            }
            Err(Unusable::Head(BadHead::Damaged(what))) if conf.on_damage == OnDamage::Refuse => {
                return Err(OpenError::Damaged {
                    path: path.to_owned(),
                    what,
                });
            }
            Err(Unusable::Head(BadHead::Damaged(what) | BadHead::Foreign(what))) => create(path, conf, Some(what))?,
            Err(Unusable::Io(doing, source)) => {
                return Err(OpenError::Io {
                    doing,
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let keeper = match conf.sync_interval {
            Some(interval) => Some(Keeper::start(volume.map.file().clone(), interval).map_err(io_at("keep", path))?),
            None => None,
        };
        report.took = began.elapsed();
        let writer = Writer {
            path: path.to_owned(),
            conf: conf.clone(),
            volume,
            growth: None,
            grow_again_at: None,
            keeper,
            refused: 0,
            _lock: lock,
        };
        Ok((writer, report))
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.volume.get(self.volume.hash.of(key), key)
    }

    /// Key and value of `key`, both in place.
    pub fn get_pair(&self, key: &[u8]) -> Option<(&[u8], &[u8])> {
        match self.volume.find(self.volume.hash.of(key), key) {
            Place::Found { slot, .. } => self.volume.record_at(slot).map(|(_, key, value)| (key, value)),
            _ => None,
        }
    }

    /// The record whose key has this [`Writer::hash`]. Of several such keys, `pick` says which is meant.
    pub fn get_hashed(&self, hash: u64, mut pick: impl FnMut(&[u8]) -> bool) -> Option<(&[u8], &[u8])> {
        let volume = &self.volume;
        let home = volume.shape.home(hash);
        (home..home + crate::layout::MAX_PROBE)
            .map(|index| volume.slot(index))
            .take_while(|slot| *slot != Slot::EMPTY)
            .filter(|slot| slot.is_record() && slot.has_tag_of(hash))
            .filter_map(|slot| volume.record_at(slot))
            .find(|(_, key, _)| volume.hash.of(key) == hash && pick(key))
            .map(|(_, key, value)| (key, value))
    }

    /// The hash of a key, stable for the life of the table.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.volume.hash.of(key)
    }

    /// Stores or replaces a record; readers see the old or the new one, whole.
    ///
    /// # Errors
    /// [`PutError::Full`] leaves everything as it was.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), PutError> {
        check_size(key, value)?;
        let hash = self.volume.hash.of(key);
        self.touch();
        // Twice is enough: after a rebuild the allocator is true, after growing there is room or there is none.
        let mut stored = self.volume.put(hash, key, value);
        for _ in 0..2 {
            match stored {
                Err(Refusal::Untrue) => self.rebuild(),
                Err(Refusal::Crowded) => self.grow_now()?,
                Err(Refusal::Full) if self.volume.wants_growth() && self.may_grow() => {
                    // The file is as long as it may be, not the disk full.
                    if self.grow_now().is_err() {
                        break;
                    }
                }
                _ => break,
            }
            stored = self.volume.put(hash, key, value);
        }
        match stored {
            Ok(()) => {}
            Err(Refusal::Io(error)) => return Err(PutError::Io(error)),
            Err(_) => {
                self.refused += 1;
                return Err(PutError::Full);
            }
        }
        if let Some(growth) = &mut self.growth
            && growth.on_put(hash, key, value).is_err()
        {
            self.abandon_growth();
        }
        self.grow_a_little();
        Ok(())
    }

    /// Removes a record; true if there was one.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let hash = self.volume.hash.of(key);
        if !self.volume.remove(hash, key) {
            return false;
        }
        self.touch();
        if let Some(growth) = &mut self.growth {
            growth.on_remove(hash, key);
        }
        self.grow_a_little();
        true
    }

    /// Number of records.
    pub fn len(&self) -> u64 {
        self.volume.records
    }

    /// No record at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `f(key, value)` for at most `limit` records; where to go on, or `None` at the end. Order is that of the hash.
    pub fn scan(&self, cursor: Cursor, limit: usize, f: impl FnMut(&[u8], &[u8])) -> Option<Cursor> {
        self.volume.scan(cursor, limit, f)
    }

    /// A word of the owner's; 0 if never set.
    ///
    /// # Panics
    /// If `index` is not below [`crate::META_SLOTS`].
    pub fn meta(&self, index: usize) -> u64 {
        assert!(index < META_SLOTS, "no owner's word {index}");
        self.volume.meta(index)
    }

    /// Sets a word of the owner's, in force for readers at once.
    ///
    /// # Panics
    /// If `index` is not below [`crate::META_SLOTS`].
    pub fn set_meta(&mut self, index: usize, word: u64) {
        assert!(index < META_SLOTS, "no owner's word {index}");
        self.touch();
        self.volume.set_meta(index, word);
    }

    /// Starts a new content for the whole table, in a file beside, for about `records` records. Nothing is seen of it before
    /// [`Replacement::commit`]; dropping it changes nothing. The owner's words are carried over.
    ///
    /// # Errors
    /// [`PutError::Full`] or the machine's.
    pub fn replacement(&mut self, records: u64) -> Result<Replacement<'_>, PutError> {
        Replacement::begin(self, records)
    }

    /// [`Writer::replacement`] in one go: all records and owner's words `(index, word)`; all of it in force at once, or nothing.
    /// Returns the number of records.
    ///
    /// # Errors
    /// [`PutError::Full`] or the machine's; the old content is in force then.
    pub fn replace_all<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        records: impl IntoIterator<Item = (K, V)>,
        meta: &[(usize, u64)],
    ) -> Result<u64, PutError> {
        let records = records.into_iter();
        let mut replacement = self.replacement(records.size_hint().0 as u64)?;
        for (key, value) in records {
            replacement.put(key.as_ref(), value.as_ref())?;
        }
        for (index, word) in meta {
            replacement.set_meta(*index, *word);
        }
        replacement.commit()
    }

    /// Puts everything on the disk now and waits for it.
    ///
    /// # Errors
    /// The machine's.
    pub fn sync(&mut self) -> io::Result<()> {
        self.volume.map.file().sync_data()
    }

    /// Figures for `status`.
    pub fn stats(&self) -> TableStats {
        TableStats {
            records: self.volume.records,
            slots: self.volume.shape.slots(),
            file_len: self.volume.map.len() as u64,
            used_len: self.volume.heap.used_len(),
            damaged: self.volume.damaged,
            generation: self.volume.shape.generation,
            growing: self.growth.is_some(),
            refused: self.refused,
            sync_failures: self.keeper.as_ref().map_or(0, Keeper::failures),
        }
    }

    /// Puts everything on the disk and marks the file as closed, so that the next opening need not look for damage.
    /// Dropping the writer instead is safe, like being killed.
    ///
    /// # Errors
    /// The machine's.
    pub fn close(mut self) -> io::Result<()> {
        self.abandon_growth();
        self.keeper = None;
        self.volume.close()
    }

    /// A growth or replacement is complete: goes on in that file, and lets go of the old one without waiting.
    pub(crate) fn go_on_in(&mut self, volume: Volume) {
        let old = std::mem::replace(&mut self.volume, volume);
        self.volume.damaged += old.damaged;
        if let Some(keeper) = &self.keeper {
            keeper.follow(self.volume.map.file().clone());
        }
        self.touch();
        growth::let_go(old, self.path.clone());
    }

    pub(crate) fn beside(&self, what: &str) -> PathBuf {
        beside(&self.path, what)
    }

    pub(crate) fn abandon_growth(&mut self) {
        if let Some(growth) = self.growth.take() {
            growth.abandon();
            self.grow_again_at = Some(Instant::now() + GROW_AGAIN_AFTER);
        }
    }

    fn touch(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.touch();
        }
    }

    fn rebuild(&mut self) {
        let chunks = self.volume.heap.chunks();
        recover::verify(&mut self.volume, chunks);
    }

    fn may_grow(&self) -> bool {
        self.grow_again_at.is_none_or(|at| Instant::now() >= at)
    }

    /// Begins a growth or takes the next step of one. Failing changes nothing for the table as it is.
    #[inline]
    fn grow_a_little(&mut self) {
        if self.growth.is_some() || self.volume.wants_growth() {
            self.grow_step();
        }
    }

    #[cold]
    fn grow_step(&mut self) {
        if self.conf.growth == crate::Growth::AtOnce || self.volume.needs_growth() {
            if self.may_grow() || self.growth.is_some() {
                let _ = self.grow_now();
            }
            return;
        }
        let growth = match self.growth.take() {
            Some(growth) => growth,
            None if self.may_grow() => match self.begin_growth() {
                Ok(growth) => growth,
                Err(_) => {
                    self.grow_again_at = Some(Instant::now() + GROW_AGAIN_AFTER);
                    return;
                }
            },
            None => return,
        };
        let beside = growth.path().to_owned();
        match growth.step(&self.volume) {
            Ok((growth, false)) => self.growth = Some(growth),
            Ok((growth, true)) => {
                if let Ok(volume) = growth.finish(&self.volume) {
                    let _ = self.take_over(volume, &beside);
                }
            }
            Err(_) => self.give_up_growth(&beside),
        }
    }

    fn begin_growth(&self) -> io::Result<Growth> {
        Growth::begin(
            self.beside("new"),
            self.volume.next_shape(),
            self.conf.mode,
            self.conf.max_file_len,
        )
    }

    /// Grows within this call.
    fn grow_now(&mut self) -> Result<(), PutError> {
        let growth = match self.growth.take() {
            Some(growth) => growth,
            None => self.begin_growth()?,
        };
        let beside = growth.path().to_owned();
        match growth.finish(&self.volume) {
            Ok(volume) => self.take_over(volume, &beside),
            Err(refusal) => {
                self.give_up_growth(&beside);
                match refusal {
                    Refusal::Io(error) => Err(PutError::Io(error)),
                    _ => Err(PutError::Full),
                }
            }
        }
    }

    fn take_over(&mut self, volume: Volume, beside: &Path) -> Result<(), PutError> {
        if let Err(error) = growth::take_over(&self.volume, &volume, beside, &self.path) {
            self.give_up_growth(beside);
            return Err(PutError::Io(error));
        }
        self.grow_again_at = None;
        self.go_on_in(volume);
        Ok(())
    }

    fn give_up_growth(&mut self, beside: &Path) {
        let _ = std::fs::remove_file(beside);
        self.grow_again_at = Some(Instant::now() + GROW_AGAIN_AFTER);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.abandon_growth();
    }
}

//! A whole new content for a table, made beside and put in force in one step.

use crate::files::slots_for;
use crate::layout::Shape;
use crate::map::is_full;
use crate::volume::{Place, Refusal, Volume, check_size};
use crate::{Cursor, META_SLOTS, PutError, Writer, growth};
use std::path::PathBuf;

/// New content for a whole table, not in force yet.
#[derive(Debug)]
pub struct Replacement<'w> {
    writer: &'w mut Writer,
    volume: Option<Volume>,
    path: PathBuf,
}

impl<'w> Replacement<'w> {
    pub(crate) fn begin(writer: &'w mut Writer, records: u64) -> Result<Self, PutError> {
        writer.abandon_growth();
        let now = &writer.volume.shape;
        let shape = Shape::sized(
            slots_for(records.max(writer.conf.initial_records)),
            0,
            now.generation + 1,
            now.seed,
        );
        let path = writer.beside("import");
        let volume = Volume::create(&path, shape, writer.conf.mode, writer.conf.max_file_len).map_err(put_error)?;
        for index in 0..META_SLOTS {
            volume.set_meta(index, writer.volume.meta(index));
        }
        Ok(Replacement {
            writer,
            volume: Some(volume),
            path,
        })
    }

    /// Stores or replaces a record of the new content.
    ///
    /// # Errors
    /// As [`Writer::put`].
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), PutError> {
        check_size(key, value)?;
        let volume = self.volume();
        let hash = volume.hash.of(key);
        let mut stored = volume.put(hash, key, value);
        if matches!(stored, Err(Refusal::Crowded | Refusal::Full)) && self.volume().wants_growth()
            || self.volume().wants_growth() && stored.is_ok()
        {
            self.enlarge()?;
            if stored.is_err() {
                stored = self.volume().put(hash, key, value);
            }
        }
        stored.map_err(refused)
    }

    /// The value of `key` in the new content.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let volume = self.volume.as_ref()?;
        volume.get(volume.hash.of(key), key)
    }

    /// Sets a word of the owner's, with the new content.
    ///
    /// # Panics
    /// If `index` is not below [`crate::META_SLOTS`].
    pub fn set_meta(&mut self, index: usize, word: u64) {
        assert!(index < META_SLOTS, "no owner's word {index}");
        self.volume().set_meta(index, word);
    }

    /// Records so far.
    pub fn len(&self) -> u64 {
        self.volume.as_ref().map_or(0, |volume| volume.records)
    }

    /// None so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts the new content on the disk and in force, in one step for readers. Returns its number of records.
    ///
    /// # Errors
    /// The machine's; the old content is in force then.
    pub fn commit(mut self) -> Result<u64, PutError> {
        let volume = self.volume();
        let records = volume.records;
        volume.map.file().sync_data()?;
        growth::switch(&self.writer.volume, &self.path, &self.writer.path)?;
        if let Some(volume) = self.volume.take() {
            self.writer.go_on_in(volume);
        }
        Ok(records)
    }

    fn volume(&mut self) -> &mut Volume {
        self.volume
            .as_mut()
            .expect("only `commit` takes the volume, and it takes the replacement with it")
    }

    /// More records came than were announced: copies all of them to a larger file.
    fn enlarge(&mut self) -> Result<(), PutError> {
        let path = self.writer.beside("import2");
        let (mode, limit) = (self.writer.conf.mode, self.writer.conf.max_file_len);
        let old = self.volume();
        let generation = old.shape.generation;
        let shape = Shape {
            generation,
            ..old.next_shape()
        };
        let mut new = Volume::create(&path, shape, mode, limit).map_err(put_error)?;
        let mut stored = Ok(());
        old.scan(Cursor::START, usize::MAX, |key, value| {
            let hash = new.hash.of(key);
            if stored.is_ok() && !matches!(new.find(hash, key), Place::Found { .. }) {
                stored = new.put(hash, key, value);
            }
        });
        for index in 0..META_SLOTS {
            new.set_meta(index, old.meta(index));
        }
        let renamed = stored
            .map_err(refused)
            .and_then(|()| Ok(std::fs::rename(&path, &self.path)?));
        if let Err(error) = renamed {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        self.volume = Some(new);
        Ok(())
    }
}

impl Drop for Replacement<'_> {
    fn drop(&mut self) {
        if self.volume.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn put_error(error: std::io::Error) -> PutError {
    if is_full(&error) {
        PutError::Full
    } else {
        PutError::Io(error)
    }
}

fn refused(refusal: Refusal) -> PutError {
    match refusal {
        Refusal::Io(error) => PutError::Io(error),
        Refusal::Full | Refusal::Crowded | Refusal::Untrue => PutError::Full,
    }
}

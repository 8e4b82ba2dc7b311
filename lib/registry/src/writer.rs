//! The registrar's end.

use crate::changes::Feed;
use crate::expiry::ExpiryQueue;
use crate::{AorRecord, Changes, Expiry, Kind, RecordView, Version, codec};
use sps_mapped::{Cursor, OpenError, OpenReport, PutError, TableConf, TableStats, Verify, Writer};
use std::io;
use std::path::Path;
use std::time::Duration;

/// How the registry is opened for writing.
#[derive(Debug, Clone)]
pub struct RegistryConf {
    /// The farm member that this is; part of every [`Version`].
    pub member: u16,
    /// What a power cut may cost at most. `None` for programs that end at once.
    pub sync_interval: Option<Duration>,
    /// How many changes are kept for [`RegistryWriter::take_changes`]; 0 keeps none, if nobody follows.
    pub kept_changes: usize,
    /// Whether opening reads every record.
    pub verify: Verify,
    /// How many records a new file holds before it grows.
    pub initial_records: u64,
    /// The file is never made longer than this, in bytes.
    pub max_file_len: Option<u64>,
}

impl Default for RegistryConf {
    fn default() -> Self {
        RegistryConf {
            member: 0,
            sync_interval: Some(Duration::from_secs(1)),
            kept_changes: 0,
            verify: Verify::Auto,
            initial_records: 65_536,
            max_file_len: None,
        }
    }
}

/// A binding that [`RegistryWriter::expire_due`] took out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// Whose.
    pub aor: Vec<u8>,
    /// Its contact.
    pub contact: Vec<u8>,
    /// When it ended, seconds since 1970.
    pub at: u64,
    /// Who had made it.
    pub kind: Kind,
}

/// The one writer of the registry. All times are seconds since 1970, wall clock.
#[derive(Debug)]
pub struct RegistryWriter {
    table: Writer,
    member: u16,
    /// Of the last version given out.
    counter: u64,
    queue: ExpiryQueue,
    /// How far the records found at opening have been put into the queue; `None` when all are.
    queued_to: Option<Cursor>,
    feed: Feed,
    scratch: Vec<u8>,
}

/// The owner's word of the table that keeps [`Version::counter`].
const COUNTER_WORD: usize = 0;
/// Records that one call of [`RegistryWriter::expire_due`] queues after opening: a few milliseconds' work.
const QUEUED_AT_ONCE: usize = 4096;
/// A record that could not be rewritten without its ended bindings, because the disk is full, is tried again after so many seconds.
const TRY_AGAIN_AFTER: u64 = 60;

impl RegistryWriter {
    /// Opens or makes the registry and takes its lock. Ready at once: what ends when is gathered by the calls of
    /// [`RegistryWriter::expire_due`] that follow.
    ///
    /// # Errors
    /// As [`sps_mapped::Writer::open`].
    pub fn open(path: &Path, conf: &RegistryConf) -> Result<(Self, OpenReport), OpenError> {
        let plain = if conf.sync_interval.is_some() {
            TableConf::default()
        } else {
            TableConf::short_lived()
        };
        let table_conf = TableConf {
            initial_records: conf.initial_records,
            sync_interval: conf.sync_interval,
            verify: conf.verify,
            max_file_len: conf.max_file_len,
            ..plain
        };
        let (table, report) = Writer::open(path, &table_conf)?;
        let writer = RegistryWriter {
            member: conf.member,
            counter: table.meta(COUNTER_WORD),
            queue: ExpiryQueue::default(),
            queued_to: (!table.is_empty()).then_some(Cursor::START),
            feed: Feed::new(conf.kept_changes),
            scratch: Vec::new(),
            table,
        };
        Ok((writer, report))
    }

    /// The record of `aor`, in place.
    pub fn get(&self, aor: &[u8]) -> Option<RecordView<'_>> {
        let (aor, value) = self.table.get_pair(aor)?;
        RecordView::parse(aor, value)
    }

    /// The record of `aor` as an owned value, to be changed and given to [`RegistryWriter::put`].
    pub fn record(&self, aor: &[u8]) -> Option<AorRecord> {
        self.get(aor).map(|view| view.to_record())
    }

    /// Stores a record with all its bindings, or removes it if it has none. Sets its version, which is also returned.
    ///
    /// # Errors
    /// [`PutError::Full`], [`PutError::Size`]: nothing has changed then.
    pub fn put(&mut self, record: &mut AorRecord, now: u64) -> Result<Version, PutError> {
        let old = self.get(&record.aor).map(|view| (view.version(), view.next_expiry()));
        let version = self.next_version(old.map(|(version, _)| version), now);
        let before = std::mem::replace(&mut record.version, version);
        if let Err(error) = self.store(record, old.and_then(|(_, next_expiry)| next_expiry)) {
            record.version = before;
            return Err(error);
        }
        Ok(version)
    }

    /// Stores a record that another member has made, with that member's version. False if what is here is as new or newer.
    ///
    /// # Errors
    /// As [`RegistryWriter::put`].
    pub fn put_foreign(&mut self, record: &AorRecord) -> Result<bool, PutError> {
        let old = self.get(&record.aor).map(|view| (view.version(), view.next_expiry()));
        if old.is_some_and(|(version, _)| version >= record.version) {
            return Ok(false);
        }
        self.store(record, old.and_then(|(_, next_expiry)| next_expiry))?;
        Ok(true)
    }

    /// Removes a record; true if there was one.
    pub fn remove(&mut self, aor: &[u8], now: u64) -> bool {
        let old = self.get(aor).map(|view| view.version());
        if !self.table.remove(aor) {
            return false;
        }
        let version = self.next_version(old, now);
        self.feed.push(aor, version, true);
        true
    }

    /// When to call [`RegistryWriter::expire_due`] next: the earliest end known, 0 (at once) while not all are known yet.
    pub fn next_expiry(&self) -> Option<u64> {
        if self.queued_to.is_some() {
            Some(0)
        } else {
            self.queue.next()
        }
    }

    /// Takes out bindings that are over at `now`, of at most `limit` records, and pushes them to `expired`. True if more is left to do.
    pub fn expire_due(&mut self, now: u64, limit: usize, expired: &mut Vec<Expired>) -> bool {
        self.queue_some();
        for _ in 0..limit {
            let Some(hash) = self.queue.pop(now) else {
                return self.queued_to.is_some();
            };
            // Two keys with the same hash of 64 bits will not be seen, but would only mean a look at both.
            let mut seen: Vec<Vec<u8>> = Vec::new();
            while let Some((aor, value)) = self.table.get_hashed(hash, |aor| seen.iter().all(|other| other != aor)) {
                seen.push(aor.to_vec());
                let Some(view) = RecordView::parse(aor, value) else {
                    continue;
                };
                match view.next_expiry() {
                    Some(at) if at <= now => {
                        let record = view.to_record();
                        self.expire(record, hash, now, expired);
                    }
                    // Refreshed since: to its new second.
                    Some(at) => self.queue.insert(at, hash),
                    None => {}
                }
            }
        }
        self.next_expiry().is_some_and(|at| at <= now)
    }

    /// Calls `f` for at most `limit` records; where to go on, or `None` at the end.
    pub fn page(&self, cursor: Cursor, limit: usize, mut f: impl FnMut(RecordView<'_>)) -> Option<Cursor> {
        self.table.scan(cursor, limit, |aor, value| {
            if let Some(view) = RecordView::parse(aor, value) {
                f(view);
            }
        })
    }

    /// What changed since the last call.
    pub fn take_changes(&mut self) -> Changes {
        self.feed.take()
    }

    /// Number of records.
    pub fn len(&self) -> u64 {
        self.table.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Figures for `status`.
    pub fn stats(&self) -> TableStats {
        self.table.stats()
    }

    /// Puts everything on the disk and waits for it.
    ///
    /// # Errors
    /// The machine's.
    pub fn sync(&mut self) -> io::Result<()> {
        self.table.sync()
    }

    /// Closes the file in order. Dropping the writer instead is safe.
    ///
    /// # Errors
    /// The machine's.
    pub fn close(self) -> io::Result<()> {
        self.table.close()
    }

    /// Later than `old` even if the clock was set back.
    fn next_version(&mut self, old: Option<Version>, now: u64) -> Version {
        let old = old.unwrap_or_default();
        let time = now.max(old.time);
        // The counter decides only within one second, but must then be above another member's as well.
        self.counter = if time == old.time {
            self.counter.max(old.counter)
        } else {
            self.counter
        }
        .saturating_add(1);
        // Kept first: a version that was seen is never given out again.
        self.table.set_meta(COUNTER_WORD, self.counter);
        Version {
            time,
            counter: self.counter,
            member: self.member,
        }
    }

    /// Stores a record whose version is set, queues its end, tells the feed.
    fn store(&mut self, record: &AorRecord, old_expiry: Option<u64>) -> Result<(), PutError> {
        if record.bindings.is_empty() {
            if self.table.remove(&record.aor) {
                self.feed.push(&record.aor, record.version, true);
            }
            return Ok(());
        }
        self.scratch.clear();
        codec::write(record, &mut self.scratch);
        self.table.put(&record.aor, &self.scratch)?;
        let hash = self.table.hash(&record.aor);
        self.queue.on_change(hash, old_expiry, codec::next_expiry(record));
        self.feed.push(&record.aor, record.version, false);
        Ok(())
    }

    fn expire(&mut self, mut record: AorRecord, hash: u64, now: u64, expired: &mut Vec<Expired>) {
        let (gone, kept) = record
            .bindings
            .into_iter()
            .partition(|binding| binding.expires.is_past(now));
        record.bindings = kept;
        let old = Some(record.version);
        record.version = self.next_version(old, now);
        // Not the old end: its entry has just been taken from the queue.
        if self.store(&record, None).is_err() {
            self.queue.insert(now + TRY_AGAIN_AFTER, hash);
            return;
        }
        let gone: Vec<crate::Binding> = gone;
        expired.extend(gone.into_iter().map(|binding| Expired {
            aor: record.aor.clone(),
            contact: binding.contact,
            at: match binding.expires {
                Expiry::At(at) => at,
                Expiry::Permanent => now,
            },
            kind: binding.kind,
        }));
    }

    /// Queues a share of the records that were there at opening.
    fn queue_some(&mut self) {
        let Some(cursor) = self.queued_to else { return };
        let (queue, table) = (&mut self.queue, &self.table);
        self.queued_to = table.scan(cursor, QUEUED_AT_ONCE, |aor, value| {
            if let Some(at) = RecordView::parse(aor, value).and_then(|view| view.next_expiry()) {
                queue.insert(at, table.hash(aor));
            }
        });
    }
}

#[cfg(test)]
mod tests;

//! A page of named counters in a mapped file: many writers, each with a block of its own, and anybody reading.
//!
//! The file is a head, the names, then the blocks. Each block begins on a cache line of its own, so that workers that
//! count do not slow each other down. Nothing is ever torn: a counter is one word.

use crate::OpenError;
use crate::map::{Map, allocate, as_bytes, as_bytes_mut, give_to_folder_owner};
use crate::protocol::Words;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const MAGIC: u64 = u64::from_ne_bytes(*b"SPScount");
const FORMAT: u64 = 1;
/// Bytes of the head: magic, format, counters, blocks, checksum over head and names.
const HEAD_LEN: usize = 64;
/// Bytes of a name or label, with the zero that ends it.
const NAME_LEN: usize = 48;
/// Two cache lines: processors fetch them in pairs.
const LINE: usize = 128;
/// More of either would be a mistake, or a damaged file.
const MAX_NAMES: usize = 4096;

/// The writing end: made by one process, attached to by others.
#[derive(Debug, Clone)]
pub struct CountersPage {
    page: Arc<Page>,
}

#[derive(Debug)]
struct Page {
    map: Map,
    names: Vec<String>,
    blocks: Vec<String>,
}

impl CountersPage {
    /// Makes the file anew (replacing one that is there): `names` are the counters, the same in every block; `blocks` the blocks, one for
    /// each process or worker ("proxy/0"). All counters are 0. Names and labels are at most 47 bytes.
    ///
    /// # Errors
    /// The machine's; a name too long or too many is [`OpenError::Foreign`].
    pub fn create(path: &Path, names: &[&str], blocks: &[&str]) -> Result<Self, OpenError> {
        let fits = |list: &[&str]| {
            list.len() <= MAX_NAMES && list.iter().all(|name| name.len() < NAME_LEN && !name.contains('\0'))
        };
        if !fits(names) || !fits(blocks) {
            return Err(OpenError::Foreign {
                path: path.to_owned(),
                what: "too many or too long names of counters".to_owned(),
            });
        }
        let mut words = vec![0u64; head_len(names.len(), blocks.len()) / 8];
        words[..4].copy_from_slice(&[MAGIC, FORMAT, names.len() as u64, blocks.len() as u64]);
        for (place, name) in names.iter().chain(blocks).enumerate() {
            as_bytes_mut(&mut words)[HEAD_LEN + place * NAME_LEN..][..name.len()].copy_from_slice(name.as_bytes());
        }
        words[4] = sum(&words);

        let io = |source| OpenError::Io {
            doing: "make",
            path: path.to_owned(),
            source,
        };
        let beside = {
            let mut name = OsString::from(path);
            name.push(".new");
            PathBuf::from(name)
        };
        let make = || -> io::Result<()> {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o640)
                .open(&beside)?;
            give_to_folder_owner(&file, &beside)?;
            allocate(&file, block_at(names.len(), blocks.len(), blocks.len()).max(LINE))?;
            file.write_all_at(as_bytes(&words), 0)?;
            std::fs::rename(&beside, path)
        };
        make().map_err(io)?;
        Self::attach(path)
    }

    /// Maps a file that [`CountersPage::create`] made, to count in it.
    ///
    /// # Errors
    /// As [`CountersReader::open`].
    pub fn attach(path: &Path) -> Result<Self, OpenError> {
        Ok(CountersPage {
            page: Arc::new(Page::open(path, true)?),
        })
    }

    /// The block of that label. Two writers of one block are safe but share cache lines.
    pub fn block(&self, label: &str) -> Option<Counters> {
        let block = self.page.blocks.iter().position(|block| block == label)?;
        Some(Counters {
            page: self.page.clone(),
            block,
        })
    }
}

/// One block of counters.
#[derive(Debug, Clone)]
pub struct Counters {
    page: Arc<Page>,
    block: usize,
}

impl Counters {
    /// The counter of that name; look it up once and keep it.
    pub fn counter(&self, name: &str) -> Option<Counter> {
        let index = self.page.names.iter().position(|other| other == name)?;
        let at = self.page.counter_at(self.block, index);
        Some(Counter(Cell::Mapped {
            page: self.page.clone(),
            at,
        }))
    }
}

/// One counter. Cheap to clone; holds the mapping.
#[derive(Debug, Clone)]
pub struct Counter(Cell);

#[derive(Debug, Clone)]
enum Cell {
    Mapped { page: Arc<Page>, at: usize },
    Detached(Arc<AtomicU64>),
}

impl Counter {
    /// A counter that is in no page, for tests and for running without one.
    pub fn detached() -> Self {
        Counter(Cell::Detached(Arc::default()))
    }

    /// Adds.
    #[inline]
    pub fn add(&self, n: u64) {
        self.word().fetch_add(n, Relaxed);
    }

    /// Subtracts: for gauges. Wraps below 0.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.word().fetch_sub(n, Relaxed);
    }

    /// Sets: for gauges.
    #[inline]
    pub fn set(&self, n: u64) {
        self.word().store(n, Relaxed);
    }

    /// Reads.
    #[inline]
    pub fn value(&self) -> u64 {
        self.word().load(Relaxed)
    }

    #[inline]
    fn word(&self) -> &AtomicU64 {
        match &self.0 {
            Cell::Mapped { page, at } => page.map.atomic(*at),
            Cell::Detached(word) => word,
        }
    }
}

/// The reading end.
#[derive(Debug)]
pub struct CountersReader {
    page: Page,
}

/// What a block said at one time; each counter is read by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSnapshot {
    /// "proxy/0".
    pub label: String,
    /// Name and value, in the order they were made.
    pub values: Vec<(String, u64)>,
}

impl CountersReader {
    /// Maps the file.
    ///
    /// # Errors
    /// [`OpenError::Missing`], or as named.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(CountersReader {
            page: Page::open(path, false)?,
        })
    }

    /// All blocks.
    pub fn snapshot(&self) -> Vec<BlockSnapshot> {
        let page = &self.page;
        let value = |block, index| page.map.load(page.counter_at(block, index), Relaxed);
        let of_block = |(block, label): (usize, &String)| BlockSnapshot {
            label: label.clone(),
            values: page
                .names
                .iter()
                .enumerate()
                .map(|(index, name)| (name.clone(), value(block, index)))
                .collect(),
        };
        page.blocks.iter().enumerate().map(of_block).collect()
    }
}

impl Page {
    fn open(path: &Path, writable: bool) -> Result<Page, OpenError> {
        let io = |doing: &'static str| {
            move |source: io::Error| match source.kind() {
                io::ErrorKind::NotFound => OpenError::Missing(path.to_owned()),
                _ => OpenError::Io {
                    doing,
                    path: path.to_owned(),
                    source,
                },
            }
        };
        let damaged = || OpenError::Damaged {
            path: path.to_owned(),
            what: "it is no page of counters".to_owned(),
        };
        let file: File = OpenOptions::new()
            .read(true)
            .write(writable)
            .open(path)
            .map_err(io("open"))?;
        let len = file.metadata().map_err(io("measure"))?.len() as usize;
        let mut head = [0u64; HEAD_LEN / 8];
        if len < HEAD_LEN {
            return Err(damaged());
        }
        file.read_exact_at(as_bytes_mut(&mut head), 0).map_err(io("read"))?;
        let (names, blocks) = (head[2] as usize, head[3] as usize);
        if head[0] != MAGIC || head[1] != FORMAT || names > MAX_NAMES || blocks > MAX_NAMES {
            return Err(damaged());
        }
        if len < block_at(names, blocks, blocks) {
            return Err(damaged());
        }
        let mut words = vec![0u64; head_len(names, blocks) / 8];
        file.read_exact_at(as_bytes_mut(&mut words), 0).map_err(io("read"))?;
        if words[4] != sum(&words) {
            return Err(damaged());
        }
        let name = |place: usize| {
            let bytes = &as_bytes(&words)[HEAD_LEN + place * NAME_LEN..][..NAME_LEN];
            String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
        };
        let (names, blocks) = (
            (0..names).map(name).collect(),
            (names..names + blocks).map(name).collect(),
        );
        let map = Map::new(file, len, writable).map_err(io("map"))?;
        Ok(Page { map, names, blocks })
    }

    fn counter_at(&self, block: usize, index: usize) -> usize {
        block_at(self.names.len(), self.blocks.len(), block) + index * 8
    }
}

fn head_len(names: usize, blocks: usize) -> usize {
    HEAD_LEN + (names + blocks) * NAME_LEN
}

fn block_at(names: usize, blocks: usize, block: usize) -> usize {
    head_len(names, blocks).next_multiple_of(LINE) + block * (names * 8).next_multiple_of(LINE)
}

/// Over head and names, but for the place of the sum itself.
fn sum(words: &[u64]) -> u64 {
    u64::from(crc32c::crc32c_append(
        crc32c::crc32c(as_bytes(&words[..4])),
        as_bytes(&words[5..]),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_in_one_mapping_is_read_in_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counters.map");
        let page = CountersPage::create(&path, &["requests", "dropped"], &["proxy/0", "proxy/1"]).unwrap();
        let theirs = CountersPage::attach(&path).unwrap();
        let requests = page.block("proxy/0").unwrap().counter("requests").unwrap();
        let dropped = theirs.block("proxy/1").unwrap().counter("dropped").unwrap();
        requests.add(3);
        dropped.set(7);
        dropped.sub(2);
        assert!(page.block("proxy/2").is_none());
        assert!(page.block("proxy/0").unwrap().counter("calls").is_none());
        let snapshot = CountersReader::open(&path).unwrap().snapshot();
        let values = |a, b| vec![("requests".to_owned(), a), ("dropped".to_owned(), b)];
        assert_eq!(
            snapshot,
            [
                BlockSnapshot {
                    label: "proxy/0".to_owned(),
                    values: values(3, 0)
                },
                BlockSnapshot {
                    label: "proxy/1".to_owned(),
                    values: values(0, 5)
                },
            ]
        );
    }

    #[test]
    fn blocks_share_no_cache_line() {
        for names in 1..40 {
            assert!(
                block_at(names, 3, 1).is_multiple_of(LINE)
                    && block_at(names, 3, 1) >= block_at(names, 3, 0) + names * 8
            );
        }
    }

    #[test]
    fn damaged_pages_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counters.map");
        assert!(matches!(CountersReader::open(&path), Err(OpenError::Missing(_))));
        CountersPage::create(&path, &["requests"], &["proxy/0"]).unwrap();
        let good = std::fs::read(&path).unwrap();
        for byte in 0..head_len(1, 1) {
            let mut bad = good.clone();
            bad[byte] ^= 0x40;
            std::fs::write(&path, &bad).unwrap();
            // The unused words of the head are covered as well.
            assert!(CountersReader::open(&path).is_err(), "byte {byte}");
        }
        for len in 0..good.len() {
            std::fs::write(&path, &good[..len]).unwrap();
            assert!(CountersReader::open(&path).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counters.map");
        let long = "x".repeat(NAME_LEN);
        assert!(matches!(
            CountersPage::create(&path, &[&long], &["a"]),
            Err(OpenError::Foreign { .. })
        ));
    }
}

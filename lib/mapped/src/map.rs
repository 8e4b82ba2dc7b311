//! A mapped file as words and bytes: all of this crate's pointers are here.
//!
//! The mapping is made longer than the file, so that a file that grows at its end needs no new mapping. What lies behind the end of the
//! file must not be touched (SIGBUS), hence every access is checked against the length that is known to exist. Files only ever get
//! longer while they are mapped.

use crate::protocol::Words;
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

/// A file mapped shared, for reading or for both.
#[derive(Debug)]
pub(crate) struct Map {
    raw: MmapRaw,
    file: Arc<File>,
    /// Bytes that exist in the file; never more than `raw.len()`.
    len: AtomicUsize,
    writable: bool,
}

impl Map {
    /// Maps `reserve` bytes, of which those that the file has now can be used.
    pub fn new(file: File, reserve: usize, writable: bool) -> io::Result<Map> {
        let mut options = MmapOptions::new();
        options.len(reserve);
        let raw = if writable {
            options.map_raw(&file)?
        } else {
            options.map_raw_read_only(&file)?
        };
        let map = Map {
            raw,
            file: Arc::new(file),
            len: AtomicUsize::new(0),
            writable,
        };
        map.measure()?;
        Ok(map)
    }

    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Bytes that can be used.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Asks how long the file is by now.
    pub fn measure(&self) -> io::Result<usize> {
        let len = usize::try_from(self.file.metadata()?.len())
            .unwrap_or(usize::MAX)
            .min(self.raw.len());
        // A length seen once stays good: the file never gets shorter.
        self.len.fetch_max(len, Ordering::Relaxed);
        Ok(self.len())
    }

    /// Whether `len` bytes from `at` exist, looking again at the file if they did not when last asked.
    pub fn covers(&self, at: usize, len: usize) -> bool {
        let Some(end) = at.checked_add(len) else { return false };
        end <= self.len() || (end <= self.raw.len() && self.measure().is_ok_and(|known| end <= known))
    }

    /// Makes the file at least `len` bytes long with room on the disk for all of them, so that storing cannot fail later.
    pub fn allocate(&self, len: usize) -> io::Result<()> {
        if len > self.raw.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        allocate(&self.file, len)?;
        self.measure().map(drop)
    }

    /// The word at byte `at`.
    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(
            at.is_multiple_of(8) && at < self.len() && self.len() - at >= 8,
            "word at {at} is outside of the mapped file"
        );
        // SAFETY: the mapping lives as long as `self`, starts on a page boundary, and the assertion keeps the word aligned and inside the part
        // of it that the file backs. All shared access to those bytes goes through atomics or, for `bytes`, happens in
        // the one process and thread that writes.
        unsafe { &*self.raw.as_ptr().add(at).cast::<AtomicU64>() }
    }

    /// A counter cell, for those who hand out references to them.
    pub fn atomic(&self, at: usize) -> &AtomicU64 {
        self.word(at)
    }

    /// Copies words from `at` on, each by itself, in no order.
    #[inline]
    pub fn copy(&self, at: usize, out: &mut [u64]) {
        let words = self.words(at, out.len());
        for (to, from) in out.iter_mut().zip(words) {
            *to = from.load(Ordering::Relaxed);
        }
    }

    #[inline]
    fn words(&self, at: usize, count: usize) -> &[AtomicU64] {
        let len = self.len();
        assert!(
            at.is_multiple_of(8) && at <= len && count <= (len - at) / 8,
            "{count} words at {at} are outside of the mapped file"
        );
        // SAFETY: as in `word`, for `count` words in a row.
        unsafe { std::slice::from_raw_parts(self.raw.as_ptr().add(at).cast::<AtomicU64>(), count) }
    }

    /// The bytes from `at` on. Only for the process that writes the file: nobody else changes them, and it does not while it reads.
    #[inline]
    pub fn bytes(&self, at: usize, len: usize) -> &[u8] {
        debug_assert!(self.writable);
        let known = self.len();
        assert!(
            at <= known && len <= known - at,
            "{len} bytes at {at} are outside of the mapped file"
        );
        // SAFETY: inside of the part that the file backs, by the assertion. The lock beside the file makes this process the only writer, and its
        // writing functions take the owner of this map by `&mut`, so that nothing changes under the slice; other
        // processes map the file read-only.
        unsafe { std::slice::from_raw_parts(self.raw.as_ptr().add(at), len) }
    }
}

impl Words for Map {
    #[inline]
    fn load(&self, at: usize, order: Ordering) -> u64 {
        self.word(at).load(order)
    }

    #[inline]
    fn store(&self, at: usize, word: u64, order: Ordering) {
        assert!(self.writable, "a reader does not write");
        self.word(at).store(word, order);
    }

    #[inline]
    fn fence(&self, order: Ordering) {
        fence(order);
    }

    #[inline]
    fn copy(&self, at: usize, out: &mut [u64]) {
        Map::copy(self, at, out);
    }

    #[inline]
    fn paste(&self, at: usize, words: &[u64]) {
        assert!(self.writable, "a reader does not write");
        for (to, from) in self.words(at, words.len()).iter().zip(words) {
            to.store(*from, Ordering::Relaxed);
        }
    }
}

/// Words as the bytes they are made of, in the order of this machine.
#[inline]
pub(crate) fn as_bytes(words: &[u64]) -> &[u8] {
    // SAFETY: every byte of a `u64` is initialised, `u8` needs no alignment, and the length is that of the words.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<u8>(), std::mem::size_of_val(words)) }
}

/// The same, to be written to.
#[inline]
pub(crate) fn as_bytes_mut(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: as in `as_bytes`; any byte pattern is a valid `u64`, and the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<u8>(), std::mem::size_of_val(words)) }
}

/// Gives `file` room on the disk for its first `len` bytes, making it longer if need be.
pub(crate) fn allocate(file: &File, len: usize) -> io::Result<()> {
    let len = libc::off_t::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
    loop {
        // SAFETY: takes three integers; the descriptor is open while `file` is borrowed.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, len) } {
            0 => return Ok(()),
            libc::EINTR => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Gives a file that root has just made to the owner of its folder: the daemons, which are not root, must be able to use it.
pub(crate) fn give_to_folder_owner(file: &File, path: &Path) -> io::Result<()> {
    let folder = folder_of(path).metadata()?;
    if file.metadata()?.uid() == 0 && folder.uid() != 0 {
        fchown(file, Some(folder.uid()), Some(folder.gid()))?;
    }
    Ok(())
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Whether the machine has no room, as opposed to another trouble.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG))
}

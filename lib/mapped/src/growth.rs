//! Growing into a file beside, bit by bit, while the old one goes on being the truth.
//!
//! The file is made and, when everything has been copied, put on the disk by a thread, since both take long; the copying is done a few
//! slots with each change. Meanwhile every change goes to both files. Whoever is killed half-way leaves the old file complete.

use crate::layout::{MOVED_AT, Shape};
use crate::map::is_full;
use crate::protocol::Words;
use crate::volume::{Place, Refusal, Volume, sync_folder};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Release;
use std::thread::JoinHandle;

/// Slots copied with each change. At 65 % when growth begins, a table has 15 % of its slots left for as many changes; this needs 6 %.
const SLOTS_A_STEP: usize = 16;

/// A growth under way.
#[derive(Debug)]
pub(crate) struct Growth {
    path: PathBuf,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// A thread makes the file.
    Making(JoinHandle<io::Result<Volume>>),
    /// Slots below `next` have been copied.
    Copying {
        volume: Box<Volume>,
        next: usize,
    },
    /// A thread puts the file on the disk.
    Syncing {
        volume: Box<Volume>,
        sync: JoinHandle<io::Result<()>>,
    },
    Done(Box<Volume>),
}

impl Growth {
    /// Begins. `path` is the name beside that the new file has until it is complete.
    pub fn begin(path: PathBuf, shape: Shape, mode: u32, limit: Option<u64>) -> io::Result<Growth> {
        let name = path.clone();
        let making = spawn("table-make", move || Volume::create(&name, shape, mode, limit))?;
        Ok(Growth {
            path,
            stage: Stage::Making(making),
        })
    }

    /// Does a little. `Ok(true)` when the new file can take over.
    pub fn step(mut self, old: &Volume) -> Result<(Growth, bool), Refusal> {
        self.stage = match self.stage {
            Stage::Making(making) if !making.is_finished() => Stage::Making(making),
            Stage::Making(making) => Stage::Copying {
                volume: Box::new(join(making).map_err(refusal)?),
                next: 0,
            },
            Stage::Copying { mut volume, next } => {
                let next = copy_slots(old, &mut volume, next, SLOTS_A_STEP)?;
                if next < old.shape.all_slots() {
                    Stage::Copying { volume, next }
                } else {
                    let file = volume.map.file().clone();
                    let sync = spawn("table-sync", move || file.sync_data()).map_err(Refusal::Io)?;
                    Stage::Syncing { volume, sync }
                }
            }
            Stage::Syncing { volume, sync } if !sync.is_finished() => Stage::Syncing { volume, sync },
            Stage::Syncing { volume, sync } => {
                join(sync).map_err(refusal)?;
                Stage::Done(volume)
            }
            Stage::Done(volume) => Stage::Done(volume),
        };
        let is_done = matches!(self.stage, Stage::Done(_));
        Ok((self, is_done))
    }

    /// Does all the rest, however long it takes.
    pub fn finish(mut self, old: &Volume) -> Result<Volume, Refusal> {
        loop {
            self.stage = match self.stage {
                Stage::Making(making) => Stage::Copying {
                    volume: Box::new(join(making).map_err(refusal)?),
                    next: 0,
                },
                Stage::Copying { mut volume, next } => {
                    copy_slots(old, &mut volume, next, usize::MAX)?;
                    volume.map.file().sync_data().map_err(Refusal::Io)?;
                    Stage::Done(volume)
                }
                Stage::Syncing { volume, sync } => {
                    join(sync).map_err(refusal)?;
                    Stage::Done(volume)
                }
                Stage::Done(volume) => return Ok(*volume),
            };
        }
    }

    /// A change that the old file has just seen.
    pub fn on_put(&mut self, hash: u64, key: &[u8], value: &[u8]) -> Result<(), Refusal> {
        self.volume().map_or(Ok(()), |volume| volume.put(hash, key, value))
    }

    /// A removal that the old file has just seen.
    pub fn on_remove(&mut self, hash: u64, key: &[u8]) {
        if let Some(volume) = self.volume() {
            volume.remove(hash, key);
        }
    }

    fn volume(&mut self) -> Option<&mut Volume> {
        match &mut self.stage {
            Stage::Making(_) => None,
            Stage::Copying { volume, .. } | Stage::Syncing { volume, .. } | Stage::Done(volume) => Some(volume),
        }
    }

    /// The name of the unfinished file, to be removed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives up. What a thread is still making is removed by it.
    pub fn abandon(self) {
        let path = self.path;
        if let Stage::Making(making) = self.stage {
            // Waits for a file of which nothing has been written yet.
            let _ = making.join();
        }
        let _ = std::fs::remove_file(path);
    }
}

/// Copies what up to `count` slots point to, but not what the new file has already from a later change. Returns the next slot.
fn copy_slots(old: &Volume, new: &mut Volume, from: usize, count: usize) -> Result<usize, Refusal> {
    let to = old.shape.all_slots().min(from.saturating_add(count));
    for index in from..to {
        let slot = old.slot(index);
        if !slot.is_record() {
            continue;
        }
        // Damaged ones stay behind.
        let Some((_, key, value)) = old.record_at(slot) else {
            continue;
        };
        let hash = old.hash.of(key);
        if !matches!(new.find(hash, key), Place::Found { .. }) {
            new.put(hash, key, value)?;
        }
    }
    Ok(to)
}

/// Puts `new`, which lies at `beside`, in the place of `old` at `path`. Readers follow the mark; if this process dies before the rename, the next
/// writer takes the mark back, and the old file is as complete as the new one.
pub(crate) fn take_over(old: &Volume, new: &Volume, beside: &Path, path: &Path) -> io::Result<()> {
    for index in 0..crate::META_SLOTS {
        new.set_meta(index, old.meta(index));
    }
    switch(old, beside, path)
}

/// The second half of [`take_over`]: the owner's words are as they should be.
pub(crate) fn switch(old: &Volume, beside: &Path, path: &Path) -> io::Result<()> {
    old.map.store(MOVED_AT, 1, Release);
    if let Err(error) = std::fs::rename(beside, path) {
        old.map.store(MOVED_AT, 0, Release);
        return Err(error);
    }
    Ok(())
}

/// Lets go of a file that has been replaced, and makes the rename last, without keeping anybody waiting: both take long for a large file.
pub(crate) fn let_go(old: Volume, path: PathBuf) {
    let work = move || {
        let _ = sync_folder(&path);
        drop(old);
        Ok(())
    };
    // Without a thread, dropping what the closure holds is all that is left to do.
    let _ = spawn("table-drop", work);
}

pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<JoinHandle<io::Result<T>>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

fn join<T>(handle: JoinHandle<io::Result<T>>) -> io::Result<T> {
    handle
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("a thread of the table has panicked")))
}

fn refusal(error: io::Error) -> Refusal {
    if is_full(&error) {
        Refusal::Full
    } else {
        Refusal::Io(error)
    }
}

//! The files around a table: made, named, locked.

use crate::layout::{MOVED_AT, Shape};
use crate::map::give_to_folder_owner;
use crate::volume::{Volume, sync_folder};
use crate::{OpenError, OpenReport, TableConf};
use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Makes an empty table under a name beside and renames it, so that no reader finds half of one.
pub(crate) fn create(
    path: &Path,
    conf: &TableConf,
    recreated: Option<String>,
) -> Result<(Volume, OpenReport), OpenError> {
    let beside_path = beside(path, "new");
    let shape = Shape::sized(slots_for(conf.initial_records), 0, 1, seed());
    let volume = Volume::create(&beside_path, shape, conf.mode, conf.max_file_len).map_err(io_at("make", path))?;
    volume.map.file().sync_data().map_err(io_at("make", path))?;
    if recreated.is_some() {
        let damaged = beside(path, "damaged");
        if let Ok(file) = OpenOptions::new().write(true).open(path) {
            // Readers that mapped it before it was damaged are sent on. Behind its end there is nobody to tell.
            if file
                .metadata()
                .is_ok_and(|metadata| metadata.len() >= (MOVED_AT + 8) as u64)
            {
                let _ = file.write_all_at(&1u64.to_ne_bytes(), MOVED_AT as u64);
            }
        }
        std::fs::rename(path, damaged).map_err(io_at("move aside", path))?;
    }
    std::fs::rename(&beside_path, path).map_err(io_at("make", path))?;
    let _ = sync_folder(path);
    Ok((
        volume,
        OpenReport {
            created: true,
            recreated,
            ..OpenReport::default()
        },
    ))
}

/// Slots so that `records` fit before the table grows.
pub(crate) fn slots_for(records: u64) -> u64 {
    records.saturating_mul(100).div_ceil(64)
}

/// A hash seed that strangers cannot know, from the keys that the standard library makes for its own tables.
pub(crate) fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

/// `path` with `.what` added.
pub(crate) fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(what);
    PathBuf::from(name)
}

/// Takes the lock and leaves the pid in it, for the message the next one gets.
pub(crate) fn lock(path: &Path, mode: u32) -> Result<File, OpenError> {
    let lock_path = beside(path, "lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode)
        .open(&lock_path)
        .map_err(io_at("open", &lock_path))?;
    give_to_folder_owner(&file, &lock_path).map_err(io_at("give away", &lock_path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file
                .read_to_string(&mut text)
                .ok()
                .and_then(|_| text.trim().parse().ok());
            return Err(OpenError::Locked {
                path: path.to_owned(),
                pid,
            });
        }
        Err(TryLockError::Error(source)) => {
            return Err(OpenError::Io {
                doing: "lock",
                path: lock_path,
                source,
            });
        }
    }
    // Only a courtesy: on a full disk the lock holds without it.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

pub(crate) fn io_at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { doing, path, source }
}

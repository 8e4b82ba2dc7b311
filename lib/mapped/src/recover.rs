//! Opening a file that exists: what of it can be believed, and putting right what cannot.
//!
//! Three depths. A file that was closed is believed, checksums over what is believed included. One whose writer was killed since the machine
//! was started is whole, since memory outlives processes, but for the allocator: that is rebuilt from the slots alone. After a power cut,
//! on a file that was cut, and wherever something does not fit, every record is read and checked, and what is damaged is dropped alone.

use crate::classes::Class;
use crate::heap::Heap;
use crate::layout::*;
use crate::map::{Map, allocate, is_full};
use crate::protocol::{self, Words};
use crate::volume::{Place, Volume, boot_id, closed_sum};
use crate::{OpenReport, TableConf, Verify};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Why a file cannot be opened.
#[derive(Debug)]
pub(crate) enum Unusable {
    Missing,
    Head(BadHead),
    Io(&'static str, io::Error),
}

impl Unusable {
    pub fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Unusable {
        move |error| match error.kind() {
            io::ErrorKind::NotFound => Unusable::Missing,
            _ => Unusable::Io(doing, error),
        }
    }
}

/// The head of a file; `true` if only its copy could be read.
pub(crate) fn read_shape(file: &File) -> Result<(Shape, bool), Unusable> {
    let first = read_shape_at(file, 0).map_err(Unusable::io("read"))?;
    match first {
        Ok(shape) => Ok((shape, false)),
        Err(BadHead::Foreign(what)) => Err(Unusable::Head(BadHead::Foreign(what))),
        Err(bad) => match read_shape_at(file, COPY_AT as u64).map_err(Unusable::io("read"))? {
            Ok(shape) => Ok((shape, true)),
            Err(_) => Err(Unusable::Head(bad)),
        },
    }
}

fn read_shape_at(file: &File, at: u64) -> io::Result<Result<Shape, BadHead>> {
    let mut bytes = [0; 13 * 8];
    match file.read_exact_at(&mut bytes, at) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Ok(Err(BadHead::Damaged("it is too short".to_owned())));
        }
        other => other?,
    }
    let mut words = [0; 13];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    Ok(Shape::from_words(&words))
}

/// A word of the head; 0 behind the end of the file.
fn read_word_at(file: &File, at: usize) -> io::Result<u64> {
    let mut bytes = [0; 8];
    match file.read_exact_at(&mut bytes, at as u64) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        other => other.map(|()| u64::from_ne_bytes(bytes)),
    }
}

/// Opens a file for writing. The caller holds the lock.
pub(crate) fn open(path: &Path, conf: &TableConf) -> Result<(Volume, OpenReport), Unusable> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(Unusable::io("open"))?;
    let (shape, from_copy) = read_shape(&file)?;
    let metadata = file.metadata().map_err(Unusable::io("measure"))?;
    let found_len = metadata.len();
    if found_len > shape.full_len() as u64 {
        return Err(Unusable::Head(BadHead::Damaged(
            "it is longer than it can be".to_owned(),
        )));
    }
    let heap_at = shape.heap_at() as u64;
    let heap_len = read_word_at(&file, HEAP_LEN_AT).map_err(Unusable::io("read"))?;
    // Whole chunks only. A file longer than its head says was being extended when its writer died.
    let mut chunks = (found_len.saturating_sub(heap_at) / CHUNK_LEN as u64) as usize;
    let usable_len = |chunks: usize| shape.heap_at() + chunks * CHUNK_LEN;
    if found_len < heap_at || metadata.blocks() * 512 < usable_len(chunks) as u64 {
        // Cut, or copied with holes, or the disk was full half-way: storing into it must not fail later.
        let mut allocated = allocate(&file, usable_len(chunks));
        if allocated.as_ref().is_err_and(is_full) && heap_len / (CHUNK_LEN as u64) < chunks as u64 {
            chunks = (heap_len / CHUNK_LEN as u64) as usize;
            allocated = allocate(&file, usable_len(chunks));
        }
        allocated.map_err(Unusable::io("allocate"))?;
    }
    let map = Arc::new(Map::new(file, shape.full_len(), true).map_err(Unusable::io("map"))?);

    let said_len = heap_at.saturating_add(heap_len.min(shape.heap_capacity as u64));
    let cut_len = said_len.saturating_sub(found_len);
    let clean = map.load(CLEAN_AT, Relaxed) == 1;
    let boot = boot_id();
    let same_boot = boot != [0, 0] && boot == [map.load(BOOT_ID_AT, Relaxed), map.load(BOOT_ID_AT + 8, Relaxed)];
    let sum_is_right =
        heap_len == (chunks * CHUNK_LEN) as u64 && map.load(CLOSED_SUM_AT, Relaxed) == closed_sum(&map, &shape, chunks);

    let mut report = OpenReport {
        cut_len,
        clean,
        ..OpenReport::default()
    };
    let mut volume = Volume::on(map, shape, Heap::default(), conf.max_file_len);
    volume.sequence = volume.map.load(SEQUENCE_AT, Relaxed) as u32;
    let said_records = volume.map.load(RECORDS_AT, Relaxed).min(shape.all_slots() as u64);
    if from_copy {
        volume.write_shape();
    }
    let suspicious = from_copy || cut_len > 0 || conf.verify == Verify::Always;
    if clean && sum_is_right && !suspicious {
        volume.heap = Heap::of_closed(&volume.map, &shape, chunks);
        volume.records = said_records;
        volume.tombs = volume.map.load(TOMBS_AT, Relaxed);
    } else if suspicious || clean || !same_boot || !rebuild(&mut volume, chunks) {
        report.verified = true;
        report.dropped = verify(&mut volume, chunks);
        report.missing = said_records.saturating_sub(volume.records + report.dropped);
    }
    report.records = volume.records;
    volume.claim_file();
    Ok((volume, report))
}

/// Rebuilds the allocator from the slots. False if anything about them does not fit: then the records must be looked at.
fn rebuild(volume: &mut Volume, chunks: usize) -> bool {
    let shape = volume.shape;
    let mut heap = Heap::of_classes((0..chunks).map(|chunk| class_of_chunk(&volume.map, &shape, chunk)));
    let (mut records, mut tombs) = (0, 0);
    for index in 0..shape.all_slots() {
        let slot = volume.slot(index);
        if slot.is_record() {
            if !heap.claim(&shape, slot.at()) {
                return false;
            }
            records += 1;
        } else if slot != Slot::EMPTY {
            tombs += 1;
        }
    }
    heap.settle();
    (volume.heap, volume.records, volume.tombs) = (heap, records, tombs);
    true
}

/// Reads every record, drops what is damaged, and rebuilds everything from what is left. Returns how many were dropped.
pub(crate) fn verify(volume: &mut Volume, chunks: usize) -> u64 {
    let shape = volume.shape;
    let Judgement {
        verdicts,
        lost: mut dropped,
        newest,
    } = judge(volume);
    volume.sequence = newest;
    let mut heap = Heap::of_classes(vote(volume, &verdicts, chunks).into_iter());
    let mut misplaced = Vec::new();
    (volume.records, volume.tombs) = (0, 0);
    for (index, verdict) in verdicts.into_iter().enumerate() {
        let slot = volume.slot(index);
        if slot == Slot::EMPTY {
            continue;
        }
        if let Verdict::Good(class) = verdict
            && heap.class_at(&shape, slot.at()) == Some(class)
            && heap.claim(&shape, slot.at())
        {
            volume.records += 1;
            continue;
        }
        if verdict.class().is_some()
            && let Some((head, key, value)) = volume.record_at(slot)
        {
            misplaced.push((head.sequence, key.to_vec(), value.to_vec()));
        }
        // Not "empty" again: searches may have to pass here.
        protocol::turn(&*volume.map, shape.slot_at(index), Slot::TOMB.0);
        volume.tombs += 1;
    }
    heap.settle();
    volume.heap = heap;
    // The newest first, so that each key is stored at most once.
    misplaced.sort_by_key(|(sequence, ..)| newest.wrapping_sub(*sequence));
    for (sequence, key, value) in misplaced {
        let hash = volume.hash.of(&key);
        let newer_is_there = match volume.find(hash, &key) {
            Place::Found { slot, .. } => volume
                .key_at(slot)
                .is_some_and(|(head, _)| sequence.wrapping_sub(head.sequence) as i32 <= 0),
            _ => false,
        };
        if !newer_is_there && volume.put(hash, &key, &value).is_err() {
            dropped += 1;
        }
    }
    volume.damaged += dropped;
    dropped
}

/// What a slot is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// No record, or none that is undamaged and belongs to the slot.
    Nothing,
    Good(Class),
    /// Good, but a search does not come to it: a slot in front of it was lost, or there is another version of it.
    Unreachable(Class),
}

impl Verdict {
    fn class(self) -> Option<Class> {
        match self {
            Verdict::Nothing => None,
            Verdict::Good(class) | Verdict::Unreachable(class) => Some(class),
        }
    }
}

struct Judgement {
    /// On each slot.
    verdicts: Vec<Verdict>,
    /// Records that are damaged.
    lost: u64,
    /// The latest sequence number there is.
    newest: u32,
}

fn judge(volume: &Volume) -> Judgement {
    let (mut lost, mut newest) = (0, volume.sequence);
    let judge_one = |index| {
        let slot = volume.slot(index);
        if !slot.is_record() {
            return Verdict::Nothing;
        }
        let verdict = volume.record_at(slot).map_or(Verdict::Nothing, |(head, key, _)| {
            if head.sequence.wrapping_sub(newest) as i32 > 0 {
                newest = head.sequence;
            }
            let hash = volume.hash.of(key);
            let home = volume.shape.home(hash);
            match Class::from_byte(head.class) {
                Some(class) if slot.has_tag_of(hash) && (home..home + MAX_PROBE).contains(&index) => {
                    if is_found(volume, hash, key, index) {
                        Verdict::Good(class)
                    } else {
                        Verdict::Unreachable(class)
                    }
                }
                _ => Verdict::Nothing,
            }
        });
        lost += u64::from(verdict == Verdict::Nothing);
        verdict
    };
    let verdicts = (0..volume.shape.all_slots()).map(judge_one).collect();
    Judgement { verdicts, lost, newest }
}

/// Whether a search for the key comes to that slot.
fn is_found(volume: &Volume, hash: u64, key: &[u8], index: usize) -> bool {
    (volume.shape.home(hash)..index)
        .map(|before| volume.slot(before))
        .all(|slot| {
            slot != Slot::EMPTY
                && !(slot.has_tag_of(hash) && volume.key_at(slot).is_some_and(|(_, other)| other == key))
        })
}

/// The class of each chunk by what lies in it: after a power cut the chunk words may be older or newer than the records.
fn vote(volume: &Volume, verdicts: &[Verdict], chunks: usize) -> Vec<Option<Class>> {
    let shape = volume.shape;
    let mut votes = vec![[0u16; Class::COUNT]; chunks];
    for (index, class) in verdicts
        .iter()
        .enumerate()
        .filter_map(|(index, verdict)| Some((index, verdict.class()?)))
    {
        if let Some(votes) = votes.get_mut((volume.slot(index).at() - shape.heap_at()) / CHUNK_LEN) {
            votes[class.index()] = votes[class.index()].saturating_add(1);
        }
    }
    let decide = |(chunk, votes): (usize, [u16; Class::COUNT])| {
        let class = Class::all()
            .filter(|class| votes[class.index()] > 0)
            .max_by_key(|class| votes[class.index()]);
        let byte = class.map_or(0, Class::to_byte);
        volume
            .map
            .store(shape.chunk_words_at() + chunk * 8, u64::from(byte), Relaxed);
        class
    };
    votes.into_iter().enumerate().map(decide).collect()
}

fn class_of_chunk(map: &Map, shape: &Shape, chunk: usize) -> Option<Class> {
    Class::from_byte(map.load(shape.chunk_words_at() + chunk * 8, Relaxed) as u8)
}

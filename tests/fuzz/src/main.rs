//! Fuzzing without guidance, for machines without a C++ compiler: mutations of the corpus, for so many seconds.
//!
//! usage: sps-fuzz TARGET SECONDS CORPUS FOUND
//!
//! What makes the target panic is written into the folder FOUND before the program ends with status 77, as libFuzzer does.
#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [target, seconds, corpus, found] => match (sps_fuzz::find(target), seconds.parse()) {
            (Some(target), Ok(seconds)) => fuzz(
                target,
                Duration::from_secs(seconds),
                Path::new(corpus),
                Path::new(found),
            ),
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: sps-fuzz TARGET SECONDS CORPUS FOUND");
    ExitCode::from(64)
}

fn fuzz(target: sps_fuzz::Target, time: Duration, corpus: &Path, found: &Path) -> ExitCode {
    let mut seeds = Vec::new();
    for entry in std::fs::read_dir(corpus).into_iter().flatten().flatten() {
        seeds.extend(std::fs::read(entry.path()));
    }
    if seeds.is_empty() {
        seeds.push(Vec::new());
    }
    // Seeded by the clock: each run looks elsewhere, and what it finds is kept.
    let mut random = Random(
        std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(1, |since| since.as_nanos() as u64),
    );
    let end = Instant::now() + time;
    let mut count = 0u64;
    while Instant::now() < end {
        for _ in 0..64 {
            let case = mutated(&seeds, &mut random);
            count += 1;
            if catch_unwind(AssertUnwindSafe(|| (target.run)(&case))).is_err() {
                let file = found.join(format!("crash-{}-{:016x}", target.name, random.next()));
                let written = std::fs::create_dir_all(found).and_then(|()| std::fs::write(&file, &case));
                eprintln!("{}: {} after {count} cases: {written:?}", target.name, file.display());
                return ExitCode::from(77);
            }
        }
    }
    println!("{}: {count} cases without guidance, nothing found", target.name);
    ExitCode::SUCCESS
}

/// A seed with a few blows: bytes changed, taken out, doubled, words put in, another seed's tail.
fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    const WORDS: &[&[u8]] = &[
        b"\r\n",
        b"\r\n ",
        b"\r",
        b"\n",
        b"\0",
        b",",
        b";",
        b":",
        b"<",
        b">",
        b"\"",
        b"\\",
        b"%",
        b"%00",
        b"@",
        b"=",
        b"[",
        b"]",
        b"\x1e",
        b" ",
        b"\t",
        b"?",
        b"0",
        b"-1",
        b"4294967296",
        b"\xff",
        b"SIP/2.0",
        b"sip:",
        b"Content-Length: ",
        b"l:",
        b"z9hG4bK",
        b";lr",
    ];
    let mut case = seeds[random.below(seeds.len())].clone();
    for _ in 0..1 + random.below(6) {
        let at = random.below(case.len() + 1);
        match random.below(7) {
            0 if at < case.len() => case[at] = random.next() as u8,
            1 if at < case.len() => drop(case.remove(at)),
            2 => drop(case.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
            3 => {
                let end = (at + random.below(32)).min(case.len());
                drop(case.drain(at..end));
            }
            4 => {
                let end = (at + random.below(64)).min(case.len());
                let piece = case[at..end].to_vec();
                drop(case.splice(at..at, piece));
            }
            5 => {
                let other = &seeds[random.below(seeds.len())];
                case.truncate(at);
                case.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
            _ if at < case.len() => case[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
    case.truncate(8192);
    case
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        if bound == 0 {
            0
        } else {
            (self.next() % bound as u64) as usize
        }
    }
}

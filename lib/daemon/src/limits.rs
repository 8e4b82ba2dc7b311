//! Limits of the process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What we ask for where we may: a descriptor for each of half a million streams and as much again.
const WANTED_OPEN_FILES: u64 = 1 << 20;

/// Raises the limit on open files as far as we may and gives what it came to. Children inherit it.
pub fn raise_open_files() -> u64 {
    let now = getrlimit(Resource::Nofile);
    // Root may go beyond the hard limit, up to the kernel's own (fs.nr_open); everybody else up to the hard one.
    for wanted in [WANTED_OPEN_FILES, now.maximum.unwrap_or(WANTED_OPEN_FILES)] {
        let maximum = now.maximum.map_or(wanted, |maximum| maximum.max(wanted));
        if now.current.is_some_and(|current| current >= wanted) {
            break;
        }
        let wish = Rlimit {
            current: Some(wanted),
            maximum: now.maximum.map(|_| maximum),
        };
        if setrlimit(Resource::Nofile, wish).is_ok() {
            break;
        }
    }
    open_files()
}

/// How many descriptors this process may have.
pub fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_never_falls() {
        let before = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        assert!(raise_open_files() >= before);
    }
}

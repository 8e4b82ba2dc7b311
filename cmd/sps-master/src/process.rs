//! What the kernel tells about a process.

use std::fs;

/// Resident bytes and processor milliseconds of a process; zeros when it is gone.
pub fn figures(pid: u32) -> (u64, u64) {
    (memory_len(pid).unwrap_or(0), cpu_ms(pid).unwrap_or(0))
}

/// The second number of statm(5): resident pages.
fn memory_len(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// utime and stime: fields 14 and 15 of stat(5), counted behind the name in brackets, which may hold anything.
fn cpu_ms(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * 1000 / rustix::param::clock_ticks_per_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_figures_are_plausible() {
        let (memory_len, _) = figures(std::process::id());
        assert!((1 << 16..1 << 36).contains(&memory_len), "{memory_len}");
        assert_eq!(figures(u32::MAX), (0, 0));
        assert!(cpu_ms(std::process::id()).is_some());
    }
}

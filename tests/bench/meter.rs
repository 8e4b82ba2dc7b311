//! What a process tree has used: CPU time to the nanosecond, and memory.

use std::fs;

use sps_tests::process::tree;

/// CPU time of all threads of the process `root` and its descendants, in nanoseconds.
///
/// Kernel time on their behalf is in it; what a thread that has ended used is not, so contenders must not end threads under
/// load.
pub fn cpu_ns(root: u32) -> u64 {
    tree(root)
        .into_iter()
        .map(|id| tasks(id).into_iter().map(|task| schedstat(id, task)).sum::<u64>())
        .sum()
}

/// Memory of the tree in KiB, what processes share counted once (PSS).
pub fn memory_kib(root: u32) -> u64 {
    tree(root).into_iter().map(pss).sum()
}

/// Kills nobody, asks nobody: the ids of threads come from the kernel.
fn tasks(id: u32) -> Vec<u32> {
    let folder = fs::read_dir(format!("/proc/{id}/task"));
    folder
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn schedstat(id: u32, task: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{id}/task/{task}/schedstat")).unwrap_or_default();
    text.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0)
}

fn pss(id: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

//! Fuzz targets: what must hold for any bytes that strangers or disks can give us.
//!
//! A target is a function of bytes that panics when something is wrong. It does not only look for panics of the code under
//! test: what is written is read back as the same, what is forwarded differs from what came only where a proxy may change it,
//! what is counted stays bounded. Three drivers call the same functions: `tests/replay.rs` (every file of `corpus/`, with plain
//! `cargo test`), `sps-fuzz` (mutations without guidance) and `sps-fuzz-guided` (libFuzzer, coverage by the stable
//! compiler); `scripts/fuzz.sh` runs them. CONTRIBUTING.md says how to add a case.
#![forbid(unsafe_code)]

mod conf;
mod core;
mod files;
mod frames;
mod ipc;
mod message;
mod words;

/// One way to feed bytes to SPS.
#[derive(Clone, Copy)]
pub struct Target {
    /// Also the name of its folder in `corpus/`.
    pub name: &'static str,
    /// Panics when something is wrong.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    target("configuration", conf::configuration),
    target("contacts", words::contacts),
    target("cseq", words::cseq),
    target("ipc", ipc::frames),
    target("message", message::message),
    target("name_addr", words::name_addr),
    target("params", words::params),
    target("path", words::path),
    target("proxy", core::proxy),
    target("registry", files::registry),
    target("response", message::response),
    target("route", words::route),
    target("routes_map", files::routes),
    target("stream", frames::stream),
    target("uri", words::uri),
    target("via", words::via),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// The target of that name.
pub fn find(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}

/// Limits small enough that a fuzzer reaches them.
fn limits() -> sps_wire::Limits {
    sps_wire::Limits {
        message_len: 4096,
        head_len: 2048,
        header_len: 1024,
        headers: 64,
    }
}

//! What a line of the access log costs its worker: `cargo bench -p sps-daemon`.

use std::time::{Duration, SystemTime};

use divan::{Bencher, black_box};
use sps_daemon::AccessLog;
use sps_daemon::access::Entry;

fn main() {
    divan::main();
}

/// A log that is emptied as fast as it fills; the file is thrown away.
fn log() -> AccessLog {
    AccessLog::start(Some("/dev/null".as_ref()), 1).expect("/dev/null can be written")
}

/// Lock, append nothing, unlock: what the log itself costs.
#[divan::bench]
fn overhead(bencher: Bencher<'_, '_>) {
    let access = log().worker(0);
    bencher.bench_local(|| access.line(|out| black_box(out).clear()));
}

/// A whole line of a call.
#[divan::bench]
fn entry(bencher: Bencher<'_, '_>) {
    let access = log().worker(0);
    let received_at = SystemTime::now();
    bencher.bench_local(|| {
        access.entry(black_box(&Entry {
            source: ([192, 0, 2, 5], 5060).into(),
            user: None,
            received_at,
            method: b"INVITE",
            request_uri: b"sip:bob@example.com",
            status: 200,
            took: Duration::from_millis(1234),
            call_id: b"a84b4c76e66710@192.0.2.5",
            next: Some((([192, 0, 2, 9], 5060).into(), "udp")),
            stage: "registry",
            branches: 2,
            more: &[],
        }));
    });
}

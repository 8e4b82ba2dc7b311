//! Skips that cannot be overlooked: one machine-readable line each, collected by `make test`, explained in `SKIPS.md`.

use std::fs::OpenOptions;
use std::io::Write;

/// Ends the test as skipped: `skip!("sipp: not installed")`. The word before the colon is what `SKIPS.md` explains.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        $crate::skip::record(&format!($($reason)*));
        return;
    }};
}

/// Skips the test unless the program is found.
#[macro_export]
macro_rules! need {
    ($program:literal) => {
        if $crate::process::find($program).is_none() {
            $crate::skip!("{}: not installed", $program);
        }
    };
}

/// Writes the line `SPS-SKIP test: reason` past the test runner's capture, and into the file named by `SPS_SKIPS`.
pub fn record(reason: &str) {
    let thread = std::thread::current();
    let line = format!("SPS-SKIP {}: {reason}\n", thread.name().unwrap_or("test"));
    // The runner captures print!, not the stream itself. Nobody is helped if this fails.
    let _ = std::io::stdout().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("SPS_SKIPS") {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .expect("SPS_SKIPS can be written");
        file.write_all(line.as_bytes()).expect("SPS_SKIPS can be written");
    }
}

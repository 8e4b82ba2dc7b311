//! libFuzzer with all targets in one program: `SPS_FUZZ_TARGET` names the one to run. Build and run it by scripts/fuzz.sh.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<sps_fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("SPS_FUZZ_TARGET").expect("SPS_FUZZ_TARGET names a target");
    sps_fuzz::find(&name).unwrap_or_else(|| panic!("no target {name}"))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));

//! sps-conformance: writes the overview of the conformance tables, or begins a table from an RFC's text.
//!
//!     sps-conformance                          writes tests/conformance/README.md
//!     sps-conformance draft NNNN SECTION...    prints the beginning of a table; needs Debian's doc-rfc
#![forbid(unsafe_code)]

use std::process::ExitCode;

use sps_tests::conformance::{faults, folder, page, tables, text};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => write(),
        ["draft", rfc, _, ..] => draft(rfc, &arguments[2..]),
        _ => {
            eprintln!("usage: sps-conformance [draft RFC SECTION...]");
            ExitCode::from(64)
        }
    }
}

fn write() -> ExitCode {
    let tables = tables();
    if let Err(error) = std::fs::write(folder().join("README.md"), page::write(&tables)) {
        eprintln!("sps-conformance: {}: {error}", folder().join("README.md").display());
        return ExitCode::from(74);
    }
    let faults = faults(&tables);
    for fault in &faults {
        eprintln!("{fault}");
    }
    if faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn draft(rfc: &str, sections: &[String]) -> ExitCode {
    let found = rfc.parse().ok().and_then(|rfc| Some((rfc, text::read(rfc)?)));
    let Some((rfc, text)) = found else {
        eprintln!("sps-conformance: no text of RFC {rfc}; it comes with Debian's doc-rfc");
        return ExitCode::from(66);
    };
    print!("{}", page::draft(rfc, &text, sections));
    ExitCode::SUCCESS
}

//! The tables of `tests/conformance` against the sources, their own overview, and the RFCs' texts.

use std::fs;

use sps_tests::conformance::{faults, folder, page, tables, text};
use sps_tests::skip;

/// Whoever adds a clause, renames a test or forgets a keyword learns it here.
#[test]
fn every_clause_has_its_test_or_its_reason() {
    let tables = tables();
    assert!(!tables.is_empty(), "no tables in {}", folder().display());
    let faults = faults(&tables);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn the_overview_is_written_from_the_tables() {
    let written = fs::read_to_string(folder().join("README.md")).unwrap_or_default();
    assert!(
        written == page::write(&tables()),
        "tests/conformance/README.md is stale: make conformance"
    );
}

/// Numbers and levels are facts of the text.
#[test]
fn the_tables_have_the_keywords_of_the_texts() {
    let mut faults = Vec::new();
    let mut missing = Vec::new();
    for table in tables() {
        let Some(text) = text::read(table.rfc) else {
            missing.push(table.rfc.to_string());
            continue;
        };
        let found = text::keywords(&text);
        for (section, count) in &table.keywords {
            let Some(keywords) = found.get(section) else {
                faults.push(format!("{}: the RFC has no §{section}", table.file));
                continue;
            };
            if keywords.len() != usize::from(*count) {
                faults.push(format!(
                    "{}: §{section} has {} keywords, not {count}",
                    table.file,
                    keywords.len()
                ));
            }
            for clause in table
                .clauses
                .iter()
                .filter(|clause| clause.section == *section && clause.n > 0)
            {
                if let Some(keyword) = keywords
                    .get(usize::from(clause.n) - 1)
                    .filter(|found| found.level != clause.level)
                {
                    faults.push(format!(
                        "{}: §{section} n {} is {}",
                        table.file, clause.n, keyword.level
                    ));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    if !missing.is_empty() {
        missing.dedup();
        skip!("doc-rfc: not installed, no text of RFC {}", missing.join(", "));
    }
}

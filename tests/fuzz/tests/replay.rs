//! Every file of the corpus through its target: what was found once is looked at each time.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

#[test]
fn every_case_of_the_corpus_passes() {
    let mut failed = Vec::new();
    for target in sps_fuzz::TARGETS {
        let mut files: Vec<PathBuf> = std::fs::read_dir(corpus().join(target.name))
            .unwrap_or_else(|error| panic!("corpus/{}: {error}", target.name))
            .map(|entry| entry.expect("a file").path())
            .collect();
        files.sort();
        assert!(files.len() > 1, "corpus/{} has cases", target.name);
        for file in files {
            let bytes = std::fs::read(&file).expect("a file");
            if std::panic::catch_unwind(|| (target.run)(&bytes)).is_err() {
                failed.push(file);
            }
        }
        (target.run)(b"");
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_folder_has_its_target() {
    let there: BTreeSet<String> = std::fs::read_dir(corpus())
        .expect("the corpus is there")
        .map(|entry| entry.expect("a folder").file_name().to_string_lossy().into_owned())
        .collect();
    let known: BTreeSet<String> = sps_fuzz::TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(there, known);
}

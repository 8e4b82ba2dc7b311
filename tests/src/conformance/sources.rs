//! The tests and departures that the tables name, looked up in the sources by plain reading.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What is wrong with the name of a test; `None` when the sources have it, it is a test, and it is run.
pub fn test_fault(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split("::").collect();
    let [package, modules @ .., function] = parts.as_slice() else {
        return Some(format!("{name}: expected crate::module::test"));
    };
    let Some(folder) = package_folder(package) else {
        return Some(format!("{name}: no package {package}"));
    };
    let files: Vec<PathBuf> = candidates(&folder, modules)
        .into_iter()
        .filter(|file| file.is_file())
        .collect();
    if files.is_empty() {
        return Some(format!("{name}: no file for {}", modules.join("::")));
    }
    let sources = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    match sources.filter_map(|source| attributes(&source, function)).next() {
        None => Some(format!("{name}: no such function there")),
        Some(found) if !found.contains("test]") && !found.contains("::test(") => Some(format!("{name} is no test")),
        Some(found) if found.contains("#[ignore") => Some(format!("{name} is not run")),
        Some(_) => None,
    }
}

fn package_folder(package: &str) -> Option<PathBuf> {
    let root = root();
    let folder = match package.strip_prefix("sps-") {
        Some("tests") => root.join("tests"),
        Some(name) if root.join("lib").join(name).is_dir() => root.join("lib").join(name),
        _ => root.join("cmd").join(package),
    };
    folder.join("Cargo.toml").is_file().then_some(folder)
}

/// Where the modules may lie: a library's module or program's, an integration test, or a module at the foot of one of them.
fn candidates(folder: &Path, modules: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let foot = modules
        .split_last()
        .filter(|(last, _)| **last == "tests")
        .map(|(_, above)| above);
    for modules in std::iter::once(modules).chain(foot) {
        let path = modules.join("/");
        if path.is_empty() {
            found.extend(["src/lib.rs", "src/main.rs"].map(|file| folder.join(file)));
            continue;
        }
        for place in ["src", "tests"] {
            found.extend(
                [
                    format!("{path}.rs"),
                    format!("{path}/mod.rs"),
                    format!("{path}/main.rs"),
                ]
                .map(|file| folder.join(place).join(file)),
            );
        }
    }
    found
}

/// The attributes before `fn name(`, if the source has it.
fn attributes(source: &str, function: &str) -> Option<String> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let is_it = |line: &str| {
        let rest = line.strip_prefix("pub ").unwrap_or(line);
        let rest = rest.strip_prefix("async ").unwrap_or(rest);
        rest.strip_prefix("fn ")
            .and_then(|rest| rest.strip_prefix(function))
            .is_some_and(|rest| rest.starts_with('('))
    };
    let at = lines.iter().position(|line| is_it(line))?;
    let above = lines[..at]
        .iter()
        .rev()
        .take_while(|line| line.starts_with("#[") || line.starts_with("//"));
    Some(
        above
            .filter(|line| line.starts_with("#["))
            .copied()
            .collect::<Vec<_>>()
            .join("\n"),
    )
}

/// Whether some source says that it departs from this section. RFC 3261 goes without saying, others are named.
pub fn departure_is_told(rfc: u32, section: &str) -> bool {
    static TOLD: OnceLock<HashSet<String>> = OnceLock::new();
    let told = TOLD.get_or_init(|| {
        let mut told = HashSet::new();
        for place in ["lib", "cmd"] {
            read_departures(&root().join(place), &mut told);
        }
        told
    });
    let named = format!("RFC {rfc} §{section}");
    told.contains(&named) || (rfc == 3261 && told.contains(&format!("§{section}")))
}

/// Collects what stands between `Departs from ` and the colon, blank or comma behind the section.
fn read_departures(folder: &Path, told: &mut HashSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            read_departures(&path, told);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap_or_default();
            for (at, words) in source.match_indices("Departs from ") {
                let rest = &source[at + words.len()..];
                let Some(sign) = rest.find('§').filter(|sign| *sign < 12) else {
                    continue;
                };
                let number_len = rest[sign + '§'.len_utf8()..]
                    .find(|c: char| !c.is_ascii_digit() && c != '.')
                    .unwrap_or(0);
                let end = sign + '§'.len_utf8() + number_len;
                told.insert(rest[..end].trim_end_matches('.').to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_where_they_lie() {
        for name in [
            "sps-tests::conformance::sources::tests::tests_are_found_where_they_lie",
            "sps-tests::man_pages::every_program_has_its_page",
        ] {
            assert_eq!(test_fault(name), None);
        }
        for name in [
            "x",
            "sps-nothing::a::b",
            "sps-tests::nowhere::b",
            "sps-tests::conformance::sources::test_fault",
        ] {
            assert!(test_fault(name).is_some(), "{name} is taken for a test");
        }
    }

    #[test]
    fn what_is_not_run_shows_nothing() {
        let source = "#[test]\n#[ignore = \"slow\"]\n/// Says.\nfn a() {}\n\nfn b() {}\n";
        assert!(attributes(source, "a").is_some_and(|found| found.contains("#[ignore")));
        assert_eq!(attributes(source, "b").as_deref(), Some(""));
        assert_eq!(attributes(source, "c"), None);
    }
}

//! The tables of `tests/conformance`: which test shows which clause of which RFC.
//!
//! A clause is one capitalised keyword of RFC 2119 that demands something ("MUST", "SHOULD NOT", ...; permissions are left
//! out), numbered in the order of the text within its section. [`faults`] finds what a table forgets or claims wrongly,
//! [`page`] writes the overview, [`text`] reads the RFC itself where it is installed.

pub mod page;
pub mod sources;
pub mod text;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where the tables lie.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

/// One file of clauses. An RFC may be cut into several files, by section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its file name, without the folder.
    #[serde(skip)]
    pub file: String,
    /// Number of the RFC.
    pub rfc: u32,
    /// Title of the RFC.
    pub title: String,
    /// How many keywords the text has in each section that is treated here.
    pub keywords: BTreeMap<String, u16>,
    /// The clauses, in the order of the text.
    #[serde(default, rename = "clause")]
    pub clauses: Vec<Clause>,
}

/// One clause and what becomes of it here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clause {
    /// Section of the RFC, without the sign.
    pub section: String,
    /// Running number of the keyword in its section, from 1; 0 for a rule that the text gives in plain words.
    pub n: u16,
    /// The keyword, or [`PLAIN`].
    pub level: String,
    /// The clause in our words.
    pub says: String,
    /// Tests that fail when it is broken: `crate::path of modules, or integration test::function`.
    #[serde(default)]
    pub tests: Vec<String>,
    /// Why it binds none of what SPS is.
    pub not_us: Option<String>,
    /// What SPS does instead, and why. The source says so too, as `Departs from §section`.
    pub departs: Option<String>,
}

/// The level of a rule without a keyword.
pub const PLAIN: &str = "plain";

/// What becomes of a clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Tests show it.
    Shown,
    /// SPS does otherwise, and says so.
    Departs,
    /// It binds others.
    NotOurs,
}

impl Clause {
    /// What becomes of it.
    pub fn fate(&self) -> Fate {
        match (&self.departs, &self.not_us) {
            (Some(_), _) => Fate::Departs,
            (None, Some(_)) => Fate::NotOurs,
            (None, None) => Fate::Shown,
        }
    }
}

/// All tables, by RFC, then by section.
///
/// # Panics
/// When a file is no table; the message has file, line and column.
pub fn tables() -> Vec<Table> {
    let mut tables = Vec::new();
    for entry in fs::read_dir(folder()).expect("tests/conformance is there") {
        let path = entry.expect("tests/conformance can be listed").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut table: Table = toml::from_str(&source).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        table.file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        tables.push(table);
    }
    let first = |table: &Table| table.keywords.keys().map(|section| numbers(section)).min();
    tables.sort_by(|a, b| a.rfc.cmp(&b.rfc).then_with(|| first(a).cmp(&first(b))));
    tables
}

/// `16.10` after `16.9`.
pub fn by_number(a: &str, b: &str) -> Ordering {
    numbers(a).cmp(&numbers(b))
}

fn numbers(section: &str) -> Vec<u16> {
    section
        .split('.')
        .map(|part| part.parse().unwrap_or(u16::MAX))
        .collect()
}

/// Everything that is wrong with the tables as such, one line each; empty when all is well.
pub fn faults(tables: &[Table]) -> Vec<String> {
    let mut found = Vec::new();
    for table in tables {
        let mut seen: BTreeMap<(&str, u16), u32> = BTreeMap::new();
        for clause in &table.clauses {
            let at = format!("{}: §{} n {}", table.file, clause.section, clause.n);
            if clause.n > 0 {
                *seen.entry((&clause.section, clause.n)).or_default() += 1;
            }
            found.extend(
                clause_faults(table, clause)
                    .into_iter()
                    .map(|fault| format!("{at}: {fault}")),
            );
        }
        for (section, count) in &table.keywords {
            for n in 1..=*count {
                match seen.get(&(section.as_str(), n)) {
                    None => found.push(format!("{}: §{section} n {n} is missing", table.file)),
                    Some(1) => {}
                    Some(_) => found.push(format!("{}: §{section} n {n} is there twice", table.file)),
                }
            }
        }
    }
    let mut owner: BTreeMap<(u32, &str), &str> = BTreeMap::new();
    for table in tables {
        for section in table.keywords.keys() {
            if let Some(other) = owner.insert((table.rfc, section), &table.file) {
                found.push(format!("{}: §{section} is in {other} too", table.file));
            }
        }
    }
    found
}

fn clause_faults(table: &Table, clause: &Clause) -> Vec<String> {
    let mut found = Vec::new();
    match table.keywords.get(&clause.section) {
        None => found.push("the section is not in `keywords`".to_owned()),
        Some(count) if clause.n > *count => found.push(format!("the section has {count} keywords")),
        Some(_) => {}
    }
    let plain = clause.level == PLAIN;
    if plain != (clause.n == 0) || !(plain || text::KEYWORDS.contains(&clause.level.as_str())) {
        found.push(format!(
            "level {:?}: a keyword of RFC 2119, or {PLAIN:?} with n = 0",
            clause.level
        ));
    }
    if clause.says.trim().is_empty() {
        found.push("says nothing".to_owned());
    }
    for reason in [&clause.not_us, &clause.departs].into_iter().flatten() {
        if reason.split_whitespace().count() < 3 {
            found.push(format!("{reason:?} is no reason"));
        }
    }
    let answers = [
        !clause.tests.is_empty() || clause.departs.is_some(),
        clause.not_us.is_some(),
    ];
    match answers {
        [false, false] => found.push("neither `tests` nor `not_us` nor `departs`".to_owned()),
        [true, true] => found.push("not ours, and yet shown or departed from".to_owned()),
        [true, false] | [false, true] => {}
    }
    found.extend(clause.tests.iter().filter_map(|test| sources::test_fault(test)));
    if clause.departs.is_some() && !sources::departure_is_told(table.rfc, &clause.section) {
        found.push(format!("no source says \"Departs from §{}\"", clause.section));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(clauses: &str) -> Vec<Table> {
        let source = format!("rfc = 3261\ntitle = \"t\"\nkeywords = {{ \"16.3\" = 2 }}\n{clauses}");
        vec![toml::from_str(&source).expect("it is a table")]
    }

    const FIRST: &str =
        "[[clause]]\nsection = \"16.3\"\nn = 1\nlevel = \"MUST\"\nsays = \"x\"\nnot_us = \"binds user agents only\"\n";

    fn second(lines: &str) -> String {
        format!("{FIRST}[[clause]]\nsection = \"16.3\"\nn = 2\nlevel = \"MUST\"\nsays = \"x\"\n{lines}")
    }

    #[test]
    fn a_whole_table_has_no_fault() {
        let whole = second("tests = [\"sps-tests::conformance::tests::a_whole_table_has_no_fault\"]");
        assert_eq!(faults(&table(&whole)), Vec::<String>::new());
    }

    #[test]
    fn what_is_forgotten_or_claimed_wrongly_is_found() {
        let cases = [
            (FIRST.to_owned(), "n 2 is missing"),
            (format!("{FIRST}{FIRST}"), "n 1 is there twice"),
            (second(""), "neither `tests`"),
            (second("tests = [\"sps-tests::conformance::no_such\"]"), "no_such"),
            (second("not_us = \"no\""), "is no reason"),
            (
                second("not_us = \"a b c\"\ntests = [\"sps-tests::conformance::tests::a_whole_table_has_no_fault\"]"),
                "not ours, and yet",
            ),
            (
                second("departs = \"we do otherwise here\"").replace("16.3", "99.99"),
                "no source says",
            ),
            (FIRST.replace("\"MUST\"", "\"Must\""), "level"),
            (FIRST.replace("n = 1", "n = 3"), "has 2 keywords"),
        ];
        for (clauses, fault) in cases {
            let found = faults(&table(&clauses)).join("\n");
            assert!(found.contains(fault), "{fault:?} is not among:\n{found}");
        }
    }

    #[test]
    fn one_section_has_one_table() {
        let mut two = table(FIRST);
        two.extend(table(FIRST));
        assert!(faults(&two).iter().any(|fault| fault.contains("is in")));
    }

    #[test]
    fn sections_are_sorted_as_numbers() {
        assert_eq!(by_number("16.9", "16.10"), Ordering::Less);
        assert_eq!(by_number("17", "16.10"), Ordering::Greater);
    }
}

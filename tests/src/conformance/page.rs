//! `tests/conformance/README.md`, written from the tables.

use std::fmt::Write as _;

use super::{Clause, Fate, PLAIN, Table, by_number, text};

/// How to write a table; the head of the page.
const HEAD: &str = "\
# Clause by clause

Written by `make conformance` from the tables beside it; do not edit. A clause is a capitalised keyword of RFC 2119 that demands
something, numbered in the order of the text within its section (permissions are left out); n 0 is a rule in plain words. Every
clause of a section that is treated has one of three fates:

- **shown**: the tests named fail when SPS does not obey;
- **departs**: SPS does otherwise, the table says why, and so do the source (`Departs from §`) and the manual;
- **not ours**: it binds none of what SPS is: a proxy, a redirect server, a registrar, and the user agent server or client
  that these are when they answer or cancel by themselves.

`cargo test -p sps-tests --test conformance` fails when a clause is missing or there twice, when it has no fate, when a test named
does not exist or is not run, and when this page is stale. Where Debian's `doc-rfc` is installed, numbers and levels are compared
with the RFC's text.

A table is `rfcNNNN.toml`, or several files `rfcNNNN-WHAT.toml`. `cargo run -p sps-tests --bin sps-conformance -- draft NNNN SECTION...`
prints its beginning from the RFC's text. A test is named by package, module path (or file of integration tests) and function.

```toml
rfc = 3261
title = \"SIP: Session Initiation Protocol\"
keywords = { \"16.3\" = 13 }          # how many the text has, by section

[[clause]]
section = \"16.3\"
n = 1
level = \"MUST\"
says = \"the clause in our own words\"
tests = [\"sps-sip::proxy_rfc3261::validation::name\", \"sps-tests::forking::name\"]
# or: not_us = \"why it does not bind us\"
# or: departs = \"what SPS does instead, and why\", with or without tests that show that
```
";

/// The whole page.
pub fn write(tables: &[Table]) -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n## Totals\n\n| keyword | shown | departs | not ours | all |\n|---|---|---|---|---|\n");
    let all = || tables.iter().flat_map(|table| &table.clauses);
    for level in text::KEYWORDS.into_iter().chain([PLAIN]) {
        let clauses: Vec<&Clause> = all().filter(|clause| clause.level == level).collect();
        if !clauses.is_empty() {
            page.push_str(&totals_row(level, &clauses));
        }
    }
    page.push_str(&totals_row("all", &all().collect::<Vec<_>>()));
    page.push_str("\n| table | shown | departs | not ours | all |\n|---|---|---|---|---|\n");
    for table in tables {
        let name = format!("RFC {} ([{}]({}))", table.rfc, table.file, table.file);
        page.push_str(&totals_row(&name, &table.clauses.iter().collect::<Vec<_>>()));
    }
    let mut departures = String::new();
    for (table, clause) in tables
        .iter()
        .flat_map(|table| table.clauses.iter().map(move |clause| (table, clause)))
    {
        if let Some(departs) = &clause.departs {
            let _ = writeln!(
                departures,
                "- RFC {} §{}, {} ({}): {departs}",
                table.rfc, clause.section, clause.level, clause.says
            );
        }
    }
    if !departures.is_empty() {
        page.push_str("\n## Departures\n\n");
        page.push_str(&departures);
    }
    let mut rfc = 0;
    for table in tables {
        if table.rfc != rfc {
            rfc = table.rfc;
            let _ = writeln!(page, "\n## RFC {rfc}: {}", table.title);
        }
        write_sections(table, &mut page);
    }
    page
}

fn totals_row(name: &str, clauses: &[&Clause]) -> String {
    let count = |fate| clauses.iter().filter(|clause| clause.fate() == fate).count();
    format!(
        "| {name} | {} | {} | {} | {} |\n",
        count(Fate::Shown),
        count(Fate::Departs),
        count(Fate::NotOurs),
        clauses.len()
    )
}

fn write_sections(table: &Table, page: &mut String) {
    let mut sections: Vec<&String> = table.keywords.keys().collect();
    sections.sort_by(|a, b| by_number(a, b));
    for section in sections {
        let mut clauses: Vec<&Clause> = table
            .clauses
            .iter()
            .filter(|clause| clause.section == **section)
            .collect();
        clauses.sort_by_key(|clause| clause.n);
        if clauses.is_empty() {
            continue;
        }
        let _ = write!(
            page,
            "\n### RFC {} §{section}\n\n| n | keyword | says | |\n|---|---|---|---|\n",
            table.rfc
        );
        for clause in clauses {
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} |",
                clause.n,
                clause.level,
                cell(&clause.says),
                cell(&answer(clause))
            );
        }
    }
}

fn answer(clause: &Clause) -> String {
    let tests = clause
        .tests
        .iter()
        .map(|test| format!("`{test}`"))
        .collect::<Vec<_>>()
        .join(", ");
    match (&clause.departs, &clause.not_us) {
        (Some(why), _) => format!("**departs:** {why} {tests}").trim_end().to_owned(),
        (None, Some(why)) => format!("*not ours:* {why}"),
        (None, None) => tests,
    }
}

/// A bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The beginning of a table from the RFC's text: counts, and an entry for each keyword, its sentence as a comment.
pub fn draft(rfc: u32, text: &str, sections: &[String]) -> String {
    let found = text::keywords(text);
    let empty = Vec::new();
    let of = |section: &String| found.get(section).unwrap_or(&empty);
    let counts: Vec<String> = sections
        .iter()
        .map(|section| format!("{section:?} = {}", of(section).len()))
        .collect();
    let mut draft = format!("rfc = {rfc}\ntitle = \"\"\nkeywords = {{ {} }}\n", counts.join(", "));
    for section in sections {
        for (at, keyword) in of(section).iter().enumerate() {
            let _ = write!(
                draft,
                "\n# {}\n[[clause]]\nsection = {section:?}\nn = {}\nlevel = {:?}\nsays = \"\"\ntests = []\n",
                keyword.sentence,
                at + 1,
                keyword.level
            );
        }
    }
    draft
}

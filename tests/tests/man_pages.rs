//! Manual pages against the programs, both ways: flags, subcommands, arguments that `--help` shows; and the pages by themselves.
//!
//! On the page of a program, `.TP` paragraphs of the section COMMANDS are subcommands: the words at the beginning of the tag
//! are the subcommand, its flags stand in the tag or in the text below. All other flags may stand anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sps_tests::{Instance, Options, bounded, instance};

/// Every program and the section of its page.
fn programs() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cmd");
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("cmd is there")
        .map(|entry| {
            entry
                .expect("cmd can be listed")
                .file_name()
                .into_string()
                .expect("programs have plain names")
        })
        .collect();
    names.sort();
    names
}

fn page_path(program: &str) -> PathBuf {
    let section = if program.starts_with("sps-") { 8 } else { 1 };
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../man/{program}.{section}"))
}

fn pages() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../man");
    fs::read_dir(folder)
        .expect("man is there")
        .map(|entry| entry.expect("man can be listed").path())
        .collect()
}

/// What `--help` of a program says about one subcommand.
#[derive(Debug, Default)]
struct Help {
    flags: BTreeSet<String>,
    commands: Vec<String>,
}

/// Asks the program for the help on one subcommand and, recursively, on those below it.
fn help(program: &str, path: &[String], found: &mut BTreeMap<String, Help>) {
    let output = Command::new(instance::program(program))
        .args(path)
        .arg("--help")
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{program} {path:?} --help: {output:?}");
    let text = String::from_utf8(output.stdout).expect("help is UTF-8");
    let mut help = Help::default();
    let mut heading = "";
    for line in text.lines() {
        if !line.starts_with(' ') && line.ends_with(':') {
            heading = line;
        } else if heading == "Commands:" {
            // Descriptions that run on are indented further than names.
            if let Some(name) = line.strip_prefix("  ").filter(|line| !line.starts_with(' ')) {
                help.commands.extend(name.split_whitespace().next().map(str::to_owned));
            }
        } else if heading.ends_with("ptions:") && line.trim_start().starts_with('-') {
            // Behind two blanks begins the description, which may mention other flags.
            let flags = line.trim_start().split("  ").next().unwrap_or_default();
            help.flags.extend(long_flags(flags));
        }
    }
    help.commands.retain(|name| name != "help");
    let below = help.commands.clone();
    found.insert(path.join(" "), help);
    for name in below {
        let mut path = path.to_vec();
        path.push(name);
        self::help(program, &path, found);
    }
}

/// Whether it exists although `--help` does not list it.
fn is_hidden(program: &str, words: &str) -> bool {
    let mut command = Command::new(instance::program(program));
    command.args(words.split_whitespace()).arg("--help");
    !words.is_empty() && command.output().is_ok_and(|output| output.status.success())
}

fn whole_help(program: &str) -> BTreeMap<String, Help> {
    let mut found = BTreeMap::new();
    help(program, &[], &mut found);
    found
}

/// `--flag` words in plain text.
fn long_flags(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.split(|c| !word(c))
        .filter(|found| found.starts_with("--") && found[2..].starts_with(|c: char| c.is_ascii_lowercase()))
        .map(str::to_owned)
        .collect()
}

/// A page as plain lines with what they are.
#[derive(Debug, PartialEq)]
enum Line {
    Section(String),
    Tag(String),
    Text(String),
}

fn plain(path: &Path) -> Vec<Line> {
    let source = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut lines = Vec::new();
    let mut tag = false;
    for line in source.lines().filter(|line| !line.starts_with(".\\\"")) {
        let (request, rest) = match line.strip_prefix('.') {
            Some(request) => request.split_once(' ').unwrap_or((request, "")),
            None => ("", line),
        };
        match request {
            "SH" | "SS" => lines.push(Line::Section(arguments(rest).join(" "))),
            "TP" | "TQ" => {
                tag = true;
                continue;
            }
            "BR" | "RB" | "BI" | "IB" | "IR" | "RI" => lines.push(text(tag, arguments(rest).concat())),
            "B" | "I" | "SM" => lines.push(text(tag, arguments(rest).join(" "))),
            "" => lines.push(text(tag, unescape(rest))),
            _ => continue,
        }
        tag = false;
    }
    lines
}

fn text(tag: bool, plain: String) -> Line {
    if tag { Line::Tag(plain) } else { Line::Text(plain) }
}

/// Arguments of a request: blanks separate, quotes hold together.
fn arguments(rest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = rest.trim_start();
    while !rest.is_empty() {
        let (one, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        found.push(unescape(one));
        rest = after.trim_start();
    }
    found
}

/// The characters that the pages write with a backslash.
fn unescape(text: &str) -> String {
    let mut plain = text.to_owned();
    for (escape, character) in [
        ("\\(dq", "\""),
        ("\\(aq", "'"),
        ("\\(sc", "§"),
        ("\\(em", "—"),
        ("\\(bu", "•"),
        ("\\-", "-"),
        ("\\&", ""),
        ("\\|", ""),
        ("\\fB", ""),
        ("\\fI", ""),
        ("\\fR", ""),
        ("\\fP", ""),
        ("\\e", "\\"),
    ] {
        plain = plain.replace(escape, character);
    }
    plain
}

/// A paragraph of the section COMMANDS: the subcommand's words, and the text of the whole paragraph.
fn command_paragraphs(lines: &[Line]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in lines {
        match line {
            Line::Section(title) => inside = title == "COMMANDS" || (inside && title.chars().any(char::is_lowercase)),
            Line::Tag(tag) if inside => {
                let is_word =
                    |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !word.starts_with('-');
                let words: Vec<&str> = tag.split_whitespace().take_while(is_word).collect();
                found.push((words.join(" "), tag.clone()));
            }
            Line::Text(text) if inside => {
                if let Some((_, paragraph)) = found.last_mut() {
                    paragraph.push('\n');
                    paragraph.push_str(text);
                }
            }
            Line::Tag(_) | Line::Text(_) => {}
        }
    }
    found
}

fn all_text(lines: &[Line]) -> String {
    let texts = lines.iter().map(|line| match line {
        Line::Section(text) | Line::Tag(text) | Line::Text(text) => text.as_str(),
    });
    texts.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_program_has_its_page() {
    for program in programs() {
        assert!(
            page_path(&program).exists(),
            "{program} has no page {}",
            page_path(&program).display()
        );
    }
}

#[test]
fn every_flag_and_subcommand_is_on_the_page_of_its_program() {
    let mut missing = Vec::new();
    for program in programs() {
        let lines = plain(&page_path(&program));
        let on_page = long_flags(&all_text(&lines));
        let paragraphs = command_paragraphs(&lines);
        let help = whole_help(&program);
        let global = &help[""].flags;
        for (path, help) in &help {
            missing.extend(
                help.flags
                    .difference(&on_page)
                    .map(|flag| format!("{program} {path}: {flag}")),
            );
            if path.is_empty() || !help.commands.is_empty() {
                continue;
            }
            let own: Vec<&String> = paragraphs
                .iter()
                .filter(|(words, _)| words == path)
                .map(|(_, text)| text)
                .collect();
            if own.is_empty() {
                missing.push(format!("{program} {path}: the subcommand"));
            }
            let told: BTreeSet<String> = own.iter().flat_map(|text| long_flags(text)).collect();
            missing.extend(
                help.flags
                    .iter()
                    .filter(|flag| !global.contains(*flag) && !told.contains(*flag) && !own.is_empty())
                    .map(|flag| format!("{program} {path}: {flag} in its own paragraph")),
            );
        }
    }
    assert!(missing.is_empty(), "not on the page:\n{}", missing.join("\n"));
}

#[test]
fn every_flag_and_subcommand_on_the_page_exists() {
    let mut gone = Vec::new();
    for program in programs() {
        let lines = plain(&page_path(&program));
        let help = whole_help(&program);
        let known: BTreeSet<&String> = help.values().flat_map(|help| &help.flags).collect();
        let on_page = long_flags(&all_text(&lines));
        gone.extend(
            on_page
                .iter()
                .filter(|flag| !known.contains(flag))
                .map(|flag| format!("{program}: {flag}")),
        );
        for (words, text) in command_paragraphs(&lines) {
            let Some(own) = help.get(&words) else {
                if !is_hidden(&program, &words) {
                    gone.push(format!("{program}: the subcommand {words:?}"));
                }
                continue;
            };
            // Only the tag: the text may well mention flags of others.
            let tag = text.lines().next().unwrap_or_default();
            let strange = long_flags(tag).into_iter().filter(|flag| !own.flags.contains(flag));
            gone.extend(strange.map(|flag| format!("{program} {words}: {flag}")));
        }
    }
    assert!(
        gone.is_empty(),
        "on the page, but not in the program:\n{}",
        gone.join("\n")
    );
}

/// Overviews and guides mention flags of all programs.
#[test]
fn guides_mention_only_flags_that_exist() {
    let programs = programs();
    let known: BTreeSet<String> = programs
        .iter()
        .flat_map(|program| whole_help(program).into_values().flat_map(|help| help.flags))
        .collect();
    let own: Vec<PathBuf> = programs.iter().map(|program| page_path(program)).collect();
    // Of scripts/office.sh, which sps-office(7) explains.
    let script: BTreeSet<String> = ["--plan", "--gateway", "--domain"].map(str::to_owned).into();
    for page in pages()
        .into_iter()
        .filter(|page| !own.iter().any(|own| own.file_name() == page.file_name()))
    {
        for flag in long_flags(&all_text(&plain(&page))) {
            assert!(
                known.contains(&flag) || script.contains(&flag),
                "{}: {flag} exists nowhere",
                page.display()
            );
        }
    }
}

/// Requests that the formatter would drop in silence, pages that are mentioned and do not exist, headings that are missing.
#[test]
fn pages_are_well_formed() {
    const REQUESTS: [&str; 26] = [
        "TH", "SH", "SS", "TP", "TQ", "IP", "P", "PP", "LP", "B", "I", "BR", "RB", "BI", "IB", "IR", "RI", "SM", "RS",
        "RE", "EX", "EE", "br", "in", "nf", "fi",
    ];
    let ours: BTreeSet<String> = pages()
        .iter()
        .filter_map(|page| page.file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    for page in pages() {
        let name = page.display();
        let source = fs::read_to_string(&page).expect("pages are UTF-8");
        for (number, line) in source
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.starts_with(".\\\""))
        {
            let at = format!("{name}:{}: {line}", number + 1);
            if let Some(request) = line.strip_prefix('.') {
                let request = request.split(' ').next().unwrap_or_default();
                assert!(REQUESTS.contains(&request), "unknown request: {at}");
                assert_eq!(line.matches('"').count() % 2, 0, "a quote is open: {at}");
            }
            assert!(
                !line.ends_with(' ') && !line.is_empty() || source_is_example(&source, number),
                "blank: {at}"
            );
            // A hyphen would be typeset, and nobody could paste the flag.
            assert!(
                !line.contains(" --") && !line.contains("[--"),
                "write \\-\\- for --: {at}"
            );
        }
        for heading in ["NAME", "DESCRIPTION", "SEE ALSO"] {
            assert!(
                source.contains(&format!("\n.SH {heading}\n")) || source.contains(&format!("\n.SH \"{heading}\"\n")),
                "{name} lacks {heading}"
            );
        }
        // .BR spsctl (1),
        let reference = |line: &str| {
            let words = arguments(line.strip_prefix(".BR ")?);
            let section = words.get(1)?.strip_prefix('(')?.chars().next()?;
            Some(format!("{}.{section}", words[0])).filter(|page| page.starts_with("sps"))
        };
        for mentioned in source.lines().filter_map(reference) {
            assert!(
                ours.contains(&mentioned),
                "{name} mentions {mentioned}, which does not exist"
            );
        }
    }
}

/// Whether line `number` stands between `.EX` and `.EE`, where blank lines are meant.
fn source_is_example(source: &str, number: usize) -> bool {
    let before = source.lines().take(number);
    before.filter(|line| matches!(*line, ".EX" | ".EE")).last() == Some(".EX")
}

/// The reader of this test itself: a tag with its flags, in the fonts that pages use.
#[test]
fn a_page_is_read_as_it_is_meant() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("x.1");
    let source = ".SH COMMANDS\n.TP\n.BR \"registration add\" \" AOR \" \"[\\-\\-q Q]\"\nAdds \\fB\\-\\-json\\fR.\n.SH FILES\n.TP\n.I x\n";
    fs::write(&page, source).expect("a page");
    let lines = plain(&page);
    assert_eq!(lines[1], Line::Tag("registration add AOR [--q Q]".into()));
    let paragraphs = command_paragraphs(&lines);
    assert_eq!(
        paragraphs,
        [(
            "registration add".into(),
            "registration add AOR [--q Q]\nAdds --json.".into()
        )]
    );
    assert_eq!(
        long_flags(&paragraphs[0].1),
        ["--json".to_owned(), "--q".to_owned()].into()
    );
}

/// Names in the JSON of a value, without those below `counters`, which are names of figures.
fn json_names(value: &serde_json::Value, found: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                found.insert(name.clone());
                if name != "counters" {
                    json_names(value, found);
                }
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| json_names(value, found)),
        _ => {}
    }
}

/// Scripts rely on the names that `--json` prints: spsctl(1) lists each.
#[test]
fn every_name_in_the_json_of_spsctl_is_on_its_page() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        sps.spsctl(&[
            "registration",
            "add",
            &sps.uri("bob"),
            "sip:bob@127.0.0.1:5099",
            "--permanent",
        ])
        .ok();
        let mut names = BTreeSet::new();
        for arguments in [&["--json", "status"][..], &["--json", "registration", "list"]] {
            let said = sps.spsctl(arguments).ok().stdout;
            json_names(&serde_json::from_str(&said).expect("JSON"), &mut names);
        }
        assert!(names.contains("daemons") && names.contains("expires_in_s"), "{names:?}");
        let page = all_text(&plain(&page_path("spsctl")));
        let words: BTreeSet<&str> = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
        let missing: Vec<&String> = names.iter().filter(|name| !words.contains(name.as_str())).collect();
        assert!(missing.is_empty(), "not in spsctl(1): {missing:?}");
    });
}

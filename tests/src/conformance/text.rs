//! The RFCs' own texts, where Debian's `doc-rfc` (or another copy in the same places) is installed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What demands something, longest first where one begins another. Permissions (MAY, OPTIONAL) are not counted.
pub const KEYWORDS: [&str; 9] = [
    "MUST NOT",
    "MUST",
    "SHALL NOT",
    "SHALL",
    "SHOULD NOT",
    "SHOULD",
    "REQUIRED",
    "NOT RECOMMENDED",
    "RECOMMENDED",
];

/// Where the texts lie: one folder below, by status.
const FOLDER: &str = "/usr/share/doc/RFC";

/// A keyword of the text and the sentence around it.
#[derive(Debug, PartialEq, Eq)]
pub struct Keyword {
    /// One of [`KEYWORDS`].
    pub level: &'static str,
    /// From the sentence's beginning to its end, on one line.
    pub sentence: String,
}

/// The text of an RFC, if it is installed.
pub fn read(rfc: u32) -> Option<String> {
    let path = find(rfc)?;
    if path.extension().is_some_and(|extension| extension == "gz") {
        let output = Command::new("gzip").arg("-dc").arg(path).output().ok()?;
        return output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned());
    }
    fs::read(path)
        .ok()
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn find(rfc: u32) -> Option<PathBuf> {
    let folders = fs::read_dir(Path::new(FOLDER)).ok()?;
    let mut files: Vec<PathBuf> = folders
        .filter_map(|folder| Some(folder.ok()?.path()))
        .flat_map(|folder| [format!("rfc{rfc}.txt.gz"), format!("rfc{rfc}.txt")].map(|name| folder.join(name)))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files.into_iter().next()
}

/// The keywords of every section, in the order of the text.
pub fn keywords(text: &str) -> BTreeMap<String, Vec<Keyword>> {
    sections(text)
        .into_iter()
        .map(|(section, body)| (section, keywords_in(&body)))
        .collect()
}

/// Sections by number, each as one line. Page feet and heads are left out.
fn sections(text: &str) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        let line = line.trim_end();
        let is_page_edge =
            line.ends_with(']') && line.contains("[Page ") || line.starts_with("RFC ") || line == "\u{c}";
        if is_page_edge {
            continue;
        }
        if let Some(section) = heading(line) {
            found.entry(section.clone()).or_default();
            current = Some(section);
        } else if line.starts_with(|c: char| c.is_ascii_alphabetic()) {
            // An unnumbered heading: appendices, references, addresses.
            current = None;
        } else if let Some(body) = current.as_ref().and_then(|section| found.get_mut(section)) {
            for word in line.split_whitespace() {
                body.push(' ');
                body.push_str(word);
            }
        }
    }
    found
}

/// `16.3 Request Validation`, `4.4.1.  Keep-Alive with CRLF`, but not a line of the table of contents.
fn heading(line: &str) -> Option<String> {
    let (number, title) = line.split_once(' ')?;
    let number = number.strip_suffix('.').unwrap_or(number);
    let is_number = |part: &str| !part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
    let is_heading = number.split('.').all(is_number)
        && !title.contains("....")
        && !title.contains(". . .")
        && title
            .trim_start()
            .starts_with(|c: char| c.is_alphanumeric() || c == '"');
    is_heading.then(|| number.to_owned())
}

fn keywords_in(body: &str) -> Vec<Keyword> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let rest = &body[at..];
        let begins_word = !body[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
        let keyword = KEYWORDS.into_iter().find(|keyword| {
            begins_word
                && rest.starts_with(keyword)
                && !rest[keyword.len()..].starts_with(|c: char| c.is_ascii_alphanumeric())
        });
        match keyword {
            Some(level) => {
                found.push(Keyword {
                    level,
                    sentence: sentence_around(body, at),
                });
                at += level.len();
            }
            None => at += rest.chars().next().map_or(1, char::len_utf8),
        }
    }
    found
}

fn sentence_around(body: &str, at: usize) -> String {
    let from = body[..at].rfind(". ").map_or(0, |end| end + 2);
    let to = body[at..].find(". ").map_or(body.len(), |end| at + end + 1);
    body[from..to].trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
   1.  Introduction . . . . . . . . . . .  2
1 Introduction

   You MUST
   NOT go. You
SHOULD

Author, et. al.             Standards Track                     [Page 1]
\u{c}
RFC 9999            Title            June 2002

   stay.  MUSTARD is NOT RECOMMENDED, MAY
   be REQUIRED.

1.2.  More of it
   MUST.

Appendix A.  Nothing
   MUST.
";

    #[test]
    fn keywords_are_counted_across_lines_and_pages() {
        let text = TEXT.replace("\nSHOULD\n", "\n   SHOULD\n");
        let found = keywords(&text);
        let levels = |section: &str| found[section].iter().map(|keyword| keyword.level).collect::<Vec<_>>();
        assert_eq!(levels("1"), ["MUST NOT", "SHOULD", "NOT RECOMMENDED", "REQUIRED"]);
        assert_eq!(levels("1.2"), ["MUST"]);
        assert_eq!(found.len(), 2);
        assert_eq!(found["1"][1].sentence, "You SHOULD stay.");
    }
}

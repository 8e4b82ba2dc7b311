//! What is wrong with a file, where exactly, and what was expected instead.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Everything found wrong with one configuration file, in the order of the file. Printed with excerpts and carets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    file: PathBuf,
    /// True when the file could not be read at all.
    unreadable: bool,
    list: Vec<Problem>,
}

/// One thing wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// From 1; 0 when the problem has no place in the file (the file cannot be read).
    pub line: usize,
    /// From 1, in characters; 0 like `line`.
    pub column: usize,
    /// What is wrong and what was expected.
    pub text: String,
    /// The line of the file and the caret under it; empty when there is no place.
    pub excerpt: String,
    /// True for what is only worth a word: the configuration is used all the same.
    pub warning: bool,
}

impl Problems {
    /// The problems one by one, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True when nothing was found.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The file they are about.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// True when the file could not be read at all (exit code 66 rather than 78).
    pub fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    /// The one problem of a file that cannot be read.
    pub(crate) fn unreadable(file: &Path, text: String) -> Self {
        let problem = Problem {
            line: 0,
            column: 0,
            text,
            excerpt: String::new(),
            warning: false,
        };
        Self {
            file: file.to_path_buf(),
            unreadable: true,
            list: vec![problem],
        }
    }

    /// Puts them in the order of the file.
    pub(crate) fn new(file: &Path, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| (problem.line, problem.column));
        Self {
            file: file.to_path_buf(),
            unreadable: false,
            list,
        }
    }
}

impl fmt::Display for Problems {
    /// `FILE:LINE:COLUMN: text`, the line and the caret, for each; without a final newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.list.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:", self.file.display())?;
            if problem.line > 0 {
                write!(f, "{}:{}:", problem.line, problem.column)?;
            }
            f.write_str(if problem.warning { " warning: " } else { " " })?;
            f.write_str(&problem.text)?;
            if !problem.excerpt.is_empty() {
                write!(f, "\n{}", problem.excerpt)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Problem {
    /// A problem with the bytes `span` of `source`. A span that lies outside is moved to its end.
    pub(crate) fn at(source: &str, span: Range<usize>, text: String, warning: bool) -> Self {
        let start = floor_char(source, span.start);
        let line_start = source[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = source[start..].find('\n').map_or(source.len(), |i| start + i);
        let end = floor_char(source, span.end).clamp(start, line_end.max(start));
        let line = source[..start].matches('\n').count() + 1;
        let before = source[line_start..start].chars().count();
        let marked = source[start..end].chars().count().max(1);
        Self {
            line,
            column: before + 1,
            text,
            excerpt: excerpt(line, &source[line_start..line_end], before, marked),
            warning,
        }
    }
}

/// The nearest character boundary at or before `at`.
fn floor_char(source: &str, at: usize) -> usize {
    (0..=at.min(source.len()))
        .rev()
        .find(|i| source.is_char_boundary(*i))
        .unwrap_or(0)
}

/// Characters of a line that are shown; a place further to the right moves the window.
const EXCERPT_LEN: usize = 100;

/// The line with its number, and carets under `marked` characters after the first `before`.
fn excerpt(line: usize, text: &str, before: usize, marked: usize) -> String {
    let cut = if before >= EXCERPT_LEN {
        before - EXCERPT_LEN / 2
    } else {
        0
    };
    let shown: String = text
        .chars()
        .skip(cut)
        .take(EXCERPT_LEN)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let before = before - cut;
    let marked = marked.min(EXCERPT_LEN - before);
    let number = line.to_string();
    let gap = " ".repeat(number.len());
    format!(
        "{gap} |\n{number} | {shown}\n{gap} | {}{}",
        " ".repeat(before),
        "^".repeat(marked),
        shown = shown.trim_end()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_points_at_its_characters() {
        let source = "[a]\nwürde = 70000 # x\n";
        let at = source.find("70000").unwrap();
        let problem = Problem::at(source, at..at + 5, "too large".into(), false);
        assert_eq!((problem.line, problem.column), (2, 9));
        let printed = Problems::new(Path::new("f.toml"), vec![problem]).to_string();
        assert_eq!(
            printed,
            "f.toml:2:9: too large\n  |\n2 | würde = 70000 # x\n  |         ^^^^^"
        );
    }

    #[test]
    fn a_span_that_is_no_span_still_gives_a_place() {
        let source = "é";
        for (start, end) in [(0, 9), (1, 1), (7, 3), (2, 2)] {
            let span = Range { start, end };
            let problem = Problem::at(source, span, String::new(), true);
            assert_eq!(problem.line, 1);
            assert!(problem.excerpt.contains('^'));
        }
        assert_eq!(Problem::at("", 0..0, String::new(), true).column, 1);
    }

    #[test]
    fn a_place_far_to_the_right_is_shown_and_control_characters_are_not() {
        let source = format!("{}\u{1b}HERE", "x".repeat(500));
        let problem = Problem::at(&source, 501..505, String::new(), false);
        assert!(problem.excerpt.contains("HERE"), "{}", problem.excerpt);
        assert!(!problem.excerpt.contains('\u{1b}'));
        let lines: Vec<&str> = problem.excerpt.lines().collect();
        assert_eq!(lines[1].find("HERE"), lines[2].find("^^^^"));
    }
}

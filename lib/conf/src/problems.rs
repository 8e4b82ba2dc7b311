//! What is wrong with a file, where exactly, and what was expected instead.

use std::fmt;
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
}

impl fmt::Display for Problems {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}

impl std::error::Error for Problems {}

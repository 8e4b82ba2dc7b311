//! One table of the file, read key by key: each key is asked for once, by name and with what is expected; what nobody asked
//! for is unknown. A wrong value is noted and the default goes on in its place, so that one reading finds everything.

use std::ops::{Range, RangeInclusive};

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use crate::Problem;

/// What is noted while a file is read.
pub(crate) struct Notes<'s> {
    source: &'s str,
    pub problems: Vec<Problem>,
    /// Every key asked for, as `section.key`, once.
    pub keys: Vec<String>,
}

impl<'s> Notes<'s> {
    pub fn new(source: &'s str) -> Self {
        Self {
            source,
            problems: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// Something that keeps the configuration from being used.
    pub fn problem(&mut self, span: Range<usize>, text: impl Into<String>) {
        self.problems.push(Problem::at(self.source, span, text.into(), false));
    }

    /// Something that is only worth a word.
    pub fn warning(&mut self, span: Range<usize>, text: impl Into<String>) {
        self.problems.push(Problem::at(self.source, span, text.into(), true));
    }

    /// The number of the line that `span` begins in.
    pub fn line(&self, span: &Range<usize>) -> usize {
        Problem::at(self.source, span.clone(), String::new(), false).line
    }
}

/// A table on its way through the reader.
pub(crate) struct Section<'i> {
    /// As the operator writes it: `[server]`, `[[listen]]`.
    title: &'static str,
    /// For [`Notes::keys`].
    name: &'static str,
    pub table: DeTable<'i>,
    /// The heading; where values that are not there are complained about.
    pub span: Range<usize>,
    /// Keys that are known; what is left in `table` at the end and not among them is complained about.
    pub asked: Vec<&'static str>,
}

impl<'i> Section<'i> {
    pub fn new(name: &'static str, title: &'static str, table: DeTable<'i>, span: Range<usize>) -> Self {
        Self {
            title,
            name,
            table,
            span,
            asked: Vec::new(),
        }
    }

    /// Whether the key is there and not yet taken.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The value as it stands there.
    fn take(&mut self, notes: &mut Notes, key: &'static str) -> Option<Spanned<DeValue<'i>>> {
        self.asked.push(key);
        let full = format!("{}.{key}", self.name);
        if !notes.keys.contains(&full) {
            notes.keys.push(full);
        }
        let (_, value) = self.table.remove_entry(key)?;
        Some(value)
    }

    /// `key` is there but is not what it should be.
    fn wrong(&self, notes: &mut Notes, key: &str, value: &Spanned<DeValue>, expected: &str) {
        let text = format!(
            "{} {key} is {}, expected {expected}",
            self.title,
            describe(value.get_ref())
        );
        notes.problem(value.span(), text);
    }

    pub fn boolean(&mut self, notes: &mut Notes, key: &'static str, default: bool) -> Spanned<bool> {
        match self.take(notes, key) {
            None => Spanned::new(self.span.clone(), default),
            Some(value) => {
                let found = value.get_ref().as_bool().unwrap_or_else(|| {
                    self.wrong(notes, key, &value, "true or false");
                    default
                });
                Spanned::new(value.span(), found)
            }
        }
    }

    /// A whole number within `range`. `unit` is for the message: "seconds", or empty.
    pub fn integer(
        &mut self,
        notes: &mut Notes,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        unit: &str,
    ) -> Spanned<u64> {
        let Some(value) = self.take(notes, key) else {
            return Spanned::new(self.span.clone(), default);
        };
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        match number.filter(|n| range.contains(n)) {
            Some(number) => Spanned::new(value.span(), number),
            None => {
                let unit = if unit.is_empty() {
                    String::new()
                } else {
                    format!(" {unit}")
                };
                let expected = format!("a whole number from {} to {}{unit}", range.start(), range.end());
                self.wrong(notes, key, &value, &expected);
                // The default goes on, so that later checks do not complain about the same value again.
                Spanned::new(value.span(), default)
            }
        }
    }

    /// One of some words.
    pub fn choice<T: Copy>(
        &mut self,
        notes: &mut Notes,
        key: &'static str,
        default: Option<T>,
        words: &[(&str, T)],
    ) -> Option<T> {
        let expected = || {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            match words.split_last() {
                Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
                _ => words.concat(),
            }
        };
        let Some(value) = self.take(notes, key) else {
            if default.is_none() {
                self.missing(notes, key, &expected());
            }
            return default;
        };
        let found = value
            .get_ref()
            .as_str()
            .and_then(|text| words.iter().find(|(word, _)| *word == text));
        match found {
            Some((_, choice)) => Some(*choice),
            None => {
                self.wrong(notes, key, &value, &expected());
                default
            }
        }
    }

    /// As [`Section::choice`], of a key that may be absent and has no default.
    pub fn optional_choice<T: Copy>(&mut self, notes: &mut Notes, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        if self.table.contains_key(key) {
            self.choice(notes, key, None, words)
        } else {
            self.take(notes, key);
            None
        }
    }

    /// A text that `parse` makes a value of; `None` when it is not there or wrong (which is noted).
    pub fn text<T>(
        &mut self,
        notes: &mut Notes,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Spanned<T>> {
        let value = self.take(notes, key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong(notes, key, &value, &format!("{expected} in quotes"));
            return None;
        };
        match parse(text) {
            Ok(found) => Some(Spanned::new(value.span(), found)),
            Err(why) => {
                let why = if why.is_empty() { why } else { format!(" ({why})") };
                self.wrong(notes, key, &value, &format!("{expected}{why}"));
                None
            }
        }
    }

    /// As [`Section::text`], and noted when it is not there.
    pub fn required_text<T>(
        &mut self,
        notes: &mut Notes,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Spanned<T>> {
        if !self.table.contains_key(key) {
            self.missing(notes, key, expected);
        }
        self.text(notes, key, expected, parse)
    }

    /// A list of texts; elements that are wrong are noted and left out.
    pub fn texts<T>(
        &mut self,
        notes: &mut Notes,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<Spanned<T>> {
        let Some(value) = self.take(notes, key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(
                notes,
                key,
                &value,
                &format!("a list, each element {expected} in quotes: [\"...\", \"...\"]"),
            );
            return Vec::new();
        };
        let mut found = Vec::new();
        for element in array.iter() {
            match element.get_ref().as_str().map(&parse) {
                Some(Ok(good)) => found.push(Spanned::new(element.span(), good)),
                Some(Err(why)) if !why.is_empty() => self.wrong(notes, key, element, &format!("{expected} ({why})")),
                _ => self.wrong(notes, key, element, &format!("{expected} in quotes")),
            }
        }
        found
    }

    fn missing(&self, notes: &mut Notes, key: &str, expected: &str) {
        notes.problem(
            self.span.clone(),
            format!("{} has no {key}, expected {expected}", self.title),
        );
    }

    /// What is left over nobody knows.
    pub fn finish(self, notes: &mut Notes) {
        for (key, _) in self.table {
            let cure = match nearest(key.get_ref(), &self.asked) {
                Some(known) => format!("did you mean {known}?"),
                None => format!("expected one of: {}", self.asked.join(", ")),
            };
            notes.problem(
                key.span(),
                format!("{} has no key {:?}; {cure}", self.title, key.get_ref()),
            );
        }
    }
}

/// The value in a message.
fn describe(value: &DeValue) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// The known word that `word` was probably meant to be.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let close = |known: &&'k str| (distance(word, known), *known);
    let (steps, best) = known.iter().map(close).min()?;
    // A third of the letters wrong is another word; a key without its unit is the commonest slip.
    let without_unit = best.strip_prefix(word).is_some_and(|rest| rest.starts_with('_'));
    (without_unit || steps * 3 <= best.len()).then_some(best)
}

/// Letters to change, add or drop to come from `a` to `b` (Levenshtein). Long words are cut: a key is short.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(MAX_WORD_LEN).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(MAX_WORD_LEN).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

const MAX_WORD_LEN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_another_word_is_not() {
        let known = ["t1_ms", "timer_c_s", "record_route", "fork"];
        assert_eq!(nearest("record_routes", &known), Some("record_route"));
        assert_eq!(nearest("timer_c", &known), Some("timer_c_s"));
        assert_eq!(nearest("recordroute", &known), Some("record_route"));
        assert_eq!(nearest("bananas", &known), None);
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn distances_are_counted_right() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}

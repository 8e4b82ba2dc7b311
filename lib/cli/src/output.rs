//! Printing: results to stdout, words to stderr.

use std::borrow::Cow;
use std::io::Write;

use serde::Serialize;

use crate::{Exit, Failure, Table};

/// How this command prints its results.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    /// JSON, or for people.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// True when the results are wanted as JSON.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Prints one value: as JSON (indented, one final newline) when asked for, else as the table that `table` makes of it.
    ///
    /// # Errors
    /// When stdout cannot be written; a reader that has gone away (`| head`) is no error.
    pub fn show<T: Serialize + ?Sized>(self, value: &T, table: impl FnOnce(&T) -> Table) -> Result<(), Failure> {
        if self.json {
            self.json(value)
        } else {
            write_stdout(table(value).to_string().as_bytes())
        }
    }

    /// Prints JSON whatever was asked for.
    ///
    /// # Errors
    /// As [`Output::show`].
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Failure> {
        let mut text = serde_json::to_vec_pretty(value)
            .map_err(|error| Failure::new(Exit::Software, format!("print the result as JSON: {error}")))?;
        text.push(b'\n');
        write_stdout(&text)
    }

    /// Prints plain text to stdout: CSV, TOML and the like. The text is written as it is.
    ///
    /// # Errors
    /// As [`Output::show`].
    pub fn text(self, text: &str) -> Result<(), Failure> {
        write_stdout(text.as_bytes())
    }

    /// Says something to the operator, on stderr.
    pub fn note(self, text: &str) {
        // Nobody reads: nothing to be done about it.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

/// Writes to stdout; a reader that has gone away is no error.
pub(crate) fn write_stdout(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Io, format!("write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// `text` without control characters, so that nothing a stranger sent can move the cursor or colour the screen.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        Cow::Owned(
            text.chars()
                .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
                .collect(),
        )
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_visible() {
        assert!(matches!(printable("plain ü"), Cow::Borrowed("plain ü")));
        assert_eq!(printable("a\u{7}b\u{1b}c\u{85}"), "a\u{fffd}b\u{fffd}c\u{fffd}");
    }
}

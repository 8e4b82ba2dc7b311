//! Tables for people.

use std::fmt;

use tabled::builder::Builder;
use tabled::settings::object::{Columns, Rows};
use tabled::settings::{Alignment, Modify, Padding, Style};

use crate::printable;

/// A table with a heading. Cells are stripped of control characters. Without borders, so that `awk` likes it too.
#[derive(Debug, Clone)]
pub struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Columns that hold figures.
    right: Vec<usize>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new<S: Into<String>>(heading: impl IntoIterator<Item = S>) -> Self {
        Self {
            heading: heading.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
            right: Vec::new(),
        }
    }

    /// Columns (from 0) whose cells stand at the right edge: figures.
    #[must_use]
    pub fn right(mut self, columns: impl IntoIterator<Item = usize>) -> Self {
        self.right.extend(columns);
        self
    }

    /// Adds a row; missing cells are empty, cells beyond the heading are dropped. An empty cell is shown as `-`, so that
    /// columns can be counted.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        row.resize(self.heading.len(), String::new());
        self.rows.push(row);
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for Table {
    /// All lines, each with its newline; nothing at all without columns.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.heading.is_empty() {
            return Ok(());
        }
        let mut builder = Builder::with_capacity(self.rows.len() + 1, self.heading.len());
        builder.push_record(self.heading.iter().map(|name| name.to_uppercase()));
        for row in &self.rows {
            builder.push_record(row.iter().map(|cell| match cell.as_str() {
                "" => "-".into(),
                cell => printable(cell),
            }));
        }
        let mut table = builder.build();
        table.with(Style::empty()).with(Padding::new(0, COLUMN_GAP, 0, 0));
        for column in self.right.iter().filter(|column| **column < self.heading.len()) {
            table.with(Modify::new(Columns::one(*column)).with(Alignment::right()));
        }
        table.with(Modify::new(Rows::first()).with(Alignment::left()));
        for column in self.right.iter().filter(|column| **column < self.heading.len()) {
            table.with(Modify::new((0, *column)).with(Alignment::right()));
        }
        for line in table.to_string().lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Blanks between columns.
const COLUMN_GAP: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_figures_stand_right() {
        let mut table = Table::new(["name", "pid", "state"]).right([1]);
        table.row(["sps-proxy", "7", "ready"]);
        table.row(["sps-registrar", "12345", ""]);
        table.row(["x"]);
        let shown = table.to_string();
        let expected = "\
NAME             PID  STATE
sps-proxy          7  ready
sps-registrar  12345  -
x                  -  -
";
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_a_stranger_sent_cannot_colour_the_screen() {
        let mut table = Table::new(["user agent"]);
        table.row(["\u{1b}[31mred\r\nnext\u{9b}"]);
        let shown = table.to_string();
        assert_eq!(shown.lines().count(), 2);
        assert!(shown.chars().all(|c| !c.is_control() || c == '\n'), "{shown:?}");
    }

    #[test]
    fn a_table_without_rows_is_its_heading() {
        assert_eq!(Table::new(["a", "b"]).to_string(), "A  B\n");
        assert_eq!(Table::new(Vec::<String>::new()).to_string(), "");
    }
}

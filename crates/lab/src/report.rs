//! How figures are shown: as a table, or as one JSON object for programs.

use anyhow::Result;
use serde::Serialize;
use symphony_client::console::print_line;
use symphony_client::table::table;

/// A benchmark's figures.
pub(crate) trait Report: Serialize {
    /// The column titles; the first column is text, the others are numbers.
    fn columns(&self) -> Vec<String>;
    fn rows(&self) -> Vec<Vec<String>>;
    /// What is printed after the table, a line each.
    fn notes(&self) -> Vec<String>;

    /// Prints the figures.
    ///
    /// # Errors
    /// They cannot be printed.
    fn show(&self, as_json: bool) -> Result<()> {
        if as_json {
            return print_line(serde_json::to_string_pretty(self)?);
        }
        print_line(table(self.columns(), self.rows()))?;
        self.notes().iter().try_for_each(print_line)
    }
}

//! How figures are shown: as a table, or as one JSON object for programs.

use crate::console::print_line;
use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

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

/// A table whose first column is text and whose others are numbers.
pub(crate) fn table(columns: Vec<String>, rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(columns).add_rows(rows);
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// The column titles.
pub(crate) fn titles<const N: usize>(titles: [&str; N]) -> Vec<String> {
    titles.map(str::to_owned).to_vec()
}

/// A share as percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2}", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_can_be_pasted_into_a_document() {
        let rows = vec![vec!["a".to_owned(), percent(0.01234)]];
        let text = table(titles(["name", "bad %"]), rows).to_string();
        assert_eq!(text, "| name | bad % |\n|------|-------|\n| a    |  1.23 |");
    }
}

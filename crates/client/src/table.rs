//! Tables on a terminal, in a form that can be pasted into a document.

use comfy_table::{CellAlignment, Table, presets};

/// A table whose first column is text and whose others are numbers.
#[must_use]
pub fn table(columns: Vec<String>, rows: Vec<Vec<String>>) -> Table {
    aligned(columns, rows, 1)
}

/// A table whose first columns, `texts` of them, are text and whose others are numbers.
#[must_use]
pub fn aligned(columns: Vec<String>, rows: Vec<Vec<String>>, texts: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(columns).add_rows(rows);
    table
        .column_iter_mut()
        .skip(texts)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// The column titles.
#[must_use]
pub fn titles<const N: usize>(titles: [&str; N]) -> Vec<String> {
    titles.map(str::to_owned).to_vec()
}

/// A share as percent.
#[must_use]
pub fn percent(share: f64) -> String {
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

//! Figures as a table for people, or as JSON or CSV for programs.

use anyhow::Result;
use serde_json::{Map, Value, json};
use symphony_client::console::print;
use symphony_client::table::table;

/// How figures are printed.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct FormatArgs {
    /// Print JSON instead of tables.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV instead of tables; a command with several tables separates them by an empty line.
    #[arg(long)]
    csv: bool,
}

/// One table: the first column is text, the others usually numbers.
#[derive(Clone, Debug)]
pub(super) struct Sheet {
    /// Its key in the JSON output.
    pub(super) name: &'static str,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// One figure.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    Text(String),
    Count(u64),
    /// A number, and how many decimals of it people want to see.
    Number(f64, usize),
    Nothing,
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Count(count) => count.to_string(),
            Cell::Number(number, decimals) => format!("{number:.decimals$}"),
            Cell::Nothing => String::new(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Cell::Text(text) => json!(text),
            Cell::Count(count) => json!(count),
            Cell::Number(number, _) => json!(number),
            Cell::Nothing => Value::Null,
        }
    }

    fn csv(&self) -> String {
        match self {
            Cell::Number(number, _) => number.to_string(),
            other => quoted(&other.text()),
        }
    }
}

impl Sheet {
    pub(super) fn new<const N: usize>(name: &'static str, columns: [&str; N]) -> Sheet {
        Sheet { name, columns: columns.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    fn json(&self) -> Value {
        let row = |row: &Vec<Cell>| {
            let cells = self.columns.iter().cloned().zip(row.iter().map(Cell::json));
            Value::Object(cells.collect::<Map<_, _>>())
        };
        self.rows.iter().map(row).collect()
    }

    /// The table as CSV, with a header.
    pub(super) fn csv(&self) -> String {
        let line = |cells: Vec<String>| cells.join(",") + "\n";
        let header = line(self.columns.iter().map(|column| quoted(column)).collect());
        let rows = self.rows.iter().map(|row| line(row.iter().map(Cell::csv).collect()));
        std::iter::once(header).chain(rows).collect()
    }

    fn table(&self) -> String {
        let texts = |row: &Vec<Cell>| row.iter().map(Cell::text).collect();
        table(self.columns.clone(), self.rows.iter().map(texts).collect()).to_string()
    }
}

/// Prints the tables of one command.
///
/// # Errors
/// They cannot be written.
pub(super) fn show(sheets: &[Sheet], format: FormatArgs) -> Result<()> {
    if format.json {
        let all = sheets.iter().map(|sheet| (sheet.name.to_owned(), sheet.json()));
        let text = serde_json::to_string_pretty(&Value::Object(all.collect()))?;
        return print(&(text + "\n"));
    }
    let text = |sheet: &Sheet| if format.csv { sheet.csv() } else { sheet.table() + "\n" };
    print(&sheets.iter().map(text).collect::<Vec<_>>().join("\n"))
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_every_digit_and_people_a_few() {
        let mut sheet = Sheet::new("models", ["model", "ms", "n"]);
        let text = Cell::Text("a, \"b\"".to_owned());
        sheet.rows.push(vec![text, Cell::Number(1.25, 1), Cell::Nothing]);
        assert_eq!(sheet.csv(), "model,ms,n\n\"a, \"\"b\"\"\",1.25,\n");
        assert_eq!(sheet.json(), json!([{ "model": "a, \"b\"", "ms": 1.25, "n": null }]));
        assert!(sheet.table().contains("1.2"), "{}", sheet.table());
    }
}

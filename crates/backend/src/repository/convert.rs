//! The `model.toml` that says what a model's `config.pbtxt` says.

use super::config::Inherited;
use super::directory::ModelDirectory;
use super::error::ConfigError;
use super::triton::TritonFile;
use crate::view::Reshapes;
use std::fmt::Write as _;
use toml::{Table, Value};

impl ModelDirectory {
    /// The text of a `model.toml` that says the same as its two files of settings together, with
    /// comments for what has no counterpart. `None` when it has no `config.pbtxt`, or the
    /// `model.toml` there says it all.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn converted(&self) -> Result<Option<String>, ConfigError> {
        let settings = self.settings()?;
        let Some(file) = &settings.triton else { return Ok(None) };
        let there: Table = settings.toml.parse()?;
        let lines = lines(&file.inherited(&self.name)?, &there);
        if lines.is_empty() && !settings.toml.text().is_empty() {
            return Ok(None);
        }
        Ok(Some(text(file, &lines, settings.toml.text())))
    }
}

fn text(file: &TritonFile, lines: &[String], below: &str) -> String {
    let mut text =
        String::from("# From config.pbtxt. docs/triton.md says what became of each key.\n");
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
    for note in file.notes() {
        let _ = writeln!(text, "# {}: {}", note.key, note.instead);
    }
    if !below.is_empty() {
        let _ = write!(text, "\n{below}");
    }
    text
}

/// The keys, a line each, that are not there yet.
fn lines(terms: &Inherited, there: &Table) -> Vec<String> {
    let text = |value: &str| Value::from(value).to_string();
    let keys = [
        ("versions", terms.versions.as_ref().map(ToString::to_string)),
        ("file", terms.file.as_deref().map(text)),
        ("max_batch", terms.max_batch.map(|rows| rows.max(1).to_string())),
        ("queue_timeout_ms", terms.queue_timeout.map(|span| span.as_millis_f64().to_string())),
        ("priority", terms.class.map(|class| text(class.name()))),
        ("queue_max", terms.queue_max.map(|most| most.to_string())),
        ("custom_ops", terms.custom_ops.as_ref().map(|path| text(&path.to_string_lossy()))),
        ("shape", table(&terms.shapes)),
        ("reshape", table(&terms.reshape)),
    ];
    let wins = |key: &str| {
        // An objective stands in the place of a time-out.
        there.contains_key(key) || (key == "queue_timeout_ms" && there.contains_key("slo_ms"))
    };
    let set = keys.into_iter().filter_map(|(key, value)| Some((key, value?)));
    set.filter(|(key, _)| !wins(key)).map(|(key, value)| format!("{key} = {value}")).collect()
}

/// A table on one line; `None` when it is empty.
fn table(shapes: &Reshapes) -> Option<String> {
    let number =
        |size: &Option<usize>| size.and_then(|size| i64::try_from(size).ok()).unwrap_or(-1);
    let dims = |dims: &Vec<Option<usize>>| Value::from(dims.iter().map(number).collect::<Vec<_>>());
    let table: Table = shapes.iter().map(|(name, row)| (name.clone(), dims(row))).collect();
    (!table.is_empty()).then(|| Value::from(table).to_string())
}

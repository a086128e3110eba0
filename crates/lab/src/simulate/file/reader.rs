//! Shared by the readers of every section of a scenario file: errors that name the line, and bounded
//! numbers.

use crate::simulate::input::BadInput;
use crate::simulate::limits::SECONDS_MAX;
use anyhow::Result;
use std::ops::Range;
use std::path::Path;
use symphony_backend::repository::TomlSource;
use symphony_core::Span;
use toml::Spanned;

/// The scenario text and the folder that paths in it start from.
pub(super) struct Reader<'a> {
    pub(super) source: &'a TomlSource,
    pub(super) folder: &'a Path,
}

impl Reader<'_> {
    pub(super) fn refuse<T>(&self, at: Range<usize>, problem: String) -> Result<T> {
        Err(BadInput::error(self.source.refuse(Some(at), problem)))
    }

    pub(super) fn number(
        &self,
        key: &str,
        value: &Spanned<f64>,
        low: f64,
        high: f64,
    ) -> Result<f64> {
        let &number = value.get_ref();
        if (low..=high).contains(&number) {
            return Ok(number);
        }
        self.refuse(value.span(), format!("{key} = {number}: give a number from {low} to {high}"))
    }

    pub(super) fn count(&self, key: &str, value: &Spanned<u32>, high: u32) -> Result<u32> {
        let &number = value.get_ref();
        if (1..=high).contains(&number) {
            return Ok(number);
        }
        self.refuse(value.span(), format!("{key} = {number}: give a whole number from 1 to {high}"))
    }

    pub(super) fn span_or(
        &self,
        key: &str,
        value: Option<&Spanned<f64>>,
        usual: f64,
    ) -> Result<Span> {
        let low = if key == "warmup_s" { 0.0 } else { 0.001 };
        let seconds = value.map_or(Ok(usual), |value| self.number(key, value, low, SECONDS_MAX))?;
        Ok(Span::from_millis_f64(seconds * 1e3))
    }
}

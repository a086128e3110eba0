//! `model.toml` as it is written.

use super::super::error::ConfigError;
use super::super::source::TomlSource;
use super::graph::GraphKeys;
use super::tensors::TensorTable;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// Largest batch, in rows, where `model.toml` says nothing.
pub const MAX_BATCH_DEFAULT: u32 = 32;
/// The largest `max_batch` there can be.
pub const MAX_BATCH_LIMIT: u32 = 4096;
/// Bound on a model's queued requests where `model.toml` says nothing.
pub const QUEUE_MAX_DEFAULT: u32 = 10_000;
pub(super) const QUEUE_MAX_LIMIT: u32 = 10_000_000;
pub(super) const DAY_MS: f64 = 86_400_000.0;
/// The file as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) versions: Option<Spanned<toml::Value>>,
    pub(super) file: Option<Spanned<String>>,
    pub(super) slo_ms: Option<Spanned<f64>>,
    pub(super) queue_timeout_ms: Option<Spanned<f64>>,
    pub(super) max_batch: Option<Spanned<i64>>,
    pub(super) engine: Option<EngineName>,
    #[serde(default)]
    pub(super) shape: BTreeMap<Spanned<String>, Spanned<Vec<i64>>>,
    #[serde(default)]
    pub(super) reshape: BTreeMap<Spanned<String>, Spanned<Vec<i64>>>,
    #[serde(default)]
    pub(super) max_size: BTreeMap<String, Spanned<i64>>,
    #[serde(default)]
    pub(super) pad: BTreeMap<String, Spanned<toml::Value>>,
    pub(super) pad_dimension: Option<Spanned<String>>,
    pub(super) batch_axis: Option<Spanned<toml::Value>>,
    pub(super) broadcast: Option<Spanned<Vec<String>>>,
    pub(super) custom_ops: Option<Spanned<String>>,
    pub(super) batch_dependent: Option<Spanned<bool>>,
    pub(super) share_weights: Option<Spanned<bool>>,
    pub(super) priority: Option<Spanned<toml::Value>>,
    pub(super) queue_max: Option<Spanned<i64>>,
    pub(super) loss_weight: Option<Spanned<f64>>,
    pub(super) generate: Option<Spanned<String>>,
    pub(super) emulated: Option<Spanned<EmulatedTable>>,
    pub(super) python: Option<Spanned<PythonTable>>,
    pub(super) parameters: Option<Spanned<toml::Table>>,
    #[serde(default)]
    pub(super) input: Vec<Spanned<TensorTable>>,
    #[serde(default)]
    pub(super) output: Vec<Spanned<TensorTable>>,
}

impl File {
    /// Takes the keys that concern an ONNX graph.
    pub(super) fn graph_keys(&mut self) -> GraphKeys {
        GraphKeys {
            shape: std::mem::take(&mut self.shape),
            reshape: std::mem::take(&mut self.reshape),
            max_size: std::mem::take(&mut self.max_size),
            pad: std::mem::take(&mut self.pad),
            pad_dimension: self.pad_dimension.take(),
            batch_axis: self.batch_axis.take(),
            broadcast: self.broadcast.take(),
            custom_ops: self.custom_ops.take(),
            batch_dependent: self.batch_dependent.take(),
            share_weights: self.share_weights.take(),
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum EngineName {
    Onnxruntime,
    Rten,
    Python,
    Emulated,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EmulatedTable {
    pub(super) alpha_ms: Option<Spanned<f64>>,
    pub(super) beta_ms: Option<Spanned<f64>>,
    pub(super) latency_ms: Option<Spanned<Vec<f64>>>,
    /// The standard deviation of the times, as a share of them.
    pub(super) spread: Option<Spanned<f64>>,
    /// How much longer a batch takes for each element of each row.
    pub(super) element_us: Option<Spanned<f64>>,
    /// The largest size of the dimension that inputs leave open with -1.
    pub(super) open_max: Option<Spanned<i64>>,
    /// Whether shorter requests are padded along it to the longest of their batch.
    #[serde(default)]
    pub(super) padded: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PythonTable {
    pub(super) device: Option<String>,
    pub(super) compile: bool,
    pub(super) cuda_graphs: bool,
    pub(super) memory_mib: Option<Spanned<i64>>,
    pub(super) timeout_s: Option<Spanned<f64>>,
}

/// The name of a file in a version's directory.
pub(super) fn file_name_of(
    source: &TomlSource,
    value: &Spanned<String>,
) -> Result<String, ConfigError> {
    let name = value.get_ref();
    if is_file_name(name) {
        return Ok(name.clone());
    }
    let problem =
        format!("file = {name:?} is not in the version's directory: give the name of a file there");
    Err(source.refuse(Some(value.span()), problem))
}

/// Whether a text names something in a directory, and nothing outside of it.
pub(in crate::repository) fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != ".."
}

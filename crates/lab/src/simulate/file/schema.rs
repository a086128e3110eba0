//! The keys of a scenario file, as people write them.

use crate::simulate::parameter::{Measure, Parameter};
use serde::Deserialize;
use std::path::PathBuf;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) accelerators: Spanned<u32>,
    #[serde(default)]
    pub(super) policies: Vec<Spanned<String>>,
    pub(super) seeds: Option<Spanned<Vec<u64>>>,
    pub(super) warmup_s: Option<Spanned<f64>>,
    pub(super) seconds: Option<Spanned<f64>>,
    #[serde(default)]
    pub(super) model: Vec<ModelFile>,
    pub(super) load: Spanned<LoadFile>,
    pub(super) network: Option<NetworkFile>,
    pub(super) execution_sigma: Option<Spanned<f64>>,
    pub(super) noise: Option<NoiseFile>,
    #[serde(default)]
    pub(super) drift: Vec<Spanned<ChangeFile>>,
    pub(super) adapt_profile: Option<bool>,
    pub(super) low_priority_share: Option<Spanned<f64>>,
    pub(super) split: Option<SplitFile>,
    pub(super) sweep: Option<SweepFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelFile {
    pub(super) name: Spanned<String>,
    /// Best effort without it.
    pub(super) slo_ms: Option<Spanned<f64>>,
    pub(super) profile: Option<Spanned<PathBuf>>,
    pub(super) alpha_ms: Option<Spanned<f64>>,
    pub(super) beta_ms: Option<Spanned<f64>>,
    pub(super) table_ms: Option<Spanned<Vec<f64>>>,
    pub(super) max_batch: Option<Spanned<u32>>,
    pub(super) weight: Option<Spanned<f64>>,
    pub(super) loss_weight: Option<Spanned<f64>>,
    pub(super) copies: Option<Spanned<u32>>,
    pub(super) priority: Option<PriorityName>,
    pub(super) low_share: Option<Spanned<f64>>,
    pub(super) tight: Option<Spanned<TightFile>>,
    pub(super) sizes: Option<Spanned<SizesFile>>,
}

/// Which sizes a model's requests have, up to `bound`: log-normal, or recorded ones.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SizesFile {
    pub(super) bound: Option<u64>,
    /// What each element of a row adds to a batch's time.
    pub(super) alpha_us: Option<f64>,
    pub(super) median: Option<f64>,
    pub(super) p99: Option<f64>,
    pub(super) trace: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PriorityName {
    High,
    Low,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TightFile {
    pub(super) share: f64,
    pub(super) deadline_ms: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LoadFile {
    pub(super) rate: Option<Spanned<f64>>,
    pub(super) process: Option<Spanned<ProcessName>>,
    pub(super) cv: Option<Spanned<f64>>,
    pub(super) on_ms: Option<Spanned<f64>>,
    pub(super) off_ms: Option<Spanned<f64>>,
    pub(super) zipf: Option<Spanned<f64>>,
    pub(super) trace: Option<Spanned<PathBuf>>,
    pub(super) steps: Option<Spanned<Vec<Step>>>,
    pub(super) ramp: Option<Spanned<Ramp>>,
    pub(super) day: Option<Spanned<Day>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ProcessName {
    Constant,
    Poisson,
    Gamma,
    OnOff,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    pub(super) at_s: f64,
    pub(super) factor: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ramp {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) begin_s: f64,
    pub(super) end_s: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Day {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) period_s: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkFile {
    pub(super) control: Option<Spanned<DelayFile>>,
    pub(super) data: Option<Spanned<DelayFile>>,
    pub(super) response: Option<Spanned<DelayFile>>,
    pub(super) clock_offset_ms: Option<Spanned<f64>>,
    pub(super) clock_sigma_ms: Option<Spanned<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoiseFile {
    pub(super) tail: Option<Spanned<ShareFile>>,
    pub(super) bimodal: Option<Spanned<ShareFile>>,
    pub(super) first_batch: Option<Spanned<f64>>,
    pub(super) timer: Option<Spanned<DelayFile>>,
    #[serde(default)]
    pub(super) spells: Vec<SpellsFile>,
}

/// So many batches or requests take this many times their time.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShareFile {
    pub(super) share: f64,
    pub(super) factor: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpellsFile {
    pub(super) per_s: Spanned<f64>,
    pub(super) length_ms: Spanned<f64>,
    pub(super) factor: Spanned<f64>,
    pub(super) strikes: StrikesName,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum StrikesName {
    One,
    All,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeFile {
    pub(super) at_s: f64,
    pub(super) factor: f64,
    #[serde(default)]
    pub(super) over_s: f64,
    pub(super) accelerators: Option<Vec<u32>>,
}

/// Log-normal; constant where sigma is zero.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DelayFile {
    pub(super) median_ms: f64,
    #[serde(default)]
    pub(super) sigma: f64,
}

/// Messages log-normal; constant where the spread is zero.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SplitFile {
    pub(super) shards: Spanned<u32>,
    pub(super) message_us: Spanned<f64>,
    pub(super) spread: Option<Spanned<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SweepFile {
    pub(super) parameter: Parameter,
    pub(super) values: Spanned<Vec<f64>>,
    pub(super) measure: Measure,
}

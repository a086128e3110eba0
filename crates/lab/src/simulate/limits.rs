//! Bounds on what can be simulated.

use symphony_sim::MESSAGE_MAX;

pub(super) const ACCELERATORS_MAX: u32 = 4096;
pub(super) const SHARDS_MAX: u32 = 1024;
pub(super) const MESSAGE_US_MAX: f64 = MESSAGE_MAX.0 as f64 / 1e3;
pub(super) const MODELS_MAX: u32 = 10_000;
pub(super) const SEEDS_MAX: usize = 100;
pub(super) const SECONDS_MAX: f64 = 1e6;
pub(super) const RATE_MAX: f64 = 1e9;
pub(super) const MILLIS_MAX: f64 = 1e6;
/// Far beyond the largest batch of any engine; a table of this length is a megabyte.
pub(super) const ROWS_MAX: u32 = 65_536;
/// Elements of one row.
pub(super) const SIZE_MAX: u64 = 1 << 40;
pub(super) const SIZES_RECORDED_MAX: usize = 10_000_000;
pub(super) const DRIFT_MAX: f64 = 100.0;
pub(super) const FIRST_BATCH_MAX: f64 = 10_000.0;
/// Kinds of slow spells.
pub(super) const SPELLS_MAX: usize = 16;
pub(super) const SPELLS_PER_S_MAX: f64 = 1000.0;
pub(super) const SIGMA_MAX: f64 = 5.0;
pub(super) const ROWS_USUAL: u32 = 64;

/// Whether a sweep can run over these values.
pub(super) fn are_usable(values: &[f64]) -> bool {
    let usable = |value: &f64| value.is_finite() && *value >= 0.0;
    !values.is_empty() && values.iter().all(usable) && values.is_sorted()
}

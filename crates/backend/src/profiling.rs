//! How long a model takes, by batch size. Profiles are measured, kept on disk, and checked when the
//! server starts again.
//!
//! The measured time covers what the worker does for a batch: assembling it and running it. Plans
//! use the 95th percentile; a simulation takes the median and the measured jitter. One accelerator
//! is measured while the others idle, so a profile does not show how much accelerators slow each
//! other down.
//!
//! Nothing here knows an engine, a file format or an objective.

mod cache;
mod machine;
mod measure;
mod sample;

pub use cache::{ProfileCache, ProfileKey};
pub use machine::Machine;
pub use measure::{Effort, ProfilingTarget};
pub use sample::sample_rows;

#[cfg(test)]
mod tests;

use crate::batch::AssemblyError;
use crate::engine::EngineError;
use std::fmt::Write as _;
use std::sync::Arc;
use symphony_core::{Profile, ProfileError, Span};

/// What was measured at one batch size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeMeasurement {
    /// The batch size, in rows.
    pub rows: u32,
    /// The median time.
    pub p50: Span,
    /// The 95th percentile, or the longest time when there are fewer than 20 runs.
    pub p95: Span,
    /// The number of runs.
    pub runs: u32,
}

/// Where a profile comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileOrigin {
    /// Measured just now.
    Measured,
    /// Measured earlier and checked now.
    Cached,
    /// Not measured: an emulated model takes the time that its configuration gives.
    Known,
}

/// A model's latency profile with the measurements behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The measurements in order of batch size. They need not be monotone.
    pub sizes: Vec<SizeMeasurement>,
    /// The profile that plans use: the 95th percentile of every batch size, made monotone.
    pub plan: Arc<Profile>,
    /// The typical time of every batch size: the median, made monotone.
    pub typical: Arc<Profile>,
    /// How far the 95th percentile lies above the median, relative to the median; itself the median
    /// over the sizes. 0.05 means that one run in twenty takes at least 5 % longer.
    pub jitter: f64,
    /// Whether time ran out before every size had all of its runs, or sizes were skipped.
    pub shortened: bool,
    /// The origin of the profile.
    pub origin: ProfileOrigin,
}

/// Why a model could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum ProfilingError {
    /// The generated requests do not make a batch.
    #[error("measuring a batch of {rows} rows: {source}")]
    Input {
        /// Rows of the batch.
        rows: u32,
        /// Why they do not.
        source: AssemblyError,
    },
    /// The engine failed.
    #[error("measuring the model: {0}")]
    Engine(#[from] EngineError),
    /// The measurements give no profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

impl Measured {
    /// Makes a profile from measurements.
    ///
    /// # Errors
    /// There are no measurements, or their sizes do not grow from 1.
    pub(crate) fn from_sizes(
        sizes: Vec<SizeMeasurement>,
        shortened: bool,
        origin: ProfileOrigin,
    ) -> Result<Measured, ProfileError> {
        let samples = |of: fn(&SizeMeasurement) -> Span| -> Vec<(u32, Span)> {
            // A clock that is too coarse to see a run must not make the run free.
            sizes.iter().map(|size| (size.rows, of(size).max(Span(1)))).collect()
        };
        let plan = Arc::new(Profile::from_samples(&samples(|size| size.p95))?);
        let typical = Arc::new(Profile::from_samples(&samples(|size| size.p50))?);
        let jitter = jitter(&sizes);
        Ok(Measured { sizes, plan, typical, jitter, shortened, origin })
    }

    /// The profile of an emulated model, which takes exactly the time it is configured for.
    #[must_use]
    pub fn known(profile: &Arc<Profile>) -> Measured {
        let at = |rows| SizeMeasurement {
            rows,
            p50: profile.exec(rows),
            p95: profile.exec(rows),
            runs: 0,
        };
        Measured {
            sizes: sizes_up_to(profile.rows_max()).into_iter().map(at).collect(),
            plan: Arc::clone(profile),
            typical: Arc::clone(profile),
            jitter: 0.0,
            shortened: false,
            origin: ProfileOrigin::Known,
        }
    }

    /// The measurements as a readable table: one line per size, times in milliseconds.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::from("  rows   p50 ms   p95 ms  p50 ms/row   rows/s   runs\n");
        for size in &self.sizes {
            let (p50, p95) = (size.p50.as_millis_f64(), size.p95.as_millis_f64());
            let rows = f64::from(size.rows);
            let _ = writeln!(
                text,
                "{:6} {p50:8.3} {p95:8.3} {:11.3} {:8.0} {:6}",
                size.rows,
                p50 / rows,
                rows / p50 * 1e3,
                size.runs
            );
        }
        text
    }
}

/// The batch sizes worth measuring: powers of two, the sizes half-way between, and `rows_max`.
#[must_use]
pub fn sizes_up_to(rows_max: u32) -> Vec<u32> {
    let powers = std::iter::successors(Some(1u32), |power| power.checked_mul(2));
    let mut sizes: Vec<u32> = powers
        .flat_map(|power| [Some(power), (power > 1).then_some(power.saturating_add(power / 2))])
        .flatten()
        .take_while(|&size| size < rows_max)
        .collect();
    sizes.push(rows_max);
    sizes
}

/// The smallest value that is at least as large as `percent` percent of the sorted values (nearest
/// rank).
fn percentile(sorted: &[Span], percent: usize) -> Span {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(Span::ZERO)
}

fn jitter(sizes: &[SizeMeasurement]) -> f64 {
    let above = |size: &SizeMeasurement| size.p95.0 as f64 / size.p50.0.max(1) as f64 - 1.0;
    let mut shares: Vec<f64> = sizes.iter().map(|size| above(size).max(0.0)).collect();
    shares.sort_by(f64::total_cmp);
    shares.get(shares.len() / 2).copied().unwrap_or(0.0)
}

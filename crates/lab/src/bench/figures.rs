//! Numbers that every benchmark takes or gives.

use anyhow::{Context, Result};
use std::time::Duration;

/// A longer run is a mistake.
const SECONDS_MAX: f64 = 86_400.0;

/// A duration that was given in seconds.
///
/// # Errors
/// A number of seconds that is negative, or more than a day.
pub(crate) fn seconds(seconds: f64) -> Result<Duration> {
    let whole = Duration::try_from_secs_f64(seconds).ok().filter(|_| seconds <= SECONDS_MAX);
    whole.with_context(|| format!("{seconds} seconds: give 0 to {SECONDS_MAX}, a day"))
}

/// A part of a whole; zero where the whole is nothing.
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

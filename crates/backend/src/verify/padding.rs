//! Whether padding changes the answers of shorter requests.

use super::compare::{Distances, Expected};
use super::{SEED, Trial};
use crate::resident::BatchError;

/// The longest request of the trial, if the model takes so long ones.
const LENGTH_MAX: usize = 48;

/// Tries requests of several lengths in one batch, padded to the longest, for several ways of
/// generating values. Returns the largest difference from what they give alone, if there is one.
///
/// # Errors
/// The model fails on a single request.
pub(crate) fn padding(trial: &mut Trial<'_>) -> Result<Option<String>, BatchError> {
    let Some(padded) = trial.signature().padded.map(usize::from) else { return Ok(None) };
    let longest = trial.signature().dimensions[padded].max.min(LENGTH_MAX);
    let lengths = [longest, longest / 2, longest.div_ceil(3), 1, longest.saturating_sub(1).max(1)];
    let sizes: Vec<Vec<usize>> = lengths
        .iter()
        .map(|length| {
            let mut sizes = trial.base.clone();
            sizes[padded] = (*length).max(1);
            sizes
        })
        .take((trial.resident.rows_max() as usize).max(2))
        .collect();
    let mut largest: Option<(String, f64)> = None;
    for (repeat, (way, _)) in trial.ways.clone().into_iter().enumerate() {
        let rows = trial.values.strong_rows(trial.signature(), &sizes, way, SEED + repeat as u64);
        let alone = trial.alone(&rows)?;
        // The engine may sum a longer row in another order, and nothing else may differ.
        let expected = Expected::new(&alone, Distances::tolerated(trial.signature()));
        let found = match trial.run(&rows) {
            Err(error) => return Ok(Some(format!("a padded batch failed: {error}"))),
            Ok(together) => expected.difference(trial.signature(), &together),
        };
        if let Some((text, distance)) = found
            && largest.as_ref().is_none_or(|(_, before)| distance > *before)
        {
            largest = Some((text, distance));
        }
    }
    Ok(largest.map(|(text, _)| text))
}

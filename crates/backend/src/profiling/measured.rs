//! A model's latency profile, with the measurements that it is made of.

use super::cell::{Cell, CellMeasurement, Extent, rows_up_to};
use super::fit::fitted;
use std::fmt::Write as _;
use std::sync::Arc;
use symphony_core::{Profile, SizedProfile, SizedProfileError};

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
    /// The measurements in order of their cells. They need not be monotone.
    pub cells: Vec<CellMeasurement>,
    /// The sizes of a row, in order, each with its largest batch.
    pub extents: Vec<Extent>,
    /// The profile that plans use, by size: the 95th percentile of every batch size, made monotone.
    pub by_size: SizedProfile,
    /// The same for requests of the largest size.
    pub plan: Arc<Profile>,
    /// The typical time of every batch of the largest size: the median, made monotone.
    pub typical: Arc<Profile>,
    /// How far the 95th percentile lies above the median, relative to the median; itself the median
    /// over the sizes. 0.05 means that one run in twenty takes at least 5 % longer.
    pub jitter: f64,
    /// Whether time ran out before every size had all of its runs, or sizes were left out.
    pub shortened: bool,
    /// The origin of the profile.
    pub origin: ProfileOrigin,
}

impl Measured {
    /// Makes a profile from measurements.
    ///
    /// # Errors
    /// There are no measurements.
    pub(crate) fn new(
        mut cells: Vec<CellMeasurement>,
        extents: Vec<Extent>,
        shortened: bool,
        origin: ProfileOrigin,
    ) -> Result<Measured, SizedProfileError> {
        cells.sort_by_key(|cell| cell.cell);
        let by_size = fitted(&cells, &extents, |cell| cell.p95)?;
        let typical = fitted(&cells, &extents, |cell| cell.p50)?;
        let largest = |sized: &SizedProfile| Arc::new(sized.at(sized.size_max()));
        let (plan, typical, jitter) = (largest(&by_size), largest(&typical), jitter(&cells));
        Ok(Measured { cells, extents, by_size, plan, typical, jitter, shortened, origin })
    }

    /// The profile of an emulated model, which takes exactly the time it is configured for.
    #[must_use]
    pub fn known(profile: &Arc<Profile>) -> Measured {
        let at = |rows| CellMeasurement {
            cell: Cell { size: 1, rows },
            p50: profile.exec(rows),
            p95: profile.exec(rows),
            runs: 0,
        };
        let rows_max = profile.rows_max();
        Measured {
            cells: rows_up_to(rows_max).into_iter().map(at).collect(),
            extents: vec![Extent { size: 1, rows_max }],
            by_size: SizedProfile::fixed(1, Profile::clone(profile)),
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
        for cell in &self.cells {
            let (p50, p95) = (cell.p50.as_millis_f64(), cell.p95.as_millis_f64());
            let rows = f64::from(cell.cell.rows);
            let _ = writeln!(
                text,
                "{:6} {p50:8.3} {p95:8.3} {:11.3} {:8.0} {:6}",
                cell.cell.rows,
                p50 / rows,
                rows / p50 * 1e3,
                cell.runs
            );
        }
        text
    }
}

fn jitter(cells: &[CellMeasurement]) -> f64 {
    let above = |cell: &CellMeasurement| cell.p95.0 as f64 / cell.p50.0.max(1) as f64 - 1.0;
    let mut shares: Vec<f64> = cells.iter().map(|cell| above(cell).max(0.0)).collect();
    shares.sort_by(f64::total_cmp);
    shares.get(shares.len() / 2).copied().unwrap_or(0.0)
}

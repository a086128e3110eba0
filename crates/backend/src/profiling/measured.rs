//! A model's latency profile, with the measurements that it is made of.

use super::cell::{Cell, CellMeasurement, Extent, rows_up_to};
use super::fit::fitted;
use super::usual::{p50_of, p95_of};
use std::fmt::Write as _;
use std::sync::Arc;
use symphony_core::{Profile, SizedProfile, SizedProfileError};
use symphony_wire::message::ProfileOrigin;

/// A model's latency profile with the measurements behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The measurements in order of their cells. They need not be monotone.
    pub cells: Vec<CellMeasurement>,
    /// The sizes of a row, in order, each with its largest batch.
    pub extents: Vec<Extent>,
    /// The profile that plans use, by size: the mean of every batch size, made monotone, and its
    /// spread.
    pub by_size: SizedProfile,
    /// The same for requests of the largest size.
    pub plan: Arc<Profile>,
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
        let by_size = fitted(&cells, &extents)?;
        let plan = Arc::new(by_size.at(by_size.size_max()));
        Ok(Measured { cells, extents, by_size, plan, shortened, origin })
    }

    /// The profile of an emulated model, which takes the time it is configured for.
    #[must_use]
    pub fn known(profile: &Arc<Profile>) -> Measured {
        let at = |rows| CellMeasurement {
            cell: Cell { size: 1, rows },
            mean: profile.exec(rows),
            spread: profile.spread(rows),
            p50: p50_of(profile, rows),
            p95: p95_of(profile, rows),
            runs: 0,
        };
        let rows_max = profile.rows_max();
        Measured {
            cells: rows_up_to(rows_max).into_iter().map(at).collect(),
            extents: vec![Extent { size: 1, rows_max }],
            by_size: SizedProfile::fixed(1, Profile::clone(profile)),
            plan: Arc::clone(profile),
            shortened: false,
            origin: ProfileOrigin::Known,
        }
    }

    /// The measurements as a readable table, one line per size, and what plans count with: times in
    /// milliseconds.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::from(
            "  rows  mean ms   p95 ms  spread   runs  planned ms  planned/row   rows/s\n",
        );
        let largest = self.by_size.size_max();
        for measured in &self.cells {
            let CellMeasurement { cell: Cell { size, rows }, mean, spread, p95, runs, .. } =
                *measured;
            let planned = self.by_size.exec(size, rows).as_millis_f64();
            let each = f64::from(rows);
            let _ = write!(
                text,
                "{rows:6} {:8.3} {:8.3} {:6.1}% {runs:6} {planned:11.3} {:12.3} {:8.0}",
                mean.as_millis_f64(),
                p95.as_millis_f64(),
                spread * 100.0,
                planned / each,
                each / planned * 1e3,
            );
            let _ = match size == largest || self.by_size.is_fixed() {
                true => writeln!(text),
                false => writeln!(text, "  of {size} elements"),
            };
        }
        text
    }
}

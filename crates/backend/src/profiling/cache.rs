//! Profiles on disk, one small file each. A lost profile only costs a new measurement, so every
//! failure here is a warning.

use super::{Cell, CellMeasurement, Extent, Machine, Measured, ProfileOrigin, spread_of};
use crate::cache::{Cache, KeptFiles};
use crate::repository::{ConfigError, Fingerprint, FingerprintBuilder, MODELS_MAX, TomlSource};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use symphony_core::Span;
use tracing::warn;

/// The version of the file format. Raise it when the measurement or the file changes: older files
/// are then ignored.
const FORMAT: u32 = 2;

/// The directory of profiles in the cache.
pub(crate) const PROFILES: &str = "profiles";

/// Everything that a profile depends on.
#[derive(Clone, Debug)]
pub struct ProfileKey<'a> {
    /// The model's name, for people who read the file. It is not part of the key.
    pub model: &'a str,
    /// The fingerprint of the model's files and of the settings that change its graph.
    pub content: Fingerprint,
    /// The sizes of a row, each with its largest batch.
    pub extents: &'a [Extent],
    /// Name of the engine.
    pub engine: &'a str,
    /// Version of the engine.
    pub engine_version: &'a str,
    /// Threads of one accelerator.
    pub threads: usize,
    /// The machine on which it was measured.
    pub machine: &'a Machine,
}

/// Where the profile of a key is kept, and what its file says besides.
#[derive(Clone, Debug)]
pub struct ProfilePlace {
    fingerprint: Fingerprint,
    head: ProfileFile,
}

/// The kept profiles, and which of them this process knows to hold.
#[derive(Debug)]
pub struct ProfileCache {
    files: KeptFiles,
    known: Mutex<BTreeMap<Fingerprint, Measured>>,
}

/// Bound on the profiles that are known to hold: as many as a repository can have models.
const KNOWN_MAX: usize = MODELS_MAX;

/// The file of one profile.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    format: u32,
    model: String,
    engine: String,
    threads: usize,
    machine: String,
    cores: usize,
    shortened: bool,
    cell: Vec<CellLine>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CellLine {
    size: u64,
    rows: u32,
    /// Files from before plans took means have none: the median stands for it.
    mean_ns: Option<u64>,
    /// There the percentiles tell it.
    spread: Option<f64>,
    p50_ns: u64,
    p95_ns: u64,
    runs: u32,
}

impl ProfileKey<'_> {
    /// Where its profile is kept.
    #[must_use]
    pub fn place(&self) -> ProfilePlace {
        let head = ProfileFile {
            format: FORMAT,
            model: self.model.to_owned(),
            engine: format!("{} {}", self.engine, self.engine_version),
            threads: self.threads,
            machine: self.machine.cpu.clone(),
            cores: self.machine.cores,
            shortened: false,
            cell: Vec::new(),
        };
        ProfilePlace { fingerprint: self.fingerprint(), head }
    }

    fn fingerprint(&self) -> Fingerprint {
        let hash = FingerprintBuilder::default()
            .number(u64::from(FORMAT))
            .text(&self.content.to_string())
            .number(self.extents.len() as u64);
        let extents = self.extents.iter();
        extents
            .fold(hash, |hash, extent| hash.number(extent.size).number(u64::from(extent.rows_max)))
            .text(self.engine)
            .text(self.engine_version)
            .number(self.threads as u64)
            .text(&self.machine.cpu)
            .number(self.machine.cores as u64)
            .finish()
    }
}

impl ProfileCache {
    /// The profiles in a cache.
    pub(crate) fn new(cache: &Cache) -> ProfileCache {
        ProfileCache { files: cache.files(PROFILES), known: Mutex::default() }
    }

    /// Whether this process has measured or checked this profile before.
    #[must_use]
    pub fn is_known(&self, key: &ProfileKey<'_>, kept: &Measured) -> bool {
        self.known().get(&key.fingerprint()) == Some(kept)
    }

    /// This process has measured or checked a profile.
    pub fn know(&self, key: &ProfileKey<'_>, measured: &Measured) {
        self.know_at(key.fingerprint(), measured);
    }

    fn know_at(&self, place: Fingerprint, measured: &Measured) {
        let mut known = self.known();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        // As it is when it is read again.
        known.insert(place, Measured { origin: ProfileOrigin::Cached, ..measured.clone() });
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Fingerprint, Measured>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the profile of a key. A file that cannot be used counts as missing and logs a warning.
    #[must_use]
    pub fn read(&self, key: &ProfileKey<'_>) -> Option<Measured> {
        let kept = self
            .files
            .read(key.fingerprint())
            .and_then(|source| source.map(|source| parse(&source, key.extents)).transpose());
        match kept {
            Ok(measured) => measured,
            Err(error) => {
                warn!(
                    model = key.model,
                    "the kept profile cannot be used and is measured again: {error}"
                );
                None
            }
        }
    }

    /// Writes a profile. A failure logs a warning, and the next start measures again.
    pub fn write(&self, key: &ProfileKey<'_>, measured: &Measured) {
        self.write_at(&key.place(), measured);
    }

    /// The same at a place, for a profile that was refined: this process knows it.
    pub fn keep(&self, place: &ProfilePlace, measured: &Measured) {
        self.write_at(place, measured);
        self.know_at(place.fingerprint, measured);
    }

    fn write_at(&self, place: &ProfilePlace, measured: &Measured) {
        let what = format!("the profile of model {:?}", place.head.model);
        self.files.write(place.fingerprint, &what, &contents(&place.head, measured));
    }

    /// The file of a profile.
    #[cfg(test)]
    pub(super) fn path(&self, key: &ProfileKey<'_>) -> std::path::PathBuf {
        self.files.path(key.fingerprint())
    }
}

fn contents(head: &ProfileFile, measured: &Measured) -> String {
    let line = |measured: &CellMeasurement| CellLine {
        size: measured.cell.size,
        rows: measured.cell.rows,
        mean_ns: Some(measured.mean.0),
        spread: Some(measured.spread),
        p50_ns: measured.p50.0,
        p95_ns: measured.p95.0,
        runs: measured.runs,
    };
    let cell = measured.cells.iter().map(line).collect();
    let file = ProfileFile { shortened: measured.shortened, cell, ..head.clone() };
    let text = toml::to_string(&file).expect("tables of numbers and strings are valid TOML");
    format!("# A measured latency profile. Delete this file to have it measured again.\n{text}")
}

fn measurement(line: &CellLine) -> CellMeasurement {
    let (p50, p95) = (Span(line.p50_ns), Span(line.p95_ns));
    CellMeasurement {
        cell: Cell { size: line.size, rows: line.rows },
        mean: line.mean_ns.map_or(p50, Span),
        spread: line.spread.unwrap_or_else(|| spread_of(p50, p95)),
        p50,
        p95,
        runs: line.runs,
    }
}

fn parse(source: &TomlSource, extents: &[Extent]) -> Result<Measured, ConfigError> {
    let file: ProfileFile = source.parse()?;
    if file.format != FORMAT {
        return Err(source.refuse(None, format!("format {} is not {FORMAT}", file.format)));
    }
    let cells: Vec<_> = file.cell.iter().map(measurement).collect();
    let is_within = |cell: Cell| {
        let rows_max = extents.iter().find(|extent| extent.size == cell.size);
        rows_max.is_some_and(|extent| (1..=extent.rows_max).contains(&cell.rows))
    };
    for measured in &cells {
        let Cell { size, rows } = measured.cell;
        if !is_within(measured.cell) {
            return Err(source.refuse(None, format!("{rows} rows of size {size} are never run")));
        }
        let CellMeasurement { mean, spread, p50, p95, .. } = *measured;
        let is_spread = spread.is_finite() && spread >= 0.0;
        if mean == Span::ZERO || !is_spread || p50 == Span::ZERO || p95 < p50 {
            return Err(source.refuse(None, format!("the times of {rows} rows cannot be")));
        }
    }
    if !cells.is_sorted_by(|before, after| before.cell < after.cell) {
        return Err(source.refuse(None, "its cells are not in order"));
    }
    Measured::new(cells, extents.to_vec(), file.shortened, ProfileOrigin::Cached)
        .map_err(|error| source.refuse(None, error.to_string()))
}

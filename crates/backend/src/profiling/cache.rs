//! Profiles kept on disk, one small file each. Losing one costs a measurement, so nothing that
//! goes wrong here is more than a warning.

use super::{Machine, Measured, Origin, SizeMeasurement};
use crate::repository::{ConfigError, Fingerprint, FingerprintBuilder, TomlSource};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use symphony_core::Span;
use tracing::warn;

/// Raised when what is measured or how it is kept changes: older files are then not read.
const FORMAT: u32 = 1;

/// What a profile depends on.
#[derive(Clone, Debug)]
pub struct ProfileKey<'a> {
    /// The model's name, for people who look into the file; another name is the same profile.
    pub model: &'a str,
    /// The model's files and the settings that change its graph.
    pub content: Fingerprint,
    /// The largest batch.
    pub rows_max: u32,
    /// Name of the engine.
    pub engine: &'a str,
    /// Version of the engine.
    pub engine_version: &'a str,
    /// Threads of one accelerator.
    pub threads: usize,
    /// Where it was measured.
    pub machine: &'a Machine,
}

/// A directory of kept profiles.
#[derive(Clone, Debug)]
pub struct ProfileCache {
    directory: PathBuf,
}

/// The file of one profile.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    model: String,
    engine: String,
    threads: usize,
    machine: String,
    cores: usize,
    shortened: bool,
    size: Vec<Line>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    rows: u32,
    p50_ns: u64,
    p95_ns: u64,
    runs: u32,
}

impl ProfileKey<'_> {
    fn fingerprint(&self) -> Fingerprint {
        FingerprintBuilder::default()
            .number(u64::from(FORMAT))
            .text(&self.content.to_string())
            .number(u64::from(self.rows_max))
            .text(self.engine)
            .text(self.engine_version)
            .number(self.threads as u64)
            .text(&self.machine.cpu)
            .number(self.machine.cores as u64)
            .finish()
    }
}

impl ProfileCache {
    /// The cache in `directory`, which is made when the first profile is kept.
    #[must_use]
    pub fn new(directory: PathBuf) -> ProfileCache {
        ProfileCache { directory }
    }

    /// The profile kept under a key. A file that cannot be used is as good as none, with a
    /// warning.
    #[must_use]
    pub fn read(&self, key: &ProfileKey<'_>) -> Option<Measured> {
        let path = self.path(key);
        match read(&path, key.rows_max) {
            Ok(measured) => Some(measured),
            Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                None
            }
            Err(error) => {
                warn!(model = key.model, "the kept profile is unusable, measuring again: {error}");
                None
            }
        }
    }

    /// Keeps a profile. Failing to is a warning: the next start measures again.
    pub fn write(&self, key: &ProfileKey<'_>, measured: &Measured) {
        let path = self.path(key);
        if let Err(error) = self.replace(&path, &contents(key, measured)) {
            let path = path.display();
            warn!(model = key.model, "cannot keep the profile in {path}: {error}");
        }
    }

    /// Where a profile is kept.
    #[must_use]
    pub fn path(&self, key: &ProfileKey<'_>) -> PathBuf {
        self.directory.join(format!("{}.toml", key.fingerprint()))
    }

    /// Writes beside, then renames: a reader sees the old file or the new one, never half of one.
    fn replace(&self, path: &Path, contents: &str) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let beside = path.with_extension(format!("{}.part", std::process::id()));
        let written = fs::File::create(&beside)
            .and_then(|mut file| file.write_all(contents.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&beside, path));
        if written.is_err() {
            // Already the failing path: when this fails too, a stray file is all that is left.
            let _ = fs::remove_file(&beside);
        }
        written
    }
}

fn contents(key: &ProfileKey<'_>, measured: &Measured) -> String {
    let line = |size: &SizeMeasurement| Line {
        rows: size.rows,
        p50_ns: size.p50.0,
        p95_ns: size.p95.0,
        runs: size.runs,
    };
    let file = File {
        format: FORMAT,
        model: key.model.to_owned(),
        engine: format!("{} {}", key.engine, key.engine_version),
        threads: key.threads,
        machine: key.machine.cpu.clone(),
        cores: key.machine.cores,
        shortened: measured.shortened,
        size: measured.sizes.iter().map(line).collect(),
    };
    let text = toml::to_string(&file).expect("plain tables of numbers and texts are TOML");
    format!("# A measured latency profile. Delete this file to have it measured again.\n{text}")
}

fn read(path: &Path, rows_max: u32) -> Result<Measured, ConfigError> {
    let source = TomlSource::read(path)?;
    let file: File = source.parse()?;
    if file.format != FORMAT {
        return Err(source.refuse(None, format!("format {} is not {FORMAT}", file.format)));
    }
    let sizes: Vec<_> = file
        .size
        .iter()
        .map(|line| SizeMeasurement {
            rows: line.rows,
            p50: Span(line.p50_ns),
            p95: Span(line.p95_ns),
            runs: line.runs,
        })
        .collect();
    let largest = sizes.last().map_or(0, |size| size.rows);
    if largest != rows_max {
        return Err(source.refuse(None, format!("it ends at {largest} rows, not at {rows_max}")));
    }
    if let Some(odd) = sizes.iter().find(|size| size.p50 == Span::ZERO || size.p95 < size.p50) {
        return Err(source.refuse(None, format!("the times of {} rows cannot be", odd.rows)));
    }
    Measured::from_sizes(sizes, file.shortened, Origin::Cached)
        .map_err(|error| source.refuse(None, error.to_string()))
}

//! What trying a model out has found, on disk beside its profile: a model that was tried out before
//! is not tried out again, as long as nothing has changed on which the findings depend.

use crate::cache::{Cache, KeptFiles};
use crate::prepare::{Batching, Found};
use crate::profiling::Machine;
use crate::repository::{ConfigError, Fingerprint, FingerprintBuilder, GraphSettings, TomlSource};
use serde::{Deserialize, Serialize};
use std::path::Path;
use symphony_wire::tensor::Dim;
use tracing::debug;

/// The version of the file format and of the trials. Raise it when either changes: older files are
/// then ignored. So are those of other releases.
const FORMAT: u32 = 1;
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// How a file begins, and what precedes the sum of what follows.
const HEAD: &str =
    "# What trial runs of a model found. Delete this file to have it tried out again.\n";
const SUM: &str = "# The sum of what follows: ";

/// The directory of findings in the cache.
const FINDINGS: &str = "findings";

/// Everything on which findings depend.
#[derive(Clone, Debug)]
pub(super) struct FindingsKey<'a> {
    /// The model's name, for people who read the file. It is not part of the key.
    pub(super) model: &'a str,
    /// The fingerprint of the model's files.
    pub(super) content: Fingerprint,
    pub(super) settings: &'a GraphSettings,
    /// The library of operators that are not the engine's own.
    pub(super) custom_ops: Option<&'a Path>,
    /// The largest batch that the settings ask for.
    pub(super) rows_max: u32,
    pub(super) engine: &'a str,
    pub(super) engine_version: &'a str,
    /// Threads of one accelerator: how sums are split among them decides how results are rounded.
    pub(super) threads: usize,
    pub(super) machine: &'a Machine,
}

/// Where the findings of a key are kept, and what their file says besides.
#[derive(Clone, Debug)]
pub(super) struct FindingsPlace {
    fingerprint: Fingerprint,
    model: String,
    engine: String,
}

impl FindingsKey<'_> {
    /// Where its findings are kept.
    ///
    /// # Errors
    /// The library of operators cannot be read.
    pub(super) fn place(&self) -> Result<FindingsPlace, ConfigError> {
        let engine = format!("{} {}", self.engine, self.engine_version);
        let fingerprint = self.fingerprint()?;
        Ok(FindingsPlace { fingerprint, model: self.model.to_owned(), engine })
    }

    fn fingerprint(&self) -> Result<Fingerprint, ConfigError> {
        let hash = FingerprintBuilder::default()
            .number(u64::from(FORMAT))
            .text(RELEASE)
            .text(&self.content.to_string())
            .number(u64::from(self.rows_max))
            .text(self.engine)
            .text(self.engine_version)
            .number(self.threads as u64)
            .text(&self.machine.cpu)
            .number(self.machine.cores as u64);
        let hash = with_settings(hash, self.settings).number(u64::from(self.custom_ops.is_some()));
        match self.custom_ops {
            Some(library) => Ok(hash.file(library)?.finish()),
            None => Ok(hash.finish()),
        }
    }
}

/// Adds the settings that change what is tried out. The pattern names all settings, so that one that
/// is added cannot be forgotten here.
fn with_settings(hash: FingerprintBuilder, settings: &GraphSettings) -> FingerprintBuilder {
    let GraphSettings {
        shapes,
        max_size,
        pad,
        pad_dimension,
        batch_axis,
        broadcast,
        batch_dependent,
        share_weights,
        // The engine and the library of operators are parts of the key; clients alone see reshape.
        choice: _,
        custom_ops: _,
        reshape: _,
    } = settings;
    hash.text(&format!("{shapes:?}"))
        .text(&format!("{max_size:?}"))
        .text(&format!("{pad:?}"))
        .text(&format!("{pad_dimension:?}"))
        .text(&format!("{batch_axis:?}"))
        .text(&format!("{broadcast:?}"))
        .text(&format!("{batch_dependent:?}"))
        .text(&format!("{share_weights:?}"))
}

/// The kept findings.
#[derive(Debug)]
pub(super) struct FindingsCache {
    files: KeptFiles,
}

impl FindingsCache {
    /// The findings in a cache.
    pub(super) fn new(cache: &Cache) -> FindingsCache {
        FindingsCache { files: cache.files(FINDINGS) }
    }

    /// Reads what was found. A file that cannot be used counts as missing.
    pub(super) fn read(&self, place: &FindingsPlace) -> Option<Found> {
        let kept = self.files.read(place.fingerprint);
        let found = kept.and_then(|source| source.map(|source| parse(&source)).transpose());
        found.unwrap_or_else(|error| {
            let model = &place.model;
            debug!(model, "it is tried out again, as what was found cannot be used: {error}");
            None
        })
    }

    /// Keeps what was found.
    pub(super) fn write(&self, place: &FindingsPlace, found: &Found) {
        let what = format!("what was found of model {:?}", place.model);
        self.files.write(place.fingerprint, &what, &contents(place, found));
    }
}

/// The file of one model's findings.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FindingsFile {
    format: u32,
    model: String,
    engine: String,
    shares_batches: bool,
    /// Why batches are not shared, or how answers depend on other rows of a batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dimension: Vec<DimensionLine>,
    output: Vec<OutputLine>,
    run: Vec<RunLine>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DimensionLine {
    name: String,
    max: usize,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputLine {
    name: String,
    shape: Vec<DimText>,
}

/// Sizes at which the model has run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunLine {
    sizes: Vec<usize>,
    way: usize,
}

/// One dimension of an output.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DimText {
    Batch,
    Unknown,
    /// The place among the open dimensions.
    Open(u16),
    Fixed(usize),
}

impl From<Dim> for DimText {
    fn from(dim: Dim) -> DimText {
        match dim {
            Dim::Batch => DimText::Batch,
            Dim::Unknown => DimText::Unknown,
            Dim::Open(index) => DimText::Open(index),
            Dim::Fixed(size) => DimText::Fixed(size),
        }
    }
}

impl From<DimText> for Dim {
    fn from(dim: DimText) -> Dim {
        match dim {
            DimText::Batch => Dim::Batch,
            DimText::Unknown => Dim::Unknown,
            DimText::Open(index) => Dim::Open(index),
            DimText::Fixed(size) => Dim::Fixed(size),
        }
    }
}

fn contents(place: &FindingsPlace, found: &Found) -> String {
    let (shares_batches, because) = match &found.batching {
        Batching::Shared { dependence } => (true, dependence.clone()),
        Batching::Single { reason } => (false, reason.clone()),
    };
    let dimension = |(name, max): &(String, usize)| DimensionLine { name: name.clone(), max: *max };
    let output = |(name, shape): &(String, Vec<Dim>)| OutputLine {
        name: name.clone(),
        shape: shape.iter().copied().map(DimText::from).collect(),
    };
    let run = |(sizes, way): &(Vec<usize>, usize)| RunLine { sizes: sizes.clone(), way: *way };
    let file = FindingsFile {
        format: FORMAT,
        model: place.model.clone(),
        engine: place.engine.clone(),
        shares_batches,
        because,
        dimension: found.dimensions.iter().map(dimension).collect(),
        output: found.outputs.iter().map(output).collect(),
        run: found.sizes.iter().map(run).collect(),
    };
    let text = toml::to_string(&file).expect("tables of numbers and strings are valid TOML");
    format!("{HEAD}{SUM}{}\n{text}", sum(&text))
}

/// Tells a file that is whole from one that is damaged.
fn sum(text: &str) -> Fingerprint {
    FingerprintBuilder::default().text(text).finish()
}

fn parse(source: &TomlSource) -> Result<Found, ConfigError> {
    let signed = source.text().strip_prefix(HEAD).and_then(|text| text.strip_prefix(SUM));
    let is_whole = signed
        .and_then(|text| text.split_once('\n'))
        .is_some_and(|(expected, text)| expected == sum(text).to_string());
    if !is_whole {
        return Err(source.refuse(None, "it is not as it was written"));
    }
    let file: FindingsFile = source.parse()?;
    if file.format != FORMAT {
        return Err(source.refuse(None, format!("format {} is not {FORMAT}", file.format)));
    }
    let batching = match file.shares_batches {
        true => Batching::Shared { dependence: file.because },
        false => Batching::Single { reason: file.because },
    };
    let output = |line: OutputLine| {
        let shape = line.shape.into_iter().map(Dim::from).collect();
        (line.name, shape)
    };
    Ok(Found {
        batching,
        dimensions: file.dimension.into_iter().map(|line| (line.name, line.max)).collect(),
        outputs: file.output.into_iter().map(output).collect(),
        sizes: file.run.into_iter().map(|line| (line.sizes, line.way)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::{BatchAxis, EngineChoice, Fill};
    use expect_test::expect;
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::PathBuf;

    fn machine() -> Machine {
        Machine { cpu: "a fast one".to_owned(), cores: 2 }
    }

    fn content(text: &str) -> Fingerprint {
        FingerprintBuilder::default().text(text).finish()
    }

    fn key<'a>(settings: &'a GraphSettings, machine: &'a Machine) -> FindingsKey<'a> {
        FindingsKey {
            model: "m",
            content: content("model"),
            settings,
            custom_ops: None,
            rows_max: 8,
            engine: "onnxruntime",
            engine_version: "1",
            threads: 2,
            machine,
        }
    }

    fn found() -> Found {
        Found {
            batching: Batching::Single {
                reason: Some("output \"y\" differs by 1.2e-1".to_owned()),
            },
            dimensions: vec![("sequence".to_owned(), 512)],
            outputs: vec![
                ("y".to_owned(), vec![Dim::Batch, Dim::Open(0), Dim::Fixed(3), Dim::Unknown]),
                ("z".to_owned(), vec![]),
            ],
            sizes: vec![(vec![8], 0), (vec![512], 2)],
        }
    }

    /// A cache that holds findings, and the path of their file.
    fn kept() -> (tempfile::TempDir, FindingsCache, FindingsPlace, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let cache = FindingsCache::new(&Cache::new(directory.path().to_owned()));
        let place = key(&GraphSettings::default(), &machine()).place().unwrap();
        cache.write(&place, &found());
        let path = cache.files.path(place.fingerprint);
        (directory, cache, place, path)
    }

    #[test]
    fn findings_read_back_as_they_were_written() {
        let (_directory, cache, place, path) = kept();
        assert_eq!(cache.read(&place), Some(found()));
        for batching in [
            Batching::Single { reason: None },
            Batching::Shared { dependence: None },
            Batching::Shared { dependence: Some("by \u{b1}1\n".to_owned()) },
        ] {
            let other = Found { batching, dimensions: vec![], ..found() };
            cache.write(&place, &other);
            assert_eq!(cache.read(&place), Some(other));
        }
        cache.write(&place, &found());
        let text = fs::read_to_string(path).unwrap();
        let (_, body) = text.split_once("follows: ").unwrap().1.split_once('\n').unwrap();
        expect![[r#"
            format = 1
            model = "m"
            engine = "onnxruntime 1"
            shares_batches = false
            because = 'output "y" differs by 1.2e-1'

            [[dimension]]
            name = "sequence"
            max = 512

            [[output]]
            name = "y"
            shape = ["batch", { open = 0 }, { fixed = 3 }, "unknown"]

            [[output]]
            name = "z"
            shape = []

            [[run]]
            sizes = [8]
            way = 0

            [[run]]
            sizes = [512]
            way = 2
        "#]]
        .assert_eq(body);
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let (_directory, cache, place, path) = kept();
        let good = fs::read(&path).unwrap();
        let cut = (0..good.len()).map(|length| good[..length].to_vec());
        let changed = (0..good.len()).map(|at| {
            let mut bad = good.clone();
            bad[at] ^= 1;
            bad
        });
        let nonsense = [&b"\0\xff"[..], b"x = 1", &[b'a'; 3 << 20][..]].map(<[u8]>::to_vec);
        for bad in cut.chain(changed).chain(nonsense) {
            fs::write(&path, &bad).unwrap();
            assert_eq!(cache.read(&place), None, "{}", String::from_utf8_lossy(&bad));
        }
        let text = String::from_utf8(good).unwrap();
        let (head, body) = text.split_once("format = ").unwrap();
        let newer = format!("format = {}", body.replacen('1', "2", 1));
        let head =
            head.replace(&sum(&format!("format = {body}")).to_string(), &sum(&newer).to_string());
        fs::write(&path, format!("{head}{newer}")).unwrap();
        assert_eq!(cache.read(&place), None, "another version's");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(cache.read(&place), None);
        cache.write(&place, &found());
    }

    #[test]
    fn findings_hold_only_while_everything_they_depend_on_is_the_same() {
        let (settings, machine) = (GraphSettings::default(), machine());
        let fingerprint = |key: &FindingsKey<'_>| key.place().unwrap().fingerprint;
        let usual = fingerprint(&key(&settings, &machine));
        let directory = tempfile::tempdir().unwrap();
        let library = directory.path().join("operators.so");
        fs::write(&library, "one").unwrap();
        let with_library =
            fingerprint(&FindingsKey { custom_ops: Some(&library), ..key(&settings, &machine) });
        fs::write(&library, "other").unwrap();
        let number = |name: &str, size: usize| BTreeMap::from([(name.to_owned(), size)]);
        let changed = |change: fn(&mut GraphSettings)| {
            let mut settings = GraphSettings::default();
            change(&mut settings);
            settings
        };
        let all_settings = [
            changed(|s| drop(s.shapes.insert("x".to_owned(), vec![Some(3), None]))),
            changed(|s| drop(s.shapes.insert("x".to_owned(), vec![Some(3), Some(3)]))),
            GraphSettings { max_size: number("n", 3), ..GraphSettings::default() },
            GraphSettings { max_size: number("n", 4), ..GraphSettings::default() },
            changed(|s| drop(s.pad.insert("x".to_owned(), Fill::Number(0.0)))),
            changed(|s| drop(s.pad.insert("x".to_owned(), Fill::Text("0".to_owned())))),
            changed(|s| s.pad_dimension = Some("n".to_owned())),
            changed(|s| s.batch_axis = Some(BatchAxis::Position(1))),
            changed(|s| s.batch_axis = Some(BatchAxis::Name("1".to_owned()))),
            changed(|s| s.broadcast = BTreeSet::from(["x".to_owned()])),
            changed(|s| s.batch_dependent = true),
            changed(|s| s.share_weights = true),
        ];
        let faster = Machine { cores: 4, ..machine.clone() };
        let other_cpu = Machine { cpu: "another".to_owned(), ..machine.clone() };
        let others = [
            FindingsKey { content: content("changed"), ..key(&settings, &machine) },
            FindingsKey { rows_max: 9, ..key(&settings, &machine) },
            FindingsKey { engine: "rten", ..key(&settings, &machine) },
            FindingsKey { engine_version: "2", ..key(&settings, &machine) },
            FindingsKey { threads: 1, ..key(&settings, &machine) },
            FindingsKey { custom_ops: Some(&library), ..key(&settings, &machine) },
            key(&settings, &faster),
            key(&settings, &other_cpu),
        ];
        let mut seen = vec![usual, with_library];
        seen.extend(others.iter().map(fingerprint));
        seen.extend(all_settings.iter().map(|settings| fingerprint(&key(settings, &machine))));
        let all = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), all, "each has a file of its own");
        let same = [
            changed(|s| s.choice = EngineChoice::Onnxruntime),
            changed(|s| drop(s.reshape.insert("x".to_owned(), vec![]))),
        ];
        for settings in &same {
            assert_eq!(fingerprint(&key(settings, &machine)), usual, "{settings:?}");
        }
        assert_eq!(fingerprint(&FindingsKey { model: "other", ..key(&settings, &machine) }), usual);
        let missing = directory.path().join("missing.so");
        let key = FindingsKey { custom_ops: Some(&missing), ..key(&settings, &machine) };
        assert!(key.place().unwrap_err().to_string().contains("missing.so"));
    }
}

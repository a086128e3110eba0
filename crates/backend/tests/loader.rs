//! Loads models from directories, without an onnxruntime library. This is a process of its own,
//! because a process opens at most one library.

#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use expect_test::{Expect, expect};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use symphony_backend::engine::{Cores, Engine};
use symphony_backend::engines::rten::Rten;
use symphony_backend::loader::{LoadedFiles, LoadedModel, Loader, LoaderConfig, PYTHON_DEFAULT};
use symphony_backend::profiling::{Effort, ProfileOrigin, sample_rows};
use symphony_backend::repository::{ModelDirectory, Repository};
use symphony_core::{Class, Objective, Span};

const EMULATED: &str = "engine = 'emulated'
slo_ms = 25
max_batch = 8
priority = 'low'
queue_max = 99
[emulated]
alpha_ms = 1
beta_ms = 5
[[input]]
name = 'x'
datatype = 'FP32'
shape = [2]
[[output]]
name = 'y'
datatype = 'FP32'
shape = [2]
";

/// A repository of one model, `m`, and a loader with a cache beside it.
struct Fixture {
    root: tempfile::TempDir,
    loader: Loader,
}

impl Fixture {
    fn new(files: &[(&str, &[u8])]) -> Fixture {
        let root = tempfile::tempdir().unwrap();
        let fixture = Fixture { loader: loader(root.path()), root };
        for (name, contents) in files {
            fixture.write(name, contents);
        }
        fixture
    }

    fn write(&self, name: &str, contents: &[u8]) {
        let path = self.root.path().join("models/m").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    fn directory(&self) -> ModelDirectory {
        Repository::open(&self.root.path().join("models")).unwrap().find("m").unwrap()
    }

    fn is_current(&self, state: &LoadedFiles) -> bool {
        self.directory().read().is_ok_and(|source| state.is_current(&source))
    }

    fn load(&self) -> LoadedModel {
        self.loader.load(&self.directory()).unwrap()
    }

    fn profiles(&self) -> Vec<PathBuf> {
        self.kept("profiles")
    }

    /// The files of one kind in the cache.
    fn kept(&self, kind: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.path().join("cache").join(kind)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// The files of findings, each with what tells one writing of it from another.
    fn findings(&self) -> Vec<(PathBuf, u64)> {
        let inode = |path: PathBuf| {
            let inode = fs::metadata(&path).unwrap().ino();
            (path, inode)
        };
        self.kept("findings").into_iter().map(inode).collect()
    }
}

fn loader(root: &Path) -> Loader {
    let effort = Effort { runs: 3, time_least: Span::ZERO, ..Effort::default() };
    Loader::new(LoaderConfig {
        cores: Cores { accelerators: 2, threads: 1 },
        cache_dir: root.join("cache"),
        onnxruntime: Some(PathBuf::from("/nowhere/libonnxruntime.so")),
        python: PYTHON_DEFAULT.into(),
        effort,
    })
}

fn digits() -> Vec<u8> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models");
    fs::read(models.join("digits/1/model.onnx")).unwrap()
}

/// Checks what loading says and, with `check_finds_it`, that checking alone says the same.
#[expect(clippy::needless_pass_by_value, reason = "the form expect! gives")]
fn refused(files: &[(&str, &[u8])], check_finds_it: bool, expected: Expect) {
    let fixture = Fixture::new(files);
    let root = fixture.root.path().display().to_string();
    let error = fixture.loader.load(&fixture.directory()).unwrap_err().to_string();
    expected.assert_eq(&error.replace(&root, "ROOT"));
    let checked = fixture.loader.check(&fixture.directory());
    assert_eq!(checked.err().map(|found| found.to_string()), check_finds_it.then_some(error));
}

#[test]
fn an_emulated_model_is_ready_at_once() {
    let fixture = Fixture::new(&[("model.toml", EMULATED.as_bytes())]);
    let mut loaded = fixture.load();
    assert_eq!((loaded.name.as_str(), loaded.version), ("m", 1));
    assert_eq!((loaded.engine, loaded.platform), ("emulated", "emulated"));
    assert_eq!(loaded.objective, Objective::Slo(Span::from_millis(25)));
    assert_eq!((loaded.rows_max, loaded.queue_max, loaded.class), (8, 99, Class::Low));
    assert_eq!(loaded.measured.origin, ProfileOrigin::Known);
    assert_eq!(loaded.plan.exec(8), Span::from_millis(13));
    assert_eq!(loaded.residents.len(), 2);
    let rows = sample_rows(&loaded.signature, &[], 2, 1);
    let outputs = loaded.residents[1].run(&rows).unwrap();
    assert_eq!(outputs[0][0].data, rows[0].tensors[0]);
    assert!(fixture.loader.check(&fixture.directory()).is_ok());
}

#[test]
fn a_trained_model_is_measured_and_its_profile_kept() {
    let fixture = Fixture::new(&[("1/model.onnx", &digits()), ("model.toml", b"max_batch = 4")]);
    let mut loaded = fixture.load();
    assert_eq!((loaded.engine, loaded.platform), ("rten", "rten_onnx"));
    assert!(loaded.objective.is_soft() && loaded.objective.span() >= Span::from_millis(100));
    assert_eq!((loaded.rows_max, loaded.residents.len()), (4, 2));
    let sizes: Vec<_> = loaded.measured.cells.iter().map(|cell| cell.cell.rows).collect();
    assert_eq!(sizes, [1, 2, 3, 4]);
    assert!(loaded.measured.cells.iter().all(|cell| cell.runs >= 3));
    assert_eq!(loaded.measured.origin, ProfileOrigin::Measured);
    assert_eq!(loaded.plan.rows_max(), 4);
    let rows = sample_rows(&loaded.signature, &[], 4, 1);
    let outputs = loaded.residents[1].run(&rows).unwrap();
    assert_eq!(outputs[3][0].shape, [1, 10]);
    assert_eq!(fixture.profiles().len(), 1);
    let again = fixture.load().measured;
    assert_eq!((again.origin, again.cells), (ProfileOrigin::Cached, loaded.measured.cells));
}

#[test]
fn a_damaged_profile_is_measured_again() {
    let fixture = Fixture::new(&[("1/model.onnx", &digits()), ("model.toml", b"max_batch = 2")]);
    fixture.load();
    let profile = fixture.profiles().remove(0);
    fs::write(&profile, "size = 3").unwrap();
    assert_eq!(fixture.load().measured.origin, ProfileOrigin::Measured);
    assert!(fs::read_to_string(&profile).unwrap().contains("p95_ns"));
    // An implausible profile is measured again, too.
    let good = fs::read_to_string(&profile).unwrap();
    let slower: String = good
        .lines()
        .map(|line| match line.split_once("_ns = ") {
            Some((key, value)) => format!("{key}_ns = {value}000000\n"),
            None => format!("{line}\n"),
        })
        .collect();
    fs::write(&profile, slower).unwrap();
    assert_eq!(fixture.load().measured.origin, ProfileOrigin::Measured);
    assert_eq!(fixture.profiles().len(), 1);
}

#[test]
fn a_model_is_tried_out_again_only_if_what_was_found_may_not_hold() {
    let fixture = Fixture::new(&[("1/model.onnx", &digits()), ("model.toml", b"max_batch = 2")]);
    let first = fixture.load();
    let [(path, written)] = fixture.findings().try_into().unwrap();
    let again = fixture.load();
    assert_eq!(again.signature, first.signature);
    assert_eq!(fixture.findings(), [(path.clone(), written)], "it was not tried out again");
    // What only concerns scheduling changes nothing; the largest batch does.
    fixture.write("model.toml", b"max_batch = 2\nslo_ms = 10000");
    fixture.load();
    assert_eq!(fixture.findings(), [(path.clone(), written)]);
    fixture.write("model.toml", b"max_batch = 3");
    assert_eq!(fixture.load().rows_max, 3);
    assert_eq!(fixture.findings().len(), 2);
    // The same graph with another name of its producer is another file.
    fixture.write("model.toml", b"max_batch = 2");
    let mut changed = symphony_onnx::OnnxModel::decode(digits().into()).unwrap();
    changed.edit(|proto| proto.producer_name = Some("somebody else".to_owned())).unwrap();
    fixture.write("1/model.onnx", &changed.encode());
    fixture.load();
    assert_eq!(fixture.findings().len(), 3);
    // A damaged file is replaced.
    fixture.write("1/model.onnx", &digits());
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert_eq!(fixture.load().signature, first.signature);
    assert_eq!(fs::read(&path).unwrap(), good);
    // Running the models once with `--check --run` relies on nothing, and keeps what it finds.
    let before = fixture.findings();
    fixture.loader.try_out(&fixture.directory()).unwrap();
    let after = fixture.findings();
    assert_eq!((before.len(), after.len()), (3, 3));
    assert_eq!(before.iter().filter(|file| !after.contains(file)).count(), 1);
}

#[test]
fn a_cache_that_cannot_be_written_does_not_stop_serving() {
    let fixture = Fixture::new(&[("1/model.onnx", &digits()), ("model.toml", b"max_batch = 1")]);
    fs::write(fixture.root.path().join("cache"), "a file in the way").unwrap();
    assert_eq!(fixture.load().measured.origin, ProfileOrigin::Measured);
}

#[test]
fn a_model_is_current_until_files_version_or_settings_change() {
    let fixture = Fixture::new(&[("1/model.onnx", &digits()), ("model.toml", b"max_batch = 1")]);
    let state = fixture.load().state;
    let is_current = || fixture.is_current(&state);
    assert!(is_current());
    fixture.write("model.toml", b"max_batch = 2");
    assert!(!is_current());
    fixture.write("model.toml", b"max_batch = 1");
    assert!(is_current());
    fixture.write("2/model.onnx", &digits());
    assert!(!is_current());
    fs::remove_dir_all(fixture.root.path().join("models/m/2")).unwrap();
    assert!(is_current());
    // The same contents in a new file count as a change.
    fixture.write("1/new", &digits());
    let version = fixture.root.path().join("models/m/1");
    fs::rename(version.join("new"), version.join("model.onnx")).unwrap();
    assert!(!is_current());
    let state = fixture.load().state;
    assert!(fixture.is_current(&state));
    fs::remove_file(version.join("model.onnx")).unwrap();
    assert!(!fixture.is_current(&state));
}

#[test]
fn weights_beside_the_model_are_part_of_it() {
    use symphony_onnx::proto::{StringStringEntryProto, tensor_proto::DataLocation};
    let mut proto = symphony_onnx::OnnxModel::decode(digits().into()).unwrap().proto().clone();
    let tensors = &mut proto.graph.as_mut().unwrap().initializer;
    let tensor = tensors.iter_mut().find(|tensor| tensor.raw_data.is_some()).unwrap();
    let weights = tensor.raw_data.take().unwrap();
    let entry = |key: &str, value: &str| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    };
    let length = weights.len().to_string();
    let entries = [("location", "model.onnx.data"), ("offset", "0"), ("length", &length)];
    tensor.external_data = entries.map(|(key, value)| entry(key, value)).to_vec();
    tensor.data_location = Some(DataLocation::External as i32);
    let onnx = prost::Message::encode_to_vec(&proto);
    let fixture = Fixture::new(&[
        ("1/model.onnx.data", &weights),
        ("1/model.onnx", &onnx),
        ("model.toml", b"max_batch = 1"),
    ]);
    let state = fixture.load().state;
    assert!(fixture.is_current(&state));
    fixture.write("1/model.onnx.data", &[&weights[..], b"more"].concat());
    assert!(!fixture.is_current(&state));
    fixture.load();
    assert_eq!(fixture.profiles().len(), 2, "other weights have a profile of their own");
}

#[test]
fn no_objective_is_refused_for_a_kept_profile_from_a_busier_hour() {
    let fixture = Fixture::new(&[("1/model.onnx", &digits()), ("model.toml", b"max_batch = 1")]);
    fixture.load();
    let profile = fixture.profiles().remove(0);
    let kept = fs::read_to_string(&profile).unwrap();
    let slower: String = kept
        .lines()
        .map(|line| match line.split_once("mean_ns = ") {
            Some((_, value)) => format!("mean_ns = {value}000000\n"),
            None => format!("{line}\n"),
        })
        .collect();
    fs::write(&profile, slower).unwrap();
    fixture.write("model.toml", b"max_batch = 1\nslo_ms = 10000");
    assert_eq!(fixture.load().measured.origin, ProfileOrigin::Measured);
}

#[test]
fn what_cannot_be_served_is_refused() {
    let digits = digits();
    refused(
        &[("model.toml", b"slo = 1")],
        true,
        expect![[
            r#"model "m" cannot be served: ROOT/models/m/model.toml:1: unknown field `slo`, expected one of `versions`, `file`, `slo_ms`, `queue_timeout_ms`, `max_batch`, `engine`, `shape`, `reshape` ... rity`, `queue_max`, `loss_weight`, `generate`, `emulated`, `python`, `parameters`, `input`, `output`"#
        ]],
    );
    refused(
        &[("1/model.onnx", b"no model")],
        true,
        expect![[
            r#"model "m" cannot be served: ROOT/models/m/1/model.onnx: not an ONNX model, or cut short: failed to decode Protobuf message: invalid wire type value: 6"#
        ]],
    );
    refused(
        &[("1/model.onnx", &digits[..digits.len() / 2])],
        true,
        expect![[
            r#"model "m" cannot be served: ROOT/models/m/1/model.onnx: not an ONNX model, or cut short: failed to decode Protobuf message: ModelProto.graph: buffer underflow"#
        ]],
    );
    refused(
        &[("model.toml", b"generate = 'alexnet'")],
        true,
        expect![[
            r#"model "m" cannot be served: no example "alexnet"; there are mobilenet_v2, resnet50, encoder, wide_dense, wider_dense"#
        ]],
    );
    let wrong_rank = b"shape = { image = [64] }";
    refused(
        &[("1/model.onnx", &digits), ("model.toml", wrong_rank)],
        true,
        expect![[
            r#"model "m" cannot be served: shape in model.toml gives input "image" 1 dimensions: give the 3 of one row, or all 4"#
        ]],
    );
    let hasty = EMULATED.replace("slo_ms = 25", "slo_ms = 5.5");
    refused(
        &[("model.toml", hasty.as_bytes())],
        false,
        expect![[
            r#"model "m" cannot be served: slo_ms = 5.5 cannot be met: one row alone takes 6.000ms (95th percentile) on emulated; raise slo_ms to at least that, or use a faster engine or machine"#
        ]],
    );
}

#[test]
fn an_engine_that_is_asked_for_but_not_installed_is_refused() {
    let settings = b"engine = 'onnxruntime'";
    let fixture = Fixture::new(&[("1/model.onnx", &digits()), ("model.toml", settings)]);
    let error = fixture.loader.load(&fixture.directory()).unwrap_err().to_string();
    for part in ["onnxruntime is not usable", "/nowhere/libonnxruntime.so", "pip install"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(fixture.loader.check(&fixture.directory()).is_err());
}

#[test]
fn kept_profiles_name_the_version_of_rten_that_is_built() {
    let version = Rten::new(Cores { accelerators: 1, threads: 1 }).version();
    let pinned = format!("\nrten = {{ version = \"={version}\"");
    assert!(include_str!("../../../Cargo.toml").contains(&pinned), "change VERSION in rten.rs too");
}

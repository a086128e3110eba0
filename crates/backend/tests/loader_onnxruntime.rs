//! Which engine a model is loaded on when the onnxruntime library is installed.

#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::fs;
use std::path::Path;
use symphony_backend::engine::Cores;
use symphony_backend::loader::{LoadError, LoadedModel, Loader, LoaderConfig};
use symphony_backend::profiling::{Effort, sample_rows};
use symphony_backend::repository::Repository;
use symphony_core::Span;
use symphony_onnx::OnnxModel;

/// Loads one model from a repository of its own.
fn load(settings: &str, onnx: Option<&[u8]>) -> Result<LoadedModel, LoadError> {
    load_with(settings, |model| {
        if let Some(onnx) = onnx {
            fs::write(model.join("model.onnx"), onnx).unwrap();
        }
    })
}

/// The same with files of any kind in the model's directory.
fn load_with(settings: &str, fill: impl FnOnce(&Path)) -> Result<LoadedModel, LoadError> {
    assert!(
        std::env::var_os("ORT_DYLIB_PATH").is_some(),
        "this test needs the onnxruntime library: run `cargo xtask test`, or set ORT_DYLIB_PATH"
    );
    let root = tempfile::tempdir().unwrap();
    let models = root.path().join("models");
    fs::create_dir_all(models.join("m")).unwrap();
    fs::write(models.join("m/model.toml"), settings).unwrap();
    fill(&models.join("m"));
    let loader = Loader::new(LoaderConfig {
        cores: Cores { accelerators: 1, threads: 1 },
        cache_dir: root.path().join("cache"),
        onnxruntime: None,
        effort: Effort { runs: 3, time_least: Span::ZERO, ..Effort::default() },
    });
    let directory = Repository::open(&models).unwrap().find("m").unwrap();
    loader.load(&directory)
}

fn digits() -> Vec<u8> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models");
    fs::read(models.join("digits/1/model.onnx")).unwrap()
}

#[test]
fn onnxruntime_is_taken_where_it_is_found_unless_another_is_asked_for() {
    for (settings, engine, platform) in [
        ("max_batch = 2", "onnxruntime", "onnxruntime_onnx"),
        ("max_batch = 2\nengine = 'onnxruntime'", "onnxruntime", "onnxruntime_onnx"),
        ("max_batch = 2\nengine = 'rten'", "rten", "rten_onnx"),
    ] {
        let loaded = load(settings, Some(&digits())).unwrap();
        assert_eq!((loaded.engine, loaded.platform), (engine, platform), "{settings}");
        assert_eq!(loaded.measured.cells.len(), 2);
    }
}

#[test]
fn an_example_is_generated_and_loaded() {
    let loaded = load("generate = 'mobilenet_v2'\nmax_batch = 2", None).unwrap();
    assert_eq!((loaded.engine, loaded.rows_max), ("onnxruntime", 2));
    assert_eq!(loaded.signature.inputs[0].metadata_shape(), [-1, 3, 224, 224]);
}

#[test]
fn what_no_engine_runs_is_refused_with_what_each_says() {
    let mut model = OnnxModel::decode(digits().into()).unwrap();
    model
        .edit(|proto| {
            for node in proto.graph.iter_mut().flat_map(|graph| &mut graph.node) {
                if node.op_type() == "Relu" {
                    node.op_type = Some("Frobnicate".to_owned());
                }
            }
        })
        .unwrap();
    let error = load("", Some(&model.encode())).unwrap_err();
    let text = error.to_string();
    let start = "model \"m\" cannot be served: no engine runs it: onnxruntime cannot load";
    assert!(text.starts_with(start) && text.contains("(and 1 more:"), "{text}");
    assert!(text.chars().count() <= 300, "{text}");
    let details = error.details();
    assert!(details[0].contains("Frobnicate"), "{details:?}");
    assert!(details[1].contains("Frobnicate (in any form)"), "{details:?}");
}

#[test]
fn a_library_of_operators_that_does_not_load_is_a_clear_error() {
    for (settings, expected) in [
        ("custom_ops = 'none.so'", "custom_ops: there is no file"),
        ("custom_ops = 'model.toml'", "model.toml does not load"),
    ] {
        let settings = format!("engine = 'onnxruntime'\nmax_batch = 1\n{settings}");
        let error = load(&settings, Some(&digits())).unwrap_err();
        let details = error.details().join(" ");
        assert!(details.contains("custom_ops") && details.contains(expected), "{details}");
        assert!(error.to_string().chars().count() <= 300, "{error}");
    }
    let loaded = load("engine = 'rten'\ncustom_ops = 'model.toml'", Some(&digits()));
    assert!(loaded.unwrap_err().to_string().contains("custom_ops are operators for onnxruntime"));
}

/// The digits model with its largest weights in another file, of this name.
fn digits_beside(weights: &str) -> (Vec<u8>, bytes::Bytes) {
    use symphony_onnx::proto::{StringStringEntryProto, tensor_proto::DataLocation};
    let mut proto = OnnxModel::decode(digits().into()).unwrap().proto().clone();
    let tensors = &mut proto.graph.as_mut().unwrap().initializer;
    let size =
        |tensor: &symphony_onnx::proto::TensorProto| tensor.raw_data.as_ref().map(|d| d.len());
    let tensor = tensors.iter_mut().max_by_key(|tensor| size(tensor)).unwrap();
    let data = tensor.raw_data.take().unwrap();
    let entry = |(key, value): (&str, &str)| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    };
    let length = data.len().to_string();
    let entries = [("location", weights), ("offset", "0"), ("length", &length)];
    tensor.external_data = entries.map(entry).to_vec();
    tensor.data_location = Some(DataLocation::External as i32);
    (prost::Message::encode_to_vec(&proto), data)
}

/// The newest onnxruntime reads no weights that a link leads out of the model's directory, and the
/// caches of model hubs are made of such links.
#[test]
fn weights_behind_links_are_read_wherever_they_lead() {
    let rows = |loaded: &LoadedModel| sample_rows(&loaded.signature, &[], 1, 1);
    let mut inside = load("max_batch = 2", Some(&digits())).unwrap();
    let rows = rows(&inside);
    let expected = inside.residents[0].run(&rows).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let [blobs, disk] = ["blobs", "disk"].map(|name| elsewhere.path().join(name));
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&disk).unwrap();
    let (onnx, weights) = digits_beside("model.onnx_data");
    fs::write(blobs.join("0a1b"), &onnx).unwrap();
    fs::write(disk.join("2c3d"), &weights).unwrap();
    let link = |target: &Path, link: &Path| std::os::unix::fs::symlink(target, link).unwrap();
    for (settings, engine) in [
        ("max_batch = 2", "onnxruntime"),
        // With another graph than the file's.
        ("max_batch = 2\nshape = { image = [1, 1, 8, 8] }", "onnxruntime"),
        ("max_batch = 2\nengine = 'rten'", "rten"),
    ] {
        let mut loaded = load_with(settings, |model| {
            link(&blobs.join("0a1b"), &model.join("model.onnx"));
            link(&disk.join("2c3d"), &model.join("model.onnx_data"));
        })
        .unwrap();
        assert_eq!(loaded.engine, engine, "{settings}");
        let outputs = loaded.residents[0].run(&rows).unwrap();
        assert_eq!(outputs[0][0].shape, expected[0][0].shape, "{settings}");
        if engine == "onnxruntime" {
            assert_eq!(outputs, expected, "{settings}");
        }
    }
    let missing = load_with("", |model| link(&blobs.join("0a1b"), &model.join("model.onnx")));
    let error = missing.unwrap_err().details().join(" ");
    for part in ["model.onnx_data", "there is no file", "copy the model again"] {
        assert!(error.contains(part), "{error}");
    }
}

//! Which engine a model is loaded on when the onnxruntime library is installed.

#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use symphony_backend::engine::Cores;
use symphony_backend::loader::{LoadError, LoadedModel, Loader, LoaderConfig, PYTHON_DEFAULT};
use symphony_backend::profiling::{Effort, sample_rows};
use symphony_backend::repository::Repository;
use symphony_core::Span;
use symphony_onnx::OnnxModel;
use symphony_wire::tensor::Inputs;

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
        python: PYTHON_DEFAULT.into(),
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

fn floats(data: &[u8]) -> impl Iterator<Item = f32> {
    data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
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
        ("max_batch = 2\nshare_weights = true", "onnxruntime"),
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
        let shares = settings.contains("share_weights");
        if engine == "onnxruntime" && !shares {
            assert_eq!(outputs, expected, "{settings}");
        }
        if shares {
            // Sums are rounded in another order.
            let (got, expected) = (floats(&outputs[0][0].data), floats(&expected[0][0].data));
            assert!(got.zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-4));
            let maps = fs::read_to_string("/proc/self/maps").unwrap();
            assert!(maps.contains("2c3d"), "the weights are used where they lie");
        }
    }
    let missing = load_with("", |model| link(&blobs.join("0a1b"), &model.join("model.onnx")));
    let error = missing.unwrap_err().details().join(" ");
    for part in ["model.onnx_data", "there is no file", "copy the model again"] {
        assert!(error.contains(part), "{error}");
    }
}

/// A table of 2.5 GiB with one row that is not zero, its last, and a matrix behind it: a graph that
/// looks rows up and multiplies them, and the file of its weights, which is mostly a hole.
fn write_large(model: &Path) {
    use symphony_onnx::builder::GraphBuilder;
    use symphony_onnx::proto::{StringStringEntryProto, tensor_proto::DataLocation};
    use symphony_onnx::{Dim, ElementType};
    let mut graph = GraphBuilder::new("large", 17, 1);
    let batch = || Dim::Named("batch".to_owned());
    graph.input("ids", ElementType::Int64, &[batch()]);
    graph.floats("table", &[1, 1], &[0.0]);
    graph.floats("matrix", &[1, 1], &[0.0]);
    graph.node("row", "Gather", &["table", "ids"], vec![]);
    graph.node("y", "MatMul", &["row", "matrix"], vec![]);
    graph.output("y", ElementType::Float32, &[batch(), Dim::Fixed(2)]);
    let mut proto = graph.finish().unwrap().proto().clone();
    let [rows, width] = [LARGE_ROWS, i64::try_from(LARGE_WIDTH).unwrap()];
    let [table, matrix] = [rows * width * 4, width * 2 * 4];
    let tensors = proto.graph.as_mut().unwrap().initializer.iter_mut();
    for (tensor, (dims, offset, length)) in
        tensors.zip([([rows, width], 0, table), ([width, 2], table, matrix)])
    {
        let entry = |(key, value): (&str, String)| StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value),
        };
        let entries = [
            ("location", "weights".to_owned()),
            ("offset", offset.to_string()),
            ("length", length.to_string()),
        ];
        (tensor.dims, tensor.raw_data) = (dims.to_vec(), None);
        tensor.external_data = entries.map(entry).to_vec();
        tensor.data_location = Some(DataLocation::External as i32);
    }
    fs::write(model.join("model.onnx"), prost::Message::encode_to_vec(&proto)).unwrap();
    let [table, matrix] = [table, matrix].map(|bytes| u64::try_from(bytes).unwrap());
    let weights = fs::File::create(model.join("weights")).unwrap();
    weights.set_len(table + matrix).unwrap();
    let last = [0.5f32; LARGE_WIDTH].map(f32::to_le_bytes).concat();
    let pair = [1f32, 2.0].map(f32::to_le_bytes).concat();
    weights.write_all_at(&last, table - last.len() as u64).unwrap();
    weights.write_all_at(&pair.repeat(LARGE_WIDTH), table).unwrap();
}

const LARGE_ROWS: i64 = 655_360;
const LARGE_WIDTH: usize = 1024;

/// A model file has at most 2 GiB; weights outside have no bound.
#[test]
#[ignore = "reads 2.5 GiB: cargo test --workspace --test loader_onnxruntime -- --ignored"]
fn weights_of_more_than_two_gib_are_loaded_and_used() {
    let mut loaded = load_with("max_batch = 4", write_large).unwrap();
    assert_eq!((loaded.engine, loaded.rows_max), ("onnxruntime", 4));
    let request = |id: i64| Inputs {
        rows: 1,
        sizes: vec![],
        tensors: vec![id.to_le_bytes().to_vec().into()],
    };
    let answers = loaded.residents[0].run(&[0, LARGE_ROWS - 1].map(request)).unwrap();
    for (answer, expected) in answers.iter().zip([[0f32, 0.0], [512.0, 1024.0]]) {
        assert_eq!(answer[0].shape, [1, 2]);
        assert_eq!(answer[0].data, expected.map(f32::to_le_bytes).concat());
    }
}

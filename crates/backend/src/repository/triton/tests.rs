//! Files as data: a text, and what it becomes.

use super::*;
use crate::repository::{EngineConfig, ModelConfig, ModelDirectory, TomlSource};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use std::fmt::Write as _;
use symphony_wire::tensor::Dim;

/// What a file says of the model `m`: its terms that are set, and what is noted.
fn shown(text: &str) -> String {
    let file = match TritonFile::parse(PathBuf::from("m/config.pbtxt"), text.to_owned()) {
        Ok(file) => file,
        Err(error) => return format!("{error}\n"),
    };
    let terms = match file.inherited("m") {
        Ok(terms) => terms,
        Err(error) => return format!("{error}\n"),
    };
    let mut shown = String::new();
    let mut line = |key: &str, value: Option<String>| {
        let Some(value) = value else { return };
        writeln!(shown, "{key}: {value}").unwrap();
    };
    line("versions", terms.versions.map(|policy| policy.to_string()));
    line("file", terms.file);
    line("max_batch", terms.max_batch.map(|rows| rows.to_string()));
    line("class", terms.class.map(|class| class.name().to_owned()));
    line("queue_max", terms.queue_max.map(|most| most.to_string()));
    line("custom_ops", terms.custom_ops.map(|path| path.display().to_string()));
    line("queue_timeout", terms.queue_timeout.map(|span| span.to_string()));
    for (key, shapes) in [("shape", terms.shapes), ("reshape", terms.reshape)] {
        line(key, (!shapes.is_empty()).then(|| format!("{shapes:?}")));
    }
    for note in file.notes() {
        writeln!(shown, "note {}: {}", note.key, note.instead).unwrap();
    }
    shown
}

#[expect(clippy::needless_pass_by_value, reason = "the form expect! gives")]
fn check(texts: &[&str], expected: Expect) {
    let shown: Vec<_> = texts.iter().map(|text| shown(text)).collect();
    expected.assert_eq(&shown.join("--\n"));
}

#[test]
fn keys_that_have_a_counterpart() {
    check(
        &[
            "",
            "name: 'm' platform: 'onnxruntime_onnx' max_batch_size: 8",
            "backend: 'onnxruntime' max_batch_size: 0 default_model_filename: 'net.onnx'",
            "version_policy { latest { num_versions: 2 } }",
            "version_policy: { latest { } }",
            "version_policy { all {} }",
            "version_policy { specific { versions: [ 3, 1 ] } }",
            "dynamic_batching { priority_levels: 2 default_priority_level: 2 }",
            "dynamic_batching { priority_levels: 5 default_priority_level: 3 }",
            "max_batch_size: 4 input [ { name: 'x' dims: [ -1, 3 ] } ]
               output { name: 'y' dims: [ 1, 4 ] reshape { shape: [ 4 ] } }",
            "model_operations { op_library_filename: 'ops/lib.so' }",
            "dynamic_batching { default_queue_policy { max_queue_size: 16
               timeout_action: REJECT default_timeout_microseconds: 50000 } }",
        ],
        expect![[r#"
            --
            max_batch: 8
            --
            file: net.onnx
            max_batch: 0
            --
            versions: { latest = 2 }
            --
            versions: "latest"
            --
            versions: "all"
            --
            versions: [1, 3]
            --
            class: low
            note dynamic_batching.priority_levels: there are two levels: 1 is high and 2 is low; requests that name none are high if their default is in the upper half of the levels
            --
            class: high
            note dynamic_batching.priority_levels: there are two levels: 1 is high and 2 is low; requests that name none are high if their default is in the upper half of the levels
            --
            max_batch: 4
            shape: {"x": [None, Some(3)]}
            reshape: {"y": [Some(1), Some(4)]}
            --
            custom_ops: ops/lib.so
            --
            queue_max: 16
            queue_timeout: 50.000ms
        "#]],
    );
}

#[test]
fn keys_without_a_counterpart_are_noted() {
    check(
        &[
            "instance_group [ { count: 2 kind: KIND_GPU gpus: [ 0, 1 ] } ]",
            "optimization { graph { level: 1 } } response_cache { enable: true }
               model_warmup [ { name: 'w' batch_size: 1 } ] runtime: 'x'
               parameters { key: 'intra_op_thread_count' value { string_value: '2' } }
               cc_model_filenames { key: '8.0' value: 'a' } metric_tags { key: 'a' value: 'b' }
               model_metrics {} model_repository_agents { agents { name: 'checksum' } }",
            "response_cache { enable: false }",
            "dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100
               preserve_ordering: true priority_levels: 1 default_priority_level: 1
               priority_queue_policy { key: 1 value { max_queue_size: 3 } }
               default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 9 } }",
            "input { name: 'x' format: FORMAT_NHWC } output { name: 'y' label_filename: 'l.txt' }",
        ],
        expect![[r#"
            note instance_group: one instance runs on each accelerator; --accelerators and --threads divide the cores, and GPUs are not used yet
            --
            note optimization: the engine optimises the graph in its own way
            note model_warmup: every load runs one row and the largest batch before the model serves
            note response_cache: answers are not kept: every request runs
            note parameters: given back with the configuration, and without effect; --threads sets an engine's threads
            note metric_tags: metrics have the labels model and version
            note model_metrics: histograms have the buckets that docs/metrics.md lists
            note model_repository_agents: no agent runs: the files are read as they are
            note cc_model_filenames: one file serves on every machine
            note runtime: the engine is onnxruntime, or else rten
            --
            --
            class: high
            note dynamic_batching.preferred_batch_size: the load and the objective decide how large batches are
            note dynamic_batching.max_queue_delay_microseconds: the load and the objective decide how long a batch waits
            note dynamic_batching.preserve_ordering: answers leave when they are ready; on a gRPC stream they keep their order
            note dynamic_batching.priority_levels: there are two levels: 1 is high and 2 is low; requests that name none are high if their default is in the upper half of the levels
            note dynamic_batching.priority_queue_policy: both levels have the default queue policy
            note dynamic_batching.default_queue_policy.timeout_action: a request that is late is not set back: the time-out has no effect
            --
            note input.format: the layout is the graph's own: nothing is transposed
            note output.label_filename: outputs are answered as tensors: there is no classification by labels
        "#]],
    );
}

#[test]
fn what_would_be_served_wrongly_is_refused() {
    check(
        &[
            "name: 'other'",
            "platform: 'tensorrt_plan'",
            "platform: 'tensorflow_savedmodel'",
            "backend: 'dali'",
            "platform: 'ensemble' ensemble_scheduling { step { model_name: 'a' } }",
            "sequence_batching { oldest {} }",
            "model_transaction_policy { decoupled: true }",
            "batch_input { kind: BATCH_ELEMENT_COUNT }",
            "batch_output {}",
            "input { name: 'x' allow_ragged_batch: true }",
            "output { name: 'x' is_shape_tensor: true }",
            "input { name: 'x' is_non_linear_format_io: true }",
            "max_batch_size: -1",
            "version_policy { specific { versions: [ 0 ] } }",
            "version_policy { specific { } }",
            "default_model_filename: '../../etc/passwd'",
            "dynamic_batching { priority_levels: 2 }",
            "dynamic_batching { priority_levels: 2 default_priority_level: 3 }",
            "model_operations { op_library_filename: [ 'a', 'b' ] }",
            "max_batch_size 8",
            "\n\ninput [ { name: 'x' datatype: TYPE_FP32 } ]",
        ],
        expect![[r#"
            m/config.pbtxt: name = "other", and the directory is "m": rename one of them, or leave name out
            --
            m/config.pbtxt: platform = "tensorrt_plan" is not served: there are engines for ONNX, Python and TorchScript models (onnxruntime_onnx, pytorch_libtorch); export the model to ONNX and set platform to "onnxruntime_onnx", or leave it to Triton
            --
            m/config.pbtxt: platform = "tensorflow_savedmodel" is not served: there are engines for ONNX, Python and TorchScript models (onnxruntime_onnx, pytorch_libtorch); export the model to ONNX and set platform to "onnxruntime_onnx", or leave it to Triton
            --
            m/config.pbtxt: backend = "dali" is not served: there are engines for ONNX, Python and TorchScript models (onnxruntime, python, pytorch); export the model to ONNX and set backend to "onnxruntime", or leave it to Triton
            --
            m/config.pbtxt: ensemble_scheduling: there are no ensembles here: have clients call its models one after the other, or leave it to Triton
            --
            m/config.pbtxt: sequence_batching: there are no sequences here, every request stands alone: have clients send the state as an input, or leave this model to Triton
            --
            m/config.pbtxt: model_transaction_policy.decoupled: every request has one answer here: leave this model to Triton
            --
            m/config.pbtxt: batch_input: no input is made from the batch here: have the graph compute it, or leave this model to Triton
            --
            m/config.pbtxt: batch_output: outputs are split by rows only: leave this model to Triton
            --
            m/config.pbtxt: allow_ragged_batch: requests of different shapes are not joined in one flat tensor here: leave it out (they run in batches of equal shapes), or leave this model to Triton
            --
            m/config.pbtxt: is_shape_tensor: shape tensors are TensorRT's: leave this model to Triton
            --
            m/config.pbtxt: is_non_linear_format_io: such formats are TensorRT's: leave this model to Triton
            --
            m/config.pbtxt: max_batch_size = -1 is not allowed: give the rows of the largest batch, or 0
            --
            m/config.pbtxt: version_policy: specific names no version: give the numbers of versions, such as `specific { versions: [ 1, 3 ] }`
            --
            m/config.pbtxt: version_policy: specific names no version: give the numbers of versions, such as `specific { versions: [ 1, 3 ] }`
            --
            m/config.pbtxt: default_model_filename = "../../etc/passwd" is not in the version's directory: give the name of a file there
            --
            m/config.pbtxt: dynamic_batching: default_priority_level = 0 is none of the 2 priority_levels: give one from 1 to 2
            --
            m/config.pbtxt: dynamic_batching: default_priority_level = 3 is none of the 2 priority_levels: give one from 1 to 2
            --
            m/config.pbtxt: model_operations names 2 libraries of operators: one can be opened for a model; link them into one
            --
            m/config.pbtxt:1:16: expected ':' or a message value, but found '8'
            --
            m/config.pbtxt:3:21: field 'datatype' not found for message 'inference.ModelInput'
        "#]],
    );
}

/// What a model's directory asks for, and what it asks for once `model.toml` is converted and
/// `config.pbtxt` is gone.
fn before_and_after(pbtxt: &str, toml: &str) -> [ModelSettings; 2] {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("m");
    fs::create_dir_all(path.join("1")).unwrap();
    for (name, text) in [(FILE, pbtxt), ("model.toml", toml), ("1/net.onnx", "")] {
        fs::write(path.join(name), text).unwrap();
    }
    let directory = ModelDirectory::at(&path).unwrap();
    let settings = || {
        let source = directory.read().unwrap();
        (source.policy, source.terms, format!("{:?}", source.kind))
    };
    let before = settings();
    let converted = directory.converted().unwrap().unwrap();
    assert!(converted.ends_with(toml), "what was there stays: {converted}");
    fs::write(path.join("model.toml"), &converted).unwrap();
    assert_eq!(directory.converted().unwrap(), None, "it says it all: {converted}");
    assert_eq!(settings(), before);
    fs::remove_file(path.join(FILE)).unwrap();
    [before, settings()]
}

type ModelSettings = (VersionPolicy, super::super::Terms, String);

#[test]
fn a_converted_model_toml_says_the_same() {
    for (pbtxt, toml) in [
        ("max_batch_size: 0", ""),
        ("max_batch_size: 8 default_model_filename: 'net.onnx' version_policy { all {} }", ""),
        (
            "input [ { name: 'a \\'b' dims: [ -1, 3 ] } ] output { name: 'y' dims: 2
             reshape { shape: [ 1, 2 ] } } model_operations { op_library_filename: 'l.so' }
             version_policy { specific { versions: [ 1, 3 ] } }",
            "slo_ms = 25\n",
        ),
        (
            "max_batch_size: 4 dynamic_batching { priority_levels: 2 default_priority_level: 2
             default_queue_policy { default_timeout_microseconds: 1500 max_queue_size: 9 } }",
            "max_batch = 7\n",
        ),
    ] {
        let [before, after] = before_and_after(pbtxt, toml);
        assert_eq!(before, after, "{pbtxt}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(FILE), &bytes).unwrap();
        if let Ok(Some(file)) = TritonFile::read(root.path()) {
            let _ = (file.inherited("m"), file.notes());
        }
    }
}

#[test]
fn a_python_backend_says_what_it_takes() {
    let text = "backend: 'python' max_batch_size: 8 \
                input { name: 'x' data_type: TYPE_STRING dims: [ -1, 2 ] } \
                output { name: 'y' data_type: TYPE_FP32 dims: [ -1 ] }";
    let python = |text: &str| {
        let file = TritonFile::parse(PathBuf::from("config.pbtxt"), text.to_owned()).unwrap();
        let toml = TomlSource::from_text(Path::new("model.toml"), "");
        let config = ModelConfig::parse_over(&toml, file.inherited("m").unwrap()).unwrap();
        let EngineConfig::Python(model) = config.engine else { panic!("{:?}", config.engine) };
        (config.terms.rows_max, model.signature)
    };
    let (rows_max, signature) = python(text);
    assert_eq!((rows_max, signature.inputs[0].datatype), (8, DataType::Bytes));
    assert_eq!(signature.inputs[0].shape, [Dim::Batch, Dim::Open(0), Dim::Fixed(2)]);
    assert_eq!(signature.outputs[0].shape, [Dim::Batch, Dim::Unknown]);
    // Without a largest batch there is no batch dimension.
    let (rows_max, signature) = python(&text.replace("max_batch_size: 8", ""));
    assert_eq!((rows_max, signature.is_batched()), (1, false));
    let untyped = shown("backend: 'python' input { name: 'x' dims: [ 1 ] }");
    assert!(untyped.contains("data_type of \"x\" is missing"), "{untyped}");
}

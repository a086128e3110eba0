//! Which form of a graph is served on the embedded engine, and what is refused before it is loaded.

use super::*;
use crate::batch::{Batch, Representation};
use crate::engine::{Cores, Engine, EngineError, EngineModel};
use crate::engines::rten::Rten;
use crate::repository::Fill;
use std::sync::atomic::{AtomicUsize, Ordering};
use symphony_onnx::builder::{GraphBuilder, attribute};
use symphony_onnx::{Dim, ElementType};
use symphony_wire::tensor::{Dim as Shown, OutputTensor, TensorSpec};

const CORES: Cores = Cores { accelerators: 2, threads: 1 };

fn named(name: &str) -> Dim {
    Dim::Named(name.to_owned())
}

/// `y = Reshape(x * w, target)`, where `x` is a float tensor.
fn scaled(x: &[Dim], y: &[Dim], target: Option<&[i64]>) -> OnnxModel {
    let mut graph = GraphBuilder::new("scaled", 17, 1);
    graph.input("x", ElementType::Float32, x);
    let weights = graph.floats("w", &[1], &[2.0]);
    let inner = if target.is_some() { "inner" } else { "y" };
    graph.node(inner, "Mul", &["x", &weights], vec![]);
    if let Some(target) = target {
        let count = i64::try_from(target.len()).unwrap();
        let target = graph.ints("target", &[count], target);
        graph.node("y", "Reshape", &[inner, &target], vec![]);
    }
    graph.output("y", ElementType::Float32, y);
    graph.finish().unwrap()
}

/// One node from `x` to `y`.
fn unary(operator: &str, x: &[Dim], y: &[Dim], attributes: &[(&str, i64)]) -> OnnxModel {
    let mut graph = GraphBuilder::new("unary", 11, 1);
    graph.input("x", ElementType::Float32, x);
    let attributes = attributes.iter().map(|(name, value)| attribute::int(name, *value)).collect();
    graph.node("y", operator, &["x"], attributes);
    graph.output("y", ElementType::Float32, y);
    graph.finish().unwrap()
}

/// Prepares a graph that has no file.
fn prepared(
    model: OnnxModel,
    settings: &GraphSettings,
    rows_max: u32,
) -> Result<Prepared, PrepareError> {
    let options = Options { name: "m", settings, custom_ops: None, rows_max, accelerators: 2 };
    let mut prepared = Prepared::new(model, Path::new("memory"), &options)?;
    prepared.single.patched = true;
    prepared.batched.iter_mut().for_each(|batched| batched.form.patched = true);
    Ok(prepared)
}

/// rten, with a count of the graphs that it loads and of the batches that it runs.
struct Counted {
    engine: Rten,
    loads: AtomicUsize,
    runs: Arc<AtomicUsize>,
}

struct CountedRuns(Box<dyn Executable>, Arc<AtomicUsize>);

impl Counted {
    fn new() -> Counted {
        Counted { engine: Rten::new(CORES), loads: AtomicUsize::new(0), runs: Arc::default() }
    }

    fn counts(&self) -> (usize, usize) {
        (self.loads.load(Ordering::Relaxed), self.runs.load(Ordering::Relaxed))
    }
}

impl Engine for Counted {
    fn name(&self) -> &'static str {
        self.engine.name()
    }

    fn version(&self) -> String {
        self.engine.version()
    }

    fn platform(&self) -> &'static str {
        self.engine.platform()
    }
}

impl GraphEngine for Counted {
    fn replaces_stored(&self) -> bool {
        self.engine.replaces_stored()
    }

    fn open(&self, request: &LoadRequest<'_>) -> Result<Box<dyn EngineModel>, EngineError> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(CountedModel(self.engine.open(request)?, Arc::clone(&self.runs))))
    }
}

struct CountedModel(Box<dyn EngineModel>, Arc<AtomicUsize>);

impl EngineModel for CountedModel {
    fn place(&self, device: usize) -> Result<Box<dyn Executable>, EngineError> {
        Ok(Box::new(CountedRuns(self.0.place(device)?, Arc::clone(&self.1))))
    }
}

impl Executable for CountedRuns {
    fn representation(&self) -> Representation {
        self.0.representation()
    }

    fn run(&mut self, batch: &Batch<'_>) -> Result<Vec<OutputTensor>, EngineError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.run(batch)
    }
}

/// With what was found, a model is served the same after one load and one run.
fn is_served_as_found(prepared: &Prepared, first: &Runnable) {
    let engine = Counted::new();
    let again = prepared.load_as(&engine, &first.found).unwrap();
    assert_eq!(again.signature, first.signature);
    assert_eq!((again.rows_max, &again.found), (first.rows_max, &first.found));
    assert_eq!(again.executables.len(), first.executables.len());
    assert_eq!(engine.counts(), (1, 1));
}

/// Prepares a graph, loads it on rten, and summarises the result.
fn outcome(model: OnnxModel, shape: &[(&str, &[usize])], rows_max: u32) -> String {
    let shapes = shape
        .iter()
        .map(|(name, dims)| ((*name).to_owned(), dims.iter().copied().map(Some).collect()));
    let settings = GraphSettings { shapes: shapes.collect(), ..GraphSettings::default() };
    outcome_with(model, settings, rows_max)
}

#[expect(clippy::needless_pass_by_value, reason = "each call makes its own")]
fn outcome_with(model: OnnxModel, settings: GraphSettings, rows_max: u32) -> String {
    let prepared = match prepared(model, &settings, rows_max) {
        Ok(prepared) => prepared,
        Err(error) => return error.to_string(),
    };
    match prepared.load(&Rten::new(CORES)) {
        Err(error) => error.to_string(),
        Ok(runnable) => {
            is_served_as_found(&prepared, &runnable);
            let Runnable { signature, rows_max, executables, .. } = runnable;
            assert_eq!(executables.len(), 2);
            let shapes = |specs: &[TensorSpec]| {
                let shapes = specs.iter().map(TensorSpec::metadata_shape);
                shapes.map(|shape| format!("{shape:?}")).collect::<Vec<_>>().join(" ")
            };
            let (inputs, outputs) = (shapes(&signature.inputs), shapes(&signature.outputs));
            format!("{inputs} -> {outputs}, at most {rows_max}")
        }
    }
}

#[test]
fn an_open_leading_dimension_is_the_batch() {
    let open = [named("n"), Dim::Fixed(3)];
    let model = || scaled(&open, &open, None);
    assert_eq!(outcome(model(), &[], 8), "[-1, 3] -> [-1, 3], at most 8");
    assert_eq!(outcome(model(), &[], 1), "[-1, 3] -> [-1, 3], at most 1");
    let unknown = scaled(&open, &[Dim::Unknown, Dim::Unknown], None);
    assert_eq!(outcome(unknown, &[], 8), "[-1, 3] -> [-1, 3], at most 8");
}

#[test]
fn a_model_exported_for_one_row_is_opened_where_that_is_right() {
    let one = [Dim::Fixed(1), Dim::Fixed(4)];
    let square = [Dim::Fixed(1), Dim::Fixed(2), Dim::Fixed(2)];
    let plain = || scaled(&one, &one, None);
    assert_eq!(outcome(plain(), &[], 8), "[-1, 4] -> [-1, 4], at most 8");
    assert_eq!(outcome(plain(), &[], 1), "[1, 4] -> [1, 4], at most 1");
    let reshaped = scaled(&one, &square, Some(&[1, 2, 2]));
    assert_eq!(outcome(reshaped, &[], 8), "[-1, 4] -> [-1, 2, 2], at most 8");
    // A shape of two by two no longer says which row is whose.
    let flat = [Dim::Fixed(2), Dim::Fixed(2)];
    let flattened = scaled(&one, &flat, Some(&[2, 2]));
    assert_eq!(outcome(flattened, &[], 8), "[1, 4] -> [2, 2], at most 1");
    let five = [Dim::Fixed(5), Dim::Fixed(4)];
    assert_eq!(outcome(scaled(&five, &five, None), &[], 8), "[5, 4] -> [5, 4], at most 1");
    assert_eq!(outcome(scaled(&[], &[], None), &[], 8), "[] -> [1], at most 1");
}

#[test]
fn rows_that_are_mixed_never_share_a_batch() {
    let open = [named("n"), Dim::Fixed(3)];
    let one = [Dim::Fixed(1), Dim::Fixed(3)];
    for leading in [open, one] {
        let mixed = unary("Softmax", &leading, &leading, &[("axis", 0)]);
        let rows = if leading[0] == Dim::Fixed(1) { 1 } else { -1 };
        assert_eq!(outcome(mixed, &[], 8), format!("[{rows}, 3] -> [{rows}, 3], at most 1"));
    }
    let open = [named("n"), Dim::Fixed(3)];
    let summed = unary("ReduceMean", &open, &[], &[("keepdims", 0)]);
    assert_eq!(outcome(summed, &[], 8), "[-1, 3] -> [], at most 1");
}

#[test]
fn open_dimensions_stay_open_unless_the_configuration_fixes_them() {
    let dims = [named("n"), named("length"), Dim::Fixed(3)];
    let model = || scaled(&dims, &dims, None);
    assert_eq!(outcome(model(), &[("x", &[5, 3])], 8), "[-1, 5, 3] -> [-1, 5, 3], at most 8");
    assert_eq!(outcome(model(), &[("x", &[2, 5, 3])], 8), "[2, 5, 3] -> [2, 5, 3], at most 1");
    let check = |shape: &[(&str, &[usize])], text: &str| {
        let outcome = outcome(model(), shape, 8);
        assert!(outcome.contains(text), "{outcome}");
    };
    check(&[], "[-1, -1, 3] -> [-1, -1, 3], at most 8");
    check(&[("x", &[5])], "gives input \"x\" 1 dimensions: give the 2 of one row, or all 3");
    check(&[("x", &[5, 4])], "the graph fixes it to 3, not 4");
    check(&[("z", &[5, 3])], "no input \"z\"");
    check(&[("x", &[5, 3]), ("z", &[])], "no input \"z\"");
    check(&[("x", &[0, 3])], "0 is no size");
    check(&[("x", &[usize::MAX, 3])], "a dimension of 18446744073709551615");
}

#[test]
fn types_that_cannot_be_served_are_refused_by_name() {
    let typed = |element| {
        let mut graph = GraphBuilder::new("typed", 17, 1);
        graph.input("x", element, &[named("n")]);
        graph.node("y", "Identity", &["x"], vec![]);
        graph.output("y", element, &[named("n")]);
        outcome(graph.finish().unwrap(), &[], 4)
    };
    assert!(typed(ElementType::Complex64).contains("input \"x\" has elements of type complex64"));
    for element in [ElementType::Float16, ElementType::String, ElementType::Float64] {
        let outcome = typed(element);
        assert!(outcome.starts_with("rten cannot take input \"x\" of type"), "{outcome}");
    }
    for element in [ElementType::Int64, ElementType::Bool, ElementType::Uint8] {
        assert_eq!(typed(element), "[-1] -> [-1], at most 4");
    }
    let mut sequence = scaled(&[named("n")], &[named("n")], None);
    sequence
        .edit(|proto| {
            use symphony_onnx::proto::type_proto::Value;
            let graph = proto.graph.as_mut().unwrap();
            let kind = graph.output[0].r#type.as_mut().unwrap();
            kind.value = Some(Value::SequenceType(Box::default()));
        })
        .unwrap();
    let outcome = outcome(sequence, &[], 4);
    assert!(
        outcome.contains("output \"y\" is a sequence") && outcome.contains("zipmap"),
        "{outcome}"
    );
}

/// A graph from `x [n, 3]` to `y`, whose nodes are added by `nodes`.
fn batch_of_three(nodes: impl FnOnce(&mut GraphBuilder)) -> OnnxModel {
    let mut graph = GraphBuilder::new("three", 17, 1);
    graph.input("x", ElementType::Float32, &[named("n"), Dim::Fixed(3)]);
    nodes(&mut graph);
    graph.output("y", ElementType::Float32, &[named("n"), Dim::Unknown]);
    graph.finish().unwrap()
}

#[test]
fn rows_that_share_a_quantisation_scale_share_a_batch_only_if_that_is_allowed() {
    let model = || {
        let mut model = batch_of_three(|graph| {
            graph.node("q", "DynamicQuantizeLinear", &["x"], vec![]);
            graph.node("y", "DequantizeLinear", &["q", "scale", "zero"], vec![]);
        });
        let edited = model.edit(|proto| {
            let node = &mut proto.graph.as_mut().unwrap().node[0];
            node.output.extend(["scale", "zero"].map(str::to_owned));
        });
        edited.unwrap();
        model
    };
    assert_eq!(outcome(model(), &[], 8), "[-1, 3] -> [-1, 3], at most 1");
    let settings = GraphSettings { batch_dependent: true, ..GraphSettings::default() };
    assert_eq!(outcome_with(model(), settings, 8), "[-1, 3] -> [-1, 3], at most 8");
}

#[test]
fn rows_that_are_mixed_weakly_or_under_a_condition_never_share_a_batch() {
    let mean = |graph: &mut GraphBuilder| {
        graph.node("mean", "ReduceMean", &["x"], vec![attribute::ints("axes", &[0])]);
    };
    let weakly = batch_of_three(|graph| {
        mean(graph);
        let weak = graph.floats("weak", &[], &[1e-4]);
        graph.node("term", "Mul", &["mean", &weak], vec![]);
        graph.node("y", "Add", &["x", "term"], vec![]);
    });
    let conditionally = batch_of_three(|graph| {
        mean(graph);
        let never = graph.floats("never", &[], &[1e30]);
        graph.node("reached", "Greater", &["x", &never], vec![]);
        graph.node("y", "Where", &["reached", "mean", "x"], vec![]);
    });
    let in_steps = batch_of_three(|graph| {
        let (w, r) = (graph.random("w", &[1, 8, 3], 1.0), graph.random("r", &[1, 8, 2], 1.0));
        let one = graph.ints("one", &[1], &[1]);
        graph.node("steps", "Unsqueeze", &["x", &one], vec![]);
        let attributes = vec![attribute::int("hidden_size", 2)];
        graph.node("all", "LSTM", &["steps", &w, &r], attributes);
        let axes = graph.ints("axes", &[2], &[1, 2]);
        graph.node("y", "Squeeze", &["all", &axes], vec![]);
    });
    for (how, model) in [("weakly", weakly), ("conditionally", conditionally), ("steps", in_steps)]
    {
        let outcome = outcome(model, &[], 8);
        assert!(outcome.ends_with("at most 1"), "{how}: {outcome}");
    }
}

#[test]
fn a_model_that_batches_well_stays_batched() {
    let dense = batch_of_three(|graph| {
        let weights = graph.random("w", &[3, 64], 1.0);
        graph.node("h", "MatMul", &["x", &weights], vec![]);
        graph.node("a", "Softmax", &["h"], vec![attribute::int("axis", -1)]);
        graph.node("l", "LayerNormalization", &["h", "scale"], vec![]);
        graph.floats("scale", &[64], &[1.0; 64]);
        graph.node("s", "Add", &["a", "l"], vec![]);
        let out = graph.random("o", &[64, 5], 1.0);
        graph.node("y", "MatMul", &["s", &out], vec![]);
    });
    assert_eq!(outcome(dense, &[], 8), "[-1, 3] -> [-1, 5], at most 8");
}

/// Ids and their mask through an embedding with positions, and attention.
fn encoder_with_mask(positions: i64) -> OnnxModel {
    let mut graph = GraphBuilder::new("masked", 17, 1);
    let dims = [named("batch"), named("sequence")];
    graph.input("input_ids", ElementType::Int64, &dims);
    graph.input("attention_mask", ElementType::Int64, &dims);
    let table = graph.random("table", &[50, 8], 1.0);
    let at = graph.random("positions", &[positions, 8], 1.0);
    graph.node("e", "Gather", &[&table, "input_ids"], vec![]);
    let [zero, one, two] = [0, 1, 2].map(|n| graph.ints(&format!("n{n}"), &[1], &[n]));
    graph.node("shape", "Shape", &["input_ids"], vec![]);
    graph.node("length", "Slice", &["shape", &one, &two], vec![]);
    graph.node("scalar", "Squeeze", &["length", &zero], vec![]);
    let [start, step] = [("start", 0), ("step", 1)].map(|(n, v)| graph.ints(n, &[], &[v]));
    graph.node("places", "Range", &[&start, "scalar", &step], vec![]);
    graph.node("p", "Gather", &[&at, "places"], vec![]);
    graph.node("h", "Add", &["e", "p"], vec![]);
    graph.node("k", "Transpose", &["h"], vec![attribute::ints("perm", &[0, 2, 1])]);
    graph.node("scores", "MatMul", &["h", "k"], vec![]);
    graph.node("mask", "Cast", &["attention_mask"], vec![attribute::int("to", 1)]);
    let whole = graph.floats("whole", &[], &[1.0]);
    let far = graph.floats("far", &[], &[-10_000.0]);
    graph.node("off", "Sub", &[&whole, "mask"], vec![]);
    graph.node("lowered", "Mul", &["off", &far], vec![]);
    graph.node("row", "Unsqueeze", &["lowered", &one], vec![]);
    graph.node("masked", "Add", &["scores", "row"], vec![]);
    graph.node("weights", "Softmax", &["masked"], vec![attribute::int("axis", -1)]);
    graph.node("y", "MatMul", &["weights", "h"], vec![]);
    let out = [named("batch"), named("sequence"), Dim::Fixed(8)];
    graph.output("y", ElementType::Float32, &out);
    graph.finish().unwrap()
}

fn padded(inputs: &[&str]) -> GraphSettings {
    let pad = inputs.iter().map(|name| ((*name).to_owned(), Fill::Number(0.0)));
    GraphSettings { pad: pad.collect(), ..GraphSettings::default() }
}

#[test]
fn sizes_are_found_by_trial_and_padding_is_verified() {
    let shapes = "[-1, -1] [-1, -1] -> [-1, -1, 8], at most 8";
    let plain = GraphSettings::default();
    assert_eq!(outcome_with(encoder_with_mask(64), plain, 8), shapes);
    let both = padded(&["input_ids", "attention_mask"]);
    assert_eq!(outcome_with(encoder_with_mask(64), both, 8), shapes);
    let without_mask = outcome_with(encoder_with_mask(64), padded(&["input_ids"]), 8);
    assert!(without_mask.contains("\"attention_mask\" has the padded dimension"), "{without_mask}");
    let mut settings = GraphSettings::default();
    settings.max_size.insert("sequence".to_owned(), 65);
    let beyond = outcome_with(encoder_with_mask(64), settings, 8);
    assert!(beyond.starts_with("max_size of \"sequence\" = 65"), "{beyond}");
    // A mean over the sequence counts the padding.
    let open = [named("batch"), named("sequence")];
    let mut graph = GraphBuilder::new("mean", 17, 1);
    graph.input("x", ElementType::Float32, &open);
    graph.node("y", "ReduceMean", &["x"], vec![attribute::ints("axes", &[1])]);
    graph.output("y", ElementType::Float32, &[named("batch"), Dim::Fixed(1)]);
    let changed = outcome_with(graph.finish().unwrap(), padded(&["x"]), 8);
    assert!(changed.contains("padding changes the answers: output \"y\" differs by"), "{changed}");
}

#[test]
fn what_was_found_of_another_graph_is_not_relied_on() {
    let plain = GraphSettings::default();
    let prepared = prepared(encoder_with_mask(64), &plain, 8).unwrap();
    let found = prepared.load(&Rten::new(CORES)).unwrap().found;
    assert_eq!(found.dimensions, [("sequence".to_owned(), 64)]);
    assert_eq!(found.batching, Batching::Shared { dependence: None });
    let dependence = None;
    let shape = |shape: &[Shown]| vec![("y".to_owned(), shape.to_vec())];
    let rows = Shown::Batch;
    for (why, other) in [
        ("another name", Found { dimensions: vec![("length".to_owned(), 64)], ..found.clone() }),
        ("no size", Found { dimensions: vec![("sequence".to_owned(), 0)], ..found.clone() }),
        ("no dimension", Found { dimensions: vec![], sizes: vec![(vec![], 0)], ..found.clone() }),
        ("no runs", Found { sizes: vec![], ..found.clone() }),
        ("too large", Found { sizes: vec![(vec![65], 0)], ..found.clone() }),
        ("an unknown way", Found { sizes: vec![(vec![8], 1000)], ..found.clone() }),
        ("no outputs", Found { outputs: vec![], ..found.clone() }),
        ("other rank", Found { outputs: shape(&[rows, Shown::Open(0)]), ..found.clone() }),
        (
            "other size",
            Found { outputs: shape(&[rows, Shown::Open(0), Shown::Fixed(9)]), ..found.clone() },
        ),
        (
            "an unknown dimension",
            Found { outputs: shape(&[rows, Shown::Open(1), Shown::Fixed(8)]), ..found.clone() },
        ),
        ("two for rows", Found { outputs: shape(&[rows, rows, Shown::Fixed(8)]), ..found.clone() }),
    ] {
        assert!(prepared.load_as(&Rten::new(CORES), &other).is_err(), "{why}");
    }
    // Beyond its table of positions the model fails.
    let smaller = self::prepared(encoder_with_mask(4), &plain, 8).unwrap();
    assert!(smaller.load_as(&Rten::new(CORES), &found).is_err());
    let open = [named("n"), Dim::Fixed(3)];
    let mixed = unary("Softmax", &open, &open, &[("axis", 0)]);
    let mixed = self::prepared(mixed, &plain, 8).unwrap();
    let alone = mixed.load(&Rten::new(CORES)).unwrap().found;
    assert!(matches!(&alone.batching, Batching::Single { reason: Some(_) }));
    let shared = Found { batching: Batching::Shared { dependence }, ..alone };
    assert!(mixed.load_as(&Rten::new(CORES), &shared).is_err(), "the graph mixes rows");
}

#[test]
fn the_batch_dimension_may_stand_anywhere_and_be_missing_from_inputs() {
    let mut graph = GraphBuilder::new("state", 17, 1);
    graph.input("x", ElementType::Float32, &[named("batch"), Dim::Fixed(4)]);
    graph.input("state", ElementType::Float32, &[Dim::Fixed(2), named("batch"), Dim::Fixed(4)]);
    graph.input("factor", ElementType::Float32, &[]);
    graph.node("scaled", "Mul", &["x", "factor"], vec![]);
    graph.node("next", "Add", &["state", "scaled"], vec![]);
    graph.node("y", "Identity", &["scaled"], vec![]);
    graph.output("y", ElementType::Float32, &[]);
    graph.output("next", ElementType::Float32, &[]);
    let expected = "[-1, 4] [2, -1, 4] [] -> [-1, 4] [2, -1, 4], at most 8";
    assert_eq!(outcome(graph.finish().unwrap(), &[], 8), expected);
}

#[test]
fn maps_and_sequences_are_served_as_tensors() {
    use symphony_onnx::proto::type_proto::{Sequence, Value};
    let mut model = batch_of_three(|graph| {
        graph.node("p", "Relu", &["x"], vec![]);
        graph.node("y", "SequenceConstruct", &["p", "x"], vec![]);
    });
    let edited = model.edit(|proto| {
        let graph = proto.graph.as_mut().unwrap();
        let kind = graph.output[0].r#type.as_mut().unwrap();
        let element = Box::new(kind.clone());
        kind.value = Some(Value::SequenceType(Box::new(Sequence { elem_type: Some(element) })));
    });
    edited.unwrap();
    assert_eq!(outcome(model, &[], 8), "[-1, 3] -> [-1, 3] [-1, 3], at most 8");
}

#[test]
fn what_no_memory_holds_is_refused_before_any_is_asked_for() {
    let tib = Dim::Fixed(1 << 38);
    let row = [named("n"), tib.clone()];
    let too_large = "one row may take 1 GiB at most";
    let check = |model: OnnxModel, rows_max: u32, expected: &str| {
        assert_eq!(outcome(model, &[], rows_max), expected);
    };
    check(scaled(&row, &row, None), 8, &format!("input \"x\": {too_large}"));
    let row = [named("n"), Dim::Fixed(i64::MAX), Dim::Fixed(i64::MAX)];
    check(scaled(&row, &row, None), 8, &format!("input \"x\": {too_large}"));
    // A leading dimension that is not a batch is part of the row.
    let fixed = [tib.clone(), Dim::Fixed(1)];
    check(scaled(&fixed, &fixed, None), 8, &format!("input \"x\": {too_large}"));
    let small = [named("n"), Dim::Fixed(1)];
    let output = scaled(&small, &[named("n"), tib], None);
    check(output, 8, &format!("output \"y\": {too_large}"));
    let row = [named("n"), Dim::Fixed(1 << 27)];
    let batch = "input \"x\": 9 rows take more than 4 GiB: lower max_batch";
    check(scaled(&row, &row, None), 9, batch);
}

/// The digit classifier without its weights, so that changes hit the description of the graph.
fn bare_digits() -> Vec<u8> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models");
    let mut model = OnnxModel::read(&models.join("digits/1/model.onnx")).unwrap();
    model
        .edit(|proto| {
            for tensor in &mut proto.graph.as_mut().unwrap().initializer {
                let kept = tensor.raw_data.take().map(|data| data.slice(..4));
                (tensor.dims, tensor.raw_data) = (vec![1], kept);
            }
        })
        .unwrap();
    model.encode().to_vec()
}

proptest::proptest! {
    #[test]
    fn no_file_makes_describing_it_panic(
        changes in proptest::collection::vec((0usize..1 << 16, 0u8..), 1..6),
        rows_max in 1u32..5000,
    ) {
        let mut bytes = bare_digits();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let settings = GraphSettings::default();
        let options =
            Options { name: "m", settings: &settings, custom_ops: None, rows_max, accelerators: 1 };
        let prepared = OnnxModel::decode(bytes.into())
            .map_err(PrepareError::from)
            .and_then(|model| Prepared::new(model, Path::new("memory"), &options));
        // The file may be refused, or described and inspected; only a panic is wrong.
        if let Ok(prepared) = prepared {
            let _ = crate::operators::check(prepared.model());
        }
    }
}

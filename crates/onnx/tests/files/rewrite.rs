//! Opening the batch dimension, and fixing other dimensions.

use symphony_onnx::builder::{GraphBuilder, attribute};
use symphony_onnx::{BatchRewrite, Dim, ElementType, OnnxModel, tensor_ints};

use crate::nodes::nested;

fn dims(sizes: &[&str]) -> Vec<Dim> {
    let dim = |text: &&str| match (*text, text.parse()) {
        (_, Ok(size)) => Dim::Fixed(size),
        ("?", _) => Dim::Unknown,
        (name, _) => Dim::Named(name.to_owned()),
    };
    sizes.iter().map(dim).collect()
}

/// `x` -> operator -> Reshape to `target` -> `y`.
fn reshaped(x: &[&str], operator: &str, target: &[i64], y: &[&str]) -> GraphBuilder {
    let mut graph = GraphBuilder::new("reshaped", 17, 0);
    graph.input("x", ElementType::Float32, &dims(x));
    graph.node("inner", operator, &["x"], vec![]);
    graph.ints("target", &[target.len() as i64], target);
    graph.node("y", "Reshape", &["inner", "target"], vec![]);
    graph.output("y", ElementType::Float32, &dims(y));
    graph
}

fn target_of(model: &OnnxModel, output: &str) -> Vec<i64> {
    let graph = model.proto().graph.as_ref().expect("a graph");
    let node = graph.node.iter().find(|n| n.output[0] == output).expect("a node");
    let tensor = graph.initializer.iter().find(|t| t.name() == node.input[1]);
    tensor_ints(tensor.expect("a constant target")).expect("integers")
}

#[test]
fn a_leading_one_becomes_the_batch() {
    // The operator before the Reshape, its target, and the rewritten target. Relu keeps the batch
    // in front; Inverse is not followed.
    let cases: &[(&str, &[i64], &[i64])] = &[
        ("Relu", &[1, 12], &[0, 12]),
        ("Relu", &[1, -1], &[0, -1]),
        ("Inverse", &[1, 12], &[-1, 12]),
        ("Inverse", &[1, -1], &[1, -1]),
        ("Relu", &[-1, 12], &[-1, 12]),
        ("Relu", &[0, 12], &[0, 12]),
        ("Relu", &[12, 1], &[12, 1]),
    ];
    for (operator, target, opened) in cases {
        let mut model =
            reshaped(&["1", "3", "4"], operator, target, &["1", "12"]).finish().expect("builds");
        let rewrite = model.make_batch_dynamic().expect("opens");
        let reshapes = if target == opened { vec![] } else { vec!["y".to_owned()] };
        assert_eq!(rewrite, BatchRewrite { inputs: vec!["x".into()], reshapes });
        assert_eq!(target_of(&model, "y"), *opened, "{operator} {target:?}");
        assert_eq!(model.signature().inputs[0].to_string(), "x: float [batch, 3, 4]");
        assert_eq!(model.signature().outputs[0].to_string(), "y: float [batch, 12]");
    }
}

#[test]
fn a_target_shared_by_two_nodes_is_not_changed_for_both() {
    let mut graph = reshaped(&["1", "4"], "Relu", &[1, 4], &["1", "4"]);
    graph.floats("table", &[4], &[0.0; 4]);
    graph.node("row", "Reshape", &["table", "target"], vec![attribute::int("allowzero", 1)]);
    let mut model = graph.finish().expect("builds");
    model.make_batch_dynamic().expect("opens");
    assert_eq!(target_of(&model, "y"), [0, 4]);
    assert_eq!(target_of(&model, "row"), [1, 4]);
}

#[test]
fn the_batch_is_followed_through_a_convolutional_net() {
    let mut graph = GraphBuilder::new("net", 17, 0);
    graph.input("x", ElementType::Float32, &dims(&["1", "3", "8", "8"]));
    graph.random("w", &[5, 3, 3, 3], 1.0);
    graph.random("scale", &[5, 1, 1], 1.0);
    graph.node("c", "Conv", &["x", "w"], vec![]);
    graph.node("m", "Mul", &["scale", "c"], vec![]);
    graph.node("j", "Concat", &["m", "c"], vec![attribute::int("axis", 1)]);
    graph.node("t", "Transpose", &["j"], vec![attribute::ints("perm", &[0, 2, 3, 1])]);
    graph.ints("shape", &[2], &[1, -1]);
    graph.node("y", "Reshape", &["t", "shape"], vec![]);
    graph.output("y", ElementType::Float32, &dims(&["1", "360"]));
    let mut model = graph.finish().expect("builds");
    let rewrite = model.make_batch_dynamic().expect("opens");
    assert_eq!(rewrite.reshapes, ["y"]);
    assert_eq!(target_of(&model, "y"), [0, -1]);
}

#[test]
fn the_batch_is_followed_through_an_embedding_and_its_normalisation() {
    let mut graph = GraphBuilder::new("net", 17, 0);
    graph.input("ids", ElementType::Int64, &dims(&["1", "len"]));
    graph.random("table", &[9, 4], 1.0);
    graph.node("e", "Gather", &["table", "ids"], vec![]);
    let axes = || vec![attribute::ints("axes", &[-1])];
    graph.node("mean", "ReduceMean", &["e"], axes());
    graph.node("d", "Sub", &["e", "mean"], vec![]);
    graph.node("sum", "ReduceSum", &["d"], vec![attribute::ints("axes", &[-3])]);
    graph.ints("shape", &[4], &[1, -1, 2, 2]);
    graph.node("y", "Reshape", &["d", "shape"], vec![]);
    graph.node("z", "Reshape", &["sum", "shape"], vec![]);
    graph.output("y", ElementType::Float32, &dims(&["1", "len", "2", "2"]));
    let mut model = graph.finish().expect("builds");
    // A sum over the batch no longer carries it.
    assert_eq!(model.make_batch_dynamic().expect("opens").reshapes, ["y"]);
    assert_eq!(target_of(&model, "y"), [0, -1, 2, 2]);
    assert_eq!(target_of(&model, "z"), [1, -1, 2, 2]);
}

#[test]
fn an_open_model_is_left_alone() {
    for lead in ["n", "?"] {
        let mut model =
            reshaped(&[lead, "4"], "Relu", &[1, 4], &[lead, "4"]).finish().expect("builds");
        let before = model.clone();
        assert_eq!(model.make_batch_dynamic().expect("is open"), BatchRewrite::default());
        assert_eq!(model, before);
    }
}

#[test]
fn a_symbol_of_another_dimension_is_not_taken_for_the_batch() {
    let mut model =
        reshaped(&["1", "batch"], "Relu", &[0, -1], &["1", "batch"]).finish().expect("builds");
    model.make_batch_dynamic().expect("opens");
    assert_eq!(model.signature().inputs[0].to_string(), "x: float [batch_, batch]");
    assert_eq!(model.signature().outputs[0].to_string(), "y: float [batch_, batch]");
}

#[test]
fn what_cannot_carry_a_batch_is_named() {
    let cases: &[(&[&str], &[&str], &str)] = &[
        (
            &["2", "6"],
            &["1", "12"],
            "input \"x\" cannot carry a batch: its leading dimension is fixed to 2",
        ),
        (
            &["1", "12"],
            &["3", "4"],
            "output \"y\" cannot carry a batch: its leading dimension is fixed to 3",
        ),
        (&[], &["1", "1"], "input \"x\" cannot carry a batch: it is a scalar"),
    ];
    for (x, y, message) in cases {
        let mut model = reshaped(x, "Relu", &[1, 12], y).finish().expect("builds");
        let error = model.make_batch_dynamic().expect_err("refuses").to_string();
        assert_eq!(error, format!("{message}; serve it with max_batch = 1"));
    }
}

#[test]
fn dimensions_are_fixed_wherever_their_name_stands() {
    let mut model =
        reshaped(&["n", "len", "?"], "Relu", &[0, 0, 4], &["n", "len", "?"]).finish().expect("ok");
    model.set_dim("x", 1, 7).expect("a named dimension");
    model.set_dim("x", 2, 4).expect("an open dimension");
    model.set_dim("x", 2, 4).expect("the size it has");
    assert_eq!(model.signature().inputs[0].to_string(), "x: float [n, 7, 4]");
    assert_eq!(model.signature().outputs[0].to_string(), "y: float [n, 7, ?]");
}

#[test]
fn dimensions_that_cannot_be_fixed_are_named() {
    let cases = [
        ("z", 0, 1, "no input \"z\"; the model's inputs are [\"x\", \"flag\"]"),
        ("x", 5, 1, "input \"x\", dimension 5: the input has 2 dimensions"),
        ("x", 0, 0, "input \"x\", dimension 0: 0 is no size"),
        ("x", 1, 5, "input \"x\", dimension 1: the graph fixes it to 4, not 5"),
    ];
    for (input, axis, size, message) in cases {
        let error = nested().set_dim(input, axis, size).expect_err("refuses").to_string();
        assert_eq!(error, message);
    }
}

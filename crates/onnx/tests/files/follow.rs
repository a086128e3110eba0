//! Following the batch dimension: where the rows lie in the outputs, and what mixes them.

use std::collections::HashMap;

use symphony_onnx::builder::{GraphBuilder, attribute};
use symphony_onnx::proto::AttributeProto;
use symphony_onnx::{BatchFlow, Dim, ElementType, RowsOfOutput};

fn graph(x: &[i64], opset: i64) -> GraphBuilder {
    let mut graph = GraphBuilder::new("followed", opset, 0);
    let dims = x.iter().map(|size| match size {
        0 => Dim::Named("batch".to_owned()),
        size => Dim::Fixed(*size),
    });
    graph.input("x", ElementType::Float32, &dims.collect::<Vec<_>>());
    graph.output("y", ElementType::Float32, &[]);
    graph
}

fn follow(graph: GraphBuilder, axis: usize) -> BatchFlow {
    let model = graph.finish().expect("the graph is whole");
    model.follow_batch(&HashMap::from([("x".to_owned(), axis)]))
}

/// What is said of `y`: an axis, `free`, `?`, or why rows are mixed.
fn said(flow: &BatchFlow) -> String {
    match &flow.outputs[0] {
        RowsOfOutput::Along(axis) => axis.to_string(),
        RowsOfOutput::Free => "free".to_owned(),
        RowsOfOutput::Unknown => "?".to_owned(),
        RowsOfOutput::Mixed(mixing) => mixing.why.to_owned(),
    }
}

/// One node from `x`, of the given dimensions with 0 for the batch, to `y`.
fn one(x: &[i64], operator: &str, opset: i64, attributes: Vec<AttributeProto>, expected: &str) {
    let axis = x.iter().position(|size| *size == 0).expect("a batch dimension");
    let mut graph = graph(x, opset);
    graph.node("y", operator, &["x"], attributes);
    assert_eq!(said(&follow(graph, axis)), expected, "{operator} of {x:?}");
}

/// One node with a stored list of integers as its second input.
fn with_list(x: &[i64], operator: &str, list: &[i64], expected: &str) {
    let axis = x.iter().position(|size| *size == 0).expect("a batch dimension");
    let mut graph = graph(x, 18);
    let list = graph.ints("list", &[list.len() as i64], list);
    graph.node("y", operator, &["x", &list], vec![]);
    assert_eq!(said(&follow(graph, axis)), expected, "{operator} of {x:?}");
}

const REDUCES: &str = "reduces over the batch dimension";
const NORMALISES: &str = "normalises over the batch dimension";

#[test]
fn what_goes_along_the_batch_mixes_rows_and_what_goes_elsewhere_does_not() {
    let axis = |axis| vec![attribute::int("axis", axis)];
    let axes = |axes: &[i64]| vec![attribute::ints("axes", axes)];
    one(&[0, 4], "Relu", 17, vec![], "0");
    one(&[0, 4], "ReduceMean", 17, axes(&[0]), REDUCES);
    one(&[0, 4], "ReduceMean", 17, axes(&[-2]), REDUCES);
    one(&[0, 4], "ReduceMean", 17, vec![], REDUCES);
    one(&[0, 4], "ReduceMean", 17, axes(&[1]), "0");
    one(
        &[3, 0, 4],
        "ReduceMax",
        17,
        [axes(&[0]), vec![attribute::int("keepdims", 0)]].concat(),
        "0",
    );
    with_list(&[0, 4], "ReduceSum", &[0], REDUCES);
    with_list(&[0, 4], "ReduceSum", &[1], "0");
    one(&[0, 4], "ArgMax", 17, axis(1), "0");
    one(&[0, 4], "ArgMax", 17, vec![], REDUCES);
    one(&[0, 4], "Softmax", 17, vec![], "0");
    one(&[0, 4], "Softmax", 17, axis(0), NORMALISES);
    one(&[2, 0, 4], "Softmax", 11, vec![], NORMALISES);
    one(&[0, 2, 4], "Softmax", 11, vec![], "0");
    one(&[0, 4], "LpNormalization", 17, axis(0), NORMALISES);
    with_list(&[0, 4], "CumSum", &[0], "goes along the batch dimension");
    with_list(&[0, 4], "CumSum", &[1], "0");
    one(&[0, 4], "NonZero", 17, vec![], "lists what it finds in all rows of a batch");
    one(&[0, 3, 8, 8], "GlobalAveragePool", 17, vec![], "0");
    one(&[3, 3, 0, 8], "GlobalAveragePool", 17, vec![], NORMALISES);
    one(&[0, 4], "Transpose", 17, vec![], "1");
    one(&[0, 4], "NoSuchOperator", 17, vec![], "?");
}

#[test]
fn rows_are_followed_through_shapes() {
    with_list(&[0, 4, 2], "Reshape", &[0, 8], "0");
    with_list(&[0, 4, 2], "Reshape", &[-1, 2], "0");
    with_list(&[0, 4, 2], "Reshape", &[1, -1, 2], "1");
    with_list(&[3, 0, 4], "Reshape", &[0, 0, 2, 2], "1");
    with_list(&[0, 4], "Reshape", &[2, -1], "?");
    with_list(&[0, 4], "Unsqueeze", &[0], "1");
    with_list(&[1, 0, 1], "Squeeze", &[0, 2], "0");
    // The target is computed from the shape, as exporters write it.
    let mut graph = graph(&[0, 4, 2], 17);
    let zero = graph.ints("zero", &[], &[0]);
    let first = graph.ints("first", &[1], &[0]);
    let eight = graph.ints("eight", &[1], &[8]);
    graph.node("shape", "Shape", &["x"], vec![]);
    graph.node("rows", "Gather", &["shape", &zero], vec![attribute::int("axis", 0)]);
    graph.node("listed", "Unsqueeze", &["rows", &first], vec![]);
    graph.node("target", "Concat", &["listed", &eight], vec![attribute::int("axis", 0)]);
    graph.node("flat", "Reshape", &["x", "target"], vec![]);
    graph.node("y", "ReduceSum", &["flat", &first], vec![]);
    assert_eq!(said(&follow(graph, 0)), REDUCES);
}

#[test]
fn rows_that_meet_each_other_are_mixed() {
    let crossed = "combines each row of a batch with every other";
    let both = |node: &dyn Fn(&mut GraphBuilder)| {
        let mut graph = graph(&[0, 4], 17);
        graph.node("turned", "Transpose", &["x"], vec![]);
        node(&mut graph);
        said(&follow(graph, 0))
    };
    let matmul = |a: &'static str, b: &'static str| {
        both(&move |graph| {
            graph.node("y", "MatMul", &[a, b], vec![]);
        })
    };
    assert_eq!(matmul("x", "turned"), crossed);
    assert_eq!(matmul("turned", "x"), "sums over the batch dimension");
    let mut plain = graph(&[0, 4], 17);
    let weights = plain.random("w", &[4, 3], 1.0);
    plain.node("y", "MatMul", &["x", &weights], vec![]);
    assert_eq!(said(&follow(plain, 0)), "0");
    // A mean over the batch that only some rows reach.
    let mut hidden = graph(&[0, 4], 17);
    let large = hidden.floats("large", &[], &[1000.0]);
    let weak = hidden.floats("weak", &[], &[1e-4]);
    hidden.node("mean", "ReduceMean", &["x"], vec![attribute::ints("axes", &[0])]);
    hidden.node("some", "Greater", &["x", &large], vec![]);
    hidden.node("term", "Mul", &["mean", &weak], vec![]);
    hidden.node("reached", "Where", &["some", "term", "x"], vec![]);
    hidden.node("y", "Add", &["x", "reached"], vec![]);
    assert_eq!(said(&follow(hidden, 0)), REDUCES);
}

#[test]
fn recurrent_steps_along_the_batch_mix_rows() {
    let lstm = |x: &[i64], layout: i64| {
        let axis = x.iter().position(|size| *size == 0).expect("a batch dimension");
        let mut graph = graph(x, 14);
        let weights = graph.random("w", &[1, 8, 4], 1.0);
        let recurrent = graph.random("r", &[1, 8, 2], 1.0);
        let attributes = vec![attribute::int("hidden_size", 2), attribute::int("layout", layout)];
        graph.node("y", "LSTM", &["x", &weights, &recurrent], attributes);
        said(&follow(graph, axis))
    };
    let steps = "takes the rows of a batch for the steps of one sequence";
    assert_eq!(lstm(&[0, 3, 4], 0), steps);
    assert_eq!(lstm(&[3, 0, 4], 0), "2");
    assert_eq!(lstm(&[0, 3, 4], 1), "0");
    assert_eq!(lstm(&[3, 0, 4], 1), steps);
}

#[test]
fn one_scale_for_all_rows_is_told_apart_from_mixing() {
    let mut graph = graph(&[0, 4], 17);
    graph.node("q", "DynamicQuantizeLinear", &["x"], vec![]);
    graph.node("y", "Cast", &["q"], vec![attribute::int("to", 1)]);
    let flow = follow(graph, 0);
    assert_eq!((said(&flow).as_str(), flow.quantized.as_deref()), ("0", Some("q")));
}

#[test]
fn graphs_show_what_values_inputs_have() {
    let mut graph = GraphBuilder::new("hints", 17, 0);
    for name in ["ids", "rate", "x"] {
        graph.input(name, ElementType::Int64, &[Dim::Named("batch".to_owned())]);
    }
    let table = graph.random("table", &[100, 4], 1.0);
    let rate = graph.ints("sixteen", &[], &[16000]);
    graph.node("same", "Identity", &["ids"], vec![]);
    graph.node("rows", "Gather", &[&table, "same"], vec![]);
    graph.node("is_wide", "Equal", &["rate", &rate], vec![]);
    graph.output("rows", ElementType::Float32, &[]);
    let hints = graph.finish().expect("the graph is whole").input_hints();
    assert_eq!(hints["ids"].below, Some(100));
    assert_eq!(hints["rate"].compared, [16000]);
    assert!(!hints.contains_key("x"));
}

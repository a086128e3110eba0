//! What the table refuses, for graphs of one node and for whole models.

use std::path::Path;

use symphony_onnx::builder::{GraphBuilder, attribute};
use symphony_onnx::examples::{Encoder, WideDense, encoder, mobilenet_v2, resnet50, wide_dense};
use symphony_onnx::proto::{AttributeProto, OperatorSetIdProto};
use symphony_onnx::{Dim, ElementType, OnnxModel};

use super::check;

/// A graph of one node whose inputs are float tensors of the given ranks.
fn one(operator: &str, opset: i64, ranks: &[usize], attributes: Vec<AttributeProto>) -> OnnxModel {
    typed(ElementType::Float32, operator, opset, ranks, attributes)
}

/// The same with another element type.
fn typed(
    element: ElementType,
    operator: &str,
    opset: i64,
    ranks: &[usize],
    attributes: Vec<AttributeProto>,
) -> OnnxModel {
    let mut graph = GraphBuilder::new("one", opset, 1);
    let names: Vec<_> = (0..ranks.len()).map(|i| format!("x{i}")).collect();
    for (name, rank) in names.iter().zip(ranks) {
        graph.input(name, element, &vec![Dim::Fixed(2); *rank]);
    }
    let inputs: Vec<_> = names.iter().map(String::as_str).collect();
    graph.node("y", operator, &inputs, attributes);
    graph.output("y", element, &[]);
    graph.finish().expect("the graph is whole")
}

fn problems(model: &OnnxModel) -> Vec<String> {
    let unproven = check(model).err().unwrap_or_default();
    unproven.iter().map(ToString::to_string).collect()
}

/// Checks what is said of a model; `""` means that rten is proven on it.
fn says(model: &OnnxModel, expected: &str) {
    assert_eq!(problems(model).join("; "), expected);
}

#[test]
fn what_rten_gets_wrong_is_refused() {
    says(
        &one("Softmax", 11, &[3], vec![]),
        "operator Softmax normalising over several axes at once at opset 11 (node \"y\") is not \
         proven right on rten",
    );
    says(&one("Softmax", 11, &[2], vec![]), "");
    says(&one("Softmax", 13, &[3], vec![]), "");
    says(&one("Softmax", 11, &[3], vec![attribute::int("axis", -1)]), "");
    says(
        &one("Sign", 13, &[2], vec![]),
        "operator Sign with input input of type float at opset 13 (node \"y\") is not proven right \
         on rten",
    );
    says(
        &one("LRN", 13, &[4], vec![attribute::int("size", 3)]),
        "operator LRN (in any form) at opset 13 (node \"y\") is not proven right on rten",
    );
    says(
        &typed(ElementType::String, "Identity", 13, &[2], vec![]),
        "operator Identity with input input of type string at opset 13 (node \"y\") is not proven \
         right on rten",
    );
    let volume = vec![attribute::ints("kernel_shape", &[1, 1, 1])];
    assert_eq!(problems(&one("Conv", 11, &[5, 5], volume)).len(), 1);
}

#[test]
fn an_attribute_that_is_left_out_is_its_default_written_out() {
    // The kernel's shape is that of the weights.
    says(&one("Conv", 11, &[4, 4], vec![]), "");
    says(&one("Conv", 11, &[4, 4], vec![attribute::ints("kernel_shape", &[2, 2])]), "");
    assert_eq!(problems(&one("Conv", 11, &[5, 5], vec![])).len(), 1);
    let pad = |attributes| {
        let mut graph = GraphBuilder::new("pad", 13, 1);
        graph.input("x", ElementType::Float32, &[Dim::Fixed(2)]);
        let pads = graph.ints("pads", &[2], &[0, 1]);
        let fill = graph.floats("fill", &[], &[0.0]);
        graph.node("y", "Pad", &["x", &pads, &fill], attributes);
        graph.output("y", ElementType::Float32, &[]);
        graph.finish().expect("the graph is whole")
    };
    says(&pad(vec![]), "");
    says(&pad(vec![attribute::text("mode", "constant")]), "");
    // An output that nobody reads is one less to compute.
    let mut graph = GraphBuilder::new("lstm", 14, 1);
    for (name, dims) in [("x", [2, 2, 2]), ("w", [1, 4, 2]), ("r", [1, 4, 1])] {
        graph.input(name, ElementType::Float32, &dims.map(Dim::Fixed));
    }
    graph.node("y", "LSTM", &["x", "w", "r"], vec![attribute::int("hidden_size", 1)]);
    graph.output("y", ElementType::Float32, &[]);
    says(&graph.finish().expect("the graph is whole"), "");
}

#[test]
fn what_is_not_in_the_table_is_refused() {
    for (operator, opset, attributes) in [
        ("NoSuchOperator", 13, vec![]),
        ("Relu", 999, vec![]),
        ("Relu", 13, vec![attribute::int("no_such_attribute", 1)]),
        ("Resize", 13, vec![attribute::text("mode", "no_such_mode")]),
    ] {
        let model = one(operator, opset, &[4], attributes);
        assert_eq!(problems(&model).len(), 1, "{operator}");
    }
}

#[test]
fn an_operator_of_another_domain_is_another_operator() {
    let mut model = one("Relu", 13, &[2], vec![]);
    let edited = model.edit(|proto| {
        let graph = proto.graph.as_mut().expect("there is a graph");
        graph.node[0].domain = Some("com.example".to_owned());
    });
    edited.expect("the model stays whole");
    says(
        &model,
        "operator com.example.Relu (of an operator set the model does not import) at opset 0 (node \
         \"y\") is not proven right on rten",
    );
    let import = OperatorSetIdProto { domain: Some("com.example".to_owned()), version: Some(1) };
    model.edit(|proto| proto.opset_import.push(import)).expect("the model stays whole");
    assert_eq!(problems(&model).len(), 1);
}

#[test]
fn types_follow_through_the_graph() {
    let mut graph = GraphBuilder::new("cast", 13, 1);
    graph.input("x", ElementType::Float32, &[Dim::Fixed(2)]);
    graph.node("wide", "Cast", &["x"], vec![attribute::int("to", 11)]);
    graph.node("sum", "Add", &["wide", "wide"], vec![]);
    graph.node("y", "Cast", &["sum"], vec![attribute::int("to", 1)]);
    graph.output("y", ElementType::Float32, &[]);
    let model = graph.finish().expect("the graph is whole");
    let found = problems(&model);
    assert!(
        found.iter().any(|p| p.starts_with("operator Add with input A of type double")),
        "{found:?}"
    );
}

#[test]
fn the_bundled_models_are_within_what_is_proven() {
    let digits =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/digits/1/model.onnx");
    let encoder_sizes = Encoder::default();
    let dense = WideDense { features: 8, width: 16, layers: 2, scores: 4 };
    for (name, model) in [
        ("mobilenet_v2", mobilenet_v2(32, 10)),
        ("resnet50", resnet50(32, 10)),
        ("encoder", encoder(&encoder_sizes)),
        ("wide_dense", wide_dense(&dense)),
        ("digits", OnnxModel::read(&digits)),
    ] {
        let model = model.expect(name);
        assert_eq!(problems(&model), Vec::<String>::new(), "{name}");
    }
}

//! What the tables refuse, and with which remedy, for graphs of one node and for whole models.

use std::path::Path;

use symphony_onnx::builder::{GraphBuilder, attribute};
use symphony_onnx::examples::{Encoder, WideDense, encoder, mobilenet_v2, resnet50, wide_dense};
use symphony_onnx::proto::{AttributeProto, OperatorSetIdProto};
use symphony_onnx::{Dim, ElementType, OnnxModel};

use super::{OnnxEngine, check};

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

fn problems(engine: OnnxEngine, model: &OnnxModel) -> Vec<String> {
    let unproven = check(engine, model).err().unwrap_or_default();
    unproven.iter().map(ToString::to_string).collect()
}

/// Checks the answer of an engine to one node; `""` means that it takes the node.
fn says(engine: OnnxEngine, model: &OnnxModel, expected: &str) {
    assert_eq!(problems(engine, model).join("; "), expected);
}

#[test]
fn what_rten_gets_wrong_is_refused_with_a_way_out() {
    let rten = OnnxEngine::Rten;
    says(
        rten,
        &one("Softmax", 11, &[3], vec![]),
        "operator Softmax normalising over several axes at once at opset 11 (node \"y\") is not \
         proven right on rten: use engine = \"onnxruntime\" (pip install onnxruntime), or export \
         with opset 13 or later",
    );
    says(rten, &one("Softmax", 11, &[2], vec![]), "");
    says(rten, &one("Softmax", 13, &[3], vec![]), "");
    says(rten, &one("Softmax", 11, &[3], vec![attribute::int("axis", -1)]), "");
    says(OnnxEngine::Onnxruntime, &one("Softmax", 11, &[3], vec![]), "");
    says(
        rten,
        &one("Sign", 13, &[2], vec![]),
        "operator Sign with input input of type float at opset 13 (node \"y\") is not proven right \
         on rten: use engine = \"onnxruntime\" (pip install onnxruntime)",
    );
    says(
        rten,
        &one("LRN", 13, &[4], vec![attribute::int("size", 3)]),
        "operator LRN (in any form) at opset 13 (node \"y\") is not proven right on rten: use \
         engine = \"onnxruntime\" (pip install onnxruntime)",
    );
    let volume = vec![attribute::ints("kernel_shape", &[1, 1, 1])];
    assert_eq!(problems(rten, &one("Conv", 11, &[5, 5], volume)).len(), 1);
}

#[test]
fn the_remedy_fits_what_is_not_proven() {
    let onnxruntime = OnnxEngine::Onnxruntime;
    says(
        onnxruntime,
        &typed(ElementType::Int32, "Sigmoid", 13, &[2], vec![]),
        "operator Sigmoid with input X of type int32 at opset 13 (node \"y\") is not proven right \
         on onnxruntime: cast input X to double, float or float16, which it is proven on",
    );
    says(
        onnxruntime,
        &one("Resize", 13, &[4], vec![attribute::text("mode", "no_such_mode")]),
        "operator Resize with mode = no_such_mode at opset 13 (node \"y\") is not proven right on \
         onnxruntime: export the model without this use of it",
    );
    says(
        onnxruntime,
        &one("NoSuchOperator", 13, &[4], vec![]),
        "operator NoSuchOperator (in any form) at opset 13 (node \"y\") is not proven right on \
         onnxruntime: export the model without it",
    );
}

#[test]
fn texts_are_onnxruntimes_as_far_as_it_is_right_on_them() {
    let text = |operator, ranks: &[usize], attributes| {
        typed(ElementType::String, operator, 13, ranks, attributes)
    };
    says(OnnxEngine::Onnxruntime, &text("Identity", &[2], vec![]), "");
    says(
        OnnxEngine::Rten,
        &text("Identity", &[2], vec![]),
        "operator Identity with input input of type string at opset 13 (node \"y\") is not proven \
         right on rten: use engine = \"onnxruntime\" (pip install onnxruntime)",
    );
    // It returns only the first text of a slice.
    let gather = |axis: i64| {
        let mut graph = GraphBuilder::new("gather", 13, 1);
        graph.input("x", ElementType::String, &[Dim::Fixed(2), Dim::Fixed(3)]);
        graph.input("i", ElementType::Int64, &[Dim::Fixed(1)]);
        graph.node("y", "Gather", &["x", "i"], vec![attribute::int("axis", axis)]);
        graph.output("y", ElementType::String, &[]);
        graph.finish().expect("the graph is whole")
    };
    says(OnnxEngine::Onnxruntime, &gather(1), "");
    says(
        OnnxEngine::Onnxruntime,
        &gather(0),
        "operator Gather with input data of type string and gathering slices at opset 13 (node \
         \"y\") is not proven right on onnxruntime: export the model without this use of it",
    );
}

#[test]
fn what_no_engine_is_proven_on_is_refused() {
    for engine in OnnxEngine::ALL {
        for (operator, opset, attributes) in [
            ("NoSuchOperator", 13, vec![]),
            ("Relu", 999, vec![]),
            ("Relu", 13, vec![attribute::int("no_such_attribute", 1)]),
            ("Resize", 13, vec![attribute::text("mode", "no_such_mode")]),
        ] {
            let model = one(operator, opset, &[4], attributes);
            assert_eq!(problems(engine, &model).len(), 1, "{operator} on {engine}");
        }
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
        OnnxEngine::Rten,
        &model,
        "operator com.example.Relu (of an operator set the model does not import) at opset 0 (node \
         \"y\") is not proven right on rten: export the model without it",
    );
    let import = OperatorSetIdProto { domain: Some("com.example".to_owned()), version: Some(1) };
    model.edit(|proto| proto.opset_import.push(import)).expect("the model stays whole");
    assert_eq!(problems(OnnxEngine::Onnxruntime, &model).len(), 1);
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
    let found = problems(OnnxEngine::Rten, &model);
    assert!(
        found.iter().any(|p| p.starts_with("operator Add with input A of type double")),
        "{found:?}"
    );
    says(OnnxEngine::Onnxruntime, &model, "");
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
        for engine in OnnxEngine::ALL {
            assert_eq!(problems(engine, &model), Vec::<String>::new(), "{name} on {engine}");
        }
    }
}

//! The list of operators: of the graph, of nested graphs and of local functions.

use symphony_onnx::builder::{GraphBuilder, attribute};
use symphony_onnx::proto::attribute_proto::AttributeType;
use symphony_onnx::proto::{
    AttributeProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto, ValueInfoProto,
};
use symphony_onnx::{Attribute, Dim, ElementType, OnnxModel};

fn import(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) }
}

fn node(domain: &str, operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        domain: Some(domain.into()),
        op_type: Some(operator.into()),
        input: inputs.iter().map(|&i| i.into()).collect(),
        output: vec![output.into()],
        ..Default::default()
    }
}

/// A graph with an `If` around a `Slice`, a local function and a foreign operator.
pub(crate) fn nested() -> OnnxModel {
    let mut graph = GraphBuilder::new("nested", 17, 1);
    graph.input("x", ElementType::Float16, &[Dim::Named("n".into()), Dim::Fixed(4)]);
    graph.input("flag", ElementType::Bool, &[]);
    graph.ints("starts", &[1], &[2]);
    graph.node("p", "Pad", &["x", "starts", "", "starts"], vec![attribute::text("mode", "edge")]);
    graph.output("y", ElementType::Float16, &[Dim::Unknown, Dim::Unknown]);
    let mut model = graph.finish().expect("builds");
    let branch = AttributeProto {
        name: Some("then_branch".into()),
        r#type: Some(AttributeType::Graph as i32),
        g: Some(GraphProto {
            node: vec![node("", "Slice", &["x", "starts"], "s")],
            output: vec![ValueInfoProto { name: Some("s".into()), ..Default::default() }],
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut choice = node("ai.onnx", "If", &["flag"], "i");
    choice.attribute.push(branch);
    let mut scaled = node("", "LeakyRelu", &["a"], "b");
    scaled.attribute.push(AttributeProto {
        name: Some("alpha".into()),
        ref_attr_name: Some("slope".into()),
        ..Default::default()
    });
    let function = FunctionProto {
        name: Some("Twice".into()),
        domain: Some("local".into()),
        input: vec!["a".into()],
        output: vec!["b".into()],
        node: vec![scaled],
        opset_import: vec![import("", 16)],
        ..Default::default()
    };
    let edited = model.edit(|proto| {
        proto.opset_import.push(import("local", 1));
        proto.functions.push(function);
        let graph = proto.graph.as_mut().expect("a graph");
        graph.node.push(choice);
        graph.node.push(node("local", "Twice", &["i"], "t"));
        graph.node.push(node("com.example", "Odd", &["t"], "y"));
    });
    edited.expect("still a model");
    model
}

#[test]
fn every_node_is_listed_with_its_operator_set() {
    let model = nested();
    let listed: Vec<String> = model
        .nodes()
        .iter()
        .map(|n| {
            let opset = n.opset.map_or("none".into(), |v| v.to_string());
            let nested = if n.is_nested { " nested" } else { "" };
            let function = if n.is_local_function { " function" } else { "" };
            format!("{}:{} {opset}{nested}{function}", n.domain(), n.operator())
        })
        .collect();
    let expected = [
        ":Pad 17",
        ":If 17",
        ":Slice 17 nested",
        "local:Twice 1 function",
        "com.example:Odd none",
        ":LeakyRelu 16 nested",
    ];
    assert_eq!(listed, expected);
}

#[test]
fn inputs_are_known_where_the_file_says_so() {
    let model = nested();
    let nodes = model.nodes();
    let (pad, slice, leaky) = (&nodes[0], &nodes[2], &nodes[5]);
    assert_eq!(pad.input_element(0), Some(ElementType::Float16));
    assert_eq!(pad.input_rank(0), Some(2));
    assert_eq!((pad.input_count(), pad.has_input(2), pad.has_input(3)), (3, false, true));
    assert_eq!(pad.input_element(2), None);
    assert_eq!(pad.text("mode"), Some("edge"));
    // Inside the branch, the values of the graph around it are visible.
    assert_eq!(slice.input_ints(1), Some(vec![2]));
    assert_eq!(slice.input_element(0), Some(ElementType::Float16));
    assert_eq!(leaky.attribute("alpha"), Some(Attribute::Reference("slope")));
    assert_eq!(leaky.float("alpha"), None);
    assert_eq!(leaky.input_element(0), None);
}

#[test]
fn files_older_than_operator_sets_use_the_first() {
    let mut model = nested();
    let edited = model.edit(|proto| {
        proto.ir_version = Some(2);
        proto.opset_import.clear();
    });
    edited.expect("an old model");
    assert_eq!(model.opset(""), Some(1));
    assert_eq!(model.opset("local"), None);
}

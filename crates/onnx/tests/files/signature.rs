//! What files say about themselves, and that writing and reading lose nothing.

use bytes::Bytes;
use symphony_onnx::builder::GraphBuilder;
use symphony_onnx::examples::{self, Encoder, WideDense};
use symphony_onnx::proto::type_proto::{Map, Opaque, Optional, Sequence, Tensor, Value};
use symphony_onnx::proto::{TypeProto, ValueInfoProto};
use symphony_onnx::{Dim, ElementType, OnnxModel};

use crate::digits;

fn check(model: &OnnxModel, inputs: &[&str], outputs: &[&str]) {
    let shown = |values: &[symphony_onnx::ValueInfo]| -> Vec<String> {
        values.iter().map(ToString::to_string).collect()
    };
    assert_eq!(shown(&model.signature().inputs), inputs);
    assert_eq!(shown(&model.signature().outputs), outputs);
    assert_eq!(model.opset(""), Some(17));
    assert_eq!(&OnnxModel::decode(model.encode()).expect("decodes"), model);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("model.onnx");
    model.write(&path).expect("writes");
    assert_eq!(&OnnxModel::read(&path).expect("reads"), model);
}

#[test]
fn digits_takes_images() {
    let model = OnnxModel::read(&digits()).expect("the bundled model");
    check(&model, &["image: float [batch, 1, 8, 8]"], &["logits: float [batch, 10]"]);
}

#[test]
fn mobilenet_takes_images() {
    let model = examples::mobilenet_v2(96, 7).expect("builds");
    check(&model, &["image: float [batch, 3, 96, 96]"], &["logits: float [batch, 7]"]);
}

#[test]
fn resnet_takes_images() {
    let model = examples::resnet50(224, 1000).expect("builds");
    check(&model, &["image: float [batch, 3, 224, 224]"], &["logits: float [batch, 1000]"]);
}

#[test]
fn encoder_takes_tokens() {
    let sizes = Encoder { vocabulary: 100, layers: 2, ..Encoder::default() };
    let model = examples::encoder(&sizes).expect("builds");
    let inputs = ["input_ids: int64 [batch, sequence]", "attention_mask: int64 [batch, sequence]"];
    check(&model, &inputs, &["embedding: float [batch, 384]"]);
}

#[test]
fn wide_dense_takes_features() {
    let sizes = WideDense { features: 8, width: 64, layers: 2, scores: 3 };
    let model = examples::wide_dense(&sizes).expect("builds");
    check(&model, &["features: float [batch, 8]"], &["scores: float [batch, 3]"]);
}

#[test]
fn impossible_sizes_are_refused() {
    let sizes = WideDense { width: -1, ..WideDense::default() };
    let error = examples::wide_dense(&sizes).expect_err("a negative width").to_string();
    assert!(error.contains("impossible dimensions"), "{error}");
}

#[test]
fn every_kind_of_value_is_named() {
    let nothing = || Some(Box::new(TypeProto::default()));
    let kinds = [
        (Some(Value::SequenceType(Sequence { elem_type: nothing() }.into())), "sequence"),
        (Some(Value::MapType(Map { key_type: Some(7), value_type: nothing() }.into())), "map"),
        (Some(Value::OptionalType(Optional { elem_type: nothing() }.into())), "optional"),
        (Some(Value::OpaqueType(Opaque::default())), "opaque"),
        (Some(Value::SparseTensorType(Default::default())), "sparse tensor"),
        (Some(Value::TensorType(Tensor { elem_type: Some(8), shape: None })), "string [...]"),
        (None, "unspecified"),
    ];
    for (value, shown) in kinds {
        let mut graph = GraphBuilder::new("kinds", 17, 0);
        graph.output("y", ElementType::Float32, &[]);
        let mut proto = graph.finish().expect("builds").proto().clone();
        let r#type = Some(TypeProto { value, denotation: None });
        let output = ValueInfoProto { name: Some("y".into()), r#type, ..Default::default() };
        proto.graph.as_mut().expect("a graph").output = vec![output];
        let model = OnnxModel::from_proto(proto).expect("describes");
        assert_eq!(model.signature().outputs[0].to_string(), format!("y: {shown}"));
    }
}

#[test]
fn initializers_are_no_inputs() {
    let mut graph = GraphBuilder::new("old", 17, 0);
    graph.input("x", ElementType::Float32, &[Dim::Unknown, Dim::Fixed(2)]);
    graph.input("w", ElementType::Float32, &[Dim::Fixed(2), Dim::Fixed(2)]);
    graph.random("w", &[2, 2], 1.0);
    graph.node("y", "MatMul", &["x", "w"], vec![]);
    graph.output("y", ElementType::Float32, &[Dim::Unknown, Dim::Fixed(2)]);
    check(&graph.finish().expect("builds"), &["x: float [?, 2]"], &["y: float [?, 2]"]);
}

#[test]
fn weights_are_slices_of_the_file() {
    let file = Bytes::from(std::fs::read(digits()).expect("the bundled model"));
    let model = OnnxModel::decode(file.clone()).expect("decodes");
    let graph = model.proto().graph.as_ref().expect("a graph");
    let weights = graph.initializer[0].raw_data.as_ref().expect("raw data");
    assert!(file.as_ptr_range().contains(&weights.as_ptr()));
}

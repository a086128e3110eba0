//! Files that are broken, cut short or hostile give a clear error and never a panic.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;
use symphony_onnx::OnnxModel;
use symphony_onnx::proto::tensor_proto::DataLocation;
use symphony_onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
};

use crate::digits;
use crate::nodes::nested;

/// Does everything that is done to a model before an engine loads it. It may fail.
fn exercise(bytes: &[u8]) {
    let Ok(mut model) = OnnxModel::decode(Bytes::copy_from_slice(bytes)) else { return };
    for node in model.nodes() {
        node.attribute("axis");
        for position in 0..=node.proto.input.len() {
            node.input_ints(position);
            node.input_rank(position);
        }
    }
    let names: Vec<String> = model.signature().inputs.iter().map(|v| v.name.clone()).collect();
    model.make_batch_dynamic().ok();
    for name in names {
        model.set_dim(&name, 0, 3).ok();
    }
    model.encode();
}

proptest! {
    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..400)) {
        exercise(&bytes);
    }

    #[test]
    fn a_real_file_changed(
        changes in vec((any::<Index>(), any::<u8>()), 1..8),
        cut in any::<Index>(),
        is_cut in any::<bool>(),
        is_nested in any::<bool>(),
    ) {
        let file = if is_nested { nested().encode() } else { graph_of_digits() };
        let mut bytes = file.to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        exercise(&bytes);
    }
}

/// The digit classifier with small weights, so that changes hit the structure.
fn graph_of_digits() -> Bytes {
    let mut proto = OnnxModel::read(&digits()).expect("the bundled model").proto().clone();
    for tensor in &mut proto.graph.as_mut().expect("a graph").initializer {
        let kept = tensor.raw_data.take().map(|data| data.slice(..4));
        *tensor = TensorProto { dims: vec![1], raw_data: kept, ..tensor.clone() };
    }
    proto.encode_to_vec().into()
}

#[test]
fn every_cut_of_a_file_is_an_error_or_a_model() {
    let file = nested().encode();
    for len in 0..file.len() {
        exercise(&file[..len]);
    }
}

fn refused(change: impl FnOnce(&mut ModelProto, fn(&mut ModelProto) -> &mut GraphProto)) -> String {
    let mut proto = nested().proto().clone();
    change(&mut proto, |proto| proto.graph.as_mut().expect("a graph"));
    OnnxModel::decode(proto.encode_to_vec().into()).expect_err("refused").to_string()
}

fn bad_tensor(change: impl FnOnce(&mut TensorProto)) -> String {
    refused(|proto, graph| {
        let mut tensor = TensorProto {
            name: Some("w".into()),
            dims: vec![2],
            data_type: Some(1),
            float_data: vec![0.0; 2],
            ..Default::default()
        };
        change(&mut tensor);
        graph(proto).initializer.push(tensor);
    })
}

#[test]
fn errors_name_the_thing() {
    let cut = "not an ONNX model, or cut short";
    let cases = [
        (refused(|p, _| p.graph = None), format!("{cut}: it has no graph")),
        (refused(|p, _| p.opset_import.clear()), format!("{cut}: it has no operator set")),
        (refused(|p, g| g(p).output.clear()), format!("{cut}: it has no graph output")),
        (
            refused(|p, g| {
                let again = g(p).input[0].clone();
                g(p).input.push(again);
            }),
            "input \"x\": there are two of this name".to_owned(),
        ),
        (refused(|p, g| g(p).output[0].name = None), "output \"\": it has no name".to_owned()),
        (
            bad_tensor(|t| t.float_data.push(0.0)),
            "tensor \"w\": float [2] needs 2 stored values but the file holds 3".to_owned(),
        ),
        (
            bad_tensor(|t| t.raw_data = Some(Bytes::from_static(b"123"))),
            "tensor \"w\": float [2] needs 8 bytes but the file holds 3".to_owned(),
        ),
        (
            bad_tensor(|t| t.dims = vec![i64::MAX, i64::MAX]),
            format!("tensor \"w\": impossible dimensions [{0}, {0}]", i64::MAX),
        ),
        (bad_tensor(|t| t.dims = vec![-2]), "tensor \"w\": impossible dimensions [-2]".to_owned()),
        (
            bad_tensor(|t| t.data_type = Some(77)),
            "tensor \"w\": unknown element type 77".to_owned(),
        ),
    ];
    for (error, expected) in cases {
        assert_eq!(error, expected);
    }
    let error = OnnxModel::decode(Bytes::from_static(b"<html>")).expect_err("refused").to_string();
    assert!(error.starts_with(cut), "{error}");
}

#[test]
fn graphs_nested_without_end_are_refused() {
    let mut graph = GraphProto::default();
    for _ in 0..200 {
        let inner = AttributeProto { g: Some(graph), ..Default::default() };
        let node = NodeProto { attribute: vec![inner], ..Default::default() };
        graph = GraphProto { node: vec![node], ..Default::default() };
    }
    let proto = ModelProto { graph: Some(graph), ..Default::default() };
    let error = OnnxModel::decode(proto.encode_to_vec().into()).expect_err("refused").to_string();
    assert!(error.contains("recursion limit"), "{error}");
}

/// Writes a model with one external tensor of 8 bytes and reads it back.
fn external(directory: &Path, location: &str, offset: &str) -> Result<OnnxModel, String> {
    let entry = |key: &str, value: &str| StringStringEntryProto {
        key: Some(key.into()),
        value: Some(value.into()),
    };
    let mut proto = nested().proto().clone();
    proto.graph.as_mut().expect("a graph").initializer.push(TensorProto {
        name: Some("w".into()),
        dims: vec![2],
        data_type: Some(1),
        data_location: Some(DataLocation::External as i32),
        external_data: vec![entry("location", location), entry("offset", offset)],
        ..Default::default()
    });
    let path = directory.join("model.onnx");
    fs::write(&path, proto.encode_to_vec()).expect("writes");
    let alone = OnnxModel::decode(proto.encode_to_vec().into()).expect_err("has no directory");
    assert!(alone.to_string().contains("load it from its file"), "{alone}");
    OnnxModel::read(&path).map_err(|e| e.to_string())
}

#[test]
fn weights_in_other_files_must_lie_beside_the_model() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = directory.path();
    fs::write(directory.join("w.bin"), [0; 12]).expect("writes");
    fs::create_dir(directory.join("folder")).expect("makes a directory");
    let model = external(directory, "w.bin", "4").expect("reads");
    assert!(model.external_files().eq([directory.join("w.bin")]));
    assert!(external(directory, "./w.bin", "4").is_ok());
    let cases = [
        ("../w.bin", "0", "only files in the model's own directory"),
        ("/etc/passwd", "0", "only files in the model's own directory"),
        ("", "0", "only files in the model's own directory"),
        ("..\\w.bin", "0", "only files in the model's own directory"),
        ("w.bin", "8", "does not hold as many bytes"),
        ("w.bin", "18446744073709551615", "does not hold as many bytes"),
        ("w.bin", "-1", "no number"),
        ("none.bin", "0", "none.bin; copy the model again with all its files"),
        ("folder", "0", "it is not a file"),
    ];
    for (location, offset, expected) in cases {
        let error = external(directory, location, offset).expect_err("refused");
        assert!(error.contains(expected) && error.contains("model.onnx"), "{error}");
    }
}

/// As the caches of model hubs have it: all files in one place under names of their own, and links
/// to them under the names that the model knows.
#[test]
fn weights_are_found_where_links_lead() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let root = root.path().canonicalize().expect("is there");
    let [blobs, other, snapshot] = ["blobs", "other", "snapshots/1"].map(|name| root.join(name));
    for directory in [&blobs, &other, &snapshot] {
        fs::create_dir_all(directory).expect("makes a directory");
    }
    fs::write(other.join("abc"), [0; 12]).expect("writes");
    fs::write(blobs.join("w.bin"), [0; 12]).expect("writes");
    let model = external(&blobs, "w.bin", "4").expect("reads");
    let (graph, directory) = model.encode_beside_weights().expect("all is there");
    assert_eq!(directory, blobs);
    let named = |graph: bytes::Bytes| {
        let proto = ModelProto::decode(graph).expect("decodes");
        let tensor = proto.graph.expect("a graph").initializer.pop().expect("the tensor");
        tensor.external_data[0].value().to_owned()
    };
    assert_eq!(named(graph), "w.bin");

    // The model is a link, and its weights lie beside what it leads to.
    let link = snapshot.join("model.onnx");
    std::os::unix::fs::symlink("../../blobs/model.onnx", &link).expect("makes a link");
    let model = OnnxModel::read(&link).expect("reads");
    assert!(model.external_files().eq([snapshot.join("../../blobs/w.bin")]));
    // A link to weights beside the link goes before them.
    std::os::unix::fs::symlink("../../other/abc", snapshot.join("w.bin")).expect("makes a link");
    let model = OnnxModel::read(&link).expect("reads");
    let (graph, directory) = model.encode_beside_weights().expect("all is there");
    assert_eq!((named(graph).as_str(), directory), ("abc", other));
}

#[test]
fn a_missing_file_is_named() {
    let error = OnnxModel::read(Path::new("/nowhere/model.onnx")).expect_err("no file").to_string();
    assert!(error.starts_with("cannot read /nowhere/model.onnx: "), "{error}");
}

#[test]
fn what_is_no_file_or_too_large_for_one_is_never_read() {
    let refused = |path: &Path| OnnxModel::read(path).expect_err("refused").to_string();
    assert_eq!(refused(Path::new("/dev/zero")), "cannot read /dev/zero: not a file");
    let directory = tempfile::tempdir().expect("a temporary directory");
    assert!(refused(directory.path()).ends_with("not a file"));
    // Only its length is on disk.
    let path = directory.path().join("model.onnx");
    fs::File::create(&path).and_then(|file| file.set_len(1 << 31)).expect("makes a file");
    assert!(refused(&path).contains("larger than the 2 GiB"), "{}", refused(&path));
}

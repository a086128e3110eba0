//! A model file in memory: it is decoded, checked for consistency, and encoded again.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

use crate::error::Error;
use crate::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use crate::signature::GraphSignature;
use crate::{external, tensor};

/// The maximum size of a protobuf message, and therefore of a model file.
const FILE_BYTES_MAX: u64 = (1 << 31) - 1;

/// An ONNX model whose parts have been checked against each other: it has a graph with outputs,
/// names are unique, and every stored tensor has the data that its dimensions need.
#[derive(Clone, Debug, PartialEq)]
pub struct OnnxModel {
    proto: ModelProto,
    signature: GraphSignature,
    external: external::Files,
}

impl OnnxModel {
    /// Reads a model file. Weights in other files are not read, but they must lie in the model's
    /// directory or below it.
    ///
    /// # Errors
    /// [`Error::File`] with the path and the reason; [`Error::Read`] when the file cannot be read,
    /// is not a regular file, or is larger than a protobuf message can be.
    pub fn read(path: &Path) -> Result<OnnxModel, Error> {
        let in_file = |source| Error::File { path: path.to_owned(), source: Box::new(source) };
        let bytes =
            contents(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let proto = ModelProto::decode(Bytes::from(bytes)).map_err(|e| in_file(e.into()))?;
        let directories = external::directories_of(path);
        let external = external::files(tensors(&proto), &directories).map_err(in_file)?;
        OnnxModel::checked(proto, external).map_err(in_file)
    }

    /// Decodes a model. The weights stay slices of `bytes`.
    ///
    /// # Errors
    /// Something is missing or contradictory. A model with weights in other files is refused,
    /// because it came without its directory.
    pub fn decode(bytes: Bytes) -> Result<OnnxModel, Error> {
        OnnxModel::from_proto(ModelProto::decode(bytes)?)
    }

    /// Takes a model that was built in memory, with the checks of [`OnnxModel::decode`].
    ///
    /// # Errors
    /// As [`OnnxModel::decode`].
    pub fn from_proto(proto: ModelProto) -> Result<OnnxModel, Error> {
        external::refuse(tensors(&proto))?;
        OnnxModel::checked(proto, external::Files::new())
    }

    fn checked(proto: ModelProto, external: external::Files) -> Result<OnnxModel, Error> {
        let graph = proto.graph.as_ref().ok_or(Error::Missing("graph"))?;
        if graph.output.is_empty() {
            return Err(Error::Missing("graph output"));
        }
        // Operator sets came with version 3 of the file format. Before it there was only one.
        if proto.ir_version() >= 3 && proto.opset_import.is_empty() {
            return Err(Error::Missing("operator set"));
        }
        unique("input", graph.input.iter().map(|v| v.name()))?;
        unique("output", graph.output.iter().map(|v| v.name()))?;
        unique("initializer", graph.initializer.iter().map(|t| t.name()))?;
        for (tensor, node) in tensors_with_nodes(&proto) {
            tensor::check(tensor, node)?;
        }
        let signature = GraphSignature::of(graph)?;
        Ok(OnnxModel { proto, signature, external })
    }

    /// The model as an ONNX file.
    pub fn encode(&self) -> Bytes {
        self.proto.encode_to_vec().into()
    }

    /// Inputs and outputs, in the graph's order, without initializers.
    pub fn signature(&self) -> &GraphSignature {
        &self.signature
    }

    /// The version of an operator set that the model imports; the standard set is `""`.
    pub fn opset(&self, domain: &str) -> Option<i64> {
        crate::opset::opset(&self.proto, &self.proto.opset_import, domain)
    }

    /// The files that hold weights outside the model file. Empty for a self-contained model.
    ///
    /// Any hash of the model must include them.
    pub fn external_files(&self) -> impl Iterator<Item = &Path> {
        self.external_weights().map(|(_, path)| path)
    }

    /// The same, each with the name that the model gives it.
    pub fn external_weights(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.external.iter().map(|(name, path)| (name.as_str(), path.as_path()))
    }

    /// The model as an ONNX file that names its external weights by where their files really are,
    /// whatever links lead there, and the directory from which these names count. An engine reads the
    /// weights themselves from there, and can map them instead of copying them.
    ///
    /// # Errors
    /// A file is gone, or its path is not UTF-8.
    pub fn encode_beside_weights(&self) -> io::Result<(Bytes, PathBuf)> {
        let mut proto = self.proto.clone();
        let directory = external::name_real_files(&mut proto, &self.external)?;
        Ok((proto.encode_to_vec().into(), directory))
    }

    /// The model in the form of the schema.
    pub fn proto(&self) -> &ModelProto {
        &self.proto
    }

    /// Changes the model in the form of the schema, then checks it again.
    ///
    /// # Errors
    /// The error of [`OnnxModel::decode`] for the changed model. The model is then left unchanged.
    pub fn edit(&mut self, change: impl FnOnce(&mut ModelProto)) -> Result<(), Error> {
        // This is cheap compared with loading: raw weights are shared slices, and only the graph is
        // copied.
        let mut proto = self.proto.clone();
        change(&mut proto);
        *self = OnnxModel::checked(proto, self.external.clone())?;
        Ok(())
    }
}

/// Reads a file, but never more than a model file can hold.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for a writer, and reading a device may never end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a file"));
    }
    let file = File::open(path)?;
    let too_large = || {
        let problem = "larger than the 2 GiB an ONNX file can have: save the weights beside it";
        io::Error::new(ErrorKind::FileTooLarge, problem)
    };
    let size = file.metadata()?.len();
    let capacity = usize::try_from(size).ok().filter(|_| size <= FILE_BYTES_MAX);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(capacity.ok_or_else(too_large)?)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX { Err(too_large()) } else { Ok(bytes) }
}

/// Refuses empty names and duplicates.
fn unique<'a>(role: &'static str, names: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let mut seen = HashSet::new();
    for name in names {
        let problem = match name {
            "" => "it has no name",
            _ if !seen.insert(name) => "there are two of this name",
            _ => continue,
        };
        return Err(Error::Value { role, name: name.to_owned(), problem: problem.to_owned() });
    }
    Ok(())
}

fn tensors(model: &ModelProto) -> impl Iterator<Item = &TensorProto> {
    tensors_with_nodes(model).into_iter().map(|(tensor, _)| tensor)
}

/// Every stored tensor of the model with the name of the node that holds it, which is empty for
/// initializers. The depth is bounded, because the decoder refuses deep nesting.
fn tensors_with_nodes(model: &ModelProto) -> Vec<(&TensorProto, &str)> {
    let mut found = Vec::new();
    if let Some(graph) = &model.graph {
        in_graph(graph, &mut found);
    }
    for function in &model.functions {
        in_nodes(&function.node, &mut found);
        in_attributes(&function.attribute_proto, function.name(), &mut found);
    }
    found
}

fn in_graph<'a>(graph: &'a GraphProto, found: &mut Vec<(&'a TensorProto, &'a str)>) {
    found.extend(graph.initializer.iter().map(|tensor| (tensor, "")));
    for sparse in &graph.sparse_initializer {
        found.extend(sparse.values.iter().chain(&sparse.indices).map(|tensor| (tensor, "")));
    }
    in_nodes(&graph.node, found);
}

fn in_nodes<'a>(nodes: &'a [NodeProto], found: &mut Vec<(&'a TensorProto, &'a str)>) {
    for node in nodes {
        let output = node.output.first().map_or("", String::as_str);
        in_attributes(&node.attribute, output, found);
    }
}

fn in_attributes<'a>(
    attributes: &'a [AttributeProto],
    node: &'a str,
    found: &mut Vec<(&'a TensorProto, &'a str)>,
) {
    for attribute in attributes {
        found.extend(attribute.t.iter().chain(&attribute.tensors).map(|tensor| (tensor, node)));
        for sparse in attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors) {
            found.extend(sparse.values.iter().chain(&sparse.indices).map(|tensor| (tensor, node)));
        }
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            in_graph(graph, found);
        }
    }
}

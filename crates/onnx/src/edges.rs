//! Turns outputs that are no tensors into tensors: the maps of a classifier into its probabilities,
//! sequences into their elements.

use crate::builder::attribute;
use crate::error::Error;
use crate::model::OnnxModel;
use crate::opset::plain_domain;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::type_proto::{Tensor, Value};
use crate::proto::{
    GraphProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
};
use crate::signature::ValueKind;

/// The standard operator set for the new nodes of a model that uses none.
const OPSET: i64 = 13;

/// An output that was no tensor, and what stands in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorOutput {
    /// The output's name.
    pub name: String,
    /// The names of the tensors in its place.
    pub tensors: Vec<String>,
    /// What the columns of its last dimension stand for, if it was a map.
    pub columns: Vec<String>,
}

impl OnnxModel {
    /// Replaces outputs that are sequences or maps by tensors, where the graph shows which. Others
    /// are left as they are.
    ///
    /// # Errors
    /// As [`OnnxModel::edit`].
    pub fn make_outputs_tensors(&mut self) -> Result<Vec<TensorOutput>, Error> {
        let is_other = |kind: &ValueKind| {
            matches!(kind, ValueKind::Sequence | ValueKind::Map | ValueKind::Optional)
        };
        if !self.signature().outputs.iter().any(|value| is_other(&value.kind)) {
            return Ok(Vec::new());
        }
        let mut replaced = Vec::new();
        self.edit(|proto| {
            if let Some(graph) = &mut proto.graph {
                replaced = replace(graph);
            }
            // The nodes in place of the others are of the standard operator set.
            let is_standard = |set: &OperatorSetIdProto| plain_domain(set.domain()).is_empty();
            if !replaced.is_empty() && !proto.opset_import.iter().any(is_standard) {
                proto
                    .opset_import
                    .push(OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) });
            }
        })?;
        Ok(replaced)
    }
}

fn replace(graph: &mut GraphProto) -> Vec<TensorOutput> {
    let mut replaced = Vec::new();
    let mut outputs = Vec::new();
    for output in std::mem::take(&mut graph.output) {
        let value = output.r#type.as_ref().and_then(|t| t.value.as_ref());
        let is_tensor = !matches!(
            value,
            Some(Value::SequenceType(_) | Value::MapType(_) | Value::OptionalType(_))
        );
        match Some(&output).filter(|_| !is_tensor).and_then(|output| tensors(graph, output)) {
            None => outputs.push(output),
            Some((tensors, columns)) => {
                replaced.push(TensorOutput {
                    name: output.name().to_owned(),
                    tensors: tensors.iter().map(|tensor| tensor.name().to_owned()).collect(),
                    columns,
                });
                outputs.extend(tensors);
            }
        }
    }
    graph.output = outputs;
    replaced
}

/// The tensors in place of an output, with the names of their columns.
fn tensors(
    graph: &mut GraphProto,
    output: &ValueInfoProto,
) -> Option<(Vec<ValueInfoProto>, Vec<String>)> {
    let name = output.name().to_owned();
    let at = graph.node.iter().position(|node| node.output.contains(&name))?;
    let node = graph.node.get(at)?.clone();
    let source = node.input.first()?.clone();
    match node.op_type() {
        "ZipMap" => {
            let columns = columns(&node);
            let is_given = Some(columns.len()).filter(|count| *count > 0);
            let columns_size = is_given.and_then(|count| i64::try_from(count).ok());
            *graph.node.get_mut(at)? = identity(&source, &name);
            Some((vec![tensor(&name, 1, Some(vec![None, columns_size]))], columns))
        }
        "SequenceConstruct" => {
            let element = element(output)?;
            let parts: Vec<String> = (0..node.input.len()).map(|i| format!("{name}.{i}")).collect();
            graph.node.extend(node.input.iter().zip(&parts).map(|(from, to)| identity(from, to)));
            Some((parts.iter().map(|part| tensor(part, element, None)).collect(), vec![]))
        }
        "SplitToSequence" => {
            *graph.node.get_mut(at)? = identity(&source, &name);
            Some((vec![tensor(&name, element(output)?, None)], vec![]))
        }
        "Optional" => None,
        _ => {
            // Elements of equal shape, one behind the other.
            let element = element(output)?;
            let whole = format!("{name}.elements");
            graph.node.push(NodeProto {
                op_type: Some("ConcatFromSequence".to_owned()),
                input: vec![name],
                output: vec![whole.clone()],
                attribute: vec![attribute::int("axis", 0), attribute::int("new_axis", 1)],
                ..Default::default()
            });
            Some((vec![tensor(&whole, element, None)], vec![]))
        }
    }
}

fn identity(from: &str, to: &str) -> NodeProto {
    NodeProto {
        op_type: Some("Identity".to_owned()),
        name: Some(to.to_owned()),
        input: vec![from.to_owned()],
        output: vec![to.to_owned()],
        ..Default::default()
    }
}

/// The classes of a map, in the order of the columns.
fn columns(node: &NodeProto) -> Vec<String> {
    let list = |name: &str| node.attribute.iter().find(|attribute| attribute.name() == name);
    let texts = list("classlabels_strings").map(|list| list.strings.as_slice()).unwrap_or_default();
    let numbers = list("classlabels_int64s").map(|list| list.ints.as_slice()).unwrap_or_default();
    let texts = texts.iter().map(|text| String::from_utf8_lossy(text).into_owned());
    texts.chain(numbers.iter().map(ToString::to_string)).collect()
}

/// The type of the tensors in a sequence.
fn element(output: &ValueInfoProto) -> Option<i32> {
    let Some(Value::SequenceType(sequence)) = &output.r#type.as_ref()?.value else { return None };
    match &sequence.elem_type.as_ref()?.value {
        Some(Value::TensorType(tensor)) => tensor.elem_type,
        _ => None,
    }
}

fn tensor(name: &str, element: i32, dims: Option<Vec<Option<i64>>>) -> ValueInfoProto {
    let shape = dims.map(|dims| TensorShapeProto {
        dim: dims
            .into_iter()
            .map(|size| Dimension { value: size.map(dimension::Value::DimValue), denotation: None })
            .collect(),
    });
    let tensor = Tensor { elem_type: Some(element), shape };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { value: Some(Value::TensorType(tensor)), denotation: None }),
        ..Default::default()
    }
}

//! Builds graphs from nodes, stored tensors, inputs and outputs, in order.

use bytes::Bytes;

use crate::element::ElementType;
use crate::error::Error;
use crate::model::OnnxModel;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::type_proto::{Tensor, Value};
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto,
};
use crate::signature::Dim;
use crate::tensor;
use crate::weights::Weights;

/// The version of the file format that is written. It came with operator set 17, and all engines of
/// the last years read it.
const IR_VERSION: i64 = 8;

/// Attributes of nodes.
pub mod attribute {
    use crate::proto::AttributeProto;
    use crate::proto::attribute_proto::AttributeType;

    /// An integer.
    pub fn int(name: &str, value: i64) -> AttributeProto {
        AttributeProto { i: Some(value), ..named(name, AttributeType::Int) }
    }

    /// A list of integers.
    pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
        AttributeProto { ints: values.to_vec(), ..named(name, AttributeType::Ints) }
    }

    /// A number.
    pub fn float(name: &str, value: f32) -> AttributeProto {
        AttributeProto { f: Some(value), ..named(name, AttributeType::Float) }
    }

    /// A string.
    pub fn text(name: &str, value: &str) -> AttributeProto {
        AttributeProto { s: Some(value.into()), ..named(name, AttributeType::String) }
    }

    fn named(name: &str, r#type: AttributeType) -> AttributeProto {
        AttributeProto {
            name: Some(name.to_owned()),
            r#type: Some(r#type as i32),
            ..Default::default()
        }
    }
}

/// A graph under construction. Values are referred to by name. Add a node after the nodes whose
/// values it reads.
#[derive(Debug)]
pub struct GraphBuilder {
    graph: GraphProto,
    opset: i64,
    weights: Weights,
}

impl GraphBuilder {
    /// An empty graph of a standard operator set. `seed` is the seed of its generated weights.
    pub fn new(name: &str, opset: i64, seed: u64) -> GraphBuilder {
        let graph = GraphProto { name: Some(name.to_owned()), ..Default::default() };
        GraphBuilder { graph, opset, weights: Weights::new(seed) }
    }

    /// Declares an input.
    pub fn input(&mut self, name: &str, element: ElementType, dims: &[Dim]) {
        self.graph.input.push(value_info(name, element, dims));
    }

    /// Declares an output, which must be a value that a node computes.
    pub fn output(&mut self, name: &str, element: ElementType, dims: &[Dim]) {
        self.graph.output.push(value_info(name, element, dims));
    }

    /// Adds a node of the standard domain with one output, which takes the given name and is
    /// returned.
    pub fn node(
        &mut self,
        output: &str,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        self.graph.node.push(NodeProto {
            name: Some(output.to_owned()),
            op_type: Some(operator.to_owned()),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute: attributes,
            ..Default::default()
        });
        output.to_owned()
    }

    /// Stores a tensor: little-endian bytes, row-major.
    pub fn raw(&mut self, name: &str, element: ElementType, dims: &[i64], data: Bytes) -> String {
        self.graph.initializer.push(TensorProto {
            name: Some(name.to_owned()),
            dims: dims.to_vec(),
            data_type: Some(element.code()),
            raw_data: Some(data),
            ..Default::default()
        });
        name.to_owned()
    }

    /// Stores numbers, row-major.
    pub fn floats(&mut self, name: &str, dims: &[i64], values: &[f32]) -> String {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.raw(name, ElementType::Float32, dims, data)
    }

    /// Stores 64-bit integers, row-major.
    pub fn ints(&mut self, name: &str, dims: &[i64], values: &[i64]) -> String {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.raw(name, ElementType::Int64, dims, data)
    }

    /// Stores generated numbers, uniform with mean 0 and the given standard deviation.
    pub fn random(&mut self, name: &str, dims: &[i64], deviation: f32) -> String {
        // Impossible dimensions get no data here, and `finish` returns an error.
        let count = tensor::element_count(dims).unwrap_or(0);
        let data = self.weights.uniform(count, deviation);
        self.raw(name, ElementType::Float32, dims, data)
    }

    /// Finishes the model.
    ///
    /// # Errors
    /// As [`OnnxModel::decode`]: names must be unique, data must fit dimensions, and there must be an
    /// output.
    pub fn finish(self) -> Result<OnnxModel, Error> {
        OnnxModel::from_proto(ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some("symphony".to_owned()),
            opset_import: vec![OperatorSetIdProto {
                domain: Some(String::new()),
                version: Some(self.opset),
            }],
            graph: Some(self.graph),
            ..Default::default()
        })
    }
}

fn value_info(name: &str, element: ElementType, dims: &[Dim]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|dim| Dimension {
            value: match dim {
                Dim::Fixed(size) => Some(dimension::Value::DimValue(*size)),
                Dim::Named(name) => Some(dimension::Value::DimParam(name.clone())),
                Dim::Unknown => None,
            },
            denotation: None,
        })
        .collect();
    let tensor = Tensor { elem_type: Some(element.code()), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { value: Some(Value::TensorType(tensor)), denotation: None }),
        ..Default::default()
    }
}

//! The inputs and outputs of a graph: names, element types and dimensions.

use std::collections::HashSet;
use std::fmt;

use crate::element::ElementType;
use crate::error::Error;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::type_proto::Value;
use crate::proto::{GraphProto, TensorShapeProto, TypeProto, ValueInfoProto};

/// One dimension of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// A size that the graph fixes; never negative.
    Fixed(i64),
    /// A symbol. Equal names in a graph mean equal sizes.
    Named(String),
    /// Any size.
    Unknown,
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(size) => write!(f, "{size}"),
            Dim::Named(name) => f.write_str(name),
            Dim::Unknown => f.write_str("?"),
        }
    }
}

/// The type of a tensor value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorType {
    /// Its elements.
    pub element: ElementType,
    /// Its dimensions, outermost first. `None` when the graph does not even give their number.
    pub dims: Option<Vec<Dim>>,
}

/// The kinds of values that a graph can take or return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// A dense tensor.
    Tensor(TensorType),
    /// A sparse tensor.
    SparseTensor,
    /// A sequence of values.
    Sequence,
    /// A map, which classifiers of older exporters return.
    Map,
    /// A value that may be absent.
    Optional,
    /// A type that only its own domain knows.
    Opaque,
    /// The graph gives no type.
    Unspecified,
}

impl ValueKind {
    /// The name of the kind.
    pub fn name(&self) -> &'static str {
        match self {
            ValueKind::Tensor(_) => "tensor",
            ValueKind::SparseTensor => "sparse tensor",
            ValueKind::Sequence => "sequence",
            ValueKind::Map => "map",
            ValueKind::Optional => "optional",
            ValueKind::Opaque => "opaque",
            ValueKind::Unspecified => "unspecified",
        }
    }
}

/// A named input or output of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueInfo {
    /// Its name, unique among the graph's inputs or outputs.
    pub name: String,
    /// Its type.
    pub kind: ValueKind,
}

impl ValueInfo {
    /// The tensor type, if it is a dense tensor.
    pub fn tensor(&self) -> Option<&TensorType> {
        match &self.kind {
            ValueKind::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }
}

/// Prints `image: float [batch, 1, 8, 8]`.
impl fmt::Display for ValueInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        let ValueKind::Tensor(TensorType { element, dims }) = &self.kind else {
            return f.write_str(self.kind.name());
        };
        let Some(dims) = dims else { return write!(f, "{element} [...]") };
        let dims: Vec<String> = dims.iter().map(Dim::to_string).collect();
        write!(f, "{element} [{}]", dims.join(", "))
    }
}

/// The inputs that a caller must give and the outputs that it receives, in the graph's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphSignature {
    /// The inputs, without those that initializers fill.
    pub inputs: Vec<ValueInfo>,
    /// The outputs.
    pub outputs: Vec<ValueInfo>,
}

impl GraphSignature {
    pub(crate) fn of(graph: &GraphProto) -> Result<GraphSignature, Error> {
        let filled = initialized(graph);
        let inputs = graph.input.iter().filter(|v| !filled.contains(v.name()));
        Ok(GraphSignature {
            inputs: inputs.map(|v| describe("input", v)).collect::<Result<_, _>>()?,
            outputs: graph
                .output
                .iter()
                .map(|v| describe("output", v))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// The names of the values that initializers fill.
pub(crate) fn initialized(graph: &GraphProto) -> HashSet<&str> {
    let dense = graph.initializer.iter().map(|t| t.name());
    let sparse = graph.sparse_initializer.iter().filter_map(|s| s.values.as_ref());
    dense.chain(sparse.map(|t| t.name())).collect()
}

pub(crate) fn describe(role: &'static str, value: &ValueInfoProto) -> Result<ValueInfo, Error> {
    let kind = kind(value.r#type.as_ref()).map_err(|code| Error::Value {
        role,
        name: value.name().to_owned(),
        problem: format!("unknown element type {code}"),
    })?;
    Ok(ValueInfo { name: value.name().to_owned(), kind })
}

/// The kind of value that a type describes. The error is an unknown element code.
fn kind(r#type: Option<&TypeProto>) -> Result<ValueKind, i32> {
    Ok(match r#type.and_then(|t| t.value.as_ref()) {
        None => ValueKind::Unspecified,
        Some(Value::TensorType(tensor)) => {
            let code = tensor.elem_type.unwrap_or(0);
            ValueKind::Tensor(TensorType {
                element: ElementType::from_code(code).ok_or(code)?,
                dims: tensor.shape.as_ref().map(dims),
            })
        }
        Some(Value::SparseTensorType(_)) => ValueKind::SparseTensor,
        Some(Value::SequenceType(_)) => ValueKind::Sequence,
        Some(Value::MapType(_)) => ValueKind::Map,
        Some(Value::OptionalType(_)) => ValueKind::Optional,
        Some(Value::OpaqueType(_)) => ValueKind::Opaque,
    })
}

/// The tensor type that a value declares, if it declares a valid one.
pub(crate) fn tensor_type(r#type: Option<&TypeProto>) -> Option<TensorType> {
    match kind(r#type) {
        Ok(ValueKind::Tensor(tensor)) => Some(tensor),
        _ => None,
    }
}

fn dims(shape: &TensorShapeProto) -> Vec<Dim> {
    shape.dim.iter().map(dim).collect()
}

pub(crate) fn dim(dim: &Dimension) -> Dim {
    match &dim.value {
        Some(dimension::Value::DimValue(size)) if *size >= 0 => Dim::Fixed(*size),
        Some(dimension::Value::DimParam(name)) if is_name(name) => Dim::Named(name.clone()),
        // Some exporters write -1, or a symbol that names nothing, for every open dimension.
        _ => Dim::Unknown,
    }
}

/// Whether a symbol names a dimension, unlike `?` or `-1`, which stand for any number of them.
fn is_name(symbol: &str) -> bool {
    symbol.chars().any(char::is_alphabetic) && symbol != "None"
}

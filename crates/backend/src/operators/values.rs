//! The element type and rank of every value of a graph, as far as they follow from its inputs and
//! weights. Proofs of operators depend on them, and files seldom contain them.
//!
//! A value stays unknown when nothing follows for it: this never guesses.

use std::collections::{HashMap, HashSet};

use symphony_onnx::{Attribute, ElementType, Node, OnnxModel};

use super::schema::Schema;

/// What is known about a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct KnownValue {
    pub(super) element: Option<ElementType>,
    pub(super) rank: Option<usize>,
}

/// What is known about the values that the nodes so far compute.
#[derive(Debug)]
pub(super) struct KnownValues<'a> {
    given: HashMap<&'a str, KnownValue>,
    read: HashSet<&'a str>,
}

impl<'a> KnownValues<'a> {
    /// Nothing is known yet: call [`follow`](KnownValues::follow) for every node of the model.
    pub(super) fn of(model: &'a OnnxModel) -> KnownValues<'a> {
        let mut read: HashSet<&str> = HashSet::new();
        for node in model.nodes() {
            read.extend(node.proto.input.iter().map(String::as_str));
            for graph in node.proto.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
                read.extend(graph.output.iter().map(|value| value.name()));
            }
        }
        let outputs = model.proto().graph.iter().flat_map(|graph| &graph.output);
        read.extend(outputs.map(|value| value.name()));
        KnownValues { given: HashMap::new(), read }
    }

    /// Whether a node or an output of the graph reads a value. Exporters also name outputs that
    /// nobody reads.
    pub(super) fn is_read(&self, name: &str) -> bool {
        !name.is_empty() && self.read.contains(name)
    }

    /// What is known about an input of a node.
    pub(super) fn input(&self, node: &Node<'a>, position: usize) -> KnownValue {
        let name = node.proto.input.get(position).map_or("", String::as_str);
        let inferred = self.given.get(name).copied().unwrap_or_default();
        let declared = node.input(position).tensor;
        let rank = declared.as_ref().and_then(|tensor| tensor.dims.as_ref()).map(Vec::len);
        KnownValue {
            element: inferred.element.or(declared.map(|tensor| tensor.element)),
            rank: inferred.rank.or(rank),
        }
    }

    /// Derives what is known about the outputs of a node.
    pub(super) fn follow(&mut self, node: &Node<'a>, schema: &Schema) {
        let rank = self.rank(node);
        for (position, name) in node.proto.output.iter().enumerate() {
            if name.is_empty() {
                continue;
            }
            let element = self.element(node, schema, position);
            self.given.insert(name, KnownValue { element, rank: rank.filter(|_| position == 0) });
        }
    }

    fn element(&self, node: &Node<'a>, schema: &Schema, position: usize) -> Option<ElementType> {
        let kind = schema.output(position)?.kind;
        let same = (0..node.proto.input.len()).find(|i| {
            node.has_input(*i) && schema.input(*i).is_some_and(|input| input.kind == kind)
        });
        match same {
            Some(input) => self.input(node, input).element,
            None => named(kind).or_else(|| by_attribute(node)),
        }
    }

    /// The rank of the first output.
    fn rank(&self, node: &Node<'a>) -> Option<usize> {
        let rank = |position| self.input(node, position).rank;
        match node.operator() {
            "Flatten" | "Gemm" => Some(2),
            "Shape" => Some(1),
            "Size" => Some(0),
            "Reshape" | "Expand" | "ConstantOfShape" => listed(node, "shape", target(node)),
            "Constant" => match node.attribute("value")? {
                Attribute::Tensor(tensor) => Some(tensor.dims.len()),
                _ => None,
            },
            "Unsqueeze" => Some(rank(0)? + listed(node, "axes", 1)?),
            "Squeeze" => rank(0)?.checked_sub(listed(node, "axes", 1)?),
            "Gather" => (rank(0)? + rank(1)?).checked_sub(1),
            "MatMul" => match (rank(0)?, rank(1)?) {
                (left, right) if left >= 2 && right >= 2 => Some(left.max(right)),
                _ => None,
            },
            name if name.starts_with("Reduce") || name.starts_with("Arg") => {
                if node.int("keepdims").unwrap_or(1) == 1 {
                    return rank(0);
                }
                let axes = if name.starts_with("Arg") { 1 } else { listed(node, "axes", 1)? };
                rank(0)?.checked_sub(axes)
            }
            name if BROADCAST.contains(&name) => {
                (0..node.proto.input.len()).try_fold(0, |most, i| Some(most.max(rank(i)?)))
            }
            name if SAME_RANK.contains(&name) => rank(0),
            _ => None,
        }
    }
}

/// The position of the input that gives an operator its shape.
fn target(node: &Node<'_>) -> usize {
    if node.operator() == "ConstantOfShape" { 0 } else { 1 }
}

/// The length of a list that is given by an attribute or, in newer versions, by a stored input.
fn listed(node: &Node<'_>, attribute: &str, input: usize) -> Option<usize> {
    match node.ints(attribute) {
        Some(list) => Some(list.len()),
        None => node.input_ints(input).map(|list| list.len()),
    }
}

/// The element type that a schema names directly.
fn named(kind: &str) -> Option<ElementType> {
    ElementType::ALL.iter().copied().find(|element| element.name() == kind)
}

/// The element type of an output that an attribute gives and no input.
fn by_attribute(node: &Node<'_>) -> Option<ElementType> {
    let code = ["to", "dtype", "output_dtype", "output_datatype"].iter().find_map(|a| node.int(a));
    if let Some(code) = code.filter(|code| *code != 0) {
        return ElementType::from_code(i32::try_from(code).ok()?);
    }
    if let Some(Attribute::Tensor(tensor)) = node.attribute("value") {
        return ElementType::from_code(tensor.data_type());
    }
    let sets = |names: &[&str]| names.iter().any(|name| node.attribute(name).is_some());
    match node.operator() {
        _ if sets(&["value_string", "value_strings", "values_strings", "classlabels_strings"]) => {
            Some(ElementType::String)
        }
        "Constant" | "LabelEncoder" if sets(&["value_float", "value_floats", "values_floats"]) => {
            Some(ElementType::Float32)
        }
        "Constant" | "LabelEncoder" if sets(&["value_int", "value_ints", "values_int64s"]) => {
            Some(ElementType::Int64)
        }
        "ConstantOfShape" | "DequantizeLinear" => Some(ElementType::Float32),
        "QuantizeLinear" => Some(ElementType::Uint8),
        _ if sets(&["classlabels_ints", "classlabels_int64s"]) => Some(ElementType::Int64),
        _ => None,
    }
}

/// Operators whose output has as many dimensions as their input with the most.
const BROADCAST: &[&str] = &[
    "Add",
    "And",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
];

/// Operators whose first output has as many dimensions as their first input.
const SAME_RANK: &[&str] = &[
    "Abs",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Cos",
    "CumSum",
    "DequantizeLinear",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Hardmax",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "LpNormalization",
    "MaxPool",
    "Mish",
    "Neg",
    "Not",
    "Pad",
    "QuantizeLinear",
    "Reciprocal",
    "Relu",
    "Resize",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "Split",
    "Sqrt",
    "Tanh",
    "ThresholdedRelu",
    "Tile",
    "Transpose",
    "Trilu",
    "Upsample",
];

//! Opens `Reshape` targets that an exporter wrote for one row.
//!
//! Values whose leading dimension is the batch are followed through the operators that keep it
//! there. When a value is known to carry the batch, a leading 1 in the target becomes 0 ("as in the
//! input"); otherwise it becomes -1 ("whatever is left") unless another dimension is -1.

use std::collections::{HashMap, HashSet};

use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::DataType;
use crate::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};
use crate::signature::{Dim, initialized, tensor_type};
use crate::tensor;

/// Operators whose first output has the dimensions of the first input, or at least the same number
/// of dimensions and the same leading one.
const KEEP_LEADING: &[&str] = &[
    "Abs",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "Clip",
    "Conv",
    "ConvTranspose",
    "DepthToSpace",
    "DequantizeLinear",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LeakyRelu",
    "Log",
    "MaxPool",
    "Mish",
    "Neg",
    "PRelu",
    "QuantizeLinear",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "SpaceToDepth",
    "Sqrt",
    "Tanh",
];

const BROADCAST: &[&str] = &["Add", "Div", "Max", "Mean", "Min", "Mul", "Pow", "Sub", "Sum"];

/// Rewrites every constant target that it can. Returns the first outputs of the changed nodes.
pub(super) fn open_targets(graph: &mut GraphProto) -> Vec<String> {
    let mut follower = Follower::new(graph);
    let mut changed = Vec::new();
    let mut targets = Vec::new();
    for node in &mut graph.node {
        let Some(output) = node.output.first().cloned() else { continue };
        if node.op_type() != "Reshape" || !node.domain().is_empty() {
            if let Some(rank) = follower.rank_after(node) {
                follower.rows.insert(output, rank);
            }
            continue;
        }
        let Some(target) = follower.target(node) else { continue };
        let data = node.input.first().map_or("", String::as_str);
        let carries = follower.rows.contains_key(data);
        let opened = opened(&target, carries, follower.starts_with_one.contains(data));
        if carries && opened.as_ref().unwrap_or(&target).first() == Some(&0) {
            follower.rows.insert(output.clone(), target.len());
        }
        if let Some(opened) = opened {
            let name = follower.fresh_name(&output);
            targets.extend(replace_target(node, name, opened));
            changed.push(output);
        }
    }
    graph.initializer.extend(targets);
    changed
}

/// The target with its leading 1 opened, if that makes no difference for one row.
fn opened(target: &[i64], carries_batch: bool, starts_with_one: bool) -> Option<Vec<i64>> {
    let (1, rest) = target.split_first()? else { return None };
    let lead = if carries_batch {
        0
    } else if !rest.contains(&-1) {
        -1
    } else if starts_with_one {
        0
    } else {
        return None;
    };
    Some([&[lead], rest].concat())
}

/// Sets the target of the node: as its attribute before operator set 5, and since then as a new
/// initializer, which is returned. The old initializer may serve other nodes, too.
fn replace_target(node: &mut NodeProto, name: String, target: Vec<i64>) -> Option<TensorProto> {
    if let Some(shape) = node.attribute.iter_mut().find(|a| a.name() == "shape") {
        *shape = AttributeProto {
            name: Some("shape".to_owned()),
            r#type: Some(AttributeType::Ints as i32),
            ints: target,
            ..Default::default()
        };
        return None;
    }
    *node.input.get_mut(1)? = name.clone();
    Some(TensorProto {
        name: Some(name),
        dims: vec![i64::try_from(target.len()).ok()?],
        data_type: Some(DataType::Int64 as i32),
        int64_data: target,
        ..Default::default()
    })
}

/// What is known about values while walking the nodes in order.
struct Follower {
    /// Values whose leading dimension is the batch, with their number of dimensions.
    rows: HashMap<String, usize>,
    /// The dimensions of stored tensors.
    stored: HashMap<String, Vec<i64>>,
    /// The integers of stored lists that may be a target or axes.
    lists: HashMap<String, Vec<i64>>,
    /// Values whose leading dimension is 1 according to the file.
    starts_with_one: HashSet<String>,
    names: HashSet<String>,
}

impl Follower {
    fn new(graph: &GraphProto) -> Follower {
        let filled = initialized(graph);
        let rank = |t: Option<_>| Some(tensor_type(t)?.dims?.len());
        let inputs = graph.input.iter().filter(|v| !filled.contains(v.name()));
        let rows =
            inputs.filter_map(|v| Some((v.name().to_owned(), rank(v.r#type.as_ref())?))).collect();
        let in_nodes = graph.node.iter().filter(|n| n.op_type() == "Constant").filter_map(|node| {
            let data = node.attribute.iter().find(|a| a.name() == "value")?.t.as_ref()?;
            Some((node.output.first()?.clone(), data))
        });
        let constants: Vec<(String, &TensorProto)> =
            graph.initializer.iter().map(|t| (t.name().to_owned(), t)).chain(in_nodes).collect();
        let starts_with_one = graph
            .value_info
            .iter()
            .filter(|v| {
                let dims = tensor_type(v.r#type.as_ref()).and_then(|t| t.dims).unwrap_or_default();
                dims.first() == Some(&Dim::Fixed(1))
            })
            .map(|v| v.name().to_owned())
            .collect();
        Follower {
            rows,
            starts_with_one,
            stored: constants.iter().map(|(name, t)| (name.clone(), t.dims.clone())).collect(),
            lists: constants
                .iter()
                .filter(|(_, t)| t.dims.len() == 1)
                .filter_map(|(name, t)| Some((name.clone(), tensor::ints(t)?)))
                .collect(),
            names: graph
                .node
                .iter()
                .flat_map(|n| n.output.iter().cloned())
                .chain(graph.input.iter().map(|v| v.name().to_owned()))
                .chain(graph.initializer.iter().map(|t| t.name().to_owned()))
                .collect(),
        }
    }

    /// The constant target of a `Reshape` in which 0 means "as in the input".
    fn target(&self, node: &NodeProto) -> Option<Vec<i64>> {
        let attribute = |name| node.attribute.iter().find(|a| a.name() == name);
        if attribute("allowzero").is_some_and(|a| a.i() != 0) {
            return None;
        }
        match attribute("shape") {
            Some(shape) => Some(shape.ints.clone()),
            None => self.lists.get(node.input.get(1)?).cloned(),
        }
    }

    fn fresh_name(&mut self, output: &str) -> String {
        let mut name = format!("{output}_batch_shape");
        while !self.names.insert(name.clone()) {
            name.push('_');
        }
        name
    }

    fn row_rank(&self, node: &NodeProto, position: usize) -> Option<usize> {
        self.rows.get(node.input.get(position)?).copied()
    }

    /// The number of dimensions of the node's first output, if its leading dimension is the batch.
    fn rank_after(&self, node: &NodeProto) -> Option<usize> {
        if !node.domain().is_empty() {
            return None;
        }
        let operator = node.op_type();
        if BROADCAST.contains(&operator) {
            return self.rank_after_broadcast(node);
        }
        let attribute = |name| node.attribute.iter().find(|a| a.name() == name);
        if operator == "Gather" && attribute("axis").is_none_or(|a| a.i() == 0) {
            // Rows are looked up in a stored table, in the order of the indices.
            let table = self.stored.get(node.input.first()?)?.len();
            return Some(self.row_rank(node, 1)? + table.checked_sub(1)?);
        }
        let rank = self.row_rank(node, 0)?;
        let is_leading = |axis: i64| axis == 0 || axis.checked_neg() == i64::try_from(rank).ok();
        let kept = match operator {
            _ if KEEP_LEADING.contains(&operator) => rank,
            "Flatten" if attribute("axis").is_none_or(|a| a.i() == 1) => 2,
            "Gemm" if attribute("transA").is_none_or(|a| a.i() == 0) => 2,
            "Transpose" if attribute("perm")?.ints.first() == Some(&0) => rank,
            "Concat" => {
                let all = (1..node.input.len()).all(|i| self.row_rank(node, i) == Some(rank));
                if !all || is_leading(attribute("axis")?.i()) {
                    return None;
                }
                rank
            }
            "ReduceMax" | "ReduceMean" | "ReduceSum" => {
                let is_kept = attribute("keepdims").is_none_or(|a| a.i() == 1);
                let axes = match attribute("axes") {
                    Some(axes) => &axes.ints,
                    None => self.lists.get(node.input.get(1)?)?,
                };
                if !is_kept || axes.is_empty() || axes.iter().any(|axis| is_leading(*axis)) {
                    return None;
                }
                rank
            }
            "MatMul" if rank >= 2 => {
                let weights = self.stored.get(node.input.get(1)?).map(Vec::len);
                let same = rank >= 3 && self.row_rank(node, 1) == Some(rank);
                if weights != Some(2) && !same {
                    return None;
                }
                rank
            }
            _ => return None,
        };
        Some(kept)
    }

    /// Broadcasting keeps the leading dimension if every operand carries it or is a constant
    /// without it.
    fn rank_after_broadcast(&self, node: &NodeProto) -> Option<usize> {
        let rank = (0..node.input.len()).find_map(|i| self.row_rank(node, i))?;
        let keeps = |name: &String| match (self.rows.get(name), self.stored.get(name)) {
            (Some(other), _) => *other == rank,
            (None, Some(dims)) => {
                dims.len() < rank || (dims.len() == rank && dims.first() == Some(&1))
            }
            (None, None) => false,
        };
        node.input.iter().all(keeps).then_some(rank)
    }
}

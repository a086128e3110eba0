//! Which dimension of a graph counts rows, and which ones requests choose.

use super::PrepareError;
use crate::repository::{BatchAxis, GraphSettings};
use std::collections::{BTreeMap, HashMap};
use symphony_onnx::{Dim as GraphDim, OnnxModel, TensorType, ValueInfo, ValueKind};

/// Names of dimensions that count rows.
const BATCH_NAMES: [&str; 8] = ["batch", "n", "b", "bs", "bsz", "rows", "num_rows", "samples"];

/// Parts of names of dimensions that count something else.
const OTHER_NAMES: [&str; 12] = [
    "seq",
    "len",
    "time",
    "frame",
    "step",
    "token",
    "height",
    "width",
    "channel",
    "past",
    "feature",
    "sample_rate",
];

/// Where the batch dimension stands in each input that has one.
pub(super) type BatchAxes = HashMap<String, usize>;

/// The dimensions of a value whose type and rank have been checked.
pub(super) fn dims_of(value: &ValueInfo) -> &[GraphDim] {
    match &value.kind {
        ValueKind::Tensor(TensorType { dims: Some(dims), .. }) => dims,
        _ => &[],
    }
}

/// Whether the graph leaves a dimension open. Some exporters write 0 for that.
pub(super) fn is_open(dim: &GraphDim) -> bool {
    !matches!(dim, GraphDim::Fixed(size) if *size > 0)
}

/// Finds the batch dimension: where the settings say, or by its name, or in front.
///
/// # Errors
/// The settings name an input, a position or a name that is not there.
pub(super) fn batch_axes(
    model: &OnnxModel,
    settings: &GraphSettings,
) -> Result<BatchAxes, PrepareError> {
    let inputs = &model.signature().inputs;
    let axes = match &settings.batch_axis {
        None => found(inputs),
        Some(BatchAxis::Position(axis)) => {
            let has = |value: &&ValueInfo| dims_of(value).get(*axis).is_some_and(is_open);
            inputs.iter().filter(has).map(|value| (value.name.clone(), *axis)).collect()
        }
        Some(BatchAxis::Name(name)) => named(inputs, name),
        Some(BatchAxis::Positions(given)) => positions(inputs, given)?,
    };
    if axes.is_empty() && settings.batch_axis.is_some() {
        return Err(PrepareError::BatchAxis {
            problem: "no input has an open dimension there".to_owned(),
        });
    }
    // An input of which a request must give all dimensions has no batch dimension.
    let whole = |name: &String| {
        let value = inputs.iter().find(|value| value.name == *name);
        let rank = value.map_or(0, |value| dims_of(value).len());
        settings.shapes.get(name).is_some_and(|shape| shape.len() == rank)
    };
    if axes.keys().any(whole) {
        return Ok(BatchAxes::new());
    }
    Ok(axes)
}

fn positions(
    inputs: &[ValueInfo],
    given: &BTreeMap<String, usize>,
) -> Result<BatchAxes, PrepareError> {
    let mut axes = found(inputs);
    for (name, axis) in given {
        let Some(value) = inputs.iter().find(|value| value.name == *name) else {
            let known = inputs.iter().map(|value| value.name.clone()).collect();
            return Err(symphony_onnx::Error::UnknownInput { name: name.clone(), known }.into());
        };
        if !dims_of(value).get(*axis).is_some_and(is_open) {
            let problem = format!("{value} has no open dimension at position {axis}");
            return Err(PrepareError::BatchAxis { problem });
        }
        axes.insert(name.clone(), *axis);
    }
    Ok(axes)
}

fn named(inputs: &[ValueInfo], name: &str) -> BatchAxes {
    let at = |value: &ValueInfo| {
        let wanted = GraphDim::Named(name.to_owned());
        let axis = dims_of(value).iter().position(|dim| *dim == wanted)?;
        Some((value.name.clone(), axis))
    };
    inputs.iter().filter_map(at).collect()
}

/// The dimension whose name says that it counts rows, else the one in front that most inputs have.
fn found(inputs: &[ValueInfo]) -> BatchAxes {
    let with_rank: Vec<&ValueInfo> =
        inputs.iter().filter(|value| !dims_of(value).is_empty()).collect();
    let name = batch_name(&with_rank);
    let mut axes = name.as_ref().map(|name| named(inputs, name)).unwrap_or_default();
    let is_twice = |value: &&ValueInfo| {
        let same = |dim: &&GraphDim| matches!(dim, GraphDim::Named(n) if Some(n) == name.as_ref());
        dims_of(value).iter().filter(same).count() > 1
    };
    if with_rank.iter().any(is_twice) {
        return BatchAxes::new();
    }
    for value in &with_rank {
        let leads = dims_of(value).first().is_some_and(|dim| match dim {
            GraphDim::Named(name) => !counts_something_else(name),
            GraphDim::Unknown => true,
            GraphDim::Fixed(size) => *size == 0,
        });
        if leads && !axes.contains_key(&value.name) {
            axes.insert(value.name.clone(), 0);
        }
    }
    // Where dimensions have no names, the first that an input leaves open counts rows too, as in
    // the state `[2, ?, 128]` beside `[?, ?]`.
    if name.is_none() && !axes.is_empty() {
        for value in with_rank {
            let first = dims_of(value).iter().position(|dim| *dim == GraphDim::Unknown);
            if let Some(axis) = first {
                axes.entry(value.name.clone()).or_insert(axis);
            }
        }
    }
    axes
}

/// The name of the batch dimension: one that says so, else the one that most inputs have in front.
fn batch_name(inputs: &[&ValueInfo]) -> Option<String> {
    let mut counts: BTreeMap<&str, (bool, usize, usize)> = BTreeMap::new();
    for value in inputs {
        for (axis, dim) in dims_of(value).iter().enumerate() {
            let GraphDim::Named(name) = dim else { continue };
            let entry = counts.entry(name).or_insert((says_batch(name), 0, 0));
            entry.1 += usize::from(axis == 0);
            entry.2 += 1;
        }
    }
    let may = counts
        .into_iter()
        .filter(|(name, (says, front, _))| *says || (*front > 0 && !counts_something_else(name)));
    may.max_by_key(|(_, rank)| *rank).map(|(name, _)| name.to_owned())
}

fn says_batch(name: &str) -> bool {
    let name = name.to_lowercase();
    BATCH_NAMES.contains(&name.as_str()) || name.contains("batch")
}

fn counts_something_else(name: &str) -> bool {
    let name = name.to_lowercase();
    !says_batch(&name) && OTHER_NAMES.iter().any(|part| name.contains(part))
}

/// The name of an open dimension.
pub(super) fn name_of(value: &ValueInfo, axis: usize) -> String {
    match dims_of(value).get(axis) {
        Some(GraphDim::Named(name)) => name.clone(),
        _ => format!("{}.{axis}", value.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symphony_onnx::ElementType;
    use symphony_onnx::builder::GraphBuilder;

    /// Inputs written as `x: batch, 3; y: ?`, with the settings' `batch_axis`.
    fn check(inputs: &str, batch_axis: Option<BatchAxis>, expected: &[(&str, usize)]) {
        let mut graph = GraphBuilder::new("dims", 17, 0);
        for input in inputs.split("; ") {
            let (name, dims) = input.split_once(':').unwrap();
            let dims = dims.split(',').map(str::trim).filter(|dim| !dim.is_empty());
            let dims = dims.map(|dim| match (dim, dim.parse()) {
                (_, Ok(size)) => GraphDim::Fixed(size),
                ("?", _) => GraphDim::Unknown,
                (name, _) => GraphDim::Named(name.to_owned()),
            });
            graph.input(name, ElementType::Float32, &dims.collect::<Vec<_>>());
        }
        graph.floats("stored", &[], &[0.0]);
        graph.output("stored", ElementType::Float32, &[]);
        let settings = GraphSettings { batch_axis, ..GraphSettings::default() };
        let found = batch_axes(&graph.finish().unwrap(), &settings).unwrap();
        let expected = expected.iter().map(|(name, axis)| ((*name).to_owned(), *axis)).collect();
        assert_eq!(found, expected, "{inputs}");
    }

    #[test]
    fn the_batch_dimension_is_found_wherever_it_stands() {
        check("x: batch, sequence; s: 2, batch, 16; rate:", None, &[("x", 0), ("s", 1)]);
        check("x: N, 3, H, W", None, &[("x", 0)]);
        check("x: ?, 3; y: ?, 4", None, &[("x", 0), ("y", 0)]);
        check("x: 0, 4", None, &[("x", 0)]);
        check("x: sequence, batch, 8", None, &[("x", 1)]);
        check("x: sequence", None, &[]);
        check("x: 1, 3, H, W", None, &[]);
        check("x: unk__1, 64", None, &[("x", 0)]);
        check("x: batch, batch", None, &[]);
        check("x: ?, ?; s: 2, ?, 128; rate:", None, &[("x", 0), ("s", 1)]);
        check("x: batch, past + sequence; y: batch, sequence", None, &[("x", 0), ("y", 0)]);
        check("x: 2, ?, 8", Some(BatchAxis::Position(1)), &[("x", 1)]);
        check("x: s, t, 8", Some(BatchAxis::Name("t".to_owned())), &[("x", 1)]);
        let given = BTreeMap::from([("x".to_owned(), 1)]);
        check("x: 2, ?; y: ?", Some(BatchAxis::Positions(given)), &[("x", 1), ("y", 0)]);
    }
}

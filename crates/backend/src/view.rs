//! The shapes in which clients see a model's inputs and outputs, where they are not the graph's.
//!
//! A reshaped tensor has the same elements in the same order, so that only shapes are translated:
//! its bytes pass as they are. An open dimension of the one shape is the same number in the other;
//! they correspond in their order.

use std::collections::BTreeMap;
use symphony_wire::tensor::{Dim, OutputTensor, Signature, TensorSpec};

/// The shapes of one row as clients see them, by the name of the input or output; `None` is open.
pub type Reshapes = BTreeMap<String, Vec<Option<usize>>>;

/// Why a tensor cannot be seen in a shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReshapeError {
    /// The model has no such tensor.
    #[error("reshape names {name:?}, which is no input or output: the model has {known:?}")]
    Unknown {
        /// The name.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The shapes do not have the same elements.
    #[error(
        "reshape: {name:?} has the shape {graph:?} in the graph, and clients are to see {seen:?}: \
         both need the same elements, and as many open dimensions (-1)"
    )]
    Elements {
        /// The name.
        name: String,
        /// A row in the graph.
        graph: Vec<i64>,
        /// A row as clients would see it.
        seen: Vec<i64>,
    },
}

/// One dimension of a shape that clients see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Fixed(usize),
    /// The dimension at this position in the graph.
    Same(usize),
}

/// How clients see the outputs of a model, in the order of the signature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputViews(Vec<Option<Vec<Seen>>>);

impl OutputViews {
    /// Gives the outputs of one request the shapes that clients see.
    pub fn apply(&self, outputs: &mut [OutputTensor]) {
        for (view, output) in self.0.iter().zip(outputs) {
            let Some(view) = view else { continue };
            let size = |seen: &Seen| match seen {
                Seen::Fixed(size) => Some(*size),
                Seen::Same(axis) => output.shape.get(*axis).copied(),
            };
            if let Some(shape) = view.iter().map(size).collect() {
                output.shape = shape;
            }
        }
    }
}

/// The signature as clients see it, and how they see the outputs.
///
/// # Errors
/// A shape names no tensor, or has other elements.
pub fn seen(
    signature: &Signature,
    reshapes: &Reshapes,
) -> Result<(Signature, OutputViews), ReshapeError> {
    let specs = || signature.inputs.iter().chain(&signature.outputs);
    if let Some(name) = reshapes.keys().find(|name| specs().all(|spec| spec.name != **name)) {
        let known = specs().map(|spec| spec.name.clone()).collect();
        return Err(ReshapeError::Unknown { name: name.clone(), known });
    }
    let mut client = signature.clone();
    for spec in &mut client.inputs {
        if let Some(view) = view(spec, reshapes)? {
            spec.shape = shape(spec, &view);
        }
    }
    let mut views = Vec::with_capacity(client.outputs.len());
    for spec in &mut client.outputs {
        let view = view(spec, reshapes)?;
        if let Some(view) = &view {
            spec.shape = shape(spec, view);
        }
        views.push(view);
    }
    Ok((client, OutputViews(views)))
}

fn view(spec: &TensorSpec, reshapes: &Reshapes) -> Result<Option<Vec<Seen>>, ReshapeError> {
    let Some(row) = reshapes.get(&spec.name) else { return Ok(None) };
    // Shapes of rows leave the batch dimension out, which is in front here.
    let leading = usize::from(spec.batch_axis() == Some(0));
    let graph: Vec<_> = spec.shape[leading..].iter().copied().map(fixed).collect();
    let open: Vec<_> = (0..graph.len()).filter(|&at| graph[at].is_none()).collect();
    let (there, seen) = (fixed_product(&graph), fixed_product(row));
    let mut in_row: Box<dyn Iterator<Item = Seen>> =
        match (open.len(), row.iter().filter(|size| size.is_none()).count()) {
            (of_graph, of_row) if of_graph == of_row && there.is_some() && there == seen => {
                Box::new(open.into_iter().map(|at| Seen::Same(leading + at)))
            }
            // What the graph leaves open may have turned out to be always the same.
            (0, 1) if rest(there, seen).is_some() => {
                Box::new(rest(there, seen).into_iter().map(Seen::Fixed))
            }
            _ => return Err(elements(spec, graph, row)),
        };
    let row = row.iter().filter_map(|size| size.map(Seen::Fixed).or_else(|| in_row.next()));
    Ok(Some((0..leading).map(Seen::Same).chain(row).collect()))
}

fn fixed_product(sizes: &[Option<usize>]) -> Option<usize> {
    sizes.iter().flatten().try_fold(1usize, |product, size| product.checked_mul(*size))
}

/// The size of an only open dimension, for so many elements beside so many of the fixed ones.
fn rest(elements: Option<usize>, fixed: Option<usize>) -> Option<usize> {
    let (elements, fixed) = (elements?, fixed?);
    (elements.checked_rem(fixed)? == 0).then(|| elements / fixed)
}

fn elements(spec: &TensorSpec, graph: Vec<Option<usize>>, row: &[Option<usize>]) -> ReshapeError {
    let number =
        |size: &Option<usize>| size.and_then(|size| i64::try_from(size).ok()).unwrap_or(-1);
    ReshapeError::Elements {
        name: spec.name.clone(),
        graph: graph.iter().map(number).collect(),
        seen: row.iter().map(number).collect(),
    }
}

/// The shape in the signature that clients see.
fn shape(spec: &TensorSpec, view: &[Seen]) -> Vec<Dim> {
    let dim = |seen: &Seen| match seen {
        Seen::Fixed(size) => Dim::Fixed(*size),
        Seen::Same(axis) => spec.shape[*axis],
    };
    view.iter().map(dim).collect()
}

fn fixed(dim: Dim) -> Option<usize> {
    match dim {
        Dim::Fixed(size) => Some(size),
        Dim::Batch | Dim::Open(_) | Dim::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use symphony_wire::tensor::{DataType, OpenDimension};

    const BATCH: Dim = Dim::Batch;
    const OPEN: Dim = Dim::Open(0);
    const UNKNOWN: Dim = Dim::Unknown;

    fn size(number: i64) -> Option<usize> {
        usize::try_from(number).ok()
    }

    /// How clients see an output, and what becomes of the shape of an answer.
    fn check(
        graph: &[Dim],
        row: &[i64],
        answer: &[usize],
        expected: Result<(&[Dim], &[usize]), &str>,
    ) {
        let spec = TensorSpec::new("y", DataType::Fp32, graph.to_vec());
        let signature = Signature {
            dimensions: vec![OpenDimension { name: "n".to_owned(), max: 9 }],
            ..Signature::fixed(vec![TensorSpec::of_rows("x", DataType::Fp32, &[1])], vec![spec])
        };
        let reshapes = Reshapes::from([("y".to_owned(), row.iter().copied().map(size).collect())]);
        let found = seen(&signature, &reshapes).map(|(client, views)| {
            let mut outputs = [OutputTensor { shape: answer.to_vec(), data: Bytes::new() }];
            views.apply(&mut outputs);
            assert_eq!(client.inputs, signature.inputs, "only what is named");
            (client.outputs[0].shape.clone(), outputs[0].shape.clone())
        });
        match (found, expected) {
            (Ok((shape, answer)), Ok(expected)) => {
                assert_eq!((&shape[..], &answer[..]), expected, "{graph:?} as {row:?}");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => panic!("{graph:?} as {row:?}: {found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn shapes_of_as_many_elements_are_seen() {
        let n = |size| Dim::Fixed(size);
        check(&[BATCH], &[1], &[4], Ok((&[BATCH, n(1)], &[4, 1])));
        check(&[BATCH, n(6)], &[2, 3], &[4, 6], Ok((&[BATCH, n(2), n(3)], &[4, 2, 3])));
        check(&[BATCH, n(1), OPEN], &[-1], &[4, 1, 7], Ok((&[BATCH, OPEN], &[4, 7])));
        check(
            &[BATCH, n(2), UNKNOWN, n(3), OPEN],
            &[-1, 6, -1],
            &[4, 2, 5, 3, 7],
            Ok((&[BATCH, UNKNOWN, n(6), OPEN], &[4, 5, 6, 7])),
        );
        check(&[n(2), n(3)], &[6], &[2, 3], Ok((&[n(6)], &[6])));
        check(&[BATCH, n(6)], &[-1, 2], &[4, 6], Ok((&[BATCH, n(3), n(2)], &[4, 3, 2])));
        check(&[BATCH, n(6)], &[7], &[], Err("the same elements"));
        check(&[BATCH, OPEN], &[6], &[], Err("the same elements"));
        check(&[BATCH, n(6)], &[-1, 4], &[], Err("the same elements"));
        check(&[BATCH, n(6)], &[-1, -1], &[], Err("the same elements"));
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        let signature =
            Signature::fixed(vec![TensorSpec::of_rows("x", DataType::Int8, &[1])], vec![]);
        let error = seen(&signature, &Reshapes::from([("z".to_owned(), vec![])])).unwrap_err();
        assert!(error.to_string().contains("\"z\", which is no input or output"), "{error}");
    }
}

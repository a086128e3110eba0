//! What trying a model out has found: with it, the model is served again without being tried out.

use crate::values::WAYS;
use symphony_wire::tensor::{Dim, OutputTensor, Signature};

/// Whether rows of several requests share a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Batching {
    /// They do.
    Shared {
        /// How answers depend on the other rows of a batch, where the configuration allows that.
        dependence: Option<String>,
    },
    /// A batch holds one request.
    Single {
        /// Why, if that is not what the configuration asks for.
        reason: Option<String>,
    },
}

/// What trial runs of a model have found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whether requests share batches.
    pub batching: Batching,
    /// The open dimensions with their largest sizes, in order.
    pub dimensions: Vec<(String, usize)>,
    /// The shapes of the outputs, in order.
    pub outputs: Vec<(String, Vec<Dim>)>,
    /// Sizes of the open dimensions at which it has run, each with the way of generating values.
    pub sizes: Vec<(Vec<usize>, usize)>,
}

impl Found {
    /// What a model is like that has run with this signature, at these sizes.
    pub(super) fn new(
        batching: Batching,
        signature: &Signature,
        sizes: &[(Vec<usize>, usize)],
    ) -> Found {
        let dimensions = signature.dimensions.iter().map(|open| (open.name.clone(), open.max));
        let outputs = signature.outputs.iter().map(|spec| (spec.name.clone(), spec.shape.clone()));
        Found {
            batching,
            dimensions: dimensions.collect(),
            outputs: outputs.collect(),
            sizes: sizes.to_vec(),
        }
    }

    /// Why requests do not share batches, if that is not what the configuration asks for.
    #[must_use]
    pub fn unbatched(&self) -> Option<&str> {
        match &self.batching {
            Batching::Single { reason } => reason.as_deref(),
            Batching::Shared { .. } => None,
        }
    }

    /// The signature of a form of the graph with what was found. `None` where that was another graph.
    pub(super) fn applied(&self, form: &Signature) -> Option<Signature> {
        let mut signature = form.clone();
        let dimensions = &mut signature.dimensions;
        let outputs = &mut signature.outputs;
        if dimensions.len() != self.dimensions.len() || outputs.len() != self.outputs.len() {
            return None;
        }
        for (open, (name, max)) in dimensions.iter_mut().zip(&self.dimensions) {
            (open.name == *name && *max > 0).then_some(())?;
            open.max = *max;
        }
        for (spec, (name, shape)) in outputs.iter_mut().zip(&self.outputs) {
            (spec.name == *name).then_some(())?;
            spec.shape.clone_from(shape);
        }
        self.fits(&signature).then_some(signature)
    }

    fn fits(&self, signature: &Signature) -> bool {
        let count = signature.dimensions.len();
        let is_output = |shape: &[Dim]| {
            let rows = shape.iter().filter(|dim| **dim == Dim::Batch).count();
            let is_known =
                |dim: &Dim| !matches!(dim, Dim::Open(index) if usize::from(*index) >= count);
            rows <= usize::from(signature.is_batched()) && shape.iter().all(is_known)
        };
        let is_size = |(sizes, way): &(Vec<usize>, usize)| {
            let mut within = sizes.iter().zip(&signature.dimensions);
            *way < WAYS
                && sizes.len() == count
                && within.all(|(size, open)| (1..=open.max).contains(size))
        };
        self.outputs.iter().all(|(_, shape)| is_output(shape))
            && !self.sizes.is_empty()
            && self.sizes.iter().all(is_size)
    }

    /// Whether the outputs of one row, at the first of the sizes, have the shapes that were found.
    pub(super) fn agrees(&self, outputs: &[OutputTensor]) -> bool {
        let Some((sizes, _)) = self.sizes.first() else { return false };
        let is_found = |(dim, size): (&Dim, &usize)| match dim {
            Dim::Fixed(fixed) => fixed == size,
            Dim::Batch => *size == 1,
            Dim::Open(index) => sizes.get(usize::from(*index)) == Some(size),
            Dim::Unknown => true,
        };
        let shapes = self.outputs.iter().zip(outputs);
        outputs.len() == self.outputs.len()
            && shapes.into_iter().all(|((_, shape), output)| {
                shape.len() == output.shape.len() && shape.iter().zip(&output.shape).all(is_found)
            })
    }
}

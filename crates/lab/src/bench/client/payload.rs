//! What a client sends.

use symphony_backend::profiling::sample_rows;
use symphony_client::NamedTensor;
use symphony_frontend::InputTensor;
use symphony_wire::tensor::{Signature, TensorSpec};

/// What is sent: a model and one row of each of its inputs.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub(crate) model: String,
    pub(crate) inputs: Vec<InputTensor>,
}

impl Payload {
    /// One row of made-up numbers, the same every time.
    pub(crate) fn new(model: &str, signature: &Signature) -> Payload {
        let sizes = signature.sizes_max();
        let row = sample_rows(signature, &sizes, 1, 0);
        let row = row.into_iter().flat_map(|inputs| inputs.tensors);
        let input = |(spec, data): (&TensorSpec, _)| InputTensor {
            name: spec.name.clone(),
            datatype: spec.datatype,
            shape: shape(signature, spec, &sizes),
            data,
        };
        let inputs = signature.inputs.iter().zip(row).map(input).collect();
        Payload { model: model.to_owned(), inputs }
    }

    /// The same for a client over HTTP.
    pub(crate) fn over_http(&self) -> symphony_client::HttpPayload {
        let input = |input: &InputTensor| NamedTensor {
            name: input.name.clone(),
            datatype: input.datatype,
            shape: input.shape.clone(),
            data: input.data.clone(),
        };
        symphony_client::HttpPayload {
            model: self.model.clone(),
            inputs: self.inputs.iter().map(input).collect(),
            ..symphony_client::HttpPayload::default()
        }
    }
}

/// The shape of one row.
fn shape(signature: &Signature, spec: &TensorSpec, sizes: &[usize]) -> Vec<i64> {
    let shape = signature.shape_of(spec, 1, sizes).unwrap_or_default();
    shape.into_iter().map(|size| i64::try_from(size).unwrap_or(i64::MAX)).collect()
}

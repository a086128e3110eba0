//! What a client sends, and what the load generator asks of a client.

use crate::bench::tally::Outcome;
use std::future::Future;
use symphony_backend::profiling::sample_rows;
use symphony_frontend::InputTensor;
use symphony_wire::tensor::{Signature, TensorSpec};

/// Sends one request again and again, to one model.
pub(crate) trait Client: Send + Sync + 'static {
    /// Sends it and waits for its end.
    fn infer(&self) -> impl Future<Output = Outcome> + Send;
}

/// What is sent: a model and one row of each of its inputs.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub(crate) model: String,
    pub(crate) inputs: Vec<InputTensor>,
}

impl Payload {
    /// One row of made-up numbers, the same every time.
    pub(crate) fn new(model: &str, signature: &Signature) -> Payload {
        let row = sample_rows(signature, 1, 0).into_iter().flat_map(|inputs| inputs.tensors);
        let input = |(spec, data): (&TensorSpec, _)| InputTensor {
            name: spec.name.clone(),
            datatype: spec.datatype,
            shape: one_row(spec.wire_shape(signature.batched)),
            data,
        };
        let inputs = signature.inputs.iter().zip(row).map(input).collect();
        Payload { model: model.to_owned(), inputs }
    }
}

/// The shape with the batch dimension, the only open one, set to one.
fn one_row(shape: Vec<i64>) -> Vec<i64> {
    shape.into_iter().map(|dim| if dim < 0 { 1 } else { dim }).collect()
}

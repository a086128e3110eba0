//! KServe's protocol version 1 and TensorFlow Serving's REST form: `instances` give `predictions`,
//! `inputs` give `outputs`. Tensors are nested arrays without a shape or a type; both follow from
//! the nesting and from the model.

mod cursor;
mod decode;
mod describe;
mod encode;
mod layout;
mod nested;

pub(super) use describe::{metadata, names, status};

use super::decode::{self as open, Envelope};
use super::dialect::Dialect;
use super::encode::Encoded;
use crate::error::InferError;
use crate::request::{InferRequest, InferResponse};
use layout::Layout;
use symphony_wire::message::ServedModel;

/// The dialect.
pub(super) struct Predict;

impl Dialect for Predict {
    type Form = Layout;

    fn expansion(model: &ServedModel, text: usize) -> usize {
        // How large a tensor becomes is known when it is read: its buffer grows by doubling.
        open::expansion(model, text).saturating_mul(2)
    }

    fn decode(
        model: &ServedModel,
        envelope: Envelope,
    ) -> Result<(InferRequest, Layout), InferError> {
        decode::decode(model, &envelope)
    }

    fn check_form(
        model: &ServedModel,
        _wanted: &[String],
        form: &Layout,
    ) -> Result<(), InferError> {
        match form {
            Layout::Rows(_) => encode::check_rows(model),
            Layout::Columns => Ok(()),
        }
    }

    fn encode(response: &InferResponse, form: &Layout) -> Result<Encoded, InferError> {
        encode::encode(response, *form)
    }
}

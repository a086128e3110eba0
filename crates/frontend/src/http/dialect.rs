//! The ways in which an inference over HTTP is written. What lies between reading a request and
//! writing its answer (admission, deadlines, counting) is the same for all.

use super::decode::{self, AnswerForm, Decoded, Envelope};
use super::encode::{self, Encoded};
use crate::error::InferError;
use crate::request::{InferRequest, InferResponse};
use symphony_wire::message::ServedModel;

/// One way.
pub(super) trait Dialect: 'static {
    /// What the answer has to look like, as the request says or implies it.
    type Form: Send + 'static;

    /// Bound on the bytes that decoding so much text takes.
    fn expansion(model: &ServedModel, text: usize) -> usize;

    /// Decodes a request.
    ///
    /// # Errors
    /// What is malformed.
    fn decode(
        model: &ServedModel,
        envelope: Envelope,
    ) -> Result<(InferRequest, Self::Form), InferError>;

    /// Refuses what cannot be answered in the form wanted, before it runs.
    ///
    /// # Errors
    /// An output has no such form.
    fn check_form(
        model: &ServedModel,
        wanted: &[String],
        form: &Self::Form,
    ) -> Result<(), InferError>;

    /// Encodes an answer.
    ///
    /// # Errors
    /// An output has no such form.
    fn encode(response: &InferResponse, form: &Self::Form) -> Result<Encoded, InferError>;
}

/// The open protocol's: tensors with their shapes, as JSON or as bytes behind it.
pub(super) struct OpenProtocol;

impl Dialect for OpenProtocol {
    type Form = AnswerForm;

    fn expansion(model: &ServedModel, text: usize) -> usize {
        decode::expansion(model, text)
    }

    fn decode(
        model: &ServedModel,
        envelope: Envelope,
    ) -> Result<(InferRequest, AnswerForm), InferError> {
        let Decoded { request, form } = decode::decode(model, envelope)?;
        Ok((request, form))
    }

    fn check_form(
        model: &ServedModel,
        wanted: &[String],
        form: &AnswerForm,
    ) -> Result<(), InferError> {
        encode::check_form(model, wanted, form)
    }

    fn encode(response: &InferResponse, form: &AnswerForm) -> Result<Encoded, InferError> {
        encode::encode(response, form)
    }
}

//! What another file says of a model where `model.toml` says nothing.

use super::super::versions::VersionPolicy;
use crate::view::Reshapes;
use std::path::PathBuf;
use symphony_core::{Class, Span};
use symphony_wire::tensor::DataType;

/// What another file says of a model where `model.toml` says nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::repository) struct Inherited {
    pub(in crate::repository) versions: Option<VersionPolicy>,
    pub(in crate::repository) file: Option<String>,
    pub(in crate::repository) max_batch: Option<u32>,
    pub(in crate::repository) class: Option<Class>,
    pub(in crate::repository) queue_max: Option<u32>,
    pub(in crate::repository) queue_timeout: Option<Span>,
    /// As in [`GraphSettings`].
    pub(in crate::repository) shapes: Reshapes,
    pub(in crate::repository) reshape: Reshapes,
    pub(in crate::repository) custom_ops: Option<PathBuf>,
    /// Whether a Python process runs it, and what it takes and gives then.
    pub(in crate::repository) is_python: bool,
    pub(in crate::repository) inputs: Vec<InheritedTensor>,
    pub(in crate::repository) outputs: Vec<InheritedTensor>,
}

/// An input or output as another file describes it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::repository) struct InheritedTensor {
    pub(in crate::repository) name: String,
    pub(in crate::repository) datatype: DataType,
    /// Without the batch dimension; `None` where a dimension is open.
    pub(in crate::repository) dims: Vec<Option<usize>>,
}

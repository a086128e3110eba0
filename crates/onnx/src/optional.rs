//! Inputs that have a default in the file.

use crate::model::OnnxModel;
use crate::proto::TensorProto;
use crate::signature::{ValueInfo, describe};
use crate::tensor;

/// The most elements of a default that a caller may replace. Larger ones are weights.
const DEFAULT_ELEMENTS_MAX: usize = 4096;

impl OnnxModel {
    /// The inputs that a caller may leave out, each with its default. Files of old versions of the
    /// format list all their weights as inputs, which nobody means to replace.
    pub fn optional_inputs(&self) -> Vec<(ValueInfo, &TensorProto)> {
        let Some(graph) = &self.proto().graph else { return Vec::new() };
        let stored = |name: &str| graph.initializer.iter().find(|tensor| tensor.name() == name);
        let listed: Vec<_> =
            graph.input.iter().filter_map(|value| Some((value, stored(value.name())?))).collect();
        let lists_all = listed.len() == graph.initializer.len() && listed.len() > 4;
        if self.proto().ir_version() < 4 || lists_all {
            return Vec::new();
        }
        let mut found = Vec::new();
        for (value, tensor) in listed {
            let count = tensor::element_count(&tensor.dims).unwrap_or(usize::MAX);
            if let Ok(value) = describe("input", value)
                && count <= DEFAULT_ELEMENTS_MAX
            {
                found.push((value, tensor));
            }
        }
        found
    }
}

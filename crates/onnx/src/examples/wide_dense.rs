//! A multilayer perceptron with layers wider than the cache, like the last layers of recommenders.
//!
//! One row reads every weight once, and so does a batch. Most networks are bound by arithmetic on a
//! CPU; this one gains from batching.

use super::layers::{LINEAR, OPSET, RELU, batch_of, dense};
use crate::builder::GraphBuilder;
use crate::{ElementType, Error, OnnxModel};

/// Sizes of a [`wide_dense`] model.
#[derive(Clone, Copy, Debug)]
pub struct WideDense {
    /// The numbers in a row of the input.
    pub features: i64,
    /// The width of the inner layers. Each takes 4 `width`² bytes.
    pub width: i64,
    /// The number of square inner layers.
    pub layers: usize,
    /// The numbers in a row of the output.
    pub scores: i64,
}

impl WideDense {
    /// 815 MB: small batches take as long as memory takes to give the weights.
    pub const WIDER: WideDense = WideDense { features: 256, width: 8192, layers: 3, scores: 16 };
}

impl Default for WideDense {
    /// 206 MB: several times the last-level cache of most machines.
    fn default() -> WideDense {
        WideDense { features: 256, width: 4096, layers: 3, scores: 16 }
    }
}

/// Builds a model from `features` FP32 [batch, features] to `scores` FP32 [batch, scores].
///
/// # Errors
/// A size is negative.
pub fn wide_dense(sizes: &WideDense) -> Result<OnnxModel, Error> {
    let WideDense { features, width, layers, scores } = *sizes;
    let mut graph = GraphBuilder::new("wide_dense", OPSET, 4096);
    graph.input("features", ElementType::Float32, &batch_of(&[features]));
    let mut value = "features".to_owned();
    let mut inputs = features;
    for layer in 0..=layers {
        let name = format!("layer{layer}");
        let sum = dense(&mut graph, &name, &value, (inputs, width), RELU);
        value = graph.node(&format!("{name}.relu"), "Relu", &[&sum], vec![]);
        inputs = width;
    }
    dense(&mut graph, "scores", &value, (width, scores), LINEAR);
    graph.output("scores", ElementType::Float32, &batch_of(&[scores]));
    graph.finish()
}

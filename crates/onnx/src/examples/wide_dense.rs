//! A multilayer perceptron with layers wider than the cache, as recommenders end in.
//!
//! One row reads every weight once, and so does a batch: on a CPU, where most networks are bound
//! by arithmetic, this is the kind that gains by batching.

use super::layers::{LINEAR, RELU, batch_of, dense};
use crate::builder::GraphBuilder;
use crate::{ElementType, Error, Model};

/// Sizes of a [`wide_dense`] model.
#[derive(Clone, Copy, Debug)]
pub struct WideDense {
    /// Numbers in a row of the input.
    pub features: i64,
    /// Width of the inner layers; each weighs 4 `width`² bytes.
    pub width: i64,
    /// Number of square inner layers.
    pub layers: usize,
    /// Numbers in a row of the output.
    pub scores: i64,
}

impl Default for WideDense {
    /// 206 MB: several times the last-level cache of most machines.
    fn default() -> WideDense {
        WideDense { features: 256, width: 4096, layers: 3, scores: 16 }
    }
}

/// `features` FP32 [batch, features] to `scores` FP32 [batch, scores].
///
/// # Errors
/// For a negative size.
pub fn wide_dense(sizes: &WideDense) -> Result<Model, Error> {
    let WideDense { features, width, layers, scores } = *sizes;
    let mut graph = GraphBuilder::new("wide_dense", super::OPSET, 4096);
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

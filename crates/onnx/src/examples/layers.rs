//! Layers that several examples use. Their weights are scaled so that activations neither fade nor
//! explode with depth (He et al. 2015).

use crate::builder::GraphBuilder;
use crate::builder::attribute::{int, ints};
use crate::proto::AttributeProto;
use crate::signature::Dim;

/// The operator set of all examples.
pub(super) const OPSET: i64 = 17;

/// The factor on the variance that compensates for a Relu after the layer.
pub(super) const RELU: f32 = 2.0;
/// The factor when no Relu follows.
pub(super) const LINEAR: f32 = 1.0;

/// The shape of a value whose leading dimension is the batch.
pub(super) fn batch_of(dims: &[i64]) -> Vec<Dim> {
    let lead = std::iter::once(Dim::Named("batch".to_owned()));
    lead.chain(dims.iter().map(|size| Dim::Fixed(*size))).collect()
}

/// A square convolution over a value [batch, `inputs`, height, width], padded so that only the
/// stride shrinks it.
pub(super) struct Conv {
    pub(super) inputs: i64,
    pub(super) outputs: i64,
    pub(super) kernel: i64,
    pub(super) stride: i64,
    /// `inputs` for a depthwise convolution, otherwise 1.
    pub(super) groups: i64,
    /// The factor on the variance of the weights, such as [`RELU`].
    pub(super) gain: f32,
}

impl Conv {
    /// Adds the convolution with a bias, as exporters write it when batch normalisation is folded
    /// in.
    pub(super) fn add(&self, graph: &mut GraphBuilder, name: &str, input: &str) -> String {
        let Conv { outputs, kernel, stride, groups, gain, .. } = *self;
        let inputs = self.inputs / groups;
        let deviation = (gain / (inputs * kernel * kernel) as f32).sqrt();
        let dims = [outputs, inputs, kernel, kernel];
        let weight = graph.random(&format!("{name}.weight"), &dims, deviation);
        let bias = graph.random(&format!("{name}.bias"), &[outputs], 0.1);
        let attributes: Vec<AttributeProto> = vec![
            ints("dilations", &[1, 1]),
            int("group", groups),
            ints("kernel_shape", &[kernel, kernel]),
            ints("pads", &[kernel / 2; 4]),
            ints("strides", &[stride, stride]),
        ];
        graph.node(name, "Conv", &[input, &weight, &bias], attributes)
    }
}

/// Averages each channel and classifies, from [batch, `inputs`, height, width] to the output
/// `logits` [batch, `classes`].
pub(super) fn classifier(graph: &mut GraphBuilder, input: &str, inputs: i64, classes: i64) {
    let mean = graph.node("pool", "GlobalAveragePool", &[input], vec![]);
    let flat = graph.node("flat", "Flatten", &[&mean], vec![int("axis", 1)]);
    let deviation = (LINEAR / inputs as f32).sqrt();
    let weight = graph.random("classifier.weight", &[classes, inputs], deviation);
    let bias = graph.random("classifier.bias", &[classes], 0.1);
    graph.node("logits", "Gemm", &[&flat, &weight, &bias], vec![int("transB", 1)]);
    graph.output("logits", crate::ElementType::Float32, &batch_of(&[classes]));
}

/// Multiplies the last dimension by a matrix [`inputs`, `outputs`] and adds a bias, as exporters
/// write a dense layer over sequences: engines pack the constant right operand ahead of time.
pub(super) fn dense(
    graph: &mut GraphBuilder,
    name: &str,
    input: &str,
    (inputs, outputs): (i64, i64),
    gain: f32,
) -> String {
    let deviation = (gain / inputs as f32).sqrt();
    let weight = graph.random(&format!("{name}.weight"), &[inputs, outputs], deviation);
    let bias = graph.random(&format!("{name}.bias"), &[outputs], 0.1);
    let product = graph.node(&format!("{name}.product"), "MatMul", &[input, &weight], vec![]);
    graph.node(name, "Add", &[&product, &bias], vec![])
}

//! ResNet-50 (He et al. 2016) with the stride in the 3x3 convolution, as exported for inference.

use super::layers::{Conv, LINEAR, OPSET, RELU, batch_of, classifier};
use crate::builder::GraphBuilder;
use crate::builder::attribute::ints;
use crate::{ElementType, Error, OnnxModel};

/// Inner channels, number of blocks, stride of the first block.
const STAGES: [(i64, usize, i64); 4] = [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)];

/// Blocks have this many times as many output channels as inner channels.
const WIDENING: i64 = 4;

/// The factor on the residual branch, which is added to its input. It is small so that sixteen sums
/// stay in range.
const BRANCH: f32 = 0.25;

/// Builds a model from `image` FP32 [batch, 3, `size`, `size`] to `logits` FP32 [batch, `classes`].
///
/// # Errors
/// The number of classes is negative.
pub fn resnet50(size: i64, classes: i64) -> Result<OnnxModel, Error> {
    let mut graph = GraphBuilder::new("resnet50", OPSET, 50);
    graph.input("image", ElementType::Float32, &batch_of(&[3, size, size]));
    let stem = Conv { inputs: 3, outputs: 64, kernel: 7, stride: 2, groups: 1, gain: RELU };
    let value = conv_relu(&mut graph, "stem", "image", &stem);
    let pool =
        vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1, 1, 1, 1]), ints("strides", &[2, 2])];
    let mut value = graph.node("stem.pool", "MaxPool", &[&value], pool);
    let mut channels = 64;
    for (stage, (inner, blocks, stride)) in STAGES.into_iter().enumerate() {
        for block in 0..blocks {
            let name = format!("stage{stage}.block{block}");
            let stride = if block == 0 { stride } else { 1 };
            value = bottleneck(&mut graph, &name, &value, (channels, inner), stride);
            channels = inner * WIDENING;
        }
    }
    classifier(&mut graph, &value, channels, classes);
    graph.finish()
}

fn conv_relu(graph: &mut GraphBuilder, name: &str, input: &str, conv: &Conv) -> String {
    let value = conv.add(graph, name, input);
    graph.node(&format!("{name}.relu"), "Relu", &[&value], vec![])
}

fn bottleneck(
    graph: &mut GraphBuilder,
    name: &str,
    input: &str,
    (inputs, inner): (i64, i64),
    stride: i64,
) -> String {
    let outputs = inner * WIDENING;
    let narrow = Conv { inputs, outputs: inner, kernel: 1, stride: 1, groups: 1, gain: RELU };
    let filter = Conv { inputs: inner, outputs: inner, kernel: 3, stride, groups: 1, gain: RELU };
    let widen = Conv { inputs: inner, outputs, kernel: 1, stride: 1, groups: 1, gain: BRANCH };
    let value = conv_relu(graph, &format!("{name}.narrow"), input, &narrow);
    let value = conv_relu(graph, &format!("{name}.filter"), &value, &filter);
    let value = widen.add(graph, &format!("{name}.widen"), &value);
    let shortcut = if stride == 1 && inputs == outputs {
        input.to_owned()
    } else {
        let project = Conv { inputs, outputs, kernel: 1, stride, groups: 1, gain: LINEAR };
        project.add(graph, &format!("{name}.shortcut"), input)
    };
    let sum = graph.node(&format!("{name}.sum"), "Add", &[&value, &shortcut], vec![]);
    graph.node(&format!("{name}.relu"), "Relu", &[&sum], vec![])
}

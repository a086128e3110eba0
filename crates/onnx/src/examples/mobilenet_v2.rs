//! MobileNetV2 (Sandler et al. 2018) at width 1.0, as exported for inference.

use super::layers::{Conv, LINEAR, OPSET, RELU, batch_of, classifier};
use crate::builder::GraphBuilder;
use crate::{ElementType, Error, OnnxModel};

/// Expansion factor, output channels, number of blocks, stride of the first block: table 2 of the
/// paper.
const STAGES: [(i64, i64, usize, i64); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

/// Builds a model from `image` FP32 [batch, 3, `size`, `size`] to `logits` FP32 [batch, `classes`].
///
/// # Errors
/// The number of classes is negative.
pub fn mobilenet_v2(size: i64, classes: i64) -> Result<OnnxModel, Error> {
    let mut net = MobilenetGraph { graph: GraphBuilder::new("mobilenet_v2", OPSET, 2), blocks: 0 };
    net.graph.input("image", ElementType::Float32, &batch_of(&[3, size, size]));
    net.graph.floats("relu6.min", &[], &[0.0]);
    net.graph.floats("relu6.max", &[], &[6.0]);
    let stem = Conv { inputs: 3, outputs: 32, kernel: 3, stride: 2, groups: 1, gain: RELU };
    let mut value = net.conv_relu6("stem", "image", &stem);
    let mut channels = 32;
    for (expansion, outputs, blocks, stride) in STAGES {
        for block in 0..blocks {
            let stride = if block == 0 { stride } else { 1 };
            value = net.block(&value, (channels, outputs), expansion, stride);
            channels = outputs;
        }
    }
    let head =
        Conv { inputs: channels, outputs: 1280, kernel: 1, stride: 1, groups: 1, gain: RELU };
    let value = net.conv_relu6("head", &value, &head);
    classifier(&mut net.graph, &value, 1280, classes);
    net.graph.finish()
}

struct MobilenetGraph {
    graph: GraphBuilder,
    blocks: usize,
}

impl MobilenetGraph {
    fn conv_relu6(&mut self, name: &str, input: &str, conv: &Conv) -> String {
        let value = conv.add(&mut self.graph, name, input);
        let inputs = [value.as_str(), "relu6.min", "relu6.max"];
        self.graph.node(&format!("{name}.relu6"), "Clip", &inputs, vec![])
    }

    /// An inverted residual block: widen, filter each channel, narrow without a Relu.
    fn block(
        &mut self,
        input: &str,
        (inputs, outputs): (i64, i64),
        expansion: i64,
        stride: i64,
    ) -> String {
        let name = format!("block{}", self.blocks);
        self.blocks += 1;
        let wide = inputs * expansion;
        let mut value = input.to_owned();
        if expansion > 1 {
            let expand =
                Conv { inputs, outputs: wide, kernel: 1, stride: 1, groups: 1, gain: RELU };
            value = self.conv_relu6(&format!("{name}.expand"), &value, &expand);
        }
        let depth =
            Conv { inputs: wide, outputs: wide, kernel: 3, stride, groups: wide, gain: RELU };
        value = self.conv_relu6(&format!("{name}.depth"), &value, &depth);
        let project = Conv { inputs: wide, outputs, kernel: 1, stride: 1, groups: 1, gain: LINEAR };
        value = project.add(&mut self.graph, &format!("{name}.project"), &value);
        if stride == 1 && inputs == outputs {
            value = self.graph.node(&format!("{name}.sum"), "Add", &[input, &value], vec![]);
        }
        value
    }
}

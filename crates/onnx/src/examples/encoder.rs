//! A transformer encoder (Vaswani et al. 2017; Devlin et al. 2019) with the operators that
//! exporters use for it: the sequence length is read from the input, attention is split into
//! products and transpositions, and Gelu is built from Erf.

use std::f32::consts::SQRT_2;

use super::layers::{LINEAR, OPSET, RELU, dense};
use crate::builder::GraphBuilder;
use crate::builder::attribute::{float, int, ints};
use crate::proto::tensor_proto::DataType;
use crate::{Dim, ElementType, Error, OnnxModel};

/// Sizes of an [`encoder`] model.
#[derive(Clone, Copy, Debug)]
pub struct Encoder {
    /// The number of layers.
    pub layers: usize,
    /// The numbers per token; a multiple of `heads`.
    pub hidden: i64,
    /// The number of attention heads.
    pub heads: i64,
    /// The inner width of the feed-forward part.
    pub inner: i64,
    /// The number of token ids.
    pub vocabulary: i64,
    /// The longest sequence.
    pub positions: i64,
}

impl Default for Encoder {
    /// The sizes of small sentence encoders.
    fn default() -> Encoder {
        Encoder {
            layers: 6,
            hidden: 384,
            heads: 12,
            inner: 1536,
            vocabulary: 30522,
            positions: 512,
        }
    }
}

/// Builds a model from `input_ids` and `attention_mask` INT64 [batch, sequence] to `embedding` FP32
/// [batch, hidden].
///
/// # Errors
/// A size is negative.
pub fn encoder(sizes: &Encoder) -> Result<OnnxModel, Error> {
    let batch = |dim| vec![Dim::Named("batch".to_owned()), dim];
    let tokens = batch(Dim::Named("sequence".to_owned()));
    let mut net = EncoderGraph { graph: GraphBuilder::new("encoder", OPSET, 6), sizes: *sizes };
    net.graph.input("input_ids", ElementType::Int64, &tokens);
    net.graph.input("attention_mask", ElementType::Int64, &tokens);
    let mask = net.mask();
    let mut value = net.embed();
    for layer in 0..sizes.layers {
        let name = format!("layer{layer}");
        let attended = net.attention(&format!("{name}.attention"), &value, &mask);
        value = net.add_norm(&format!("{name}.attention"), &value, &attended);
        let inner = net.feed_forward(&format!("{name}.feed"), &value);
        value = net.add_norm(&format!("{name}.feed"), &value, &inner);
    }
    net.pool(&value);
    net.graph.output("embedding", ElementType::Float32, &batch(Dim::Fixed(sizes.hidden)));
    net.graph.finish()
}

struct EncoderGraph {
    graph: GraphBuilder,
    sizes: Encoder,
}

impl EncoderGraph {
    /// 0 for a token that counts and a very negative number for one that does not: [batch, 1, 1,
    /// sequence].
    fn mask(&mut self) -> String {
        let graph = &mut self.graph;
        let axes = graph.ints("mask.axes", &[2], &[1, 2]);
        let wide = graph.node("mask.wide", "Unsqueeze", &["attention_mask", &axes], vec![]);
        let cast = vec![int("to", DataType::Float as i64)];
        let numbers = graph.node("mask.numbers", "Cast", &[&wide], cast);
        let one = graph.floats("mask.one", &[], &[1.0]);
        let absent = graph.node("mask.absent", "Sub", &[&one, &numbers], vec![]);
        let lowest = graph.floats("mask.lowest", &[], &[-1e9]);
        graph.node("mask", "Mul", &[&absent, &lowest], vec![])
    }

    /// The sum of token and position embeddings, normalised: [batch, sequence, hidden].
    fn embed(&mut self) -> String {
        let Encoder { hidden, vocabulary, positions, .. } = self.sizes;
        let graph = &mut self.graph;
        let table = graph.random("tokens.weight", &[vocabulary, hidden], 1.0);
        let tokens = graph.node("tokens", "Gather", &[&table, "input_ids"], vec![int("axis", 0)]);
        let table = graph.random("positions.weight", &[1, positions, hidden], 0.5);
        let dims = graph.node("dims", "Shape", &["input_ids"], vec![]);
        let second = graph.ints("second", &[], &[1]);
        let length = graph.node("length", "Gather", &[&dims, &second], vec![int("axis", 0)]);
        let zero = graph.ints("zero", &[1], &[0]);
        let one = graph.ints("one", &[1], &[1]);
        let end = graph.node("end", "Unsqueeze", &[&length, &zero], vec![]);
        let places = graph.node("positions", "Slice", &[&table, &zero, &end, &one, &one], vec![]);
        self.add_norm("embed", &tokens, &places)
    }

    /// Adds a branch to its input and normalises each token.
    fn add_norm(&mut self, name: &str, input: &str, branch: &str) -> String {
        let hidden = self.sizes.hidden;
        let graph = &mut self.graph;
        let ones = vec![1.0; usize::try_from(hidden).unwrap_or(0)];
        let scale = graph.floats(&format!("{name}.norm.weight"), &[hidden], &ones);
        let bias = graph.random(&format!("{name}.norm.bias"), &[hidden], 0.1);
        let sum = graph.node(&format!("{name}.sum"), "Add", &[input, branch], vec![]);
        let attributes = vec![int("axis", -1), float("epsilon", 1e-12)];
        let inputs = [sum.as_str(), &scale, &bias];
        graph.node(&format!("{name}.norm"), "LayerNormalization", &inputs, attributes)
    }

    fn attention(&mut self, name: &str, input: &str, mask: &str) -> String {
        let Encoder { hidden, heads, .. } = self.sizes;
        let query = self.heads(&format!("{name}.query"), input, [0, 2, 1, 3]);
        // The transposition is folded into the split into heads, as exporters do.
        let key = self.heads(&format!("{name}.key"), input, [0, 2, 3, 1]);
        let value = self.heads(&format!("{name}.value"), input, [0, 2, 1, 3]);
        let graph = &mut self.graph;
        let scores = graph.node(&format!("{name}.products"), "MatMul", &[&query, &key], vec![]);
        let width = (hidden / heads.max(1)) as f32;
        let root = graph.floats(&format!("{name}.root"), &[], &[width.sqrt()]);
        let scaled = graph.node(&format!("{name}.scores"), "Div", &[&scores, &root], vec![]);
        let masked = graph.node(&format!("{name}.masked"), "Add", &[&scaled, mask], vec![]);
        let axis = vec![int("axis", -1)];
        let shares = graph.node(&format!("{name}.shares"), "Softmax", &[&masked], axis);
        let mixed = graph.node(&format!("{name}.mixed"), "MatMul", &[&shares, &value], vec![]);
        let perm = vec![ints("perm", &[0, 2, 1, 3])];
        let back = graph.node(&format!("{name}.back"), "Transpose", &[&mixed], perm);
        let target = graph.ints(&format!("{name}.back.shape"), &[3], &[0, 0, hidden]);
        let joined = graph.node(&format!("{name}.joined"), "Reshape", &[&back, &target], vec![]);
        dense(graph, &format!("{name}.output"), &joined, (hidden, hidden), LINEAR)
    }

    /// A dense layer split into heads: [batch, sequence, heads, width] permuted.
    fn heads(&mut self, name: &str, input: &str, perm: [i64; 4]) -> String {
        let Encoder { hidden, heads, .. } = self.sizes;
        let graph = &mut self.graph;
        let all = dense(graph, name, input, (hidden, hidden), LINEAR);
        let shape = [0, 0, heads, hidden / heads.max(1)];
        let target = graph.ints(&format!("{name}.shape"), &[4], &shape);
        let split = graph.node(&format!("{name}.split"), "Reshape", &[&all, &target], vec![]);
        graph.node(&format!("{name}.heads"), "Transpose", &[&split], vec![ints("perm", &perm)])
    }

    fn feed_forward(&mut self, name: &str, input: &str) -> String {
        let Encoder { hidden, inner, .. } = self.sizes;
        let graph = &mut self.graph;
        let wide = dense(graph, &format!("{name}.wide"), input, (hidden, inner), RELU);
        let root = graph.floats(&format!("{name}.root"), &[], &[SQRT_2]);
        let one = graph.floats(&format!("{name}.one"), &[], &[1.0]);
        let half = graph.floats(&format!("{name}.half"), &[], &[0.5]);
        let ratio = graph.node(&format!("{name}.ratio"), "Div", &[&wide, &root], vec![]);
        let erf = graph.node(&format!("{name}.erf"), "Erf", &[&ratio], vec![]);
        let above = graph.node(&format!("{name}.above"), "Add", &[&erf, &one], vec![]);
        let gated = graph.node(&format!("{name}.gated"), "Mul", &[&wide, &above], vec![]);
        let gelu = graph.node(&format!("{name}.gelu"), "Mul", &[&gated, &half], vec![]);
        dense(graph, &format!("{name}.narrow"), &gelu, (inner, hidden), LINEAR)
    }

    /// Passes the first token through a dense layer and Tanh to the output.
    fn pool(&mut self, input: &str) {
        let hidden = self.sizes.hidden;
        let graph = &mut self.graph;
        let first = graph.ints("pool.first", &[], &[0]);
        let token = graph.node("pool.token", "Gather", &[input, &first], vec![int("axis", 1)]);
        let deviation = (LINEAR / hidden as f32).sqrt();
        let weight = graph.random("pool.weight", &[hidden, hidden], deviation);
        let bias = graph.random("pool.bias", &[hidden], 0.1);
        let inputs = [token.as_str(), &weight, &bias];
        let sum = graph.node("pool", "Gemm", &inputs, vec![int("transB", 1)]);
        graph.node("embedding", "Tanh", &[&sum], vec![]);
    }
}

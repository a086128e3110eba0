//! Which rule holds for which operator.

use super::value::{Count, Fact, Mixing, Track};
use super::view::{View, from_start};
use super::{algebra, control, layout, reduce};

/// Operators whose results have the shape of their first input, element by element.
const SAME: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BitwiseNot",
    "Cast",
    "CastLike",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "DequantizeLinear",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Not",
    "QuantizeLinear",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Binarizer",
    "Imputer",
    "LabelEncoder",
    "Scaler",
];

/// Operators that broadcast their inputs against each other.
const BROADCAST: &[&str] = &[
    "Add",
    "And",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
];

/// Operators of `ai.onnx.ml` that answer for each row of a matrix.
const ROW_BY_ROW: &[&str] = &[
    "ArrayFeatureExtractor",
    "FeatureVectorizer",
    "LinearClassifier",
    "LinearRegressor",
    "Normalizer",
    "OneHotEncoder",
    "SVMClassifier",
    "SVMRegressor",
    "TreeEnsemble",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
];

/// What follows for the outputs of a node of the standard operator sets.
pub(super) fn outputs(view: &View<'_>) -> Vec<Fact> {
    let operator = view.operator();
    // These depend on shapes alone, whatever the contents are.
    match operator {
        "Shape" => return vec![layout::shape(view)],
        "Size" => return vec![Fact::counted(0, vec![layout::size(view)])],
        "If" => return control::branches(view),
        "Loop" | "Scan" => return vec![control::steps(view)],
        "Constant" => return vec![constant(view)],
        _ => {}
    }
    if let Some(fact) = view.general() {
        return vec![if fact.is_free() { layout::free(view) } else { fact }];
    }
    if operator == "DynamicQuantizeLinear" {
        // The scale is one for all rows. Their values hardly depend on each other through it.
        let input = view.input(0);
        let scale = Fact::free(Some(0));
        return [input, scale.clone(), scale].map(|fact| fact.quantized_by(view)).to_vec();
    }
    if matches!(operator, "LSTM" | "GRU" | "RNN") {
        return reduce::recurrent(view);
    }
    if operator == "Split" {
        return vec![view.input(0).with_rank(view.input(0).rank)];
    }
    vec![output(view, operator)]
}

fn output(view: &View<'_>, operator: &str) -> Fact {
    match operator {
        _ if SAME.contains(&operator) => same(view),
        _ if BROADCAST.contains(&operator) => algebra::broadcast(view),
        _ if ROW_BY_ROW.contains(&operator) => first_axis(view),
        _ if operator.starts_with("Reduce") || operator.starts_with("Arg") => reduce::reduce(view),
        "MatMul" | "MatMulInteger" | "QLinearMatMul" => algebra::matmul(view),
        "Gemm" => algebra::gemm(view),
        "Einsum" => algebra::einsum(view),
        "Softmax" | "LogSoftmax" | "Hardmax" => reduce::softmax(view),
        "LayerNormalization" | "RMSNormalization" => reduce::normalized_from(view, -1),
        "BatchNormalization" if view.int("training_mode", 0) == 0 => view.input(0),
        "BatchNormalization" => view.mixed("normalises over the batch"),
        "InstanceNormalization"
        | "GroupNormalization"
        | "LRN"
        | "GlobalAveragePool"
        | "GlobalMaxPool"
        | "GlobalLpPool"
        | "LpNormalization"
        | "MeanVarianceNormalization" => reduce::normalized(view),
        "CumSum" | "TopK" | "Unique" => reduce::ordered(view),
        "Conv" | "ConvTranspose" | "ConvInteger" | "QLinearConv" | "MaxPool" | "AveragePool"
        | "LpPool" | "DepthToSpace" | "SpaceToDepth" => reduce::windows(view),
        "NonZero" | "NonMaxSuppression" | "Compress" => listed(view),
        "Transpose" => layout::transpose(view),
        "Reshape" => layout::reshape(view),
        "Flatten" => layout::flatten(view),
        "Squeeze" => layout::squeeze(view),
        "Unsqueeze" => layout::unsqueeze(view),
        "Concat" => layout::concat(view),
        "Slice" => layout::slice(view),
        "Gather" => layout::gather(view),
        "GatherElements" => layout::gather_elements(view),
        "Expand" => layout::expand(view),
        "Tile" | "Pad" | "Resize" | "Upsample" => layout::resized(view),
        "OneHot" => layout::one_hot(view),
        _ => Fact::default(),
    }
}

/// Element by element: the other inputs are parameters.
fn same(view: &View<'_>) -> Fact {
    let input = view.input(0);
    let others_free = (1..view.node.input.len()).all(|i| view.input(i).is_free());
    // A cast of a size is a size.
    if others_free || view.operator() == "CastLike" { input } else { Fact::default() }
}

/// One answer for each entry along the first axis.
fn first_axis(view: &View<'_>) -> Fact {
    match view.input(0).axis() {
        Some(0) => Fact::rows(0, None),
        _ => Fact::default(),
    }
}

/// A list of what was found in all rows.
fn listed(view: &View<'_>) -> Fact {
    if let Track::Listed(_) = view.input(0).track {
        return Fact::default();
    }
    if view.operator() == "Compress" {
        let input = view.input(0);
        let axis = view.attribute("axis").and_then(|axis| from_start(axis.i(), input.rank));
        if axis.is_some() && axis != input.axis() {
            return input;
        }
    }
    let why = "lists what it finds in all rows of a batch";
    let Fact { track, .. } = view.mixed(why);
    match track {
        Track::Mixed(Mixing { operator, node, why }) => {
            Fact::new(Track::Listed(Mixing { operator, node, why }), Some(2))
        }
        other => Fact::new(other, None),
    }
}

fn constant(view: &View<'_>) -> Fact {
    if let Some(tensor) = view.attribute("value").and_then(|value| value.t.as_ref()) {
        return Fact::stored(tensor);
    }
    if let Some(list) = view.ints("value_ints") {
        return Fact::counted(1, list.iter().copied().map(Count::Number).collect());
    }
    match view.attribute("value_int") {
        Some(value) => Fact::counted(0, vec![Count::Number(value.i())]),
        None => Fact::free(None),
    }
}

impl Fact {
    /// The same, quantised with a scale of all rows.
    pub(super) fn quantized_by(mut self, view: &View<'_>) -> Fact {
        let name = view.node.output.first().cloned().unwrap_or_default();
        self.quantized = self.quantized.or(Some(name));
        self
    }
}

//! Which values an input may have, as far as the graph shows it: the size of the table that it looks
//! up, and the constants that it is compared with. Generated values then are such that the model
//! could see them.

use std::collections::{HashMap, HashSet};

use crate::model::OnnxModel;
use crate::proto::{GraphProto, NodeProto, TensorProto};
use crate::tensor;

/// What the graph shows of the values of one input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputHints {
    /// Whole numbers have to be below this.
    pub below: Option<i64>,
    /// Numbers that the input is compared with.
    pub compared: Vec<i64>,
    /// Texts that the model knows.
    pub texts: Vec<Vec<u8>>,
}

/// Operators that hand on the elements of their first input unchanged, perhaps of another type or in
/// another shape.
const HANDS_ON: &[&str] = &[
    "Cast",
    "Identity",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Transpose",
    "Slice",
    "Split",
    "Concat",
    "Expand",
    "Tile",
    "Gather",
    "StringNormalizer",
    "Tokenizer",
];

/// The most values that are kept of one node.
const VALUES_MAX: usize = 64;

impl OnnxModel {
    /// What the graph shows of the values of each input.
    pub fn input_hints(&self) -> HashMap<String, InputHints> {
        let Some(graph) = &self.proto().graph else { return HashMap::new() };
        let mut reader = Reader::default();
        for input in &graph.input {
            reader.sources.insert(input.name(), HashSet::from([input.name()]));
        }
        reader.read(graph);
        let found = reader.hints.into_iter();
        found.map(|(input, hints)| (input.to_owned(), hints)).collect()
    }
}

#[derive(Default)]
struct Reader<'a> {
    /// The inputs from which a value's elements come.
    sources: HashMap<&'a str, HashSet<&'a str>>,
    stored: HashMap<&'a str, &'a TensorProto>,
    hints: HashMap<&'a str, InputHints>,
}

impl<'a> Reader<'a> {
    fn read(&mut self, graph: &'a GraphProto) {
        for tensor in &graph.initializer {
            self.stored.insert(tensor.name(), tensor);
        }
        for node in &graph.node {
            if node.op_type() == "Constant"
                && let Some(output) = node.output.first()
                && let Some(value) = node.attribute.iter().find_map(|a| a.t.as_ref())
            {
                self.stored.insert(output, value);
            }
            self.hand_on(node);
            self.hint(node);
            for graph in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
                self.read(graph);
            }
        }
    }

    fn hand_on(&mut self, node: &'a NodeProto) {
        if !HANDS_ON.contains(&node.op_type()) {
            return;
        }
        let read = if node.op_type() == "Concat" { node.input.len() } else { 1 };
        let sources = node.input.iter().take(read).filter_map(|n| self.sources.get(n.as_str()));
        let sources: HashSet<&str> = sources.flatten().copied().collect();
        if !sources.is_empty() {
            for output in &node.output {
                self.sources.insert(output, sources.clone());
            }
        }
    }

    fn hint(&mut self, node: &'a NodeProto) {
        match node.op_type() {
            "Gather" => {
                if let Some(size) = self.table_size(node) {
                    self.note(node, 1, |hints| {
                        hints.below = Some(hints.below.map_or(size, |below| below.min(size)));
                    });
                }
            }
            "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" => {
                for (position, other) in [(0, 1), (1, 0)] {
                    if let Some(number) = self.stored_at(node, other).and_then(single) {
                        self.note(node, position, |hints| hints.compared.push(number));
                    }
                }
            }
            "OneHotEncoder" | "LabelEncoder" | "CategoryMapper" | "TfIdfVectorizer" => {
                for attribute in &node.attribute {
                    let (texts, numbers): (&[Vec<u8>], &[i64]) = match attribute.name() {
                        "cats_strings" | "keys_strings" | "pool_strings" => {
                            (&attribute.strings, &[])
                        }
                        "cats_int64s" | "keys_int64s" => (&[], &attribute.ints),
                        _ => continue,
                    };
                    self.note(node, 0, |hints| {
                        hints.texts.extend(texts.iter().take(VALUES_MAX).cloned());
                        hints.compared.extend(numbers.iter().take(VALUES_MAX));
                    });
                }
            }
            _ => {}
        }
    }

    /// The size of the stored table that a node looks up.
    fn table_size(&self, node: &NodeProto) -> Option<i64> {
        let axis = node.attribute.iter().find(|attribute| attribute.name() == "axis");
        let axis = axis.map_or(0, |axis| axis.i());
        let dims = &self.stored_at(node, 0)?.dims;
        let at = if axis < 0 { axis + i64::try_from(dims.len()).ok()? } else { axis };
        dims.get(usize::try_from(at).ok()?).copied()
    }

    fn stored_at(&self, node: &NodeProto, position: usize) -> Option<&'a TensorProto> {
        self.stored.get(node.input.get(position)?.as_str()).copied()
    }

    /// Notes something of the inputs that a node reads at a position.
    fn note(&mut self, node: &'a NodeProto, position: usize, note: impl Fn(&mut InputHints)) {
        let name = node.input.get(position).map_or("", String::as_str);
        for input in self.sources.get(name).into_iter().flatten() {
            note(self.hints.entry(input).or_default());
        }
    }
}

/// The whole number that a stored tensor of one element holds.
fn single(tensor: &TensorProto) -> Option<i64> {
    match tensor::ints(tensor)?.as_slice() {
        [number] => Some(*number),
        _ => None,
    }
}

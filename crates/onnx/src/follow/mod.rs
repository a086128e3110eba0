//! Follows the batch dimension of a graph from its inputs to its outputs: where the rows lie in each
//! value, and which nodes let the rows of a batch influence each other.
//!
//! What is said of a value holds for every run. Where an operator is not known, or its parameters
//! are computed, nothing is said: a trial run has to decide then. Nothing here runs a model.

mod algebra;
mod control;
mod layout;
mod reduce;
mod rules;
mod value;

use std::collections::HashMap;

use crate::model::OnnxModel;
use crate::opset;
use crate::proto::{GraphProto, NodeProto, ValueInfoProto};
use crate::signature::tensor_type;

use value::{Count, Fact, Track};
pub use value::{Mixing, RowsOfOutput};

/// What following the batch dimension has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchFlow {
    /// Where the rows lie in each output, in the graph's order.
    pub outputs: Vec<RowsOfOutput>,
    /// The first node that quantises the values of all rows with one scale, if an output depends on
    /// it.
    pub quantized: Option<String>,
}

impl BatchFlow {
    /// How the rows of a batch influence each other, if an output shows it.
    pub fn mixing(&self) -> Option<&Mixing> {
        self.outputs.iter().find_map(|output| match output {
            RowsOfOutput::Mixed(mixing) => Some(mixing),
            _ => None,
        })
    }
}

impl OnnxModel {
    /// Follows the batch dimension from the inputs that have one, each with its position in the
    /// input.
    pub fn follow_batch(&self, axes: &HashMap<String, usize>) -> BatchFlow {
        let Some(graph) = &self.proto().graph else { return BatchFlow::default() };
        let mut follower =
            Follower { opset: self.opset("").unwrap_or_default(), values: HashMap::new() };
        follower.enter(graph);
        for input in &graph.input {
            let rank = rank_of(input);
            let track = axes.get(input.name()).map_or(Track::Free, |axis| Track::Rows(*axis));
            let stored =
                follower.values.get(input.name()).is_some_and(|fact| fact.counts.is_some());
            if axes.contains_key(input.name()) || !stored {
                follower.values.insert(input.name().to_owned(), Fact::new(track, rank));
            }
        }
        follower.walk(&graph.node);
        let facts: Vec<Fact> =
            graph.output.iter().map(|output| follower.value(output.name())).collect();
        BatchFlow {
            quantized: facts.iter().find_map(|fact| fact.quantized.clone()),
            outputs: facts.into_iter().map(|fact| fact.track.of_output()).collect(),
        }
    }
}

/// What is known of the values of a graph and of the graphs around it.
#[derive(Clone)]
struct Follower {
    /// The version of the standard operator set.
    opset: i64,
    values: HashMap<String, Fact>,
}

impl Follower {
    /// Takes up the stored values of a graph, and the ranks that it declares.
    fn enter(&mut self, graph: &GraphProto) {
        for tensor in &graph.initializer {
            self.values.insert(tensor.name().to_owned(), Fact::stored(tensor));
        }
        for sparse in graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref()) {
            self.values.insert(sparse.name().to_owned(), Fact::new(Track::Free, None));
        }
    }

    fn walk(&mut self, nodes: &[NodeProto]) {
        for node in nodes {
            let facts = self.outputs_of(node);
            for (position, name) in node.output.iter().enumerate() {
                if name.is_empty() {
                    continue;
                }
                let fact = facts.get(position).or(facts.last());
                self.values.insert(name.clone(), fact.cloned().unwrap_or_default());
            }
        }
    }

    /// What follows for the outputs of a node. The last entry holds for all that come after it.
    fn outputs_of(&self, node: &NodeProto) -> Vec<Fact> {
        let view = View { node, follower: self };
        let mut facts = match opset::plain_domain(node.domain()) {
            "" | "ai.onnx.ml" => rules::outputs(&view),
            "com.microsoft" if node.op_type() == "DynamicQuantizeMatMul" => {
                vec![algebra::matmul(&view).quantized_by(&view)]
            }
            _ => vec![view.unknown()],
        };
        let inherited = view.inputs().find_map(|input| input.quantized);
        for fact in &mut facts {
            fact.quantized = fact.quantized.take().or_else(|| inherited.clone());
        }
        facts
    }

    fn value(&self, name: &str) -> Fact {
        // A value that nothing is known of comes from a node that was not followed.
        self.values.get(name).cloned().unwrap_or_default()
    }
}

fn rank_of(value: &ValueInfoProto) -> Option<usize> {
    Some(tensor_type(value.r#type.as_ref())?.dims?.len())
}

/// A node with what is known of its inputs.
struct View<'a> {
    node: &'a NodeProto,
    follower: &'a Follower,
}

impl<'a> View<'a> {
    fn operator(&self) -> &'a str {
        self.node.op_type()
    }

    fn opset(&self) -> i64 {
        self.follower.opset
    }

    fn has(&self, position: usize) -> bool {
        self.node.input.get(position).is_some_and(|name| !name.is_empty())
    }

    /// An input. One that is left out is free of rows.
    fn input(&self, position: usize) -> Fact {
        match self.node.input.get(position) {
            Some(name) if !name.is_empty() => self.follower.value(name),
            _ => Fact::new(Track::Free, None),
        }
    }

    fn inputs(&self) -> impl Iterator<Item = Fact> + use<'_, 'a> {
        (0..self.node.input.len()).filter(|position| self.has(*position)).map(|i| self.input(i))
    }

    fn attribute(&self, name: &str) -> Option<&'a crate::proto::AttributeProto> {
        self.node.attribute.iter().find(|attribute| attribute.name() == name)
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |attribute| attribute.i())
    }

    fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name).map(|attribute| attribute.ints.as_slice())
    }

    /// The integers of an input that is stored in the model.
    fn numbers(&self, position: usize) -> Option<Vec<i64>> {
        self.input(position).counts?.iter().map(Count::number).collect()
    }

    /// A list that newer versions take as an input, and older ones as an attribute.
    fn list(&self, attribute: &str, position: usize) -> Listed {
        if let Some(list) = self.ints(attribute) {
            return Listed::Given(list.to_vec());
        }
        if !self.has(position) {
            return Listed::LeftOut;
        }
        self.numbers(position).map_or(Listed::Computed, Listed::Given)
    }

    /// The rows influence each other here.
    fn mixed(&self, why: &'static str) -> Fact {
        let node = match self.node.name() {
            "" => self.node.output.first().map_or("", String::as_str),
            name => name,
        };
        let mixing = Mixing { operator: self.operator().to_owned(), node: node.to_owned(), why };
        Fact::new(Track::Mixed(mixing), None)
    }

    /// What holds for the result of any operator: without rows in its inputs it has none, and rows
    /// that were mixed before stay mixed.
    fn general(&self) -> Option<Fact> {
        let mut is_free = true;
        for input in self.inputs() {
            match input.track {
                Track::Mixed(_) => return Some(Fact::new(input.track, None)),
                Track::Free => {}
                Track::Rows(_) | Track::Listed(_) | Track::Unknown => is_free = false,
            }
        }
        is_free.then(|| Fact::new(Track::Free, None))
    }

    fn unknown(&self) -> Fact {
        self.general().unwrap_or_default()
    }
}

/// A list of integers that parametrises a node.
enum Listed {
    Given(Vec<i64>),
    /// Known only when the model runs.
    Computed,
    LeftOut,
}

/// An axis counted from the first one.
fn from_start(axis: i64, rank: Option<usize>) -> Option<usize> {
    match usize::try_from(axis) {
        Ok(axis) => Some(axis),
        Err(_) => usize::try_from(axis + i64::try_from(rank?).ok()?).ok(),
    }
}

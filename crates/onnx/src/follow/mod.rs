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
mod view;

use std::collections::HashMap;

use crate::model::OnnxModel;
use crate::opset;
use crate::proto::{GraphProto, NodeProto, ValueInfoProto};
use crate::signature::tensor_type;

use value::{Fact, Track};
pub use value::{Mixing, RowsOfOutput};
use view::{Values, View, value_of};

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
        let mut values = Values::new();
        enter(graph, &mut values);
        for input in &graph.input {
            let rank = rank_of(input);
            let track = axes.get(input.name()).map_or(Track::Free, |axis| Track::Rows(*axis));
            let is_stored = values.get(input.name()).is_some_and(|fact| fact.counts.is_some());
            if axes.contains_key(input.name()) || !is_stored {
                values.insert(input.name().to_owned(), Fact::new(track, rank));
            }
        }
        walk(&graph.node, &mut values, self.opset("").unwrap_or_default());
        let facts = graph.output.iter().map(|output| value_of(&values, output.name()));
        let facts: Vec<Fact> = facts.collect();
        BatchFlow {
            quantized: facts.iter().find_map(|fact| fact.quantized.clone()),
            outputs: facts.into_iter().map(|fact| fact.track.of_output()).collect(),
        }
    }
}

/// Takes up the stored values of a graph.
fn enter(graph: &GraphProto, values: &mut Values) {
    for tensor in &graph.initializer {
        values.insert(tensor.name().to_owned(), Fact::stored(tensor));
    }
    for sparse in graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref()) {
        values.insert(sparse.name().to_owned(), Fact::new(Track::Free, None));
    }
}

fn walk(nodes: &[NodeProto], values: &mut Values, opset: i64) {
    for node in nodes {
        let facts = outputs_of(&View { node, values, opset, inner });
        for (position, name) in node.output.iter().enumerate() {
            if name.is_empty() {
                continue;
            }
            let fact = facts.get(position).or(facts.last());
            values.insert(name.clone(), fact.cloned().unwrap_or_default());
        }
    }
}

/// What follows for the outputs of a graph within a node.
fn inner(graph: &GraphProto, around: &Values, opset: i64) -> Vec<Fact> {
    let mut values = around.clone();
    enter(graph, &mut values);
    walk(&graph.node, &mut values, opset);
    graph.output.iter().map(|output| value_of(&values, output.name())).collect()
}

/// What follows for the outputs of a node. The last entry holds for all that come after it.
fn outputs_of(view: &View<'_>) -> Vec<Fact> {
    let mut facts = match opset::plain_domain(view.node.domain()) {
        "" | "ai.onnx.ml" => rules::outputs(view),
        "com.microsoft" if view.operator() == "DynamicQuantizeMatMul" => {
            vec![algebra::matmul(view).quantized_by(view)]
        }
        _ => vec![view.unknown()],
    };
    let inherited = view.inputs().find_map(|input| input.quantized);
    for fact in &mut facts {
        fact.quantized = fact.quantized.take().or_else(|| inherited.clone());
    }
    facts
}

fn rank_of(value: &ValueInfoProto) -> Option<usize> {
    Some(tensor_type(value.r#type.as_ref())?.dims?.len())
}

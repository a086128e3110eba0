//! Prevents silent wrong answers of the embedded engine: a model is refused at load when it uses an
//! operator in a way that rten is not proven to compute correctly.
//!
//! The proofs are in `operators/rten.txt`. The test `conformance` runs the ONNX project's own tests
//! on rten, generates the table again and compares it. The table says which element types,
//! attributes and optional inputs of an operator were correct in at least one case, and which
//! combinations were wrong in any case. Whatever is in neither list is refused. An attribute that a
//! node leaves out counts as its default written out. Each facet is proven by itself, not every
//! combination of facets. One limit is in no table: rten computes 64-bit integers with 32 bits, and
//! only the range of inputs is checked. Nothing here loads or runs a model.
//!
//! onnxruntime has no table: it is the reference, and is trusted with every model that it loads.

mod facets;
mod schema;
mod table;
mod values;

use std::collections::{BTreeSet, HashSet};
use std::sync::LazyLock;

use symphony_onnx::{Node, OnnxModel};

pub use facets::{Facet, FacetKind, OTHER, UNKNOWN};
pub use table::{ProvenRow, Table, may_hold};
use values::KnownValues;

/// The table that is checked in, as text.
#[must_use]
pub fn table_text() -> &'static str {
    include_str!("operators/rten.txt")
}

fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| {
        // A test reads the file, so a line that does not parse is our own bug.
        Table::parse(table_text()).unwrap_or_else(|line| panic!("rten.txt: {line}"))
    });
    &TABLE
}

/// A use of an operator that rten is not proven to compute correctly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("operator {operator} {limit} at opset {opset} (node {node:?}) is not proven right on rten")]
pub struct Unproven {
    /// The operator, after its domain unless that is the standard one.
    pub operator: String,
    /// The node's name, or its first output when it has no name.
    pub node: String,
    /// The version of the operator set.
    pub opset: i64,
    /// The part that is not proven.
    pub limit: String,
}

/// Checks that rten is proven to compute every operator of a model, in the way the model uses it.
///
/// # Errors
/// Every use that is not proven, in the order of the graph, each kind once.
pub fn check(model: &OnnxModel) -> Result<(), Vec<Unproven>> {
    let mut unproven: Vec<Unproven> = Vec::new();
    let mut known = HashSet::new();
    for usage in usages(model) {
        let Err(found) = usage.check() else { continue };
        if known.insert((found.operator.clone(), found.limit.clone())) {
            unproven.push(found);
        }
    }
    if unproven.is_empty() { Ok(()) } else { Err(unproven) }
}

/// One use of an operator, described for comparison with a table.
#[derive(Clone, Debug)]
pub struct Usage<'a> {
    /// The operator, after its domain unless that is the standard one.
    pub operator: String,
    /// The first and last version of the operator set in which the operator means the same. `None`
    /// when the ONNX project has no such operator.
    pub versions: Option<(i64, i64)>,
    /// The facets that must be proven.
    pub facets: BTreeSet<Facet>,
    node: Node<'a>,
}

/// Describes every node of a model.
#[must_use]
pub fn usages(model: &OnnxModel) -> Vec<Usage<'_>> {
    let mut values = KnownValues::of(model);
    let mut usages = Vec::new();
    for node in model.nodes() {
        let operator = match node.domain() {
            "" => node.operator().to_owned(),
            domain => format!("{domain}.{}", node.operator()),
        };
        let schemas = if node.is_local_function { &[] } else { schema::versions(&operator) };
        let opset = node.opset.unwrap_or_default();
        let current = schemas.iter().find(|s| (s.first..=s.last).contains(&opset));
        let mut usage = Usage {
            operator,
            versions: current.map(|schema| (schema.first, schema.last)),
            facets: BTreeSet::new(),
            node: node.clone(),
        };
        if let Some(schema) = current {
            usage.facets = facets::describe(&node, schema, &values);
            values.follow(&node, schema);
        }
        usages.push(usage);
    }
    usages
}

impl Usage<'_> {
    fn check(&self) -> Result<(), Unproven> {
        let opset = self.node.opset.unwrap_or_default();
        let Some(limit) = self.limit(opset) else { return Ok(()) };
        let (operator, node) = (self.operator.clone(), self.node.label().to_owned());
        Err(Unproven { operator, node, opset, limit })
    }

    /// Says in words which part of this use is not proven.
    fn limit(&self, opset: i64) -> Option<String> {
        if self.node.is_local_function {
            return Some("(a function of the model)".to_owned());
        }
        if self.node.opset.is_none() {
            return Some("(of an operator set the model does not import)".to_owned());
        }
        let row = self.versions.and_then(|_| table().row(&self.operator, opset));
        let Some(row) = row else { return Some("(in any form)".to_owned()) };
        let limit = row.limit(&self.facets)?;
        let words: Vec<_> = limit.iter().map(Facet::words).collect();
        Some(words.join(" and "))
    }
}

#[cfg(test)]
mod tests;

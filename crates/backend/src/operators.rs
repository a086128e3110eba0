//! Prevents silent wrong answers: a model is refused at load when it uses an operator in a way that
//! its engine is not proven to compute correctly.
//!
//! The proofs are in `operators/rten.txt` and `operators/onnxruntime.txt`. The test `conformance`
//! runs the ONNX project's own tests on both engines, generates these tables again and compares
//! them. A table says which element types, attributes and optional inputs of an operator were
//! correct in at least one case, and which combinations were wrong in any case. Whatever is in
//! neither list is refused. Each facet is proven by itself, not every combination of facets. One
//! limit is in no table: rten computes 64-bit integers with 32 bits, and only the range of inputs
//! is checked. Nothing here loads or runs a model.

mod facets;
mod schema;
mod table;
mod values;

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::LazyLock;

use symphony_onnx::{Node, OnnxModel};

use facets::ABSENT;
pub use facets::{Facet, FacetKind, OTHER, UNKNOWN};
pub use table::{ProvenRow, Table, may_hold};
use values::KnownValues;

/// The engines that run ONNX graphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnnxEngine {
    /// The embedded engine.
    Rten,
    /// The library opened at run time.
    Onnxruntime,
}

impl OnnxEngine {
    /// Both engines.
    pub const ALL: [OnnxEngine; 2] = [OnnxEngine::Rten, OnnxEngine::Onnxruntime];

    /// The name in `model.toml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            OnnxEngine::Rten => "rten",
            OnnxEngine::Onnxruntime => "onnxruntime",
        }
    }

    /// The table that is checked in, as text.
    #[must_use]
    pub fn table_text(self) -> &'static str {
        match self {
            OnnxEngine::Rten => include_str!("operators/rten.txt"),
            OnnxEngine::Onnxruntime => include_str!("operators/onnxruntime.txt"),
        }
    }

    fn table(self) -> &'static Table {
        static TABLES: LazyLock<[Table; 2]> = LazyLock::new(|| {
            OnnxEngine::ALL.map(|engine| {
                // A test reads both files, so a line that does not parse is our own bug.
                Table::parse(engine.table_text())
                    .unwrap_or_else(|line| panic!("{}.txt: {line}", engine.name()))
            })
        });
        &TABLES[self as usize]
    }
}

impl fmt::Display for OnnxEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A use of an operator that the engine is not proven to compute correctly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "operator {operator} {limit} at opset {opset} (node {node:?}) is not proven right on {engine}: {remedy}"
)]
pub struct Unproven {
    /// The engine.
    pub engine: OnnxEngine,
    /// The operator, after its domain unless that is the standard one.
    pub operator: String,
    /// The node's name, or its first output when it has no name.
    pub node: String,
    /// The version of the operator set.
    pub opset: i64,
    /// The part that is not proven.
    pub limit: String,
    /// What to do.
    pub remedy: String,
}

/// Checks that an engine is proven to compute every operator of a model, in the way the model uses
/// it.
///
/// # Errors
/// Every use that is not proven, in the order of the graph, each kind once.
pub fn check(engine: OnnxEngine, model: &OnnxModel) -> Result<(), Vec<Unproven>> {
    let mut unproven: Vec<Unproven> = Vec::new();
    let mut known = HashSet::new();
    for usage in usages(model) {
        let Err(found) = usage.check(engine) else { continue };
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
    /// The facets under every newer version.
    newer: Vec<(i64, BTreeSet<Facet>)>,
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
            newer: Vec::new(),
        };
        if let Some(schema) = current {
            usage.facets = facets::describe(&node, schema, &values);
            let newer = schemas.iter().filter(|newer| newer.first > schema.last);
            usage.newer = newer.map(|s| (s.first, facets::describe(&node, s, &values))).collect();
            values.follow(&node, schema);
        }
        usages.push(usage);
    }
    usages
}

impl Usage<'_> {
    fn check(&self, engine: OnnxEngine) -> Result<(), Unproven> {
        let opset = self.node.opset.unwrap_or_default();
        let Some(limit) = self.limit(engine, opset) else { return Ok(()) };
        Err(Unproven {
            engine,
            operator: self.operator.clone(),
            node: self.node.label().to_owned(),
            opset,
            limit,
            remedy: self.remedy(engine, opset),
        })
    }

    /// Says in words which part of this use is not proven.
    fn limit(&self, engine: OnnxEngine, opset: i64) -> Option<String> {
        if self.node.is_local_function {
            return Some("(a function of the model)".to_owned());
        }
        if self.node.opset.is_none() {
            return Some("(of an operator set the model does not import)".to_owned());
        }
        let Some(row) = self.row(engine, opset) else { return Some("(in any form)".to_owned()) };
        let limit = row.limit(&self.facets)?;
        let words: Vec<_> = limit.iter().map(Facet::words).collect();
        Some(words.join(" and "))
    }

    fn row(&self, engine: OnnxEngine, opset: i64) -> Option<&'static ProvenRow> {
        self.versions.and_then(|_| engine.table().row(&self.operator, opset))
    }

    fn remedy(&self, engine: OnnxEngine, opset: i64) -> String {
        if self.node.is_local_function {
            return "inline the model's functions (onnx.inliner.inline_local_functions)".to_owned();
        }
        if self.operator == "ai.onnx.ml.ZipMap" {
            return "export with options={\"zipmap\": False}".to_owned();
        }
        let mut ways = Vec::new();
        if engine == OnnxEngine::Rten && self.limit(OnnxEngine::Onnxruntime, opset).is_none() {
            ways.push("use engine = \"onnxruntime\" (pip install onnxruntime)".to_owned());
        }
        let newer = self.newer.iter().find(|(version, facets)| {
            let row = engine.table().row(&self.operator, *version);
            row.is_some_and(|row| row.limit(facets).is_none())
        });
        if let Some((version, _)) = newer {
            ways.push(format!("export with opset {version} or later"));
        }
        if ways.is_empty() {
            return self.other_form(engine, opset);
        }
        ways.join(", or ")
    }

    /// Says what to export instead for the same engine and version.
    fn other_form(&self, engine: OnnxEngine, opset: i64) -> String {
        let row = self.row(engine, opset);
        let Some((row, limit)) = row.and_then(|row| Some((row, row.limit(&self.facets)?))) else {
            return "export the model without it".to_owned();
        };
        match limit.as_slice() {
            [Facet { kind: FacetKind::Type, value, .. }] if value == UNKNOWN => {
                "have onnx.shape_inference.infer_shapes write the types into the file".to_owned()
            }
            [Facet { kind: FacetKind::Type, name, value }] if value != ABSENT => {
                match alternatives(row, name) {
                    Some(types) => format!("cast input {name} to {types}, which it is proven on"),
                    None => format!("export the model without input {name}"),
                }
            }
            _ => "export the model without this use of it".to_owned(),
        }
    }
}

/// The proven element types of an input, in words.
fn alternatives(row: &ProvenRow, input: &str) -> Option<String> {
    let types = row.proven.get(&(FacetKind::Type, input.to_owned()))?;
    let types: Vec<_> = types.iter().map(String::as_str).filter(|kind| *kind != ABSENT).collect();
    Some(match types.as_slice() {
        [] => return None,
        [only] => (*only).to_owned(),
        [others @ .., last] => format!("{} or {last}", others.join(", ")),
    })
}

#[cfg(test)]
mod tests;

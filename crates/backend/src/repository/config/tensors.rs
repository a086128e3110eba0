//! `[[input]]` and `[[output]]` of `model.toml`, for models whose files do not say what they take and
//! give.

use super::super::error::ConfigError;
use super::super::source::TomlSource;
use crate::limits;
use serde::Deserialize;
use std::collections::BTreeSet;
use symphony_wire::tensor::{DataType, Dim, Signature, TensorSpec};
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TensorTable {
    name: Spanned<String>,
    datatype: Spanned<String>,
    shape: Spanned<Vec<Size>>,
}

/// One dimension as written.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub(super) enum Size {
    Number(i64),
    /// An open dimension that has a name.
    Name(String),
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Size::Number(number) => number.fmt(f),
            Size::Name(name) => write!(f, "{name:?}"),
        }
    }
}

/// Whose tensors they are.
#[derive(Clone, Copy)]
pub(super) struct Tensors<'a> {
    pub(super) source: &'a TomlSource,
    /// The name of the engine.
    pub(super) engine: &'a str,
    /// `input` or `output`.
    pub(super) role: &'a str,
    pub(super) tables: &'a [Spanned<TensorTable>],
}

impl Tensors<'_> {
    /// Reads them. `open` says what an open dimension is, by the input or output, its position in the
    /// row, and its name where it has one; `None` refuses it.
    pub(super) fn read(
        self,
        mut open: impl FnMut(&str, usize, Option<&str>) -> Option<Dim>,
    ) -> Result<Vec<TensorSpec>, ConfigError> {
        let Tensors { source, engine, role, tables } = self;
        if tables.is_empty() {
            let problem = format!(
                "engine = {engine:?} needs at least one [[{role}]] with name, datatype and shape \
                 (without the batch dimension)"
            );
            return Err(source.refuse(None, problem));
        }
        let mut names = BTreeSet::new();
        let mut specs = Vec::new();
        for table in tables {
            let spec = tensor(source, table.get_ref(), &mut open)?;
            if spec.name.is_empty() || !names.insert(spec.name.clone()) {
                let problem =
                    format!("{role} {:?}: give every {role} a name of its own", spec.name);
                return Err(source.refuse(Some(table.get_ref().name.span()), problem));
            }
            specs.push(spec);
        }
        Ok(specs)
    }

    /// Refuses what would take too much memory. `dimensions`: a signature with the open ones.
    pub(super) fn check(
        self,
        specs: &[TensorSpec],
        dimensions: &Signature,
        rows_max: u32,
    ) -> Result<(), ConfigError> {
        let Some((at, excess)) = limits::excess(dimensions, specs, rows_max) else { return Ok(()) };
        let problem = format!("{} {:?}: {excess}", self.role, specs[at].name);
        let at = self.tables.get(at).map(|table| table.get_ref().shape.span());
        Err(self.source.refuse(at, problem))
    }
}

fn tensor(
    source: &TomlSource,
    table: &TensorTable,
    open: &mut impl FnMut(&str, usize, Option<&str>) -> Option<Dim>,
) -> Result<TensorSpec, ConfigError> {
    let datatype: DataType = (table.datatype.get_ref().parse())
        .map_err(|error| source.refuse(Some(table.datatype.span()), format!("{error}")))?;
    let name = table.name.get_ref();
    let sizes = table.shape.get_ref().iter().enumerate();
    let row = sizes.map(|(at, size)| match size {
        Size::Number(-1) => open(name, at, None),
        Size::Number(number) => {
            usize::try_from(*number).ok().filter(|size| *size > 0).map(Dim::Fixed)
        }
        Size::Name(named) => open(name, at, Some(named)),
    });
    let row: Option<Vec<Dim>> = row.collect();
    let row = row.ok_or_else(|| {
        let sizes: Vec<_> = table.shape.get_ref().iter().map(ToString::to_string).collect();
        let problem = format!(
            "shape [{}]: give every dimension but the batch dimension, each at least 1",
            sizes.join(", ")
        );
        source.refuse(Some(table.shape.span()), problem)
    })?;
    Ok(TensorSpec::new(name, datatype, [Dim::Batch].into_iter().chain(row).collect()))
}

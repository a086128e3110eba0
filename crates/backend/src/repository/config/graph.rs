//! The keys of `model.toml` that concern an ONNX graph: its dimensions, its batches, its operators.

use super::super::error::ConfigError;
use super::super::source::TomlSource;
use crate::view::Reshapes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use toml::Spanned;

/// The largest size that a dimension may be allowed to have.
const SIZE_LIMIT: i64 = 1 << 30;

/// Which engine an ONNX model asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// onnxruntime where it is found and loads the model, else rten.
    #[default]
    Best,
    /// onnxruntime or nothing.
    Onnxruntime,
    /// rten or nothing.
    Rten,
}

/// How an ONNX graph is served.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GraphSettings {
    /// Which engine runs it.
    pub choice: EngineChoice,
    /// Sizes of open dimensions: input name to its shape without the batch dimension. `None` leaves
    /// a dimension open.
    pub shapes: BTreeMap<String, Vec<Option<usize>>>,
    /// Shapes of rows in which clients see inputs and outputs, where they are not the graph's.
    pub reshape: Reshapes,
    /// The largest sizes of open dimensions, by name.
    pub max_size: BTreeMap<String, usize>,
    /// Inputs that are padded to the longest of their batch, with the element that fills them.
    pub pad: BTreeMap<String, Fill>,
    /// The open dimension that is padded, where the padded inputs share several.
    pub pad_dimension: Option<String>,
    /// Where the batch dimension is. `None` finds it.
    pub batch_axis: Option<BatchAxis>,
    /// Inputs of which a request may give one row beside many rows of the others.
    pub broadcast: BTreeSet<String>,
    /// Where operators come from that are not onnxruntime's own.
    pub custom_ops: Option<CustomOps>,
    /// Whether rows may share a batch although their answers then depend on their neighbours, as
    /// with activations that are quantised over the batch.
    pub batch_dependent: bool,
    /// Whether weights stay as they lie in their own files, so that accelerators and processes share
    /// them.
    pub share_weights: bool,
}

/// One element of padding, as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Fill {
    /// For integers and floats.
    Number(f64),
    /// For strings.
    Text(String),
}

/// Where the batch dimension of a graph is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchAxis {
    /// At this position in every input.
    Position(usize),
    /// Wherever a dimension has this name.
    Name(String),
    /// At these positions of the inputs named here; in the others where it is found.
    Positions(BTreeMap<String, usize>),
}

/// A library of operators for onnxruntime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CustomOps {
    /// The library in the installed Python package `onnxruntime-extensions`.
    Extensions,
    /// A file, relative to the model's directory unless it is absolute.
    File(PathBuf),
}

/// The keys as written.
#[derive(Debug, Default)]
pub(super) struct GraphKeys {
    pub(super) shape: BTreeMap<Spanned<String>, Spanned<Vec<i64>>>,
    pub(super) reshape: BTreeMap<Spanned<String>, Spanned<Vec<i64>>>,
    pub(super) max_size: BTreeMap<String, Spanned<i64>>,
    pub(super) pad: BTreeMap<String, Spanned<toml::Value>>,
    pub(super) pad_dimension: Option<Spanned<String>>,
    pub(super) batch_axis: Option<Spanned<toml::Value>>,
    pub(super) broadcast: Option<Spanned<Vec<String>>>,
    pub(super) custom_ops: Option<Spanned<String>>,
    pub(super) batch_dependent: Option<Spanned<bool>>,
    pub(super) share_weights: Option<Spanned<bool>>,
}

impl GraphSettings {
    /// Adds what another file says where this one says nothing.
    pub(super) fn inherit(
        &mut self,
        shapes: Reshapes,
        reshape: Reshapes,
        custom_ops: Option<PathBuf>,
    ) {
        self.custom_ops = self.custom_ops.take().or(custom_ops.map(CustomOps::File));
        for (name, dims) in shapes {
            self.shapes.entry(name).or_insert(dims);
        }
        for (name, dims) in reshape {
            self.reshape.entry(name).or_insert(dims);
        }
    }
}

impl GraphKeys {
    /// The first key that is set, for a model that has no graph.
    pub(super) fn stray(&self) -> Option<(&'static str, Range<usize>)> {
        let shape = self.shape.keys().next().map(|name| ("shape", name.span()));
        let max_size = self.max_size.values().next().map(|size| ("max_size", size.span()));
        let pad = self.pad.values().next().map(|fill| ("pad", fill.span()));
        let span = |key, span: Option<Range<usize>>| span.map(|span| (key, span));
        let reshape = self.reshape.keys().next().map(|name| ("reshape", name.span()));
        shape
            .or(reshape)
            .or(max_size)
            .or(pad)
            .or(span("pad_dimension", self.pad_dimension.as_ref().map(Spanned::span)))
            .or(span("batch_axis", self.batch_axis.as_ref().map(Spanned::span)))
            .or(span("broadcast", self.broadcast.as_ref().map(Spanned::span)))
            .or(span("custom_ops", self.custom_ops.as_ref().map(Spanned::span)))
            .or(span("batch_dependent", self.batch_dependent.as_ref().map(Spanned::span)))
            .or(span("share_weights", self.share_weights.as_ref().map(Spanned::span)))
    }

    pub(super) fn resolve(
        self,
        source: &TomlSource,
        choice: EngineChoice,
    ) -> Result<GraphSettings, ConfigError> {
        let pad = self.pad.into_iter().map(|(input, value)| {
            let fill = fill(source, &input, &value)?;
            Ok((input, fill))
        });
        let pad: BTreeMap<_, _> = pad.collect::<Result<_, ConfigError>>()?;
        if let Some(dimension) = self.pad_dimension.as_ref().filter(|_| pad.is_empty()) {
            let problem = "pad_dimension goes with pad = { INPUT = FILL }: add it";
            return Err(source.refuse(Some(dimension.span()), problem));
        }
        let sizes = self.max_size.into_iter().map(|(name, size)| {
            let max = max_size(source, &name, &size)?;
            Ok((name, max))
        });
        Ok(GraphSettings {
            choice,
            shapes: shapes(source, self.shape)?,
            reshape: shapes(source, self.reshape)?,
            max_size: sizes.collect::<Result<_, ConfigError>>()?,
            pad,
            pad_dimension: self.pad_dimension.map(Spanned::into_inner),
            batch_axis: self.batch_axis.map(|axis| batch_axis(source, &axis)).transpose()?,
            broadcast: self
                .broadcast
                .map(Spanned::into_inner)
                .unwrap_or_default()
                .into_iter()
                .collect(),
            custom_ops: self.custom_ops.map(|library| match library.into_inner().as_str() {
                "extensions" => CustomOps::Extensions,
                file => CustomOps::File(PathBuf::from(file)),
            }),
            batch_dependent: self.batch_dependent.is_some_and(Spanned::into_inner),
            share_weights: self.share_weights.is_some_and(Spanned::into_inner),
        })
    }
}

/// Shapes by the name of their input or output.
fn shapes(
    source: &TomlSource,
    table: BTreeMap<Spanned<String>, Spanned<Vec<i64>>>,
) -> Result<Reshapes, ConfigError> {
    table.into_iter().map(|(name, dims)| Ok((name.into_inner(), shape(source, &dims)?))).collect()
}

/// A shape without its batch dimension; -1 leaves a dimension open.
fn shape(source: &TomlSource, dims: &Spanned<Vec<i64>>) -> Result<Vec<Option<usize>>, ConfigError> {
    let sizes = dims.get_ref().iter().map(|&dim| match usize::try_from(dim) {
        Ok(0) => None,
        Ok(size) => Some(Some(size)),
        Err(_) => (dim == -1).then_some(None),
    });
    sizes.collect::<Option<_>>().ok_or_else(|| {
        let problem = format!(
            "shape {:?}: give every dimension but the batch dimension, each at least 1, or -1 to \
             leave it open",
            dims.get_ref()
        );
        source.refuse(Some(dims.span()), problem)
    })
}

pub(super) fn max_size(
    source: &TomlSource,
    name: &str,
    size: &Spanned<i64>,
) -> Result<usize, ConfigError> {
    let within = Some(*size.get_ref()).filter(|size| (1..=SIZE_LIMIT).contains(size));
    within.and_then(|size| usize::try_from(size).ok()).ok_or_else(|| {
        let problem = format!(
            "max_size of {name:?} = {} is not allowed: give a whole number from 1 to {SIZE_LIMIT}",
            size.get_ref()
        );
        source.refuse(Some(size.span()), problem)
    })
}

fn fill(
    source: &TomlSource,
    input: &str,
    value: &Spanned<toml::Value>,
) -> Result<Fill, ConfigError> {
    match value.get_ref() {
        // Integers beyond 2^53 fill no input.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        toml::Value::Integer(number) => Ok(Fill::Number(*number as f64)),
        toml::Value::Float(number) => Ok(Fill::Number(*number)),
        toml::Value::Boolean(flag) => Ok(Fill::Number(f64::from(u8::from(*flag)))),
        toml::Value::String(text) => Ok(Fill::Text(text.clone())),
        other => {
            let problem =
                format!("pad of {input:?} = {other} is no element: give a number or a text");
            Err(source.refuse(Some(value.span()), problem))
        }
    }
}

fn batch_axis(source: &TomlSource, value: &Spanned<toml::Value>) -> Result<BatchAxis, ConfigError> {
    let position = |value: &toml::Value| usize::try_from(value.as_integer()?).ok();
    let axis = match value.get_ref() {
        toml::Value::String(name) => Some(BatchAxis::Name(name.clone())),
        toml::Value::Table(table) => {
            let positions = table.iter().map(|(input, at)| Some((input.clone(), position(at)?)));
            positions.collect::<Option<_>>().map(BatchAxis::Positions)
        }
        other => position(other).map(BatchAxis::Position),
    };
    axis.ok_or_else(|| {
        let problem = format!(
            "batch_axis = {} is not allowed: give a position counted from 0, the name of a \
             dimension in the graph, or a table like {{ INPUT = 1 }}",
            value.get_ref()
        );
        source.refuse(Some(value.span()), problem)
    })
}

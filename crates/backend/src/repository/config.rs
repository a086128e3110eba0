//! `model.toml`: what its keys may say, resolved once into a [`ModelConfig`].

mod emulated;
mod graph;
mod inherited;
mod python;
mod tensors;
mod written;

pub use emulated::EmulatedModel;
pub use graph::{BatchAxis, CustomOps, EngineChoice, Fill, GraphSettings};
pub(super) use inherited::{Inherited, InheritedTensor};
pub use python::{PythonModel, PythonOptions, TensorBounds};
pub(super) use written::is_file_name;
pub use written::{MAX_BATCH_DEFAULT, MAX_BATCH_LIMIT, QUEUE_MAX_DEFAULT};

use super::error::ConfigError;
use super::source::TomlSource;
use super::versions::VersionPolicy;
use graph::GraphKeys;
use std::ops::RangeInclusive;
use symphony_core::{Class, Span};
use toml::Spanned;
use written::{DAY_MS, EngineName, File, QUEUE_MAX_LIMIT, file_name_of};

/// What `model.toml` asks for, validated, defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Which versions are served.
    pub versions: VersionPolicy,
    /// How it is served, whatever runs it.
    pub terms: Terms,
    /// What runs it.
    pub engine: EngineConfig,
}

/// How a model is served, whatever runs it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// The latency objective.
    pub slo: Slo,
    /// Largest batch in rows.
    pub rows_max: u32,
    /// The class of requests that ask for none.
    pub class: Class,
    /// Bound on queued requests, if it is set.
    pub queue_max: Option<u32>,
    /// How much its losses under overload count beside the other models'.
    pub loss_weight: f64,
}

/// The latency objective that was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slo {
    /// `slo_ms` says it.
    Given(Span),
    /// `queue_timeout_ms` says how long a request may wait for its batch: the objective is this and
    /// the time of the largest batch.
    QueueTimeout(Span),
    /// Nothing says it: best effort.
    Unstated,
}

/// What runs a model.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineConfig {
    /// An ONNX file.
    Onnx {
        /// How its graph is served.
        settings: GraphSettings,
        /// The name of the file in the version's directory.
        file: Option<String>,
        /// The bundled example to generate instead of reading a file from the repository.
        generate: Option<String>,
    },
    /// A Python process.
    Python(Box<PythonModel>),
    /// Nothing: a wait of known length.
    Emulated(EmulatedModel),
}

impl ModelConfig {
    /// Reads and validates the text of a `model.toml`; an empty text gives the defaults.
    ///
    /// # Errors
    /// The file and line of what cannot be, and what is allowed there.
    pub fn parse(source: &TomlSource) -> Result<ModelConfig, ConfigError> {
        ModelConfig::parse_over(source, Inherited::default())
    }

    /// The same, where another file says something of the keys that are left out.
    pub(super) fn parse_over(
        source: &TomlSource,
        inherited: Inherited,
    ) -> Result<ModelConfig, ConfigError> {
        let mut file: File = source.parse()?;
        let graph = file.graph_keys();
        let versions = super::versions::policy(source, file.versions.as_ref())?
            .or_else(|| inherited.versions.clone())
            .unwrap_or_default();
        let slo = slo(source, &file, inherited.queue_timeout)?;
        let class = class(source, file.priority.as_ref())?.or(inherited.class).unwrap_or_default();
        let queue_max = whole(source, "queue_max", file.queue_max.as_ref(), 1..=QUEUE_MAX_LIMIT)?
            .or(inherited.queue_max.map(|most| most.min(QUEUE_MAX_LIMIT)));
        let loss_weight = loss_weight(source, file.loss_weight.as_ref())?;
        let max_batch = whole(source, "max_batch", file.max_batch.as_ref(), 1..=MAX_BATCH_LIMIT)?
            .or(inherited.max_batch.map(|rows| rows.clamp(1, MAX_BATCH_LIMIT)));
        let is_python = match file.engine {
            None => inherited.is_python || file.python.is_some(),
            Some(name) => name == EngineName::Python,
        };
        let mut engine = if is_python {
            let model = python::python(source, file, graph, &inherited)?;
            EngineConfig::Python(Box::new(model))
        } else if file.engine == Some(EngineName::Emulated) {
            EngineConfig::Emulated(emulated::emulated(source, &file, &graph, max_batch)?)
        } else {
            onnx(source, file, graph, inherited.file)?
        };
        if let EngineConfig::Onnx { settings, .. } = &mut engine {
            settings.inherit(inherited.shapes, inherited.reshape, inherited.custom_ops);
        }
        let rows_max = match &engine {
            EngineConfig::Emulated(emulation) => emulation.costs.at(u64::MAX).rows_max(),
            EngineConfig::Python(model) if !model.signature.is_batched() => 1,
            EngineConfig::Onnx { .. } | EngineConfig::Python(_) => {
                max_batch.unwrap_or(MAX_BATCH_DEFAULT)
            }
        };
        let terms = Terms { slo, rows_max, class, queue_max, loss_weight };
        Ok(ModelConfig { versions, terms, engine })
    }
}

fn loss_weight(source: &TomlSource, value: Option<&Spanned<f64>>) -> Result<f64, ConfigError> {
    let Some(value) = value else { return Ok(1.0) };
    let weight = *value.get_ref();
    if !(0.01..=100.0).contains(&weight) {
        let text = format!("loss_weight = {weight} is not allowed: give a number from 0.01 to 100");
        return Err(source.refuse(Some(value.span()), text));
    }
    Ok(weight)
}

/// The objective: `slo_ms`, or `queue_timeout_ms`, here or in another file.
fn slo(source: &TomlSource, file: &File, timeout: Option<Span>) -> Result<Slo, ConfigError> {
    match (&file.slo_ms, &file.queue_timeout_ms) {
        (Some(_), Some(timeout)) => {
            let problem = "queue_timeout_ms stands beside slo_ms: keep one of them; the objective \
                           follows from queue_timeout_ms where there is no slo_ms";
            Err(source.refuse(Some(timeout.span()), problem))
        }
        (Some(slo), None) => span(source, "slo_ms", "latency objective", slo).map(Slo::Given),
        (None, Some(timeout)) => {
            span(source, "queue_timeout_ms", "time-out", timeout).map(Slo::QueueTimeout)
        }
        (None, None) => Ok(timeout.map_or(Slo::Unstated, Slo::QueueTimeout)),
    }
}

fn span(
    source: &TomlSource,
    key: &str,
    what: &str,
    value: &Spanned<f64>,
) -> Result<Span, ConfigError> {
    let ms = *value.get_ref();
    let span = Span::from_millis_f64(ms);
    // A not-a-number fails the comparison too.
    if ms > 0.0 && ms <= DAY_MS && span > Span::ZERO {
        return Ok(span);
    }
    let problem = format!(
        "{key} = {ms} is no {what}: give milliseconds above 0 and at most {DAY_MS} (a day)"
    );
    Err(source.refuse(Some(value.span()), problem))
}

/// The class of requests that ask for none. Where no file says it they are high, so that all are
/// equal.
fn class(
    source: &TomlSource,
    value: Option<&Spanned<toml::Value>>,
) -> Result<Option<Class>, ConfigError> {
    let Some(value) = value else { return Ok(None) };
    let known = value.get_ref().as_str();
    let known = known.and_then(|name| Class::ALL.into_iter().find(|class| class.name() == name));
    known.map(Some).ok_or_else(|| {
        source.refuse(
            Some(value.span()),
            format!(
                "priority = {} is not allowed: give \"high\" or \"low\", which its requests \
                 have that do not say",
                value.get_ref()
            ),
        )
    })
}

/// A whole number within `allowed`.
fn whole<T: TryFrom<i64> + Into<i64> + Copy>(
    source: &TomlSource,
    key: &str,
    value: Option<&Spanned<i64>>,
    allowed: RangeInclusive<T>,
) -> Result<Option<T>, ConfigError> {
    let Some(value) = value else { return Ok(None) };
    let (from, to) = ((*allowed.start()).into(), (*allowed.end()).into());
    let within = Some(*value.get_ref()).filter(|number| (from..=to).contains(number));
    match within.and_then(|number| T::try_from(number).ok()) {
        Some(number) => Ok(Some(number)),
        None => Err(source.refuse(
            Some(value.span()),
            format!(
                "{key} = {} is not allowed: give a whole number from {from} to {to}",
                value.get_ref()
            ),
        )),
    }
}

fn onnx(
    source: &TomlSource,
    file: File,
    graph: GraphKeys,
    inherited_file: Option<String>,
) -> Result<EngineConfig, ConfigError> {
    let stray = file.emulated.as_ref().map(|table| ("[emulated]", table.span()));
    let stray = stray.or_else(|| file.python.as_ref().map(|table| ("[python]", table.span())));
    let stray =
        stray.or_else(|| file.parameters.as_ref().map(|table| ("[parameters]", table.span())));
    let stray = stray.or_else(|| file.input.first().map(|table| ("[[input]]", table.span())));
    let stray = stray.or_else(|| file.output.first().map(|table| ("[[output]]", table.span())));
    if let Some((table, span)) = stray {
        let problem = format!(
            "{table} does not go with an ONNX file, which says itself what it takes and gives: add \
             engine = \"python\" or engine = \"emulated\", or remove it"
        );
        return Err(source.refuse(Some(span), problem));
    }
    let choice = match file.engine {
        Some(EngineName::Onnxruntime) => EngineChoice::Onnxruntime,
        Some(EngineName::Rten) => EngineChoice::Rten,
        Some(EngineName::Python | EngineName::Emulated) | None => EngineChoice::Best,
    };
    let settings = graph.resolve(source, choice)?;
    let generate = file.generate.map(Spanned::into_inner);
    let file = match file.file {
        Some(name) => Some(file_name_of(source, &name)?),
        None => inherited_file,
    };
    Ok(EngineConfig::Onnx { settings, file, generate })
}

//! `model.toml`: what its keys may say, resolved once into a [`ModelConfig`].

mod graph;

pub use graph::{BatchAxis, CustomOps, EngineChoice, Fill, GraphSettings};

use super::error::ConfigError;
use super::source::TomlSource;
use super::versions::VersionPolicy;
use crate::limits;
use crate::view::Reshapes;
use graph::GraphKeys;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use symphony_core::{Class, Profile, ProfileError, SizedProfile, Span};
use symphony_wire::tensor::{DataType, Dim, OpenDimension, Signature, TensorSpec};
use toml::Spanned;

/// Largest batch, in rows, where `model.toml` says nothing.
pub const MAX_BATCH_DEFAULT: u32 = 32;
/// The largest `max_batch` there can be.
pub const MAX_BATCH_LIMIT: u32 = 4096;
/// Bound on a model's queued requests where `model.toml` says nothing.
pub const QUEUE_MAX_DEFAULT: u32 = 10_000;
const QUEUE_MAX_LIMIT: u32 = 10_000_000;
const DAY_MS: f64 = 86_400_000.0;
/// The largest size of an open dimension of an emulated model.
const EMULATED_OPEN_MAX: usize = 1 << 24;

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

/// What another file says of a model where `model.toml` says nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Inherited {
    pub(super) versions: Option<VersionPolicy>,
    pub(super) file: Option<String>,
    pub(super) max_batch: Option<u32>,
    pub(super) class: Option<Class>,
    pub(super) queue_max: Option<u32>,
    pub(super) queue_timeout: Option<Span>,
    /// As in [`GraphSettings`].
    pub(super) shapes: Reshapes,
    pub(super) reshape: Reshapes,
    pub(super) custom_ops: Option<PathBuf>,
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
    /// Nothing: a wait of known length.
    Emulated(EmulatedModel),
}

/// An emulated model.
#[derive(Clone, Debug, PartialEq)]
pub struct EmulatedModel {
    /// How long it takes, by rows and size.
    pub costs: Arc<SizedProfile>,
    /// What it takes and gives.
    pub signature: Signature,
}

/// The file as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    versions: Option<Spanned<toml::Value>>,
    file: Option<Spanned<String>>,
    slo_ms: Option<Spanned<f64>>,
    queue_timeout_ms: Option<Spanned<f64>>,
    max_batch: Option<Spanned<i64>>,
    engine: Option<EngineName>,
    #[serde(default)]
    shape: BTreeMap<Spanned<String>, Spanned<Vec<i64>>>,
    #[serde(default)]
    reshape: BTreeMap<Spanned<String>, Spanned<Vec<i64>>>,
    #[serde(default)]
    max_size: BTreeMap<String, Spanned<i64>>,
    #[serde(default)]
    pad: BTreeMap<String, Spanned<toml::Value>>,
    pad_dimension: Option<Spanned<String>>,
    batch_axis: Option<Spanned<toml::Value>>,
    broadcast: Option<Spanned<Vec<String>>>,
    custom_ops: Option<Spanned<String>>,
    batch_dependent: Option<Spanned<bool>>,
    share_weights: Option<Spanned<bool>>,
    priority: Option<Spanned<toml::Value>>,
    queue_max: Option<Spanned<i64>>,
    loss_weight: Option<Spanned<f64>>,
    generate: Option<Spanned<String>>,
    emulated: Option<Spanned<EmulatedTable>>,
    #[serde(default)]
    input: Vec<Spanned<TensorTable>>,
    #[serde(default)]
    output: Vec<Spanned<TensorTable>>,
}

impl File {
    /// Takes the keys that concern an ONNX graph.
    fn graph_keys(&mut self) -> GraphKeys {
        GraphKeys {
            shape: std::mem::take(&mut self.shape),
            reshape: std::mem::take(&mut self.reshape),
            max_size: std::mem::take(&mut self.max_size),
            pad: std::mem::take(&mut self.pad),
            pad_dimension: self.pad_dimension.take(),
            batch_axis: self.batch_axis.take(),
            broadcast: self.broadcast.take(),
            custom_ops: self.custom_ops.take(),
            batch_dependent: self.batch_dependent.take(),
            share_weights: self.share_weights.take(),
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum EngineName {
    Onnxruntime,
    Rten,
    Emulated,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EmulatedTable {
    alpha_ms: Option<Spanned<f64>>,
    beta_ms: Option<Spanned<f64>>,
    latency_ms: Option<Spanned<Vec<f64>>>,
    /// The standard deviation of the times, as a share of them.
    spread: Option<Spanned<f64>>,
    /// How much longer a batch takes for each element of each row.
    element_us: Option<Spanned<f64>>,
    /// The largest size of the dimension that inputs leave open with -1.
    open_max: Option<Spanned<i64>>,
    /// Whether shorter requests are padded along it to the longest of their batch.
    #[serde(default)]
    padded: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorTable {
    name: Spanned<String>,
    datatype: Spanned<String>,
    shape: Spanned<Vec<i64>>,
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
            .or(inherited.versions)
            .unwrap_or_default();
        let slo = slo(source, &file, inherited.queue_timeout)?;
        let class = class(source, file.priority.as_ref())?.or(inherited.class).unwrap_or_default();
        let queue_max = whole(source, "queue_max", file.queue_max.as_ref(), 1..=QUEUE_MAX_LIMIT)?
            .or(inherited.queue_max.map(|most| most.min(QUEUE_MAX_LIMIT)));
        let loss_weight = loss_weight(source, file.loss_weight.as_ref())?;
        let max_batch = whole(source, "max_batch", file.max_batch.as_ref(), 1..=MAX_BATCH_LIMIT)?
            .or(inherited.max_batch.map(|rows| rows.clamp(1, MAX_BATCH_LIMIT)));
        let mut engine = match file.engine {
            Some(EngineName::Emulated) => emulated(source, &file, &graph, max_batch)?,
            _ => onnx(source, file, graph, inherited.file)?,
        };
        if let EngineConfig::Onnx { settings, .. } = &mut engine {
            settings.inherit(inherited.shapes, inherited.reshape, inherited.custom_ops);
        }
        let rows_max = match &engine {
            EngineConfig::Emulated(emulation) => emulation.costs.at(u64::MAX).rows_max(),
            EngineConfig::Onnx { .. } => max_batch.unwrap_or(MAX_BATCH_DEFAULT),
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
    let stray = stray.or_else(|| file.input.first().map(|table| ("[[input]]", table.span())));
    let stray = stray.or_else(|| file.output.first().map(|table| ("[[output]]", table.span())));
    if let Some((table, span)) = stray {
        let problem = format!(
            "{table} is for emulated models only: add engine = \"emulated\", or remove it (an \
             ONNX file says itself what it takes and gives)"
        );
        return Err(source.refuse(Some(span), problem));
    }
    let choice = match file.engine {
        Some(EngineName::Onnxruntime) => EngineChoice::Onnxruntime,
        Some(EngineName::Rten) => EngineChoice::Rten,
        Some(EngineName::Emulated) | None => EngineChoice::Best,
    };
    let settings = graph.resolve(source, choice)?;
    let generate = file.generate.map(Spanned::into_inner);
    let file = match file.file {
        Some(name) => Some(file_name_of(source, &name)?),
        None => inherited_file,
    };
    Ok(EngineConfig::Onnx { settings, file, generate })
}

/// The name of a file in a version's directory.
fn file_name_of(source: &TomlSource, value: &Spanned<String>) -> Result<String, ConfigError> {
    let name = value.get_ref();
    if is_file_name(name) {
        return Ok(name.clone());
    }
    let problem =
        format!("file = {name:?} is not in the version's directory: give the name of a file there");
    Err(source.refuse(Some(value.span()), problem))
}

/// Whether a text names something in a directory, and nothing outside of it.
pub(super) fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != ".."
}

/// A shape without its batch dimension.
fn shape(source: &TomlSource, dims: &Spanned<Vec<i64>>) -> Result<Vec<usize>, ConfigError> {
    let sizes = dims.get_ref().iter().map(|&dim| usize::try_from(dim).ok().filter(|&dim| dim > 0));
    sizes.collect::<Option<_>>().ok_or_else(|| {
        let problem = format!(
            "shape {:?}: give every dimension but the batch dimension, each at least 1",
            dims.get_ref()
        );
        source.refuse(Some(dims.span()), problem)
    })
}

fn emulated(
    source: &TomlSource,
    file: &File,
    graph: &GraphKeys,
    max_batch: Option<u32>,
) -> Result<EngineConfig, ConfigError> {
    let stray = file.generate.as_ref().map(|value| ("generate", value.span()));
    let stray = stray.or_else(|| file.file.as_ref().map(|value| ("file", value.span())));
    let stray = stray.or_else(|| graph.stray());
    if let Some((key, span)) = stray {
        let problem =
            format!("{key} does not go with engine = \"emulated\", which runs no ONNX file");
        return Err(source.refuse(Some(span), problem));
    }
    let Some(table) = &file.emulated else {
        let problem = "engine = \"emulated\" needs a table [emulated] with alpha_ms and beta_ms, \
                       or with latency_ms = [time of 1 row, of 2 rows, …]";
        return Err(source.refuse(None, problem));
    };
    let profile = emulated_profile(source, table, max_batch)?;
    let open = open_dimension(source, table)?;
    let (rows_max, dimensions) = (profile.rows_max(), open.as_slice());
    let mut inputs = tensors(source, "input", &file.input, (rows_max, dimensions))?;
    let outputs = tensors(source, "output", &file.output, (rows_max, &[]))?;
    let padded = (table.get_ref().padded && open.is_some()).then_some(0);
    if padded.is_some() {
        // What it is padded with is never computed with: zeros, or the empty text.
        for input in inputs.iter_mut().filter(|input| input.shape.contains(&Dim::Open(0))) {
            input.fill = Some(vec![0; input.datatype.size().unwrap_or(size_of::<u32>())].into());
        }
    }
    let dimensions = open.into_iter().collect();
    let signature = Signature { inputs, outputs, dimensions, padded };
    let costs = Arc::new(emulated_costs(source, table, &signature, profile)?);
    Ok(EngineConfig::Emulated(EmulatedModel { costs, signature }))
}

/// The dimension that inputs of an emulated model may leave open.
fn open_dimension(
    source: &TomlSource,
    table: &Spanned<EmulatedTable>,
) -> Result<Option<OpenDimension>, ConfigError> {
    let Some(max) = &table.get_ref().open_max else { return Ok(None) };
    match usize::try_from(*max.get_ref()) {
        Ok(max @ 1..=EMULATED_OPEN_MAX) => Ok(Some(OpenDimension { name: "size".to_owned(), max })),
        _ => {
            let problem = format!("open_max: give a number from 1 to {EMULATED_OPEN_MAX}");
            Err(source.refuse(Some(max.span()), problem))
        }
    }
}

/// What batches of an emulated model take at its smallest and its largest size.
fn emulated_costs(
    source: &TomlSource,
    table: &Spanned<EmulatedTable>,
    signature: &Signature,
    profile: Profile,
) -> Result<SizedProfile, ConfigError> {
    let Some(element) = &table.get_ref().element_us else {
        return Ok(SizedProfile::fixed(1, profile));
    };
    let of_element = latency_span(source, "element_us", element.get_ref() / 1e3, element.span())?;
    let refuse = |problem: String| source.refuse(Some(element.span()), problem);
    let at = |open: usize| {
        let size = signature.size(&vec![open; signature.dimensions.len()]);
        let more = of_element.times(size);
        let exec = |rows: u32| profile.exec(rows) + more.times(u64::from(rows));
        let larger = Profile::from_table((1..=profile.rows_max()).map(exec).collect())?;
        Ok((size, larger.with_spread(&[(1, profile.spread(1))])))
    };
    let largest = signature.dimensions.first().map_or(1, |dimension| dimension.max);
    let sizes = if largest > 1 { vec![1, largest] } else { vec![1] };
    let measured: Result<Vec<_>, ProfileError> = sizes.into_iter().map(at).collect();
    let measured = measured.map_err(|error| refuse(error.to_string()))?;
    SizedProfile::new(measured).map_err(|error| refuse(error.to_string()))
}

fn emulated_profile(
    source: &TomlSource,
    table: &Spanned<EmulatedTable>,
    max_batch: Option<u32>,
) -> Result<Profile, ConfigError> {
    let values = table.get_ref();
    let refuse = |problem: String| source.refuse(Some(table.span()), problem);
    let profile = match &values.latency_ms {
        Some(_) if values.alpha_ms.is_some() || values.beta_ms.is_some() => {
            return Err(refuse("give either alpha_ms and beta_ms or latency_ms, not both".into()));
        }
        Some(latency) => {
            let times = latency.get_ref();
            let span = latency.span();
            let rows = rows_of_table(times.len(), max_batch)
                .map_err(|problem| source.refuse(Some(span.clone()), problem))?;
            let times = times.iter().take(rows);
            let spans = times.map(|&ms| latency_span(source, "latency_ms", ms, span.clone()));
            Profile::from_table(spans.collect::<Result<_, _>>()?)
        }
        None if values.alpha_ms.is_none() && values.beta_ms.is_none() => {
            return Err(refuse("[emulated] needs alpha_ms and beta_ms, or latency_ms".into()));
        }
        None => {
            let coefficient = |key, value: &Option<Spanned<f64>>| match value {
                Some(value) => latency_span(source, key, *value.get_ref(), value.span()),
                None => Ok(Span::ZERO),
            };
            Profile::linear(
                coefficient("alpha_ms", &values.alpha_ms)?,
                coefficient("beta_ms", &values.beta_ms)?,
                max_batch.unwrap_or(MAX_BATCH_DEFAULT),
            )
        }
    };
    let profile = profile.map_err(|error| refuse(error.to_string()))?;
    Ok(profile.with_spread(&[(1, emulated_spread(source, table)?)]))
}

fn emulated_spread(
    source: &TomlSource,
    table: &Spanned<EmulatedTable>,
) -> Result<f64, ConfigError> {
    let Some(spread) = &table.get_ref().spread else { return Ok(0.0) };
    if (0.0..=1.0).contains(spread.get_ref()) {
        return Ok(*spread.get_ref());
    }
    let problem = "spread: give a share of the time from 0 to 1";
    Err(source.refuse(Some(spread.span()), problem))
}

/// How many entries of a latency table are used.
fn rows_of_table(entries: usize, max_batch: Option<u32>) -> Result<usize, String> {
    let rows = max_batch.map_or(entries, |rows| rows as usize);
    if rows > entries {
        return Err(format!(
            "latency_ms has {entries} entries but max_batch = {rows}: give one for every batch \
             size from 1, or lower max_batch"
        ));
    }
    if rows > MAX_BATCH_LIMIT as usize {
        return Err(format!("latency_ms has {entries} entries: {MAX_BATCH_LIMIT} at most"));
    }
    Ok(rows)
}

fn latency_span(
    source: &TomlSource,
    key: &str,
    ms: f64,
    at: std::ops::Range<usize>,
) -> Result<Span, ConfigError> {
    if (0.0..=DAY_MS).contains(&ms) {
        return Ok(Span::from_millis_f64(ms));
    }
    let problem =
        format!("{key}: {ms} is no latency: give milliseconds from 0 to {DAY_MS} (a day)");
    Err(source.refuse(Some(at), problem))
}

fn tensors(
    source: &TomlSource,
    role: &str,
    tables: &[Spanned<TensorTable>],
    (rows_max, open): (u32, &[OpenDimension]),
) -> Result<Vec<TensorSpec>, ConfigError> {
    if tables.is_empty() {
        let problem = format!(
            "engine = \"emulated\" needs at least one [[{role}]] with name, datatype and shape \
             (without the batch dimension)"
        );
        return Err(source.refuse(None, problem));
    }
    let mut names = BTreeSet::new();
    let mut specs = Vec::new();
    for table in tables {
        let spec = tensor(source, table.get_ref(), !open.is_empty())?;
        if spec.name.is_empty() || !names.insert(spec.name.clone()) {
            let problem = format!("{role} {:?}: give every {role} a name of its own", spec.name);
            return Err(source.refuse(Some(table.get_ref().name.span()), problem));
        }
        specs.push(spec);
    }
    let dimensions = Signature { dimensions: open.to_vec(), ..Signature::default() };
    match limits::excess(&dimensions, &specs, rows_max) {
        None => Ok(specs),
        Some((at, excess)) => {
            let problem = format!("{role} {:?}: {excess}", specs[at].name);
            Err(source.refuse(Some(tables[at].get_ref().shape.span()), problem))
        }
    }
}

/// An input or output of an emulated model. Where it may be open, -1 is the dimension that is.
fn tensor(
    source: &TomlSource,
    table: &TensorTable,
    may_be_open: bool,
) -> Result<TensorSpec, ConfigError> {
    let datatype: DataType = (table.datatype.get_ref().parse())
        .map_err(|error| source.refuse(Some(table.datatype.span()), format!("{error}")))?;
    let name = table.name.get_ref();
    let dims = table.shape.get_ref();
    if !may_be_open || !dims.contains(&-1) {
        return Ok(TensorSpec::of_rows(name, datatype, &shape(source, &table.shape)?));
    }
    let known = dims.iter().map(|dim| if *dim == -1 { 1 } else { *dim }).collect();
    let known = shape(source, &Spanned::new(table.shape.span(), known))?;
    let dim = |(dim, size): (&i64, usize)| match dim {
        -1 => Dim::Open(0),
        _ => Dim::Fixed(size),
    };
    let row = dims.iter().zip(known).map(dim);
    Ok(TensorSpec::new(name, datatype, [Dim::Batch].into_iter().chain(row).collect()))
}

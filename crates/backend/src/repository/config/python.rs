//! The keys of `model.toml` that describe a model which a Python process runs.

use super::super::error::ConfigError;
use super::super::source::TomlSource;
use super::graph::{GraphKeys, max_size};
use super::inherited::{Inherited, InheritedTensor};
use super::tensors::Tensors;
use super::written::{DAY_MS, File, PythonTable, file_name_of};
use std::collections::BTreeMap;
use std::time::Duration;
use symphony_wire::tensor::{Dim, OpenDimension, Signature, TensorSpec};
use toml::Spanned;

/// The name of the engine in configurations.
const ENGINE: &str = "python";
/// The longest that a batch may take, where nothing is said.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// The largest size of an open dimension where nothing is said, until the model is tried out.
const SIZE_MAX: usize = 1 << 20;
/// The largest memory of a process that can be asked for, in mebibytes.
const MEMORY_MIB_LIMIT: i64 = 1 << 24;

/// A model that a Python process runs.
#[derive(Clone, Debug, PartialEq)]
pub struct PythonModel {
    /// The name of the file in the version's directory, where it is set.
    pub file: Option<String>,
    /// What it takes and gives. Dimensions of an output may be unknown.
    pub signature: Signature,
    /// For each open dimension, whether the settings bound it.
    pub bounds: Vec<TensorBounds>,
    /// How it is run.
    pub options: PythonOptions,
    /// What the script is given besides, from `[parameters]`.
    pub parameters: toml::Table,
}

/// Who bounds an open dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorBounds {
    /// `max_size`.
    Configured,
    /// Nobody: what the model runs at is found out.
    Free,
}

/// How a Python process runs a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonOptions {
    /// PyTorch's name of the device, such as `cuda:0`; none where the script decides.
    pub device: Option<String>,
    /// Whether `torch.compile` compiles the model.
    pub compile: bool,
    /// Whether executions are recorded as CUDA graphs and replayed.
    pub cuda_graphs: bool,
    /// The most memory that its process may take, in bytes.
    pub memory_max: Option<u64>,
    /// A batch that takes longer has failed, and its process is killed.
    pub timeout: Duration,
}

impl Default for PythonOptions {
    fn default() -> PythonOptions {
        PythonOptions {
            device: None,
            compile: false,
            cuda_graphs: false,
            memory_max: None,
            timeout: TIMEOUT_DEFAULT,
        }
    }
}

/// The open dimensions of a model, as its inputs name them.
#[derive(Debug, Default)]
struct Opened {
    dimensions: Vec<OpenDimension>,
    bounds: Vec<TensorBounds>,
    max_size: BTreeMap<String, usize>,
}

impl Opened {
    /// An open dimension of an input, by its position in a row. It is another one than those of other
    /// inputs, unless both have the same name. Without one it is called as in ONNX models: by the
    /// input and the position behind the batch dimension.
    fn of_input(&mut self, input: &str, at: usize, name: Option<&str>) -> Option<Dim> {
        let name = name.map_or_else(|| format!("{input}.{}", at + 1), str::to_owned);
        let known = self.dimensions.iter().position(|dimension| dimension.name == name);
        let index = known.unwrap_or_else(|| {
            let max = self.max_size.remove(&name);
            let bound = if max.is_some() { TensorBounds::Configured } else { TensorBounds::Free };
            self.bounds.push(bound);
            self.dimensions.push(OpenDimension { name, max: max.unwrap_or(SIZE_MAX) });
            self.dimensions.len() - 1
        });
        Some(Dim::Open(index.try_into().ok()?))
    }

    /// An open dimension of an output: that of the inputs of this name, or one that is observed.
    fn of_output(&self, name: Option<&str>) -> Option<Dim> {
        let Some(name) = name else { return Some(Dim::Unknown) };
        let index = self.dimensions.iter().position(|dimension| dimension.name == name)?;
        Some(Dim::Open(index.try_into().ok()?))
    }
}

/// What the file says of a model that a Python process runs, over what another file says.
pub(super) fn python(
    source: &TomlSource,
    mut file: File,
    mut graph: GraphKeys,
    inherited: &Inherited,
) -> Result<PythonModel, ConfigError> {
    let sizes = std::mem::take(&mut graph.max_size);
    refuse_strays(source, &file, &graph)?;
    let max_size = sizes.iter().map(|(name, size)| {
        let max = max_size(source, name, size)?;
        Ok((name.clone(), max))
    });
    let mut opened =
        Opened { max_size: max_size.collect::<Result<_, ConfigError>>()?, ..Opened::default() };
    let of_inputs = Tensors { source, engine: ENGINE, role: "input", tables: &file.input };
    let of_outputs = Tensors { role: "output", tables: &file.output, ..of_inputs };
    // Triton's models have no batch dimension unless they say how large a batch may be.
    let is_batched = inherited.max_batch.is_some_and(|rows| rows > 0);
    let inputs = match (&file.input[..], &inherited.inputs[..]) {
        ([], tensors @ [_, ..]) => tensors
            .iter()
            .map(|tensor| spec(tensor, is_batched, |at| opened.of_input(&tensor.name, at, None)))
            .collect(),
        _ => of_inputs.read(|input, at, name| opened.of_input(input, at, name))?,
    };
    let outputs = match (&file.output[..], &inherited.outputs[..]) {
        ([], tensors @ [_, ..]) => {
            tensors.iter().map(|tensor| spec(tensor, is_batched, |_| Some(Dim::Unknown))).collect()
        }
        _ => of_outputs.read(|_, _, name| opened.of_output(name))?,
    };
    if let Some(name) = opened.max_size.keys().next() {
        let known: Vec<_> = opened.dimensions.iter().map(|open| open.name.as_str()).collect();
        let problem = format!(
            "max_size of {name:?}: no input has such a dimension (open are: {})",
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        );
        return Err(source.refuse(sizes.get(name).map(Spanned::span), problem));
    }
    let Opened { dimensions, bounds, .. } = opened;
    check_memory(&of_inputs, &inputs, &dimensions, &bounds)?;
    check_memory(&of_outputs, &outputs, &dimensions, &bounds)?;
    let signature = Signature { inputs, outputs, dimensions, padded: None };
    let options = options(source, file.python.take().map(Spanned::into_inner))?;
    let parameters = file.parameters.take().map(Spanned::into_inner).unwrap_or_default();
    let file = match &file.file {
        Some(name) => Some(file_name_of(source, name)?),
        None => inherited.file.clone(),
    };
    Ok(PythonModel { file, signature, bounds, options, parameters })
}

/// Refuses rows that are too large, whatever the size of dimensions that nobody bounds.
fn check_memory(
    tensors: &Tensors<'_>,
    specs: &[TensorSpec],
    dimensions: &[OpenDimension],
    bounds: &[TensorBounds],
) -> Result<(), ConfigError> {
    let known = dimensions.iter().zip(bounds).map(|(open, bound)| {
        let max = if *bound == TensorBounds::Configured { open.max } else { 1 };
        OpenDimension { max, ..open.clone() }
    });
    let signature = Signature { dimensions: known.collect(), ..Signature::default() };
    tensors.check(specs, &signature, 1)
}

/// Refuses what says nothing of such a model.
fn refuse_strays(source: &TomlSource, file: &File, graph: &GraphKeys) -> Result<(), ConfigError> {
    let stray = file.generate.as_ref().map(|value| ("generate", value.span()));
    let stray = stray.or_else(|| file.emulated.as_ref().map(|table| ("[emulated]", table.span())));
    let Some((key, span)) = stray.or_else(|| graph.stray()) else { return Ok(()) };
    let problem = format!("{key} does not go with engine = \"python\", which runs no ONNX file");
    Err(source.refuse(Some(span), problem))
}

fn spec(
    tensor: &InheritedTensor,
    is_batched: bool,
    mut open: impl FnMut(usize) -> Option<Dim>,
) -> TensorSpec {
    let row = tensor.dims.iter().enumerate();
    let row =
        row.map(|(at, size)| size.map_or_else(|| open(at).unwrap_or(Dim::Unknown), Dim::Fixed));
    TensorSpec::new(
        &tensor.name,
        tensor.datatype,
        is_batched.then_some(Dim::Batch).into_iter().chain(row).collect(),
    )
}

fn options(source: &TomlSource, table: Option<PythonTable>) -> Result<PythonOptions, ConfigError> {
    let Some(table) = table else { return Ok(PythonOptions::default()) };
    let timeout = match table.timeout_s {
        None => TIMEOUT_DEFAULT,
        Some(seconds) if *seconds.get_ref() > 0.0 && *seconds.get_ref() <= DAY_MS / 1e3 => {
            Duration::from_secs_f64(*seconds.get_ref())
        }
        Some(seconds) => {
            let problem = format!(
                "timeout_s = {} is not allowed: give seconds above 0 and at most a day",
                seconds.get_ref()
            );
            return Err(source.refuse(Some(seconds.span()), problem));
        }
    };
    let memory_max = match table.memory_mib {
        None => None,
        Some(mib) if (1..=MEMORY_MIB_LIMIT).contains(mib.get_ref()) => {
            Some(mib.get_ref().unsigned_abs() << 20)
        }
        Some(mib) => {
            let problem = format!(
                "memory_mib = {} is not allowed: give mebibytes from 1 to {MEMORY_MIB_LIMIT}",
                mib.get_ref()
            );
            return Err(source.refuse(Some(mib.span()), problem));
        }
    };
    let PythonTable { device, compile, cuda_graphs, .. } = table;
    Ok(PythonOptions { device, compile, cuda_graphs, memory_max, timeout })
}

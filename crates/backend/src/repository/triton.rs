//! Triton's `config.pbtxt`: what its keys mean here, resolved once.
//!
//! A key is mapped to one of `model.toml`, or it is *noted*: the log and `--check` say what is done
//! in its place. A file that asks for something without which its model would be served wrongly is
//! refused. What the file says of inputs and outputs is held against the graph later, by
//! [`contract`](crate::contract).

mod keys;

pub use keys::Note;

use super::config::{Inherited, InheritedTensor, is_file_name};
use super::error::ConfigError;
use super::source::read_text;
use super::versions::{self, VersionPolicy};
use crate::contract::graph_dims;
use crate::view::Reshapes;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use symphony_core::{Class, Span};
use symphony_triton::proto::model_config::SchedulingChoice;
use symphony_triton::proto::model_version_policy::PolicyChoice;
use symphony_triton::proto::{
    self, ModelConfig, ModelDynamicBatching, ModelInput, ModelOutput, ModelQueuePolicy,
    ModelVersionPolicy, model_queue_policy,
};
use symphony_wire::tensor::DataType;

/// The file's name.
pub(super) const FILE: &str = "config.pbtxt";

/// A model's `config.pbtxt`.
#[derive(Clone, Debug)]
pub struct TritonFile {
    path: PathBuf,
    text: String,
    config: Arc<ModelConfig>,
}

impl TritonFile {
    /// Reads the file of a model's directory, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or is no configuration; the error has line and column.
    pub(super) fn read(directory: &Path) -> Result<Option<TritonFile>, ConfigError> {
        let path = directory.join(FILE);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            _ => {}
        }
        let text = read_text(&path)?;
        TritonFile::parse(path, text).map(Some)
    }

    fn parse(path: PathBuf, text: String) -> Result<TritonFile, ConfigError> {
        match symphony_triton::parse(&text) {
            Ok(config) => Ok(TritonFile { path, text, config: Arc::new(config) }),
            Err(error) => Err(ConfigError::Syntax {
                path,
                line: error.line,
                column: error.column,
                problem: error.problem,
            }),
        }
    }

    /// The text, for a comparison with another state of it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says.
    #[must_use]
    pub fn config(&self) -> &Arc<ModelConfig> {
        &self.config
    }

    /// What is done in place of what its keys ask for, a line each.
    #[must_use]
    pub fn notes(&self) -> Vec<Note> {
        keys::notes(&self.config)
    }

    /// What it says where `model.toml` says nothing.
    ///
    /// # Errors
    /// It is another model's, or asks for something that is not served.
    pub(super) fn inherited(&self, name: &str) -> Result<Inherited, ConfigError> {
        let terms = self.check_name(name).and_then(|()| keys::check(&self.config));
        terms.and_then(|()| inherited(&self.config)).map_err(|problem| self.refuse(problem))
    }

    /// The refusal of what the file says.
    #[must_use]
    pub fn refuse(&self, problem: String) -> ConfigError {
        ConfigError::Invalid { path: self.path.clone(), line: None, problem }
    }

    fn check_name(&self, name: &str) -> Result<(), String> {
        let given = &self.config.name;
        if given.is_empty() || given == name {
            return Ok(());
        }
        Err(format!(
            "name = {given:?}, and the directory is {name:?}: rename one of them, or leave name out"
        ))
    }
}

fn inherited(config: &ModelConfig) -> Result<Inherited, String> {
    let mut terms = Inherited {
        versions: config.version_policy.as_ref().map(version_policy).transpose()?.flatten(),
        file: Some(config.default_model_filename.clone()).filter(|file| !file.is_empty()),
        max_batch: config.max_batch_size.map(max_batch).transpose()?,
        shapes: shapes(config),
        reshape: reshapes(config),
        custom_ops: custom_ops(config)?,
        is_python: keys::is_python(config),
        ..Inherited::default()
    };
    if terms.is_python {
        terms.inputs = config.input.iter().map(input).collect::<Result<_, _>>()?;
        terms.outputs = config.output.iter().map(output).collect::<Result<_, _>>()?;
    }
    if terms.file.as_ref().is_some_and(|file| !is_file_name(file)) {
        return Err(format!(
            "default_model_filename = {:?} is not in the version's directory: give the name of a \
             file there",
            config.default_model_filename
        ));
    }
    if let Some(SchedulingChoice::DynamicBatching(batching)) = &config.scheduling_choice {
        terms.class = class(batching)?;
        if let Some(policy) = &batching.default_queue_policy {
            terms.queue_max = Some(policy.max_queue_size).filter(|most| *most > 0);
            terms.queue_timeout = queue_timeout(policy);
        }
    }
    Ok(terms)
}

/// An input as the file describes it.
fn input(input: &ModelInput) -> Result<InheritedTensor, String> {
    tensor(&input.name, input.data_type(), &input.dims)
}

fn output(output: &ModelOutput) -> Result<InheritedTensor, String> {
    tensor(&output.name, output.data_type(), &output.dims)
}

fn tensor(name: &str, datatype: proto::DataType, dims: &[i64]) -> Result<InheritedTensor, String> {
    let unknown = || format!("data_type of {name:?} is missing or none that is served");
    let known = datatype.as_str_name().strip_prefix("TYPE_").and_then(|short| match short {
        "STRING" => Some(DataType::Bytes),
        short => short.parse().ok(),
    });
    let datatype = known.ok_or_else(unknown)?;
    Ok(InheritedTensor { name: name.to_owned(), datatype, dims: sizes(dims) })
}

/// What the file says of the graph's inputs: what it fixes of open dimensions, and whether the
/// first of them is one of a row. With the latter there is no batch dimension.
fn shapes(config: &ModelConfig) -> Reshapes {
    let dims = |input: &ModelInput| {
        let dims = graph_dims(&input.dims, input.reshape.as_ref())?;
        Some((input.name.clone(), sizes(dims)))
    };
    config.input.iter().filter_map(dims).collect()
}

/// The shapes in which clients see what is reshaped.
fn reshapes(config: &ModelConfig) -> Reshapes {
    let inputs = config.input.iter().filter(|input| input.reshape.is_some());
    let inputs = inputs.map(|input| (&input.name, &input.dims));
    let outputs = config.output.iter().filter(|output| output.reshape.is_some());
    let outputs = outputs.map(|output| (&output.name, &output.dims));
    inputs.chain(outputs).map(|(name, dims)| (name.clone(), sizes(dims))).collect()
}

fn sizes(dims: &[i64]) -> Vec<Option<usize>> {
    dims.iter().map(|dim| usize::try_from(*dim).ok().filter(|size| *size > 0)).collect()
}

/// The library of operators.
fn custom_ops(config: &ModelConfig) -> Result<Option<PathBuf>, String> {
    let operations = config.model_operations.as_ref();
    match operations.map(|operations| &operations.op_library_filename[..]) {
        None | Some([]) => Ok(None),
        Some([library]) => Ok(Some(PathBuf::from(library))),
        Some(libraries) => Err(format!(
            "model_operations names {} libraries of operators: one can be opened for a model; \
             link them into one",
            libraries.len()
        )),
    }
}

fn max_batch(rows: i32) -> Result<u32, String> {
    u32::try_from(rows).map_err(|_| {
        format!("max_batch_size = {rows} is not allowed: give the rows of the largest batch, or 0")
    })
}

fn version_policy(policy: &ModelVersionPolicy) -> Result<Option<VersionPolicy>, String> {
    let Some(choice) = &policy.policy_choice else { return Ok(None) };
    let policy = match choice {
        PolicyChoice::All(_) => Some(VersionPolicy::All),
        // Left out, it is 1.
        PolicyChoice::Latest(latest) => {
            let count = usize::try_from(latest.num_versions.max(1)).ok();
            count.map(VersionPolicy::Latest)
        }
        PolicyChoice::Specific(specific) => {
            versions::specific(specific.versions.iter().map(|version| Some(*version)))
        }
    };
    let problem = || {
        "version_policy: specific names no version: give the numbers of versions, such as \
         `specific { versions: [ 1, 3 ] }`"
            .to_owned()
    };
    policy.map(Some).ok_or_else(problem)
}

/// The class of requests that name no level: high in the upper half of the levels.
fn class(batching: &ModelDynamicBatching) -> Result<Option<Class>, String> {
    let (levels, level) = (batching.priority_levels, batching.default_priority_level);
    if levels == 0 {
        return Ok(None);
    }
    if !(1..=levels).contains(&level) {
        return Err(format!(
            "dynamic_batching: default_priority_level = {level} is none of the {levels} \
             priority_levels: give one from 1 to {levels}"
        ));
    }
    let is_high = level <= levels.div_ceil(2);
    Ok(Some(if is_high { Class::High } else { Class::Low }))
}

/// How long requests may wait for their batch before they are refused.
fn queue_timeout(policy: &ModelQueuePolicy) -> Option<Span> {
    let is_refused = policy.timeout_action() == model_queue_policy::TimeoutAction::Reject;
    let timeout = policy.default_timeout_microseconds;
    (is_refused && timeout > 0).then(|| Span::from_micros(timeout))
}

#[cfg(test)]
mod tests;

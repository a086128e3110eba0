//! The keys of `config.pbtxt` that have no counterpart here: those with which a model is served all
//! the same, and what is done instead; and those without which it would be served wrongly.

use symphony_triton::proto::model_config::SchedulingChoice;
use symphony_triton::proto::{
    ModelConfig, ModelDynamicBatching, ModelInput, ModelOutput, ModelQueuePolicy, model_input,
    model_queue_policy,
};

/// What is done in place of what a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The key, with those that it is in.
    pub key: &'static str,
    /// What is done.
    pub instead: String,
}

/// Whether a file has a key.
type IsThere = fn(&ModelConfig) -> bool;

/// Keys with which a model is served all the same, and what is done instead.
const NOTED: &[(&str, IsThere, &str)] = &[
    (
        "instance_group",
        |config| !config.instance_group.is_empty(),
        "one instance runs on each accelerator; --accelerators and --threads divide the cores, and \
         GPUs are not used yet",
    ),
    (
        "optimization",
        |config| config.optimization.is_some(),
        "the engine optimises the graph in its own way",
    ),
    (
        "model_warmup",
        |config| !config.model_warmup.is_empty(),
        "every load runs one row and the largest batch before the model serves",
    ),
    (
        "response_cache",
        |config| config.response_cache.as_ref().is_some_and(|cache| cache.enable),
        "answers are not kept: every request runs",
    ),
    (
        "parameters",
        |config| !config.parameters.is_empty(),
        "given back with the configuration, and without effect; --threads sets an engine's threads",
    ),
    (
        "metric_tags",
        |config| !config.metric_tags.is_empty(),
        "metrics have the labels model and version",
    ),
    (
        "model_metrics",
        |config| config.model_metrics.is_some(),
        "histograms have the buckets that docs/metrics.md lists",
    ),
    (
        "model_repository_agents",
        |config| config.model_repository_agents.is_some(),
        "no agent runs: the files are read as they are",
    ),
    (
        "cc_model_filenames",
        |config| !config.cc_model_filenames.is_empty(),
        "one file serves on every machine",
    ),
    ("runtime", |config| !config.runtime.is_empty(), "the engine is onnxruntime, or else rten"),
    (
        "dynamic_batching.preferred_batch_size",
        |config| batching(config).is_some_and(|found| !found.preferred_batch_size.is_empty()),
        "the load and the objective decide how large batches are",
    ),
    (
        "dynamic_batching.max_queue_delay_microseconds",
        |config| batching(config).is_some_and(|found| found.max_queue_delay_microseconds > 0),
        "the load and the objective decide how long a batch waits",
    ),
    (
        "dynamic_batching.preserve_ordering",
        |config| batching(config).is_some_and(|found| found.preserve_ordering),
        "answers leave when they are ready; on a gRPC stream they keep their order",
    ),
    (
        "dynamic_batching.priority_levels",
        |config| batching(config).is_some_and(|found| found.priority_levels > 0),
        "there are two levels: 1 is high and 2 is low; requests that name none are high if their \
         default is in the upper half of the levels",
    ),
    (
        "dynamic_batching.priority_queue_policy",
        |config| batching(config).is_some_and(|found| !found.priority_queue_policy.is_empty()),
        "both levels have the default queue policy",
    ),
    (
        "dynamic_batching.default_queue_policy.timeout_action",
        |config| {
            let delays = model_queue_policy::TimeoutAction::Delay;
            queue_policy(config).is_some_and(|policy| policy.timeout_action() == delays)
        },
        "a request that is late is not set back: the time-out has no effect",
    ),
    (
        "input.format",
        |config| {
            let none = model_input::Format::None;
            config.input.iter().any(|input| input.format() != none)
        },
        "the layout is the graph's own: nothing is transposed",
    ),
    (
        "output.label_filename",
        |config| config.output.iter().any(|output| !output.label_filename.is_empty()),
        "outputs are answered as tensors: there is no classification by labels",
    ),
];

/// Keys without which a model would be served wrongly, and what to do.
const REFUSED: &[(&str, IsThere, &str)] = &[
    (
        "sequence_batching",
        |config| matches!(config.scheduling_choice, Some(SchedulingChoice::SequenceBatching(_))),
        "there are no sequences here, every request stands alone: have clients send the state as \
         an input, or leave this model to Triton",
    ),
    (
        "ensemble_scheduling",
        |config| matches!(config.scheduling_choice, Some(SchedulingChoice::EnsembleScheduling(_))),
        "there are no ensembles here: have clients call its models one after the other, or leave \
         it to Triton",
    ),
    (
        "model_transaction_policy.decoupled",
        |config| config.model_transaction_policy.as_ref().is_some_and(|policy| policy.decoupled),
        "every request has one answer here: leave this model to Triton",
    ),
    (
        "batch_input",
        |config| !config.batch_input.is_empty(),
        "no input is made from the batch here: have the graph compute it, or leave this model to \
         Triton",
    ),
    (
        "batch_output",
        |config| !config.batch_output.is_empty(),
        "outputs are split by rows only: leave this model to Triton",
    ),
    (
        "allow_ragged_batch",
        |config| config.input.iter().any(|input| input.allow_ragged_batch),
        "requests of different shapes are not joined in one flat tensor here: leave it out (they \
         run in batches of equal shapes), or leave this model to Triton",
    ),
    (
        "is_shape_tensor",
        |config| any(config, |input| input.is_shape_tensor, |output| output.is_shape_tensor),
        "shape tensors are TensorRT's: leave this model to Triton",
    ),
    (
        "is_non_linear_format_io",
        |config| {
            any(
                config,
                |input| input.is_non_linear_format_io,
                |output| output.is_non_linear_format_io,
            )
        },
        "such formats are TensorRT's: leave this model to Triton",
    ),
];

/// Names of what runs ONNX files and Python models, as `platform` and as `backend`.
const PLATFORMS: [&str; 2] = ["onnxruntime_onnx", TORCH_PLATFORM];
const BACKENDS: [&str; 3] = ["onnxruntime", PYTHON_BACKEND, TORCH_BACKEND];
const PYTHON_BACKEND: &str = "python";
const TORCH_PLATFORM: &str = "pytorch_libtorch";
const TORCH_BACKEND: &str = "pytorch";

/// What is done in place of what keys ask for.
pub(super) fn notes(config: &ModelConfig) -> Vec<Note> {
    let there = NOTED.iter().filter(|(_, is_there, _)| is_there(config));
    there.map(|(key, _, instead)| Note { key, instead: (*instead).to_owned() }).collect()
}

/// Refuses what would be served wrongly.
pub(super) fn check(config: &ModelConfig) -> Result<(), String> {
    // First, because it says more of an ensemble than its platform does.
    for (key, is_there, problem) in REFUSED {
        if is_there(config) {
            return Err(format!("{key}: {problem}"));
        }
    }
    for (key, value, ours) in [
        ("platform", &config.platform, &PLATFORMS[..]),
        ("backend", &config.backend, &BACKENDS[..]),
    ] {
        if !value.is_empty() && !ours.contains(&value.as_str()) {
            return Err(format!(
                "{key} = {value:?} is not served: there are engines for ONNX, Python and \
                 TorchScript models ({}); export the model to ONNX and set {key} to {:?}, or \
                 leave it to Triton",
                ours.join(", "),
                ours[0]
            ));
        }
    }
    Ok(())
}

/// Whether a Python process runs the model.
pub(super) fn is_python(config: &ModelConfig) -> bool {
    [PYTHON_BACKEND, TORCH_BACKEND].contains(&config.backend.as_str())
        || config.platform == TORCH_PLATFORM
}

fn batching(config: &ModelConfig) -> Option<&ModelDynamicBatching> {
    match &config.scheduling_choice {
        Some(SchedulingChoice::DynamicBatching(batching)) => Some(batching),
        _ => None,
    }
}

fn queue_policy(config: &ModelConfig) -> Option<&ModelQueuePolicy> {
    batching(config)?.default_queue_policy.as_ref()
}

fn any(
    config: &ModelConfig,
    of_input: fn(&ModelInput) -> bool,
    of_output: fn(&ModelOutput) -> bool,
) -> bool {
    config.input.iter().any(of_input) || config.output.iter().any(of_output)
}

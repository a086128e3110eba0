//! What the server says of itself and of its models, as the protocol's own messages: gRPC sends
//! them, HTTP sends their JSON form. Reads the catalog and the counters; changes nothing.

use crate::error::InferError;
use crate::metrics::{Counter, ModelHandle};
use crate::priority;
use crate::proto;
use serde::Serializer;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use symphony_wire::catalog::{Catalog, Intake, ModelState, ServedModel};
use symphony_wire::schedule::ModelStatistics;
use symphony_wire::tensor::{DataType, TensorSpec};

/// The protocol extensions that clients may rely on.
const EXTENSIONS: [&str; 5] =
    ["model_repository", "model_configuration", "binary_tensor_data", "parameters", "statistics"];

/// How many served models an error names.
const NAMED_MAX: usize = 10;

/// The served model of this name, and of this version unless that is empty.
///
/// # Errors
/// It is unknown, or known and not served now.
pub(crate) fn find<'a>(
    catalog: &'a Catalog,
    name: &str,
    version: &str,
) -> Result<&'a Arc<ServedModel>, InferError> {
    match catalog.models.get(name) {
        Some(model) if version.is_empty() || model.version == version => Ok(model),
        Some(model) => Err(InferError::NotFound(format!(
            "model {name:?} is not served in version {version:?}, only in version {:?}",
            model.version
        ))),
        None => Err(not_served(catalog, name)),
    }
}

fn not_served(catalog: &Catalog, name: &str) -> InferError {
    match catalog.index.iter().find(|entry| entry.name == name).map(|entry| &entry.state) {
        Some(ModelState::Unavailable(reason)) if reason.is_empty() => InferError::NotFound(
            format!("model {name:?} is not loaded: load it through the repository API first"),
        ),
        Some(ModelState::Unavailable(reason)) => {
            InferError::Unavailable(format!("model {name:?} is not available: {reason}"))
        }
        Some(ModelState::Loading | ModelState::Ready) => InferError::Unavailable(format!(
            "model {name:?} is still being loaded: wait until it is ready"
        )),
        None => {
            let mut served: Vec<_> =
                catalog.models.keys().take(NAMED_MAX).map(|name| format!("{name:?}")).collect();
            match catalog.models.len() {
                0 => served.push("none".to_owned()),
                count if count > NAMED_MAX => served.push(format!("{} more", count - NAMED_MAX)),
                _ => {}
            }
            let served = served.join(", ");
            InferError::NotFound(format!("unknown model {name:?}; served models: {served}"))
        }
    }
}

/// Whether requests, loads and unloads that arrive now are taken.
///
/// # Errors
/// The server shuts down and refuses them.
pub(crate) fn check_running(catalog: &Catalog) -> Result<(), InferError> {
    check_intake(catalog, Intake::Leaving)
}

/// Whether load balancers should send requests here.
///
/// # Errors
/// The server shuts down, or is about to.
pub(crate) fn check_staying(catalog: &Catalog) -> Result<(), InferError> {
    check_intake(catalog, Intake::Open)
}

fn check_intake(catalog: &Catalog, last: Intake) -> Result<(), InferError> {
    if catalog.intake > last {
        return Err(InferError::Unavailable("the server is shutting down".to_owned()));
    }
    Ok(())
}

/// Whether every start-up model is served.
///
/// # Errors
/// Not yet, or not for much longer.
pub(crate) fn check_loaded(catalog: &Catalog) -> Result<(), InferError> {
    check_staying(catalog)?;
    if catalog.ready {
        return Ok(());
    }
    Err(InferError::Unavailable(
        "the server is still loading its models: wait until it is ready".to_owned(),
    ))
}

/// Whether there is anything to run requests on, given how many accelerators serve.
///
/// # Errors
/// There is nothing.
pub(crate) fn check_serving(accelerators: u32) -> Result<(), InferError> {
    match accelerators {
        0 => Err(InferError::Unavailable(
            "no accelerator serves: each is drained or has stopped answering; \
             /v2/scheduler/accelerators tells which, and resumes those that were drained"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

pub(crate) fn server() -> proto::ServerMetadataResponse {
    proto::ServerMetadataResponse {
        name: "symphony".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).to_vec(),
    }
}

pub(crate) fn metadata(model: &ServedModel) -> proto::ModelMetadataResponse {
    let batched = model.signature.batched;
    let tensor = |spec: &TensorSpec| proto::model_metadata_response::TensorMetadata {
        name: spec.name.clone(),
        datatype: spec.datatype.name().to_owned(),
        shape: spec.wire_shape(batched),
    };
    proto::ModelMetadataResponse {
        name: model.name.clone(),
        versions: vec![model.version.clone()],
        platform: model.platform.clone(),
        inputs: model.signature.inputs.iter().map(tensor).collect(),
        outputs: model.signature.outputs.iter().map(tensor).collect(),
        properties: HashMap::new(),
    }
}

pub(crate) fn config(model: &ServedModel) -> proto::ModelConfig {
    let batched = model.signature.batched;
    let input = |spec: &TensorSpec| proto::ModelInput {
        name: spec.name.clone(),
        data_type: config_type(spec.datatype).into(),
        format: proto::model_input::Format::None.into(),
        dims: spec.wire_shape(false),
        optional: false,
    };
    let output = |spec: &TensorSpec| proto::ModelOutput {
        name: spec.name.clone(),
        data_type: config_type(spec.datatype).into(),
        dims: spec.wire_shape(false),
        label_filename: String::new(),
    };
    let text = |value: String| proto::ModelParameter { string_value: value };
    let rows_max = if batched { i32::try_from(model.rows_max).unwrap_or(i32::MAX) } else { 0 };
    proto::ModelConfig {
        name: model.name.clone(),
        platform: model.platform.clone(),
        backend: model.engine.clone(),
        version_policy: Some(proto::ModelVersionPolicy {
            latest: Some(proto::model_version_policy::Latest { num_versions: 1 }),
        }),
        max_batch_size: rows_max,
        input: model.signature.inputs.iter().map(input).collect(),
        output: model.signature.outputs.iter().map(output).collect(),
        default_model_filename: "model.onnx".to_owned(),
        dynamic_batching: batched.then(|| proto::ModelDynamicBatching {
            priority_levels: priority::LEVELS,
            default_priority_level: priority::level(model.class),
            ..proto::ModelDynamicBatching::default()
        }),
        parameters: HashMap::from([(
            "slo_ms".to_owned(),
            text(model.slo.as_millis_f64().to_string()),
        )]),
        model_transaction_policy: Some(proto::ModelTransactionPolicy { decoupled: false }),
    }
}

pub(crate) fn index(catalog: &Catalog, ready_only: bool) -> proto::RepositoryIndexResponse {
    let entries = catalog.index.iter().map(|entry| {
        let (state, reason) = match &entry.state {
            ModelState::Loading => ("LOADING", ""),
            ModelState::Ready => ("READY", ""),
            ModelState::Unavailable(reason) => ("UNAVAILABLE", reason.as_str()),
        };
        proto::repository_index_response::ModelIndex {
            name: entry.name.clone(),
            version: entry.version.clone(),
            state: state.to_owned(),
            reason: reason.to_owned(),
        }
    });
    let models = entries.filter(|entry| !ready_only || entry.state == "READY").collect();
    proto::RepositoryIndexResponse { models }
}

/// Refuses parameters of a load that would change what is loaded: what is served is what the
/// repository holds.
///
/// # Errors
/// There is such a parameter.
pub(crate) fn check_load_parameters<'a>(
    mut names: impl Iterator<Item = &'a str>,
) -> Result<(), InferError> {
    match names.find(|name| *name == "config" || name.starts_with("file:")) {
        None => Ok(()),
        Some(name) => Err(InferError::Unsupported(format!(
            "the load parameter {name:?} is not supported: \
             change the model's files in the repository instead"
        ))),
    }
}

/// The counters of one load of a model; those that the scheduler keeps are zero without it.
pub(crate) fn statistics(
    handle: &ModelHandle,
    scheduler: ModelStatistics,
) -> proto::ModelStatistics {
    let metrics = &handle.metrics;
    let good = metrics.good.get();
    let duration = |count: u64, ns: u64| Some(proto::StatisticDuration { count, ns });
    let over_good = |counter: &Counter| duration(good, counter.get());
    proto::ModelStatistics {
        name: metrics.name.clone(),
        version: metrics.version.clone(),
        last_inference: metrics.last_ms.load(Ordering::Relaxed),
        inference_count: metrics.rows.get(),
        execution_count: scheduler.batches,
        inference_stats: Some(proto::InferStatistics {
            success: over_good(&metrics.total_ns),
            fail: duration(metrics.failures(), metrics.fail_ns.get()),
            queue: over_good(&metrics.queue_ns),
            compute_input: over_good(&metrics.assembly_ns),
            compute_infer: over_good(&metrics.compute_ns),
            compute_output: over_good(&metrics.split_ns),
            cache_hit: duration(0, 0),
            cache_miss: duration(0, 0),
        }),
        batch_stats: batch_statistics(handle),
        memory_usage: Vec::new(),
    }
}

/// Executions by batch size: what all rows of one size saw, divided by that size.
fn batch_statistics(handle: &ModelHandle) -> Vec<proto::InferBatchStatistics> {
    let sizes = (1u64..).zip(&handle.batches).filter(|(_, batch)| batch.rows.get() > 0);
    sizes
        .map(|(size, batch)| {
            let count = batch.rows.get().div_ceil(size);
            let duration =
                |sum: &Counter| Some(proto::StatisticDuration { count, ns: sum.get() / size });
            proto::InferBatchStatistics {
                batch_size: size,
                compute_input: duration(&batch.assembly),
                compute_infer: duration(&batch.compute),
                compute_output: duration(&batch.split),
            }
        })
        .collect()
}

fn config_type(datatype: DataType) -> proto::DataType {
    match datatype {
        DataType::Bool => proto::DataType::TypeBool,
        DataType::Uint8 => proto::DataType::TypeUint8,
        DataType::Uint16 => proto::DataType::TypeUint16,
        DataType::Uint32 => proto::DataType::TypeUint32,
        DataType::Uint64 => proto::DataType::TypeUint64,
        DataType::Int8 => proto::DataType::TypeInt8,
        DataType::Int16 => proto::DataType::TypeInt16,
        DataType::Int32 => proto::DataType::TypeInt32,
        DataType::Int64 => proto::DataType::TypeInt64,
        DataType::Fp16 => proto::DataType::TypeFp16,
        DataType::Bf16 => proto::DataType::TypeBf16,
        DataType::Fp32 => proto::DataType::TypeFp32,
        DataType::Fp64 => proto::DataType::TypeFp64,
        DataType::Bytes => proto::DataType::TypeString,
    }
}

/// JSON carries the names of enumeration values, not their numbers.
pub(crate) fn data_type_name<S: Serializer>(value: &i32, json: S) -> Result<S::Ok, S::Error> {
    let datatype = proto::DataType::try_from(*value).unwrap_or(proto::DataType::TypeInvalid);
    json.serialize_str(datatype.as_str_name())
}

pub(crate) fn format_name<S: Serializer>(value: &i32, json: S) -> Result<S::Ok, S::Error> {
    let none = proto::model_input::Format::None;
    let format = proto::model_input::Format::try_from(*value).unwrap_or(none);
    json.serialize_str(format.as_str_name())
}

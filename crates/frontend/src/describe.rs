//! How the server describes itself and its models, in the protocol's own messages: gRPC sends them,
//! HTTP sends their JSON form. Reads the catalog; changes nothing.

use crate::listing;
use crate::priority;
use crate::proto;
use std::collections::HashMap;
use symphony_core::Objective;
use symphony_triton::proto::model_config::SchedulingChoice;
use symphony_triton::proto::{
    DataType as ConfigType, ModelConfig, ModelDynamicBatching, ModelInput, ModelOutput,
    ModelParameter, ModelTransactionPolicy,
};
use symphony_wire::carrier::in_process::{Catalog, ServedVersions};
use symphony_wire::message::ServedModel;
use symphony_wire::tensor::{DataType, TensorSpec};

/// The protocol extensions that clients may rely on.
const EXTENSIONS: [&str; 5] =
    ["model_repository", "model_configuration", "binary_tensor_data", "parameters", "statistics"];

pub(crate) fn server() -> proto::ServerMetadataResponse {
    proto::ServerMetadataResponse {
        name: "symphony".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).to_vec(),
    }
}

pub(crate) fn metadata(catalog: &Catalog, model: &ServedModel) -> proto::ModelMetadataResponse {
    let versions = catalog.models.get(&model.name).into_iter().flat_map(ServedVersions::iter);
    let tensor = |spec: &TensorSpec| proto::model_metadata_response::TensorMetadata {
        name: spec.name.clone(),
        datatype: spec.datatype.name().to_owned(),
        shape: spec.metadata_shape(),
    };
    proto::ModelMetadataResponse {
        name: model.name.clone(),
        versions: versions.map(|model| model.version.clone()).collect(),
        platform: model.platform.clone(),
        inputs: model.signature.inputs.iter().map(tensor).collect(),
        outputs: model.signature.outputs.iter().map(tensor).collect(),
        properties: HashMap::new(),
    }
}

/// The configuration in Triton's form: what the model's own file says, where it has one, with what
/// is served in place of what it asks for.
pub(crate) fn config(model: &ServedModel) -> ModelConfig {
    // It was made in this server; one that cannot be read would say nothing.
    let mut config = symphony_triton::from_bytes(&model.configuration).unwrap_or_default();
    let batched = model.signature.is_batch_first();
    let dims = |spec: &TensorSpec| {
        if batched { spec.metadata_row_shape() } else { spec.metadata_shape() }
    };
    let inputs = model.signature.inputs.iter().map(|spec| ModelInput {
        name: spec.name.clone(),
        data_type: config_type(spec.datatype).into(),
        dims: dims(spec),
        optional: spec.default.is_some(),
        ..taken(&mut config.input, |input| input.name == spec.name)
    });
    let inputs = inputs.collect();
    let outputs = model.signature.outputs.iter().map(|spec| ModelOutput {
        name: spec.name.clone(),
        data_type: config_type(spec.datatype).into(),
        dims: dims(spec),
        ..taken(&mut config.output, |output| output.name == spec.name)
    });
    let outputs = outputs.collect();
    let rows_max = if batched { i32::try_from(model.rows_max).unwrap_or(i32::MAX) } else { 0 };
    let objective = model.objective.span().as_millis_f64().to_string();
    let objective = ModelParameter { string_value: objective };
    config.parameters.insert(objective_key(model.objective).to_owned(), objective);
    ModelConfig {
        name: model.name.clone(),
        platform: model.platform.clone(),
        backend: model.engine.clone(),
        max_batch_size: Some(rows_max),
        input: inputs,
        output: outputs,
        scheduling_choice: batched.then(|| batching(config.scheduling_choice.take(), model)),
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: false }),
        ..config
    }
}

/// What the objective is called in the parameters of a configuration.
fn objective_key(objective: Objective) -> &'static str {
    match objective {
        Objective::Slo(_) => "slo_ms",
        Objective::Soft(_) => "best_effort_ms",
    }
}

/// The element that is meant, or one that says nothing.
fn taken<T: Default>(among: &mut [T], is_meant: impl FnMut(&T) -> bool) -> T {
    among.iter().position(is_meant).map(|at| std::mem::take(&mut among[at])).unwrap_or_default()
}

fn batching(asked: Option<SchedulingChoice>, model: &ServedModel) -> SchedulingChoice {
    let asked = match asked {
        Some(SchedulingChoice::DynamicBatching(batching)) => batching,
        _ => ModelDynamicBatching::default(),
    };
    SchedulingChoice::DynamicBatching(ModelDynamicBatching {
        priority_levels: priority::LEVELS,
        default_priority_level: priority::level(model.class),
        ..asked
    })
}

pub(crate) fn index(catalog: &Catalog, ready_only: bool) -> proto::RepositoryIndexResponse {
    let entries = catalog.index.iter().map(|entry| {
        let (state, reason) = listing::state(&entry.state);
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

fn config_type(datatype: DataType) -> ConfigType {
    match datatype {
        DataType::Bool => ConfigType::TypeBool,
        DataType::Uint8 => ConfigType::TypeUint8,
        DataType::Uint16 => ConfigType::TypeUint16,
        DataType::Uint32 => ConfigType::TypeUint32,
        DataType::Uint64 => ConfigType::TypeUint64,
        DataType::Int8 => ConfigType::TypeInt8,
        DataType::Int16 => ConfigType::TypeInt16,
        DataType::Int32 => ConfigType::TypeInt32,
        DataType::Int64 => ConfigType::TypeInt64,
        DataType::Fp16 => ConfigType::TypeFp16,
        DataType::Bf16 => ConfigType::TypeBf16,
        DataType::Fp32 => ConfigType::TypeFp32,
        DataType::Fp64 => ConfigType::TypeFp64,
        DataType::Bytes => ConfigType::TypeString,
    }
}

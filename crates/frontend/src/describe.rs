//! How the server describes itself and its models, in the protocol's own messages: gRPC sends them,
//! HTTP sends their JSON form. Reads the catalog; changes nothing.

use crate::listing;
use crate::priority;
use crate::proto;
use serde::Serializer;
use std::collections::HashMap;
use symphony_core::Objective;
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

pub(crate) fn config(model: &ServedModel) -> proto::ModelConfig {
    let batched = model.signature.is_batch_first();
    let dims = |spec: &TensorSpec| {
        if batched { spec.metadata_row_shape() } else { spec.metadata_shape() }
    };
    let input = |spec: &TensorSpec| proto::ModelInput {
        name: spec.name.clone(),
        data_type: config_type(spec.datatype).into(),
        format: proto::model_input::Format::None.into(),
        dims: dims(spec),
        optional: spec.default.is_some(),
    };
    let output = |spec: &TensorSpec| proto::ModelOutput {
        name: spec.name.clone(),
        data_type: config_type(spec.datatype).into(),
        dims: dims(spec),
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
            objective_key(model.objective).to_owned(),
            text(model.objective.span().as_millis_f64().to_string()),
        )]),
        model_transaction_policy: Some(proto::ModelTransactionPolicy { decoupled: false }),
    }
}

/// What the objective is called in the parameters of a configuration.
fn objective_key(objective: Objective) -> &'static str {
    match objective {
        Objective::Slo(_) => "slo_ms",
        Objective::Soft(_) => "best_effort_ms",
    }
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

//! Compiles the protocol's description to Rust, without a system `protoc`, and keeps the
//! compiled description for server reflection.

use prost::Message;
use std::path::PathBuf;

const PROTO: &str = "proto/inference.proto";

/// Messages that are also HTTP answers, and the fields whose JSON form is not their Rust form.
const JSON_MESSAGES: [&str; 15] = [
    "ServerMetadataResponse",
    "ModelMetadataResponse",
    "ModelConfig",
    "ModelInput",
    "ModelOutput",
    "ModelVersionPolicy",
    "ModelDynamicBatching",
    "ModelTransactionPolicy",
    "ModelParameter",
    "ModelStatisticsResponse",
    "ModelStatistics",
    "InferStatistics",
    "InferBatchStatistics",
    "StatisticDuration",
    "MemoryUsage",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    let descriptors = protox::compile([PROTO], ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("inference.fds"), descriptors.encode_to_vec())?;
    let mut builder = tonic_prost_build::configure().bytes(".").build_transport(true);
    for message in JSON_MESSAGES {
        builder = builder
            .message_attribute(format!("inference.{message}"), "#[derive(serde::Serialize)]");
    }
    builder
        .message_attribute(
            "inference.ModelMetadataResponse.TensorMetadata",
            "#[derive(serde::Serialize)]",
        )
        .message_attribute("inference.ModelVersionPolicy.Latest", "#[derive(serde::Serialize)]")
        .field_attribute(
            "data_type",
            "#[serde(serialize_with = \"crate::describe::data_type_name\")]",
        )
        .field_attribute(
            "inference.ModelInput.format",
            "#[serde(serialize_with = \"crate::describe::format_name\")]",
        )
        .field_attribute(
            "inference.ModelConfig.dynamic_batching",
            "#[serde(skip_serializing_if = \"Option::is_none\")]",
        )
        .compile_fds(descriptors)?;
    Ok(())
}

//! Compiles the protocol's description to Rust, without a system `protoc`, and keeps the
//! compiled description for server reflection.

use prost::Message;
use std::path::PathBuf;

const PROTO: &str = "proto/inference.proto";
/// Where the description of model configurations is, which has its Rust form in the crate there.
const TRITON: &str = "../triton/proto";
const TRITON_PROTO: &str = "model_config.proto";

/// Messages that are also HTTP answers.
const JSON_MESSAGES: [&str; 9] = [
    "ServerMetadataResponse",
    "ModelMetadataResponse",
    "ModelMetadataResponse.TensorMetadata",
    "ModelStatisticsResponse",
    "ModelStatistics",
    "InferStatistics",
    "InferBatchStatistics",
    "StatisticDuration",
    "MemoryUsage",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    println!("cargo:rerun-if-changed={TRITON}/{TRITON_PROTO}");
    let descriptors = protox::compile([PROTO], ["proto", TRITON])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("inference.fds"), descriptors.encode_to_vec())?;
    let mut builder = tonic_prost_build::configure().bytes(".").build_transport(true);
    for message in JSON_MESSAGES {
        builder = builder
            .message_attribute(format!("inference.{message}"), "#[derive(serde::Serialize)]");
    }
    for file in descriptors.file.iter().filter(|file| file.name() == TRITON_PROTO) {
        let messages = file.message_type.iter().map(|message| message.name());
        for name in messages.chain(file.enum_type.iter().map(|values| values.name())) {
            let path = format!("::symphony_triton::proto::{name}");
            builder = builder.extern_path(format!(".inference.{name}"), path);
        }
    }
    builder.compile_fds(descriptors)?;
    Ok(())
}

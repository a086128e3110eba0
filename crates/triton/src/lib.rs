//! Triton's model configuration: its messages, its text format (`config.pbtxt`) and its JSON.
//!
//! Knows the format, not what a server makes of it.

mod json;
mod text;

/// The messages, as the compiler of `proto/model_config.proto` makes them.
#[expect(missing_docs, reason = "proto/model_config.proto has the comments")]
#[allow(clippy::all, clippy::pedantic, reason = "generated")]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/inference.rs"));
}

pub use json::to_json;
pub use text::{TextError, parse};

use prost::Message;
use prost_reflect::{DescriptorPool, MessageDescriptor};
use std::sync::LazyLock;

/// The bytes of a configuration, for another process or part of this one.
#[must_use]
pub fn to_bytes(config: &proto::ModelConfig) -> Vec<u8> {
    config.encode_to_vec()
}

/// A configuration from its bytes.
///
/// # Errors
/// They are no configuration.
pub fn from_bytes(bytes: &[u8]) -> Result<proto::ModelConfig, prost::DecodeError> {
    proto::ModelConfig::decode(bytes)
}

/// The compiled description of the messages.
const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/model_config.fds"));

/// The description of the message of a whole configuration.
static MODEL_CONFIG: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(DESCRIPTOR).expect("the build compiled it");
    pool.get_message_by_name("inference.ModelConfig").expect("the description has it")
});

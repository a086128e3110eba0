//! Compiles the description of Triton's model configuration to Rust, without a system `protoc`, and
//! keeps the compiled description for the text format and JSON.

use prost::Message;
use std::path::PathBuf;

const PROTO: &str = "proto/model_config.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    let descriptors = protox::compile([PROTO], ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("model_config.fds"), descriptors.encode_to_vec())?;
    // The order of maps is that of their keys, so that texts made of them are always the same.
    prost_build::Config::new().btree_map(["."]).compile_fds(descriptors)?;
    Ok(())
}

//! Compiles the ONNX schema without a system `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/onnx.proto");
    let files = protox::compile(["proto/onnx.proto"], ["proto"])?;
    prost_build::Config::new()
        // Weights stay slices of the file that they came from.
        .bytes([".onnx.TensorProto.raw_data"])
        // The comments of the schema contain indented blocks that rustdoc would take for code.
        .disable_comments(["."])
        .compile_fds(files)?;
    Ok(())
}

//! Model files from outside: reading, refusing, rewriting and writing them.

mod bundled;
mod follow;
mod hostile;
mod nodes;
mod rewrite;
mod signature;

use std::path::{Path, PathBuf};

/// The bundled digit classifier.
fn digits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/digits/1/model.onnx")
}

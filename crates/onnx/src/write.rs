//! Writes a model file without a second copy of its weights in memory.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use prost::Message;
use prost::encoding::encode_varint;

use crate::error::Error;
use crate::model::OnnxModel;
use crate::proto::{GraphProto, ModelProto, TensorProto};

// Keys of length-delimited fields: field number << 3 | 2.
const MODEL_GRAPH: u64 = 7 << 3 | 2;
const GRAPH_INITIALIZER: u64 = 5 << 3 | 2;
const TENSOR_RAW_DATA: u64 = 9 << 3 | 2;

impl OnnxModel {
    /// Writes the model as an ONNX file: the same message as [`OnnxModel::encode`], with its fields
    /// in another order.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        self.write_file(path).map_err(|source| Error::Write { path: path.to_owned(), source })
    }

    fn write_file(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        write_model(&mut out, self.proto())?;
        out.into_inner()?.sync_all()
    }
}

fn write_model(out: &mut impl Write, model: &ModelProto) -> io::Result<()> {
    // This copies no weights: they are reference-counted slices.
    let mut frame = model.clone();
    let graph = frame.graph.take().unwrap_or_default();
    out.write_all(&frame.encode_to_vec())?;
    write_key(out, MODEL_GRAPH, graph.encoded_len())?;
    write_graph(out, graph)
}

fn write_graph(out: &mut impl Write, mut graph: GraphProto) -> io::Result<()> {
    let tensors = std::mem::take(&mut graph.initializer);
    out.write_all(&graph.encode_to_vec())?;
    for tensor in tensors {
        write_key(out, GRAPH_INITIALIZER, tensor.encoded_len())?;
        write_tensor(out, tensor)?;
    }
    Ok(())
}

fn write_tensor(out: &mut impl Write, mut tensor: TensorProto) -> io::Result<()> {
    let data = tensor.raw_data.take();
    out.write_all(&tensor.encode_to_vec())?;
    if let Some(data) = data {
        write_key(out, TENSOR_RAW_DATA, data.len())?;
        out.write_all(&data)?;
    }
    Ok(())
}

fn write_key(out: &mut impl Write, key: u64, len: usize) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(20);
    encode_varint(key, &mut bytes);
    encode_varint(len as u64, &mut bytes);
    out.write_all(&bytes)
}

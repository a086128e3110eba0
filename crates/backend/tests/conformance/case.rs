//! Reads the generated cases and runs them on an engine.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use bytes::Bytes;
use prost::Message;
use symphony_backend::batch::Arena;
use symphony_backend::engine::{Graph, GraphEngine, LoadRequest};
use symphony_onnx::proto::{GraphProto, TensorProto};
use symphony_onnx::{Dim, ElementType, OnnxModel, ValueInfo};
use symphony_wire::tensor::{
    self, DataType, Inputs, OutputTensor, Signature, TensorSpec, bytes_contents,
};

/// A model of one node with its inputs and the outputs that it must give.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) model: OnnxModel,
    /// Whether the expected outputs are the ONNX project's own for exactly this model.
    pub(crate) original: bool,
    rtol: f64,
    atol: f64,
    tensors: BTreeMap<String, TensorProto>,
}

/// The result of a case on an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    /// The engine said that it cannot run the case.
    Refused,
    Wrong,
}

/// All cases of a file, in order.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Case>> {
    let mut rest = Bytes::from(fs::read(path)?);
    let mut cases = Vec::new();
    while !rest.is_empty() {
        let model = OnnxModel::decode(record(&mut rest)?).map_err(io::Error::other)?;
        let data = GraphProto::decode(record(&mut rest)?).map_err(io::Error::other)?;
        let fact = |key: &str| {
            let all = &model.proto().metadata_props;
            all.iter().find(|entry| entry.key() == key).map_or("", |entry| entry.value())
        };
        let number = |key| fact(key).parse::<f64>().map_err(io::Error::other);
        cases.push(Case {
            name: fact("name").to_owned(),
            original: fact("original") == "1",
            rtol: number("rtol")?,
            atol: number("atol")?,
            tensors: data.initializer.into_iter().map(|t| (t.name().to_owned(), t)).collect(),
            model,
        });
    }
    Ok(cases)
}

fn record(rest: &mut Bytes) -> io::Result<Bytes> {
    let short = || io::Error::other("the file of cases is cut short");
    let length = rest.first_chunk::<4>().ok_or_else(short)?;
    let end = 4 + u32::from_le_bytes(*length) as usize;
    if rest.len() < end {
        return Err(short());
    }
    Ok(rest.split_to(end).slice(4..))
}

impl Case {
    /// Runs the case. The text says what went wrong.
    pub(crate) fn run(&self, engine: &dyn GraphEngine) -> (Verdict, String) {
        let outputs = match self.outputs(engine) {
            Ok(outputs) => outputs,
            Err(problem) => return (Verdict::Refused, problem),
        };
        for (value, output) in self.model.signature().outputs.iter().zip(outputs) {
            if let Err(problem) = self.compare(&value.name, &output) {
                return (Verdict::Wrong, format!("{}: {problem}", value.name));
            }
        }
        (Verdict::Right, String::new())
    }

    fn outputs(&self, engine: &dyn GraphEngine) -> Result<Vec<OutputTensor>, String> {
        let described = self.model.signature();
        let specs = |values: &[ValueInfo]| values.iter().map(spec).collect::<Result<_, _>>();
        let signature = Signature::fixed(specs(&described.inputs)?, specs(&described.outputs)?);
        let graph = Graph { model: &self.model, path: Path::new("case"), patched: true };
        let request = LoadRequest {
            name: &self.name,
            graph,
            signature: &signature,
            custom_ops: None,
            share_weights: false,
        };
        let loaded = engine.open(&request).map_err(|e| e.to_string())?;
        let mut executable = loaded.place(0).map_err(|e| e.to_string())?;
        let tensors = signature.inputs.iter().map(|s| contents(&self.tensors[&s.name])).collect();
        let mut arena = Arena::new(Arc::new(signature), 1, executable.representation())
            .map_err(|e| e.to_string())?;
        let inputs = Inputs::fixed(1, tensors);
        arena.assemble(std::iter::once(&inputs)).map_err(|e| e.to_string())?;
        executable.run(&arena.batch()).map_err(|e| e.to_string())
    }

    fn compare(&self, name: &str, got: &OutputTensor) -> Result<(), String> {
        let wanted = &self.tensors[name];
        let shape: Vec<usize> =
            wanted.dims.iter().map(|d| usize::try_from(*d).expect("sizes are positive")).collect();
        if got.shape != shape {
            return Err(format!("shape {:?} instead of {shape:?}", got.shape));
        }
        let element = ElementType::from_code(wanted.data_type()).expect("a known type");
        let expected = contents(wanted);
        if matches!(element, ElementType::String) {
            return if got.data == expected { Ok(()) } else { Err("other strings".to_owned()) };
        }
        let (got, expected) = (numbers(element, &got.data), numbers(element, &expected));
        let finite = expected.iter().filter(|v| v.is_finite());
        let largest = finite.fold(1.0, |most: f64, v| most.max(v.abs()));
        // Rounding of a sum is relative to its summands, however small the result is.
        let atol = self.atol.max(1e-6 * largest);
        // Of sixteen bits, only eleven or eight are digits: two roundings in different places
        // differ by more than usual.
        let rtol = match element {
            ElementType::Float16 => self.rtol.max(5e-3),
            ElementType::Bfloat16 => self.rtol.max(4e-2),
            _ => self.rtol,
        };
        use ElementType::{Bfloat16, Float16, Float32, Float64};
        let is_whole = !matches!(element, Bfloat16 | Float16 | Float32 | Float64);
        let differ = |(got, wanted): &(&f64, &f64)| {
            let (got, wanted) = (**got, **wanted);
            let same = got == wanted || (got.is_nan() && wanted.is_nan());
            let near = !is_whole && (got - wanted).abs() <= atol + rtol * wanted.abs();
            !same && !near
        };
        match got.iter().zip(&expected).find(differ) {
            Some((got, wanted)) => Err(format!("{got} instead of {wanted}")),
            None if got.len() != expected.len() => Err("another number of elements".to_owned()),
            None => Ok(()),
        }
    }
}

fn spec(value: &ValueInfo) -> Result<TensorSpec, String> {
    let tensor = value.tensor().ok_or("not a tensor")?;
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => usize::try_from(*size).map_or(tensor::Dim::Unknown, tensor::Dim::Fixed),
        Dim::Named(_) | Dim::Unknown => tensor::Dim::Unknown,
    };
    let datatype = datatype(tensor.element).ok_or("a type no client can send")?;
    let shape = tensor.dims.iter().flatten().map(size).collect();
    Ok(TensorSpec::new(&value.name, datatype, shape))
}

fn datatype(element: ElementType) -> Option<DataType> {
    Some(match element {
        ElementType::Bool => DataType::Bool,
        ElementType::Uint8 => DataType::Uint8,
        ElementType::Uint16 => DataType::Uint16,
        ElementType::Uint32 => DataType::Uint32,
        ElementType::Uint64 => DataType::Uint64,
        ElementType::Int8 => DataType::Int8,
        ElementType::Int16 => DataType::Int16,
        ElementType::Int32 => DataType::Int32,
        ElementType::Int64 => DataType::Int64,
        ElementType::Float16 => DataType::Fp16,
        ElementType::Bfloat16 => DataType::Bf16,
        ElementType::Float32 => DataType::Fp32,
        ElementType::Float64 => DataType::Fp64,
        ElementType::String => DataType::Bytes,
        _ => return None,
    })
}

fn contents(tensor: &TensorProto) -> Bytes {
    if tensor.data_type() == ElementType::String.code() {
        return bytes_contents(tensor.string_data.iter().map(Vec::as_slice)).into();
    }
    tensor.raw_data.clone().unwrap_or_default()
}

macro_rules! widen {
    ($data:expr, $type:ty) => {
        $data
            .chunks_exact(size_of::<$type>())
            .map(|bytes| <$type>::from_le_bytes(bytes.try_into().expect("an exact chunk")))
            .map(|value| value as f64)
            .collect()
    };
}

/// Elements as numbers. Whole numbers beyond 2^53 lose their last digits on both sides.
#[expect(clippy::cast_lossless, reason = "one macro for types that widen without loss and others")]
fn numbers(element: ElementType, data: &[u8]) -> Vec<f64> {
    match element {
        ElementType::Bool | ElementType::Uint8 => widen!(data, u8),
        ElementType::Int8 => widen!(data, i8),
        ElementType::Uint16 => widen!(data, u16),
        ElementType::Int16 => widen!(data, i16),
        ElementType::Uint32 => widen!(data, u32),
        ElementType::Int32 => widen!(data, i32),
        ElementType::Uint64 => widen!(data, u64),
        ElementType::Int64 => widen!(data, i64),
        ElementType::Float32 => widen!(data, f32),
        ElementType::Float64 => widen!(data, f64),
        ElementType::Float16 => data
            .chunks_exact(2)
            .map(|bytes| half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f64())
            .collect(),
        ElementType::Bfloat16 => data
            .chunks_exact(2)
            .map(|bytes| half::bf16::from_le_bytes([bytes[0], bytes[1]]).to_f64())
            .collect(),
        other => panic!("the cases hold no {other}"),
    }
}

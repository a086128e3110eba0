//! Passes tensors into and out of the library with as few copies as it allows: inputs are views of
//! the batch, and outputs stay in the library's memory until the last answer has been sent.

use super::library::NAME;
use crate::batch::{BatchInput, Elements};
use crate::engine::EngineError;
use bytemuck::NoUninit;
use bytes::Bytes;
use half::{bf16, f16};
use ort::session::SessionInputValue;
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor, TensorRef};
use std::fmt::Debug;
use symphony_wire::tensor::{DataType, OutputTensor, TensorSpec, bytes_contents};

/// An input in the library's form.
pub(super) fn input<'a>(input: &BatchInput<'a>) -> ort::Result<SessionInputValue<'a>> {
    let shape = &input.shape;
    match input.elements {
        Elements::Bool(values) => view(shape, values),
        Elements::Uint8(values) => view(shape, values),
        Elements::Uint16(values) => view(shape, values),
        Elements::Uint32(values) => view(shape, values),
        Elements::Uint64(values) => view(shape, values),
        Elements::Int8(values) => view(shape, values),
        Elements::Int16(values) => view(shape, values),
        Elements::Int32(values) => view(shape, values),
        Elements::Int64(values) => view(shape, values),
        Elements::Fp16(values) => view(shape, values),
        Elements::Bf16(values) => view(shape, values),
        Elements::Fp32(values) => view(shape, values),
        Elements::Fp64(values) => view(shape, values),
        Elements::Text(values) => Ok(Tensor::from_string_array((shape.as_slice(), values))?.into()),
        Elements::Raw(_) | Elements::Bytes(_) => {
            Err(ort::Error::new("bytes came where the engine asked for text"))
        }
    }
}

fn view<'a, T>(shape: &[usize], values: &'a [T]) -> ort::Result<SessionInputValue<'a>>
where
    T: PrimitiveTensorElementType + Debug + Clone + 'static,
{
    Ok(TensorRef::from_array_view((shape.to_vec(), values))?.into())
}

/// An output in the protocol's form.
pub(super) fn output(
    spec: &TensorSpec,
    value: Option<DynValue>,
) -> Result<OutputTensor, EngineError> {
    let unusable =
        |problem: String| EngineError::Output { engine: NAME, name: spec.name.clone(), problem };
    let value = value.ok_or_else(|| unusable("it was not computed".to_owned()))?;
    let output = match spec.datatype {
        DataType::Bool => held::<bool>(value),
        DataType::Uint8 => held::<u8>(value),
        DataType::Uint16 => held::<u16>(value),
        DataType::Uint32 => held::<u32>(value),
        DataType::Uint64 => held::<u64>(value),
        DataType::Int8 => held::<i8>(value),
        DataType::Int16 => held::<i16>(value),
        DataType::Int32 => held::<i32>(value),
        DataType::Int64 => held::<i64>(value),
        DataType::Fp16 => held::<f16>(value),
        DataType::Bf16 => held::<bf16>(value),
        DataType::Fp32 => held::<f32>(value),
        DataType::Fp64 => held::<f64>(value),
        DataType::Bytes => strings(&value),
    };
    output.map_err(|error| unusable(error.to_string()))
}

/// An output that stays in the memory of the library.
fn held<T>(value: DynValue) -> ort::Result<OutputTensor>
where
    T: PrimitiveTensorElementType + NoUninit,
{
    struct Held<T>(DynValue, std::marker::PhantomData<fn() -> T>);
    impl<T: PrimitiveTensorElementType + NoUninit> AsRef<[u8]> for Held<T> {
        fn as_ref(&self) -> &[u8] {
            // `held` has checked that the tensor can be extracted.
            self.0.try_extract_tensor::<T>().map_or(&[], |(_, values)| bytemuck::cast_slice(values))
        }
    }
    let (shape, values) = value.try_extract_tensor::<T>()?;
    let shape = sizes(shape);
    let data = if values.is_empty() {
        Bytes::new()
    } else {
        Bytes::from_owner(Held::<T>(value, std::marker::PhantomData))
    };
    Ok(OutputTensor { shape, data })
}

fn strings(value: &DynValue) -> ort::Result<OutputTensor> {
    let (shape, values) = value.try_extract_strings()?;
    let shape = sizes(shape);
    Ok(OutputTensor { shape, data: bytes_contents(values.iter().map(String::as_bytes)).into() })
}

/// Converts a computed shape, which has no negative dimensions.
fn sizes(shape: &[i64]) -> Vec<usize> {
    shape.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).collect()
}

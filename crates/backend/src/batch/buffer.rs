//! The elements of one input over a whole batch, in the form that an engine takes.

use bytemuck::{AnyBitPattern, NoUninit, Zeroable};
use bytes::Bytes;
use half::{bf16, f16};
use symphony_wire::tensor::{DataType, bytes_elements};

#[cfg(target_endian = "big")]
compile_error!("tensors are little endian on the wire and are passed on without conversion");

/// The form in which an engine takes types that it may not support directly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Representation {
    /// As the model declares them.
    #[default]
    Declared,
    /// INT64 and BOOL as 32-bit integers. An INT64 value that does not fit is refused.
    Narrow,
    /// The elements of BYTES as raw bytes. The other forms need UTF-8 text.
    Raw,
}

macro_rules! element_types {
    ($($variant:ident($type:ty),)*) => {
        /// The elements of one input over the whole batch, row-major.
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[expect(missing_docs, reason = "the names say it")]
        pub enum Elements<'a> {
            $($variant(&'a [$type]),)*
        }

        /// Room for the elements of one input in the largest batch.
        #[derive(Debug)]
        pub(super) enum Buffer {
            $($variant(Vec<$type>),)*
        }

        impl Buffer {
            /// The first `count` elements.
            pub(super) fn first(&self, count: usize) -> Elements<'_> {
                match self {
                    $(Buffer::$variant(values) => Elements::$variant(&values[..count]),)*
                }
            }
        }
    };
}

element_types! {
    Bool(bool),
    Uint8(u8),
    Uint16(u16),
    Uint32(u32),
    Uint64(u64),
    Int8(i8),
    Int16(i16),
    Int32(i32),
    Int64(i64),
    Fp16(f16),
    Bf16(bf16),
    Fp32(f32),
    Fp64(f64),
    Text(String),
    Raw(Vec<u8>),
}

impl Buffer {
    /// Allocates `count` zeros. Returns `None` when there is not enough memory.
    pub(super) fn new(
        datatype: DataType,
        representation: Representation,
        count: usize,
    ) -> Option<Buffer> {
        Some(match (datatype, representation) {
            (DataType::Bool | DataType::Int64, Representation::Narrow) => {
                Buffer::Int32(zeroed(count)?)
            }
            (DataType::Bool, _) => Buffer::Bool(zeroed(count)?),
            (DataType::Uint8, _) => Buffer::Uint8(zeroed(count)?),
            (DataType::Uint16, _) => Buffer::Uint16(zeroed(count)?),
            (DataType::Uint32, _) => Buffer::Uint32(zeroed(count)?),
            (DataType::Uint64, _) => Buffer::Uint64(zeroed(count)?),
            (DataType::Int8, _) => Buffer::Int8(zeroed(count)?),
            (DataType::Int16, _) => Buffer::Int16(zeroed(count)?),
            (DataType::Int32, _) => Buffer::Int32(zeroed(count)?),
            (DataType::Int64, _) => Buffer::Int64(zeroed(count)?),
            (DataType::Fp16, _) => Buffer::Fp16(zeroed(count)?),
            (DataType::Bf16, _) => Buffer::Bf16(zeroed(count)?),
            (DataType::Fp32, _) => Buffer::Fp32(zeroed(count)?),
            (DataType::Fp64, _) => Buffer::Fp64(zeroed(count)?),
            (DataType::Bytes, Representation::Raw) => Buffer::Raw(empty(count)?),
            (DataType::Bytes, _) => Buffer::Text(empty(count)?),
        })
    }

    /// Decodes `data` into `count` elements, beginning at `start`.
    pub(super) fn place(
        &mut self,
        datatype: DataType,
        start: usize,
        count: usize,
        data: &[u8],
    ) -> Result<(), Misfit> {
        let rows = start..start + count;
        match self {
            Buffer::Bool(values) => {
                same_length(count, data.len())?;
                for (value, byte) in values[rows].iter_mut().zip(data) {
                    *value = *byte != 0;
                }
                Ok(())
            }
            Buffer::Int32(values) if datatype == DataType::Int64 => narrow(&mut values[rows], data),
            Buffer::Int32(values) if datatype == DataType::Bool => {
                same_length(count, data.len())?;
                for (value, byte) in values[rows].iter_mut().zip(data) {
                    *value = i32::from(*byte != 0);
                }
                Ok(())
            }
            Buffer::Text(values) => texts(&mut values[rows], data),
            Buffer::Raw(values) => raw(&mut values[rows], data),
            Buffer::Uint8(values) => copy(&mut values[rows], data),
            Buffer::Uint16(values) => copy(&mut values[rows], data),
            Buffer::Uint32(values) => copy(&mut values[rows], data),
            Buffer::Uint64(values) => copy(&mut values[rows], data),
            Buffer::Int8(values) => copy(&mut values[rows], data),
            Buffer::Int16(values) => copy(&mut values[rows], data),
            Buffer::Int32(values) => copy(&mut values[rows], data),
            Buffer::Int64(values) => copy(&mut values[rows], data),
            Buffer::Fp16(values) => copy(&mut values[rows], data),
            Buffer::Bf16(values) => copy(&mut values[rows], data),
            Buffer::Fp32(values) => copy(&mut values[rows], data),
            Buffer::Fp64(values) => copy(&mut values[rows], data),
        }
    }
}

/// Allocates zeros. Pages that are never written cost no memory.
fn zeroed<T: Zeroable>(count: usize) -> Option<Vec<T>> {
    bytemuck::try_zeroed_slice_box(count).ok().map(Vec::from)
}

/// Allocates empty elements of variable length.
fn empty<T: Clone + Default>(count: usize) -> Option<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).ok()?;
    values.resize(count, T::default());
    Some(values)
}

/// A vector's elements as tensor contents, without a copy.
pub(crate) fn contents<T: NoUninit + Send + 'static>(values: Vec<T>) -> Bytes {
    struct Owner<T>(Vec<T>);
    impl<T: NoUninit> AsRef<[u8]> for Owner<T> {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }
    Bytes::from_owner(Owner(values))
}

/// Why one input of a request does not fit its rows.
#[derive(Debug)]
pub(super) enum Misfit {
    Length { expected: usize, got: usize },
    Count { expected: usize, got: usize },
    Truncated { offset: usize },
    Range { index: usize, value: i64 },
    Text { index: usize },
}

fn same_length(expected: usize, got: usize) -> Result<(), Misfit> {
    if expected == got { Ok(()) } else { Err(Misfit::Length { expected, got }) }
}

fn copy<T: NoUninit + AnyBitPattern>(values: &mut [T], data: &[u8]) -> Result<(), Misfit> {
    let room: &mut [u8] = bytemuck::cast_slice_mut(values);
    same_length(room.len(), data.len())?;
    room.copy_from_slice(data);
    Ok(())
}

fn narrow(values: &mut [i32], data: &[u8]) -> Result<(), Misfit> {
    let (wide, rest) = data.as_chunks::<8>();
    if wide.len() != values.len() || !rest.is_empty() {
        return Err(Misfit::Length { expected: values.len() * 8, got: data.len() });
    }
    for (index, (narrow, wide)) in values.iter_mut().zip(wide).enumerate() {
        let value = i64::from_le_bytes(*wide);
        *narrow = i32::try_from(value).map_err(|_| Misfit::Range { index, value })?;
    }
    Ok(())
}

/// The elements of a BYTES tensor, which must be `expected` in number.
fn elements(expected: usize, data: &[u8]) -> Result<Vec<&[u8]>, Misfit> {
    let elements = bytes_elements(data).map_err(|offset| Misfit::Truncated { offset })?;
    if elements.len() != expected {
        return Err(Misfit::Count { expected, got: elements.len() });
    }
    Ok(elements)
}

fn raw(values: &mut [Vec<u8>], data: &[u8]) -> Result<(), Misfit> {
    let elements = elements(values.len(), data)?;
    for (value, element) in values.iter_mut().zip(elements) {
        value.clear();
        value.extend_from_slice(element);
    }
    Ok(())
}

fn texts(values: &mut [String], data: &[u8]) -> Result<(), Misfit> {
    let elements = elements(values.len(), data)?;
    for (index, (value, element)) in values.iter_mut().zip(elements).enumerate() {
        let text = std::str::from_utf8(element).map_err(|_| Misfit::Text { index })?;
        // The engines pass strings on as C strings.
        if text.contains('\0') {
            return Err(Misfit::Text { index });
        }
        value.clear();
        value.push_str(text);
    }
    Ok(())
}

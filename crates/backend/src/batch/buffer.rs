//! The elements of one input over a whole batch, in the form that an engine takes.

use super::memory::{BufferMemory, BufferRegion};
use bytemuck::{AnyBitPattern, NoUninit, Zeroable};
use bytes::Bytes;
use half::{bf16, f16};
use std::sync::Arc;
use symphony_wire::tensor::{DataType, Runs, bytes_elements};

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
    /// Elements of every type as they travel, in memory of the engine, those of BOOL as 0 or 1; those of
    /// BYTES as in [`Representation::Raw`].
    Bytes,
}

/// What buffers an engine needs.
#[derive(Clone, Debug)]
pub(super) struct Rooms {
    pub(super) representation: Representation,
    /// Where those of [`Representation::Bytes`] lie.
    pub(super) memory: Arc<dyn BufferMemory>,
}

impl Rooms {
    /// A buffer of `count` elements, whose contents may be any. Returns `None` when there is not
    /// enough memory.
    pub(super) fn buffer(&self, datatype: DataType, count: usize) -> Option<Buffer> {
        match (self.representation, datatype.size()) {
            (Representation::Bytes, Some(element)) => {
                let region = self.memory.allocate(count.checked_mul(element)?)?;
                Some(Buffer::Bytes { region, element })
            }
            _ => Buffer::new(datatype, self.representation, count),
        }
    }
}

macro_rules! element_types {
    ($($variant:ident($type:ty),)*) => {
        /// The elements of one input over the whole batch, row-major.
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[expect(missing_docs, reason = "the names say it")]
        pub enum Elements<'a> {
            $($variant(&'a [$type]),)*
            /// Of any type, as they travel.
            Bytes(&'a [u8]),
        }

        /// Room for the elements of one input in a batch.
        #[derive(Debug)]
        pub(super) enum Buffer {
            $($variant(Vec<$type>),)*
            /// Elements of so many bytes each.
            Bytes { region: Box<dyn BufferRegion>, element: usize },
        }

        impl Buffer {
            /// Elements there is room for.
            pub(super) fn len(&self) -> usize {
                match self {
                    $(Buffer::$variant(values) => values.len(),)*
                    Buffer::Bytes { region, element } => region.len() / element,
                }
            }

            fn spread(&mut self, element: usize, runs: Runs) {
                match self {
                    $(Buffer::$variant(values) => spread(values, element, runs),)*
                    Buffer::Bytes { region, element: size } => {
                        spread_bytes(region, *size, element, runs);
                    }
                }
            }

            /// The first `count` elements.
            pub(super) fn first(&self, count: usize) -> Elements<'_> {
                match self {
                    $(Buffer::$variant(values) => Elements::$variant(&values[..count]),)*
                    Buffer::Bytes { region, element } => Elements::Bytes(&region[..count * element]),
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
    /// Allocates `count` zeros in the memory of this process.
    fn new(datatype: DataType, representation: Representation, count: usize) -> Option<Buffer> {
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
            (DataType::Bytes, Representation::Raw | Representation::Bytes) => {
                Buffer::Raw(empty(count)?)
            }
            (DataType::Bytes, _) => Buffer::Text(empty(count)?),
        })
    }

    /// Decodes `data`, the elements of a box, into the places of that box.
    pub(super) fn place(
        &mut self,
        datatype: DataType,
        runs: Runs,
        data: &[u8],
    ) -> Result<(), Misfit> {
        match self {
            Buffer::Bool(values) => bytes(values, runs, data, |byte| byte != 0),
            Buffer::Int32(values) if datatype == DataType::Int64 => narrow(values, runs, data),
            Buffer::Int32(values) if datatype == DataType::Bool => {
                bytes(values, runs, data, |byte| i32::from(byte != 0))
            }
            Buffer::Text(values) => texts(values, runs, data),
            Buffer::Raw(values) => raw(values, runs, data),
            Buffer::Uint8(values) => copy(values, runs, data),
            Buffer::Uint16(values) => copy(values, runs, data),
            Buffer::Uint32(values) => copy(values, runs, data),
            Buffer::Uint64(values) => copy(values, runs, data),
            Buffer::Int8(values) => copy(values, runs, data),
            Buffer::Int16(values) => copy(values, runs, data),
            Buffer::Int32(values) => copy(values, runs, data),
            Buffer::Int64(values) => copy(values, runs, data),
            Buffer::Fp16(values) => copy(values, runs, data),
            Buffer::Bf16(values) => copy(values, runs, data),
            Buffer::Fp32(values) => copy(values, runs, data),
            Buffer::Fp64(values) => copy(values, runs, data),
            Buffer::Bytes { region, .. } if datatype == DataType::Bool => {
                bytes(region, runs, data, |byte| u8::from(byte != 0))
            }
            Buffer::Bytes { region, element } => copy_bytes(region, *element, runs, data),
        }
    }

    /// Fills the places of a box with one element, which is given in its wire form.
    pub(super) fn fill(
        &mut self,
        datatype: DataType,
        runs: Runs,
        element: &[u8],
    ) -> Result<(), Misfit> {
        let Some((first, _)) = runs.clone().next() else { return Ok(()) };
        self.place(datatype, Runs::one(first, 1), element)?;
        self.spread(first, runs);
        Ok(())
    }
}

/// Copies one element to all places of a box.
fn spread<T: Clone>(values: &mut [T], element: usize, runs: Runs) {
    let element = values[element].clone();
    let length = runs.length();
    for (start, _) in runs {
        values[start..start + length].fill(element.clone());
    }
}

/// The same for elements of so many bytes.
fn spread_bytes(region: &mut [u8], size: usize, element: usize, runs: Runs) {
    let value = region[element * size..(element + 1) * size].to_vec();
    let length = runs.length();
    for (start, _) in runs {
        for place in region[start * size..(start + length) * size].chunks_exact_mut(size) {
            place.copy_from_slice(&value);
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

fn copy<T: NoUninit + AnyBitPattern>(
    values: &mut [T],
    runs: Runs,
    data: &[u8],
) -> Result<(), Misfit> {
    same_length(runs.elements() * size_of::<T>(), data.len())?;
    let length = runs.length();
    for (to, from) in runs {
        let room: &mut [u8] = bytemuck::cast_slice_mut(&mut values[to..to + length]);
        room.copy_from_slice(&data[from * size_of::<T>()..(from + length) * size_of::<T>()]);
    }
    Ok(())
}

/// Copies elements of so many bytes each.
fn copy_bytes(region: &mut [u8], size: usize, runs: Runs, data: &[u8]) -> Result<(), Misfit> {
    same_length(runs.elements() * size, data.len())?;
    let length = runs.length();
    for (to, from) in runs {
        let room = &mut region[to * size..(to + length) * size];
        room.copy_from_slice(&data[from * size..(from + length) * size]);
    }
    Ok(())
}

/// Decodes elements of one byte each.
fn bytes<T>(
    values: &mut [T],
    runs: Runs,
    data: &[u8],
    decode: impl Fn(u8) -> T,
) -> Result<(), Misfit> {
    same_length(runs.elements(), data.len())?;
    let length = runs.length();
    for (to, from) in runs {
        for (value, byte) in values[to..to + length].iter_mut().zip(&data[from..]) {
            *value = decode(*byte);
        }
    }
    Ok(())
}

fn narrow(values: &mut [i32], runs: Runs, data: &[u8]) -> Result<(), Misfit> {
    same_length(runs.elements() * 8, data.len())?;
    let (wide, _) = data.as_chunks::<8>();
    let length = runs.length();
    for (to, from) in runs {
        for (index, value) in (from..).zip(&mut values[to..to + length]) {
            let wide = i64::from_le_bytes(wide[index]);
            *value = i32::try_from(wide).map_err(|_| Misfit::Range { index, value: wide })?;
        }
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

fn raw(values: &mut [Vec<u8>], runs: Runs, data: &[u8]) -> Result<(), Misfit> {
    let elements = elements(runs.elements(), data)?;
    let length = runs.length();
    for (to, from) in runs {
        for (value, element) in values[to..to + length].iter_mut().zip(&elements[from..]) {
            value.clear();
            value.extend_from_slice(element);
        }
    }
    Ok(())
}

fn texts(values: &mut [String], runs: Runs, data: &[u8]) -> Result<(), Misfit> {
    let elements = elements(runs.elements(), data)?;
    let length = runs.length();
    for (to, from) in runs {
        for (index, value) in (from..).zip(&mut values[to..to + length]) {
            let text = std::str::from_utf8(elements[index]).map_err(|_| Misfit::Text { index })?;
            // The engines pass strings on as C strings.
            if text.contains('\0') {
                return Err(Misfit::Text { index });
            }
            value.clear();
            value.push_str(text);
        }
    }
    Ok(())
}

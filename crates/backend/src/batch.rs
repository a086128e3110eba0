//! A batch: the rows of several requests side by side, one contiguous buffer per input.
//!
//! An [`Arena`] belongs to one model on one accelerator and is allocated once. Each request's
//! bytes are decoded straight into their rows: one copy between the network and the engine.
//! Nothing here knows an engine; what an engine wants is said by its [`Representation`].

use crate::engine::EngineError;
use bytemuck::{AnyBitPattern, NoUninit, Zeroable};
use bytes::Bytes;
use half::{bf16, f16};
use symphony_wire::tensor::{DataType, Inputs, OutputTensor, Signature, bytes_elements};

#[cfg(target_endian = "big")]
compile_error!("tensors travel little endian and are passed on as they are");

/// How an engine wants what it may not compute with as it is declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Representation {
    /// As the model declares them.
    #[default]
    Declared,
    /// INT64 and BOOL as 32-bit integers; an INT64 value that does not fit is refused.
    Narrow,
    /// The elements of BYTES as any bytes; elsewhere they are text.
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
        enum Buffer {
            $($variant(Vec<$type>),)*
        }

        impl Buffer {
            /// The first `count` elements.
            fn first(&self, count: usize) -> Elements<'_> {
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
    /// Zeroed room for `count` elements; `None` when there is not that much memory.
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
            (DataType::Bytes, Representation::Raw) => Buffer::Raw(empty(count)?),
            (DataType::Bytes, _) => Buffer::Text(empty(count)?),
        })
    }

    /// Decodes `data` into the `count` elements from `start` on.
    fn place(
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

/// Zeroed room that costs no memory until it is written to.
fn zeroed<T: Zeroable>(count: usize) -> Option<Vec<T>> {
    bytemuck::try_zeroed_slice_box(count).ok().map(Vec::from)
}

/// Room for elements that have a length each.
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
enum Misfit {
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

/// The elements of a BYTES tensor, as many as there is room for.
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
        // Engines hand strings on as C strings.
        if text.contains('\0') {
            return Err(Misfit::Text { index });
        }
        value.clear();
        value.push_str(text);
    }
    Ok(())
}

/// Why a request cannot be part of a batch. Other requests are not affected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// It does not have one tensor per input.
    #[error("the request has {got} tensors, the model takes {expected} inputs")]
    Tensors {
        /// Inputs of the model.
        expected: usize,
        /// Tensors of the request.
        got: usize,
    },
    /// It has no rows, or more than are left in the batch.
    #[error("the request has {got} rows where 1 to {room} fit")]
    Rows {
        /// Rows left.
        room: u32,
        /// Rows of the request.
        got: u32,
    },
    /// A tensor is longer or shorter than its shape says.
    #[error("input {input:?} has {got} bytes where its shape needs {expected}")]
    Length {
        /// The input.
        input: String,
        /// Bytes its shape needs.
        expected: usize,
        /// Bytes it has.
        got: usize,
    },
    /// A BYTES tensor has more or fewer elements than its shape says.
    #[error("input {input:?} has {got} elements where its shape needs {expected}")]
    Count {
        /// The input.
        input: String,
        /// Elements its shape needs.
        expected: usize,
        /// Elements it has.
        got: usize,
    },
    /// A BYTES tensor ends within an element.
    #[error("input {input:?} is cut short: the element at byte {offset} goes past the end")]
    Truncated {
        /// The input.
        input: String,
        /// Where the unfinished element starts.
        offset: usize,
    },
    /// An INT64 value that the model's engine cannot represent.
    #[error(
        "element {index} of input {input:?} is {value}, but this model's engine computes with \
         32-bit integers: send values within 32 bits, or serve it with engine = \"onnxruntime\""
    )]
    Range {
        /// The input.
        input: String,
        /// Position in the request's tensor.
        index: usize,
        /// The value.
        value: i64,
    },
    /// A string that the engine cannot take.
    #[error(
        "element {index} of input {input:?} is not UTF-8 text without null characters, which is \
         all that this model's engine takes: send text, or encode the bytes as text"
    )]
    Text {
        /// The input.
        input: String,
        /// Position in the request's tensor.
        index: usize,
    },
}

impl InputError {
    /// Whether the fault is a value the client sent. Anything else should have been found before
    /// the request was queued.
    #[must_use]
    pub fn is_of_value(&self) -> bool {
        match self {
            InputError::Range { .. } | InputError::Text { .. } => true,
            InputError::Tensors { .. }
            | InputError::Rows { .. }
            | InputError::Length { .. }
            | InputError::Count { .. }
            | InputError::Truncated { .. } => false,
        }
    }

    fn of(input: &str, misfit: Misfit) -> InputError {
        let input = input.to_owned();
        match misfit {
            Misfit::Length { expected, got } => InputError::Length { input, expected, got },
            Misfit::Count { expected, got } => InputError::Count { input, expected, got },
            Misfit::Truncated { offset } => InputError::Truncated { input, offset },
            Misfit::Range { index, value } => InputError::Range { input, index, value },
            Misfit::Text { index } => InputError::Text { input, index },
        }
    }
}

/// One input's place in the arena.
#[derive(Debug)]
struct Column {
    name: String,
    datatype: DataType,
    /// Shape of one row.
    row_shape: Vec<usize>,
    row_elements: usize,
    buffer: Buffer,
}

/// The buffers in which batches of one model on one accelerator are assembled.
#[derive(Debug)]
pub struct Arena {
    columns: Vec<Column>,
    batched: bool,
    rows_max: u32,
    rows: u32,
}

impl Arena {
    /// Room for `rows_max` rows of every input, as an engine wants them.
    ///
    /// # Errors
    /// There is not that much memory, or an input's dimensions are not fixed.
    pub fn new(
        signature: &Signature,
        rows_max: u32,
        representation: Representation,
    ) -> Result<Arena, EngineError> {
        let columns = signature.inputs.iter().map(|spec| {
            let width = spec.datatype.size().unwrap_or(size_of::<String>()) as u128;
            let wanted = spec.row_shape.iter().map(|dim| dim.map_or(u128::MAX, |d| d as u128));
            let bytes = wanted.fold(width * u128::from(rows_max), u128::saturating_mul);
            let refuse = || EngineError::Memory { input: spec.name.clone(), rows: rows_max, bytes };
            let row_elements = spec.row_elements().ok_or_else(refuse)?;
            let count = row_elements.checked_mul(rows_max as usize).ok_or_else(refuse)?;
            let buffer = Buffer::new(spec.datatype, representation, count).ok_or_else(refuse)?;
            Ok(Column {
                name: spec.name.clone(),
                datatype: spec.datatype,
                row_shape: spec.row_shape.iter().copied().flatten().collect(),
                row_elements,
                buffer,
            })
        });
        Ok(Arena {
            columns: columns.collect::<Result<_, _>>()?,
            batched: signature.batched,
            rows_max,
            rows: 0,
        })
    }

    /// The largest batch it holds.
    #[must_use]
    pub fn rows_max(&self) -> u32 {
        self.rows_max
    }

    /// Starts a new batch.
    pub fn clear(&mut self) {
        self.rows = 0;
    }

    /// Places a request's rows after those that are there.
    ///
    /// # Errors
    /// The request does not fit; the batch is as it was before.
    pub fn push(&mut self, inputs: &Inputs) -> Result<(), InputError> {
        let room = self.rows_max - self.rows;
        if inputs.rows == 0 || inputs.rows > room {
            return Err(InputError::Rows { room, got: inputs.rows });
        }
        if inputs.tensors.len() != self.columns.len() {
            let expected = self.columns.len();
            return Err(InputError::Tensors { expected, got: inputs.tensors.len() });
        }
        for (column, data) in self.columns.iter_mut().zip(&inputs.tensors) {
            let start = self.rows as usize * column.row_elements;
            let count = inputs.rows as usize * column.row_elements;
            column
                .buffer
                .place(column.datatype, start, count, data)
                .map_err(|misfit| InputError::of(&column.name, misfit))?;
        }
        self.rows += inputs.rows;
        Ok(())
    }

    /// The batch as it stands.
    #[must_use]
    pub fn batch(&self) -> Batch<'_> {
        Batch { columns: &self.columns, batched: self.batched, rows: self.rows }
    }
}

/// The rows of a batch, as an engine sees them.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    columns: &'a [Column],
    batched: bool,
    rows: u32,
}

impl<'a> Batch<'a> {
    /// Rows in the batch.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// The inputs in the signature's order.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = BatchInput<'a>> + use<'a> {
        let (batched, rows) = (self.batched, self.rows as usize);
        self.columns.iter().map(move |column| BatchInput {
            name: &column.name,
            datatype: column.datatype,
            shape: batched
                .then_some(rows)
                .into_iter()
                .chain(column.row_shape.iter().copied())
                .collect(),
            elements: column.buffer.first(rows * column.row_elements),
        })
    }
}

/// One input of a batch.
#[derive(Clone, Debug)]
pub struct BatchInput<'a> {
    /// Its name in the graph.
    pub name: &'a str,
    /// The type the model declares; `elements` may hold another representation of it.
    pub datatype: DataType,
    /// Full shape, batch dimension included where the model has one.
    pub shape: Vec<usize>,
    /// Its elements.
    pub elements: Elements<'a>,
}

/// Splits a batch's outputs into those of its requests, in the order in which they were placed.
/// `rows` holds the rows of each. The results share the batch's memory.
///
/// # Errors
/// An output has not one entry per row of the batch: the model cannot be batched.
pub fn split(
    signature: &Signature,
    outputs: Vec<OutputTensor>,
    rows: &[u32],
) -> Result<Vec<Vec<OutputTensor>>, OutputError> {
    if outputs.len() != signature.outputs.len() {
        let expected = signature.outputs.len();
        return Err(OutputError::Count { expected, got: outputs.len() });
    }
    if !signature.batched {
        return match rows {
            [_] => Ok(vec![outputs]),
            _ => Err(OutputError::Unbatched { requests: rows.len() }),
        };
    }
    let mut requests: Vec<_> = rows.iter().map(|_| Vec::with_capacity(outputs.len())).collect();
    for (spec, output) in signature.outputs.iter().zip(outputs) {
        let total: usize = rows.iter().map(|&rows| rows as usize).sum();
        if output.shape.first() != Some(&total) {
            let (output, shape) = (spec.name.clone(), output.shape);
            return Err(OutputError::Rows { output, shape, rows: total });
        }
        let mut start = 0;
        for (request, &rows) in requests.iter_mut().zip(rows) {
            let mut shape = output.shape.clone();
            shape[0] = rows as usize;
            let elements = shape.iter().product();
            let length = length_of(&output.data[start..], spec.datatype, elements)
                .ok_or_else(|| OutputError::Length { output: spec.name.clone() })?;
            request.push(OutputTensor { shape, data: output.data.slice(start..start + length) });
            start += length;
        }
    }
    Ok(requests)
}

/// Bytes that the first `elements` elements of `data` take; `None` when there are fewer.
fn length_of(data: &[u8], datatype: DataType, elements: usize) -> Option<usize> {
    if let Some(size) = datatype.size() {
        return elements.checked_mul(size).filter(|&length| length <= data.len());
    }
    let mut at = 0;
    for _ in 0..elements {
        let (length, rest) = data.get(at..)?.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        rest.get(..length)?;
        at += 4 + length;
    }
    Some(at)
}

/// Why the outputs of a batch cannot be given to its requests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// There is not one tensor per output.
    #[error("the engine gave {got} outputs where the model has {expected}")]
    Count {
        /// Outputs of the model.
        expected: usize,
        /// Outputs the engine gave.
        got: usize,
    },
    /// A model without a batch dimension ran several requests at once.
    #[error("{requests} requests shared a batch of a model that has no batch dimension")]
    Unbatched {
        /// How many.
        requests: usize,
    },
    /// An output's leading dimension is not the batch.
    #[error("output {output:?} has shape {shape:?} for a batch of {rows} rows")]
    Rows {
        /// The output.
        output: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Rows of the batch.
        rows: usize,
    },
    /// An output has less data than its shape says.
    #[error("output {output:?} has less data than its shape says")]
    Length {
        /// The output.
        output: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use symphony_wire::tensor::{TensorSpec, bytes_contents};

    fn signature(datatype: DataType, row: &[usize], batched: bool) -> Signature {
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            datatype,
            row_shape: row.iter().map(|&dim| Some(dim)).collect(),
        };
        Signature { inputs: vec![spec("x")], outputs: vec![spec("y")], batched }
    }

    fn request(rows: u32, data: &[u8]) -> Inputs {
        Inputs { rows, tensors: vec![Bytes::copy_from_slice(data)] }
    }

    fn le<const N: usize, T>(values: &[T], bytes: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
        values.iter().flat_map(bytes).collect()
    }

    /// Places requests of one row of two elements each; returns what the engine sees.
    fn assembled(datatype: DataType, how: Representation, rows: &[&[u8]]) -> String {
        let mut arena = Arena::new(&signature(datatype, &[2], true), 4, how).unwrap();
        for row in rows {
            if let Err(error) = arena.push(&request(1, row)) {
                return error.to_string();
            }
        }
        let input = arena.batch().inputs().next().unwrap();
        assert_eq!(input.shape, [rows.len(), 2]);
        format!("{:?}", input.elements)
    }

    #[test]
    fn every_type_is_decoded_into_its_rows() {
        use DataType::{
            Bf16, Bool, Fp16, Fp32, Fp64, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64,
        };
        let check = |datatype, rows: &[&[u8]], expected: &str| {
            assert_eq!(assembled(datatype, Representation::Declared, rows), expected);
        };
        check(Bool, &[&[0, 1], &[2, 0]], "Bool([false, true, true, false])");
        check(Uint8, &[&[1, 2], &[3, 4]], "Uint8([1, 2, 3, 4])");
        check(Int8, &[&[255, 2]], "Int8([-1, 2])");
        check(Uint16, &[&[1, 1, 2, 0]], "Uint16([257, 2])");
        check(Int16, &[&[255, 255, 2, 0]], "Int16([-1, 2])");
        check(Uint32, &[&le(&[7u32, 8], |v| v.to_le_bytes())], "Uint32([7, 8])");
        check(Int32, &[&le(&[-7i32, 8], |v| v.to_le_bytes())], "Int32([-7, 8])");
        check(
            Uint64,
            &[&le(&[u64::MAX, 8], |v| v.to_le_bytes())],
            "Uint64([18446744073709551615, 8])",
        );
        check(Int64, &[&le(&[-7i64, 8], |v| v.to_le_bytes())], "Int64([-7, 8])");
        check(Fp16, &[&[0x00, 0x3c, 0x00, 0xc0]], "Fp16([1.0, -2.0])");
        check(Bf16, &[&[0x80, 0x3f, 0x00, 0xc0]], "Bf16([1.0, -2.0])");
        check(Fp32, &[&le(&[0.5f32, -2.0], |v| v.to_le_bytes())], "Fp32([0.5, -2.0])");
        check(Fp64, &[&le(&[0.5f64, -2.0], |v| v.to_le_bytes())], "Fp64([0.5, -2.0])");
        let words = bytes_contents([b"ab".as_slice(), b""]);
        check(DataType::Bytes, &[&words], r#"Text(["ab", ""])"#);
        let any = bytes_contents([b"\xff\0".as_slice(), b""]);
        let raw = assembled(DataType::Bytes, Representation::Raw, &[&any]);
        assert_eq!(raw, "Raw([[255, 0], []])");
    }

    #[test]
    fn a_narrow_engine_gets_32_bit_integers() {
        let narrow = |datatype, row: &[u8]| assembled(datatype, Representation::Narrow, &[row]);
        assert_eq!(narrow(DataType::Bool, &[0, 9]), "Int32([0, 1])");
        let int64 = |values: [i64; 2]| narrow(DataType::Int64, &le(&values, |v| v.to_le_bytes()));
        assert_eq!(int64([-1, i64::from(i32::MAX)]), "Int32([-1, 2147483647])");
        assert!(int64([0, 1 << 31]).starts_with("element 1 of input \"x\" is 2147483648"));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_the_batch_as_it_was() {
        let mut arena =
            Arena::new(&signature(DataType::Uint8, &[2], true), 3, Representation::Declared)
                .unwrap();
        arena.push(&request(2, &[1, 2, 3, 4])).unwrap();
        let mut refused = |inputs: &Inputs, expected: &str| {
            assert_eq!(arena.push(inputs).unwrap_err().to_string(), expected);
        };
        refused(&request(2, &[0; 4]), "the request has 2 rows where 1 to 1 fit");
        refused(&request(0, &[]), "the request has 0 rows where 1 to 1 fit");
        refused(&request(1, &[9]), "input \"x\" has 1 bytes where its shape needs 2");
        refused(
            &Inputs { rows: 1, tensors: vec![] },
            "the request has 0 tensors, the model takes 1 inputs",
        );
        arena.push(&request(1, &[5, 6])).unwrap();
        let input = arena.batch().inputs().next().unwrap();
        assert_eq!(input.elements, Elements::Uint8(&[1, 2, 3, 4, 5, 6]));
        arena.clear();
        assert_eq!(arena.batch().rows(), 0);
    }

    #[test]
    fn text_that_no_engine_takes_is_refused() {
        let text = |elements: [&[u8]; 2]| {
            assembled(DataType::Bytes, Representation::Declared, &[&bytes_contents(elements)])
        };
        let refused = "element 1 of input \"x\" is not UTF-8 text without null characters";
        assert!(text([b"a", b"\xff"]).starts_with(refused));
        assert!(text([b"a", b"\0"]).starts_with(refused));
        let cut = assembled(DataType::Bytes, Representation::Declared, &[&[9, 0, 0, 0, 1]]);
        assert_eq!(cut, "input \"x\" is cut short: the element at byte 0 goes past the end");
        let one = assembled(DataType::Bytes, Representation::Declared, &[&[0, 0, 0, 0]]);
        assert_eq!(one, "input \"x\" has 1 elements where its shape needs 2");
    }

    #[test]
    fn more_than_there_is_memory_for_is_refused() {
        for row in [vec![1 << 62], vec![1 << 40, 1 << 20], vec![usize::MAX, 2]] {
            let signature = signature(DataType::Fp32, &row, true);
            let error = Arena::new(&signature, 32, Representation::Declared).unwrap_err();
            assert!(matches!(error, EngineError::Memory { .. }), "{error}");
        }
    }

    fn output(shape: &[usize], data: &[u8]) -> OutputTensor {
        OutputTensor { shape: shape.to_vec(), data: Bytes::copy_from_slice(data) }
    }

    #[test]
    fn outputs_are_split_by_rows_without_a_copy() {
        let whole = output(&[3, 2], &[1, 2, 3, 4, 5, 6]);
        let address = whole.data.as_ptr();
        let parts = split(&signature(DataType::Uint8, &[2], true), vec![whole], &[2, 1]).unwrap();
        assert_eq!(parts[0], [output(&[2, 2], &[1, 2, 3, 4])]);
        assert_eq!(parts[1], [output(&[1, 2], &[5, 6])]);
        assert_eq!(parts[0][0].data.as_ptr(), address);
    }

    #[test]
    fn string_outputs_are_split_at_their_elements() {
        let whole = bytes_contents([b"a".as_slice(), b"", b"bcd", b"e"]);
        let signature = signature(DataType::Bytes, &[2], true);
        let parts = split(&signature, vec![output(&[2, 2], &whole)], &[1, 1]).unwrap();
        assert_eq!(parts[0][0].data, bytes_contents([b"a".as_slice(), b""]));
        assert_eq!(parts[1][0].data, bytes_contents([b"bcd".as_slice(), b"e"]));
    }

    #[test]
    fn outputs_that_are_not_per_row_are_refused() {
        let batched = signature(DataType::Uint8, &[2], true);
        let unbatched = signature(DataType::Uint8, &[2], false);
        let check =
            |signature: &Signature, outputs: Vec<OutputTensor>, rows: &[u32], text: &str| {
                assert_eq!(split(signature, outputs, rows).unwrap_err().to_string(), text);
            };
        check(&batched, vec![], &[1], "the engine gave 0 outputs where the model has 1");
        let one = || vec![output(&[1, 2], &[1, 2])];
        check(&batched, one(), &[1, 1], "output \"y\" has shape [1, 2] for a batch of 2 rows");
        let short = vec![output(&[2, 2], &[1, 2, 3])];
        check(&batched, short, &[1, 1], "output \"y\" has less data than its shape says");
        check(
            &unbatched,
            one(),
            &[1, 1],
            "2 requests shared a batch of a model that has no batch dimension",
        );
        assert_eq!(split(&unbatched, one(), &[1]).unwrap(), [one()]);
    }
}

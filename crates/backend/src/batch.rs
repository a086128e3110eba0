//! A batch: the rows of several requests side by side, one contiguous buffer per input.
//!
//! An [`Arena`] belongs to one model on one accelerator and is allocated once. The bytes of each
//! request are decoded straight into its rows, which is the only copy between the in-flight table
//! and the engine. Nothing here knows an engine: its [`Representation`] says what it needs.

mod buffer;
mod error;
mod split;

pub(crate) use buffer::contents;
pub use buffer::{Elements, Representation};
pub use error::{InputError, MemoryError};
pub use split::{OutputError, split};

use buffer::Buffer;
use symphony_wire::tensor::{DataType, Dim, Inputs, Signature};

/// One input in the arena.
#[derive(Debug)]
struct Column {
    name: String,
    datatype: DataType,
    shape: Vec<Dim>,
    row_elements: usize,
    buffer: Buffer,
}

/// The buffers for the batches of one model on one accelerator.
#[derive(Debug)]
pub struct Arena {
    columns: Vec<Column>,
    rows_max: u32,
    rows: u32,
}

impl Arena {
    /// Allocates room for `rows_max` rows of every input, in the form that an engine takes.
    ///
    /// # Errors
    /// There is not enough memory, or a dimension of an input is not fixed.
    pub fn new(
        signature: &Signature,
        rows_max: u32,
        representation: Representation,
    ) -> Result<Arena, MemoryError> {
        let columns = signature.inputs.iter().map(|spec| {
            let width = spec.datatype.size().unwrap_or(size_of::<String>()) as u128;
            let wanted = spec.shape.iter().map(|dim| match dim {
                Dim::Fixed(size) => *size as u128,
                Dim::Batch => 1,
                Dim::Open(_) | Dim::Unknown => u128::MAX,
            });
            let bytes = wanted.fold(width * u128::from(rows_max), u128::saturating_mul);
            let refuse = || MemoryError { input: spec.name.clone(), rows: rows_max, bytes };
            let row_elements = spec.fixed_row_elements().ok_or_else(refuse)?;
            let count = row_elements.checked_mul(rows_max as usize).ok_or_else(refuse)?;
            let buffer = Buffer::new(spec.datatype, representation, count).ok_or_else(refuse)?;
            Ok(Column {
                name: spec.name.clone(),
                datatype: spec.datatype,
                shape: spec.shape.clone(),
                row_elements,
                buffer,
            })
        });
        Ok(Arena { columns: columns.collect::<Result<_, _>>()?, rows_max, rows: 0 })
    }

    /// The largest batch that fits, in rows.
    #[must_use]
    pub fn rows_max(&self) -> u32 {
        self.rows_max
    }

    /// Starts a new batch.
    pub fn clear(&mut self) {
        self.rows = 0;
    }

    /// Adds the rows of a request behind those that are already in the batch.
    ///
    /// # Errors
    /// The request does not fit. The batch is as it was before.
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

    /// The batch so far.
    #[must_use]
    pub fn batch(&self) -> Batch<'_> {
        Batch { columns: &self.columns, rows: self.rows }
    }
}

/// The rows of a batch, as an engine sees them.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    columns: &'a [Column],
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
        let rows = self.rows as usize;
        self.columns.iter().map(move |column| BatchInput {
            name: &column.name,
            datatype: column.datatype,
            shape: column.shape.iter().map(|dim| size(*dim, rows)).collect(),
            elements: column.buffer.first(rows * column.row_elements),
        })
    }
}

fn size(dim: Dim, rows: usize) -> usize {
    match dim {
        Dim::Fixed(size) => size,
        Dim::Batch => rows,
        Dim::Open(_) | Dim::Unknown => 0,
    }
}

/// One input of a batch.
#[derive(Clone, Debug)]
pub struct BatchInput<'a> {
    /// Its name in the graph.
    pub name: &'a str,
    /// The type the model declares; `elements` may hold another representation of it.
    pub datatype: DataType,
    /// The full shape, with the batch dimension if the model has one.
    pub shape: Vec<usize>,
    /// Its elements.
    pub elements: Elements<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use symphony_wire::tensor::{TensorSpec, bytes_contents};

    fn signature(datatype: DataType, row: &[usize], batched: bool) -> Signature {
        let batch = batched.then_some(Dim::Batch).into_iter();
        let shape: Vec<Dim> = batch.chain(row.iter().map(|&size| Dim::Fixed(size))).collect();
        let spec = |name: &str| TensorSpec::new(name, datatype, shape.clone());
        Signature::fixed(vec![spec("x")], vec![spec("y")])
    }

    fn request(rows: u32, data: &[u8]) -> Inputs {
        Inputs::fixed(rows, vec![Bytes::copy_from_slice(data)])
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
        refused(&Inputs::fixed(1, vec![]), "the request has 0 tensors, the model takes 1 inputs");
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
            assert_eq!((error.input.as_str(), error.rows), ("x", 32), "{error}");
        }
    }
}

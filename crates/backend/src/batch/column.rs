//! One input of a batch: its buffer, and where in it each request's elements go.

use super::buffer::{Buffer, Elements, Misfit, Rooms};
use super::error::{InputError, MemoryError};
use crate::limits;
use symphony_wire::tensor::{Dim, Inputs, Runs, Signature, TensorSpec, bytes_count};

/// One input.
#[derive(Debug)]
pub(super) struct Column {
    rooms: Rooms,
    buffer: Buffer,
    /// The shape in the batch that is being assembled.
    shape: Vec<usize>,
}

impl Column {
    /// Allocates room for so many rows if the shape of a row is fixed.
    pub(super) fn new(
        spec: &TensorSpec,
        rows_max: u32,
        rooms: Rooms,
    ) -> Result<Column, MemoryError> {
        let is_open = spec.shape.iter().any(|dim| matches!(dim, Dim::Open(_)));
        let buffer = rooms.buffer(spec.datatype, 0);
        let buffer = buffer.ok_or_else(|| excess(spec, &[], rows_max))?;
        let mut column = Column { rooms, buffer, shape: Vec::new() };
        if !is_open {
            column.make_room(spec, rows_max, &[])?;
        }
        Ok(column)
    }

    /// The shape in the batch.
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements in the batch.
    pub(super) fn elements(&self) -> Elements<'_> {
        self.buffer.first(self.shape.iter().product())
    }

    /// Takes the shape that a batch needs, and grows the buffer where it is too small. What was in
    /// it is lost.
    pub(super) fn make_room(
        &mut self,
        spec: &TensorSpec,
        rows: u32,
        sizes: &[usize],
    ) -> Result<(), MemoryError> {
        self.shape.clear();
        self.shape.extend(spec.shape.iter().map(|dim| match dim {
            Dim::Fixed(size) => *size,
            Dim::Batch => rows as usize,
            Dim::Open(index) => sizes.get(usize::from(*index)).copied().unwrap_or(usize::MAX),
            Dim::Unknown => usize::MAX,
        }));
        let wanted = self.shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        let wanted = wanted.filter(|_| !spec.shape.contains(&Dim::Unknown));
        let wanted = wanted.ok_or_else(|| excess(spec, &self.shape, rows))?;
        if wanted > self.buffer.len() {
            self.grow(spec, wanted).ok_or_else(|| excess(spec, &self.shape, rows))?;
        }
        Ok(())
    }

    /// Makes room for so many elements, or for twice as many as before if that is more and there
    /// is the memory for it.
    fn grow(&mut self, spec: &TensorSpec, wanted: usize) -> Option<()> {
        let double = self.buffer.len().saturating_mul(2);
        let rooms = self.rooms.clone();
        let new = |count| rooms.buffer(spec.datatype, count);
        // The old buffer goes first.
        self.buffer = new(0)?;
        self.buffer = match double > wanted {
            true => new(double).or_else(|| new(wanted))?,
            false => new(wanted)?,
        };
        Some(())
    }

    /// Decodes the contents of a request, whose first row is this one of the batch.
    pub(super) fn place(
        &mut self,
        signature: &Signature,
        spec: &TensorSpec,
        inputs: &Inputs,
        data: &[u8],
        row: usize,
    ) -> Result<(), InputError> {
        let shape = std::mem::take(&mut self.shape);
        let place = Placement::new(signature, spec, inputs, &shape);
        let (row, rows, times) = match place.axis {
            None => (0, 1, 1),
            Some(_) if place.is_one_row(spec, data) => (row, 1, inputs.rows as usize),
            Some(_) => (row, inputs.rows, 1),
        };
        let mut each = row..row + times;
        let placed = each.try_for_each(|row| self.place_rows(spec, &place, (row, rows), data));
        self.shape = shape;
        placed
    }

    /// Decodes so many rows, the first of which is this one of the batch.
    fn place_rows(
        &mut self,
        spec: &TensorSpec,
        place: &Placement<'_>,
        (row, rows): (usize, u32),
        data: &[u8],
    ) -> Result<(), InputError> {
        let (datatype, buffer) = (spec.datatype, &mut self.buffer);
        let of = |misfit: Misfit| InputError::of(&spec.name, misfit);
        if place.lies_together() {
            let elements = place.row_elements * rows as usize;
            let runs = Runs::one(row * place.row_elements, elements);
            return buffer.place(datatype, runs, data).map_err(of);
        }
        for padding in place.padding(row, rows) {
            let Some(fill) = &spec.fill else {
                return Err(InputError::Unpadded { input: spec.name.clone() });
            };
            buffer.fill(datatype, padding, fill).map_err(of)?;
        }
        buffer.place(datatype, place.rows(row, rows), data).map_err(of)
    }
}

/// Where the rows of one request go.
struct Placement<'a> {
    /// The shape in the batch.
    whole: &'a [usize],
    /// Where the batch dimension stands.
    axis: Option<usize>,
    /// Dimensions along which the request is shorter than the batch, and its own size along them.
    short: Vec<usize>,
    length: usize,
    /// Elements of one row of the request.
    row_elements: usize,
}

impl<'a> Placement<'a> {
    fn new(
        signature: &Signature,
        spec: &TensorSpec,
        inputs: &Inputs,
        whole: &'a [usize],
    ) -> Placement<'a> {
        let length = signature.padded.map_or(0, |padded| inputs.sizes[usize::from(padded)]);
        let (axis, mut short, mut row_elements) = (spec.batch_axis(), Vec::new(), 1);
        for (at, (dim, &size)) in spec.shape.iter().zip(whole).enumerate() {
            let is_short = signature.is_padded(*dim) && length < size;
            if is_short {
                short.push(at);
            }
            if *dim != Dim::Batch {
                row_elements *= if is_short { length } else { size };
            }
        }
        Placement { whole, axis, short, length, row_elements }
    }

    /// Whether the contents are one row, to be repeated.
    fn is_one_row(&self, spec: &TensorSpec, data: &[u8]) -> bool {
        let may = self.axis.is_some() && (spec.broadcast || spec.default.is_some());
        may && match spec.datatype.size() {
            Some(size) => data.len() == self.row_elements * size,
            None => bytes_count(data) == Ok(self.row_elements),
        }
    }

    /// Whether the rows lie one behind the other, as they came.
    fn lies_together(&self) -> bool {
        self.axis.is_none_or(|axis| axis == 0) && self.short.is_empty()
    }

    /// The place of so many rows, the first of which is this one of the batch.
    fn rows(&self, row: usize, rows: u32) -> Runs {
        let (mut part, at) = self.padded_rows(row, rows);
        for &axis in &self.short {
            part[axis] = self.length;
        }
        Runs::of_box(self.whole, &part, &at)
    }

    /// What is to be filled of these rows, as boxes that do not overlap.
    fn padding(&self, row: usize, rows: u32) -> impl Iterator<Item = Runs> {
        let (mut part, at) = self.padded_rows(row, rows);
        self.short.iter().map(move |&axis| {
            let (mut beyond, mut begin) = (part.clone(), at.clone());
            begin[axis] = self.length;
            beyond[axis] = self.whole[axis] - self.length;
            part[axis] = self.length;
            Runs::of_box(self.whole, &beyond, &begin)
        })
    }

    /// Shape and begin of the rows with their padding.
    fn padded_rows(&self, row: usize, rows: u32) -> (Vec<usize>, Vec<usize>) {
        let (mut part, mut at) = (self.whole.to_vec(), vec![0; self.whole.len()]);
        if let Some(axis) = self.axis {
            (part[axis], at[axis]) = (rows as usize, row);
        }
        (part, at)
    }
}

fn excess(spec: &TensorSpec, shape: &[usize], rows: u32) -> MemoryError {
    let bytes = shape.iter().map(|&size| size as u128);
    let bytes = bytes.fold(limits::element_bytes(spec.datatype).into(), u128::saturating_mul);
    MemoryError { input: spec.name.clone(), rows, bytes }
}

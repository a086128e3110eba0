//! A batch: the rows of several requests side by side, one contiguous buffer per input.
//!
//! An [`Arena`] belongs to one model on one accelerator, and its buffers are used again for every
//! batch. The bytes of each request are decoded straight into their places, which is the only copy
//! between the in-flight table and the engine. Rows lie side by side along the batch dimension,
//! wherever that stands; shorter requests are filled up along the padded dimension; an input that
//! all rows share is there once. Nothing here knows an engine: its [`Representation`] says what it
//! needs.

mod buffer;
mod column;
mod error;
mod memory;
mod split;
#[cfg(test)]
mod tests;

pub(crate) use buffer::contents;
pub use buffer::{Elements, Representation};
pub use error::{AssemblyError, InputError, MemoryError, RefusedRequest};
pub use memory::{BufferMemory, BufferRegion, Heap};
pub use split::{OutputError, Part, split};

use crate::limits;
use buffer::Rooms;
use column::Column;
use std::sync::Arc;
use symphony_wire::tensor::{DataType, Inputs, Signature};

/// The buffers for the batches of one model on one accelerator.
#[derive(Debug)]
pub struct Arena {
    signature: Arc<Signature>,
    columns: Vec<Column>,
    rows_max: u32,
    /// Rows of the batch.
    rows: u32,
    /// Sizes of the open dimensions in the batch.
    sizes: Vec<usize>,
    /// What of the batch belongs to which request.
    parts: Vec<Part>,
}

impl Arena {
    /// Allocates room for `rows_max` rows of every input whose shape is fixed, in the form that an
    /// engine takes. Room for other inputs grows with the batches.
    ///
    /// # Errors
    /// There is not enough memory, or a dimension of an input is not known.
    pub fn new(
        signature: Arc<Signature>,
        rows_max: u32,
        representation: Representation,
    ) -> Result<Arena, MemoryError> {
        Arena::in_memory(signature, rows_max, representation, Arc::new(Heap))
    }

    /// The same in the memory from which an engine takes [`Representation::Bytes`].
    ///
    /// # Errors
    /// As [`Arena::new`].
    pub fn in_memory(
        signature: Arc<Signature>,
        rows_max: u32,
        representation: Representation,
        memory: Arc<dyn BufferMemory>,
    ) -> Result<Arena, MemoryError> {
        let rooms = Rooms { representation, memory };
        let column = |spec| Column::new(spec, rows_max, rooms.clone());
        let columns = signature.inputs.iter().map(column).collect::<Result<_, _>>()?;
        let (sizes, parts) = (Vec::new(), Vec::new());
        Ok(Arena { signature, columns, rows_max, rows: 0, sizes, parts })
    }

    /// The largest batch, in rows.
    #[must_use]
    pub fn rows_max(&self) -> u32 {
        self.rows_max
    }

    /// Whether a batch of so many rows, at these sizes of the open dimensions, keeps to the bounds
    /// on rows and memory.
    #[must_use]
    pub fn fits(&self, rows: u32, sizes: &[usize]) -> bool {
        rows <= self.rows_max && self.excess(rows, sizes).is_none()
    }

    /// Makes one batch of whole requests, in their order.
    ///
    /// # Errors
    /// The requests do not make a batch; there is none then.
    pub fn assemble<'r>(
        &mut self,
        requests: impl Iterator<Item = &'r Inputs> + Clone,
    ) -> Result<(), AssemblyError> {
        let refused = self.lay_out(requests.clone());
        if !refused.is_empty() {
            return Err(self.refuse(refused));
        }
        if let Err(error) = self.make_room() {
            self.clear();
            return Err(error.into());
        }
        let (mut row, mut refused) = (0, Vec::new());
        for (position, inputs) in requests.enumerate() {
            if let Err(error) = self.place(position, inputs, row) {
                refused.push(RefusedRequest { position, error });
            }
            row += inputs.rows as usize;
        }
        if refused.is_empty() { Ok(()) } else { Err(self.refuse(refused)) }
    }

    /// The batch.
    #[must_use]
    pub fn batch(&self) -> Batch<'_> {
        Batch { arena: self }
    }

    /// What of the batch belongs to which request.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    fn clear(&mut self) {
        self.rows = 0;
        self.sizes.clear();
        self.parts.clear();
    }

    fn refuse(&mut self, refused: Vec<RefusedRequest>) -> AssemblyError {
        self.clear();
        AssemblyError::Requests(refused)
    }

    /// Finds rows and sizes of the batch. Returns the requests that cannot be part of it.
    fn lay_out<'r>(&mut self, requests: impl Iterator<Item = &'r Inputs>) -> Vec<RefusedRequest> {
        self.clear();
        let (mut first, mut refused) = (None, Vec::new());
        for (position, inputs) in requests.enumerate() {
            let first = *first.get_or_insert(inputs);
            if let Err(error) = self.check(first, inputs) {
                refused.push(RefusedRequest { position, error });
                continue;
            }
            if self.parts.is_empty() {
                self.sizes.clone_from(&inputs.sizes);
            }
            let length = self.signature.padded.map_or(0, |padded| {
                let longest = &mut self.sizes[usize::from(padded)];
                *longest = inputs.sizes[usize::from(padded)].max(*longest);
                inputs.sizes[usize::from(padded)]
            });
            self.rows += inputs.rows;
            self.parts.push(Part { rows: inputs.rows, length });
        }
        refused
    }

    /// Whether a request can be added to those that are laid out, the first of which is given.
    fn check(&self, first: &Inputs, inputs: &Inputs) -> Result<(), InputError> {
        let room = match self.parts.is_empty() || self.signature.is_batched() {
            true => self.rows_max - self.rows,
            false => 0,
        };
        if inputs.rows == 0 || inputs.rows > room {
            return Err(InputError::Rows { room, got: inputs.rows });
        }
        let (expected, got) = (self.columns.len(), inputs.tensors.len());
        if got != expected {
            return Err(InputError::Tensors { expected, got });
        }
        let (expected, got) = (self.signature.dimensions.len(), inputs.sizes.len());
        if got != expected {
            return Err(InputError::Sizes { expected, got });
        }
        if !self.signature.is_of_form(first, inputs) {
            return Err(InputError::Form);
        }
        Ok(())
    }

    /// Gives every input its shape in the batch, and room for it.
    fn make_room(&mut self) -> Result<(), MemoryError> {
        if let Some(error) = self.excess(self.rows, &self.sizes) {
            return Err(error);
        }
        for (column, spec) in self.columns.iter_mut().zip(&self.signature.inputs) {
            column.make_room(spec, self.rows, &self.sizes)?;
        }
        Ok(())
    }

    /// The input with which a batch exceeds the bound on memory. Inputs of fixed shape were measured
    /// against it when the model was loaded.
    fn excess(&self, rows: u32, sizes: &[usize]) -> Option<MemoryError> {
        if self.signature.dimensions.is_empty() {
            return None;
        }
        let mut sum = 0u128;
        self.signature.inputs.iter().find_map(|spec| {
            let elements = self.signature.elements_of(spec, rows, sizes).unwrap_or(usize::MAX);
            let bytes = elements as u128 * u128::from(limits::element_bytes(spec.datatype));
            sum += bytes;
            let exceeds = sum > u128::from(limits::BATCH_BYTES_MAX);
            exceeds.then(|| MemoryError { input: spec.name.clone(), rows, bytes })
        })
    }

    /// Decodes the inputs of a request, whose first row is this one of the batch.
    fn place(&mut self, position: usize, inputs: &Inputs, row: usize) -> Result<(), InputError> {
        let specs = self.signature.inputs.iter().zip(&inputs.tensors);
        for (column, (spec, data)) in self.columns.iter_mut().zip(specs) {
            // All have the same contents of a shared input.
            if position == 0 || spec.batch_axis().is_some() {
                column.place(&self.signature, spec, inputs, data, row)?;
            }
        }
        Ok(())
    }
}

/// The rows of a batch, as an engine sees them.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    arena: &'a Arena,
}

impl<'a> Batch<'a> {
    /// Rows in the batch.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.arena.rows
    }

    /// The sizes of the open dimensions of the signature.
    #[must_use]
    pub fn sizes(&self) -> &'a [usize] {
        &self.arena.sizes
    }

    /// The rows of each request, in their order.
    pub fn requests(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.arena.parts.iter().map(|part| part.rows)
    }

    /// The inputs in the signature's order.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = BatchInput<'a>> + use<'a> {
        let specs = self.arena.signature.inputs.iter();
        specs.zip(&self.arena.columns).map(|(spec, column)| BatchInput {
            name: &spec.name,
            datatype: spec.datatype,
            shape: column.shape().to_vec(),
            elements: column.elements(),
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
    /// The full shape, with the batch dimension if the model has one.
    pub shape: Vec<usize>,
    /// Its elements.
    pub elements: Elements<'a>,
}

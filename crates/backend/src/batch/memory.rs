//! Where the buffers of batches lie: in the memory of this process, or wherever an engine takes them
//! from.

use std::fmt::Debug;
use std::ops::DerefMut;

/// Memory in which an engine takes the rows of batches, such as one that another process sees.
pub trait BufferMemory: Debug + Send + Sync {
    /// A buffer of so many bytes, whose contents may be any; `None` when there is no room.
    fn allocate(&self, bytes: usize) -> Option<Box<dyn BufferRegion>>;
}

/// A part of a memory with one owner. It is free again when this is dropped.
pub trait BufferRegion: Debug + Send + DerefMut<Target = [u8]> {}

impl<T: Debug + Send + DerefMut<Target = [u8]>> BufferRegion for T {}

/// The memory of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap;

impl BufferMemory for Heap {
    fn allocate(&self, bytes: usize) -> Option<Box<dyn BufferRegion>> {
        // Pages that are never written cost no memory.
        let zeros: Box<[u8]> = bytemuck::try_zeroed_slice_box(bytes).ok()?;
        Some(Box::new(zeros.into_vec()))
    }
}

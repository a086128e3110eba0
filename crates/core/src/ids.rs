//! Identities. Each is a newtype, so that a model is never taken for an accelerator.

/// One served model (one network with one latency objective) within a pool.
///
/// Numbered densely from zero by whoever registers models, and reused only after the model
/// was removed and its last batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(pub u32);

/// One accelerator of a pool; low numbers are preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AcceleratorId(pub u32);

/// One request, unique among those in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One batch, unique within the life of a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

impl ModelId {
    /// Position in a dense table of models.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl AcceleratorId {
    /// Position in a dense table of accelerators.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

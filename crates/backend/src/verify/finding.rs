//! What a trial of batches finds.

/// Whether rows in a batch give what they give alone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Finding {
    /// They do, within what the engine itself differs by.
    Independent,
    /// They do not: the text says where, the number by how much, relative to the largest value.
    Dependent(String, f64),
    /// A batch does not run, or its outputs do not have the rows of its inputs.
    Fails(String),
}

//! What a request by rows and one by columns have in common.

/// The name that clients know of the one signature that a model has here.
pub(super) const SIGNATURE: &str = "serving_default";

/// Which of the two forms a request has, and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Layout {
    /// `instances`: so many rows, each with all inputs.
    Rows(usize),
    /// `inputs`: each input with all rows.
    Columns,
}

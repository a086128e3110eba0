//! What a file or a text holds.

use bytes::Bytes;

/// Contents with the shape that they have where they come from.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) shape: Vec<i64>,
    pub(super) data: Bytes,
}

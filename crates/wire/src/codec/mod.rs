//! Messages as bytes.
//!
//! A link carries frames. Each has a [header](Header), which says how long it is and of what kind, and a
//! body. Numbers are little endian. What is said for every request has a fixed layout, which is read
//! where it lies; what is said now and then is a value of serde in postcard's format. The contents of
//! tensors stand at the end of a frame: they are neither copied into it nor out of it.
//!
//! Everything that is read comes from another process. A body that does not say what its kind promises
//! gives a [`DecodeError`], and nothing is allocated on the word of a number in it: lists are as long as
//! there are bytes for them.
//!
//! - `frame`: what can be a frame. `error`: why something is none.
//! - `layout`: the fixed layouts.
//! - `reading`, `writing`: one frame's body, and a buffer of frames.
//! - `frontend`, `backend`, `data`: the frames of each pair of processes.

mod backend;
mod data;
mod error;
mod frame;
mod frontend;
pub(crate) mod kinds;
pub(crate) mod layout;
pub(crate) mod reading;
pub(crate) mod writing;

#[cfg(test)]
mod tests;

pub use error::DecodeError;
pub use frame::Frame;
pub use layout::{HEADER, Header};
pub use reading::Body;
pub use writing::{FrameBuffer, FrameWriter};

//! Tensors between processes of one host, without a copy.
//!
//! A process that has an [`Arena`] passes its memory along with its hello, over a Unix socket. A tensor
//! that lies in it travels as where it lies, and the peer reads it there. The sender keeps it until the
//! peer has let go of it, or the link has ended. So a body that a frontend reads into a buffer of its
//! arena is copied once, by the backend into the buffer of its batch.
//!
//! Only the owner of an arena can write to it; the system holds everybody else to reading. The one
//! exception is made by its owner, for a process that computes on tensors in their place
//! ([`Arena::writable_by_peers`]); no other peer takes such a memory. Nor can the owner make the memory
//! shorter under those who read. What it can do is change what they read while they do: tensors are
//! plain numbers, and whoever reads one takes any.
//!
//! - `memory`: the memory itself, and all code that has to be taken on trust.
//! - `ranges`: which parts of it are free.
//! - `arena`: buffers in it, for its owner.
//! - `lending`: tensors that a peer has, and tensors of a peer.

mod arena;
mod lending;
mod memory;
mod ranges;

pub use arena::{Arena, ArenaBuf};
pub(crate) use lending::Lending;
pub use lending::{PeerArena, Place};
pub use memory::NoMemory;

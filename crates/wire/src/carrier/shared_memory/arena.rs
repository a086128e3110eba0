//! Buffers in memory that peers can read, for the process that owns it.

use super::memory::{OwnMemory, Peers, Region};
use bytes::Bytes;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Shorter tensors travel by the socket: to copy them costs less than to keep account of them.
pub(super) const LENT_MIN: usize = 4096;

/// Memory for tensors that peers on this host read where they lie. Clones are the same memory.
#[derive(Clone, Debug)]
pub struct Arena(Arc<OwnMemory>);

impl Arena {
    /// A memory of so many bytes. It takes as much of the machine's as has ever been in use at once.
    ///
    /// # Errors
    /// The system does not give it.
    pub fn new(bytes: usize) -> io::Result<Arena> {
        Ok(Arena(Arc::new(OwnMemory::new(bytes, Peers::Read)?)))
    }

    /// A memory that peers may also write to: for tensors that a peer is to change in their place.
    ///
    /// # Errors
    /// The system does not give it.
    pub fn writable_by_peers(bytes: usize) -> io::Result<Arena> {
        Ok(Arena(Arc::new(OwnMemory::new(bytes, Peers::Write)?)))
    }

    /// A buffer of this length; `None` while so much is not free in one piece. It holds whatever its
    /// place held before: fill it.
    #[must_use]
    pub fn buffer(&self, length: usize) -> Option<ArenaBuf> {
        Some(ArenaBuf(self.0.take(length)?))
    }

    /// A buffer of this length for a tensor that peers are to read; `None` where it is as well to send
    /// them a copy, or where there is no room.
    #[must_use]
    pub fn tensor_buffer(&self, length: usize) -> Option<ArenaBuf> {
        if length < LENT_MIN { None } else { self.buffer(length) }
    }

    /// A tensor where peers read it: copied into the arena, unless it lies there, is as well sent as a
    /// copy, or there is no room.
    #[must_use]
    pub fn keep(&self, tensor: Bytes) -> Bytes {
        if self.place_of(&tensor).is_some() {
            return tensor;
        }
        let Some(mut buffer) = self.tensor_buffer(tensor.len()) else { return tensor };
        buffer.copy_from_slice(&tensor);
        buffer.freeze()
    }

    /// Its length.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.length()
    }

    /// Where in it some bytes lie, if they do.
    #[must_use]
    pub fn place_of(&self, bytes: &[u8]) -> Option<usize> {
        self.0.place_of(bytes)
    }

    /// What gives a peer the memory.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.0.descriptor()
    }
}

/// A buffer in an arena, to be written by one owner. Its place is free again when it, or the last of
/// the [`Bytes`] made of it, is dropped.
#[derive(Debug)]
pub struct ArenaBuf(Region);

impl ArenaBuf {
    /// Its contents, as they are from now on.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self.0)
    }
}

impl Deref for ArenaBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for ArenaBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_buffer_is_written_read_and_free_again() {
        let arena = Arena::new(1 << 16).unwrap();
        let mut buffer = arena.buffer(1 << 16).unwrap();
        assert!(arena.buffer(1).is_none(), "all of it is in use");
        buffer.copy_from_slice(&[7; 1 << 16]);
        let bytes = buffer.freeze();
        let part = bytes.slice(100..200);
        drop(bytes);
        assert_eq!(arena.place_of(&part), Some(100));
        assert!(arena.buffer(1).is_none(), "a part of it is");
        assert!(part.iter().all(|byte| *byte == 7));
        drop(part);
        assert_eq!(arena.buffer(1 << 16).unwrap()[99], 7);
    }

    #[test]
    fn tensors_are_kept_in_it_once_and_where_there_is_room() {
        let arena = Arena::new(1 << 16).unwrap();
        let kept = arena.keep(Bytes::from(vec![3; 40_000]));
        assert_eq!((arena.place_of(&kept), &kept[..]), (Some(0), &[3; 40_000][..]));
        let again = arena.keep(kept.clone());
        assert_eq!(again.as_ptr(), kept.as_ptr());
        for length in [LENT_MIN - 1, 40_000] {
            let elsewhere = Bytes::from(vec![4; length]);
            assert_eq!(arena.keep(elsewhere.clone()).as_ptr(), elsewhere.as_ptr(), "{length}");
        }
    }

    #[test]
    fn peers_write_to_it_only_where_its_owner_lets_them() {
        use crate::carrier::shared_memory::{NoMemory, PeerArena};
        let write = |arena: &Arena| {
            let peer = File::from(arena.descriptor().unwrap());
            peer.write_all_at(&[7; 10], 0)
        };
        assert!(write(&Arena::new(1 << 16).unwrap()).is_err());
        let shared = Arena::writable_by_peers(1 << 16).unwrap();
        let buffer = shared.buffer(10).unwrap();
        write(&shared).unwrap();
        assert_eq!(buffer[..], [7; 10]);
        let other = PeerArena::open(&shared.descriptor().unwrap(), 1 << 16);
        assert!(matches!(other, Err(NoMemory::Unsealed)), "nobody else takes it");
    }

    #[test]
    fn other_bytes_are_not_in_it() {
        let arena = Arena::new(1 << 16).unwrap();
        assert_eq!(arena.place_of(&[1, 2, 3]), None);
        let other = Arena::new(1 << 16).unwrap().buffer(10).unwrap().freeze();
        assert_eq!(arena.place_of(&other), None);
    }
}

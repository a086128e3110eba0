//! The memory that tensors lie in: arenas of the server for inputs, which outlive the process, and
//! arenas of the process for outputs.

use bytes::Bytes;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use symphony_wire::carrier::shared_memory::{Arena, ArenaBuf, NoMemory, PeerArena, Place};

/// The length of the first arena. Only what is written takes memory of the machine.
const FIRST: usize = 16 << 20;

/// Arenas for inputs, each at least twice as long as the one before. Scripts may change inputs in
/// their place, so the process may write to them.
#[derive(Debug, Default)]
pub(crate) struct InputArenas(Mutex<Vec<Arena>>);

impl InputArenas {
    fn arenas(&self) -> MutexGuard<'_, Vec<Arena>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of this length, in a new arena where the others are full.
    pub(crate) fn buffer(&self, length: usize) -> io::Result<ArenaBuf> {
        let mut arenas = self.arenas();
        if let Some(buffer) = arenas.iter().rev().find_map(|arena| arena.buffer(length)) {
            return Ok(buffer);
        }
        let wanted = length.checked_next_multiple_of(4096).ok_or(io::ErrorKind::OutOfMemory)?;
        let next = arenas.last().map_or(FIRST, |arena| arena.bytes().saturating_mul(2));
        let arena = Arena::writable_by_peers(next.max(wanted))?;
        let buffer = arena.buffer(length).ok_or(io::ErrorKind::OutOfMemory)?;
        arenas.push(arena);
        Ok(buffer)
    }

    /// In which arena some bytes lie, and where.
    pub(crate) fn place_of(&self, bytes: &[u8]) -> Option<(usize, u64)> {
        let arenas = self.arenas();
        let mut places = arenas.iter().map(|arena| arena.place_of(bytes)).enumerate();
        places.find_map(|(index, place)| Some((index, place? as u64)))
    }

    /// Those behind the first `known`: lengths and descriptors.
    pub(crate) fn after(&self, known: usize) -> io::Result<Vec<(u64, OwnedFd)>> {
        let arenas = self.arenas();
        let new = arenas.iter().skip(known);
        new.map(|arena| Ok((arena.bytes() as u64, arena.descriptor()?))).collect()
    }
}

/// Arenas of one life of the process, which outputs lie in.
#[derive(Debug, Default)]
pub(crate) struct OutputArenas(Vec<PeerArena>);

impl OutputArenas {
    pub(crate) fn add(&mut self, descriptor: &OwnedFd, length: u64) -> Result<(), NoMemory> {
        self.0.push(PeerArena::open(descriptor, length)?);
        Ok(())
    }

    /// An output, where it lies.
    pub(crate) fn tensor(&self, arena: usize, offset: u64, length: u64) -> Option<Bytes> {
        self.0.get(arena)?.tensor(Place { offset, length })
    }

    /// What was dropped since the last call: arena and beginning.
    pub(crate) fn let_go(&self) -> Vec<(usize, u64)> {
        let arenas = self.0.iter().enumerate();
        let places = arenas.map(|(index, arena)| (index, arena.let_go()));
        places
            .flat_map(|(index, places)| places.into_iter().map(move |p| (index, p.offset)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_arena_is_followed_by_a_larger_one() {
        let arenas = InputArenas::default();
        let first = arenas.buffer(FIRST).unwrap();
        let second = arenas.buffer(10).unwrap();
        let third = arenas.buffer(5 * FIRST + 1).unwrap();
        assert_eq!(arenas.place_of(&first), Some((0, 0)));
        assert_eq!(arenas.place_of(&second), Some((1, 0)));
        assert_eq!(arenas.place_of(&third), Some((2, 0)));
        assert_eq!(arenas.place_of(&[1, 2]), None);
        let lengths: Vec<_> = arenas.after(1).unwrap().into_iter().map(|new| new.0).collect();
        assert_eq!(lengths, [2 * FIRST as u64, 5 * FIRST as u64 + 4096]);
        drop((first, second, third));
        let again = arenas.buffer(FIRST).unwrap();
        assert_eq!(arenas.place_of(&again), Some((2, 0)), "the largest first");
        assert_eq!(arenas.after(0).unwrap().len(), 3);
    }
}

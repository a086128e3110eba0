//! Tensors on loan: those of this process that a peer reads, and those of a peer that this one reads.

use super::arena::{Arena, LENT_MIN};
use super::memory::{NoMemory, PeerMemory};
use bytes::Bytes;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Where a tensor lies in an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Where it begins.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
}

/// What one peer has of this process's arena.
#[derive(Debug)]
pub(crate) struct Lending {
    arena: Arena,
    /// Kept until the peer lets go; several where it was sent several times.
    lent: Mutex<HashMap<Place, Vec<Bytes>>>,
}

impl Lending {
    pub(crate) fn new(arena: Arena) -> Lending {
        Lending { arena, lent: Mutex::default() }
    }

    fn lent(&self) -> MutexGuard<'_, HashMap<Place, Vec<Bytes>>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends a tensor to the peer, if it lies in the arena and is worth it.
    pub(crate) fn lend(&self, tensor: &Bytes) -> Option<Place> {
        if tensor.len() < LENT_MIN {
            return None;
        }
        let offset = self.arena.place_of(tensor)? as u64;
        let place = Place { offset, length: tensor.len() as u64 };
        self.lent().entry(place).or_default().push(tensor.clone());
        Some(place)
    }

    /// The peer has let go of a tensor. Of one that it does not have it cannot.
    pub(crate) fn let_go(&self, place: Place) {
        let mut lent = self.lent();
        let Some(copies) = lent.get_mut(&place) else { return };
        let one = copies.pop();
        if copies.is_empty() {
            lent.remove(&place);
        }
        // It is freed under no lock of ours.
        drop(lent);
        drop(one);
    }

    /// The link has ended: the peer has nothing any more.
    pub(crate) fn let_go_of_all(&self) {
        let all = std::mem::take(&mut *self.lent());
        drop(all);
    }
}

/// The arena of a peer, which this process reads.
#[derive(Clone, Debug)]
pub struct PeerArena {
    memory: Arc<PeerMemory>,
    returns: Arc<Returns>,
}

/// Tensors that this process has let go of, and the peer does not know yet.
#[derive(Debug, Default)]
pub(crate) struct Returns {
    places: Mutex<Vec<Place>>,
    /// There are some.
    pub(crate) news: Notify,
}

impl Returns {
    /// Takes all there are.
    pub(crate) fn take(&self) -> Vec<Place> {
        std::mem::take(&mut *self.places.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, place: Place) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).push(place);
        self.news.notify_one();
    }
}

impl PeerArena {
    /// The memory that a peer has passed, of which it says that it is so long.
    ///
    /// # Errors
    /// It is no memory that can be read without harm.
    pub fn open(descriptor: &OwnedFd, claimed: u64) -> Result<PeerArena, NoMemory> {
        let memory = Arc::new(PeerMemory::open(descriptor, claimed)?);
        Ok(PeerArena { memory, returns: Arc::default() })
    }

    pub(crate) fn returns(&self) -> &Arc<Returns> {
        &self.returns
    }

    /// The tensors that were dropped since the last call: what the peer may use again once it knows.
    #[must_use]
    pub fn let_go(&self) -> Vec<Place> {
        self.returns.take()
    }

    /// A tensor of the peer, where it lies; `None` for a place outside of the memory. It is among those
    /// [let go](Self::let_go) when the last part of it is dropped.
    #[must_use]
    pub fn tensor(&self, place: Place) -> Option<Bytes> {
        let start = usize::try_from(place.offset).ok()?;
        let length = usize::try_from(place.length).ok()?;
        if !self.memory.contains(start, length) {
            return None;
        }
        let (memory, returns) = (Arc::clone(&self.memory), Arc::clone(&self.returns));
        Some(Bytes::from_owner(Borrowed { memory, returns, place, start, length }))
    }
}

/// A tensor of a peer.
struct Borrowed {
    memory: Arc<PeerMemory>,
    returns: Arc<Returns>,
    place: Place,
    start: usize,
    length: usize,
}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        self.memory.read(self.start, self.length)
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.returns.add(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(arena: &Arena, length: usize, byte: u8) -> Bytes {
        let mut buffer = arena.buffer(length).unwrap();
        buffer.fill(byte);
        buffer.freeze()
    }

    #[test]
    fn a_tensor_stays_until_the_peer_has_let_go_of_each_copy() {
        let arena = Arena::new(1 << 16).unwrap();
        let lending = Lending::new(arena.clone());
        let bytes = tensor(&arena, 1 << 16, 5);
        let place = lending.lend(&bytes).unwrap();
        assert_eq!(lending.lend(&bytes), Some(place));
        drop(bytes);
        lending.let_go(Place { offset: 64, length: 64 });
        lending.let_go(place);
        assert!(arena.buffer(1).is_none());
        lending.let_go(place);
        assert!(arena.buffer(1 << 16).is_some());
        lending.let_go(place);

        let bytes = tensor(&arena, 1 << 16, 5);
        lending.lend(&bytes).unwrap();
        drop(bytes);
        lending.let_go_of_all();
        assert!(arena.buffer(1 << 16).is_some());
        assert_eq!(lending.lend(&tensor(&arena, LENT_MIN - 1, 1)), None, "not worth it");
        assert_eq!(lending.lend(&Bytes::from(vec![0; LENT_MIN])), None, "elsewhere");
    }

    #[test]
    fn a_peer_reads_what_the_owner_wrote_and_says_when_it_is_done() {
        let arena = Arena::new(1 << 16).unwrap();
        let peer = PeerArena::open(&arena.descriptor().unwrap(), 1 << 16).unwrap();
        let bytes = tensor(&arena, 5000, 9);
        let place = Lending::new(arena.clone()).lend(&bytes).unwrap();
        let read = peer.tensor(place).unwrap();
        assert_eq!(read, bytes);
        let part = read.slice(10..);
        drop(read);
        assert_eq!(peer.returns().take(), []);
        drop(part);
        assert_eq!(peer.returns().take(), [place]);
        for (offset, length) in [(0, (1 << 16) + 1), (1 << 16, 1), (u64::MAX, 2), (1, u64::MAX)] {
            assert!(peer.tensor(Place { offset, length }).is_none(), "{offset} {length}");
        }
        assert!(peer.tensor(Place { offset: 1 << 16, length: 0 }).is_some());
    }

    #[test]
    fn memory_that_a_peer_could_take_away_is_refused() {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
        let memory = memfd_create("x", MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&memory, 1 << 16).unwrap();
        assert!(matches!(PeerArena::open(&memory, 1 << 16), Err(NoMemory::Unsealed)));
        fcntl_add_seals(&memory, SealFlags::GROW | SealFlags::FUTURE_WRITE).unwrap();
        assert!(matches!(PeerArena::open(&memory, 1 << 16), Err(NoMemory::Unsealed)));
        fcntl_add_seals(&memory, SealFlags::SHRINK).unwrap();
        PeerArena::open(&memory, 1 << 16).unwrap();
        for claimed in [0, (1 << 16) + 1, u64::MAX] {
            let refused = PeerArena::open(&memory, claimed);
            assert!(matches!(refused, Err(NoMemory::Length { .. })), "{claimed}");
        }
        let file = tempfile::tempfile().unwrap().into();
        assert!(matches!(PeerArena::open(&file, 1), Err(NoMemory::Unsealed | NoMemory::System(_))));
        // The owner itself is held to it.
        let own = Arena::new(1 << 16).unwrap().descriptor().unwrap();
        assert!(ftruncate(&own, 10).is_err());
    }
}

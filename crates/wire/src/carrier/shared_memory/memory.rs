//! Memory that two processes have: one writes it and both read it. The only code of the crate that the
//! compiler cannot check.

#![allow(
    unsafe_code,
    reason = "memory shared between processes is mapped and read through pointers; nothing safe does that"
)]

use super::ranges::FreeRanges;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use std::ffi::c_void;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// What every owner promises of its memory, and the system holds it to: it never changes its length.
const LENGTH_SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);
/// Who reads a memory is promised as well that nobody but its owner ever writes to it.
const SEALS: SealFlags = LENGTH_SEALS.union(SealFlags::FUTURE_WRITE);

/// What peers may do with a memory of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peers {
    Read,
    Write,
}

/// A memory in the address space of this process.
struct Mapping {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: a mapping is memory like any other: it belongs to no thread. What may be done with it at the
// same time is up to whoever makes slices of it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(memory: &OwnedFd, length: usize, access: ProtFlags) -> io::Result<Mapping> {
        // SAFETY: the system chooses a place where nothing is.
        let base = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), length, access, MapFlags::SHARED, memory, 0)
        }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { base, length })
    }

    fn contains(&self, start: usize, length: usize) -> bool {
        start.checked_add(length).is_some_and(|end| end <= self.length)
    }

    /// The address of a place in it.
    fn at(&self, start: usize) -> NonNull<u8> {
        debug_assert!(start <= self.length, "within the mapping");
        // SAFETY: every caller has a range of this mapping, so the address is within it.
        unsafe { self.base.add(start) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that was made, and no slice of it lives longer than what keeps it.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast::<c_void>(), self.length) };
    }
}

/// Memory that this process owns.
pub(super) struct OwnMemory {
    mapping: Mapping,
    free: Mutex<FreeRanges>,
    descriptor: OwnedFd,
}

impl fmt::Debug for OwnMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnMemory").field("length", &self.mapping.length).finish_non_exhaustive()
    }
}

impl OwnMemory {
    pub(super) fn new(length: usize, peers: Peers) -> io::Result<OwnMemory> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let descriptor = rustix::fs::memfd_create("symphony-tensors", flags)?;
        rustix::fs::ftruncate(&descriptor, length as u64)?;
        let mapping = Mapping::new(&descriptor, length, ProtFlags::READ | ProtFlags::WRITE)?;
        let seals = match peers {
            Peers::Read => SEALS,
            Peers::Write => LENGTH_SEALS,
        };
        rustix::fs::fcntl_add_seals(&descriptor, seals | SealFlags::SEAL)?;
        let free = Mutex::new(FreeRanges::new(length));
        Ok(OwnMemory { mapping, free, descriptor })
    }

    pub(super) fn length(&self) -> usize {
        self.mapping.length
    }

    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.descriptor.as_fd().try_clone_to_owned()
    }

    /// Takes a part of the memory, which nobody else has until it is dropped.
    pub(super) fn take(self: &Arc<Self>, length: usize) -> Option<Region> {
        let start = self.free.lock().unwrap_or_else(PoisonError::into_inner).take(length)?;
        assert!(self.mapping.contains(start, length), "free ranges are within the memory");
        Some(Region { memory: Arc::clone(self), start, length })
    }

    /// Where in this memory some bytes lie, if they do.
    pub(super) fn place_of(&self, bytes: &[u8]) -> Option<usize> {
        let start = bytes.as_ptr().addr().checked_sub(self.mapping.base.addr().get())?;
        self.mapping.contains(start, bytes.len()).then_some(start)
    }
}

/// A part of a memory of this process. Nothing else of this process writes to it.
#[derive(Debug)]
pub(super) struct Region {
    memory: Arc<OwnMemory>,
    start: usize,
    length: usize,
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range is within the mapping, which lives as long as `memory`, and always has
        // contents. Ranges that are taken are apart, so of this process only this region writes here,
        // which `&self` excludes. Where a peer may write, the bytes read are any bytes, as those of
        // `PeerMemory` are.
        unsafe {
            std::slice::from_raw_parts(self.memory.mapping.at(self.start).as_ptr(), self.length)
        }
    }
}

impl DerefMut for Region {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` excludes that anybody in this process reads. A peer that
        // reads what was not lent to it sees it change; one that writes there spoils its own tensors.
        unsafe {
            std::slice::from_raw_parts_mut(self.memory.mapping.at(self.start).as_ptr(), self.length)
        }
    }
}

impl AsRef<[u8]> for Region {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let free = self.memory.free.lock();
        free.unwrap_or_else(PoisonError::into_inner).give_back(self.start, self.length);
    }
}

/// Memory of a peer, which this process reads.
pub(super) struct PeerMemory(Mapping);

impl fmt::Debug for PeerMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerMemory").field("length", &self.0.length).finish_non_exhaustive()
    }
}

/// Why what a peer has passed is no memory to read.
#[derive(Debug, thiserror::Error)]
pub enum NoMemory {
    /// The peer could take it away while it is read.
    #[error("memory that its owner could change in length, or others could write to")]
    Unsealed,
    /// It is shorter than the peer says.
    #[error("memory of {is} bytes in place of {claimed}")]
    Length {
        /// Its length.
        is: u64,
        /// What the peer says.
        claimed: u64,
    },
    /// The system says no.
    #[error("memory that cannot be read: {0}")]
    System(#[from] io::Error),
}

impl PeerMemory {
    pub(super) fn open(descriptor: &OwnedFd, claimed: u64) -> Result<PeerMemory, NoMemory> {
        let seals = rustix::fs::fcntl_get_seals(descriptor).map_err(io::Error::from)?;
        if !seals.contains(SEALS) {
            return Err(NoMemory::Unsealed);
        }
        let is = rustix::fs::fstat(descriptor).map_err(io::Error::from)?.st_size;
        let is = u64::try_from(is).unwrap_or(0);
        if is < claimed || claimed == 0 {
            return Err(NoMemory::Length { is, claimed });
        }
        let length = usize::try_from(claimed).map_err(io::Error::other)?;
        Ok(PeerMemory(Mapping::new(descriptor, length, ProtFlags::READ)?))
    }

    /// Whether it has such a range.
    pub(super) fn contains(&self, start: usize, length: usize) -> bool {
        self.0.contains(start, length)
    }

    /// What stands there now.
    ///
    /// # Panics
    /// When there is no such range.
    pub(super) fn read(&self, start: usize, length: usize) -> &[u8] {
        assert!(self.contains(start, length), "a range of the memory");
        // SAFETY: the range is within the mapping, which lives as long as this, always has contents, and
        // cannot become shorter, for the memory is sealed. Its owner is another process and may write
        // here against the rules, while this is read. Then the bytes read are any bytes: everything
        // that is made of tensors takes any, copies them, and keeps no reference or length that it
        // found in them without checking it again.
        unsafe { std::slice::from_raw_parts(self.0.at(start).as_ptr(), length) }
    }
}

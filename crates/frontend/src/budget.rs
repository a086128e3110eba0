//! The bytes that all requests together may hold, whatever protocol they came by.
//!
//! A body takes its bytes from the budget as they arrive, before anything is decoded. What
//! decompressing and decoding add is taken as well. A request gives its bytes back when it has its
//! outcome. Knows no protocol and no clock.

use crate::error::InferError;
use crate::metrics::Counter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A request that holds no more than this may use the last part of the budget, and is never asked
/// to make room: requests of usual size are served while others send huge ones.
pub(crate) const SMALL: u64 = 64 << 10;

/// The part of the budget that only small requests may use: one in so many.
const RESERVE: u64 = 16;

/// The least that is let to requests where the configuration says nothing.
const DEFAULT_MIN: usize = 256 << 20;

/// Bound on the bytes that requests hold where the configuration says nothing: a quarter of the
/// memory that this process may use, at least 256 MiB, and 1 GiB where that cannot be found out.
#[must_use]
pub fn request_bytes_max_default() -> usize {
    memory().map_or(1 << 30, |bytes| (bytes / 4).max(DEFAULT_MIN))
}

/// The memory of the machine, or of the control group where that is less.
fn memory() -> Option<usize> {
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let group =
        group.iter().find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    let machine = std::fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(machine_memory);
    [group, machine].into_iter().flatten().min()
}

fn machine_memory(meminfo: &str) -> Option<usize> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: usize = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// How many bytes requests hold, and how many they may.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    held: AtomicU64,
    max: u64,
    refused: Counter,
}

impl ByteBudget {
    pub(crate) fn new(max: usize) -> Arc<ByteBudget> {
        Arc::new(ByteBudget {
            held: AtomicU64::new(0),
            max: max as u64,
            refused: Counter::default(),
        })
    }

    /// The account of one request, which holds nothing yet.
    pub(crate) fn account(self: &Arc<Self>) -> HeldBytes {
        HeldBytes { budget: Arc::clone(self), bytes: 0 }
    }

    /// Bytes that are held.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Bytes that may be held.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// How many times there was no room.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Whether more than three quarters are held: then large bodies have to keep coming.
    pub(crate) fn is_scarce(&self) -> bool {
        self.held() > self.max - self.max / 4
    }

    /// Takes bytes for a request that will then hold `total`, if there is room.
    fn take(&self, bytes: u64, total: u64) -> Result<(), InferError> {
        let reserve = if total <= SMALL { 0 } else { self.max / RESERVE };
        let room = self.max - reserve;
        let taken = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(bytes).filter(|after| *after <= room)
        });
        let Err(held) = taken else { return Ok(()) };
        self.refused.add(1);
        Err(InferError::overloaded(format!(
            "requests hold {held} bytes, and the server's limit is {} \
             (request_bytes_max_mib under [server])",
            self.max
        )))
    }
}

/// What one request holds of the budget, until this is dropped.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    budget: Arc<ByteBudget>,
    bytes: u64,
}

impl HeldBytes {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn budget(&self) -> &ByteBudget {
        &self.budget
    }

    /// Holds so many bytes more.
    ///
    /// # Errors
    /// There is no room.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), InferError> {
        let total = self.bytes + bytes as u64;
        self.budget.take(bytes as u64, total)?;
        self.bytes = total;
        Ok(())
    }

    /// Gives so many bytes back, or all if there are fewer.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let bytes = self.bytes.min(bytes as u64);
        self.budget.held.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes -= bytes;
    }

    /// Holds exactly so many bytes.
    ///
    /// # Errors
    /// There is no room for more bytes than it holds now.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), InferError> {
        let now = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        if bytes > now {
            return self.grow(bytes - now);
        }
        self.shrink(now - bytes);
        Ok(())
    }

    /// Holds at least so many bytes.
    ///
    /// # Errors
    /// There is no room for more bytes than it holds now.
    pub(crate) fn cover(&mut self, bytes: usize) -> Result<(), InferError> {
        if self.bytes < bytes as u64 { self.resize(bytes) } else { Ok(()) }
    }

    /// Hands a part of the bytes, or all if there are fewer, to an account of their own.
    pub(crate) fn split(&mut self, bytes: u64) -> HeldBytes {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        HeldBytes { budget: Arc::clone(&self.budget), bytes }
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 16 << 20;

    fn is_refused(taken: Result<(), InferError>) -> bool {
        taken.is_err_and(|error| error.retry_after().is_some())
    }

    #[test]
    fn the_memory_of_the_machine_is_read() {
        assert_eq!(
            machine_memory("MemTotal:       24683652 kB\nMemFree: 1 kB\n"),
            Some(25_276_059_648)
        );
        for text in ["", "MemFree: 1 kB", "MemTotal: many kB", "MemTotal: 7"] {
            assert_eq!(machine_memory(text), None, "{text:?}");
        }
    }

    #[test]
    fn bytes_are_held_until_the_account_is_gone() {
        let budget = ByteBudget::new(MAX);
        let mut held = budget.account();
        held.grow(1000).unwrap();
        held.resize(700).unwrap();
        held.resize(900).unwrap();
        let part = held.split(400);
        assert_eq!((held.bytes(), part.bytes(), budget.held()), (500, 400, 900));
        drop(held);
        assert_eq!(budget.held(), 400);
        drop(part);
        assert_eq!((budget.held(), budget.refused()), (0, 0));
    }

    #[test]
    fn beyond_the_budget_a_request_is_refused_and_small_ones_last() {
        let budget = ByteBudget::new(MAX);
        let mut large = budget.account();
        assert!(is_refused(large.grow(MAX)), "the last part is for small requests");
        large.grow(MAX - MAX / 16).unwrap();
        assert!(budget.is_scarce());
        assert!(is_refused(large.grow(1)));
        let mut small: Vec<HeldBytes> = Vec::new();
        let refused = loop {
            let mut next = budget.account();
            match next.grow(64 << 10) {
                Ok(()) => small.push(next),
                Err(error) => break Err(error),
            }
        };
        assert!(is_refused(refused));
        assert_eq!((small.len(), budget.held()), (16, MAX as u64));
        assert_eq!(budget.refused(), 3);
    }
}

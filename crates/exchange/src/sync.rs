//! Where atomics, threads and the ring come from: the real ones, or loom's when it explores every
//! interleaving. The rest of the crate names none of them itself.

#[cfg(not(loom))]
mod real {
    pub(crate) use rtrb as spsc;
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};
    pub(crate) use std::thread::{Thread, current, park, park_timeout};
}
#[cfg(not(loom))]
pub(crate) use real::*;

#[cfg(loom)]
mod modelled {
    pub(crate) use crate::stand_in as spsc;
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
    pub(crate) use loom::thread::{Thread, current, park};

    /// Loom has no time: a timer that may fire at any moment is one that fires at once.
    pub(crate) fn park_timeout(_: std::time::Duration) {
        loom::thread::yield_now();
    }
}
#[cfg(loom)]
pub(crate) use modelled::*;

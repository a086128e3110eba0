//! Where atomics, threads and the ring come from: the real ones, or loom's when it explores every
//! interleaving. The rest of the crate uses only these.

#[cfg(not(loom))]
mod real {
    pub(crate) use rtrb as spsc;
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};
    pub(crate) use std::thread::{Thread, current, park, park_timeout};

    /// Linux puts off the timers of a thread by 50 us, so that several go off together; for this
    /// thread it must not. Where it cannot be asked, they stay as they are.
    pub(crate) fn exact_timers() {
        #[cfg(target_os = "linux")]
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    }
}
#[cfg(not(loom))]
pub(crate) use real::*;

#[cfg(loom)]
mod modelled {
    pub(crate) use crate::stand_in as spsc;
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
    pub(crate) use loom::thread::{Thread, current, park};

    pub(crate) fn exact_timers() {}

    /// Loom has no time: a timer that may fire at any moment is one that fires at once.
    pub(crate) fn park_timeout(_: std::time::Duration) {
        loom::thread::yield_now();
    }
}
#[cfg(loom)]
pub(crate) use modelled::*;

//! What the thread that watches a process is told, and what it says.

use crate::usage;
use rustix::process::{Pid, Signal};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum News {
    /// The process of this life has ended.
    Ended(u64),
}

/// The process whose memory is looked at.
#[derive(Debug, Default)]
pub(crate) struct Watched(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    root: Option<Pid>,
    /// It was killed for so many bytes.
    killed: Option<u64>,
}

impl Watched {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, root: Option<Pid>) {
        *self.seen() = Seen { root, killed: None };
    }

    /// Nothing is looked at any more. For how much memory it was killed, if it was.
    pub(crate) fn end(&self) -> Option<u64> {
        std::mem::take(&mut *self.seen()).killed
    }

    /// Kills the process if it has more memory than `max`.
    pub(crate) fn hold(&self, max: u64) {
        let mut seen = self.seen();
        let Some(root) = seen.root else { return };
        let family = usage::family(root);
        let Some(bytes) = usage::above(&family, max) else { return };
        tracing::warn!("a Python process has {} MiB of memory, more than its limit", bytes >> 20);
        seen.killed = Some(bytes);
        seen.root = None;
        // The guard is let live: it sees to whatever is started meanwhile.
        for process in family.into_iter().filter(|process| *process != root) {
            // It may have ended.
            let _ = rustix::process::kill_process(process, Signal::KILL);
        }
    }
}

//! For how long a scheduler is the active one.

use std::fmt;
use std::sync::Arc;

/// What makes a scheduler the active one.
#[derive(Clone)]
pub struct Tenure {
    epoch: u64,
    is_held: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Tenure {
    /// In this epoch, for as long as `is_held` says so. It is asked before each batch is sent, so that a
    /// process that was stopped and continues sends none.
    pub fn new(epoch: u64, is_held: impl Fn() -> bool + Send + Sync + 'static) -> Tenure {
        Tenure { epoch, is_held: Arc::new(is_held) }
    }

    /// In this epoch, until its process ends.
    #[must_use]
    pub fn endless(epoch: u64) -> Tenure {
        Tenure::new(epoch, || true)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn is_held(&self) -> bool {
        (self.is_held)()
    }
}

impl fmt::Debug for Tenure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenure").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

//! What the tasks of a frontend's end share.

use super::backends::Backends;
use super::questions::{Asker, Questions};
use super::scheduling::Scheduling;
use crate::lock::lock;
use std::sync::{Arc, Mutex, MutexGuard};
use symphony_core::Origin;
use symphony_wire::carrier::in_process::{InFlight, ServingCount, SharedCatalog};
use symphony_wire::clock::Clock;
use symphony_wire::message::link::FrontendToScheduler;

/// What the tasks of a frontend's end share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) origin: Origin,
    pub(crate) catalog: SharedCatalog,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) serving: ServingCount,
    pub(crate) scheduling: Mutex<Scheduling>,
    pub(crate) questions: Questions,
    pub(crate) backends: Mutex<Backends>,
}

impl Shared {
    pub(crate) fn scheduling(&self) -> MutexGuard<'_, Scheduling> {
        lock(&self.scheduling)
    }

    pub(crate) fn backends(&self) -> MutexGuard<'_, Backends> {
        lock(&self.backends)
    }

    /// Asks the scheduler that is active. Without one, whoever asks is told that there is no answer.
    pub(crate) fn ask(&self, asker: Asker, question: impl FnOnce(u64) -> FrontendToScheduler) {
        let Some(number) = self.questions.keep(asker) else { return };
        if !self.scheduling().send(&question(number)) {
            drop(self.questions.take(number));
        }
    }
}

//! The rest of the system, as a frontend sees it.

use std::sync::Arc;
use symphony_wire::carrier::in_process::{InFlight, RepositoryPort, SchedulerPort, SharedCatalog};
use symphony_wire::clock::Clock;

/// The rest of the system, as a frontend sees it.
#[derive(Clone, Debug)]
pub struct Services {
    /// What is served.
    pub catalog: SharedCatalog,
    /// Where admitted requests wait.
    pub inflight: Arc<InFlight>,
    /// The way into the scheduler.
    pub scheduler: SchedulerPort,
    /// The way to the loader.
    pub repository: RepositoryPort,
    /// The process's clock.
    pub clock: Clock,
}

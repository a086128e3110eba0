//! What a pool is started with.

use symphony_backend::loader::LoaderConfig;
use symphony_core::sched::{LOW_SHARE_DEFAULT, Mode, OVERDUE_AFTER};
use symphony_core::{Objective, Span};
use symphony_exchange::Spin;
use symphony_wire::carrier::in_process::Layout;
use symphony_wire::carrier::in_process::inflight::IN_FLIGHT_MAX_DEFAULT;

/// A pool in this process: its accelerators and its scheduler.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// How batches are scheduled.
    pub mode: Mode,
    /// The share of the accelerators that is kept for waiting requests of low priority.
    pub low_priority_share: f64,
    /// How late a batch has to be for its accelerator to count as dead.
    pub overdue_after: Span,
    /// The scheduler's threads.
    pub layout: Layout,
    /// How long the scheduler's threads spin before they sleep.
    pub spin: Spin,
    /// The accelerators, and how models are loaded on them.
    pub loader: LoaderConfig,
    /// Bound on requests in flight.
    pub in_flight_max: usize,
    /// The longest that a request may take whose model has no objective.
    pub request_max: Span,
}

impl PoolConfig {
    /// A pool of these accelerators, with the usual scheduler.
    #[must_use]
    pub fn new(loader: LoaderConfig) -> PoolConfig {
        PoolConfig {
            mode: Mode::default(),
            low_priority_share: LOW_SHARE_DEFAULT,
            overdue_after: OVERDUE_AFTER,
            layout: Layout::TOGETHER,
            spin: Spin::NEVER,
            loader,
            in_flight_max: IN_FLIGHT_MAX_DEFAULT,
            request_max: Objective::REQUEST_MAX_DEFAULT,
        }
    }
}

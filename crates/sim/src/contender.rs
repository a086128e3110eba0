//! What the simulator drives: the scheduler and its rivals.

use crate::lanes::LaneRule;
use symphony_core::BatchId;
use symphony_core::sched::{Policy, Scheduler};

/// A policy that may also stop batches that it has started.
///
/// Preemption exists only in the simulator: the live scheduler never does it, because an
/// accelerator cannot stop in the middle of a batch without losing the work.
pub trait Contender: Policy {
    /// Moves the batches to stop to the end of `stopped`. Called after each settling, before its
    /// actions. Stopping takes effect at once. The work of the batches is lost, even of one that
    /// has ended but whose end the policy has not received yet. They never complete, and their
    /// requests belong to the policy again.
    fn preempt(&mut self, stopped: &mut Vec<BatchId>) {
        let _ = stopped;
    }

    /// How requests of different sizes are dealt to lanes. A policy that knows no lanes pads all to
    /// the largest size.
    fn lanes(&self) -> LaneRule {
        LaneRule::Padded
    }

    /// Whether the policy follows measured execution times.
    fn follows(&self) -> bool {
        false
    }
}

impl Contender for Scheduler {
    fn lanes(&self) -> LaneRule {
        LaneRule::Own
    }

    fn follows(&self) -> bool {
        Scheduler::follows(self)
    }
}

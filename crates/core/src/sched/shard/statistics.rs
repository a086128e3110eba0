//! What can be told of one model: counters, and what is measured and planned.

use crate::ids::ModelId;
use crate::sched::message::ModelPlan;
use crate::slowdown::Slowdown;
use serde::{Deserialize, Serialize};

/// Counters of one model since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelStatistics {
    /// Batches started.
    pub batches: u64,
    /// Requests in them.
    pub requests: u64,
    /// Rows in them.
    pub rows: u64,
    /// Requests queued now.
    pub queued: u64,
    /// How many times longer than by the profile as it was loaded its batches run on average.
    pub slowdown: Slowdown,
    /// The relative standard deviation of how long its batches run.
    pub spread: f64,
    /// How many times its mean time a batch is counted, for being in time.
    pub margin: Slowdown,
    /// What the load asks of it. Outside the adaptive mode only what its high requests need.
    pub plan: ModelPlan,
    /// The first lane of its model, if that has several.
    pub lane_of: Option<ModelId>,
}

impl ModelStatistics {
    /// Adds another lane of the same model. What is measured and planned is that of the lane with the
    /// most rows.
    pub fn add(&mut self, lane: &ModelStatistics) {
        if lane.rows > self.rows {
            (self.slowdown, self.plan) = (lane.slowdown, lane.plan);
            (self.spread, self.margin) = (lane.spread, lane.margin);
        }
        self.batches += lane.batches;
        self.requests += lane.requests;
        self.rows += lane.rows;
        self.queued += lane.queued;
    }
}

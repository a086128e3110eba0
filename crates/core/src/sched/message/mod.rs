//! What a shard and the matcher say to each other.
//!
//! A driver carries the messages, at once or in any time, between threads or under simulated time.
//! Messages on one way must not overtake each other, with one exception: a [`Candidate`] may pass
//! other messages, and only the newest of a model needs to arrive, as its generation tells which
//! grants the shard had answered.

mod candidate;
mod grant;
mod plan;

pub use candidate::{Candidate, LEVELS, Offer, Tier};
pub use grant::{BatchEnded, Grant, Reply, SentBatch};
pub(crate) use plan::{DROP_PRICE, PLAN_STALE, plan_age};
pub use plan::{HighLoad, HighNeed, ModelDemand, ModelPlan};

use super::traffic::RecentTraffic;
use crate::ids::ModelId;

/// What a shard tells the matcher.
#[derive(Clone, Debug)]
pub enum ShardToMatcher {
    /// What a model would run next.
    Candidate(Candidate),
    /// What became of a grant.
    Reply(Reply),
    /// The first part of a report: which requests came to the shard.
    Traffic(RecentTraffic),
    /// The second part of a report, for each of its models: what was measured of it.
    Demand(ModelDemand),
    /// The report is complete.
    Reported,
    /// The model takes no more requests, and has none.
    Closed(ModelId),
    /// The model's batches run by another profile: how long they usually take is to be learned anew.
    Reprofiled(ModelId),
}

/// What the matcher tells the shard of a model, or all shards.
#[derive(Clone, Copy, Debug)]
pub enum MatcherToShard {
    /// An accelerator for the model's next batch.
    Grant(Grant),
    /// What the pool's load asks of a model.
    Plan(ModelId, ModelPlan),
    /// What the high requests of all shards ask of the pool while low ones come.
    High(HighLoad),
    /// A batch of the model has ended.
    BatchEnded(BatchEnded),
    /// The last batch of the closed model has ended, and the matcher has forgotten the model.
    Forgotten(ModelId),
    /// How many accelerators serve now.
    Serving(u32),
}

impl MatcherToShard {
    /// The model whose shard is addressed; `None` when all shards are.
    #[must_use]
    pub fn model(&self) -> Option<ModelId> {
        match self {
            MatcherToShard::Grant(grant) => Some(grant.model),
            MatcherToShard::BatchEnded(ended) => Some(ended.model),
            MatcherToShard::Plan(model, _) | MatcherToShard::Forgotten(model) => Some(*model),
            MatcherToShard::High(_) | MatcherToShard::Serving(_) => None,
        }
    }
}

//! Shard to matcher: what was measured of each model. Matcher to shard: what the load of the whole
//! pool asks of each model in turn.

use crate::ids::ModelId;
use crate::profile::Profile;
use crate::sched::traffic::RecentTraffic;
use crate::time::Span;
use serde::{Deserialize, Serialize};

/// How long a plan of a few models is in use before it is made anew.
const PLAN_AGE: Span = Span::from_millis(50);

/// The same, for each model of a pool with many: a plan of thousands takes a while, and planning all
/// the time would leave little time for anything else.
const PLAN_AGE_PER_MODEL: Span = Span::from_micros(50);

/// While requests wait, a plan is made anew when it is this much past its age although nothing
/// happens: the load that makes them wait may be over, and their objective may be long.
pub(crate) const PLAN_STALE: Span = Span::from_millis(200);

/// How long a plan of so many models is in use before it is made anew, and how often a shard with so
/// many models reports for the next.
pub(crate) fn plan_age(models: usize) -> Span {
    PLAN_AGE.max(PLAN_AGE_PER_MODEL.times(models as u64))
}

/// What a plan has to know of one model.
#[derive(Clone, Debug)]
pub struct ModelDemand {
    /// The model.
    pub model: ModelId,
    /// Its execution times, as planned now.
    pub profile: Profile,
    /// Data delay per row.
    pub data: Span,
    /// What the objective leaves for waiting and execution.
    pub room: Span,
    /// The objective.
    pub slo: Span,
    /// Whether nothing is promised: others do not make way for it.
    pub is_soft: bool,
    /// Measured arrivals of rows.
    pub rows_per_ns: f64,
    /// The part of them that belongs to high requests.
    pub high_per_ns: f64,
    /// The share of the rows of high requests that are demoted.
    pub demoted: f64,
    /// Variance of the arrivals over their mean: one where they are independent.
    pub dispersion: f64,
    /// Whether requests came lately, perhaps too few to measure a rate.
    pub is_present: bool,
    /// How much a lost request counts beside other models'.
    pub weight: f64,
    /// The first lane of its model, where that has several: their losses count together.
    pub lane_of: Option<ModelId>,
    /// High requests that arrived since the model was added.
    pub arrived: u64,
    /// How many of them were dropped.
    pub dropped: u64,
}

/// How one model is scheduled until the next plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelPlan {
    /// Full batches do not suffice for the load: batches are deferred fully, and heads that stand in
    /// the way of the largest batches are dropped.
    pub is_overloaded: bool,
    /// Rows below which a batch is too small for the load: heads may be dropped for a larger one.
    pub target: u32,
    /// Rows that are enough to start at once.
    pub threshold: u32,
    /// How long before its frontrun a smaller batch may start.
    pub early_start: Span,
    /// The longest that a head waits for `threshold` rows.
    pub wait_max: Span,
    /// How many rows each dropped row has to make room for.
    pub price: f64,
    /// Its priority level; less than [`LEVELS`](super::LEVELS).
    pub level: u8,
    /// Its fairness credit: how much earlier than others its batches may start and take their turn.
    pub credit: Span,
    /// How long before its latest start a batch becomes urgent.
    pub urgency: Span,
    /// What its high requests need, while low ones come. Every mode heeds it; the rest of the plan is
    /// for the adaptive mode only.
    pub high_need: Option<HighNeed>,
}

/// The price where nothing is overloaded: half a row for each dropped one.
pub(crate) const DROP_PRICE: f64 = 0.5;

impl Default for ModelPlan {
    /// The plan of a model without load: there is nothing to wait for.
    fn default() -> ModelPlan {
        ModelPlan {
            is_overloaded: false,
            target: 1,
            threshold: 1,
            early_start: Span::ZERO,
            wait_max: Span::ZERO,
            price: DROP_PRICE,
            level: 0,
            credit: Span::ZERO,
            urgency: Span::ZERO,
            high_need: None,
        }
    }
}

/// What the high requests of one model need while low ones come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HighNeed {
    /// The largest batch that gathers in the time that its execution leaves; at least one row.
    pub gathered: u32,
    /// The smallest batch with which the pool can serve all high requests; `gathered` if none is.
    pub rows: u32,
}

/// What the high requests of the whole pool ask of it, and which requests come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HighLoad {
    /// Accelerators that they keep busy, by measured rates.
    pub busy: f64,
    /// What all shards together have seen.
    pub traffic: RecentTraffic,
}

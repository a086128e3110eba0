//! The plan of the adaptive mode, which keeps its thread from everything else while it is made.

use crate::random::Zipf;
use std::time::{Duration, Instant};
use symphony_core::sched::{Matcher, Mode, ModelDemand, ShardToMatcher};
use symphony_core::{ModelId, Profile, Span, Time};

const ACCELERATORS: u32 = 4096;
const REQUESTS_PER_NS: f64 = 0.005;
const SLO: Span = Span::from_millis(20);
/// Often enough that no losses are forgotten, and seldom enough that each plan is due.
const PLAN_EVERY: Span = Span::from_millis(200);

/// Plans a pool of so many models as often: how long the fastest plan took. Measured delays change
/// between plans, so that each profile is looked at anew, or nothing does.
pub(crate) fn fastest(models: u32, rounds: u64, changes: bool) -> Option<Duration> {
    let mut matcher = Matcher::new(Mode::Adaptive, ACCELERATORS);
    let demands: Vec<ModelDemand> = demands(models);
    let plan = |round: u64| {
        let now = Time(PLAN_EVERY.times(round).0);
        let data = Span(if changes { 100 + round } else { 100 });
        let demands: Vec<ModelDemand> =
            demands.iter().map(|demand| ModelDemand { data, ..demand.clone() }).collect();
        let begun = Instant::now();
        let messages = demands.into_iter().map(ShardToMatcher::Demand);
        for message in messages.chain([ShardToMatcher::Reported]) {
            matcher.receive(now, message, |_| {});
        }
        matcher.plan(now, |_| {});
        begun.elapsed()
    };
    (0..rounds).map(plan).min()
}

fn demands(models: u32) -> Vec<ModelDemand> {
    let popularity = Zipf::new(models, 0.9);
    let demand = |number: u32| {
        let profile = Profile::linear(Span::from_micros(50), Span::from_millis(1), 256);
        let rows_per_ns = REQUESTS_PER_NS * popularity.share(number);
        ModelDemand {
            model: ModelId::first(number),
            profile: profile.expect("valid profile"),
            data: Span(100),
            room: SLO,
            slo: SLO,
            is_soft: false,
            rows_per_ns,
            high_per_ns: rows_per_ns,
            demoted: 0.0,
            dispersion: 1.0,
            is_present: true,
            weight: 1.0,
            lane_of: None,
            arrived: 0,
            dropped: 0,
        }
    };
    (0..models).map(demand).collect()
}

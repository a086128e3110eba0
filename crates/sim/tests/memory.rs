//! Memory holds only what is in flight: a run that is ten times as long needs no more.

use std::sync::Arc;
use symphony_core::sched::ModelTerms;
use symphony_core::{Objective, Profile, Span};
use symphony_sim::goodput::{OfferedLoad, run_at};
use symphony_sim::{PolicyKind, Scenario};
use symphony_workload::Process;

/// The most bytes that are in use at once during a run of this length, and the number of its
/// requests.
fn peak(policy: PolicyKind, measured: Span) -> (u64, u64) {
    let (alpha, beta) = (Span::from_micros(1053), Span::from_micros(5072));
    let terms = ModelTerms {
        profile: Arc::new(Profile::linear(alpha, beta, 64).expect("valid profile")),
        objective: Objective::Slo(Span::from_millis(25)),
        queue_max: 1000,
        loss_weight: 1.0,
        lane_of: None,
    };
    let scenario = Scenario::ideal(vec![terms; 3], 8, Span::ZERO, measured);
    let load = OfferedLoad::new(&[3.0, 2.0, 1.0], Process::Poisson);
    let mut offered = 0;
    let used = allocation_counter::measure(|| {
        let report = run_at(&scenario, &load, &policy, 6000.0, 1).expect("valid load");
        offered = report.offered();
    });
    (used.bytes_max, offered)
}

#[test]
fn memory_does_not_grow_with_the_run() {
    for policy in [
        PolicyKind::Consolidate,
        PolicyKind::Eager,
        PolicyKind::Frontrun,
        PolicyKind::Clockwork,
        PolicyKind::Nexus,
        PolicyKind::Shepherd,
    ] {
        let (short, few) = peak(policy, Span::from_secs(5));
        let (long, many) = peak(policy, Span::from_secs(50));
        assert!(many > 9 * few);
        // Queues and buffers keep the capacity of their longest moment, which is random.
        assert!(long < short + short / 2, "{policy}: {short} bytes, {long} in ten times the time");
    }
}

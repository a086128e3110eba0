//! How many requests one core simulates per second.
//!
//! `cargo bench -p symphony-sim` prints the rate of each case. The first argument sets the number
//! of requests per case instead of 10 million; `cargo bench -p symphony-sim -- 1000000000` shows
//! that memory does not grow with the run (watch the process, or the line at the end).

#![expect(clippy::disallowed_types, reason = "a measurement of real time")]
#![expect(clippy::disallowed_methods, reason = "the kernel knows how much memory it took")]
#![expect(clippy::disallowed_macros, reason = "a measurement that is printed")]

use std::sync::Arc;
use std::time::Instant;
use symphony_core::sched::ModelTerms;
use symphony_core::{Objective, Profile, Span};
use symphony_sim::bound::staggered;
use symphony_sim::goodput::{OfferedLoad, run_at};
use symphony_sim::{PolicyKind, Scenario};
use symphony_workload::Process;

fn main() {
    let requests = std::env::args().skip(1).find_map(|argument| argument.parse::<f64>().ok());
    let requests = requests.unwrap_or(1e7);
    for (policy, models, accelerators) in [
        (PolicyKind::Consolidate, 1, 64),
        (PolicyKind::Consolidate, 10, 64),
        (PolicyKind::Eager, 1, 64),
        (PolicyKind::Clockwork, 1, 64),
        (PolicyKind::Nexus, 1, 64),
        (PolicyKind::Shepherd, 1, 64),
    ] {
        measure(policy, models, accelerators, requests);
    }
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let peak = status.lines().find(|line| line.starts_with("VmHWM"));
        println!("{}", peak.unwrap_or_default());
    }
}

/// Simulates about this many requests at 90 % of the rate that staggered batches reach.
fn measure(policy: PolicyKind, models: usize, accelerators: u32, requests: f64) {
    let (alpha, beta, slo) =
        (Span::from_micros(1053), Span::from_micros(5072), Span::from_millis(25));
    let profile = Arc::new(Profile::linear(alpha, beta, 64).expect("valid profile"));
    let rate = 0.9 * staggered(&profile, slo, accelerators);
    let terms = ModelTerms {
        profile,
        objective: Objective::Slo(slo),
        queue_max: u32::MAX,
        loss_weight: 1.0,
        lane_of: None,
    };
    let measured = Span::from_millis_f64(requests / rate * 1e3);
    let scenario = Scenario::ideal(vec![terms; models], accelerators, Span::ZERO, measured);
    let load = OfferedLoad::new(&vec![1.0; models], Process::Poisson);
    let begun = Instant::now();
    let report = run_at(&scenario, &load, &policy, rate, 1).expect("valid load");
    let per_second = report.offered() as f64 / begun.elapsed().as_secs_f64();
    println!(
        "{policy}: {models} models on {accelerators} accelerators: {:.2} million requests/s",
        per_second / 1e6
    );
}

//! Schedules in the form in which the paper shows them: what starts when, where, and how large it
//! is.

use expect_test::{Expect, expect};
use std::fmt::Write;
use std::sync::Arc;
use symphony_core::sched::{Mode, ModelTerms, Scheduler};
use symphony_core::{ModelId, Objective, Profile, Span, Time};
use symphony_sim::{Observed, Scenario, run_observed};
use symphony_workload::Arrival;

/// A pool and its requests. Times are in milliseconds.
struct Case {
    mode: Mode,
    /// `l(b) = alpha*b + beta`.
    alpha: f64,
    beta: f64,
    slo: f64,
    accelerators: u32,
    arrivals: Vec<f64>,
}

/// The example of the paper: `l(b) = b + 5`, an objective of 12, three accelerators, and a
/// request every 0.75.
fn paper(mode: Mode, requests: u32) -> Case {
    let arrivals = (0..requests).map(|i| f64::from(i) * 0.75).collect();
    Case { mode, alpha: 1.0, beta: 5.0, slo: 12.0, accelerators: 3, arrivals }
}

/// The schedule from `from` on, one line per action.
fn timeline(case: &Case, from: f64) -> String {
    let (alpha, beta) = (Span::from_millis_f64(case.alpha), Span::from_millis_f64(case.beta));
    let terms = ModelTerms {
        profile: Arc::new(Profile::linear(alpha, beta, 64).expect("valid profile")),
        objective: Objective::Slo(Span::from_millis_f64(case.slo)),
        queue_max: 100,
        loss_weight: 1.0,
        lane_of: None,
    };
    let measured = Span::from_secs(1000);
    let scenario = Scenario::ideal(vec![terms], case.accelerators, Span::ZERO, measured);
    let arrivals = case.arrivals.iter().map(|at| Arrival {
        time: Time(Span::from_millis_f64(*at).0),
        model: ModelId::first(0),
        rows: 1,
    });
    let mut text = String::new();
    let mut scheduler = Scheduler::new(case.mode, case.accelerators);
    let ms = |time: Time| Span(time.0).as_millis_f64();
    run_observed(&scenario, &mut scheduler, arrivals, 0, |observed| {
        let _ = match observed {
            Observed::Started { now, start, requests, .. } if ms(now) >= from => {
                let waited = now.since(requests[0].arrival).as_millis_f64();
                let (at, gpu, rows) = (ms(now), start.accelerator.0, start.rows);
                writeln!(text, "{at}ms gpu{gpu} batch={rows} waited={waited}ms")
            }
            Observed::Dropped { now, request, reason, .. } if ms(now) >= from => {
                writeln!(text, "{}ms drop {} of {}ms", ms(now), reason.name(), ms(request.arrival))
            }
            _ => Ok(()),
        };
    });
    text
}

#[track_caller]
fn check(case: &Case, from: f64, expected: &Expect) {
    expected.assert_eq(&timeline(case, from));
}

#[test]
fn deferral_reaches_staggered_batches() {
    check(
        &paper(Mode::Consolidate, 60),
        25.0,
        &expect![[r#"
        27.75ms gpu1 batch=4 waited=2.25ms
        30.75ms gpu2 batch=4 waited=2.25ms
        33.75ms gpu0 batch=4 waited=2.25ms
        36.75ms gpu1 batch=4 waited=2.25ms
        39.75ms gpu2 batch=4 waited=2.25ms
        42.75ms gpu0 batch=4 waited=2.25ms
        47.5ms gpu1 batch=2 waited=4ms
    "#]],
    );
}

#[test]
fn eager_does_not() {
    check(
        &paper(Mode::Eager, 60),
        25.0,
        &expect![[r#"
        25.5ms gpu2 batch=1 waited=6ms
        26.250001ms drop hopeless of 20.25ms
        27ms gpu0 batch=1 waited=6ms
        27.75ms gpu1 batch=1 waited=6ms
        28.500001ms drop hopeless of 22.5ms
        29.250001ms drop hopeless of 23.25ms
        30.000001ms drop hopeless of 24ms
        30.750001ms drop hopeless of 24.75ms
        31.5ms gpu2 batch=1 waited=6ms
        32.250001ms drop hopeless of 26.25ms
        33ms gpu0 batch=1 waited=6ms
        33.75ms gpu1 batch=1 waited=6ms
        34.500001ms drop hopeless of 28.5ms
        35.250001ms drop hopeless of 29.25ms
        36.000001ms drop hopeless of 30ms
        36.750001ms drop hopeless of 30.75ms
        37.5ms gpu2 batch=1 waited=6ms
        38.250001ms drop hopeless of 32.25ms
        39ms gpu0 batch=1 waited=6ms
        39.75ms gpu1 batch=1 waited=6ms
        40.500001ms drop hopeless of 34.5ms
        41.250001ms drop hopeless of 35.25ms
        42.000001ms drop hopeless of 36ms
        42.750001ms drop hopeless of 36.75ms
        43.5ms gpu2 batch=1 waited=6ms
        44.250001ms drop hopeless of 38.25ms
        45ms gpu0 batch=1 waited=6ms
        45.75ms gpu1 batch=1 waited=6ms
        46.500001ms drop hopeless of 40.5ms
        47.250001ms drop hopeless of 41.25ms
        48.000001ms drop hopeless of 42ms
        48.750001ms drop hopeless of 42.75ms
        49.5ms gpu2 batch=1 waited=6ms
        50.250001ms drop hopeless of 44.25ms
    "#]],
    );
}

#[test]
fn a_lone_request_starts_at_once() {
    let case = Case { arrivals: vec![0.0, 500.0, 1000.0], ..paper(Mode::Consolidate, 0) };
    check(
        &case,
        0.0,
        &expect![[r#"
        0ms gpu0 batch=1 waited=0ms
        500ms gpu0 batch=1 waited=0ms
        1000ms gpu0 batch=1 waited=0ms
    "#]],
    );
}

#[test]
fn nothing_waits_where_a_row_never_gets_cheaper() {
    let case = Case { beta: 0.0, alpha: 3.0, ..paper(Mode::Consolidate, 8) };
    check(
        &case,
        0.0,
        &expect![[r#"
        0ms gpu0 batch=1 waited=0ms
        0.75ms gpu1 batch=1 waited=0ms
        1.5ms gpu2 batch=1 waited=0ms
        3ms gpu0 batch=2 waited=0.75ms
        3.75ms gpu1 batch=1 waited=0ms
        4.5ms gpu2 batch=1 waited=0ms
        6.75ms gpu1 batch=1 waited=1.5ms
    "#]],
    );
}

#[test]
fn a_burst_beyond_the_pool_is_cut_to_what_can_be_met() {
    let case = Case { arrivals: vec![0.0; 24], accelerators: 1, ..paper(Mode::Consolidate, 0) };
    check(
        &case,
        0.0,
        &expect![[r#"
        0ms gpu0 batch=7 waited=0ms
        2.000001ms drop overload of 0ms
        2.000001ms drop overload of 0ms
        2.000001ms drop overload of 0ms
        2.000001ms drop overload of 0ms
        2.000001ms drop overload of 0ms
        2.000001ms drop overload of 0ms
        2.000001ms drop overload of 0ms
        2.000001ms drop overload of 0ms
        2.000001ms drop overload of 0ms
        2.000001ms drop overload of 0ms
        2.000001ms drop overload of 0ms
        2.000001ms drop overload of 0ms
        2.000001ms drop overload of 0ms
        3.000001ms drop overload of 0ms
        4.000001ms drop overload of 0ms
        5.000001ms drop overload of 0ms
        6.000001ms drop hopeless of 0ms
    "#]],
    );
    let case = Case { mode: Mode::Eager, ..case };
    check(
        &case,
        0.0,
        &expect![[r#"
        0ms gpu0 batch=7 waited=0ms
        6.000001ms drop hopeless of 0ms
        6.000001ms drop hopeless of 0ms
        6.000001ms drop hopeless of 0ms
        6.000001ms drop hopeless of 0ms
        6.000001ms drop hopeless of 0ms
        6.000001ms drop hopeless of 0ms
        6.000001ms drop hopeless of 0ms
        6.000001ms drop hopeless of 0ms
        6.000001ms drop hopeless of 0ms
        6.000001ms drop hopeless of 0ms
        6.000001ms drop hopeless of 0ms
        6.000001ms drop hopeless of 0ms
        6.000001ms drop hopeless of 0ms
        6.000001ms drop hopeless of 0ms
        6.000001ms drop hopeless of 0ms
        6.000001ms drop hopeless of 0ms
        6.000001ms drop hopeless of 0ms
    "#]],
    );
}

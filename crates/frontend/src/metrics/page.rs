//! The metrics page: which metric has which name, type and labels.

use super::exposition::{Counter, Histogram, MetricKind, Page};
use super::{ClassMetrics, DROPPED, Metrics, ModelMetrics, REFUSED};
use crate::budget::ByteBudget;
use std::collections::HashMap;
use std::sync::Arc;
use symphony_core::{Class, Delays};
use symphony_wire::carrier::in_process::Catalog;
use symphony_wire::message::{
    AcceleratorState, MeasuredTimes, Mode, ModelPlan, ModelStatistics, Statistics,
};

/// A counter of each model version.
type ModelCounter = (&'static str, &'static str, fn(&ModelMetrics) -> u64);

const MODEL_COUNTERS: [ModelCounter; 7] = [
    (
        "nv_inference_request_success",
        "Number of successful inference requests, all batch sizes.",
        |m| m.good.get(),
    ),
    ("nv_inference_count", "Number of inferences performed (rows of good requests).", |m| {
        m.rows.get()
    }),
    (
        "nv_inference_request_duration_us",
        "Cumulative end-to-end time of successful requests in microseconds.",
        |m| m.total_ns.get() / 1_000,
    ),
    (
        "nv_inference_queue_duration_us",
        "Cumulative time successful requests were queued in microseconds.",
        |m| m.queue_ns.get() / 1_000,
    ),
    (
        "nv_inference_compute_input_duration_us",
        "Cumulative time to assemble inputs in microseconds.",
        |m| m.assembly_ns.get() / 1_000,
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Cumulative time executing the model in microseconds.",
        |m| m.compute_ns.get() / 1_000,
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Cumulative time to split outputs in microseconds.",
        |m| m.split_ns.get() / 1_000,
    ),
];

type Outcome = (&'static str, fn(&ModelMetrics) -> u64);

const OUTCOMES: [Outcome; 6] = [
    ("good", |m| m.good.get()),
    ("late", |m| m.late.get()),
    ("dropped", ModelMetrics::dropped_all),
    ("cancelled", |m| m.cancelled.get()),
    ("failed", |m| m.failed.get()),
    ("refused", |m| m.refused.get()),
];

type ClassOutcome = (&'static str, fn(&ClassMetrics) -> &Counter);

const CLASS_OUTCOMES: [ClassOutcome; 6] = [
    ("good", |c| &c.good),
    ("late", |c| &c.late),
    ("dropped", |c| &c.dropped),
    ("cancelled", |c| &c.cancelled),
    ("failed", |c| &c.failed),
    ("refused", |c| &c.refused),
];

const FAILURES: [Outcome; 4] = [
    ("REJECTED", |m| m.dropped_all() + m.refused.get()),
    ("CANCELED", |m| m.cancelled.get()),
    ("BACKEND", |m| m.failed.get()),
    ("OTHER", |m| m.late.get()),
];

type ModelHistogram = (&'static str, &'static str, f64, fn(&ModelMetrics) -> &Histogram);

const HISTOGRAMS: [ModelHistogram; 5] = [
    (
        "symphony_queue_seconds",
        "From arrival until the backend began to assemble the batch, per request with a result.",
        1e9,
        |m| &m.queue,
    ),
    (
        "symphony_execution_seconds",
        "Time the engine took for the batch, per request with a result.",
        1e9,
        |m| &m.execution,
    ),
    (
        "symphony_request_seconds",
        "From arrival until the answer, per good or late request.",
        1e9,
        |m| &m.total,
    ),
    ("symphony_batch_rows", "Rows in the batch, per request with a result.", 1.0, |m| &m.batch),
    (
        "symphony_slack_seconds",
        "What was left until the deadline at dispatch after the planned execution, \
         per request with a result.",
        1e9,
        |m| &m.slack,
    ),
];

/// What a page is made from.
pub(crate) struct Sources<'a> {
    pub(crate) metrics: &'a Metrics,
    pub(crate) catalog: &'a Catalog,
    /// None when the scheduler did not answer in time.
    pub(crate) statistics: Option<Statistics>,
    pub(crate) budget: &'a ByteBudget,
    /// Whether requests for every start-up model can run.
    pub(crate) is_ready: bool,
    /// Admitted requests that nobody has taken yet.
    pub(crate) waiting: usize,
}

/// The page as text.
pub(crate) fn render(sources: &Sources<'_>) -> String {
    let models = sources.metrics.models();
    let mut page = Page::default();
    model_counters(&mut page, &models);
    classes(&mut page, &models);
    for (name, help, unit, histogram) in HISTOGRAMS {
        page.family(name, MetricKind::Histogram, help);
        for model in &models {
            page.histogram(name, &labels(model), histogram(model), unit);
        }
    }
    objectives(&mut page, sources.catalog);
    process(&mut page, sources);
    if let Some(statistics) = &sources.statistics {
        scheduler(&mut page, sources.catalog, statistics);
    }
    page.into_text()
}

fn labels(model: &ModelMetrics) -> [(&str, &str); 2] {
    [("model", &model.name), ("version", &model.version)]
}

fn model_counters(page: &mut Page, models: &[Arc<ModelMetrics>]) {
    for (name, help, value) in MODEL_COUNTERS {
        page.family(name, MetricKind::Counter, help);
        for model in models {
            page.sample(name, &labels(model), value(model));
        }
    }
    let by_label = |page: &mut Page, name: &str, label: &str, values: &[Outcome]| {
        for model in models {
            let [model_label, version] = labels(model);
            for (text, value) in values {
                page.sample(name, &[model_label, version, (label, text)], value(model));
            }
        }
    };
    let name = "nv_inference_request_failure";
    page.family(name, MetricKind::Counter, "Number of requests without a result, by reason.");
    by_label(page, name, "reason", &FAILURES);
    let name = "symphony_requests_total";
    page.family(name, MetricKind::Counter, "Requests by outcome; each has exactly one.");
    by_label(page, name, "outcome", &OUTCOMES);
    let name = "symphony_within_objective_total";
    page.family(name, MetricKind::Counter, "Good requests within the model's objective.");
    for model in models {
        page.sample(name, &labels(model), model.within_objective.get());
    }
    let name = "symphony_dropped_total";
    page.family(name, MetricKind::Counter, "Dropped requests by reason.");
    for model in models {
        let [model_label, version] = labels(model);
        for (reason, count) in DROPPED.iter().zip(&model.dropped) {
            page.sample(name, &[model_label, version, ("reason", reason)], count.get());
        }
    }
}

/// What the models promise, and what best effort is planned for.
fn objectives(page: &mut Page, catalog: &Catalog) {
    let name = "symphony_objective_seconds";
    page.family(name, MetricKind::Gauge, "The latency objective: promised, or best effort.");
    for model in catalog.served() {
        let kind = if model.objective.is_soft() { "best_effort" } else { "slo" };
        let labels = [("model", &*model.name), ("version", &model.version), ("kind", kind)];
        page.sample(name, &labels, model.objective.span().as_secs_f64());
    }
}

/// Outcomes by class.
fn classes(page: &mut Page, models: &[Arc<ModelMetrics>]) {
    let name = "symphony_class_requests_total";
    page.family(name, MetricKind::Counter, "Admitted requests by class and outcome.");
    for model in models {
        let [model_label, version] = labels(model);
        for class in Class::ALL {
            for (outcome, count) in CLASS_OUTCOMES {
                let labels = [model_label, version, ("class", class.name()), ("outcome", outcome)];
                page.sample(name, &labels, count(model.of(class)).get());
            }
        }
    }
}

fn process(page: &mut Page, sources: &Sources<'_>) {
    let metrics = sources.metrics;
    let name = "symphony_refused_total";
    page.family(
        name,
        MetricKind::Counter,
        "Refused inference requests, known model or not, and calls without the right key.",
    );
    for ((_, reason), count) in REFUSED.iter().zip(&metrics.refused) {
        page.sample(name, &[("reason", reason)], Counter::get(count));
    }
    let name = "symphony_refused_connections_total";
    let help = "Connections ended because their client did not complete the TLS handshake, or did \
                not speak the protocol of the port.";
    page.family(name, MetricKind::Counter, help);
    page.sample(name, &[], metrics.refused_connections.get());
    let name = "symphony_request_bytes_refused_total";
    page.family(
        name,
        MetricKind::Counter,
        "Refusals because requests hold all the bytes they may.",
    );
    page.sample(name, &[], sources.budget.refused());
    let mut gauge = |name: &str, help: &str, labelled: &[(&[(&str, &str)], u64)]| {
        page.family(name, MetricKind::Gauge, help);
        for (labels, value) in labelled {
            page.sample(name, labels, value);
        }
    };
    gauge(
        "symphony_requests_in_flight",
        "Admitted requests without an outcome yet.",
        &[(&[], metrics.in_flight.get())],
    );
    gauge(
        "symphony_request_bytes",
        "Bytes that requests hold: bodies and messages as they arrive, tensors in flight.",
        &[(&[], sources.budget.held())],
    );
    gauge(
        "symphony_request_bytes_max",
        "Bytes that requests may hold.",
        &[(&[], sources.budget.max())],
    );
    gauge(
        "symphony_requests_waiting",
        "Admitted requests whose tensors no backend has taken yet.",
        &[(&[], sources.waiting as u64)],
    );
    gauge(
        "symphony_connections",
        "Open client connections.",
        &[
            (&[("protocol", "http")], metrics.http_connections.get()),
            (&[("protocol", "grpc")], metrics.grpc_connections.get()),
        ],
    );
    gauge(
        "symphony_ready",
        "1 when every start-up model is loaded, an accelerator serves and the server is not shutting down.",
        &[(&[], u64::from(sources.is_ready))],
    );
}

/// A model's labels, and what the scheduler counts of it, if it knows it.
type ServedModel<'a> = ([(&'a str, &'a str); 2], Option<&'a ModelStatistics>);

fn served<'a>(catalog: &'a Catalog, statistics: &'a Statistics) -> Vec<ServedModel<'a>> {
    let counted: HashMap<_, _> =
        statistics.models.iter().map(|(id, counters)| (*id, counters)).collect();
    let models = catalog.served();
    models
        .map(|model| {
            let labels = [("model", model.name.as_str()), ("version", model.version.as_str())];
            (labels, counted.get(&model.id).copied())
        })
        .collect()
}

fn scheduler(page: &mut Page, catalog: &Catalog, statistics: &Statistics) {
    let served = served(catalog, statistics);
    type ModelFigure = fn(&ModelStatistics) -> u64;
    let families: [(&str, MetricKind, &str, ModelFigure); 3] = [
        ("nv_inference_exec_count", MetricKind::Counter, "Number of batches executed.", |s| {
            s.batches
        }),
        (
            "nv_inference_pending_request_count",
            MetricKind::Gauge,
            "Number of requests waiting for execution.",
            |s| s.queued,
        ),
        (
            "symphony_queued_requests",
            MetricKind::Gauge,
            "Requests in the scheduler's queue.",
            |s| s.queued,
        ),
    ];
    for (name, kind, help, value) in families {
        page.family(name, kind, help);
        for (labels, counters) in &served {
            page.sample(name, labels, counters.map_or(0, value));
        }
    }
    lanes(page, catalog, statistics);
    planned_times(page, &served);
    times(page, catalog, statistics);
    delays(page, statistics);
    if statistics.mode == Mode::Adaptive {
        plans(page, &served);
    }
    let name = "symphony_pool_mode";
    page.family(name, MetricKind::Gauge, "1 for the mode that the pool is scheduled in.");
    for mode in Mode::ALL {
        page.sample(name, &[("mode", mode.name())], u8::from(mode == statistics.mode));
    }
    if let Some(batches) = statistics.batches_max {
        let name = "symphony_scheduler_batches_max";
        let help = "Batches per second that the scheduler was measured to sustain.";
        page.family(name, MetricKind::Gauge, help);
        page.sample(name, &[], batches);
    }
    accelerators(page, statistics);
}

/// The queue of each lane, of the models that have several.
fn lanes(page: &mut Page, catalog: &Catalog, statistics: &Statistics) {
    let models: HashMap<_, _> = catalog.served().map(|model| (model.id, model)).collect();
    let name = "symphony_lane_queued_requests";
    let help = "Requests in the queue of one lane of a model whose requests differ.";
    page.family(name, MetricKind::Gauge, help);
    for (first, lane, queued) in &statistics.lanes {
        let Some(model) = models.get(first) else { continue };
        let Some(number) = model.lanes.ids().iter().position(|id| id == lane) else { continue };
        let number = number.to_string();
        let labels = [
            ("model", model.name.as_str()),
            ("version", model.version.as_str()),
            ("lane", number.as_str()),
        ];
        page.sample(name, &labels, *queued);
    }
}

/// What batches are planned to take.
fn planned_times(page: &mut Page, served: &[ServedModel<'_>]) {
    type Figure = fn(&ModelStatistics) -> f64;
    let families: [(&str, &str, Figure, f64); 3] = [
        (
            "symphony_model_slowdown",
            "Planned mean time of the model's batches, as a multiple of its loaded profile.",
            |counters| counters.slowdown.as_f64(),
            1.0,
        ),
        (
            "symphony_model_spread_ratio",
            "Standard deviation of batches' times that is planned with, as a share of their mean.",
            |counters| counters.spread,
            0.0,
        ),
        (
            "symphony_model_margin_ratio",
            "How many times its mean a batch's time is counted for being in time.",
            |counters| counters.margin.as_f64(),
            1.0,
        ),
    ];
    for (name, help, value, unknown) in families {
        page.family(name, MetricKind::Gauge, help);
        for (labels, counters) in served {
            page.sample(name, labels, counters.map_or(unknown, value));
        }
    }
}

/// What batches took lately.
fn times(page: &mut Page, catalog: &Catalog, statistics: &Statistics) {
    type Figure = fn(&MeasuredTimes) -> f64;
    let families: [(&str, &str, Figure); 3] = [
        (
            "symphony_measured_mean_ratio",
            "Mean time of the newest batches, as a multiple of the loaded profile.",
            |times| times.mean,
        ),
        (
            "symphony_measured_p95_ratio",
            "95th percentile of the newest batches' times, as a multiple of the loaded profile.",
            |times| times.p95,
        ),
        (
            "symphony_measured_spread_ratio",
            "Standard deviation of the newest batches' times, as a share of their mean.",
            |times| times.spread,
        ),
    ];
    let measured: HashMap<_, _> = statistics.times.iter().map(|(id, times)| (*id, times)).collect();
    for (name, help, value) in families {
        page.family(name, MetricKind::Gauge, help);
        for model in catalog.served() {
            let Some(times) = measured.get(&model.id) else { continue };
            let labels = [("model", model.name.as_str()), ("version", model.version.as_str())];
            page.sample(name, &labels, value(times));
        }
    }
}

/// What plans leave room for around an execution.
fn delays(page: &mut Page, statistics: &Statistics) {
    let name = "symphony_delay_seconds";
    let help = "Measured delays that plans leave room for, their 99th percentile.";
    page.family(name, MetricKind::Gauge, help);
    let Delays { control, data, response, jitter } = statistics.delays;
    let kinds = [("control", control), ("data", data), ("response", response), ("jitter", jitter)];
    for (kind, delay) in kinds {
        page.sample(name, &[("kind", kind)], delay.as_secs_f64());
    }
}

/// What the load asks of each model, where the pool is scheduled by it.
fn plans(page: &mut Page, served: &[ServedModel<'_>]) {
    type PlanFigure = fn(&ModelPlan) -> f64;
    let families: [(&str, &str, PlanFigure); 4] = [
        ("symphony_plan_target_rows", "Rows per batch that the load needs.", |plan| {
            plan.target.into()
        }),
        ("symphony_plan_threshold_rows", "Rows that are enough to start at once.", |plan| {
            plan.threshold.into()
        }),
        (
            "symphony_plan_early_start_seconds",
            "How early a batch below the threshold may start, before it can no longer grow.",
            |plan| plan.early_start.as_secs_f64(),
        ),
        (
            "symphony_plan_level",
            "Models of a higher level leave accelerators free for those of a lower one.",
            |plan| plan.level.into(),
        ),
    ];
    for (name, help, value) in families {
        page.family(name, MetricKind::Gauge, help);
        for (labels, counters) in served {
            if let Some(counters) = counters {
                page.sample(name, labels, value(&counters.plan));
            }
        }
    }
}

fn accelerators(page: &mut Page, statistics: &Statistics) {
    let name = "symphony_accelerator_busy_seconds_total";
    page.family(name, MetricKind::Counter, "Time the accelerator spent on batches.");
    for (index, accelerator) in statistics.accelerators.iter().enumerate() {
        let number = index.to_string();
        page.sample(name, &[("accelerator", &number)], accelerator.busy.as_secs_f64());
    }
    let name = "symphony_accelerator_batches_total";
    page.family(name, MetricKind::Counter, "Batches the accelerator completed.");
    for (index, accelerator) in statistics.accelerators.iter().enumerate() {
        page.sample(name, &[("accelerator", &index.to_string())], accelerator.batches);
    }
    let name = "symphony_accelerator_state";
    page.family(
        name,
        MetricKind::Gauge,
        "1 for the accelerator's current state, 0 for the others.",
    );
    for (index, accelerator) in statistics.accelerators.iter().enumerate() {
        let number = index.to_string();
        for state in AcceleratorState::ALL {
            let labels = [("accelerator", number.as_str()), ("state", state.name())];
            page.sample(name, &labels, u8::from(state == accelerator.state));
        }
    }
    let name = "symphony_accelerator_slowdown";
    let help = "Execution times on the accelerator, as a multiple of those on the others.";
    page.family(name, MetricKind::Gauge, help);
    for (index, accelerator) in statistics.accelerators.iter().enumerate() {
        page.sample(name, &[("accelerator", &index.to_string())], accelerator.slowdown.as_f64());
    }
    gaps(page, statistics);
}

/// How accelerators lay idle though their next batch was planned.
fn gaps(page: &mut Page, statistics: &Statistics) {
    let name = "symphony_accelerator_gaps_total";
    let help = "Gaps between two batches of which the second was planned before the first ended.";
    page.family(name, MetricKind::Counter, help);
    for (index, accelerator) in statistics.accelerators.iter().enumerate() {
        page.sample(name, &[("accelerator", &index.to_string())], accelerator.gaps.count);
    }
    let name = "symphony_accelerator_gap_seconds";
    let help = "The newest of these gaps: their mean, how much of it waited for inputs, their 95th percentile.";
    page.family(name, MetricKind::Gauge, help);
    for (index, accelerator) in statistics.accelerators.iter().enumerate() {
        let (number, gaps) = (index.to_string(), accelerator.gaps);
        for (stat, span) in [("mean", gaps.mean), ("inputs", gaps.inputs), ("p95", gaps.p95)] {
            let labels = [("accelerator", number.as_str()), ("stat", stat)];
            page.sample(name, &labels, span.as_secs_f64());
        }
    }
}

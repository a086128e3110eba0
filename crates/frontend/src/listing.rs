//! What the server serves, for people and their tools: each version of each model with its state,
//! and for one that is served its terms, its profile and its queue. Not part of the open protocol.

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use symphony_wire::carrier::in_process::Catalog;
use symphony_wire::message::{
    IndexEntry, MeasuredTimes, ModelState, ModelStatistics, ServedModel, Statistics,
};
use symphony_wire::tensor::{Dim, Signature, TensorSpec};

/// The list, as it is sent.
#[derive(Debug, Serialize)]
pub(crate) struct Listing {
    models: Vec<Listed>,
    /// `null` when the scheduler does not say.
    delays_ms: Option<ListedDelays>,
}

/// The delays that plans count with.
#[derive(Debug, Serialize)]
struct ListedDelays {
    control: f64,
    data: f64,
    response: f64,
    jitter: f64,
}

/// One version of a model.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    version: String,
    state: &'static str,
    /// Why it is not served; empty where there is nothing to say.
    reason: String,
    #[serde(flatten)]
    served: Option<Served>,
}

/// What is known of a version that is served.
#[derive(Debug, Serialize)]
struct Served {
    engine: String,
    /// The objective; `null` where none is stated.
    slo_ms: Option<f64>,
    /// What batches are planned for where none is stated.
    best_effort_ms: Option<f64>,
    max_batch: u32,
    queue_max: u32,
    /// Requests in the queue; `null` when the scheduler does not say.
    queued: Option<u64>,
    /// The shape of each input, with the names of the dimensions that are not fixed.
    inputs: BTreeMap<String, Vec<ListedDim>>,
    /// The inputs that a request may leave out.
    optional: Vec<String>,
    /// The largest size of each open dimension.
    dimensions: BTreeMap<String, usize>,
    /// Mean milliseconds of a batch as the loaded profile has them, by its rows: powers of two, and
    /// the largest batch.
    profile_ms: BTreeMap<u32, f64>,
    /// What the newest batches took; `null` before the first, or when the scheduler does not say.
    measured: Option<ListedTimes>,
    /// How many times the profile's mean a batch is planned to take; `null`, as the next two, when
    /// the scheduler does not say.
    planned_mean: Option<f64>,
    /// The standard deviation that is planned with, as a share of the mean.
    spread: Option<f64>,
    /// How many times its mean a batch is counted for being in time.
    margin: Option<f64>,
}

/// Times as multiples of what the profile has.
#[derive(Debug, Serialize)]
struct ListedTimes {
    batches: usize,
    mean: f64,
    p95: f64,
    /// The standard deviation as a share of the mean.
    spread: f64,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum ListedDim {
    Size(usize),
    Name(String),
}

/// The name of the dimension that counts rows.
const BATCH: &str = "batch";

/// The list of what `catalog` holds, with the queues that the scheduler told of.
pub(crate) fn of(catalog: &Catalog, scheduler: Option<&Statistics>) -> Listing {
    let models = catalog.index.iter().map(|entry| {
        let (state, reason) = state(&entry.state);
        Listed {
            name: entry.name.clone(),
            version: entry.version.clone(),
            state,
            reason: reason.to_owned(),
            served: served(catalog, entry).map(|model| terms(model, scheduler)),
        }
    });
    let delays_ms = scheduler.map(|scheduler| ListedDelays {
        control: scheduler.delays.control.as_millis_f64(),
        data: scheduler.delays.data.as_millis_f64(),
        response: scheduler.delays.response.as_millis_f64(),
        jitter: scheduler.delays.jitter.as_millis_f64(),
    });
    Listing { models: models.collect(), delays_ms }
}

/// The protocol's name of a state, and the reason for it.
pub(crate) fn state(state: &ModelState) -> (&'static str, &str) {
    match state {
        ModelState::Loading => ("LOADING", ""),
        ModelState::Ready => ("READY", ""),
        ModelState::Unavailable(reason) => ("UNAVAILABLE", reason.as_str()),
    }
}

fn served<'a>(catalog: &'a Catalog, entry: &IndexEntry) -> Option<&'a Arc<ServedModel>> {
    catalog.models.get(&entry.name)?.find(&entry.version)
}

fn terms(model: &ServedModel, scheduler: Option<&Statistics>) -> Served {
    let of_model = |scheduler: &Statistics| {
        let counted = scheduler.models.iter().find(|(id, _)| *id == model.id);
        counted.map_or_else(ModelStatistics::default, |(_, counted)| *counted)
    };
    let counted = scheduler.map(of_model);
    let times = scheduler.and_then(|scheduler| {
        scheduler.times.iter().find(|(id, _)| *id == model.id).map(|(_, times)| times)
    });
    let sizes = (0..u32::BITS).map(|power| 1 << power);
    let sizes = sizes.take_while(|rows| *rows < model.rows_max).chain([model.rows_max]);
    let objective_ms = model.objective.span().as_millis_f64();
    Served {
        engine: model.engine.clone(),
        slo_ms: (!model.objective.is_soft()).then_some(objective_ms),
        best_effort_ms: model.objective.is_soft().then_some(objective_ms),
        max_batch: model.rows_max,
        queue_max: model.queue_max,
        queued: counted.map(|counted| counted.queued),
        inputs: inputs(&model.signature),
        optional: optional(&model.signature),
        dimensions: model
            .signature
            .dimensions
            .iter()
            .map(|dimension| (dimension.name.clone(), dimension.max))
            .collect(),
        profile_ms: sizes.map(|rows| (rows, model.profile.exec(rows).as_millis_f64())).collect(),
        measured: times.map(|&MeasuredTimes { batches, mean, p95, spread }| ListedTimes {
            batches,
            mean,
            p95,
            spread,
        }),
        planned_mean: counted.map(|counted| counted.slowdown.as_f64()),
        spread: counted.map(|counted| counted.spread),
        margin: counted.map(|counted| counted.margin.as_f64()),
    }
}

fn inputs(signature: &Signature) -> BTreeMap<String, Vec<ListedDim>> {
    let dim = |dim: &Dim| match dim {
        Dim::Fixed(size) => ListedDim::Size(*size),
        Dim::Batch => ListedDim::Name(BATCH.to_owned()),
        Dim::Open(index) => {
            let dimension = signature.dimensions.get(usize::from(*index));
            ListedDim::Name(dimension.map_or_else(String::new, |open| open.name.clone()))
        }
        Dim::Unknown => ListedDim::Name(String::new()),
    };
    let shape = |spec: &TensorSpec| (spec.name.clone(), spec.shape.iter().map(dim).collect());
    signature.inputs.iter().map(shape).collect()
}

fn optional(signature: &Signature) -> Vec<String> {
    let left_out = signature.inputs.iter().filter(|spec| spec.default.is_some());
    left_out.map(|spec| spec.name.clone()).collect()
}

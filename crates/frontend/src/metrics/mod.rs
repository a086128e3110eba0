//! What is counted, and where: one [`ModelMetrics`] per served model version, one [`ModelHandle`]
//! per load of it, resolved once and then reached by index.
//!
//! Counters follow the catalog: those of a model that is gone go with the last request that counts
//! there, so that models which come and go under ever new names leave nothing behind. Counting takes
//! no lock. Nothing here decides anything.

mod exposition;
mod page;

use arc_swap::ArcSwap;
pub(crate) use exposition::{Counter, Gauge, Histogram};
pub(crate) use page::{Sources, render};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use symphony_core::{Class, DropReason, Span};
use symphony_wire::carrier::in_process::SharedCatalog;
use symphony_wire::message::{Execution, ServedModel};

use crate::error::ErrorKind;

/// Bounds of the time histograms, in nanoseconds: 100 us to 10 s.
const TIME_BOUNDS: [u64; 16] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Bounds of the batch size histogram, in rows.
const ROWS_BOUNDS: [u64; 14] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 1024];

/// Why a request was dropped, with the one reason that is the frontend's own: nobody had taken
/// it by its deadline.
pub(crate) const DROPPED: [&str; DropReason::ALL.len() + 1] =
    ["hopeless", "overload", "queue_full", "evicted", "too_large", "unloaded", "expired"];

/// Counters of one model version, from its first load until it is gone.
#[derive(Debug)]
pub(crate) struct ModelMetrics {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Answered within the deadline.
    pub(crate) good: Counter,
    /// Of these, within the model's objective.
    pub(crate) within_objective: Counter,
    /// Handed to an accelerator, and no answer by the deadline.
    pub(crate) late: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) failed: Counter,
    pub(crate) refused: Counter,
    /// By reason, in the order of [`DROPPED`].
    pub(crate) dropped: [Counter; DROPPED.len()],
    /// Of requests that were admitted, in the order of [`Class::ALL`].
    pub(crate) classes: [ClassMetrics; Class::ALL.len()],
    /// Rows of good requests.
    pub(crate) rows: Counter,
    /// Nanoseconds, summed over good requests.
    pub(crate) total_ns: Counter,
    pub(crate) queue_ns: Counter,
    pub(crate) assembly_ns: Counter,
    pub(crate) compute_ns: Counter,
    pub(crate) split_ns: Counter,
    /// Nanoseconds, summed over requests without a result.
    pub(crate) fail_ns: Counter,
    /// Milliseconds since the Unix epoch at the last good request.
    pub(crate) last_ms: std::sync::atomic::AtomicU64,
    pub(crate) queue: Histogram,
    pub(crate) execution: Histogram,
    pub(crate) total: Histogram,
    pub(crate) batch: Histogram,
    pub(crate) slack: Histogram,
}

impl ModelMetrics {
    fn new(name: &str, version: &str) -> ModelMetrics {
        ModelMetrics {
            name: name.to_owned(),
            version: version.to_owned(),
            good: Counter::default(),
            within_objective: Counter::default(),
            late: Counter::default(),
            cancelled: Counter::default(),
            failed: Counter::default(),
            refused: Counter::default(),
            dropped: Default::default(),
            classes: Default::default(),
            rows: Counter::default(),
            total_ns: Counter::default(),
            queue_ns: Counter::default(),
            assembly_ns: Counter::default(),
            compute_ns: Counter::default(),
            split_ns: Counter::default(),
            fail_ns: Counter::default(),
            last_ms: std::sync::atomic::AtomicU64::new(0),
            queue: Histogram::new(&TIME_BOUNDS),
            execution: Histogram::new(&TIME_BOUNDS),
            total: Histogram::new(&TIME_BOUNDS),
            batch: Histogram::new(&ROWS_BOUNDS),
            slack: Histogram::new(&TIME_BOUNDS),
        }
    }

    pub(crate) fn dropped_all(&self) -> u64 {
        self.dropped.iter().map(Counter::get).sum()
    }

    pub(crate) fn of(&self, class: Class) -> &ClassMetrics {
        &self.classes[class as usize]
    }

    /// Requests without a result.
    pub(crate) fn failures(&self) -> u64 {
        let others = [&self.late, &self.cancelled, &self.failed, &self.refused];
        self.dropped_all() + others.into_iter().map(Counter::get).sum::<u64>()
    }
}

/// Outcomes of the admitted requests of one class.
#[derive(Debug, Default)]
pub(crate) struct ClassMetrics {
    pub(crate) good: Counter,
    pub(crate) late: Counter,
    pub(crate) dropped: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) failed: Counter,
    pub(crate) refused: Counter,
}

impl ClassMetrics {
    /// A request ended without a result.
    pub(crate) fn ended(&self, ending: RequestEnding) {
        let counter = match ending {
            RequestEnding::Late => &self.late,
            RequestEnding::Cancelled => &self.cancelled,
            RequestEnding::Failed => &self.failed,
            RequestEnding::Refused => &self.refused,
            RequestEnding::Dropped(_) | RequestEnding::Expired => &self.dropped,
        };
        counter.add(1);
    }
}

/// How a request without a result ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestEnding {
    Late,
    Cancelled,
    Failed,
    Refused,
    Dropped(DropReason),
    /// Dropped by the frontend: still queued at its deadline.
    Expired,
}

impl RequestEnding {
    pub(crate) fn name(self) -> &'static str {
        match self {
            RequestEnding::Late => "late",
            RequestEnding::Cancelled => "cancelled",
            RequestEnding::Failed => "failed",
            RequestEnding::Refused => "refused",
            RequestEnding::Dropped(reason) => reason.name(),
            RequestEnding::Expired => "expired",
        }
    }
}

/// Executions of one batch size, as seen by the requests in them.
#[derive(Debug, Default)]
pub(crate) struct BatchSize {
    /// Rows of requests seen: one execution of `b` rows adds `b`, whatever its requests.
    pub(crate) rows: Counter,
    /// Nanoseconds times rows.
    pub(crate) assembly: Counter,
    pub(crate) compute: Counter,
    pub(crate) split: Counter,
}

/// One load of a model: what is served and where to count.
#[derive(Debug)]
pub(crate) struct ModelHandle {
    pub(crate) model: Arc<ServedModel>,
    pub(crate) metrics: Arc<ModelMetrics>,
    /// By batch size, from one row.
    pub(crate) batches: Box<[BatchSize]>,
}

impl ModelHandle {
    /// A load of a model, which goes on with the counters of its version if there are any.
    fn new(
        model: &Arc<ServedModel>,
        models: &mut BTreeMap<ModelKey, Arc<ModelMetrics>>,
    ) -> ModelHandle {
        let key = (model.name.clone(), model.version.clone());
        let metrics = models
            .entry(key)
            .or_insert_with(|| Arc::new(ModelMetrics::new(&model.name, &model.version)));
        ModelHandle {
            model: Arc::clone(model),
            metrics: Arc::clone(metrics),
            batches: (0..model.profile.rows_max()).map(|_| BatchSize::default()).collect(),
        }
    }

    /// A request was answered in time.
    pub(crate) fn good(&self, rows: u32, total: Span, execution: &Execution) {
        let metrics = &self.metrics;
        metrics.good.add(1);
        if total <= self.model.objective.span() {
            metrics.within_objective.add(1);
        }
        metrics.rows.add(u64::from(rows));
        metrics.total_ns.add(total.0);
        metrics.queue_ns.add(execution.queued.0);
        metrics.assembly_ns.add(execution.assembly.0);
        metrics.compute_ns.add(execution.compute.0);
        metrics.split_ns.add(execution.split.0);
        metrics.total.observe(total.0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        metrics.last_ms.store(now, std::sync::atomic::Ordering::Relaxed);
    }

    /// A request ran, in time or not.
    pub(crate) fn ran(&self, execution: &Execution) {
        let metrics = &self.metrics;
        metrics.queue.observe(execution.queued.0);
        metrics.execution.observe(execution.compute.0);
        metrics.batch.observe(u64::from(execution.batch_rows));
        metrics.slack.observe(execution.slack.0);
    }

    /// A request, or a part of one, was among the rows of a batch.
    pub(crate) fn ran_part(&self, rows: u32, execution: &Execution) {
        let size = usize::try_from(execution.batch_rows).unwrap_or(0);
        if let Some(batch) = size.checked_sub(1).and_then(|index| self.batches.get(index)) {
            let rows = u64::from(rows);
            batch.rows.add(rows);
            batch.assembly.add(execution.assembly.0.saturating_mul(rows));
            batch.compute.add(execution.compute.0.saturating_mul(rows));
            batch.split.add(execution.split.0.saturating_mul(rows));
        }
    }

    /// A request ended without a result, this long after it arrived.
    pub(crate) fn ended(&self, ending: RequestEnding, after: Span) {
        let metrics = &self.metrics;
        metrics.fail_ns.add(after.0);
        match ending {
            RequestEnding::Late => {
                metrics.late.add(1);
                metrics.total.observe(after.0);
            }
            RequestEnding::Cancelled => metrics.cancelled.add(1),
            RequestEnding::Failed => metrics.failed.add(1),
            RequestEnding::Refused => metrics.refused.add(1),
            RequestEnding::Dropped(reason) => {
                let index = DropReason::ALL.iter().position(|known| *known == reason);
                metrics.dropped[index.unwrap_or(0)].add(1);
            }
            RequestEnding::Expired => metrics.dropped[DropReason::ALL.len()].add(1),
        }
    }
}

type ModelKey = (String, String);

/// Every counter of the frontend.
#[derive(Debug)]
pub(crate) struct Metrics {
    catalog: SharedCatalog,
    /// By name and version, of models that are served or still have requests.
    models: Mutex<BTreeMap<ModelKey, Arc<ModelMetrics>>>,
    /// Of served models, by the scheduler's identity of the model, for the path of a request.
    handles: ArcSwap<Vec<Option<Arc<ModelHandle>>>>,
    /// Refused requests by class, whether or not their model is known.
    refused: [Counter; REFUSED.len()],
    pub(crate) in_flight: Gauge,
    pub(crate) http_connections: Gauge,
    pub(crate) grpc_connections: Gauge,
    /// Ended before a request was understood on them: no handshake, or not this protocol.
    pub(crate) refused_connections: Counter,
}

/// Classes of refusal and their names.
pub(crate) const REFUSED: [(ErrorKind, &str); 9] = [
    (ErrorKind::Invalid, "invalid"),
    (ErrorKind::Unsupported, "unsupported"),
    (ErrorKind::NotFound, "not_found"),
    (ErrorKind::Unauthenticated, "unauthenticated"),
    (ErrorKind::Forbidden, "forbidden"),
    (ErrorKind::TooLarge, "too_large"),
    (ErrorKind::Stalled, "stalled"),
    (ErrorKind::Overloaded, "overloaded"),
    (ErrorKind::Unavailable, "unavailable"),
];

impl Metrics {
    pub(crate) fn new(catalog: SharedCatalog) -> Metrics {
        Metrics {
            catalog,
            models: Mutex::default(),
            handles: ArcSwap::default(),
            refused: Default::default(),
            in_flight: Gauge::default(),
            http_connections: Gauge::default(),
            grpc_connections: Gauge::default(),
            refused_connections: Counter::default(),
        }
    }

    /// Where requests for this load of a model are counted.
    pub(crate) fn handle(&self, model: &Arc<ServedModel>) -> Arc<ModelHandle> {
        if let Some(handle) = known(&self.handles.load(), model) {
            return handle;
        }
        self.follow();
        // Where the model is gone already, its last requests are counted where nobody reads.
        known(&self.handles.load(), model)
            .unwrap_or_else(|| Arc::new(ModelHandle::new(model, &mut BTreeMap::new())))
    }

    /// Every model version that is served or still has requests, in the order of names.
    pub(crate) fn models(&self) -> Vec<Arc<ModelMetrics>> {
        self.follow();
        self.lock().values().cloned().collect()
    }

    pub(crate) fn refused(&self, kind: ErrorKind) {
        if let Some(index) = REFUSED.iter().position(|(known, _)| *known == kind) {
            self.refused[index].add(1);
        }
    }

    /// Brings the counters in line with the catalog: new ones for models that have none, and none
    /// for models that are gone.
    fn follow(&self) {
        // The catalog is read under the lock, so that an older one never comes after a newer one.
        let mut models = self.lock();
        let catalog = self.catalog.load();
        let before = self.handles.load_full();
        let mut handles = Vec::new();
        for model in catalog.served() {
            let handle = known(&before, model)
                .unwrap_or_else(|| Arc::new(ModelHandle::new(model, &mut models)));
            let index = model.id.index();
            if index >= handles.len() {
                handles.resize(index + 1, None);
            }
            handles[index] = Some(handle);
        }
        drop(before);
        self.handles.store(Arc::new(handles));
        // Handles count there: those of served models, and those that requests hold.
        models.retain(|_, metrics| Arc::strong_count(metrics) > 1);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ModelKey, Arc<ModelMetrics>>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle of this load of a model.
fn known(
    handles: &[Option<Arc<ModelHandle>>],
    model: &Arc<ServedModel>,
) -> Option<Arc<ModelHandle>> {
    let handle = handles.get(model.id.index())?.as_ref()?;
    Arc::ptr_eq(&handle.model, model).then(|| Arc::clone(handle))
}

//! What became of each request, written down: the counters, and a line in the log.
//!
//! Every request passes here once, when it ends. Decides nothing about it.

use crate::error::{ErrorKind, InferError};
use crate::metrics::{Metrics, ModelHandle, RequestEnding};
use crate::quote::brief;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use symphony_core::{Class, Span};
use symphony_wire::clock::Clock;
use symphony_wire::message::Execution;

/// Failures of an engine are logged at most this often; the counters have them all.
const WARNING_EVERY: Span = Span::from_secs(1);

/// Counts requests as they end, and logs them.
#[derive(Debug)]
pub(crate) struct Recorder {
    metrics: Arc<Metrics>,
    clock: Clock,
    /// Numbers requests for the log when the client gave no id.
    sequence: AtomicU64,
    /// When the next warning may be written.
    warning_after: AtomicU64,
}

/// An admitted request, as it is counted and logged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestRecord<'a> {
    pub(crate) handle: &'a ModelHandle,
    /// The client's name for it; empty when it gave none.
    pub(crate) id: &'a str,
    pub(crate) class: Class,
    pub(crate) rows: u32,
}

impl Recorder {
    pub(crate) fn new(metrics: Arc<Metrics>, clock: Clock) -> Recorder {
        Recorder { metrics, clock, sequence: AtomicU64::new(0), warning_after: AtomicU64::new(0) }
    }

    /// A request was refused whose model is not served.
    pub(crate) fn no_model(&self, error: &InferError) {
        self.metrics.refused(error.kind());
        tracing::debug!(outcome = "refused", error = error.message(), "request refused");
    }

    /// A request was refused before it was admitted. Hands the error back.
    pub(crate) fn refused(&self, handle: &ModelHandle, id: &str, error: InferError) -> InferError {
        self.metrics.refused(error.kind());
        handle.ended(RequestEnding::Refused, Span::ZERO);
        self.log(handle, id, RequestEnding::Refused, Span::ZERO, &error);
        error
    }

    /// An admitted request has a result in time.
    pub(crate) fn good(&self, entry: RequestRecord<'_>, elapsed: Span, execution: &Execution) {
        let RequestRecord { handle, id, class, rows } = entry;
        handle.good(rows, elapsed, execution);
        handle.metrics.of(class).good.add(1);
        if tracing::enabled!(tracing::Level::DEBUG) {
            tracing::debug!(
                request = self.request_name(id),
                model = handle.model.name,
                outcome = "good",
                after_ms = elapsed.as_millis_f64(),
                queued_ms = execution.queued.as_millis_f64(),
                batch_rows = execution.batch_rows,
                accelerator = execution.accelerator.0,
                "request answered"
            );
        }
    }

    /// An admitted request ended without a result.
    pub(crate) fn ended(
        &self,
        entry: RequestRecord<'_>,
        ending: RequestEnding,
        after: Span,
        error: &InferError,
    ) {
        if ending == RequestEnding::Refused {
            self.metrics.refused(error.kind());
        }
        entry.handle.ended(ending, after);
        entry.handle.metrics.of(entry.class).ended(ending);
        self.log(entry.handle, entry.id, ending, after, error);
    }

    /// The client of an admitted request left before its outcome.
    pub(crate) fn left(&self, entry: RequestRecord<'_>, after: Span) {
        entry.handle.ended(RequestEnding::Cancelled, after);
        entry.handle.metrics.of(entry.class).ended(RequestEnding::Cancelled);
        if tracing::enabled!(tracing::Level::DEBUG) {
            tracing::debug!(
                request = self.request_name(entry.id),
                model = entry.handle.model.name,
                outcome = RequestEnding::Cancelled.name(),
                after_ms = after.as_millis_f64(),
                "the client left"
            );
        }
    }

    /// One line for a request without a result: at debug level, for overload must not flood
    /// the log; failures of the server are warnings, a few of them.
    fn log(
        &self,
        handle: &ModelHandle,
        id: &str,
        ending: RequestEnding,
        after: Span,
        error: &InferError,
    ) {
        let warn = error.kind() == ErrorKind::Internal && self.may_warn();
        if !warn && !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let request = self.request_name(id);
        let model = handle.model.name.as_str();
        let outcome = ending.name();
        let after_ms = after.as_millis_f64();
        let error = error.message();
        if warn {
            tracing::warn!(request, model, outcome, after_ms, error, "request failed");
        } else {
            tracing::debug!(request, model, outcome, after_ms, error, "request without result");
        }
    }

    /// What the log calls a request: its client's id, or a number if it has none.
    fn request_name(&self, id: &str) -> String {
        if id.is_empty() {
            return format!("#{}", self.sequence.fetch_add(1, Ordering::Relaxed));
        }
        brief(id)
    }

    fn may_warn(&self) -> bool {
        let (now, relaxed) = (self.clock.now(), Ordering::Relaxed);
        let after = self.warning_after.load(relaxed);
        let next = (now + WARNING_EVERY).0;
        // Of several that come at the same moment, the first writes.
        now.0 >= after && self.warning_after.compare_exchange(after, next, relaxed, relaxed).is_ok()
    }
}

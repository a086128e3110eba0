//! From a decoded request to its one outcome, the same way for every protocol.
//!
//! A request is checked, stamped with its deadline, admitted to the in-flight table and
//! submitted to the scheduler; then this waits for the outcome, at most until the deadline.
//! When the waiting future is dropped the client has left, and the request leaves the queue.

use crate::Services;
use crate::check;
use crate::deadline::brief;
use crate::error::{ErrorKind, InferError, Missed, Objective};
use crate::facts;
use crate::metrics::{self, Ending, Metrics, ModelHandle};
use crate::proto;
use crate::request::{InferRequest, InferResponse, OutputOf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use symphony_core::{AcceleratorId, Class, DropReason, Request, RequestId, Span, Time};
use symphony_wire::catalog::{ServedModel, SharedCatalog};
use symphony_wire::clock::Clock;
use symphony_wire::inflight::{Answer, Execution, InFlight, Outcome};
use symphony_wire::schedule::{AcceleratorState, Mode, SchedulerPort, Statistics, SubmitError};
use symphony_wire::tensor::Inputs;
use tokio::sync::oneshot;

/// What a client refused for lack of room is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long the scheduler is waited for.
const SCHEDULER_WAIT: Duration = Duration::from_secs(1);

/// Failures of an engine are logged at most this often; the counters have them all.
const WARNING_EVERY: Span = Span::from_secs(1);

/// The one way for requests into the system.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) catalog: SharedCatalog,
    pub(crate) inflight: Arc<InFlight>,
    pub(crate) scheduler: SchedulerPort,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    /// Bound on the bytes of inputs held for requests in flight.
    tensor_bytes_max: u64,
    /// Numbers requests for the log when the client gave no id.
    sequence: AtomicU64,
    /// When the next warning may be written.
    warning_after: AtomicU64,
}

/// What the log needs to name a request.
#[derive(Clone, Copy)]
struct Label<'a> {
    handle: &'a ModelHandle,
    id: &'a str,
}

impl Admission {
    pub(crate) fn new(services: &Services, tensor_bytes_max: usize) -> Admission {
        Admission {
            catalog: services.catalog.clone(),
            inflight: Arc::clone(&services.inflight),
            scheduler: services.scheduler.clone(),
            clock: services.clock,
            metrics: Metrics::default(),
            tensor_bytes_max: tensor_bytes_max as u64,
            sequence: AtomicU64::new(0),
            warning_after: AtomicU64::new(0),
        }
    }

    /// The model a request is for.
    ///
    /// # Errors
    /// It is not served, or the server shuts down; counted as a refused request.
    pub(crate) fn target(&self, name: &str, version: &str) -> Result<Arc<ModelHandle>, InferError> {
        let catalog = self.catalog.load();
        let found = facts::check_running(&catalog);
        match found.and_then(|()| facts::find(&catalog, name, version)) {
            Ok(model) => Ok(self.metrics.handle(model)),
            Err(error) => {
                self.metrics.refused(error.kind());
                tracing::debug!(outcome = "refused", error = error.message(), "request refused");
                Err(error)
            }
        }
    }

    /// Counts a request that its protocol could not decode, and hands the error back.
    pub(crate) fn refuse(&self, handle: &ModelHandle, id: &str, error: InferError) -> InferError {
        self.metrics.refused(error.kind());
        handle.ended(Ending::Refused, Span::ZERO);
        self.log(Label { handle, id }, Ending::Refused, Span::ZERO, &error);
        error
    }

    /// Runs one request to its outcome.
    ///
    /// # Errors
    /// It was refused, dropped, late, or failed.
    pub(crate) async fn infer(
        &self,
        handle: &ModelHandle,
        request: InferRequest,
    ) -> Result<InferResponse, InferError> {
        let id = request.id.clone();
        let (wanted, mut admitted, mut reply) =
            self.admit(handle, request).map_err(|error| self.refuse(handle, &id, error))?;
        let outcome = match self.clock.instant(admitted.deadline) {
            Some(at) => tokio::time::timeout_at(at.into(), &mut reply).await.ok(),
            None => Some((&mut reply).await),
        };
        let result = match outcome {
            Some(Ok(outcome)) => admitted.settle(outcome),
            // Whoever took the entry let it go without even the outcome that a drop gives.
            Some(Err(_)) => admitted.settle(Outcome::Failed("its outcome was lost".to_owned())),
            None => admitted.expire(&mut reply),
        };
        drop(admitted);
        let answer = result?;
        Ok(InferResponse {
            model: Arc::clone(&handle.model),
            id,
            outputs: select(&handle.model, answer.outputs, &wanted)?,
            execution: answer.execution,
        })
    }

    /// Whether the server can run requests for every start-up model.
    ///
    /// # Errors
    /// It cannot now; says why.
    pub(crate) fn ready(&self) -> Result<(), InferError> {
        facts::check_loaded(&self.catalog.load())?;
        self.serves()
    }

    /// Whether the server can run requests for this model.
    ///
    /// # Errors
    /// It cannot now, and says why; or the model is unknown.
    pub(crate) fn model_ready(&self, name: &str, version: &str) -> Result<(), InferError> {
        let catalog = self.catalog.load();
        facts::find(&catalog, name, version)?;
        facts::check_staying(&catalog)?;
        self.serves()
    }

    /// Whether there is an accelerator to run requests on. Asks nobody: probes come often, and have
    /// to be answered when the scheduler is busy, too.
    fn serves(&self) -> Result<(), InferError> {
        let accelerators = self.scheduler.serving().map_err(|error| not_taken(&error))?;
        facts::check_serving(accelerators)
    }

    /// The scheduler's counters; `None` when it does not answer soon.
    pub(crate) async fn statistics(&self) -> Option<Statistics> {
        answered(self.scheduler.statistics()).await.ok()
    }

    /// The mode that the pool is scheduled by.
    ///
    /// # Errors
    /// The scheduler does not answer.
    pub(crate) async fn mode(&self) -> Result<Mode, InferError> {
        self.statistics().await.map(|statistics| statistics.mode).ok_or_else(silent)
    }

    /// Schedules the pool by another mode, and returns once it is in force.
    ///
    /// # Errors
    /// The scheduler has no room for the message, or does not answer.
    pub(crate) async fn set_mode(&self, mode: Mode) -> Result<(), InferError> {
        answered(self.scheduler.set_mode(mode)).await
    }

    /// What each accelerator is in the pool, by number.
    ///
    /// # Errors
    /// The scheduler does not answer.
    pub(crate) async fn accelerators(&self) -> Result<Vec<AcceleratorState>, InferError> {
        let statistics = self.statistics().await.ok_or_else(silent)?;
        Ok(statistics.accelerators.iter().map(|accelerator| accelerator.state).collect())
    }

    /// Has an accelerator serve, or drains it; returns which it is and what it is then.
    ///
    /// # Errors
    /// The pool has none that is called so, or the scheduler has no room for the message, or does
    /// not answer.
    pub(crate) async fn serve(
        &self,
        name: &str,
        serves: bool,
    ) -> Result<(AcceleratorId, AcceleratorState), InferError> {
        let unknown = || {
            InferError::NotFound(format!(
                "there is no accelerator {:?}: /v2/scheduler/accelerators lists them by number",
                brief(name)
            ))
        };
        let accelerator = AcceleratorId(name.parse().map_err(|_| unknown())?);
        let state = answered(self.scheduler.serve(accelerator, serves)).await?;
        Ok((accelerator, state.ok_or_else(unknown)?))
    }

    /// The metrics page.
    pub(crate) async fn metrics_page(&self) -> String {
        let statistics = self.statistics().await;
        metrics::render(&metrics::Sources {
            metrics: &self.metrics,
            catalog: &self.catalog.load(),
            statistics,
            is_ready: self.ready().is_ok(),
            waiting: self.inflight.len(),
        })
    }

    /// The counters of one model, or of all when the name is empty. A name that is not served has
    /// none.
    pub(crate) async fn model_statistics(
        &self,
        name: &str,
        version: &str,
    ) -> proto::ModelStatisticsResponse {
        let statistics = self.statistics().await.unwrap_or_default();
        let catalog = self.catalog.load();
        let wanted = catalog.models.values().filter(|model| {
            (name.is_empty() || model.name == name)
                && (version.is_empty() || model.version == version)
        });
        let model_stats = wanted
            .map(|model| {
                let counters = statistics.models.iter().find(|(id, _)| *id == model.id);
                let counters = counters.map(|(_, counters)| *counters).unwrap_or_default();
                facts::statistics(&self.metrics.handle(model), counters)
            })
            .collect();
        proto::ModelStatisticsResponse { model_stats }
    }

    /// Checks a request, stamps its deadline, keeps its tensors and submits it.
    fn admit<'a>(
        &'a self,
        handle: &'a ModelHandle,
        request: InferRequest,
    ) -> Result<(Vec<usize>, Admitted<'a>, oneshot::Receiver<Outcome>), InferError> {
        let model = &handle.model;
        let wanted = check::outputs(model, &request.outputs)?;
        let inputs = check::inputs(model, request.inputs)?;
        let rows = inputs.rows;
        let class = request.class.unwrap_or(model.class);
        let objective = match request.limit {
            Some(limit) if limit < model.slo => Objective::Own(limit),
            _ => Objective::Slo(model.slo),
        };
        let (Objective::Own(span) | Objective::Slo(span)) = objective;
        let deadline = request.arrival + span;
        let (sender, reply) = oneshot::channel();
        let held = self.hold(&inputs)?;
        let id =
            self.inflight.admit(inputs, sender).map_err(|full| overloaded(full.to_string()))?;
        self.metrics.in_flight.up(1);
        let mut admitted = Admitted {
            admission: self,
            handle,
            label: request.id,
            id,
            rows,
            class,
            arrival: request.arrival,
            deadline,
            objective,
            settled: false,
            _held: held,
        };
        let metadata = Request { id, arrival: request.arrival, deadline, rows, class };
        if let Err(error) = self.scheduler.submit(model.id, metadata) {
            admitted.settled = true;
            drop(self.inflight.take(id));
            return Err(not_taken(&error));
        }
        Ok((wanted, admitted, reply))
    }

    /// Makes room for a request's inputs.
    fn hold(&self, inputs: &Inputs) -> Result<Held<'_>, InferError> {
        let bytes = inputs.tensors.iter().map(|tensor| tensor.len() as u64).sum();
        let total = self.metrics.tensor_bytes.up(bytes);
        let held = Held { admission: self, bytes };
        if total > self.tensor_bytes_max {
            return Err(overloaded(format!(
                "requests in flight hold {} bytes of tensors, and the server's limit is {}",
                total - bytes,
                self.tensor_bytes_max
            )));
        }
        Ok(held)
    }

    /// One line for a request without a result: at debug level, for overload must not flood
    /// the log; failures of the server are warnings, a few of them.
    fn log(&self, label: Label<'_>, ending: Ending, after: Span, error: &InferError) {
        let warn = error.kind() == ErrorKind::Internal && self.may_warn();
        if !warn && !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let request = self.request_name(label.id);
        let model = label.handle.model.name.as_str();
        let outcome = ending.name();
        let after_ms = after.as_millis_f64();
        let error = error.message();
        if warn {
            tracing::warn!(request, model, outcome, after_ms, error, "request failed");
        } else {
            tracing::debug!(request, model, outcome, after_ms, error, "request without result");
        }
    }

    /// What the log calls a request: by its client's id, or by a number if it has none.
    fn request_name(&self, id: &str) -> String {
        if id.is_empty() {
            return format!("#{}", self.sequence.fetch_add(1, Ordering::Relaxed));
        }
        brief(id)
    }

    fn may_warn(&self) -> bool {
        let now = self.clock.now();
        let after = self.warning_after.load(Ordering::Relaxed);
        now.0 >= after
            && self
                .warning_after
                .compare_exchange(
                    after,
                    (now + WARNING_EVERY).0,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
    }
}

/// A request between admission and outcome. Dropped unsettled, its client has left.
struct Admitted<'a> {
    admission: &'a Admission,
    handle: &'a ModelHandle,
    label: String,
    id: RequestId,
    rows: u32,
    class: Class,
    arrival: Time,
    deadline: Time,
    objective: Objective,
    settled: bool,
    _held: Held<'a>,
}

/// Room that a request's inputs take until its outcome.
struct Held<'a> {
    admission: &'a Admission,
    bytes: u64,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.admission.metrics.tensor_bytes.down(self.bytes);
    }
}

impl Admitted<'_> {
    /// The outcome came.
    fn settle(&mut self, outcome: Outcome) -> Result<Answer, InferError> {
        let now = self.admission.clock.now();
        let elapsed = now.since(self.arrival);
        match outcome {
            Outcome::Done(answer) => {
                self.handle.ran(self.rows, &answer.execution);
                if now > self.deadline {
                    return Err(self.missed(Ending::Late, Missed::Running, elapsed));
                }
                self.settled = true;
                self.handle.good(self.rows, elapsed, &answer.execution);
                self.handle.metrics.of(self.class).good.add(1);
                self.log_good(elapsed, &answer.execution);
                Ok(answer)
            }
            Outcome::Dropped { reason, queued } => Err(self.dropped(reason, queued)),
            Outcome::Refused(message) => {
                let error = InferError::Invalid(message);
                self.admission.metrics.refused(error.kind());
                Err(self.end(Ending::Refused, elapsed, error))
            }
            Outcome::Failed(message) => {
                let model = self.handle.model.name.clone();
                let error = InferError::Failed { model, message };
                Err(self.end(Ending::Failed, elapsed, error))
            }
        }
    }

    fn log_good(&self, elapsed: Span, execution: &Execution) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        tracing::debug!(
            request = self.admission.request_name(&self.label),
            model = self.handle.model.name,
            outcome = "good",
            after_ms = elapsed.as_millis_f64(),
            queued_ms = execution.queued.as_millis_f64(),
            batch_rows = execution.batch_rows,
            accelerator = execution.accelerator.0,
            "request answered"
        );
    }

    /// The deadline came first.
    fn expire(&mut self, reply: &mut oneshot::Receiver<Outcome>) -> Result<Answer, InferError> {
        let elapsed = self.admission.clock.now().since(self.arrival);
        if self.withdraw() {
            return Err(self.missed(Ending::Expired, Missed::Queued, elapsed));
        }
        match reply.try_recv() {
            Ok(outcome) => self.settle(outcome),
            Err(_) => Err(self.missed(Ending::Late, Missed::Running, elapsed)),
        }
    }

    fn dropped(&mut self, reason: DropReason, queued: Span) -> InferError {
        let model = &self.handle.model;
        let error = match reason {
            DropReason::Hopeless | DropReason::Overload => {
                return self.missed(Ending::Dropped(reason), Missed::Dropped(reason), queued);
            }
            DropReason::QueueFull => overloaded(format!(
                "the queue of model {:?} is full: it holds {} requests, its limit",
                model.name, model.queue_max
            )),
            DropReason::Evicted => overloaded(format!(
                "the queue of model {:?} is full: it holds {} requests, its limit, and a request \
                 of high priority took the place of this one",
                model.name, model.queue_max
            )),
            DropReason::TooLarge => InferError::Invalid(format!(
                "{} rows are more than model {:?} takes at once: split the request",
                self.rows, model.name
            )),
            DropReason::Unloaded => InferError::Unavailable(format!(
                "model {:?} was unloaded while the request was queued",
                model.name
            )),
        };
        self.end(Ending::Dropped(reason), queued, error)
    }

    fn missed(&mut self, ending: Ending, missed: Missed, queued: Span) -> InferError {
        let model = self.handle.model.name.clone();
        let error = InferError::Deadline { model, objective: self.objective, queued, missed };
        self.end(ending, queued, error)
    }

    fn end(&mut self, ending: Ending, after: Span, error: InferError) -> InferError {
        self.settled = true;
        self.handle.ended(ending, after);
        self.handle.metrics.of(self.class).ended(ending);
        let label = Label { handle: self.handle, id: &self.label };
        self.admission.log(label, ending, after, &error);
        error
    }

    /// Takes the request out of the queue, unless someone has taken it already.
    fn withdraw(&self) -> bool {
        let Some(pending) = self.admission.inflight.take(self.id) else { return false };
        drop(pending);
        self.admission.scheduler.cancel(self.handle.model.id, self.id, self.deadline);
        true
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.admission.metrics.in_flight.down(1);
        if !self.settled {
            self.withdraw();
            let elapsed = self.admission.clock.now().since(self.arrival);
            self.handle.ended(Ending::Cancelled, elapsed);
            self.handle.metrics.of(self.class).ended(Ending::Cancelled);
            if tracing::enabled!(tracing::Level::DEBUG) {
                tracing::debug!(
                    request = self.admission.request_name(&self.label),
                    model = self.handle.model.name,
                    outcome = Ending::Cancelled.name(),
                    after_ms = elapsed.as_millis_f64(),
                    "the client left"
                );
            }
        }
    }
}

fn overloaded(message: String) -> InferError {
    InferError::Overloaded { message, retry_after: RETRY_AFTER }
}

/// What the scheduler answers to what was asked, if it was asked and does so soon.
async fn answered<T>(asked: Result<oneshot::Receiver<T>, SubmitError>) -> Result<T, InferError> {
    let reply = asked.map_err(|error| not_taken(&error))?;
    let answer = tokio::time::timeout(SCHEDULER_WAIT, reply).await;
    answer.ok().and_then(Result::ok).ok_or_else(silent)
}

/// The scheduler did not take a message.
fn not_taken(error: &SubmitError) -> InferError {
    match error {
        SubmitError::Full => overloaded(error.to_string()),
        SubmitError::Stopped => InferError::Unavailable("the server is shutting down".to_owned()),
    }
}

/// The scheduler did not answer.
fn silent() -> InferError {
    InferError::Unavailable("the scheduler does not answer: try again".to_owned())
}

/// The wanted outputs of all.
fn select(
    model: &ServedModel,
    outputs: Vec<symphony_wire::tensor::OutputTensor>,
    wanted: &[usize],
) -> Result<Vec<OutputOf>, InferError> {
    let mut outputs: Vec<_> = outputs.into_iter().map(Some).collect();
    let selected = wanted.iter().map(|&index| {
        let tensor = outputs.get_mut(index)?.take()?;
        Some(OutputOf { index, tensor })
    });
    selected.collect::<Option<Vec<_>>>().ok_or_else(|| InferError::Failed {
        model: model.name.clone(),
        message: "the engine returned fewer outputs than the model has".to_owned(),
    })
}

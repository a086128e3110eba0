//! What the handlers of every protocol share: the served models, the pool, the way in for requests,
//! and the counters.

use crate::admission::{Admission, AdmissionBounds};
use crate::admitted::Answered;
use crate::budget::{ByteBudget, HeldBytes};
use crate::error::InferError;
use crate::listing::{self, Listing};
use crate::metrics::{self, Metrics, ModelHandle};
use crate::models;
use crate::pool::PoolClient;
use crate::proto;
use crate::readiness;
use crate::record::Recorder;
use crate::request::{InferRequest, InferResponse};
use crate::services::Services;
use crate::statistics;
use std::sync::Arc;
use symphony_wire::carrier::in_process::{Catalog, SharedCatalog};
use symphony_wire::clock::Clock;

/// One frontend, as its protocols see it.
#[derive(Debug)]
pub(crate) struct ApiContext {
    pub(crate) catalog: SharedCatalog,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) pool: PoolClient,
    pub(crate) recorder: Arc<Recorder>,
    admission: Admission,
}

impl ApiContext {
    pub(crate) fn new(services: &Services, bounds: AdmissionBounds) -> ApiContext {
        let metrics = Arc::new(Metrics::new(services.catalog.clone()));
        let recorder = Arc::new(Recorder::new(Arc::clone(&metrics), services.clock));
        let admission =
            Admission::new(services, Arc::clone(&metrics), Arc::clone(&recorder), bounds);
        ApiContext {
            catalog: services.catalog.clone(),
            clock: services.clock,
            metrics,
            pool: PoolClient::new(services.scheduler.clone()),
            recorder,
            admission,
        }
    }

    /// The model a request is for.
    ///
    /// # Errors
    /// It is not served, or the server shuts down; counted as a refused request.
    pub(crate) fn target(&self, name: &str, version: &str) -> Result<Arc<ModelHandle>, InferError> {
        let catalog = self.catalog.load();
        let running = readiness::check_running(&catalog);
        match running.and_then(|()| models::find(&catalog, name, version)) {
            Ok(model) => Ok(self.metrics.handle(model)),
            Err(error) => {
                self.recorder.no_model(&error);
                Err(error)
            }
        }
    }

    /// The bytes that requests hold.
    pub(crate) fn budget(&self) -> &Arc<ByteBudget> {
        &self.admission.budget
    }

    /// Runs one request to its outcome. What it holds of the budget is given back then. A request
    /// whose model is replaced before the scheduler sees the request goes on to the version that
    /// is served then, if the client named no `version`, or this one.
    ///
    /// # Errors
    /// It was refused, dropped, late, or failed.
    pub(crate) async fn infer(
        &self,
        handle: &Arc<ModelHandle>,
        version: &str,
        request: InferRequest,
        held: HeldBytes,
    ) -> Result<InferResponse, InferError> {
        let mut admitted = self.admission.admit(handle, request, held)?;
        loop {
            match admitted.answered().await? {
                Answered::Response(response) => return Ok(response),
                Answered::Unloaded(late, inputs) => {
                    let next = self.served(&handle.model.name, version);
                    admitted = late.submit_to(next, inputs)?;
                }
            }
        }
    }

    fn served(&self, name: &str, version: &str) -> Option<Arc<ModelHandle>> {
        let catalog = self.catalog.load();
        readiness::check_running(&catalog).ok()?;
        Some(self.metrics.handle(models::find(&catalog, name, version).ok()?))
    }

    /// Whether the server can run requests for every start-up model.
    ///
    /// # Errors
    /// It cannot now; says why.
    pub(crate) fn ready(&self) -> Result<(), InferError> {
        readiness::of_server(&self.catalog.load(), &self.pool)
    }

    /// Whether the server can run requests for this model.
    ///
    /// # Errors
    /// It cannot now, and says why; or the model is unknown.
    pub(crate) fn model_ready(&self, name: &str, version: &str) -> Result<(), InferError> {
        readiness::of_model(&self.catalog.load(), &self.pool, name, version)
    }

    /// The counters of one model, or of all when the name is empty. A name that is not served has
    /// none.
    pub(crate) async fn model_statistics(
        &self,
        name: &str,
        version: &str,
    ) -> proto::ModelStatisticsResponse {
        let scheduler = self.pool.statistics().await.unwrap_or_default();
        statistics::of_models(&self.catalog.load(), &self.metrics, &scheduler, name, version)
    }

    /// The catalog, to say of it which models there are.
    ///
    /// # Errors
    /// That is not known yet.
    pub(crate) fn known_catalog(&self) -> Result<Arc<Catalog>, InferError> {
        let catalog = self.catalog.load_full();
        models::check_known(&catalog)?;
        Ok(catalog)
    }

    /// What is served.
    ///
    /// # Errors
    /// That is not known yet.
    pub(crate) async fn listing(&self) -> Result<Listing, InferError> {
        let catalog = self.known_catalog()?;
        let scheduler = self.pool.statistics().await.ok();
        Ok(listing::of(&catalog, scheduler.as_ref()))
    }

    /// The metrics page.
    pub(crate) async fn metrics_page(&self) -> String {
        let statistics = self.pool.statistics().await.ok();
        metrics::render(&metrics::Sources {
            metrics: &self.metrics,
            catalog: &self.catalog.load(),
            statistics,
            budget: self.budget(),
            is_ready: self.ready().is_ok(),
            waiting: self.admission.waiting(),
        })
    }
}

//! `grpc.health.v1`: readiness, read at the moment of the question.
//!
//! The empty name and the inference service are serving when the server is ready; `live` is
//! serving while the process runs, for liveness probes; a model's name stands for that model.

use crate::context::ApiContext;
use crate::error::InferError;
use crate::stop::Stop;
use futures_util::{Stream, StreamExt};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::wrappers::IntervalStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// How often a watched status is looked at; nothing runs while nobody watches.
const WATCH_EVERY: Duration = Duration::from_millis(200);

const SERVICE: &str = "inference.GRPCInferenceService";

#[derive(Debug)]
pub(super) struct ContextHealth {
    context: Arc<ApiContext>,
    stop: Stop,
}

pub(super) fn service(context: Arc<ApiContext>, stop: Stop) -> HealthServer<ContextHealth> {
    HealthServer::new(ContextHealth { context, stop })
}

fn serving(context: &ApiContext, service: &str) -> ServingStatus {
    let serving = match service {
        "live" => Ok(()),
        "" | SERVICE => context.ready(),
        model => context.model_ready(model, ""),
    };
    match serving {
        Ok(()) => ServingStatus::Serving,
        Err(InferError::Unavailable(_)) => ServingStatus::NotServing,
        Err(_) => ServingStatus::ServiceUnknown,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for ContextHealth {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match serving(&self.context, &service) {
            ServingStatus::ServiceUnknown => Err(Status::not_found(format!(
                "unknown service {service:?}: ask for \"\", {SERVICE:?}, \"live\" or a model"
            ))),
            status => Ok(Response::new(response(status))),
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let context = Arc::clone(&self.context);
        let mut last = None;
        let changes = IntervalStream::new(tokio::time::interval(WATCH_EVERY))
            .take_until(self.stop.clone().stopped())
            .filter_map(move |_| {
                let status = serving(&context, &service);
                let changed = last.replace(status) != Some(status);
                std::future::ready(changed.then(|| Ok(response(status))))
            });
        Ok(Response::new(Box::pin(changes)))
    }
}

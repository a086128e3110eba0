//! The protocol over gRPC: the inference service, health and reflection.
//!
//! Decodes, asks the [`ApiContext`], encodes; decides nothing about a request's fate.

mod convert;
mod health;
mod messages;
mod status;

use crate::access::{Access, Door, Need};
use crate::arriving::BodyLimits;
use crate::budget::HeldBytes;
use crate::context::ApiContext;
use crate::deadline;
use crate::describe;
use crate::error::{FrontendError, InferError};
use crate::models;
use crate::parameters;
use crate::proto::grpc_inference_service_server::{
    GrpcInferenceService, GrpcInferenceServiceServer,
};
use crate::proto::infer_parameter::ParameterChoice;
use crate::proto::*;
use crate::readiness;
use crate::stop::Stop;
use futures_util::{Stream, StreamExt};
use hyper::body::Incoming;
use messages::{CallMessages, MessageLedger};
use status::status;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use symphony_core::Span;
use symphony_wire::carrier::in_process::RepositoryPort;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Extensions, Request, Response, Status, Streaming};
use tower::Service;

/// Requests of one stream that may be in flight; further ones wait on the connection.
const STREAM_IN_FLIGHT_MAX: usize = 1024;

/// Room for what a message holds beside its tensors.
const ENVELOPE_MAX: usize = 64 * 1024;

/// Says on the last answer to a request of a stream that it is the last.
const FINAL: &str = "triton_final_response";

/// What gRPC handlers work with.
#[derive(Clone, Debug)]
pub(crate) struct GrpcApi {
    pub(crate) context: Arc<ApiContext>,
    pub(crate) repository: RepositoryPort,
    /// Within which limits messages arrive.
    pub(crate) limits: BodyLimits,
    /// Ends open streams when the server stops.
    pub(crate) stop: Stop,
}

/// Every service of the gRPC port.
#[derive(Debug)]
pub(crate) struct GrpcServices {
    routes: Routes,
    access: Arc<Access>,
    limits: BodyLimits,
}

impl GrpcServices {
    /// # Errors
    /// The compiled protocol description is broken.
    pub(crate) fn new(api: GrpcApi, access: Arc<Access>) -> Result<GrpcServices, FrontendError> {
        let limits = api.limits.clone();
        Ok(GrpcServices { routes: routes(api)?, access, limits })
    }

    /// Answers one call.
    pub(crate) fn answer(
        &self,
        request: http::Request<Incoming>,
        door: Door,
    ) -> impl Future<Output = Result<http::Response<Body>, Infallible>> + Send + use<> {
        let allowed = self.access.check(door, need(request.uri().path()), request.headers());
        let call = allowed.map(|()| {
            let (mut head, body) = request.into_parts();
            let limits = &self.limits;
            let messages = CallMessages::new(&mut head, body, limits, message_max(limits));
            self.routes.clone().call(http::Request::from_parts(head, messages))
        });
        async move {
            match call {
                Ok(call) => call.await,
                Err(error) => Ok(status(&error).into_http()),
            }
        }
    }
}

/// What a call needs of its client, by its path.
fn need(path: &str) -> Need {
    const HEALTH: &str = "/grpc.health.v1.Health/";
    match path.strip_prefix("/inference.GRPCInferenceService/") {
        Some("ServerLive" | "ServerReady" | "ModelReady") => Need::Nothing,
        Some("ModelInfer" | "ModelStreamInfer") => Need::Infer,
        Some("RepositoryModelLoad" | "RepositoryModelUnload") => Need::Admin,
        None if path.starts_with(HEALTH) => Need::Nothing,
        _ => Need::Known,
    }
}

/// Bound on a message, in bytes.
fn message_max(limits: &BodyLimits) -> usize {
    limits.size_max.saturating_add(ENVELOPE_MAX)
}

fn routes(api: GrpcApi) -> Result<Routes, FrontendError> {
    let health = health::service(Arc::clone(&api.context), api.stop.clone());
    let limit = message_max(&api.limits);
    // `CallMessages` decompresses; this has clients told what they may send.
    let inference = GrpcInferenceServiceServer::new(api)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate)
        .max_decoding_message_size(limit)
        .max_encoding_message_size(usize::MAX);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(Routes::new(inference)
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .prepare())
}

impl GrpcApi {
    async fn infer(
        &self,
        message: ModelInferRequest,
        limit: Result<Option<Span>, InferError>,
        mut held: HeldBytes,
    ) -> Result<ModelInferResponse, InferError> {
        let arrival = self.context.clock.now();
        let handle = self.context.target(&message.model_name, &message.model_version)?;
        let (id, version) = (message.id.clone(), message.model_version.clone());
        let is_raw = !message.raw_input_contents.is_empty();
        let request = limit
            .and_then(|limit| convert::request(message, arrival, limit))
            .and_then(|request| {
                // Raw contents are slices of the message, which stays as long as they do.
                if !is_raw {
                    held.resize(request.input_bytes())?;
                }
                Ok(request)
            })
            .map_err(|error| self.context.recorder.refused(&handle, &id, error))?;
        let response = self.context.infer(&handle, &version, request, held).await?;
        Ok(convert::response(response))
    }

    /// What the message holds that was decoded last, of the call with these extensions.
    fn held(&self, extensions: &Extensions) -> HeldBytes {
        let held = extensions.get().and_then(MessageLedger::next);
        held.unwrap_or_else(|| self.limits.budget.account())
    }

    /// One request of a stream: an error is an answer like any other.
    async fn streamed(
        &self,
        message: ModelInferRequest,
        held: HeldBytes,
    ) -> ModelStreamInferResponse {
        let name = message.model_name.clone();
        let id = message.id.clone();
        let (error_message, mut response) = match self.infer(message, Ok(None), held).await {
            Ok(response) => (String::new(), response),
            Err(error) => {
                let failed =
                    ModelInferResponse { model_name: name, id, ..ModelInferResponse::default() };
                (error.message(), failed)
            }
        };
        let last = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
        response.parameters.insert(FINAL.to_owned(), last);
        ModelStreamInferResponse { error_message, infer_response: Some(response) }
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for GrpcApi {
    type ModelStreamInferStream =
        Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let limit = call_timeout(request.metadata());
        let held = self.held(request.extensions());
        answer(self.infer(request.into_inner(), limit, held).await)
    }

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let api = Arc::new(self.clone());
        let stopped = self.stop.clone().stopped();
        let (_, extensions, messages) = request.into_parts();
        let answers = messages
            .take_until(stopped)
            .map(move |message| {
                let api = Arc::clone(&api);
                let message = message.map(|message| (message, api.held(&extensions)));
                Running(tokio::spawn(async move {
                    let (message, held) = message?;
                    Ok(api.streamed(message, held).await)
                }))
            })
            .buffered(STREAM_IN_FLIGHT_MAX);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn server_live(
        &self,
        _request: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _request: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        let ready = self.context.ready().is_ok();
        Ok(Response::new(ServerReadyResponse { ready }))
    }

    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        let ModelReadyRequest { name, version } = request.into_inner();
        // A model that nobody knows is not ready: clients ask this way whether it has come.
        let ready = self.context.model_ready(&name, &version).is_ok();
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _request: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(describe::server()))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        let catalog = self.context.catalog.load();
        let found = models::find(&catalog, &name, &version);
        answer(found.map(|model| describe::metadata(&catalog, model)))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        let ModelConfigRequest { name, version } = request.into_inner();
        let catalog = self.context.catalog.load();
        let config = models::find(&catalog, &name, &version).map(|model| describe::config(model));
        answer(config.map(|config| ModelConfigResponse { config: Some(config) }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        let ModelStatisticsRequest { name, version } = request.into_inner();
        if !name.is_empty() {
            let catalog = self.context.catalog.load();
            models::find(&catalog, &name, &version).map_err(|error| status(&error))?;
        }
        Ok(Response::new(self.context.model_statistics(&name, &version).await))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        let RepositoryIndexRequest { repository_name, ready } = request.into_inner();
        let known = parameters::check_repository(&repository_name);
        let catalog = known.and_then(|()| self.context.known_catalog());
        answer(catalog.map(|catalog| describe::index(&catalog, ready)))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        let RepositoryModelLoadRequest { repository_name, model_name, parameters } =
            request.into_inner();
        readiness::check_running(&self.context.catalog.load())
            .and_then(|()| parameters::check_repository(&repository_name))
            .and_then(|()| parameters::check_load(parameters.keys().map(String::as_str)))
            .map_err(|error| status(&error))?;
        let loaded = self.repository.load(model_name).await.map_err(InferError::from);
        answer(loaded.map(|()| RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        let RepositoryModelUnloadRequest { repository_name, model_name, parameters } =
            request.into_inner();
        readiness::check_running(&self.context.catalog.load())
            .and_then(|()| parameters::check_repository(&repository_name))
            .and_then(|()| parameters::check_unload(parameters.keys().map(String::as_str)))
            .map_err(|error| status(&error))?;
        let unloaded = self.repository.unload(model_name).await.map_err(InferError::from);
        answer(unloaded.map(|()| RepositoryModelUnloadResponse {}))
    }

    async fn system_shared_memory_status(
        &self,
        _request: Request<SystemSharedMemoryStatusRequest>,
    ) -> Result<Response<SystemSharedMemoryStatusResponse>, Status> {
        Ok(Response::new(SystemSharedMemoryStatusResponse::default()))
    }

    async fn system_shared_memory_register(
        &self,
        _request: Request<SystemSharedMemoryRegisterRequest>,
    ) -> Result<Response<SystemSharedMemoryRegisterResponse>, Status> {
        Err(unsupported("shared memory"))
    }

    async fn system_shared_memory_unregister(
        &self,
        _request: Request<SystemSharedMemoryUnregisterRequest>,
    ) -> Result<Response<SystemSharedMemoryUnregisterResponse>, Status> {
        Ok(Response::new(SystemSharedMemoryUnregisterResponse {}))
    }

    async fn cuda_shared_memory_status(
        &self,
        _request: Request<CudaSharedMemoryStatusRequest>,
    ) -> Result<Response<CudaSharedMemoryStatusResponse>, Status> {
        Ok(Response::new(CudaSharedMemoryStatusResponse::default()))
    }

    async fn cuda_shared_memory_register(
        &self,
        _request: Request<CudaSharedMemoryRegisterRequest>,
    ) -> Result<Response<CudaSharedMemoryRegisterResponse>, Status> {
        Err(unsupported("shared memory"))
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _request: Request<CudaSharedMemoryUnregisterRequest>,
    ) -> Result<Response<CudaSharedMemoryUnregisterResponse>, Status> {
        Ok(Response::new(CudaSharedMemoryUnregisterResponse {}))
    }

    async fn trace_setting(
        &self,
        _request: Request<TraceSettingRequest>,
    ) -> Result<Response<TraceSettingResponse>, Status> {
        Err(unsupported("trace settings"))
    }

    async fn log_settings(
        &self,
        _request: Request<LogSettingsRequest>,
    ) -> Result<Response<LogSettingsResponse>, Status> {
        Err(unsupported("log settings"))
    }
}

/// One request of a stream, on a task of its own: it comes to its outcome, and gives back what it
/// holds, whether or not the client reads the answers before it. Dropped, its client has left.
struct Running(JoinHandle<Result<ModelStreamInferResponse, Status>>);

impl Future for Running {
    type Output = Result<ModelStreamInferResponse, Status>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let lost = |_| Status::internal("the request was lost inside the server");
        Pin::new(&mut self.0).poll(context).map(|joined| joined.map_err(lost).flatten())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn answer<T>(result: Result<T, InferError>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| status(&error))
}

fn unsupported(what: &str) -> Status {
    status(&InferError::Unsupported(format!("{what}: not supported by this server")))
}

/// The client's limit for the whole call.
fn call_timeout(metadata: &MetadataMap) -> Result<Option<Span>, InferError> {
    let Some(value) = metadata.get("grpc-timeout") else { return Ok(None) };
    deadline::grpc_timeout(value.to_str().unwrap_or("")).map(Some)
}

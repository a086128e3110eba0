//! Where clients meet the system: the open inference protocol over HTTP and gRPC, metrics,
//! health, the repository API, and an in-process client.
//!
//! A frontend decodes and checks requests, stamps their deadlines, keeps their tensors in the
//! in-flight table and hands the metadata to the scheduler; then it waits for the outcome, never
//! past the deadline. It knows no engine and takes no scheduling decision.

mod admission;
mod admit;
mod admitted;
mod arriving;
mod budget;
mod check;
mod coding;
mod connection;
mod context;
mod deadline;
mod describe;
mod error;
mod grpc;
mod http;
mod in_process;
mod listing;
mod metrics;
mod models;
mod parameters;
mod parts;
mod pool;
mod priority;
mod quote;
mod readiness;
mod record;
mod request;
mod serve;
mod services;
mod statistics;
mod stop;

pub use budget::request_bytes_max_default;
pub use error::{ErrorKind, FrontendError, InferError, Limit, Missed};
pub use in_process::InProcess;
pub use request::{InferResponse, InputTensor, OutputOf};
pub use services::Services;

use admission::{AdmissionBounds, REQUEST_ROWS_MAX_DEFAULT};
use arriving::BodyLimits;
use context::ApiContext;
use grpc::{GrpcApi, GrpcServices};
use http::HttpApi;
use serve::{ConnectionLimits, Port, Protocol};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use stop::{Stop, Stopper};
use symphony_core::{Objective, Span};

/// The compiled protocol: messages, client and server of `inference.GRPCInferenceService`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated; proto/inference.proto documents it"
)]
pub mod proto {
    tonic::include_proto!("inference");

    /// The protocol's description in compiled form, for reflection.
    pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/inference.fds"));
}

/// Bound on a request's body where the configuration sets none: 64 MiB.
pub const BODY_MAX_DEFAULT: usize = 64 << 20;

/// Bound on open connections per port where the configuration sets none.
pub const CONNECTIONS_MAX_DEFAULT: u32 = 8192;

/// How long a body may bring nothing where the configuration says nothing.
pub const BODY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Where and within which limits to serve.
#[derive(Clone, Debug)]
pub struct FrontendConfig {
    /// Address or name to listen on.
    pub host: String,
    /// Port for HTTP; 0 takes a free one, here and below.
    pub http_port: u16,
    /// Port for gRPC.
    pub grpc_port: u16,
    /// Port for the metrics page.
    pub metrics_port: u16,
    /// Bound on a request's body in bytes, compressed or not.
    pub body_max: usize,
    /// Bound on the bytes that all requests together hold: bodies as they arrive, and tensors.
    pub request_bytes_max: usize,
    /// A body that brings nothing for this long is given up, and a client that takes nothing of
    /// its answer.
    pub body_timeout: Duration,
    /// The longest that a request may take whose model has no objective.
    pub request_max: Span,
    /// Bound on the rows of a request where those are more than a batch of its model takes: it is
    /// queued in parts, and its answers are joined.
    pub request_rows_max: u32,
    /// Bound on open connections, per port.
    pub connections_max: u32,
    /// A connection older than this is ended after the answer under way; `None` for never.
    pub connection_age_max: Option<Duration>,
    /// At shutdown, how long open connections may take to end by themselves.
    pub drain: Duration,
}

impl Default for FrontendConfig {
    fn default() -> FrontendConfig {
        FrontendConfig {
            host: "127.0.0.1".to_owned(),
            http_port: 8000,
            grpc_port: 8001,
            metrics_port: 8002,
            body_max: BODY_MAX_DEFAULT,
            request_bytes_max: request_bytes_max_default(),
            body_timeout: BODY_TIMEOUT_DEFAULT,
            request_max: Objective::REQUEST_MAX_DEFAULT,
            request_rows_max: REQUEST_ROWS_MAX_DEFAULT,
            connections_max: CONNECTIONS_MAX_DEFAULT,
            connection_age_max: None,
            drain: Duration::from_secs(5),
        }
    }
}

/// Where the servers listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// HTTP.
    pub http: SocketAddr,
    /// gRPC.
    pub grpc: SocketAddr,
    /// Metrics.
    pub metrics: SocketAddr,
}

/// The servers, before they are bound to ports.
#[derive(Clone, Copy, Debug)]
pub struct Frontend;

impl Frontend {
    /// Binds every port. Nothing is answered before [`Bound::serve`].
    ///
    /// # Errors
    /// A port cannot be had; names it and the flag that changes it.
    pub async fn bind(config: FrontendConfig, services: Services) -> Result<Bound, FrontendError> {
        let host = config.host.as_str();
        let http = Port::bind(host, config.http_port, "HTTP", "--http-port").await?;
        let grpc = Port::bind(host, config.grpc_port, "gRPC", "--grpc-port").await?;
        let metrics = Port::bind(host, config.metrics_port, "metrics", "--metrics-port").await?;
        let bounds = AdmissionBounds {
            request_bytes: config.request_bytes_max,
            request: config.request_max,
            request_rows: config.request_rows_max,
        };
        let context = Arc::new(ApiContext::new(&services, bounds));
        let (stopper, stop) = Stopper::new();
        let limits = BodyLimits {
            budget: Arc::clone(context.budget()),
            size_max: config.body_max,
            timeout: config.body_timeout,
        };
        let services_grpc = GrpcServices::new(GrpcApi {
            context: Arc::clone(&context),
            repository: services.repository.clone(),
            limits: limits.clone(),
            stop: stop.clone(),
        })?;
        let api =
            HttpApi { context: Arc::clone(&context), repository: services.repository, limits };
        let ports = [
            (http, Protocol::Http(Arc::new(api))),
            (grpc, Protocol::Grpc(Arc::clone(&context), Arc::new(services_grpc))),
            (metrics, Protocol::Metrics(Arc::clone(&context))),
        ];
        Ok(Bound {
            ports,
            context,
            limits: ConnectionLimits {
                count_max: config.connections_max,
                age_max: config.connection_age_max,
                write_timeout: config.body_timeout,
            },
            drain: config.drain,
            stopper,
            stop,
        })
    }
}

/// The servers, bound to their ports.
#[derive(Debug)]
pub struct Bound {
    ports: [(Port, Protocol); 3],
    context: Arc<ApiContext>,
    limits: ConnectionLimits,
    drain: Duration,
    stopper: Stopper,
    stop: Stop,
}

impl Bound {
    /// Where they listen.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let [http, grpc, metrics] = &self.ports;
        Addresses { http: http.0.address, grpc: grpc.0.address, metrics: metrics.0.address }
    }

    /// A client in this process, counted together with those on sockets.
    #[must_use]
    pub fn in_process(&self) -> InProcess {
        InProcess::of(Arc::clone(&self.context))
    }

    /// Serves until `shutdown` resolves. Then accepts nothing new, lets open requests end, and
    /// after the configured time cuts what is still open.
    ///
    /// The caller closes the catalog's intake and lets the scheduler run empty before it resolves
    /// `shutdown`: until then requests are refused by an answer, not by a closed port.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let limits = self.limits;
        let ports = self
            .ports
            .map(|(port, protocol)| tokio::spawn(port.serve(protocol, limits, self.stop.clone())));
        shutdown.await;
        self.stopper.stop();
        let ended = futures_util::future::join_all(ports);
        let mut ended = std::pin::pin!(ended);
        if tokio::time::timeout(self.drain, &mut ended).await.is_err() {
            tracing::info!("closing the connections that are still open after the drain time");
            self.stopper.cut();
            ended.await;
        }
    }
}

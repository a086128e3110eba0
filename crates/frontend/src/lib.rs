//! Where clients meet the system: the open inference protocol over HTTP and gRPC, metrics,
//! health, the repository API, and an in-process client.
//!
//! A frontend decodes and checks requests, stamps their deadlines, keeps their tensors in the
//! in-flight table and hands the metadata to the scheduler; then it waits for the outcome, never
//! past the deadline. It knows no engine and takes no scheduling decision.

mod access;
mod admission;
mod admit;
mod admitted;
mod arriving;
mod budget;
mod check;
mod coding;
mod config;
mod connection;
mod context;
mod deadline;
mod describe;
mod entrance;
mod error;
mod grpc;
mod http;
mod in_process;
mod keys;
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
mod security;
mod serve;
mod services;
mod socket;
mod statistics;
mod stop;
mod strangers;

pub use budget::request_bytes_max_default;
pub use config::{
    Addresses, AdminPort, BODY_MAX_DEFAULT, BODY_TIMEOUT_DEFAULT, CONNECTIONS_MAX_DEFAULT,
    FrontendConfig, Security,
};
pub use error::{ErrorKind, FrontendError, InferError, Limit, Missed};
pub use in_process::InProcess;
pub use keys::KeysError;
pub use request::{InferResponse, InputTensor, OutputOf};
pub use services::Services;
pub use symphony_tls::TlsFiles;

use admission::AdmissionBounds;
use arriving::BodyLimits;
use context::ApiContext;
use entrance::Entrance;
use grpc::{GrpcApi, GrpcServices};
use http::HttpApi;
use security::{Guards, Sockets};
use serve::{ConnectionLimits, Port, Protocol};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use stop::{Stop, Stopper};

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

/// The servers, before they are bound to ports.
#[derive(Clone, Copy, Debug)]
pub struct Frontend;

impl Frontend {
    /// Binds every port. Nothing is answered before [`Bound::serve`].
    ///
    /// # Errors
    /// A port cannot be had; names it and the flag that changes it.
    pub async fn bind(config: FrontendConfig, services: Services) -> Result<Bound, FrontendError> {
        let sockets = Sockets::bind(&config).await?;
        let bounds = AdmissionBounds {
            request_bytes: config.request_bytes_max,
            request: config.request_max,
            request_rows: config.request_rows_max,
        };
        let context = Arc::new(ApiContext::new(&services, bounds));
        let guards = Guards::open(&config.security, &sockets, Arc::clone(&context.metrics))?;
        let access = Arc::clone(&guards.access);
        let (stopper, stop) = Stopper::new();
        let limits = BodyLimits {
            budget: Arc::clone(context.budget()),
            size_max: config.body_max,
            timeout: config.body_timeout,
            arena: services.inflight.arena().cloned(),
        };
        let api = GrpcApi {
            context: Arc::clone(&context),
            repository: services.repository.clone(),
            limits: limits.clone(),
            stop: stop.clone(),
        };
        let grpc = Arc::new(GrpcServices::new(api, Arc::clone(&access))?);
        let http = Arc::new(HttpApi {
            context: Arc::clone(&context),
            repository: services.repository,
            access,
            limits,
        });
        let addresses = sockets.addresses();
        let ports = guards.ports(sockets, &context, &http, &grpc);
        Ok(Bound {
            ports,
            addresses,
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
    ports: Vec<(Port, Entrance, Protocol)>,
    addresses: Addresses,
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
        self.addresses
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
        let ports = self.ports.into_iter().map(|(port, entrance, protocol)| {
            tokio::spawn(port.serve(protocol, entrance, limits, self.stop.clone()))
        });
        let ports: Vec<_> = ports.collect();
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

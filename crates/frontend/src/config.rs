//! Where a frontend serves, within which limits, and whom.

use crate::admission::REQUEST_ROWS_MAX_DEFAULT;
use crate::budget::request_bytes_max_default;
use crate::error::FrontendError;
use crate::keys::Keys;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use symphony_core::{Objective, Span};
use symphony_tls::{Identity, TlsFiles};

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
    /// Who may ask what, and how connections are protected.
    pub security: Security,
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
            security: Security::default(),
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
    /// Calls that change the server, over HTTP and gRPC, where they have a port of their own.
    pub admin: Option<SocketAddr>,
}

/// Who may ask what, and how connections are protected.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// The server's certificate; with it, clients connect under TLS. With an authority, they have to
    /// show a certificate of it.
    pub tls: Option<TlsFiles>,
    /// The clients' keys; without it everybody is served.
    pub keys_file: Option<PathBuf>,
    /// A port of its own for calls that change the server.
    pub admin: Option<AdminPort>,
    /// Whether the metrics page asks for what the other ports ask for.
    pub protects_metrics: bool,
}

impl Security {
    /// Reads the files, and forgets what is in them.
    ///
    /// # Errors
    /// A file cannot be used; names it.
    pub fn check(&self) -> Result<(), FrontendError> {
        self.tls.clone().map(Identity::open).transpose()?;
        self.keys_file.clone().map(Keys::open).transpose()?;
        Ok(())
    }
}

/// Where calls that change the server are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminPort {
    /// Address or name to listen on.
    pub host: String,
    /// The port; 0 takes a free one.
    pub port: u16,
}

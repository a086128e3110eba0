//! Clients that the load generator drives.

mod grpc;
mod payload;

pub(crate) use payload::Payload;
pub(crate) use symphony_client::Client;

use super::server::Ports;
use anyhow::Result;
use grpc::GrpcClient;
use serde::Serialize;
use symphony_client::tally::Outcome;
use symphony_client::{Encoding, RepeatedRequest, Target};
use symphony_frontend::{InProcess, InferError, Missed};

/// What is spoken with a server, and how tensors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protocol {
    Grpc,
    /// HTTP/1.1 with tensors as bytes after the JSON.
    HttpBinary,
    /// HTTP/1.1 with tensors as numbers in the JSON.
    HttpJson,
}

impl Protocol {
    pub(crate) const ALL: [Protocol; 3] =
        [Protocol::Grpc, Protocol::HttpBinary, Protocol::HttpJson];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Grpc => "gRPC",
            Protocol::HttpBinary => "HTTP binary",
            Protocol::HttpJson => "HTTP JSON",
        }
    }
}

/// A client of a server in another process.
pub(crate) enum RemoteClient {
    Grpc(GrpcClient),
    Http(RepeatedRequest),
}

impl RemoteClient {
    /// Opens that many connections to a server on this machine.
    ///
    /// # Errors
    /// A connection cannot be had, or the protocol cannot carry the tensors.
    pub(crate) async fn connect(
        protocol: Protocol,
        ports: Ports,
        connections: usize,
        payload: &Payload,
    ) -> Result<RemoteClient> {
        let (target, body) = (Target::local(ports.http), payload.over_http());
        let http = |encoding| RepeatedRequest::connect(&target, connections, &body, encoding);
        Ok(match protocol {
            Protocol::Grpc => {
                RemoteClient::Grpc(GrpcClient::connect(ports.grpc, connections, payload).await?)
            }
            Protocol::HttpBinary => RemoteClient::Http(http(Encoding::Binary).await?),
            Protocol::HttpJson => RemoteClient::Http(http(Encoding::Json).await?),
        })
    }
}

impl Client for RemoteClient {
    async fn infer(&self) -> Outcome {
        match self {
            RemoteClient::Grpc(client) => client.infer().await,
            RemoteClient::Http(client) => client.infer().await,
        }
    }
}

/// A client in the server's own process.
#[derive(Debug)]
pub(crate) struct LocalClient {
    pub(crate) server: InProcess,
    pub(crate) payload: Payload,
}

impl Client for LocalClient {
    async fn infer(&self) -> Outcome {
        let Payload { model, inputs } = &self.payload;
        match self.server.infer(model, inputs.clone(), None).await {
            Ok(_) => Outcome::Answered,
            Err(InferError::Deadline { missed: Missed::Running, .. }) => Outcome::Late,
            Err(InferError::Deadline { .. }) => Outcome::Dropped,
            Err(InferError::Overloaded { .. }) => Outcome::Refused,
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }
}

//! Clients that the load generator drives.

mod grpc;
mod http;

use super::server::Ports;
use super::tally::Outcome;
use anyhow::Result;
use grpc::GrpcClient;
use http::{Encoding, HttpClient};
use serde::Serialize;
use std::future::Future;
use symphony_backend::profiling::sample_rows;
use symphony_frontend::{InProcess, InferError, InputTensor, Missed};
use symphony_wire::tensor::{Signature, TensorSpec};

/// Sends one request again and again, to one model.
pub(crate) trait Client: Send + Sync + 'static {
    /// Sends it and waits for its end.
    fn infer(&self) -> impl Future<Output = Outcome> + Send;
}

/// What is sent: a model and one row of each of its inputs.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub(crate) model: String,
    pub(crate) inputs: Vec<InputTensor>,
}

impl Payload {
    /// One row of made-up numbers, the same every time.
    pub(crate) fn new(model: &str, signature: &Signature) -> Payload {
        let row = sample_rows(signature, 1, 0).into_iter().flat_map(|inputs| inputs.tensors);
        let input = |(spec, data): (&TensorSpec, _)| InputTensor {
            name: spec.name.clone(),
            datatype: spec.datatype,
            shape: one_row(spec.wire_shape(signature.batched)),
            data,
        };
        let inputs = signature.inputs.iter().zip(row).map(input).collect();
        Payload { model: model.to_owned(), inputs }
    }
}

/// The shape with the batch dimension, the only open one, set to one.
fn one_row(shape: Vec<i64>) -> Vec<i64> {
    shape.into_iter().map(|dim| if dim < 0 { 1 } else { dim }).collect()
}

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
    Http(HttpClient),
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
        let http = |encoding| HttpClient::connect(ports.http, connections, payload, encoding);
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

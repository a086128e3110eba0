//! A gRPC client with a fixed number of connections, used in turn.

use super::payload::Payload;
use anyhow::{Context, Result};
use std::sync::atomic::{AtomicUsize, Ordering};
use symphony_client::Client;
use symphony_client::tally::Outcome;
use symphony_frontend::proto::ModelInferRequest;
use symphony_frontend::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use symphony_frontend::proto::model_infer_request::InferInputTensor;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

#[derive(Debug)]
pub(crate) struct GrpcClient {
    connections: Vec<GrpcInferenceServiceClient<Channel>>,
    next: AtomicUsize,
    request: ModelInferRequest,
}

impl GrpcClient {
    /// # Errors
    /// A connection cannot be had.
    pub(crate) async fn connect(
        port: u16,
        connections: usize,
        payload: &Payload,
    ) -> Result<GrpcClient> {
        let address = format!("http://127.0.0.1:{port}");
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections {
            let channel = Endpoint::from_shared(address.clone())?
                .tcp_nodelay(true)
                .connect()
                .await
                .with_context(|| format!("cannot connect to {address}"))?;
            open.push(GrpcInferenceServiceClient::new(channel));
        }
        Ok(GrpcClient { connections: open, next: AtomicUsize::new(0), request: request(payload) })
    }
}

fn request(payload: &Payload) -> ModelInferRequest {
    let inputs = payload.inputs.iter();
    ModelInferRequest {
        model_name: payload.model.clone(),
        inputs: inputs
            .clone()
            .map(|input| InferInputTensor {
                name: input.name.clone(),
                datatype: input.datatype.name().to_owned(),
                shape: input.shape.clone(),
                ..InferInputTensor::default()
            })
            .collect(),
        raw_input_contents: inputs.map(|input| input.data.clone()).collect(),
        ..ModelInferRequest::default()
    }
}

impl Client for GrpcClient {
    async fn infer(&self) -> Outcome {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let mut connection = self.connections[turn].clone();
        match connection.model_infer(self.request.clone()).await {
            Ok(_) => Outcome::Answered,
            Err(status) => match status.code() {
                Code::DeadlineExceeded => Outcome::Dropped,
                Code::ResourceExhausted => Outcome::Refused,
                code => Outcome::Failed(format!("{code:?}: {}", status.message())),
            },
        }
    }
}

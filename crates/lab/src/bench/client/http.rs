//! An HTTP/1.1 client with a fixed number of connections, each with one request at a time: a
//! request waits until one is free.

use super::payload::{Client, Payload};
use crate::bench::tally::Outcome;
use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};
use symphony_frontend::InputTensor;
use symphony_wire::tensor::DataType;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// How tensors are written in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As numbers in the JSON.
    Json,
    /// As bytes after the JSON, both ways.
    Binary,
}

pub(crate) struct HttpClient {
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    /// One permit for each idle connection.
    turn: Semaphore,
    port: u16,
    request: Request<Full<Bytes>>,
}

/// Length of the JSON before the tensors.
const HEAD_LENGTH: &str = "inference-header-content-length";

impl HttpClient {
    /// # Errors
    /// A connection cannot be had, or the tensors cannot be written as JSON.
    pub(crate) async fn connect(
        port: u16,
        connections: usize,
        payload: &Payload,
        encoding: Encoding,
    ) -> Result<HttpClient> {
        let mut idle = Vec::with_capacity(connections);
        for _ in 0..connections {
            idle.push(connect(port).await?);
        }
        Ok(HttpClient {
            idle: Mutex::new(idle),
            turn: Semaphore::new(connections),
            port,
            request: request(port, payload, encoding)?,
        })
    }

    async fn send(&self) -> Result<(StatusCode, Bytes)> {
        let _turn = self.turn.acquire().await?;
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = idle().pop();
        let mut connection = match connection {
            Some(connection) if !connection.is_closed() => connection,
            _ => connect(self.port).await?,
        };
        connection.ready().await?;
        let response = connection.send_request(self.request.clone()).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        idle().push(connection);
        Ok((status, body))
    }
}

async fn connect(port: u16) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .with_context(|| format!("cannot connect to 127.0.0.1:{port}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // How it ended shows in the requests.
        let _ = connection.await;
    });
    Ok(sender)
}

fn request(port: u16, payload: &Payload, encoding: Encoding) -> Result<Request<Full<Bytes>>> {
    let (head, body) = match encoding {
        Encoding::Json => (None, json_body(payload)?),
        Encoding::Binary => {
            let (length, body) = binary_body(payload);
            (Some(length), body)
        }
    };
    let mut request =
        Request::post(format!("http://127.0.0.1:{port}/v2/models/{}/infer", payload.model))
            .header(header::HOST, format!("127.0.0.1:{port}"));
    if let Some(length) = head {
        request = request.header(HEAD_LENGTH, length);
    }
    Ok(request.body(Full::new(body))?)
}

fn json_body(payload: &Payload) -> Result<Bytes> {
    let input = |input: &InputTensor| {
        let mut tensor = described(input);
        tensor["data"] = numbers(input)?;
        Ok(tensor)
    };
    let inputs = payload.inputs.iter().map(input).collect::<Result<Vec<_>>>()?;
    Ok(serde_json::to_vec(&json!({ "inputs": inputs }))?.into())
}

/// The JSON's length, and the JSON followed by the tensors.
fn binary_body(payload: &Payload) -> (usize, Bytes) {
    let input = |input: &InputTensor| {
        let mut tensor = described(input);
        tensor["parameters"] = json!({ "binary_data_size": input.data.len() });
        tensor
    };
    let inputs: Vec<_> = payload.inputs.iter().map(input).collect();
    let head = json!({ "inputs": inputs, "parameters": { "binary_data_output": true } });
    let head = head.to_string();
    let mut body = BytesMut::from(head.as_bytes());
    payload.inputs.iter().for_each(|input| body.extend_from_slice(&input.data));
    (head.len(), body.freeze())
}

fn described(input: &InputTensor) -> Value {
    json!({ "name": input.name, "datatype": input.datatype.name(), "shape": input.shape })
}

fn numbers(input: &InputTensor) -> Result<Value> {
    if input.datatype != DataType::Fp32 {
        bail!("input {:?} is {}: only FP32 is sent as JSON", input.name, input.datatype);
    }
    let (numbers, _) = input.data.as_chunks::<4>();
    Ok(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

impl Client for HttpClient {
    async fn infer(&self) -> Outcome {
        match self.send().await {
            Ok((StatusCode::OK, _)) => Outcome::Answered,
            Ok((StatusCode::GATEWAY_TIMEOUT, _)) => Outcome::Dropped,
            Ok((StatusCode::TOO_MANY_REQUESTS, _)) => Outcome::Refused,
            Ok((status, body)) => {
                Outcome::Failed(format!("{status}: {}", String::from_utf8_lossy(&body)))
            }
            Err(error) => Outcome::Failed(format!("{error:#}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_as_the_protocol_says() {
        let data: Vec<u8> = [1.5f32, -2.0].into_iter().flat_map(f32::to_le_bytes).collect();
        let input = InputTensor {
            name: "x".to_owned(),
            datatype: DataType::Fp32,
            shape: vec![1, 2],
            data: data.clone().into(),
        };
        let payload = Payload { model: "m".to_owned(), inputs: vec![input] };
        let json: Value = serde_json::from_slice(&json_body(&payload).unwrap()).unwrap();
        let tensor = json!({"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2.0]});
        assert_eq!(json, json!({ "inputs": [tensor] }));
        let (length, body) = binary_body(&payload);
        let head: Value = serde_json::from_slice(&body[..length]).unwrap();
        assert_eq!(head["inputs"][0]["parameters"]["binary_data_size"], 8);
        assert_eq!(body[length..], data);
    }

    #[test]
    fn only_numbers_of_one_kind_are_written_as_json() {
        let input = InputTensor {
            name: "x".to_owned(),
            datatype: DataType::Bytes,
            shape: vec![1],
            data: Bytes::new(),
        };
        assert!(numbers(&input).unwrap_err().to_string().contains("\"x\" is BYTES"));
    }
}

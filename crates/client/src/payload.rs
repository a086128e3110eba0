//! The body and the headers of an inference request.

use crate::address::ServerAddress;
use crate::values;
use anyhow::{Result, anyhow};
use bytes::{Bytes, BytesMut};
use http::{Request, header};
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::time::Duration;
use symphony_wire::tensor::DataType;

/// Length of the JSON before the tensors.
pub(crate) const HEAD_LENGTH: &str = "inference-header-content-length";

/// How long the server may take, in milliseconds.
const TIMEOUT: &str = "request-timeout-ms";

/// A tensor with its name: one input of a request, or one output of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTensor {
    /// Its name.
    pub name: String,
    /// Element type.
    pub datatype: DataType,
    /// Its whole shape.
    pub shape: Vec<i64>,
    /// Raw contents, row-major, little endian.
    pub data: Bytes,
}

/// How tensors are written in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As values in the JSON.
    Json,
    /// As bytes after the JSON, both ways.
    Binary,
}

/// What is sent: inputs for a model.
#[derive(Clone, Debug, Default)]
pub struct HttpPayload {
    /// The model's name.
    pub model: String,
    /// Its version; empty for the one that the server chooses.
    pub version: String,
    /// The inputs.
    pub inputs: Vec<NamedTensor>,
    /// A limit of the request's own.
    pub limit: Option<Duration>,
}

impl HttpPayload {
    /// The request that carries this.
    ///
    /// # Errors
    /// The tensors cannot be written so.
    pub(crate) fn request(
        &self,
        address: &ServerAddress,
        encoding: Encoding,
    ) -> Result<Request<Full<Bytes>>> {
        let (head, body) = match encoding {
            Encoding::Json => (None, self.json_body()?),
            Encoding::Binary => {
                let (length, body) = self.binary_body();
                (Some(length), body)
            }
        };
        let route = format!("{}/infer", route(&self.model, &self.version));
        let mut request = Request::post(address.path(&route)).header(header::HOST, address.host());
        if let Some(length) = head {
            request = request.header(HEAD_LENGTH, length);
        }
        if let Some(limit) = self.limit {
            request = request.header(TIMEOUT, (limit.as_secs_f64() * 1e3).to_string());
        }
        Ok(request.body(Full::new(body))?)
    }

    fn json_body(&self) -> Result<Bytes> {
        let input = |input: &NamedTensor| {
            let mut tensor = described(input);
            let data = values::to_json(input.datatype, &input.data);
            tensor["data"] = data.map_err(|why| anyhow!("input {:?} {why}", input.name))?.into();
            Ok(tensor)
        };
        let inputs = self.inputs.iter().map(input).collect::<Result<Vec<_>>>()?;
        Ok(serde_json::to_vec(&json!({ "inputs": inputs }))?.into())
    }

    /// The JSON's length, and the JSON followed by the tensors.
    fn binary_body(&self) -> (usize, Bytes) {
        let input = |input: &NamedTensor| {
            let mut tensor = described(input);
            tensor["parameters"] = json!({ "binary_data_size": input.data.len() });
            tensor
        };
        let inputs: Vec<_> = self.inputs.iter().map(input).collect();
        let head = json!({ "inputs": inputs, "parameters": { "binary_data_output": true } });
        let head = head.to_string();
        let mut body = BytesMut::from(head.as_bytes());
        self.inputs.iter().for_each(|input| body.extend_from_slice(&input.data));
        (head.len(), body.freeze())
    }
}

/// The route of a model, or of one of its versions.
pub(crate) fn route(model: &str, version: &str) -> String {
    let model = utf8_percent_encode(model, NON_ALPHANUMERIC);
    match version {
        "" => format!("/v2/models/{model}"),
        _ => {
            format!(
                "/v2/models/{model}/versions/{}",
                utf8_percent_encode(version, NON_ALPHANUMERIC)
            )
        }
    }
}

fn described(input: &NamedTensor) -> Value {
    json!({ "name": input.name, "datatype": input.datatype.name(), "shape": input.shape })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(datatype: DataType, shape: &[i64], data: &[u8]) -> HttpPayload {
        let data = Bytes::copy_from_slice(data);
        let input = NamedTensor { name: "x".to_owned(), datatype, shape: shape.to_vec(), data };
        HttpPayload { model: "m".to_owned(), inputs: vec![input], ..HttpPayload::default() }
    }

    #[test]
    fn bodies_are_as_the_protocol_says() {
        let data: Vec<u8> = [1.5f32, -2.0].into_iter().flat_map(f32::to_le_bytes).collect();
        let payload = payload(DataType::Fp32, &[1, 2], &data);
        let json: Value = serde_json::from_slice(&payload.json_body().unwrap()).unwrap();
        let tensor = json!({"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2.0]});
        assert_eq!(json, json!({ "inputs": [tensor] }));
        let (length, body) = payload.binary_body();
        let head: Value = serde_json::from_slice(&body[..length]).unwrap();
        assert_eq!(head["inputs"][0]["parameters"]["binary_data_size"], 8);
        assert_eq!(body[length..], data);
    }

    #[test]
    fn what_json_cannot_hold_is_named() {
        let text = payload(DataType::Bytes, &[1], b"\x01\0\0\0\xff").json_body().unwrap_err();
        assert_eq!(text.to_string(), "input \"x\" has an element 0 that is not UTF-8");
    }

    #[test]
    fn a_request_names_its_model_its_version_and_its_limit() {
        let payload = HttpPayload {
            model: "a b".to_owned(),
            version: "3".to_owned(),
            limit: Some(Duration::from_millis(20)),
            ..HttpPayload::default()
        };
        let request = payload.request(&ServerAddress::local(1), Encoding::Binary).unwrap();
        assert_eq!(request.uri().path(), "/v2/models/a%20b/versions/3/infer");
        assert_eq!(request.headers()[TIMEOUT], "20");
    }
}

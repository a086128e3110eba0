//! The answer to an inference: JSON, and binary tensors behind it.

use crate::asking::refusal;
use crate::connections::HttpReply;
use crate::payload::{HEAD_LENGTH, NamedTensor};
use crate::values;
use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

/// What a model gave.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) outputs: Vec<NamedTensor>,
}

#[derive(Deserialize)]
struct Head {
    model_name: String,
    #[serde(default)]
    model_version: String,
    outputs: Vec<AnswerOutput>,
}

#[derive(Deserialize)]
struct AnswerOutput {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(default)]
    parameters: OutputParameters,
    data: Option<Value>,
}

#[derive(Default, Deserialize)]
struct OutputParameters {
    binary_data_size: Option<usize>,
}

/// Reads an answer.
///
/// # Errors
/// The server refused the request, or its answer is not as the protocol has it.
pub(crate) fn read(reply: &HttpReply) -> Result<Answer> {
    if reply.status != StatusCode::OK {
        return Err(refusal(reply));
    }
    decode(reply).context("the server's answer is not as the protocol has it")
}

fn decode(reply: &HttpReply) -> Result<Answer> {
    let length = match reply.headers.get(HEAD_LENGTH) {
        Some(length) => length.to_str()?.parse()?,
        None => reply.body.len(),
    };
    let text = reply.body.get(..length).context("the body is shorter than it says")?;
    let head: Head = serde_json::from_slice(text)?;
    let mut rest = reply.body.slice(length..);
    let output = |output: AnswerOutput| {
        let name = output.name.clone();
        tensor(output, &mut rest).with_context(|| format!("output {name:?}"))
    };
    let outputs = head.outputs.into_iter().map(output).collect::<Result<_>>()?;
    Ok(Answer { model: head.model_name, version: head.model_version, outputs })
}

fn tensor(output: AnswerOutput, rest: &mut Bytes) -> Result<NamedTensor> {
    let datatype = output.datatype.parse()?;
    let data = match (output.parameters.binary_data_size, output.data) {
        (Some(size), _) => {
            (size <= rest.len()).then(|| rest.split_to(size)).context("the data is cut off")?
        }
        (None, Some(value)) => {
            let mut data = Vec::new();
            push_all(&value, &mut |value| {
                let pushed = values::push(datatype, value, &mut data);
                pushed.ok_or_else(|| anyhow!("{value} is not {datatype}"))
            })?;
            data.into()
        }
        (None, None) => return Err(anyhow!("has no data")),
    };
    Ok(NamedTensor { name: output.name, datatype, shape: output.shape, data })
}

fn push_all(value: &Value, push: &mut impl FnMut(&Value) -> Result<()>) -> Result<()> {
    match value {
        Value::Array(members) => members.iter().try_for_each(|member| push_all(member, push)),
        leaf => push(leaf),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    fn reply(status: u16, head: Option<usize>, body: &[u8]) -> HttpReply {
        let mut headers = HeaderMap::new();
        if let Some(length) = head {
            headers.insert(HEAD_LENGTH, HeaderValue::from(length));
        }
        let status = StatusCode::from_u16(status).unwrap();
        HttpReply { status, headers, body: Bytes::copy_from_slice(body) }
    }

    #[test]
    fn outputs_are_read_in_both_forms() {
        let text = br#"{"model_name":"m","model_version":"2","outputs":[
            {"name":"a","datatype":"UINT8","shape":[1,2],"parameters":{"binary_data_size":2}},
            {"name":"b","datatype":"UINT8","shape":[2],"data":[[3],[4]]}]}"#;
        let body = [text.as_slice(), &[1, 2]].concat();
        let answer = read(&reply(200, Some(text.len()), &body)).unwrap();
        assert_eq!((answer.model.as_str(), answer.version.as_str()), ("m", "2"));
        let data: Vec<&[u8]> = answer.outputs.iter().map(|output| &output.data[..]).collect();
        assert_eq!(data, [[1, 2], [3, 4]]);
    }

    #[test]
    fn refusals_and_nonsense_are_told() {
        let cut = br#"{"model_name":"m","outputs":[
            {"name":"a","datatype":"UINT8","shape":[9],"parameters":{"binary_data_size":9}}]}"#;
        for (reply, part) in [
            (reply(404, None, br#"{"error":"unknown model"}"#), "404 Not Found: unknown model"),
            (reply(502, None, b"<html>bad gateway"), "502 Bad Gateway: <html>bad gateway"),
            (reply(200, None, b"{}"), "missing field"),
            (reply(200, Some(99), b"{}"), "shorter than it says"),
            (reply(200, Some(cut.len()), cut), "output \"a\": the data is cut off"),
        ] {
            let error = format!("{:#}", read(&reply).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
    }
}

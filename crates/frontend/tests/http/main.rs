//! The protocol over HTTP, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod contents;
mod effort;
mod limits;
mod parts;
mod predict;
mod refused;
mod server;
mod sizes;

use serde_json::{Value, json};
use support::Reply;

pub(crate) const ECHO: &str = "/v2/models/echo/infer";
pub(crate) const LENGTH: &str = "inference-header-content-length";

/// A request of one input.
pub(crate) fn one(shape: &[i64], data: &Value) -> String {
    json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": shape, "data": data}]}).to_string()
}

pub(crate) fn row() -> String {
    one(&[1, 2], &json!([1, 2]))
}

/// A body of JSON and what follows it, and the header that says where that begins.
pub(crate) fn with_binary(json: &Value, binary: &[u8]) -> (String, Vec<u8>) {
    let json = json.to_string();
    (json.len().to_string(), [json.as_bytes(), binary].concat())
}

#[track_caller]
pub(crate) fn expect_error(reply: &Reply, status: u16, part: &str, what: &str) {
    let error = reply.json()["error"].as_str().unwrap_or_default().to_owned();
    assert_eq!(reply.status, status, "{what}: {error}");
    assert!(error.contains(part), "{what}: {error:?} does not say {part:?}");
}

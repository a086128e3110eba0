//! Questions to a server, and what it says when it cannot answer them.

use crate::address::ServerAddress;
use crate::connections::{Connections, HandshakeFailed, HttpReply};
use crate::target::Target;
use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A server that answers.
#[derive(Debug)]
pub(crate) struct AskedServer {
    connections: Connections,
    address: ServerAddress,
}

impl AskedServer {
    /// # Errors
    /// Nobody answers there; says how to start a server.
    pub(crate) async fn find(target: &Target) -> Result<AskedServer> {
        let address = &target.address;
        let connections = Connections::open(target, 1).await.map_err(|error| {
            if error.is::<HandshakeFailed>() {
                return error;
            }
            error.context(format!(
                "no server answers at {address}: start one with `symphony serve --models DIR`, \
                 or say where it is with --url"
            ))
        })?;
        Ok(AskedServer { connections, address: address.clone() })
    }

    /// What a route answers to a GET; `None` when the server has no such thing.
    ///
    /// # Errors
    /// The server refuses, or what it answers is not as expected.
    pub(crate) async fn get<T: DeserializeOwned>(&self, route: &str) -> Result<Option<T>> {
        self.ask(Method::GET, route).await
    }

    /// What a route answers to a POST without a body.
    ///
    /// # Errors
    /// As [`AskedServer::get`].
    pub(crate) async fn post<T: DeserializeOwned>(&self, route: &str) -> Result<Option<T>> {
        self.ask(Method::POST, route).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, route: &str) -> Result<Option<T>> {
        let reply = self.reply(method, route).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.read(route, &reply).map(Some)
    }

    /// What a route answers to a GET that it has to answer.
    ///
    /// # Errors
    /// The server refuses, or what it answers is not as expected.
    pub(crate) async fn get_known<T: DeserializeOwned>(&self, route: &str) -> Result<T> {
        let reply = self.reply(Method::GET, route).await?;
        self.read(route, &reply)
    }

    async fn reply(&self, method: Method, route: &str) -> Result<HttpReply> {
        let request = Request::builder()
            .method(method)
            .uri(self.address.path(route))
            .header(header::HOST, self.address.host())
            .body(Full::new(Bytes::new()))?;
        self.connections
            .send(request)
            .await
            .with_context(|| format!("the server at {} broke off", self.address))
    }

    fn read<T: DeserializeOwned>(&self, route: &str, reply: &HttpReply) -> Result<T> {
        if reply.status != StatusCode::OK {
            return Err(refusal(reply));
        }
        serde_json::from_slice(&reply.body).with_context(|| {
            format!("{} answers {route} otherwise than the protocol has it", self.address)
        })
    }
}

/// What a server says where it gives no result.
pub(crate) fn refusal(reply: &HttpReply) -> anyhow::Error {
    let told = serde_json::from_slice::<Value>(&reply.body).ok();
    let hint = match reply.status {
        StatusCode::UNAUTHORIZED => " (give the key with SYMPHONY_KEY or --key)",
        _ => "",
    };
    match told.as_ref().and_then(|told| told.get("error")?.as_str()) {
        Some(text) => anyhow!("the server answers {}: {text}{hint}", reply.status),
        None => {
            let text = String::from_utf8_lossy(&reply.body);
            let text: String = text.trim().chars().take(TEXT_MAX).collect();
            anyhow!("the server answers {}: {text}{hint}", reply.status)
        }
    }
}

/// More of a page that is no answer of a model server is nothing to read.
const TEXT_MAX: usize = 300;

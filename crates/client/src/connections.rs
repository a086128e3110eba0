//! HTTP/1.1 connections to one server, each with one request at a time: a request waits until one
//! is free.

use crate::target::Target;
use anyhow::{Context, Result};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use symphony_tls::reason;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// A fixed number of connections.
pub(crate) struct Connections {
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    /// One permit for each connection that has no request.
    turn: Semaphore,
    target: Arc<Target>,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("target", &self.target).finish_non_exhaustive()
    }
}

/// A server's answer to one request.
#[derive(Debug)]
pub(crate) struct HttpReply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Connections {
    /// # Errors
    /// A connection cannot be had.
    pub(crate) async fn open(target: &Target, count: usize) -> Result<Connections> {
        let mut idle = Vec::with_capacity(count);
        for _ in 0..count {
            idle.push(connect(target).await?);
        }
        let turn = Semaphore::new(count);
        Ok(Connections { idle: Mutex::new(idle), turn, target: Arc::new(target.clone()) })
    }

    /// Sends a request and reads the whole answer. A connection that the server closed is opened
    /// anew.
    ///
    /// # Errors
    /// The connection is not to be had, or broke.
    pub(crate) async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<HttpReply> {
        if let Some(authorization) = &self.target.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let _turn = self.turn.acquire().await?;
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = idle().pop();
        let mut connection = match connection {
            Some(connection) if !connection.is_closed() => connection,
            _ => connect(&self.target).await?,
        };
        connection.ready().await?;
        let response = connection.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        idle().push(connection);
        Ok(HttpReply { status: head.status, headers: head.headers, body })
    }
}

/// Server and client do not come together under TLS.
#[derive(Debug)]
pub(crate) struct HandshakeFailed(String);

impl fmt::Display for HandshakeFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HandshakeFailed {}

async fn connect(target: &Target) -> Result<SendRequest<Full<Bytes>>> {
    let address = &target.address;
    let stream = TcpStream::connect(address.socket())
        .await
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    let Some(tls) = &target.tls else { return begin(stream).await };
    let stream = tls.connector.connect(tls.name.clone(), stream).await.map_err(|error| {
        let reason = reason(&error);
        HandshakeFailed(format!(
            "no connection to {address}: {reason} (--ca says which CA vouches for the server)"
        ))
    })?;
    begin(stream).await
}

async fn begin<S>(stream: S) -> Result<SendRequest<Full<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // How it ended shows in the requests.
        let _ = connection.await;
    });
    Ok(sender)
}

//! What a lease asks of the API server of Kubernetes: one resource, over one connection.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::address::KubernetesAddress;
use crate::error::{Failure, LeaseError};

use super::object::LeaseObject;

/// Where a pod finds what it needs to ask the API server.
const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// More than any answer that is read here.
const BODY_MAX: usize = 1 << 20;

/// The API server, and the folder of what it takes to ask it: `token` and `ca.crt`, as they are in
/// every pod. Both are read again and again, because Kubernetes replaces them.
#[derive(Clone, Debug)]
pub struct ApiServer {
    host: String,
    port: u16,
    folder: PathBuf,
}

impl ApiServer {
    /// The API server at `host` and `port`, with the token and certificate in `folder`.
    #[must_use]
    pub fn new(host: &str, port: u16, folder: &Path) -> Self {
        Self { host: host.to_owned(), port, folder: folder.to_owned() }
    }

    /// The API server of the cluster that this process runs in.
    ///
    /// # Errors
    /// The process is not in a pod.
    pub fn in_cluster(address: &KubernetesAddress) -> Result<Self, LeaseError> {
        let host = env::var("KUBERNETES_SERVICE_HOST").ok();
        let port = env::var("KUBERNETES_SERVICE_PORT").ok().and_then(|port| port.parse().ok());
        match (host, port) {
            (Some(host), Some(port)) => Ok(Self::new(&host, port, Path::new(FOLDER))),
            _ => Err(LeaseError::Kubernetes {
                lease: address.full_name(),
                problem: "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT name no API server"
                    .to_owned(),
                remedy: "use this lease within a pod, or a lease of another kind",
            }),
        }
    }
}

/// What the API server says to a question that it understood.
#[derive(Debug)]
pub(super) enum Answer {
    Object(Box<LeaseObject>),
    /// There is no such object, or no such namespace.
    Missing(String),
    /// Somebody else changed or made the object meanwhile.
    Conflict,
}

/// A connection to the API server, made when it is needed.
#[derive(Debug)]
pub(super) struct Api {
    server: ApiServer,
    address: KubernetesAddress,
    /// The longest that one question may take.
    attempt: Duration,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Api {
    pub(super) fn new(server: ApiServer, address: KubernetesAddress, attempt: Duration) -> Self {
        Self { server, address, attempt, connection: None }
    }

    /// The object as it is.
    pub(super) async fn read(&mut self) -> Result<Answer, Failure> {
        let path = format!("{}/{}", self.collection(), self.address.name);
        self.ask(Method::GET, path, None).await
    }

    /// Makes the object.
    pub(super) async fn create(&mut self, object: &LeaseObject) -> Result<Answer, Failure> {
        self.ask(Method::POST, self.collection(), Some(object)).await
    }

    /// Replaces the object, if nobody did so since it was read.
    pub(super) async fn replace(&mut self, object: &LeaseObject) -> Result<Answer, Failure> {
        let path = format!("{}/{}", self.collection(), self.address.name);
        self.ask(Method::PUT, path, Some(object)).await
    }

    fn collection(&self) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.address.namespace)
    }

    async fn ask(
        &mut self,
        method: Method,
        path: String,
        object: Option<&LeaseObject>,
    ) -> Result<Answer, Failure> {
        let asked = timeout(self.attempt, self.send(method, path, object)).await;
        let (status, body) = match asked {
            Ok(answer) => answer?,
            Err(_) => return Err(self.passing(&format!("no answer within {:?}", self.attempt))),
        };
        self.understand(status, &body)
    }

    /// Sends a request and reads the answer. Unless all goes well, the connection is given up.
    async fn send(
        &mut self,
        method: Method,
        path: String,
        object: Option<&LeaseObject>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => self.connect().await?,
        };
        let request = self.request(method, path, object)?;
        let broken = |error: &dyn std::error::Error| self.passing(&error.to_string());
        connection.ready().await.map_err(|error| broken(&error))?;
        let answer = connection.send_request(request).await.map_err(|error| broken(&error))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, BODY_MAX).collect().await;
        let body = body.map_err(|error| self.passing(&error.to_string()))?.to_bytes();
        self.connection = Some(connection);
        Ok((head.status, body))
    }

    fn request(
        &self,
        method: Method,
        path: String,
        object: Option<&LeaseObject>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let body = object.map(serde_json::to_vec).transpose();
        let body = body.map_err(|error| self.passing(&error.to_string()))?.unwrap_or_default();
        let token = self.server.folder.join("token");
        let token = fs::read_to_string(&token).map_err(|error| self.unreadable(&token, &error))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.host())
            .header(USER_AGENT, concat!("symphony/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, format!("Bearer {}", token.trim()))
            .body(Full::new(Bytes::from(body)));
        request.map_err(|error| self.passing(&error.to_string()))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let (host, port) = (self.server.host.as_str(), self.server.port);
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| self.passing(&error.to_string()))?;
        let tls = TlsConnector::from(Arc::new(self.tls()?));
        let broken = |error: std::io::Error| self.passing(&error.to_string());
        let stream = TcpStream::connect((host, port)).await.map_err(broken)?;
        stream.set_nodelay(true).map_err(broken)?;
        let stream = tls.connect(name, stream).await.map_err(broken)?;
        let shaken = handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| self.passing(&error.to_string()))?;
        tokio::spawn(async move {
            // How it ended shows in the requests.
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn tls(&self) -> Result<ClientConfig, Failure> {
        let ca = self.server.folder.join("ca.crt");
        let certificates = CertificateDer::pem_file_iter(&ca)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| self.unreadable(&ca, &error))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| self.passing(&error.to_string()))?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }

    fn understand(&self, status: StatusCode, body: &[u8]) -> Result<Answer, Failure> {
        match status {
            StatusCode::OK | StatusCode::CREATED => match serde_json::from_slice(body) {
                Ok(object) => Ok(Answer::Object(Box::new(object))),
                Err(error) => Err(self.passing(&format!("its answer is no Lease: {error}"))),
            },
            StatusCode::NOT_FOUND => Ok(Answer::Missing(message_of(body))),
            StatusCode::CONFLICT => Ok(Answer::Conflict),
            StatusCode::UNAUTHORIZED => Err(self.lasting(
                &format!("the API server does not take the token: {}", message_of(body)),
                "give the pod a service account whose token the cluster made",
            )),
            StatusCode::FORBIDDEN => Err(self.lasting(
                &message_of(body),
                "let the pod's service account get, create and update leases of \
                 coordination.k8s.io in the namespace",
            )),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(self.passing(&format!("{status}: {}", message_of(body))))
            }
            status => Err(self.lasting(
                &format!("{status}: {}", message_of(body)),
                "check that the cluster serves coordination.k8s.io/v1",
            )),
        }
    }

    fn unreadable(&self, path: &Path, error: &dyn std::error::Error) -> Failure {
        self.passing(&format!("{} cannot be read: {error}", path.display()))
    }

    fn passing(&self, problem: &str) -> Failure {
        Failure::Passing(format!("the API server at {}: {problem}", self.host()))
    }

    pub(super) fn lasting(&self, problem: &str, remedy: &'static str) -> Failure {
        let (lease, problem) = (self.address.full_name(), problem.to_owned());
        Failure::Lasting(LeaseError::Kubernetes { lease, problem, remedy })
    }

    pub(super) fn name(&self) -> &str {
        &self.address.name
    }

    pub(super) fn full_name(&self) -> String {
        self.address.full_name()
    }

    fn host(&self) -> String {
        let ApiServer { host, port, .. } = &self.server;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// What the API server says about an answer that is no object.
fn message_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Status {
        message: String,
    }
    match serde_json::from_slice::<Status>(body) {
        Ok(status) => status.message,
        Err(_) => "no explanation".to_owned(),
    }
}

//! An API server that behaves as that of Kubernetes towards one resource: it takes a token over
//! TLS, gives each version of an object a number, and refuses to replace another version than the
//! newest.

use std::fs;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::certificates::Authority;
use crate::holder::Holder;

const COLLECTION: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases";
const NAME: &str = "scheduler";
const TOKEN: &str = "secret-token";
const SOON: Duration = Duration::from_secs(60);

pub(crate) struct ScriptedApi {
    pub(crate) port: u16,
    authority: Authority,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    object: Option<Value>,
    version: u64,
    /// How many objects of the name there were.
    made: u64,
    renewals: u64,
    failures_left: u32,
    forbidden: bool,
}

impl ScriptedApi {
    pub(crate) fn start() -> Self {
        let authority = Authority::new();
        // As in a pod: a file may end with an empty line.
        fs::write(authority.folder().join("token"), format!("{TOKEN}\n")).unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let config = Arc::new(tls(&authority));
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(serve(listener, TlsAcceptor::from(config), shared));
        });
        Self { port, authority, state }
    }

    /// A process in a pod, with a lease at `place`.
    pub(crate) fn holder(&self, name: &str, place: &str) -> Holder {
        self.holder_at(self.port, name, place)
    }

    /// The same, by way of another port.
    pub(crate) fn holder_at(&self, port: u16, name: &str, place: &str) -> Holder {
        let address = format!("kubernetes:{place}");
        Holder::start_in_pod(name, &address, port, self.authority.folder())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut Value)) {
        let mut state = self.state();
        let mut object = state.object.take().unwrap();
        change(&mut object);
        state.store(object);
    }

    /// Changes the object as somebody else would.
    pub(crate) fn annotate(&self, name: &str, value: &str) {
        self.change(|object| object["metadata"]["annotations"] = json!({ name: value }));
    }

    pub(crate) fn annotation(&self, name: &str) -> Option<String> {
        let state = self.state();
        let object = state.object.as_ref()?;
        object["metadata"]["annotations"][name].as_str().map(str::to_owned)
    }

    /// Makes somebody else the holder, by force.
    pub(crate) fn take(&self, holder: &str) {
        self.change(|object| {
            let count = object["spec"]["leaseTransitions"].as_i64().unwrap();
            object["spec"]["leaseTransitions"] = json!(count + 1);
            object["spec"]["holderIdentity"] = json!(holder);
        });
    }

    pub(crate) fn delete(&self) {
        self.state().object = None;
    }

    /// Answers the next questions with errors that pass.
    pub(crate) fn fail_next(&self, count: u32) {
        self.state().failures_left = count;
    }

    pub(crate) fn forbid(&self) {
        self.state().forbidden = true;
    }

    /// What pods have for a token is not taken any more.
    pub(crate) fn change_token(&self) {
        fs::write(self.authority.folder().join("token"), "expired").unwrap();
    }

    /// Waits until the object was replaced so often from now on.
    pub(crate) fn wait_for_renewals(&self, count: u64) {
        let (begin, end) = (self.state().renewals, Instant::now() + SOON);
        while self.state().renewals < begin + count {
            assert!(Instant::now() < end, "nobody renews the lease");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl State {
    fn answer(
        &mut self,
        method: &Method,
        path: &str,
        token: &str,
        body: &Value,
    ) -> (StatusCode, Value) {
        if token != format!("Bearer {TOKEN}") {
            return refusal(StatusCode::UNAUTHORIZED, "Unauthorized");
        }
        if self.forbidden {
            return refusal(StatusCode::FORBIDDEN, "leases.coordination.k8s.io is forbidden");
        }
        if self.failures_left > 0 {
            self.failures_left -= 1;
            return refusal(StatusCode::SERVICE_UNAVAILABLE, "etcdserver: leader changed");
        }
        let named = path.strip_prefix(COLLECTION).map(|rest| rest.trim_start_matches('/'));
        match (method.as_str(), named, self.object.as_ref()) {
            ("GET" | "PUT", Some(NAME), None) => {
                refusal(StatusCode::NOT_FOUND, "leases \"scheduler\" not found")
            }
            ("GET", Some(NAME), Some(object)) => (StatusCode::OK, object.clone()),
            ("POST", Some(""), Some(_)) => refusal(StatusCode::CONFLICT, "already exists"),
            ("POST", Some(""), None) => self.make(body),
            ("PUT", Some(NAME), Some(object)) => {
                let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
                if version(object) != version(body) {
                    return refusal(StatusCode::CONFLICT, "the object has been modified");
                }
                self.renewals += 1;
                self.put(body.clone(), StatusCode::OK)
            }
            ("GET", None, _) => refusal(StatusCode::NOT_FOUND, "leases \"scheduler\" not found"),
            _ => refusal(StatusCode::NOT_FOUND, "namespaces \"other\" not found"),
        }
    }

    fn make(&mut self, body: &Value) -> (StatusCode, Value) {
        if body["metadata"]["name"] != NAME {
            return refusal(StatusCode::UNPROCESSABLE_ENTITY, "metadata.name is wrong");
        }
        // No two objects of a name are made within one second here.
        self.made += 1;
        let mut object = body.clone();
        object["metadata"]["uid"] = json!(format!("uid-{}", self.made));
        object["metadata"]["namespace"] = json!("ns");
        object["metadata"]["creationTimestamp"] =
            json!(format!("2026-01-01T00:00:{:02}Z", self.made));
        self.put(object, StatusCode::CREATED)
    }

    fn put(&mut self, object: Value, status: StatusCode) -> (StatusCode, Value) {
        let spec = &object["spec"];
        let is_micro_time = |time: &Value| {
            let pattern = "2000-01-01T00:00:00.000000Z";
            time.as_str().is_some_and(|time| time.len() == pattern.len() && time.ends_with('Z'))
        };
        let is_valid = spec["leaseDurationSeconds"].as_i64().is_some_and(|seconds| seconds > 0)
            && spec["leaseTransitions"].as_i64().is_some_and(|count| count >= 0)
            && is_micro_time(&spec["renewTime"])
            && is_micro_time(&spec["acquireTime"]);
        if !is_valid {
            return refusal(StatusCode::UNPROCESSABLE_ENTITY, &format!("invalid: {spec}"));
        }
        self.store(object.clone());
        (status, self.object.clone().unwrap())
    }

    fn store(&mut self, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.object = Some(object);
    }
}

fn refusal(status: StatusCode, message: &str) -> (StatusCode, Value) {
    let kind = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure",
                      "message": message, "code": status.as_u16()});
    (status, kind)
}

async fn serve(listener: std::net::TcpListener, acceptor: TlsAcceptor, state: Arc<Mutex<State>>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(|request| handle(request, &state));
            // A client may go away at any time.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn handle(
    request: Request<Incoming>,
    state: &Mutex<State>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let token = head.headers.get("authorization").and_then(|token| token.to_str().ok());
    let (status, body) = state.lock().unwrap().answer(
        &head.method,
        head.uri.path(),
        token.unwrap_or_default(),
        &body,
    );
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    Ok(response)
}

fn tls(authority: &Authority) -> ServerConfig {
    let file = |name: &str| authority.folder().join(name);
    let certificate = CertificateDer::from_pem_file(file("server.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    config.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap()
}

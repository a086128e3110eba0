//! The protocol over HTTP: what each route answers. Every error body is `{"error": "..."}`.
//!
//! Decodes, asks the [`ApiContext`], encodes; decides nothing about a request's fate.

mod body;
mod decode;
mod dialect;
mod elements;
mod encode;
mod nonfinite;
mod object;
mod predict;
mod route;

use crate::access::{Access, Door, Need};
use crate::arriving::{Arriving, BodyLimits};
use crate::budget::HeldBytes;
use crate::coding::Coding;
use crate::context::ApiContext;
use crate::deadline;
use crate::describe;
use crate::error::{ErrorKind, InferError};
use crate::models;
use crate::parameters;
use crate::proto;
use crate::quote::brief;
use crate::readiness;
use crate::request::{InferRequest, InferResponse};
pub(crate) use body::Pieces;
use body::Received;
use decode::Envelope;
use dialect::{Dialect, OpenProtocol};
use encode::Encoded;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use object::Object;
use predict::Predict;
use route::{ModelPath, Of, Route};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use symphony_core::AcceleratorId;
use symphony_core::sched::{AcceleratorState, Mode, UnknownMode};
use symphony_wire::carrier::in_process::{Catalog, RepositoryPort};
use symphony_wire::message::ServedModel;

const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
const TIMEOUT: HeaderName = HeaderName::from_static("request-timeout-ms");

/// Decoding and encoding more than this is left to a thread that may block; less is done where
/// the request is served.
const INLINE_MAX: usize = 256 * 1024;

/// What HTTP handlers work with.
#[derive(Debug)]
pub(crate) struct HttpApi {
    pub(crate) context: Arc<ApiContext>,
    pub(crate) repository: RepositoryPort,
    pub(crate) access: Arc<Access>,
    /// Within which limits bodies arrive.
    pub(crate) limits: BodyLimits,
}

/// The handlers, for one client that came in by its door.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    pub(crate) api: Arc<HttpApi>,
    pub(crate) door: Door,
}

/// An answer that is no result.
enum Refused {
    Error(InferError),
    Methods(&'static [Method]),
}

impl From<InferError> for Refused {
    fn from(error: InferError) -> Refused {
        Refused::Error(error)
    }
}

impl HttpClient {
    /// Answers one request of the protocol.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Pieces> {
        match self.route(request.map(|body| Arriving::new(body, &self.api.limits))).await {
            Ok(response) => response,
            Err(Refused::Error(error)) => refusal(&error),
            Err(Refused::Methods(methods)) => {
                let methods: Vec<_> = methods.iter().map(Method::as_str).collect();
                let text = format!("this route takes {} requests", methods.join(" and "));
                let mut response = error_body(StatusCode::METHOD_NOT_ALLOWED, &text);
                if let Ok(value) = HeaderValue::from_str(&methods.join(", ")) {
                    response.headers_mut().insert(ALLOW, value);
                }
                response
            }
        }
    }

    async fn route(
        &self,
        request: Request<Arriving<Incoming>>,
    ) -> Result<Response<Pieces>, Refused> {
        let path = request.uri().path();
        let sent = match *request.method() {
            Method::HEAD => &Method::GET,
            ref other => other,
        };
        let changes = *sent == Method::POST;
        let route = Route::of(path);
        let need = route.as_ref().map_or(Need::Known, |route| route.need(changes));
        if let Err(error) = self.api.access.check(self.door, need, request.headers()) {
            request.into_body().discard();
            return Err(error.into());
        }
        let route = route
            .ok_or_else(|| InferError::NotFound(format!("there is no {:?} here", brief(path))))?;
        let methods = route.methods();
        if !methods.is_empty() && !methods.contains(sent) {
            return Err(Refused::Methods(methods));
        }
        Ok(self.api.respond(route, changes, request).await?)
    }
}

impl HttpApi {
    /// What a route answers; `changes` says what is done with one that takes two methods.
    async fn respond(
        &self,
        route: Route,
        changes: bool,
        request: Request<Arriving<Incoming>>,
    ) -> Result<Response<Pieces>, InferError> {
        Ok(match route {
            Route::Model(path) => self.of_model(&path, request).await?,
            Route::Load(name) => self.load(name, request).await?,
            Route::Unload(name) => self.unload(name, request).await?,
            Route::Index => self.index(request).await?,
            Route::Mode if changes => self.set_mode(request).await?,
            Route::Mode => mode_body(self.context.pool.mode().await?),
            Route::Accelerators => self.accelerators().await?,
            Route::Serve { accelerator, serves } => {
                body::read(request.into_body()).await?;
                let (accelerator, state) = self.context.pool.serve(&accelerator, serves).await?;
                json_body(&accelerator_line(accelerator, state))
            }
            Route::Unsupported(what) => {
                let text = format!("{what}: not supported by this server");
                return Err(InferError::Unsupported(text));
            }
            Route::Alive => json_body(&json!({ "status": "alive" })),
            Route::ModelNames => json_body(&predict::names(&*self.context.known_catalog()?)),
            Route::Server => json_body(&describe::server()),
            Route::Live => json_body(&json!({ "live": true })),
            Route::Ready => readiness(self.context.ready(), Map::new())?,
            Route::Models => json_body(&self.context.listing().await?),
            Route::Statistics => json_body(&self.context.model_statistics("", "").await),
            Route::RegionStatus => json_body(&json!([])),
            Route::RegionUnregister => json_body(&json!({})),
        })
    }

    async fn of_model(
        &self,
        path: &ModelPath,
        request: Request<Arriving<Incoming>>,
    ) -> Result<Response<Pieces>, InferError> {
        let (name, version) = (path.name.as_str(), path.version.as_str());
        let described = |describe: fn(&Catalog, &ServedModel) -> Response<Pieces>| {
            let catalog = self.context.catalog.load();
            models::find(&catalog, name, version).map(|model| describe(&catalog, model))
        };
        match path.what {
            Of::Infer => self.infer::<OpenProtocol>(name, version, request).await,
            Of::Predict => self.infer::<Predict>(name, version, request).await,
            Of::Status => {
                let status = predict::status(&self.context.catalog.load(), name, version)?;
                readiness(self.context.model_ready(name, version), status)
            }
            Of::Signature => described(|_, model| json_body(&predict::metadata(model))),
            Of::Ready => {
                let named = Map::from_iter([("name".to_owned(), Value::from(name))]);
                readiness(self.context.model_ready(name, version), named)
            }
            Of::Config => {
                described(|_, model| json_body(&symphony_triton::to_json(&describe::config(model))))
            }
            Of::Metadata => {
                described(|catalog, model| json_body(&describe::metadata(catalog, model)))
            }
            Of::Statistics => {
                models::find(&self.context.catalog.load(), name, version)?;
                Ok(json_body(&self.context.model_statistics(name, version).await))
            }
        }
    }

    async fn index(
        &self,
        request: Request<Arriving<Incoming>>,
    ) -> Result<Response<Pieces>, InferError> {
        #[derive(Default, Deserialize)]
        struct Wanted {
            #[serde(default)]
            ready: bool,
        }
        let wanted: Wanted = optional_json(&body::read(request.into_body()).await?.bytes)?;
        let index = describe::index(&*self.context.known_catalog()?, wanted.ready);
        let models: Vec<Value> = index.models.iter().map(index_line).collect();
        Ok(json_body(&models))
    }

    async fn set_mode(
        &self,
        request: Request<Arriving<Incoming>>,
    ) -> Result<Response<Pieces>, InferError> {
        #[derive(Deserialize)]
        struct Wanted {
            mode: String,
        }
        let body = body::read(request.into_body()).await?;
        let Object(wanted) =
            serde_json::from_slice::<Object<Wanted>>(&body.bytes).map_err(|error| {
                InferError::Invalid(format!(
                    "the body has to be JSON such as {{\"mode\": \"{}\"}}: {error}",
                    Mode::default().name()
                ))
            })?;
        let mode: Mode = wanted
            .mode
            .parse()
            .map_err(|error: UnknownMode| InferError::Invalid(error.to_string()))?;
        self.context.pool.set_mode(mode).await?;
        Ok(mode_body(mode))
    }

    async fn accelerators(&self) -> Result<Response<Pieces>, InferError> {
        let states = self.context.pool.accelerators().await?;
        let lines = (0u32..).map(AcceleratorId).zip(states);
        let lines: Vec<Value> = lines.map(|(id, state)| accelerator_line(id, state)).collect();
        Ok(json_body(&json!({ "accelerators": lines })))
    }

    /// What a load or an unload asks for, while the server takes such requests.
    async fn repository_request(
        &self,
        request: Request<Arriving<Incoming>>,
    ) -> Result<RepositoryRequest, InferError> {
        let asked = optional_json(&body::read(request.into_body()).await?.bytes)?;
        readiness::check_running(&self.context.catalog.load())?;
        Ok(asked)
    }

    async fn load(
        &self,
        name: String,
        request: Request<Arriving<Incoming>>,
    ) -> Result<Response<Pieces>, InferError> {
        let asked = self.repository_request(request).await?;
        parameters::check_load(asked.names())?;
        self.repository.load(name).await?;
        Ok(json_body(&json!({})))
    }

    async fn unload(
        &self,
        name: String,
        request: Request<Arriving<Incoming>>,
    ) -> Result<Response<Pieces>, InferError> {
        let asked = self.repository_request(request).await?;
        parameters::check_unload(asked.names())?;
        self.repository.unload(name).await?;
        Ok(json_body(&json!({})))
    }

    async fn infer<D: Dialect>(
        &self,
        name: &str,
        version: &str,
        request: Request<Arriving<Incoming>>,
    ) -> Result<Response<Pieces>, InferError> {
        let (head, body) = request.into_parts();
        let handle = match self.context.target(name, version) {
            Ok(handle) => handle,
            Err(error) => {
                body.discard();
                return Err(error);
            }
        };
        let refuse = |error| self.context.recorder.refused(&handle, "", error);
        let body = body::read(body).await.map_err(refuse)?;
        let (envelope, held) = self.envelope(&head.headers, body).await.map_err(refuse)?;
        let decoded = decoded::<D>(Arc::clone(&handle.model), envelope, held).await;
        let (request, form, held) = decoded.map_err(refuse)?;
        // A large body takes a while to come and to decode; meanwhile the model may have been
        // loaded again.
        let handle = self.context.target(name, version)?;
        let refuse = |error| self.context.recorder.refused(&handle, &request.id, error);
        D::check_form(&handle.model, &request.outputs, &form).map_err(refuse)?;
        let accepted = head.headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
        let accepted = accepted.and_then(Coding::accepted);
        let response = self.context.infer(&handle, version, request, held).await?;
        encoded::<D>(response, form, accepted).await
    }

    /// What the headers say, and the plain body.
    async fn envelope(
        &self,
        headers: &HeaderMap,
        Received { bytes: mut body, mut held }: Received,
    ) -> Result<(Envelope, HeldBytes), InferError> {
        let arrival = self.context.clock.now();
        let json_length =
            text_header(headers, &JSON_LENGTH)?.map(decode::json_length).transpose()?;
        let limit = text_header(headers, &TIMEOUT)?.map(deadline::header_ms).transpose()?;
        let coding = text_header(headers, &CONTENT_ENCODING)?.map(Coding::of_content);
        let limit_bytes = self.limits.size_max;
        if let Some(coding) = coding.transpose()?.flatten() {
            // How large it will become is known only afterwards.
            let plain = move || {
                let mut plain = Vec::new();
                coding.decompress(&body, limit_bytes, &mut held, &mut plain)?;
                drop(body);
                held.resize(plain.len())?;
                Ok::<_, InferError>((plain.into(), held))
            };
            (body, held) = off_thread(true, plain).await??;
        }
        Ok((Envelope { body, json_length, arrival, limit }, held))
    }
}

/// The body of a load or an unload.
#[derive(Default, Deserialize)]
struct RepositoryRequest {
    parameters: Option<Map<String, Value>>,
}

impl RepositoryRequest {
    /// Names of the parameters that are given: `null` is not.
    fn names(&self) -> impl Iterator<Item = &str> {
        let given = self.parameters.iter().flatten().filter(|(_, value)| !value.is_null());
        given.map(|(name, _)| name.as_str())
    }
}

/// The metrics page, and nothing else, for the metrics port.
///
/// `guard`: who decides whether the client may see them, where not everybody may.
pub(crate) async fn answer_metrics(
    context: &ApiContext,
    guard: Option<(&Access, Door)>,
    request: Request<Incoming>,
) -> Response<Pieces> {
    let allowed = guard.map(|(access, door)| access.check(door, Need::Known, request.headers()));
    if let Some(Err(error)) = allowed {
        return refusal(&error);
    }
    if request.uri().path() != "/metrics" {
        return error_body(StatusCode::NOT_FOUND, "metrics are at /metrics");
    }
    let text = context.metrics_page().await;
    let mut response = Response::new(Pieces::one(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Decodes a request. What it holds is the body before, and what is kept of it after.
async fn decoded<D: Dialect>(
    model: Arc<ServedModel>,
    envelope: Envelope,
    mut held: HeldBytes,
) -> Result<(InferRequest, D::Form, HeldBytes), InferError> {
    let body = envelope.body.len();
    let text = envelope.json_length.unwrap_or(body);
    let is_large = text > INLINE_MAX;
    if is_large {
        held.grow(D::expansion(&model, text))?;
    }
    // Binary tensors are slices of the body, which stays as long as they do.
    let keeps_body = envelope.json_length.is_some();
    off_thread(is_large, move || {
        let (request, form) = D::decode(&model, envelope)?;
        held.resize(if keeps_body { body } else { request.input_bytes() })?;
        Ok((request, form, held))
    })
    .await?
}

/// Encodes an answer, compressed if the client takes that and it is worth it.
async fn encoded<D: Dialect>(
    response: InferResponse,
    form: D::Form,
    accepted: Option<Coding>,
) -> Result<Response<Pieces>, InferError> {
    let size: usize = response.outputs.iter().map(|output| output.tensor.data.len()).sum();
    let large = size > INLINE_MAX;
    let (Encoded { pieces, json_length }, compressed) = off_thread(large, move || {
        let encoded = D::encode(&response, &form)?;
        let compressed =
            accepted.and_then(|coding| Some((coding, coding.compress(&encoded.pieces)?)));
        Ok::<_, InferError>((encoded, compressed))
    })
    .await??;
    let (coding, pieces) = match compressed {
        Some((coding, body)) => (Some(coding), Pieces::one(body)),
        None => (None, Pieces::new(pieces)),
    };
    let mut answer = Response::new(pieces);
    let headers = answer.headers_mut();
    let kind = if json_length.is_some() { "application/octet-stream" } else { "application/json" };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(length) = json_length {
        headers.insert(JSON_LENGTH, HeaderValue::from(length));
    }
    if let Some(coding) = coding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    }
    Ok(answer)
}

/// Does work here, or, when there is much of it, on a thread that may block.
async fn off_thread<T: Send + 'static>(
    large: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, InferError> {
    if !large {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| InferError::Unavailable("the server is shutting down".to_owned()))
}

fn text_header<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, InferError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    value
        .to_str()
        .map(Some)
        .map_err(|_| InferError::Invalid(format!("the header {name} is not plain text")))
}

/// JSON from a body that may be empty.
fn optional_json<T: Default + for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, InferError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    let Object(members) = serde_json::from_slice(body).map_err(|error| {
        InferError::Invalid(format!("the body is not JSON as the protocol has it: {error}"))
    })?;
    Ok(members)
}

fn index_line(model: &proto::repository_index_response::ModelIndex) -> Value {
    json!({
        "name": model.name,
        "version": model.version,
        "state": model.state,
        "reason": model.reason,
    })
}

fn mode_body(mode: Mode) -> Response<Pieces> {
    json_body(&json!({ "mode": mode.name() }))
}

fn accelerator_line(accelerator: AcceleratorId, state: AcceleratorState) -> Value {
    json!({ "accelerator": accelerator.0, "state": state.name() })
}

/// The answer to a readiness probe: `body`, whether that is ready, and why it is not.
fn readiness(
    found: Result<(), InferError>,
    mut body: Map<String, Value>,
) -> Result<Response<Pieces>, InferError> {
    let why = match found {
        Ok(()) => None,
        Err(InferError::Unavailable(why)) => Some(why),
        Err(other) => return Err(other),
    };
    body.insert("ready".to_owned(), why.is_none().into());
    let status = if why.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    body.extend(why.map(|why| ("error".to_owned(), why.into())));
    let mut response = json_body(&body);
    *response.status_mut() = status;
    Ok(response)
}

fn json_body<T: Serialize + ?Sized>(value: &T) -> Response<Pieces> {
    // What is answered here are our own types, all of which have a JSON form.
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Pieces::one(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn refusal(error: &InferError) -> Response<Pieces> {
    let status = match error.kind() {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Stalled => StatusCode::REQUEST_TIMEOUT,
        ErrorKind::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Deadline => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = error_body(status, &error.message());
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::REQUEST_TIMEOUT {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(wait) = error.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    response
}

fn error_body(status: StatusCode, text: &str) -> Response<Pieces> {
    let mut response = json_body(&json!({ "error": text }));
    *response.status_mut() = status;
    response
}

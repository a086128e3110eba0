//! Listening, accepting and closing connections, the same for every port.
//!
//! Knows no protocol beyond how a connection is driven.

use crate::connection::{ClientStream, Dialogue};
use crate::context::ApiContext;
use crate::error::FrontendError;
use crate::grpc::GrpcServices;
use crate::http::{HttpApi, answer_metrics};
use crate::metrics::{Gauge, Metrics};
use crate::stop::{Phase, Stop};
use http::header::{CONNECTION, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// A client has this long to send the head of a request, the time between two requests on one
/// connection included: longer than clients keep idle connections.
const HEAD_WAIT: Duration = Duration::from_secs(300);

/// A gRPC connection is asked this often whether its client is still there, and cut without an
/// answer, so that a client that vanished without closing does not keep its requests queued.
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_WAIT: Duration = Duration::from_secs(20);

/// Pause after accepting failed, as it does when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How much of a request over HTTP is read ahead of those that use it.
const READ_AHEAD: usize = 64 << 10;

/// Streams that one gRPC connection may have open.
const STREAMS_MAX: u32 = 4096;

/// HTTP/2 flow control windows: what a client may send that nobody has read, per stream and per
/// connection. It is held beside the budget, so it is small, and yet enough for a fast network.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// A bound port.
#[derive(Debug)]
pub(crate) struct Port {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Port {
    /// Binds a port; 0 takes a free one.
    ///
    /// # Errors
    /// It cannot be had; names the port and the flag.
    pub(crate) async fn bind(
        host: &str,
        port: u16,
        protocol: &'static str,
        flag: &'static str,
    ) -> Result<Port, FrontendError> {
        let bound = async {
            let listener = TcpListener::bind((host, port)).await?;
            let address = listener.local_addr()?;
            Ok(Port { listener, address })
        };
        bound.await.map_err(|reason| FrontendError::Bind {
            host: host.to_owned(),
            port,
            protocol,
            flag,
            reason,
        })
    }

    /// Accepts connections until the stop, then waits for the open ones to end, at most until
    /// the cut.
    pub(crate) async fn serve(self, protocol: Protocol, limits: ConnectionLimits, stop: Stop) {
        let room = Arc::new(Semaphore::new(limits.count_max as usize));
        tokio::select! {
            () = self.accept(&protocol, limits, &room, &stop) => {}
            () = stop.clone().stopped() => {}
        }
        drop(self.listener);
        // Every connection gives its permit back when it has ended.
        tokio::select! {
            _ = room.acquire_many(limits.count_max) => {}
            () = stop.reached(Phase::Cutting) => {}
        }
    }

    /// Accepts connections for ever, while there is room for one more, and has each served.
    async fn accept(
        &self,
        protocol: &Protocol,
        limits: ConnectionLimits,
        room: &Arc<Semaphore>,
        stop: &Stop,
    ) {
        let mut number = 0_u32;
        // The semaphore is never closed.
        while let Ok(permit) = Arc::clone(room).acquire_owned().await {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Answers are written at once; waiting to fill a packet would cost 40 ms.
            let _ = stream.set_nodelay(true);
            number = number.wrapping_add(1);
            let age_max = limits.age_max.map(|age| spread(age, number));
            let client = Accepted { stream, age_max, write_timeout: limits.write_timeout };
            let connection = protocol.drive(client, stop);
            let cut = stop.clone().reached(Phase::Cutting);
            tokio::spawn(async move {
                let _permit = permit;
                tokio::select! {
                    () = connection => {}
                    () = cut => {}
                }
            });
        }
    }
}

/// Within which limits a port keeps connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// Bound on how many are open.
    pub(crate) count_max: u32,
    /// After this long a connection is ended at the next occasion.
    pub(crate) age_max: Option<Duration>,
    /// A client that takes nothing of its answer for this long is given up.
    pub(crate) write_timeout: Duration,
}

/// Up to a tenth less, differently for each number: clients that came together shall not have to
/// come back together.
fn spread(age: Duration, number: u32) -> Duration {
    const GOLDEN: u32 = 0x9E37_79B9;
    let part = f64::from(number.wrapping_mul(GOLDEN)) / f64::from(u32::MAX);
    age.mul_f64(1.0 - 0.1 * part)
}

/// A client that has just come.
struct Accepted {
    stream: TcpStream,
    age_max: Option<Duration>,
    write_timeout: Duration,
}

impl Accepted {
    fn into_stream(self, dialogue: Dialogue) -> TokioIo<ClientStream> {
        TokioIo::new(ClientStream::new(self.stream, dialogue, self.write_timeout))
    }
}

/// What is spoken on a port, and who answers.
#[derive(Debug)]
pub(crate) enum Protocol {
    Http(Arc<HttpApi>),
    Grpc(Arc<ApiContext>, Arc<GrpcServices>),
    Metrics(Arc<ApiContext>),
}

type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Protocol {
    /// The future that serves one connection. How a connection ended is the client's affair.
    fn drive(&self, client: Accepted, stop: &Stop) -> Connection {
        let stop = stop.clone();
        match self {
            Protocol::Http(api) => Box::pin(serve_http(client, Arc::clone(api), stop)),
            Protocol::Grpc(context, api) => {
                let open = Open::new(context, |metrics| &metrics.grpc_connections);
                Box::pin(serve_grpc(client, Arc::clone(api), stop, open))
            }
            Protocol::Metrics(context) => {
                Box::pin(serve_metrics(client, Arc::clone(context), stop))
            }
        }
    }
}

fn serve_http(client: Accepted, api: Arc<HttpApi>, stop: Stop) -> impl Future<Output = ()> {
    let open = Open::new(&api.context, |metrics| &metrics.http_connections);
    let dialogue = Dialogue::default();
    let opened = Instant::now();
    let age_max = client.age_max;
    let stream = client.into_stream(dialogue.clone());
    let answer = service_fn(move |request| {
        let api = Arc::clone(&api);
        let answering = dialogue.begin(&request);
        async move {
            let mut response = api.answer(request).await;
            drop(answering);
            if age_max.is_some_and(|age| opened.elapsed() >= age) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    async move {
        until_end(http1().serve_connection(stream, answer), stop.stopped()).await;
        drop(open);
    }
}

async fn serve_grpc(client: Accepted, api: Arc<GrpcServices>, stop: Stop, open: Open) {
    let age_max = client.age_max;
    if speaks(&client.stream, stop.clone()).await {
        let service = service_fn(move |request| api.answer(request));
        let connection = http2().serve_connection(client.into_stream(Dialogue::default()), service);
        let old = async {
            match age_max {
                Some(age) => tokio::time::sleep(age).await,
                None => std::future::pending().await,
            }
        };
        let ending = async {
            tokio::select! {
                () = stop.stopped() => {}
                () = old => {}
            }
        };
        until_end(connection, ending).await;
    }
    drop(open);
}

async fn serve_metrics(client: Accepted, context: Arc<ApiContext>, stop: Stop) {
    let answer = service_fn(move |request| {
        let context = Arc::clone(&context);
        async move { Ok::<_, Infallible>(answer_metrics(&context, request).await) }
    });
    let stream = client.into_stream(Dialogue::default());
    until_end(http1().serve_connection(stream, answer), stop.stopped()).await;
}

/// Serves a connection to its end; once `ending` is ready, it ends after what is under way.
async fn until_end<C: GracefulConnection>(connection: C, ending: impl Future<Output = ()>) {
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = ending => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Whether a client says anything at all, before its time or the server's is over. HTTP/2 itself
/// waits for ever for the first byte, pings only after it, and does not stop before it.
async fn speaks(stream: &TcpStream, stop: Stop) -> bool {
    let mut first = [0];
    tokio::select! {
        read = tokio::time::timeout(HEAD_WAIT, stream.peek(&mut first)) => {
            matches!(read, Ok(Ok(1..)))
        }
        () = stop.stopped() => false,
    }
}

fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .half_close(true)
        .max_buf_size(READ_AHEAD);
    builder
}

fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WAIT)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    builder
}

/// Counts a connection while it is open.
struct Open {
    context: Arc<ApiContext>,
    gauge: fn(&Metrics) -> &Gauge,
}

impl Open {
    fn new(context: &Arc<ApiContext>, gauge: fn(&Metrics) -> &Gauge) -> Open {
        gauge(&context.metrics).up(1);
        Open { context: Arc::clone(context), gauge }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        (self.gauge)(&self.context.metrics).down(1);
    }
}

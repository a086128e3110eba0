//! Listening, accepting and closing connections, the same for every port.
//!
//! Knows no protocol beyond how a connection is driven.

use crate::access::{Access, Door};
use crate::connection::{ClientStream, Dialogue};
use crate::context::ApiContext;
use crate::entrance::{Entrance, HTTP2};
use crate::error::FrontendError;
use crate::grpc::GrpcServices;
use crate::http::{HttpApi, HttpClient, answer_metrics};
use crate::metrics::{Gauge, Metrics};
use crate::socket::Socket;
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

/// Pause between two looks at the first bytes of a connection, when they come one by one.
const PEEK_PAUSE: Duration = Duration::from_millis(5);

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
    /// It cannot be had; names the port and the flags that choose host and port.
    pub(crate) async fn bind(
        host: &str,
        port: u16,
        protocol: &'static str,
        (host_flag, flag): (&'static str, &'static str),
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
            host_flag,
            flag,
            reason,
        })
    }

    /// Accepts connections until the stop, then waits for the open ones to end, at most until
    /// the cut.
    pub(crate) async fn serve(
        self,
        protocol: Protocol,
        entrance: Entrance,
        limits: ConnectionLimits,
        stop: Stop,
    ) {
        let room = Arc::new(Semaphore::new(limits.count_max as usize));
        tokio::select! {
            () = self.accept(&protocol, &entrance, limits, &room, &stop) => {}
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
        entrance: &Entrance,
        limits: ConnectionLimits,
        room: &Arc<Semaphore>,
        stop: &Stop,
    ) {
        let mut number = 0_u32;
        // The semaphore is never closed.
        while let Ok(permit) = Arc::clone(room).acquire_owned().await {
            let (stream, peer) = match self.listener.accept().await {
                Ok((stream, peer)) => (stream, peer.ip().to_canonical()),
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
            let accepted = Accepted {
                age_max,
                write_timeout: limits.write_timeout,
                door: entrance.door(peer),
                access: Arc::clone(&entrance.access),
            };
            let connection = if entrance.identity.is_some() {
                accepted.shake_hands(stream, entrance.clone(), protocol.clone(), stop.clone())
            } else {
                protocol.drive(accepted.with(Socket::Plain(stream)), stop)
            };
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
    age_max: Option<Duration>,
    write_timeout: Duration,
    door: Door,
    access: Arc<Access>,
}

impl Accepted {
    fn with(self, socket: Socket) -> Client {
        Client { socket, accepted: self }
    }

    /// The future that serves a connection under TLS.
    fn shake_hands(
        self,
        stream: TcpStream,
        entrance: Entrance,
        protocol: Protocol,
        stop: Stop,
    ) -> Connection {
        Box::pin(async move {
            let socket = tokio::select! {
                socket = entrance.admit(stream, self.door.peer) => socket,
                () = stop.clone().stopped() => None,
            };
            if let Some(socket) = socket {
                protocol.drive(self.with(socket), &stop).await;
            }
        })
    }
}

/// A client that can be spoken with.
struct Client {
    socket: Socket,
    accepted: Accepted,
}

impl Client {
    fn into_stream(self, dialogue: Dialogue) -> TokioIo<ClientStream> {
        TokioIo::new(ClientStream::new(self.socket, dialogue, self.accepted.write_timeout))
    }

    /// Tells of a client that could not be understood, once its connection has ended.
    fn teller(&self) -> impl FnOnce(hyper::Error) + Send + use<> {
        let (access, peer) = (Arc::clone(&self.accepted.access), self.accepted.door.peer);
        move |error| {
            if let Some(reason) = misunderstood(&error) {
                access.malformed(peer, &reason);
            }
        }
    }
}

/// Why a connection ended, where that is because its client does not speak the protocol.
fn misunderstood(error: &hyper::Error) -> Option<String> {
    if error.is_parse() {
        return Some(format!("this is not HTTP: {error}"));
    }
    let source = std::error::Error::source(error)?.downcast_ref::<h2::Error>()?;
    source.is_library().then(|| format!("this is not HTTP/2: {source}"))
}

/// What is spoken on a port, and who answers.
#[derive(Clone, Debug)]
pub(crate) enum Protocol {
    Http(Arc<HttpApi>),
    Grpc(Arc<ApiContext>, Arc<GrpcServices>),
    /// HTTP/1.1 or gRPC, as the client begins.
    Either(Arc<HttpApi>, Arc<ApiContext>, Arc<GrpcServices>),
    /// Metrics, and whether not everybody may see them.
    Metrics(Arc<ApiContext>, bool),
}

type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Protocol {
    /// The future that serves one connection. How a connection ended is the client's affair.
    fn drive(&self, client: Client, stop: &Stop) -> Connection {
        let stop = stop.clone();
        match self {
            Protocol::Http(api) => Box::pin(serve_http(client, Arc::clone(api), stop)),
            Protocol::Grpc(context, api) => {
                let open = Open::new(context, |metrics| &metrics.grpc_connections);
                Box::pin(serve_grpc(client, Arc::clone(api), stop, open))
            }
            Protocol::Either(http, context, grpc) => {
                let http = Protocol::Http(Arc::clone(http));
                let grpc = Protocol::Grpc(Arc::clone(context), Arc::clone(grpc));
                Box::pin(async move {
                    match begins(&client.socket, stop.clone()).await {
                        Some(Begins::Http1) => http.drive(client, &stop).await,
                        Some(Begins::Http2) => grpc.drive(client, &stop).await,
                        None => {}
                    }
                })
            }
            Protocol::Metrics(context, is_guarded) => {
                Box::pin(serve_metrics(client, Arc::clone(context), *is_guarded, stop))
            }
        }
    }
}

fn serve_http(client: Client, api: Arc<HttpApi>, stop: Stop) -> impl Future<Output = ()> {
    let open = Open::new(&api.context, |metrics| &metrics.http_connections);
    let dialogue = Dialogue::default();
    let opened = Instant::now();
    let Accepted { age_max, door, .. } = client.accepted;
    let tell = client.teller();
    let stream = client.into_stream(dialogue.clone());
    let from = HttpClient { api, door };
    let answer = service_fn(move |request| {
        let from = from.clone();
        let answering = dialogue.begin(&request);
        async move {
            let mut response = from.answer(request).await;
            drop(answering);
            if age_max.is_some_and(|age| opened.elapsed() >= age) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    async move {
        let ended = until_end(http1().serve_connection(stream, answer), stop.stopped()).await;
        ended.unwrap_or_else(tell);
        drop(open);
    }
}

async fn serve_grpc(mut client: Client, api: Arc<GrpcServices>, stop: Stop, open: Open) {
    let Accepted { age_max, door, .. } = client.accepted;
    if speaks(&mut client.socket, stop.clone()).await {
        let tell = client.teller();
        let service = service_fn(move |request| api.answer(request, door));
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
        until_end(connection, ending).await.unwrap_or_else(tell);
    }
    drop(open);
}

async fn serve_metrics(client: Client, context: Arc<ApiContext>, is_guarded: bool, stop: Stop) {
    let (access, door) = (Arc::clone(&client.accepted.access), client.accepted.door);
    let answer = service_fn(move |request| {
        let (context, access) = (Arc::clone(&context), Arc::clone(&access));
        async move {
            let guard = is_guarded.then_some((&*access, door));
            Ok::<_, Infallible>(answer_metrics(&context, guard, request).await)
        }
    });
    let tell = client.teller();
    let stream = client.into_stream(Dialogue::default());
    let ended = until_end(http1().serve_connection(stream, answer), stop.stopped()).await;
    ended.unwrap_or_else(tell);
}

/// Serves a connection to its end; once `ending` is ready, it ends after what is under way.
async fn until_end<C: GracefulConnection>(
    connection: C,
    ending: impl Future<Output = ()>,
) -> Result<(), C::Error> {
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = ending => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// Whether a client says anything at all, before its time or the server's is over. HTTP/2 itself
/// waits for ever for the first byte, pings only after it, and does not stop before it.
async fn speaks(socket: &mut Socket, stop: Stop) -> bool {
    let sent = std::future::poll_fn(|context| socket.poll_sent(context));
    tokio::select! {
        sent = tokio::time::timeout(HEAD_WAIT, sent) => matches!(sent, Ok(Ok(true))),
        () = stop.stopped() => false,
    }
}

/// How a client begins to speak.
enum Begins {
    Http1,
    Http2,
}

/// What a client speaks: as both ends have agreed under TLS, or by its first bytes. `None` when it
/// says nothing before its time or the server's is over.
async fn begins(socket: &Socket, stop: Stop) -> Option<Begins> {
    let Socket::Plain(stream) = socket else {
        let is_http2 = socket.protocol() == Some(HTTP2);
        return Some(if is_http2 { Begins::Http2 } else { Begins::Http1 });
    };
    tokio::select! {
        begins = tokio::time::timeout(HEAD_WAIT, first_bytes(stream)) => begins.ok().flatten(),
        () = stop.stopped() => None,
    }
}

async fn first_bytes(stream: &TcpStream) -> Option<Begins> {
    /// HTTP/2 begins so, and no request of HTTP/1.1 does.
    const PREFACE: &[u8] = b"PRI";
    let mut first = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut first).await.ok()? {
            0 => return None,
            length if first[..length] == *PREFACE => return Some(Begins::Http2),
            length if !PREFACE.starts_with(&first[..length]) => return Some(Begins::Http1),
            // The rest is on its way.
            _ => tokio::time::sleep(PEEK_PAUSE).await,
        }
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

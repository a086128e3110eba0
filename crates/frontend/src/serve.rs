//! Listening, accepting and closing connections, the same for every port.
//!
//! Knows no protocol beyond how a connection is driven.

use crate::context::ApiContext;
use crate::error::FrontendError;
use crate::grpc::GrpcServices;
use crate::http::{HttpApi, answer_metrics};
use crate::metrics::{Gauge, Metrics};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// A client has this long to send the head of a request, the time between two requests on one
/// connection included: longer than clients keep idle connections.
const HEAD_WAIT: Duration = Duration::from_secs(300);

/// A gRPC connection is asked this often whether its client is still there, and cut without an
/// answer, so that a client that vanished without closing does not keep its requests queued.
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_WAIT: Duration = Duration::from_secs(20);

/// Pause after accepting failed, as it does when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Streams that one gRPC connection may have open.
const STREAMS_MAX: u32 = 4096;

/// HTTP/2 flow control windows: large enough that a tensor of some megabytes flows at once.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// How far the shutdown has come; clones see the same.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<Phase>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// Accept nothing new, end what is open when it comes to its end.
    Stopping,
    /// Cut what is still open.
    Cutting,
}

/// Who moves the shutdown on.
#[derive(Debug)]
pub(crate) struct Stopper(watch::Sender<Phase>);

impl Stopper {
    pub(crate) fn new() -> (Stopper, Stop) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (Stopper(sender), Stop(receiver))
    }

    pub(crate) fn stop(&self) {
        self.0.send_replace(Phase::Stopping);
    }

    pub(crate) fn cut(&self) {
        self.0.send_replace(Phase::Cutting);
    }
}

impl Stop {
    /// Waits until the server begins to stop.
    pub(crate) async fn stopped(self) {
        self.reached(Phase::Stopping).await;
    }

    async fn reached(mut self, phase: Phase) {
        // A stopper that is gone counts as every phase reached.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}

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
        bound.await.map_err(|source| FrontendError::Bind {
            host: host.to_owned(),
            port,
            protocol,
            flag,
            source,
        })
    }

    /// Accepts connections until the stop, then waits for the open ones to end, at most until
    /// the cut.
    pub(crate) async fn serve(self, protocol: Protocol, connections_max: usize, stop: Stop) {
        let graceful = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(connections_max));
        let stopped = stop.clone().stopped();
        let mut stopped = std::pin::pin!(stopped);
        loop {
            let accepted = async {
                // The semaphore is never closed.
                let permit = Arc::clone(&room).acquire_owned().await.ok();
                (self.listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                accepted = accepted => accepted,
                () = &mut stopped => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Answers are written at once; waiting to fill a packet would cost 40 ms.
            let _ = stream.set_nodelay(true);
            let connection = protocol.drive(stream, &graceful, &stop);
            let cut = stop.clone().reached(Phase::Cutting);
            tokio::spawn(async move {
                let _permit = permit;
                tokio::select! {
                    () = connection => {}
                    () = cut => {}
                }
            });
        }
        drop(self.listener);
        tokio::select! {
            () = graceful.shutdown() => {}
            () = stop.reached(Phase::Cutting) => {}
        }
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
    fn drive(&self, stream: TcpStream, graceful: &GracefulShutdown, stop: &Stop) -> Connection {
        match self {
            Protocol::Http(api) => {
                let open = Open::new(&api.context, |metrics| &metrics.http_connections);
                let api = Arc::clone(api);
                let answer = service_fn(move |request| {
                    let api = Arc::clone(&api);
                    async move { Ok::<_, Infallible>(api.answer(request).await) }
                });
                let stream = TokioIo::new(stream);
                let connection = graceful.watch(http1().serve_connection(stream, answer));
                Box::pin(async move {
                    let _ = connection.await;
                    drop(open);
                })
            }
            Protocol::Grpc(context, api) => {
                let open = Open::new(context, |metrics| &metrics.grpc_connections);
                let api = Arc::clone(api);
                let service = service_fn(move |request| api.answer(request));
                let watcher = graceful.watcher();
                let stop = stop.clone();
                Box::pin(async move {
                    if speaks(&stream, stop).await {
                        let connection = http2().serve_connection(TokioIo::new(stream), service);
                        let _ = watcher.watch(connection).await;
                    }
                    drop(open);
                })
            }
            Protocol::Metrics(context) => {
                let context = Arc::clone(context);
                let answer = service_fn(move |request| {
                    let context = Arc::clone(&context);
                    async move { Ok::<_, Infallible>(answer_metrics(&context, request).await) }
                });
                let stream = TokioIo::new(stream);
                let connection = graceful.watch(http1().serve_connection(stream, answer));
                Box::pin(async move {
                    let _ = connection.await;
                })
            }
        }
    }
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
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT);
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

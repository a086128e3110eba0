//! Takes links. Peers say who they are at the same time, each within a bound, so that one that says
//! nothing holds nobody up.

use super::connect::greeting;
use super::endpoint::Endpoint;
use super::ends::{Greeted, Link, passed_arena};
use super::error::LinkError;
use super::hello::Hello;
use super::reading::Reading;
use super::refusals::RefusalLog;
use super::settings::{LinkSettings, Security};
use super::socket::{Socket, not_yet};
use super::stream::Stream;
use super::tls::Protected;
use super::unix::UnixSocket;
use crate::clock;
use crate::codec::{Frame, FrameBuffer, kinds};
use rustix::net::Shutdown;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener, UnixStream, lookup_host};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Bound on peers that have not said who they are; more wait in the system's queue.
const STRANGERS_MAX: usize = 256;
/// Bound on peers that wait to be welcomed.
const WAITING_MAX: usize = 64;
/// For how long to wait when the system has no room for another connection.
const NO_ROOM: Duration = Duration::from_millis(100);
/// For how long a peer may take to read why it is refused.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Takes links at an endpoint until it is dropped.
#[derive(Debug)]
pub struct Listener {
    address: Endpoint,
    greeted: Mutex<mpsc::Receiver<Incoming>>,
    refusals: RefusalLog,
    task: JoinHandle<()>,
    /// Removed at the end.
    path: Option<PathBuf>,
}

/// A peer that has said who it is and waits for an answer.
pub struct Incoming {
    greeted: Greeted,
    from: String,
    settings: Arc<LinkSettings>,
    refusals: RefusalLog,
}

enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Takes links at this endpoint from now on. Has to be called on a runtime.
    ///
    /// # Errors
    /// The address cannot be had, or is one that others reach while nothing protects links.
    pub async fn bind(endpoint: &Endpoint, settings: &LinkSettings) -> io::Result<Listener> {
        let (bound, address, path) = match endpoint {
            Endpoint::Tcp(host) => {
                let addresses: Vec<_> = lookup_host(host).await?.collect();
                if !addresses.iter().all(|address| settings.security.allows(address)) {
                    let problem = LinkError::Unprotected(endpoint.clone());
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
                }
                if let Security::Tls(identity) = &settings.security
                    && !identity.is_mutual()
                {
                    let problem =
                        "the authority whose certificates the other roles show is not set";
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
                }
                let listener = TcpListener::bind(&addresses[..]).await?;
                let address = Endpoint::Tcp(listener.local_addr()?.to_string());
                (Bound::Tcp(listener), address, None)
            }
            Endpoint::Unix(path) => {
                (Bound::Unix(bind_unix(path).await?), endpoint.clone(), Some(path.clone()))
            }
        };
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let refusals = RefusalLog::default();
        let settings = Arc::new(settings.clone());
        let task = tokio::spawn(take(bound, settings, refusals.clone(), sender));
        Ok(Listener { address, greeted: Mutex::new(receiver), refusals, task, path })
    }

    /// Where it listens: the port as it is, where any was asked for.
    #[must_use]
    pub fn address(&self) -> &Endpoint {
        &self.address
    }

    /// What is logged of refused peers, for whoever refuses one later.
    #[must_use]
    pub fn refusals(&self) -> &RefusalLog {
        &self.refusals
    }

    /// The next peer that has said who it is. Peers that said something else have been refused.
    pub async fn accept(&self) -> Incoming {
        match self.greeted.lock().await.recv().await {
            Some(incoming) => incoming,
            // Its task ends only when this is dropped, or the runtime is.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Incoming {
    /// Who it is.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.greeted.peer
    }

    /// From where: an address without its port.
    #[must_use]
    pub fn from(&self) -> &str {
        &self.from
    }

    /// Takes the link; `own` is what the peer is told of this process.
    #[must_use]
    pub fn welcome<In: Frame, Out: Frame>(self, own: &Hello) -> Link<In, Out> {
        self.greeted.link(&self.settings, Some(own))
    }

    /// Refuses the link. The peer reads why, and it is logged, once a minute for each peer.
    pub fn refuse(self, why: &str) {
        self.refusals.refused(&self.from, why);
        tokio::spawn(refuse(self.greeted.stream, why.to_owned()));
    }
}

/// Listens on a path. What a process that has ended left there is removed.
async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let is_left = match UnixStream::connect(path).await {
                Ok(_) => false,
                Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
            };
            if !is_left {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}

impl Bound {
    async fn accept(&self) -> io::Result<(Socket, String)> {
        match self {
            Bound::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Socket::Tcp(stream), from.ip().to_canonical().to_string()))
            }
            Bound::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Socket::Unix(UnixSocket::new(stream)), "this host".to_owned()))
            }
        }
    }
}

/// Accepts connections until nobody wants them.
async fn take(
    bound: Bound,
    settings: Arc<LinkSettings>,
    refusals: RefusalLog,
    to: mpsc::Sender<Incoming>,
) {
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&strangers).acquire_owned().await else { return };
        let (socket, from) = match bound.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot accept a connection, trying again: {error}");
                sleep(NO_ROOM).await;
                continue;
            }
        };
        let (settings, refusals, to) = (Arc::clone(&settings), refusals.clone(), to.clone());
        tokio::spawn(async move {
            let _permit = permit;
            greet(socket, from, settings, refusals, to).await;
        });
    }
}

/// Hears who a peer is.
async fn greet(
    socket: Socket,
    from: String,
    settings: Arc<LinkSettings>,
    refusals: RefusalLog,
    to: mpsc::Sender<Incoming>,
) {
    let mut reading = Reading::new();
    let until = Instant::now() + settings.hello_timeout;
    let late = || LinkError::NoHello(clock::span(settings.hello_timeout));
    let stream = match timeout_at(until, protect(socket, &settings.security)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(untrusted)) => return refusals.refused(&from, &untrusted.to_string()),
        Err(_) => return refusals.refused(&from, &late().to_string()),
    };
    let heard = timeout_at(until, greeting(&stream, &mut reading)).await;
    let heard = heard.unwrap_or_else(|_| Err(late()));
    let heard = heard.and_then(|(peer, terms)| Ok((peer, terms, passed_arena(&stream, terms)?)));
    match heard {
        Ok((peer, terms, arena)) => {
            let greeted = Greeted { stream, reading, peer, terms, arena };
            // Where nobody welcomes it any more the peer sees the end of the stream.
            let _ = to.send(Incoming { greeted, from, settings, refusals }).await;
        }
        Err(error) => {
            refusals.refused(&from, &error.to_string());
            refuse(stream, error.to_string()).await;
        }
    }
}

/// Has a peer show who it is, where that is wanted.
async fn protect(socket: Socket, security: &Security) -> Result<Stream, LinkError> {
    match (security, &socket) {
        (Security::Tls(identity), Socket::Tcp(_)) => {
            let protected = Protected::accepted(socket, identity).await;
            let protected = protected.map_err(|error| LinkError::Untrusted(error.to_string()))?;
            Ok(Stream::Tls(Box::new(protected)))
        }
        _ => Ok(Stream::Plain(socket)),
    }
}

/// Tells a peer that it is refused, and waits until it has read that.
async fn refuse(stream: Stream, why: String) {
    let told = async {
        let mut words = FrameBuffer::default();
        let _ =
            words.frame(usize::MAX, None, |to| _ = to.kind(kinds::REFUSED).bytes(why.as_bytes()));
        while !words.is_empty() {
            stream.writable().await?;
            not_yet(stream.try_write(&mut words))?;
        }
        stream.shut(Shutdown::Write);
        let mut rest = [0; 1024];
        loop {
            match not_yet(stream.try_read(&mut rest))? {
                Some(0) => return io::Result::Ok(()),
                Some(_) => {}
                None => stream.readable().await?,
            }
        }
    };
    // Whoever does not listen is not told.
    let _ = timeout(LAST_WORDS, told).await;
}

//! Makes a link.

use super::endpoint::Endpoint;
use super::ends::{Greeted, Link, passed_arena};
use super::error::LinkError;
use super::hello::{HELLO_MAX, Hello, Terms};
use super::reading::{Arrived, Reading};
use super::settings::{LinkSettings, Security};
use super::socket::{Socket, not_yet};
use super::stream::Stream;
use super::tls::Protected;
use super::unix::UnixSocket;
use crate::clock;
use crate::codec::{Body, DecodeError, Frame, FrameBuffer, kinds};
use std::net::SocketAddr;
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

/// Connects to a process and says who this one is. Has to be called on a runtime.
///
/// # Errors
/// Nobody is there, the peer refuses, or it takes longer than the settings allow.
pub async fn connect<In: Frame, Out: Frame>(
    to: &Endpoint,
    own: Hello,
    settings: &LinkSettings,
) -> Result<Link<In, Out>, LinkError> {
    let greet = async {
        let stream = open(to, settings).await?;
        settings.pass_arena(stream.socket())?;
        let terms = settings.terms(stream.socket());
        let mut hello = FrameBuffer::default();
        // A hello that is too long is refused by the peer as what it is.
        let _ = hello.frame(usize::MAX, None, |writer| own.encode(terms, writer));
        while !hello.is_empty() {
            stream.writable().await?;
            not_yet(stream.try_write(&mut hello))?;
        }
        let mut reading = Reading::new();
        let (peer, terms) = greeting(&stream, &mut reading).await?;
        let arena = passed_arena(&stream, terms)?;
        Ok::<_, LinkError>(Greeted { stream, reading, peer, terms, arena })
    };
    let greeted = timeout(settings.hello_timeout, greet).await;
    let greeted =
        greeted.map_err(|_| LinkError::NoHello(clock::span(settings.hello_timeout)))??;
    Ok(greeted.link(settings, None))
}

async fn open(to: &Endpoint, settings: &LinkSettings) -> Result<Stream, LinkError> {
    let unreachable = |error| LinkError::Unreachable(to.clone(), error);
    match to {
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(unreachable)?;
            Ok(Stream::Plain(Socket::Unix(UnixSocket::new(stream))))
        }
        Endpoint::Tcp(address) => {
            let addresses: Vec<_> = lookup_host(address).await.map_err(unreachable)?.collect();
            let is_allowed = |address: &SocketAddr| settings.security.allows(address);
            if !addresses.iter().all(is_allowed) {
                return Err(LinkError::Unprotected(to.clone()));
            }
            let stream = TcpStream::connect(&addresses[..]).await.map_err(unreachable)?;
            stream.set_nodelay(true)?;
            let socket = Socket::Tcp(stream);
            let Security::Tls(identity) = &settings.security else {
                return Ok(Stream::Plain(socket));
            };
            let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let protected = Protected::connected(socket, host, identity).await;
            let protected = protected.map_err(|error| LinkError::Untrusted(error.to_string()))?;
            Ok(Stream::Tls(Box::new(protected)))
        }
    }
}

impl Security {
    /// Whether this host may speak with that address.
    pub(super) fn allows(&self, address: &SocketAddr) -> bool {
        match self {
            Security::Plain => address.ip().to_canonical().is_loopback(),
            Security::PlainAnywhere | Security::Tls(_) => true,
        }
    }
}

/// Reads who the peer is.
pub(super) async fn greeting(
    stream: &Stream,
    reading: &mut Reading,
) -> Result<(Hello, Terms), LinkError> {
    loop {
        if let Some(arrived) = reading.next(HELLO_MAX)? {
            return first_words(&arrived);
        }
        // What came with the end of a handshake is there without the socket being readable.
        match not_yet(reading.fill(stream))? {
            Some(0) => {
                return Err(LinkError::Closed("before it was said who is there".to_owned()));
            }
            Some(_) => {}
            None => stream.readable().await?,
        }
    }
}

fn first_words(arrived: &Arrived<'_>) -> Result<(Hello, Terms), LinkError> {
    let body = match arrived {
        Arrived::Small(body) => *body,
        Arrived::Large(kind, bytes) => Body::owned(*kind, bytes),
    };
    match body.kind() {
        kinds::HELLO => Hello::decode(body.all()),
        kinds::REFUSED => Err(LinkError::Refused(body.text()?)),
        kind => Err(DecodeError::Kind(kind).into()),
    }
}

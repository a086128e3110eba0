//! One client's socket: notices a client that has left while its request is under way, and one that
//! does not take its answer.
//!
//! A client that closes its connection, and one that only ends its sending side (`SHUT_WR`) and
//! waits for its answer, look the same from here: the stream of bytes ends. They are told apart by
//! sending something that a client has to ignore, an interim response. The system of a client that
//! has left refuses it, and that ends the connection with everything on it.

use crate::socket::Socket;
use http::{Request, Version};
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// What is sent to a client to find out whether it is still there.
const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Whether the request of a connection waits for its answer, as its handler tells the socket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dialogue(Arc<DialogueFlags>);

#[derive(Debug, Default)]
struct DialogueFlags {
    is_answering: AtomicBool,
    /// The client knows interim responses.
    is_askable: AtomicBool,
}

impl Dialogue {
    /// A request has come; it waits for its answer until what is returned is dropped.
    pub(crate) fn begin<B>(&self, request: &Request<B>) -> Answering {
        self.0.is_askable.store(request.version() == Version::HTTP_11, Ordering::Relaxed);
        self.0.is_answering.store(true, Ordering::Relaxed);
        Answering(self.clone())
    }

    fn is_answering(&self) -> bool {
        self.0.is_answering.load(Ordering::Relaxed)
    }

    fn is_askable(&self) -> bool {
        self.0.is_askable.load(Ordering::Relaxed)
    }
}

/// An answer is being made.
#[derive(Debug)]
pub(crate) struct Answering(Dialogue);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.0.is_answering.store(false, Ordering::Relaxed);
    }
}

/// A client's socket.
pub(crate) struct ClientStream {
    socket: Socket,
    dialogue: Dialogue,
    /// A client that takes nothing of its answer for this long is given up.
    write_timeout: Duration,
    /// Everything that was to be written has been.
    is_flushed: bool,
    /// Runs while the client takes nothing.
    stuck: Option<Pin<Box<Sleep>>>,
    presence: Presence,
}

/// What is known of the client while its request is under way.
enum Presence {
    Sending,
    /// It sends nothing any more; it may wait for its answer. Ready when it does not.
    Ended(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// It sends nothing any more, and cannot be asked.
    Silent,
}

impl ClientStream {
    pub(crate) fn new(socket: Socket, dialogue: Dialogue, write_timeout: Duration) -> ClientStream {
        let presence = Presence::Sending;
        ClientStream { socket, dialogue, write_timeout, is_flushed: true, stuck: None, presence }
    }

    /// Ready when the client has left.
    fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        if matches!(self.presence, Presence::Sending) {
            match ready!(self.socket.poll_sent(context)) {
                Ok(false) => self.presence = self.ask(context),
                // It has sent more meanwhile, which is read after the answer.
                Ok(true) => return Poll::Pending,
                Err(error) => return Poll::Ready(error),
            }
        }
        let Presence::Ended(left) = &mut self.presence else { return Poll::Pending };
        left.as_mut().poll(context).map(|()| ErrorKind::ConnectionReset.into())
    }

    /// Asks a client whose sending has ended whether it is still there.
    fn ask(&mut self, context: &mut Context<'_>) -> Presence {
        if !self.is_flushed || !self.dialogue.is_askable() {
            return Presence::Silent;
        }
        match self.socket.write_now(context, INTERIM) {
            Ok(written) if written == INTERIM.len() => {
                refusal(self.socket.tcp()).map_or(Presence::Silent, Presence::Ended)
            }
            // With half of it sent, no answer can be understood any more.
            Ok(_) => Presence::Ended(Box::pin(std::future::ready(()))),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Presence::Silent,
            // Its system has refused something already.
            Err(_) => Presence::Ended(Box::pin(std::future::ready(()))),
        }
    }

    /// Looks at how writing went: a client has to take something now and then.
    fn written(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<Result<usize>>,
    ) -> Poll<Result<usize>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        self.is_flushed = false;
        let timeout = self.write_timeout;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        stuck.as_mut().poll(context).map(|()| Err(ErrorKind::TimedOut.into()))
    }
}

/// Waits until the other side has refused what was sent to it.
fn refusal(stream: &TcpStream) -> Result<Pin<Box<dyn Future<Output = ()> + Send>>> {
    let twin = std::net::TcpStream::from(stream.as_fd().try_clone_to_owned()?);
    let twin = TcpStream::from_std(twin)?;
    Ok(Box::pin(async move {
        // An error of the waiting itself also means that the client is not there any more.
        let _ = twin.ready(Interest::ERROR).await;
    }))
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, data);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Only under TLS there is anything to flush. The server calls this each time that it has polled
    /// the connection and has nothing left to write, so this is where to see whether the client has
    /// left.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        if matches!(self.socket, Socket::Tls(_)) {
            let flushed = Pin::new(&mut self.socket).poll_flush(context).map_ok(|()| 0);
            ready!(self.written(context, flushed))?;
        }
        self.is_flushed = true;
        if self.dialogue.is_answering()
            && let Poll::Ready(left) = self.poll_left(context)
        {
            return Poll::Ready(Err(left));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

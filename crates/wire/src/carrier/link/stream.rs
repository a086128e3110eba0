//! The byte stream below a link, plain or protected. Nothing here waits but what says so.

use super::socket::Socket;
use super::tls::Protected;
use crate::codec::FrameBuffer;
use bytes::buf::BufMut;
use rustix::net::Shutdown;
use std::io;
use std::task::{Context, Poll};

/// A connected byte stream.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Socket),
    Tls(Box<Protected>),
}

impl Stream {
    pub(crate) fn socket(&self) -> &Socket {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(protected) => protected.socket(),
        }
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket().readable().await
    }

    /// The same for the one reader of a link, who waits for other things as well.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_readable(context)
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.socket().writable().await
    }

    /// Reads what is there into memory that has contents. Zero at the end of the stream.
    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.try_read(into),
            Stream::Tls(protected) => protected.try_read(into),
        }
    }

    /// Reads what is there into memory that has none yet. Zero at the end of the stream.
    pub(crate) fn try_read_buf(&self, into: &mut impl BufMut) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.try_read_buf(into),
            Stream::Tls(protected) => protected.try_read_buf(into),
        }
    }

    /// Takes from the front of a buffer what the peer has room for.
    pub(crate) fn try_write(&self, frames: &mut FrameBuffer) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.try_write(frames),
            Stream::Tls(protected) => protected.try_write(frames),
        }
    }

    /// Whether something was taken from a buffer and has not left: it does once
    /// [`try_write`](Self::try_write) is called again.
    pub(crate) fn is_holding(&self) -> bool {
        match self {
            Stream::Plain(_) => false,
            Stream::Tls(protected) => protected.is_holding(),
        }
    }

    /// Tells the peer that nothing more comes, or that nothing more is read either. A stream that is
    /// gone is no error.
    pub(crate) fn shut(&self, how: Shutdown) {
        if let Stream::Tls(protected) = self {
            protected.say_goodbye();
        }
        self.socket().shut(how);
    }
}

//! A client's socket, plain or under TLS, with what the server needs beyond reading and writing.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What connects a client.
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsSocket>),
}

/// A connection under TLS. What has come can only be seen by reading it.
pub(crate) struct TlsSocket {
    stream: TlsStream<TcpStream>,
    /// What was read to see whether anything comes.
    ahead: Option<u8>,
}

impl Socket {
    pub(crate) fn tls(stream: TlsStream<TcpStream>) -> Socket {
        Socket::Tls(Box::new(TlsSocket { stream, ahead: None }))
    }

    /// The socket below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Socket::Plain(stream) => stream,
            Socket::Tls(tls) => tls.stream.get_ref().0,
        }
    }

    /// The protocol that both ends have agreed on under TLS (ALPN).
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        match self {
            Socket::Plain(_) => None,
            Socket::Tls(tls) => tls.stream.get_ref().1.alpn_protocol(),
        }
    }

    /// Ready when the client has sent something that is still to be read, with true, or sends
    /// nothing any more.
    pub(crate) fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<Result<bool>> {
        match self {
            Socket::Plain(stream) => {
                let mut byte = [0];
                let mut byte = ReadBuf::new(&mut byte);
                stream.poll_peek(context, &mut byte).map_ok(|length| length > 0)
            }
            Socket::Tls(tls) => tls.poll_sent(context),
        }
    }

    /// Writes as much as goes out at once.
    pub(crate) fn write_now(&mut self, context: &mut Context<'_>, data: &[u8]) -> Result<usize> {
        let stream = match self {
            Socket::Plain(stream) => return stream.try_write(data),
            Socket::Tls(tls) => &mut tls.stream,
        };
        let Poll::Ready(written) = Pin::new(&mut *stream).poll_write(context, data) else {
            return Err(ErrorKind::WouldBlock.into());
        };
        let written = written?;
        // What stays behind goes out with the next bytes, in the same order.
        if let Poll::Ready(flushed) = Pin::new(stream).poll_flush(context) {
            flushed?;
        }
        Ok(written)
    }
}

impl TlsSocket {
    fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<Result<bool>> {
        if self.ahead.is_some() {
            return Poll::Ready(Ok(true));
        }
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        match ready!(Pin::new(&mut self.stream).poll_read(context, &mut byte)) {
            Ok(()) => {}
            // Many clients close without saying so under TLS.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
        self.ahead = byte.filled().first().copied();
        Poll::Ready(Ok(self.ahead.is_some()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Tls(tls) => match tls.ahead.take_if(|_| buffer.remaining() > 0) {
                Some(byte) => {
                    buffer.put_slice(&[byte]);
                    Poll::Ready(Ok(()))
                }
                None => Pin::new(&mut tls.stream).poll_read(context, buffer),
            },
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_write(context, data),
            Socket::Tls(tls) => Pin::new(&mut tls.stream).poll_write(context, data),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Socket::Tls(tls) => Pin::new(&mut tls.stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_flush(context),
            Socket::Tls(tls) => Pin::new(&mut tls.stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Tls(tls) => Pin::new(&mut tls.stream).poll_shutdown(context),
        }
    }
}

/// A connection that its client has not finished making.
pub(crate) fn timed_out() -> Error {
    Error::new(ErrorKind::TimedOut, "it did not complete the TLS handshake in time")
}

//! The sockets that links go over. Nothing here waits but what says so.

use super::unix::UnixSocket;
use crate::codec::FrameBuffer;
use bytes::buf::BufMut;
use rustix::net::Shutdown;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};
use tokio::net::TcpStream;

/// A connected byte stream.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixSocket),
}

impl Socket {
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.readable().await,
            Socket::Unix(socket) => socket.stream.readable().await,
        }
    }

    /// The same for the one reader of a link, who waits for other things as well.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => stream.poll_read_ready(context),
            Socket::Unix(socket) => socket.stream.poll_read_ready(context),
        }
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.writable().await,
            Socket::Unix(socket) => socket.stream.writable().await,
        }
    }

    /// Reads what is there into memory that has contents.
    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_read(into),
            Socket::Unix(socket) => socket.try_read(into),
        }
    }

    /// Reads what is there into memory that has none yet.
    pub(crate) fn try_read_buf(&self, into: &mut impl BufMut) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_read_buf(into),
            Socket::Unix(socket) => socket.stream.try_read_buf(into),
        }
    }

    /// Writes what the peer has room for from the front of a buffer.
    pub(crate) fn try_write(&self, frames: &mut FrameBuffer) -> io::Result<()> {
        let written = match frames.single() {
            Some(piece) => self.try_write_piece(piece),
            None => {
                let mut pieces = Vec::new();
                frames.pieces(&mut pieces);
                self.try_write_pieces(&pieces)
            }
        }?;
        frames.take(written);
        Ok(())
    }

    pub(crate) fn try_write_piece(&self, piece: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_write(piece),
            Socket::Unix(socket) => socket.try_write(&[IoSlice::new(piece)]),
        }
    }

    fn try_write_pieces(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_write_vectored(pieces),
            Socket::Unix(socket) => socket.try_write(pieces),
        }
    }

    /// Passes a descriptor along with the next bytes, where a socket can.
    pub(crate) fn pass(&self, descriptor: OwnedFd) {
        if let Socket::Unix(socket) = self {
            socket.pass(descriptor);
        }
    }

    /// What the peer has passed along with its first bytes.
    pub(crate) fn take_passed(&self) -> Option<OwnedFd> {
        match self {
            Socket::Tcp(_) => None,
            Socket::Unix(socket) => socket.take_passed(),
        }
    }

    /// Whether both ends are on this host and can share memory.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Socket::Unix(_))
    }

    /// Tells the peer that nothing more comes, or that nothing more is read either. A stream that is
    /// gone is no error.
    pub(crate) fn shut(&self, how: Shutdown) {
        let _ = match self {
            Socket::Tcp(stream) => rustix::net::shutdown(stream, how),
            Socket::Unix(socket) => rustix::net::shutdown(&socket.stream, how),
        };
    }
}

/// What was done, or nothing where the stream is not ready.
pub(crate) fn not_yet<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        done => done.map(Some),
    }
}

//! A stream under TLS. Both ends of a link use it at the same time, each for as long as it takes to
//! encrypt or decrypt what is there.

use super::socket::{Socket, not_yet};
use crate::codec::FrameBuffer;
use bytes::buf::BufMut;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use symphony_tls::rustls::pki_types::ServerName;
use symphony_tls::rustls::{ClientConnection, Connection, Error, ServerConnection};
use symphony_tls::{Identity, reason};

/// What is decrypted at once into memory that has no contents yet.
const CHUNK: usize = 16 << 10;

/// A stream under TLS, once both ends have shown who they are.
#[derive(Debug)]
pub(crate) struct Protected {
    socket: Socket,
    session: Mutex<Connection>,
}

/// A socket as a session reads and writes it.
struct Io<'a>(&'a Socket);

impl Read for Io<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for Io<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write_piece(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Protected {
    /// The end that has connected, to a process on this host. Its certificate has to be for that name.
    pub(crate) async fn connected(
        socket: Socket,
        host: &str,
        identity: &Identity,
    ) -> io::Result<Protected> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        let session = ClientConnection::new(identity.client(), name).map_err(of_tls)?;
        greet(socket, session.into()).await
    }

    /// The end that was connected to.
    pub(crate) async fn accepted(socket: Socket, identity: &Identity) -> io::Result<Protected> {
        let session = ServerConnection::new(identity.server()).map_err(of_tls)?;
        greet(socket, session.into()).await
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    fn session(&self) -> MutexGuard<'_, Connection> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        let session = &mut *self.session();
        loop {
            match session.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The stream has ended without the peer saying so.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            session.read_tls(&mut Io(&self.socket))?;
            session.process_new_packets().map_err(of_tls)?;
        }
    }

    pub(crate) fn try_read_buf(&self, into: &mut impl BufMut) -> io::Result<usize> {
        let mut chunk = [0; CHUNK];
        let wanted = into.remaining_mut().min(CHUNK);
        let read = self.try_read(&mut chunk[..wanted])?;
        into.put_slice(&chunk[..read]);
        Ok(read)
    }

    pub(crate) fn try_write(&self, frames: &mut FrameBuffer) -> io::Result<()> {
        let session = &mut *self.session();
        loop {
            while session.wants_write() {
                session.write_tls(&mut Io(&self.socket))?;
            }
            if frames.is_empty() {
                return Ok(());
            }
            let mut pieces = Vec::new();
            frames.pieces(&mut pieces);
            let taken = session.writer().write_vectored(&pieces)?;
            drop(pieces);
            frames.take(taken);
        }
    }

    pub(crate) fn is_holding(&self) -> bool {
        self.session().wants_write()
    }

    /// Ends the stream as TLS wants it, if the socket has room for that.
    pub(crate) fn say_goodbye(&self) {
        let session = &mut *self.session();
        session.send_close_notify();
        let _ = session.write_tls(&mut Io(&self.socket));
    }
}

fn of_tls(error: Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

/// Has both ends show who they are. The error says of the peer what is wrong with it.
async fn greet(socket: Socket, mut session: Connection) -> io::Result<Protected> {
    let shown = show(&socket, &mut session).await;
    shown.map_err(|error| io::Error::new(error.kind(), reason(&error)))?;
    Ok(Protected { socket, session: Mutex::new(session) })
}

async fn show(socket: &Socket, session: &mut Connection) -> io::Result<()> {
    while session.is_handshaking() {
        while session.wants_write() {
            socket.writable().await?;
            not_yet(session.write_tls(&mut Io(socket)))?;
        }
        if !session.is_handshaking() {
            break;
        }
        socket.readable().await?;
        if not_yet(session.read_tls(&mut Io(socket)))? == Some(0) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if let Err(error) = session.process_new_packets() {
            // The peer is told what is wrong with it, if it listens.
            let _ = session.write_tls(&mut Io(socket));
            return Err(of_tls(error));
        }
    }
    Ok(())
}

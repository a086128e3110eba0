//! What a connection passes before anything is said on it: the TLS handshake, where a port asks for
//! it.

use crate::access::{Access, AdminCalls, Door};
use crate::socket::{Socket, timed_out};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use symphony_tls::rustls::ServerConfig;
use symphony_tls::{Identity, reason};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// A client has this long for the handshake.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);

/// HTTP/1.1 and HTTP/2, as clients under TLS name them (ALPN).
pub(crate) const HTTP1: &[u8] = b"http/1.1";
pub(crate) const HTTP2: &[u8] = b"h2";

/// The entrance of one port.
#[derive(Clone, Debug)]
pub(crate) struct Entrance {
    /// What the server shows of itself; without it connections are plain.
    pub(crate) identity: Option<Identity>,
    /// What is spoken behind it, the dearest first.
    pub(crate) protocols: &'static [&'static [u8]],
    pub(crate) admin: AdminCalls,
    pub(crate) access: Arc<Access>,
}

impl Entrance {
    pub(crate) fn door(&self, peer: IpAddr) -> Door {
        Door { peer, admin: self.admin }
    }

    /// A client's connection, once the handshake is done; `None` when it was refused.
    pub(crate) async fn admit(&self, stream: TcpStream, peer: IpAddr) -> Option<Socket> {
        let Some(identity) = &self.identity else { return Some(Socket::Plain(stream)) };
        let acceptor = TlsAcceptor::from(self.config(identity));
        let handshake = tokio::time::timeout(HANDSHAKE_WAIT, acceptor.accept(stream));
        match handshake.await.unwrap_or_else(|_| Err(timed_out())) {
            Ok(stream) => Some(Socket::tls(stream)),
            // So does a probe of a load balancer, which only looks whether the port is open.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                tracing::debug!(%peer, "a connection was closed before its handshake was complete");
                None
            }
            Err(error) => {
                self.access.malformed(peer, &reason(&error));
                None
            }
        }
    }

    /// As the files are now. Taken anew for each connection, so that renewals take effect.
    fn config(&self, identity: &Identity) -> Arc<ServerConfig> {
        let mut config = identity.server().as_ref().clone();
        config.alpn_protocols = self.protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }
}

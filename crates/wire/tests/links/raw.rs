//! A peer that writes bytes of its own choosing.

use super::carriers::{Carrier, hello, settings};
use std::time::Duration;
use symphony_wire::carrier::link::{Endpoint, LinkSettings, Listener, Security, connect};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Nothing takes longer on any machine.
const LONG: Duration = Duration::from_secs(20);

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A stream to a listener, and no word said.
pub(crate) struct RawPeer(pub(crate) Box<dyn Stream>);

impl RawPeer {
    pub(crate) async fn connect(carrier: Carrier, listener: &Listener) -> RawPeer {
        RawPeer(match (listener.address(), carrier.settings().security) {
            (Endpoint::Tcp(address), Security::Tls(identity)) => {
                let stream = TcpStream::connect(address).await.unwrap();
                let connector = TlsConnector::from(identity.client());
                let name = "127.0.0.1".try_into().unwrap();
                Box::new(connector.connect(name, stream).await.unwrap())
            }
            (Endpoint::Tcp(address), _) => Box::new(TcpStream::connect(address).await.unwrap()),
            (Endpoint::Unix(path), _) => Box::new(UnixStream::connect(path).await.unwrap()),
        })
    }

    /// The same once it has said who it is, and was welcomed.
    pub(crate) async fn greeted(carrier: Carrier, listener: &Listener) -> RawPeer {
        let mut peer = RawPeer::connect(carrier, listener).await;
        peer.write(&hello_bytes(&settings()).await).await;
        peer
    }

    /// Writes, whether anybody reads it or not.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes).await;
        let _ = self.0.flush().await;
    }

    /// Everything that the other end says until it ends the stream.
    pub(crate) async fn read_all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = timeout(LONG, self.0.read_to_end(&mut bytes)).await;
        // A stream that is reset has ended, too.
        let _ = read.expect("the stream ends");
        bytes
    }

    /// The same, as text that has other bytes in between.
    pub(crate) async fn last_words(&mut self) -> String {
        String::from_utf8_lossy(&self.read_all().await).into_owned()
    }
}

/// A frame of this kind.
pub(crate) fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    claiming(kind, u32::try_from(body.len()).unwrap(), body)
}

/// A frame that claims a length.
pub(crate) fn claiming(kind: u8, length: u32, body: &[u8]) -> Vec<u8> {
    [&length.to_le_bytes(), &[kind, 0, 0, 0][..], body].concat()
}

/// What a process says first.
pub(crate) async fn hello_bytes(settings: &LinkSettings) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::Tcp(listener.local_addr().unwrap().to_string());
    // What it says is the same, whatever protects it.
    let settings = LinkSettings { security: Security::Plain, ..settings.clone() };
    let saying = connect::<
        symphony_wire::message::link::BackendToFrontend,
        symphony_wire::message::link::FrontendToBackend,
    >(&endpoint, hello("raw"), &settings);
    let hearing = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut header = [0; 8];
        stream.read_exact(&mut header).await.unwrap();
        let length = u32::from_le_bytes(header[..4].try_into().unwrap());
        let mut body = vec![0; length as usize];
        stream.read_exact(&mut body).await.unwrap();
        [&header[..], &body].concat()
    };
    tokio::select! {
        bytes = hearing => bytes,
        _ = saying => panic!("nobody has answered"),
    }
}

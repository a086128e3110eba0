//! Why a link has ended, or was not made.

use super::endpoint::Endpoint;
use crate::codec::DecodeError;
use std::io;
use symphony_core::Span;

/// Why a link has ended, or was not made.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody can be reached there.
    #[error("cannot reach {0}: {1}")]
    Unreachable(Endpoint, io::Error),
    /// Without protection only this host is spoken to.
    #[error(
        "{0} is another host, and nothing protects the link: set up TLS between the roles, or allow \
         plain links where the network is safe"
    )]
    Unprotected(Endpoint),
    /// TLS found something wrong with the peer; the text says of it what.
    #[error("the peer is not trusted: {0}")]
    Untrusted(String),
    /// What the peer passed for its tensors cannot be used; the text says what it is.
    #[error("the peer passed {0}")]
    Memory(String),
    /// The peer has not said who it is in time.
    #[error("the peer has not said who it is within {0}")]
    NoHello(Span),
    /// The peer speaks another version.
    #[error("the peer speaks version {theirs}, this process version {ours}: run the same release")]
    Version {
        /// The peer's.
        theirs: u32,
        /// This process's.
        ours: u32,
    },
    /// The peer has refused the link; the text says why.
    #[error("the peer refused the link: {0}")]
    Refused(String),
    /// The peer has ended the link, or this end has; the text says why.
    #[error("the link was closed: {0}")]
    Closed(String),
    /// Nothing has come for too long.
    #[error("nothing came from the peer for {0}")]
    Silent(Span),
    /// What came is no message.
    #[error("the peer sent {0}")]
    Malformed(#[from] DecodeError),
    /// The stream failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

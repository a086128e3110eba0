//! Certificates, keys and authorities from files, for both ends of a connection, renewed while the
//! process runs.
//!
//! - [`Identity`]: what this process shows of itself, and whom it lets in. Its files are read again
//!   when they change; connections that are open stay as they are.
//! - [`trusting`], [`trusting_as`]: for a client that asks once and ends, such as a command.
//! - [`reason`]: why a handshake failed, in words for the log.
//! - [`FileWatch`]: how changed files are noticed, for other credentials that are kept in files.
//!
//! The crate knows no socket and no protocol above TLS.

mod error;
mod expiry;
mod identity;
mod own;
mod pem;
mod reason;
mod trust;
mod watch;

pub use error::TlsError;
pub use identity::{Identity, TlsFiles};
pub use pem::read_bounded;
pub use reason::reason;
pub use trust::{trusting, trusting_as};
pub use watch::{FileLook, FileWatch, FilesSeen};

/// TLS itself: its configurations are what this crate makes.
pub use rustls;

use rustls::crypto::CryptoProvider;
use std::sync::Arc;

/// The one implementation of cryptography that the build has.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

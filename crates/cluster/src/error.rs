//! Why a role could not be started.

use std::io;
use symphony_wire::carrier::link::Endpoint;

/// Why a role could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nobody can connect.
    #[error("cannot listen on {at} for links")]
    Listen {
        /// Where.
        at: Endpoint,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system has no room for more threads.
    #[error("cannot start the thread `{0}`")]
    Thread(&'static str, #[source] io::Error),
}

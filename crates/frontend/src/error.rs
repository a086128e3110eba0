//! What can go wrong: with one request ([`InferError`], every answer that is not an inference)
//! and with the servers as a whole ([`FrontendError`]).
//!
//! Knows no protocol: `http` and `grpc` each translate [`InferError::kind`] to their own codes.

use crate::keys::KeysError;
use crate::quote::shortened;
use std::time::Duration;
use symphony_core::{DropReason, Span};
use symphony_tls::TlsError;
use symphony_wire::carrier::in_process::SubmitError;
use symphony_wire::message::RepositoryError;

/// Why the servers could not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum FrontendError {
    /// A port could not be had.
    #[error(
        "cannot listen on {host}:{port} for {protocol}: {reason}; \
         choose another address with {host_flag} or another port with {flag} (0 takes a free one)"
    )]
    Bind {
        /// The host asked for.
        host: String,
        /// The port asked for.
        port: u16,
        /// What it is for.
        protocol: &'static str,
        /// What sets the host: a flag or a key.
        host_flag: &'static str,
        /// The command-line flag that sets the port.
        flag: &'static str,
        /// What the system said. Not the error's source, whose text would follow once more.
        reason: std::io::Error,
    },
    /// A certificate, a key or an authority cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The clients' keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The gRPC reflection service could not be built from the compiled protocol.
    #[error("the compiled protocol description cannot be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// How the classes of refusal differ for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is wrong; the same request will be refused again.
    Invalid,
    /// The request is well formed and asks for something this server does not do.
    Unsupported,
    /// There is no such model, version or route.
    NotFound,
    /// The client shows no key that is known.
    Unauthenticated,
    /// The client may not do this, or not here.
    Forbidden,
    /// More than a configured size.
    TooLarge,
    /// The request did not arrive in time.
    Stalled,
    /// The server has no room now.
    Overloaded,
    /// The server, or the model, takes no requests now.
    Unavailable,
    /// The deadline passed, or was going to.
    Deadline,
    /// The server failed.
    Internal,
}

/// Whose limit a deadline was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The model's latency objective.
    Slo(Span),
    /// A shorter limit that the request set.
    Own(Span),
    /// The bound on every request, where the model has no objective.
    Any(Span),
}

impl Limit {
    /// From the arrival of the request until its deadline.
    #[must_use]
    pub fn span(self) -> Span {
        match self {
            Limit::Slo(span) | Limit::Own(span) | Limit::Any(span) => span,
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Limit::Slo(span) => write!(f, "the model's objective of {span}"),
            Limit::Own(span) => write!(f, "the request's own limit of {span}"),
            Limit::Any(span) => write!(
                f,
                "the bound on every request of {span} (request_max_s under [server] in \
                 symphony.toml)"
            ),
        }
    }
}

/// Where a request stood when its deadline was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// The scheduler took it out of the queue.
    Dropped(DropReason),
    /// It was still queued at the deadline.
    Queued,
    /// It had been handed to an accelerator and had no answer at the deadline.
    Running,
}

impl Missed {
    fn text(self, queued: Span) -> String {
        match self {
            Missed::Dropped(DropReason::Overload) => format!(
                "dropped after {queued} in the queue, \
                 because more requests arrive than can be served in time"
            ),
            Missed::Dropped(DropReason::Hopeless) => format!(
                "dropped after {queued} in the queue, because it could no longer finish in time"
            ),
            Missed::Dropped(reason) => {
                format!("dropped after {queued} in the queue ({})", reason.name())
            }
            Missed::Queued => format!("still queued after {queued}"),
            Missed::Running => format!("no result yet {queued} after it arrived"),
        }
    }
}

/// Why a request has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InferError {
    /// The request is wrong; the text names what and says what is expected.
    #[error("{0}")]
    Invalid(String),
    /// The request asks for something this server does not do.
    #[error("{0}")]
    Unsupported(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The client shows no key, or one that is not known.
    #[error("{0}")]
    Unauthenticated(String),
    /// The client's key, or the place where it asks, does not allow this.
    #[error("{0}")]
    Forbidden(String),
    /// The body, compressed or not, is over the limit.
    #[error(
        "the {what} is larger than the limit of {limit} bytes; \
         send less at a time, or raise body_max_mib under [server] in symphony.toml"
    )]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// The body came too slowly.
    #[error("{0}")]
    Stalled(String),
    /// There is no room for it now.
    #[error("{message}; try again later")]
    Overloaded {
        /// What is full.
        message: String,
        /// When another try may have success.
        retry_after: Duration,
    },
    /// The server or the model takes no requests now.
    #[error("{0}")]
    Unavailable(String),
    /// The deadline was missed, or was going to be.
    #[error("model {model:?} missed {limit}: {}", .missed.text(*.queued))]
    Deadline {
        /// The model.
        model: String,
        /// Which limit.
        limit: Limit,
        /// How long it was queued; for a running request, the time since it arrived.
        queued: Span,
        /// Where it stood.
        missed: Missed,
    },
    /// The engine, or the server, failed.
    #[error("model {model:?} failed: {message}")]
    Failed {
        /// The model.
        model: String,
        /// What happened.
        message: String,
    },
}

/// How long a client that was refused for lack of room is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl InferError {
    /// There is no room now for what a client asks.
    pub(crate) fn overloaded(message: String) -> InferError {
        InferError::Overloaded { message, retry_after: RETRY_AFTER }
    }

    /// The class of the refusal.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            InferError::Invalid(_) => ErrorKind::Invalid,
            InferError::Unsupported(_) => ErrorKind::Unsupported,
            InferError::NotFound(_) => ErrorKind::NotFound,
            InferError::Unauthenticated(_) => ErrorKind::Unauthenticated,
            InferError::Forbidden(_) => ErrorKind::Forbidden,
            InferError::TooLarge { .. } => ErrorKind::TooLarge,
            InferError::Stalled(_) => ErrorKind::Stalled,
            InferError::Overloaded { .. } => ErrorKind::Overloaded,
            InferError::Unavailable(_) => ErrorKind::Unavailable,
            InferError::Deadline { .. } => ErrorKind::Deadline,
            InferError::Failed { .. } => ErrorKind::Internal,
        }
    }

    /// The text for a client: short enough for a header, whatever the client sent.
    pub(crate) fn message(&self) -> String {
        shortened(self.to_string(), MESSAGE_MAX)
    }

    /// When another try may have success, for those where it may.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            InferError::Overloaded { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }
}

/// Longest error text that is sent, in bytes: gRPC carries it in a header, where a byte may take
/// three and all headers together 8 KiB. Names and shapes in it may come from a client.
const MESSAGE_MAX: usize = 1000;

impl From<RepositoryError> for InferError {
    fn from(error: RepositoryError) -> InferError {
        let text = error.to_string();
        match error {
            RepositoryError::Unknown(_) => InferError::NotFound(text),
            RepositoryError::Load(_) => InferError::Invalid(text),
            RepositoryError::Accelerator(_) | RepositoryError::Stopped => {
                InferError::Unavailable(text)
            }
        }
    }
}

impl From<SubmitError> for InferError {
    fn from(error: SubmitError) -> InferError {
        match error {
            SubmitError::Full => InferError::overloaded(error.to_string()),
            SubmitError::Stopped => {
                InferError::Unavailable("the server is shutting down".to_owned())
            }
        }
    }
}

//! Errors as gRPC statuses.

use crate::error::{ErrorKind, InferError};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// The status of an error, with the wait that it asks for.
pub(super) fn status(error: &InferError) -> Status {
    let code = match error.kind() {
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::Unsupported => Code::Unimplemented,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::Forbidden => Code::PermissionDenied,
        ErrorKind::TooLarge | ErrorKind::Overloaded => Code::ResourceExhausted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Deadline | ErrorKind::Stalled => Code::DeadlineExceeded,
        ErrorKind::Internal => Code::Internal,
    };
    let mut status = Status::new(code, error.message());
    if let Some(wait) = error.retry_after() {
        let seconds = MetadataValue::from(wait.as_secs().max(1));
        status.metadata_mut().insert("retry-after", seconds);
    }
    status
}

/// The status of a message that is larger than `limit` bytes.
pub(super) fn too_large(limit: usize) -> Status {
    status(&InferError::TooLarge { what: "message", limit })
}

//! Bodies over HTTP: read within the limits, written in as few pieces as they came in.

use crate::arriving::{Arriving, Interrupted};
use crate::budget::HeldBytes;
use crate::error::{ErrorKind, InferError};
use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// How much memory is set aside at once for a body that says that it is long. The rest follows as
/// it arrives.
const AHEAD_MAX: usize = 1 << 20;

/// A whole body, and what holds its bytes.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) bytes: Bytes,
    pub(super) held: HeldBytes,
}

/// Reads a whole body.
///
/// # Errors
/// It is larger than its limit or than there is room for, stalls, or breaks off.
pub(super) async fn read(mut body: Arriving<Incoming>) -> Result<Received, InferError> {
    match collect(&mut body).await {
        Ok(bytes) => Ok(Received { bytes, held: body.into_held() }),
        Err(error) => {
            // A body that stalled is not waited for any more.
            if error.kind() != ErrorKind::Stalled {
                body.discard();
            }
            Err(error)
        }
    }
}

async fn collect(body: &mut Arriving<Incoming>) -> Result<Bytes, InferError> {
    let limit = body.size_max();
    let too_large = || InferError::TooLarge { what: "body", limit };
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(too_large());
    }
    let mut first = Bytes::new();
    // Most bodies come in one piece and are used where they lie.
    let mut whole: Option<BytesMut> = None;
    let mut length = 0;
    while let Some(piece) = next_piece(body).await? {
        length += piece.len();
        if length > limit {
            return Err(too_large());
        }
        if first.is_empty() {
            first = piece;
            continue;
        }
        let whole = whole.get_or_insert_with(|| {
            let mut whole = BytesMut::with_capacity(announced.min(AHEAD_MAX).max(length));
            whole.extend_from_slice(&first);
            whole
        });
        whole.extend_from_slice(&piece);
    }
    Ok(whole.map_or(first, BytesMut::freeze))
}

async fn next_piece(body: &mut Arriving<Incoming>) -> Result<Option<Bytes>, InferError> {
    let piece = std::future::poll_fn(|context| body.poll_piece(context, true)).await;
    piece.transpose().map_err(|interrupted| match interrupted {
        Interrupted::Broken(error) => InferError::Invalid(format!("the body broke off: {error}")),
        Interrupted::Refused(error) => error,
    })
}

/// An answer's body: pieces that are sent as they are, of known total length, so that head and
/// body leave in one write.
#[derive(Debug)]
pub(crate) struct Pieces {
    pieces: std::vec::IntoIter<Bytes>,
    left: u64,
}

impl Pieces {
    pub(crate) fn new(pieces: Vec<Bytes>) -> Pieces {
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Pieces { pieces: pieces.into_iter(), left }
    }

    pub(crate) fn one(body: impl Into<Bytes>) -> Pieces {
        Pieces::new(vec![body.into()])
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.find(|piece| !piece.is_empty());
        if let Some(piece) = &piece {
            self.left -= piece.len() as u64;
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

//! Bodies over HTTP: read within the limits, written in as few pieces as they came in.

use crate::arriving::{Arriving, Interrupted};
use crate::budget::HeldBytes;
use crate::error::{ErrorKind, InferError};
use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use symphony_wire::carrier::shared_memory::ArenaBuf;

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
    // A length that is known exactly is kept to by whoever reads the connection.
    let exact = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    let placed = exact.and_then(|length| body.arena_buffer(length));
    let mut whole = placed.map_or(Whole::One(Bytes::new()), Whole::Placed);
    let mut length = 0;
    while let Some(piece) = next_piece(body).await? {
        let at = length;
        length += piece.len();
        if length > limit {
            return Err(too_large());
        }
        whole.add(at, piece, announced);
    }
    Ok(whole.finish(length))
}

/// What has come of a body.
#[derive(Debug)]
enum Whole {
    /// One piece, as most bodies come: it is used where it lies.
    One(Bytes),
    /// Several, one behind the other.
    Grown(BytesMut),
    /// All of them, where backends read them.
    Placed(ArenaBuf),
}

impl Whole {
    /// Adds a piece behind the `at` bytes that have come. `announced`: how many come at least.
    fn add(&mut self, at: usize, piece: Bytes, announced: usize) {
        match self {
            Whole::One(first) if first.is_empty() => *first = piece,
            Whole::One(first) => {
                let length = at + piece.len();
                let mut grown = BytesMut::with_capacity(announced.min(AHEAD_MAX).max(length));
                grown.extend_from_slice(first);
                grown.extend_from_slice(&piece);
                *self = Whole::Grown(grown);
            }
            Whole::Grown(grown) => grown.extend_from_slice(&piece),
            Whole::Placed(buffer) => buffer[at..at + piece.len()].copy_from_slice(&piece),
        }
    }

    /// All of it; `length` bytes have come.
    fn finish(self, length: usize) -> Bytes {
        match self {
            Whole::One(first) => first,
            Whole::Grown(grown) => grown.freeze(),
            Whole::Placed(buffer) => buffer.freeze().slice(..length),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use symphony_wire::carrier::shared_memory::Arena;

    proptest! {
        #[test]
        fn a_body_is_the_same_wherever_it_is_put(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..6),
        ) {
            let sent = pieces.concat();
            let arena = Arena::new(1 << 12).unwrap();
            let placed = Whole::Placed(arena.buffer(sent.len()).unwrap());
            for (mut whole, announced) in
                [(Whole::One(Bytes::new()), 0), (Whole::One(Bytes::new()), sent.len()), (placed, sent.len())]
            {
                let mut length = 0;
                for piece in &pieces {
                    whole.add(length, Bytes::copy_from_slice(piece), announced);
                    length += piece.len();
                }
                prop_assert_eq!(&whole.finish(length), &sent);
            }
        }
    }
}

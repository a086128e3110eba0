//! A request's body while it arrives, the same for every protocol: its bytes are taken from the
//! budget piece by piece, and it has to keep coming.
//!
//! Knows no protocol's framing.

use crate::budget::{ByteBudget, HeldBytes, SMALL};
use crate::error::InferError;
use bytes::Bytes;
use hyper::body::{Body, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use symphony_wire::carrier::shared_memory::{Arena, ArenaBuf};
use tokio::time::{Instant, Sleep};

/// How often a body that does not come is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// While the budget is scarce, a body that holds much has to bring as much as this between two
/// looks.
const SLOW: usize = 64 << 10;

/// How much of an unwanted body is read and thrown away, in limits of a body, and for how long: many
/// clients read the answer only after they have sent everything.
const DISCARD_LIMITS: usize = 4;
const DISCARD_WAIT: Duration = Duration::from_secs(5);

/// Within which limits bodies arrive.
#[derive(Clone, Debug)]
pub(crate) struct BodyLimits {
    /// Of all requests together.
    pub(crate) budget: Arc<ByteBudget>,
    /// Bound on one body or message in bytes, compressed or not.
    pub(crate) size_max: usize,
    /// A body that brings nothing for this long is given up.
    pub(crate) timeout: Duration,
    /// Where long bodies are put, so that backends of this host read their tensors there.
    pub(crate) arena: Option<Arena>,
}

/// Why there is no further piece.
#[derive(Debug)]
pub(crate) enum Interrupted<E> {
    /// The client or the connection broke off.
    Broken(E),
    /// The server takes no more of it.
    Refused(InferError),
}

/// A body of which the rest is still to come.
#[derive(Debug)]
pub(crate) struct Arriving<B> {
    body: B,
    held: HeldBytes,
    progress: Progress,
    size_max: usize,
    arena: Option<Arena>,
}

impl<B: Body<Data = Bytes> + Unpin> Arriving<B> {
    pub(crate) fn new(body: B, limits: &BodyLimits) -> Arriving<B> {
        Arriving {
            body,
            held: limits.budget.account(),
            progress: Progress::new(limits.timeout),
            size_max: limits.size_max,
            arena: limits.arena.clone(),
        }
    }

    /// What holds the bytes that have come.
    pub(crate) fn held(&mut self) -> &mut HeldBytes {
        &mut self.held
    }

    pub(crate) fn into_held(self) -> HeldBytes {
        self.held
    }

    pub(crate) fn size_max(&self) -> usize {
        self.size_max
    }

    /// A buffer for a body of this length, where backends of this host read long ones.
    pub(crate) fn arena_buffer(&self, length: usize) -> Option<ArenaBuf> {
        self.arena.as_ref()?.tensor_buffer(length)
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    /// The next piece, which is counted as held; `None` at the end. `is_due`: whether the client owes
    /// one, so that its time runs.
    pub(crate) fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
        is_due: bool,
    ) -> Poll<Option<Result<Bytes, Interrupted<B::Error>>>> {
        loop {
            let frame = match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(Interrupted::Broken(error))));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if is_due => {
                    let late = self.progress.poll_late(context, &self.held);
                    return late.map(|error| Some(Err(Interrupted::Refused(error))));
                }
                Poll::Pending => return Poll::Pending,
            };
            // Trailers carry nothing for us.
            let Ok(piece) = frame.into_data() else { continue };
            if piece.is_empty() {
                continue;
            }
            self.progress.came += piece.len();
            let taken = self.held.grow(piece.len());
            return Poll::Ready(Some(taken.map(|()| piece).map_err(Interrupted::Refused)));
        }
    }
}

impl<B> Arriving<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
{
    /// Reads what still comes and throws it away, beside the answer that the client gets meanwhile.
    pub(crate) fn discard(self) {
        if self.body.is_end_stream() {
            return;
        }
        let Arriving { mut body, size_max, held, .. } = self;
        drop(held);
        tokio::spawn(async move {
            let mut left = size_max.saturating_mul(DISCARD_LIMITS);
            let reading = std::future::poll_fn(|context| {
                while let Some(Ok(frame)) =
                    std::task::ready!(Pin::new(&mut body).poll_frame(context))
                {
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    let Some(rest) = left.checked_sub(length) else { break };
                    left = rest;
                }
                Poll::Ready(())
            });
            // Whether or not all of it came, the answer is the same.
            let _ = tokio::time::timeout(DISCARD_WAIT, reading).await;
        });
    }
}

/// Whether a body keeps coming.
#[derive(Debug)]
struct Progress {
    timeout: Duration,
    /// Bytes since the last look.
    came: usize,
    /// For how long nothing has come.
    quiet: Duration,
    /// The next look; there is none before the body was waited for.
    look: Option<Pin<Box<Sleep>>>,
}

impl Progress {
    fn new(timeout: Duration) -> Progress {
        Progress { timeout, came: 0, quiet: Duration::ZERO, look: None }
    }

    /// Ready when the body has come too slowly.
    fn poll_late(&mut self, context: &mut Context<'_>, held: &HeldBytes) -> Poll<InferError> {
        let every = LOOK_EVERY.min(self.timeout);
        let look = self.look.get_or_insert_with(|| Box::pin(tokio::time::sleep(every)));
        while look.as_mut().poll(context).is_ready() {
            let came = std::mem::take(&mut self.came);
            self.quiet = if came == 0 { self.quiet + every } else { Duration::ZERO };
            if self.quiet >= self.timeout {
                return Poll::Ready(stalled(self.timeout));
            }
            if came < SLOW && held.bytes() > SMALL && held.budget().is_scarce() {
                return Poll::Ready(slow());
            }
            look.as_mut().reset(Instant::now() + every);
        }
        Poll::Pending
    }
}

fn stalled(timeout: Duration) -> InferError {
    InferError::Stalled(format!(
        "the body stalled: nothing came for {} s (body_timeout_s under [server])",
        timeout.as_secs_f64()
    ))
}

fn slow() -> InferError {
    InferError::Stalled(
        "the body came too slowly while the server had little room for others; try again later"
            .to_owned(),
    )
}

//! The sending end of a link.
//!
//! Two buffers go round. Who sends writes its frame into the one that is being filled, under a short
//! lock. If nobody writes to the socket it takes that buffer and does so, itself and without the lock;
//! whoever sends meanwhile fills the other one, which is written next. What the socket has no room for
//! is left to the link's [task](super::task), and so is a small message that follows another at once:
//! a write costs ten times what a message does, and until the task writes others join it. So a message
//! that finds the link quiet leaves at once, without a hop to another thread, and under load many leave
//! in one write.

use super::heartbeat::RoundTrips;
use super::settings::LinkSettings;
use super::stream::Stream;
use crate::carrier::shared_memory::{Lending, PeerArena};
use crate::clock::Clock;
use crate::codec::writing::Unwritten;
use crate::codec::{Frame, FrameBuffer, FrameWriter, kinds};
use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use symphony_core::{Span, Time};
use tokio::sync::Notify;
use zerocopy::little_endian::U64;

/// Writes that a sender does itself; if more has come by then, the link's task goes on.
const WRITES_MAX: usize = 4;
/// After a write, small messages are left to the task for so long: others follow.
const BUSY: Span = Span::from_micros(20);
/// What is worth a write of its own, in bytes.
const WORTH_A_WRITE: usize = 16 << 10;
/// Tensors that one frame returns.
const RETURNED_AT_ONCE: usize = 256;
/// The longest reason of a close, in bytes.
const REASON_MAX: usize = 1024;

/// Why a message was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer reads too slowly: what waits for it has reached its bound.
    #[error("the peer reads too slowly, and what waits for it has reached its bound")]
    Full,
    /// The link has ended.
    #[error("the link has ended: {0}")]
    Closed(String),
    /// The message is longer than the peer takes.
    #[error("a message of {bytes} bytes, and the peer takes {max} at most")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The peer's bound.
        max: usize,
    },
    /// A value in it cannot be sent.
    #[error("the message cannot be written: {0}")]
    Unwritable(String),
}

/// Of several messages, only some were sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("after {sent} messages: {error}")]
pub struct NotAllSent {
    /// How many were, the first ones.
    pub sent: usize,
    /// Why the next was not.
    pub error: SendError,
}

/// What both ends of a process's side of a link share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) stream: Stream,
    pub(crate) clock: Clock,
    pub(crate) round_trips: RoundTrips,
    /// Something waits for the task.
    pub(crate) news: Notify,
    /// What the peer has of this process's arena, where both are on one host.
    pub(crate) lending: Option<Lending>,
    /// Where the peer has tensors.
    pub(crate) arena: Option<PeerArena>,
    out: Mutex<Out>,
    out_max: usize,
    /// The longest body that the peer takes.
    peer_max: usize,
}

#[derive(Debug)]
struct Out {
    filling: FrameBuffer,
    /// The other buffer, while nobody writes.
    idle: Option<FrameBuffer>,
    /// The other buffer, while the task is to write.
    left: Option<FrameBuffer>,
    /// When somebody wrote last.
    wrote: Time,
    /// Bytes of the other buffer that the socket has not taken.
    leaving: usize,
    /// Why nothing more is taken.
    closed: Option<String>,
}

impl Shared {
    pub(crate) fn new(
        stream: Stream,
        settings: &LinkSettings,
        peer_max: usize,
        arena: Option<PeerArena>,
    ) -> Shared {
        let own = settings.arena.clone().filter(|_| stream.socket().is_local());
        let out = Out {
            filling: FrameBuffer::default(),
            idle: Some(FrameBuffer::default()),
            left: None,
            wrote: Time::ZERO,
            leaving: 0,
            closed: None,
        };
        Shared {
            stream,
            clock: settings.clock,
            round_trips: RoundTrips::default(),
            news: Notify::new(),
            lending: own.map(Lending::new),
            arena,
            out: Mutex::new(out),
            out_max: settings.out_max,
            peer_max,
        }
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one frame.
    #[inline]
    pub(crate) fn send(&self, write: impl FnOnce(&mut FrameWriter<'_>)) -> Result<(), SendError> {
        let mut out = self.out();
        self.add(&mut out, write)?;
        self.leave(out);
        Ok(())
    }

    /// Sends several messages by one write, if the socket has room.
    fn send_all<'a, M: Frame>(
        &self,
        messages: impl IntoIterator<Item = &'a M>,
    ) -> Result<(), NotAllSent> {
        let mut out = self.out();
        for (sent, message) in messages.into_iter().enumerate() {
            if let Err(error) = self.add(&mut out, |to| message.encode(to)) {
                self.leave(out);
                return Err(NotAllSent { sent, error });
            }
        }
        self.leave(out);
        Ok(())
    }

    fn add(
        &self,
        out: &mut Out,
        write: impl FnOnce(&mut FrameWriter<'_>),
    ) -> Result<(), SendError> {
        if let Some(why) = &out.closed {
            return Err(SendError::Closed(why.clone()));
        }
        if out.filling.len() + out.leaving >= self.out_max {
            return Err(SendError::Full);
        }
        out.filling.frame(self.peer_max, self.lending.as_ref(), write).map_err(|unwritten| {
            match unwritten {
                Unwritten::TooLong { bytes, max } => SendError::TooLarge { bytes, max },
                Unwritten::Value(problem) => SendError::Unwritable(problem),
            }
        })
    }

    /// Writes what was added, unless somebody else does.
    #[inline]
    fn leave(&self, mut out: MutexGuard<'_, Out>) {
        let Some(idle) = out.idle.take() else { return };
        let now = self.clock.now();
        if now.since(out.wrote) < BUSY && out.filling.len() < WORTH_A_WRITE {
            out.left = Some(idle);
            drop(out);
            return self.news.notify_one();
        }
        out.wrote = now;
        let frames = std::mem::replace(&mut out.filling, idle);
        out.leaving = frames.len();
        drop(out);
        if let Some(rest) = self.write(frames) {
            self.out().left = Some(rest);
            self.news.notify_one();
        }
    }

    /// Writes a buffer, and what was added meanwhile. What could not be written is given back.
    pub(crate) fn write(&self, mut frames: FrameBuffer) -> Option<FrameBuffer> {
        for _ in 0..WRITES_MAX {
            if !frames.is_empty() || self.stream.is_holding() {
                match self.stream.try_write(&mut frames) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(frames),
                    Err(error) => {
                        self.end(&format!("writing failed: {error}"));
                        return None;
                    }
                    Ok(()) => {}
                }
            }
            let mut out = self.out();
            out.leaving = frames.len();
            if frames.is_empty() && !self.stream.is_holding() {
                if out.filling.is_empty() {
                    out.wrote = self.clock.now();
                    out.idle = Some(frames);
                    let is_closed = out.closed.is_some();
                    drop(out);
                    if is_closed {
                        // The task waits for this to end the stream.
                        self.news.notify_one();
                    }
                    return None;
                }
                std::mem::swap(&mut out.filling, &mut frames);
                out.leaving = frames.len();
            }
        }
        Some(frames)
    }

    /// The buffer that is left to the task.
    pub(crate) fn take_left(&self) -> Option<FrameBuffer> {
        self.out().left.take()
    }

    /// Whether nobody writes, and nothing waits to be written.
    pub(crate) fn is_written(&self) -> bool {
        let out = self.out();
        out.idle.is_some() && out.filling.is_empty()
    }

    /// Whether the link has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.out().closed.is_some()
    }

    /// Why the link has ended, if it has.
    pub(crate) fn why_closed(&self) -> Option<String> {
        self.out().closed.clone()
    }

    /// Ends the link, telling the peer why.
    pub(crate) fn close(&self, why: &str) {
        let mut out = self.out();
        if out.closed.is_some() {
            return;
        }
        let why = shortened(why);
        // A reason is shorter than any bound, and has room once whatever waits.
        let write = |to: &mut FrameWriter<'_>| _ = to.kind(kinds::CLOSED).bytes(why.as_bytes());
        let _ = out.filling.frame(REASON_MAX, None, write);
        out.closed = Some(why.to_owned());
        self.leave(out);
        self.news.notify_one();
    }

    /// The link has ended by itself.
    pub(crate) fn end(&self, why: &str) {
        let mut out = self.out();
        if out.closed.is_none() {
            out.closed = Some(shortened(why).to_owned());
        }
        out.filling.clear();
        drop(out);
        self.news.notify_one();
    }

    /// Sends a heartbeat. A peer that reads too slowly gets messages in its place.
    pub(crate) fn ping(&self) {
        let now = U64::new(self.clock.now().0);
        let _ = self.send(|to| _ = to.kind(kinds::PING).put(&now));
    }

    /// Tells the peer which of its tensors this process has let go of. The peer needs to know whatever
    /// waits for it; it has lent as many as there can be.
    pub(crate) fn return_tensors(&self) {
        let places = self.arena.as_ref().map(|arena| arena.returns().take()).unwrap_or_default();
        let mut out = self.out();
        if places.is_empty() || out.closed.is_some() {
            return;
        }
        for part in places.chunks(RETURNED_AT_ONCE) {
            let write = |to: &mut FrameWriter<'_>| {
                to.kind(kinds::RETURNED);
                part.iter().for_each(|place| _ = to.numbers(&[place.offset, place.length]));
            };
            let _ = out.filling.frame(self.peer_max, None, write);
        }
        self.leave(out);
    }

    /// Answers a heartbeat.
    pub(crate) fn pong(&self, sent: U64) {
        let _ = self.send(|to| _ = to.kind(kinds::PONG).put(&sent));
    }
}

fn shortened(why: &str) -> &str {
    &why[..why.floor_char_boundary(REASON_MAX)]
}

/// The sending end of a link; clones send on the same one. It can be used on any thread and never
/// waits. A link lasts as long as its [receiver](super::LinkReceiver).
#[derive(Debug)]
pub struct LinkSender<Out> {
    shared: Arc<Shared>,
    messages: PhantomData<fn(&Out)>,
}

impl<Out> Clone for LinkSender<Out> {
    fn clone(&self) -> LinkSender<Out> {
        LinkSender { shared: Arc::clone(&self.shared), messages: PhantomData }
    }
}

impl<Out: Frame> LinkSender<Out> {
    pub(crate) fn new(shared: Arc<Shared>) -> LinkSender<Out> {
        LinkSender { shared, messages: PhantomData }
    }

    /// Sends a message: it is on its way, or waits for the peer to read what is before it.
    ///
    /// # Errors
    /// It was not sent.
    #[inline]
    pub fn send(&self, message: &Out) -> Result<(), SendError> {
        self.shared.send(|to| message.encode(to))
    }

    /// Sends several messages, as a rule by one write.
    ///
    /// # Errors
    /// Only the first ones were sent.
    pub fn send_all<'a>(
        &self,
        messages: impl IntoIterator<Item = &'a Out>,
    ) -> Result<(), NotAllSent>
    where
        Out: 'a,
    {
        self.shared.send_all(messages)
    }

    /// A high percentile of the newest round trips; `None` before the first.
    #[must_use]
    pub fn round_trip(&self) -> Option<Span> {
        self.shared.round_trips.percentile()
    }

    /// How long a message takes to the peer: half of the round trip.
    #[must_use]
    pub fn one_way(&self) -> Option<Span> {
        Some(Span(self.round_trip()?.0 / 2))
    }

    /// How many bytes wait for the peer to read. Whoever sends much looks here, so that the messages of
    /// others find room and wait for little.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let out = self.shared.out();
        out.filling.len() + out.leaving
    }

    /// Whether both send on the same link.
    #[must_use]
    pub fn is_same(&self, other: &LinkSender<Out>) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Whether the link has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// Ends the link once what was sent has left. The peer is told why.
    pub fn close(&self, why: &str) {
        self.shared.close(why);
    }
}

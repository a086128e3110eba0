//! The receiving end of a link.

use super::error::LinkError;
use super::reading::{Arrived, Reading};
use super::sending::Shared;
use crate::carrier::Timed;
use crate::carrier::shared_memory::Place;
use crate::clock;
use crate::codec::{Body, DecodeError, Frame, kinds};
use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use symphony_core::{Span, Time};
use tokio::time::{Instant, Sleep};
use zerocopy::little_endian::U64;

/// The receiving end of a link, which lasts as long as this.
#[derive(Debug)]
pub struct LinkReceiver<In> {
    shared: Arc<Shared>,
    reading: Reading,
    frame_max: usize,
    silence_max: Span,
    /// When something came last.
    heard: Time,
    /// From when the spans of what was read last count.
    at: Time,
    /// When to look whether the peer is silent.
    look: Pin<Box<Sleep>>,
    messages: PhantomData<fn() -> In>,
}

impl<In: Frame> LinkReceiver<In> {
    pub(crate) fn new(
        shared: Arc<Shared>,
        reading: Reading,
        frame_max: usize,
        silence_max: Duration,
    ) -> LinkReceiver<In> {
        let heard = shared.clock.now();
        LinkReceiver {
            shared,
            reading,
            frame_max,
            silence_max: clock::span(silence_max),
            heard,
            at: heard,
            look: Box::pin(tokio::time::sleep(silence_max)),
            messages: PhantomData,
        }
    }

    /// The next message. Its spans count from when it was read, less what it took from the peer to here.
    /// Can be dropped while it waits, and called again.
    ///
    /// # Errors
    /// The link has ended.
    pub async fn next(&mut self) -> Result<Timed<In>, LinkError> {
        loop {
            if let Some(message) = self.arrived()? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    /// Gives `each` all messages that have arrived, at least one, at most what is read at once. Returns
    /// how many. Can be dropped while it waits, and called again.
    ///
    /// # Errors
    /// The link has ended, perhaps after some messages.
    pub async fn drain(&mut self, mut each: impl FnMut(Timed<In>)) -> Result<usize, LinkError> {
        let mut count = 0;
        loop {
            while let Some(message) = self.arrived()? {
                each(message);
                count += 1;
            }
            if count > 0 {
                return Ok(count);
            }
            self.fill().await?;
        }
    }

    /// The next message of what has been read.
    fn arrived(&mut self) -> Result<Option<Timed<In>>, LinkError> {
        let found = self.parse();
        if let Err(error) = &found {
            self.shared.close(&error.to_string());
        }
        Ok(found?.map(|message| Timed::new(self.at, message)))
    }

    fn parse(&mut self) -> Result<Option<In>, LinkError> {
        loop {
            let Some(arrived) = self.reading.next(self.frame_max)? else { return Ok(None) };
            let bytes;
            let body = match arrived {
                Arrived::Small(body) => body,
                Arrived::Large(kind, all) => {
                    bytes = all;
                    Body::owned(kind, &bytes)
                }
            };
            if body.kind() >= kinds::SUBMIT {
                let body = body.with_arena(self.shared.arena.as_ref());
                return Ok(Some(In::decode(body)?));
            }
            about_the_link(&self.shared, body)?;
        }
    }

    /// Waits until more has been read.
    async fn fill(&mut self) -> Result<(), LinkError> {
        // A link that always has something lets others have their turn now and then.
        tokio::task::coop::consume_budget().await;
        let read = poll_fn(|context| {
            loop {
                match self.reading.fill(&self.shared.stream) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return Poll::Ready(read.map_err(LinkError::from)),
                }
                match self.shared.stream.poll_readable(context) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                    Poll::Pending => {}
                }
                if self.look.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                let now = self.shared.clock.now();
                let silent = now.since(self.heard);
                if silent >= self.silence_max {
                    return Poll::Ready(Err(LinkError::Silent(silent)));
                }
                let left = clock::duration(self.silence_max.saturating_sub(silent));
                self.look.as_mut().reset(Instant::now() + left);
            }
        });
        let ended = match read.await {
            Ok(0) => LinkError::Closed("without a word".to_owned()),
            Ok(_) => {
                self.heard = self.shared.clock.now();
                self.at = self.heard - self.shared.round_trips.one_way();
                return Ok(());
            }
            Err(error) => error,
        };
        // Where this end closed the link, that is why.
        let ended = self.shared.why_closed().map_or(ended, LinkError::Closed);
        self.shared.end(&ended.to_string());
        Err(ended)
    }
}

/// Takes a frame that is not for the owner of the link.
fn about_the_link(shared: &Shared, mut body: Body<'_>) -> Result<(), LinkError> {
    match body.kind() {
        kinds::PING => {
            let sent: U64 = body.take("time")?;
            shared.pong(body.end(sent)?);
        }
        kinds::PONG => {
            let sent: U64 = body.take("time")?;
            shared.round_trips.came_back(Time(body.end(sent)?.get()), shared.clock.now());
        }
        kinds::RETURNED => {
            while !body.is_empty() {
                let offset = body.number("place")?;
                let place = Place { offset, length: body.number("length")? };
                shared.lending.iter().for_each(|lending| lending.let_go(place));
            }
        }
        kinds::CLOSED => return Err(LinkError::Closed(body.text()?)),
        kinds::REFUSED => return Err(LinkError::Refused(body.text()?)),
        kind => return Err(DecodeError::Kind(kind).into()),
    }
    Ok(())
}

impl<In> Drop for LinkReceiver<In> {
    fn drop(&mut self) {
        self.shared.close("the peer has let go of it");
    }
}

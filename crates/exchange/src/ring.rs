//! The bounded ring from one thread to another: messages arrive in order, each once; a full ring
//! hands the message back. The ring itself is `rtrb`'s; added here are the consumer's bell and
//! draining in batches. It must not know what it carries.

use std::fmt;

use thiserror::Error;

use crate::bell::Ringer;
use crate::sync::spsc;

/// A ring for `capacity` messages whose consumer listens to the bell of `ringer`.
///
/// # Panics
///
/// Without capacity: nothing could ever be sent.
#[must_use]
pub fn ring<T>(capacity: usize, ringer: Ringer) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a ring needs room for a message");
    let (producer, consumer) = spsc::RingBuffer::new(capacity);
    (Sender { producer, ringer, capacity }, Receiver { consumer })
}

/// The ring is full; the message comes back in it.
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[error("the ring is full: its consumer is behind; refuse the message or try again later")]
pub struct Full<T>(pub T);

// Messages need not be printable.
impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}

/// The writing end of a ring.
pub struct Sender<T> {
    producer: spsc::Producer<T>,
    ringer: Ringer,
    capacity: usize,
}

impl<T> Sender<T> {
    /// Sends a message, and wakes the consumer if it is parked.
    ///
    /// # Errors
    ///
    /// [`Full`] when there is no room; the consumer is awake then, or being woken.
    pub fn send(&mut self, message: T) -> Result<(), Full<T>> {
        self.push(message)?;
        self.ringer.ring();
        Ok(())
    }

    /// Leaves a message that can wait, and wakes the consumer if it sleeps lightly: see
    /// [`Ringer::nudge`].
    ///
    /// # Errors
    ///
    /// [`Full`] when there is no room. A consumer that sleeps soundly makes none before it wakes.
    pub fn leave(&mut self, message: T) -> Result<(), Full<T>> {
        self.push(message)?;
        self.ringer.nudge();
        Ok(())
    }

    /// Sends several messages and rings once, when the burst is dropped: the fence of a ring costs
    /// more than a push. The consumer may see the messages before that.
    pub fn burst(&mut self) -> Burst<'_, T> {
        Burst { sender: self, owes_ring: false }
    }

    /// How many messages wait. The consumer may be taking some at this moment.
    #[must_use]
    pub fn len(&self) -> usize {
        self.capacity - self.producer.slots()
    }

    /// Whether no message waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages may wait.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether the reading end is gone: what is sent now is read by nobody.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.producer.is_abandoned()
    }

    fn push(&mut self, message: T) -> Result<(), Full<T>> {
        let pushed = self.producer.push(message);
        pushed.map_err(|spsc::PushError::Full(message)| Full(message))
    }
}

/// Messages sent together, see [`Sender::burst`].
pub struct Burst<'a, T> {
    sender: &'a mut Sender<T>,
    owes_ring: bool,
}

impl<T> Burst<'_, T> {
    /// Sends a message.
    ///
    /// # Errors
    ///
    /// [`Full`] when there is no room. The consumer is then awake, or being woken, so a sender that
    /// waits for room need not end the burst first.
    pub fn send(&mut self, message: T) -> Result<(), Full<T>> {
        let sent = self.sender.push(message);
        match sent {
            Ok(()) => self.owes_ring = true,
            Err(_) => self.ring(),
        }
        sent
    }

    fn ring(&mut self) {
        if self.owes_ring {
            self.owes_ring = false;
            self.sender.ringer.ring();
        }
    }
}

impl<T> Drop for Burst<'_, T> {
    fn drop(&mut self) {
        self.ring();
    }
}

/// The reading end of a ring.
pub struct Receiver<T> {
    consumer: spsc::Consumer<T>,
}

impl<T> Receiver<T> {
    /// The oldest message.
    pub fn pop(&mut self) -> Option<T> {
        self.consumer.pop().ok()
    }

    /// Gives what waits now to `each`, oldest first, at most `max` messages; returns how many.
    /// Their room is free again when all are through.
    pub fn drain(&mut self, max: usize, each: impl FnMut(T)) -> usize {
        let count = self.consumer.slots().min(max);
        let Ok(messages) = self.consumer.read_chunk(count) else { return 0 };
        messages.into_iter().for_each(each);
        count
    }

    /// Appends what waits now to `messages`, oldest first, at most `max`; returns how many. It
    /// allocates only where `messages` has no room for them.
    pub fn drain_into(&mut self, max: usize, messages: &mut Vec<T>) -> usize {
        self.drain(max, |message| messages.push(message))
    }

    /// How many messages wait. More may arrive at this moment.
    #[must_use]
    pub fn len(&self) -> usize {
        self.consumer.slots()
    }

    /// Whether no message waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.consumer.is_empty()
    }

    /// Whether the writing end is gone. Messages may still wait that it sent before; once this
    /// was seen there come no others.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.consumer.is_abandoned()
    }
}

//! Frames out of a byte stream.
//!
//! What comes is read into one buffer, as much as there is, and small frames are read where they lie
//! there. A large frame gets memory of its own, into which the rest of it is read: its tensors go on
//! lying there.

use super::stream::Stream;
use crate::codec::{Body, DecodeError, HEADER, Header};
use bytes::buf::BufMut;
use bytes::{Bytes, BytesMut};
use std::io;
use zerocopy::FromBytes;

/// Room for what is read at once.
const BUFFER: usize = 64 << 10;
/// Room of a link whose peer is not known yet.
const FIRST_BUFFER: usize = 1 << 10;
/// A body of this size gets memory of its own. Tensors of smaller ones are copied, so that one of them
/// does not keep a whole buffer.
const LARGE_MIN: usize = 16 << 10;
/// Memory that a large frame gets before any of it has come; more follows what comes.
const LARGE_FIRST: usize = 1 << 20;
/// What is read at once after a large frame: where the next is large as well, little of it is read
/// before it has its memory.
const AFTER_LARGE: usize = 1 << 10;

/// What has been read and not taken.
#[derive(Debug)]
pub(crate) struct Reading {
    buffer: Box<[u8]>,
    /// What of the buffer is waiting.
    start: usize,
    end: usize,
    large: Option<Large>,
    /// How much is read at once.
    at_once: usize,
}

/// A large frame that is on its way.
#[derive(Debug)]
struct Large {
    kind: u8,
    length: usize,
    body: BytesMut,
}

impl Large {
    /// Reads what is there of the body. Its memory grows as it comes: whoever claims a length and sends
    /// nothing holds little of it.
    fn fill(&mut self, stream: &Stream) -> io::Result<usize> {
        let missing = self.length - self.body.len();
        if self.body.len() == self.body.capacity() {
            self.body.reserve(missing.min(self.body.len()));
        }
        stream.try_read_buf(&mut (&mut self.body).limit(missing))
    }
}

/// A frame that has arrived.
pub(crate) enum Arrived<'a> {
    Small(Body<'a>),
    Large(u8, Bytes),
}

impl Reading {
    pub(crate) fn new() -> Reading {
        let buffer = vec![0; FIRST_BUFFER].into();
        Reading { buffer, start: 0, end: 0, large: None, at_once: FIRST_BUFFER }
    }

    /// The peer is known: gives it the room of a peer.
    pub(crate) fn grow(&mut self) {
        let mut buffer = vec![0; BUFFER];
        buffer[..self.end].copy_from_slice(&self.buffer[..self.end]);
        (self.buffer, self.at_once) = (buffer.into(), BUFFER);
    }

    /// Reads what is there, at most as much as there is room for. Zero at the end of the stream.
    pub(crate) fn fill(&mut self, stream: &Stream) -> io::Result<usize> {
        if let Some(large) = &mut self.large {
            return large.fill(stream);
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let until = self.buffer.len().min(self.end + self.at_once);
        let read = stream.try_read(&mut self.buffer[self.end..until])?;
        self.end += read;
        if read == self.at_once {
            self.at_once = BUFFER;
        }
        Ok(read)
    }

    /// The next frame, if it has arrived; its body may have `max` bytes.
    ///
    /// # Errors
    /// It claims to be longer.
    pub(crate) fn next(&mut self, max: usize) -> Result<Option<Arrived<'_>>, DecodeError> {
        if self.large.is_none() {
            let waiting = &self.buffer[self.start..self.end];
            let Ok((header, rest)) = Header::ref_from_prefix(waiting) else { return Ok(None) };
            let (kind, length) = (header.kind, header.length.get() as usize);
            if length > max {
                return Err(DecodeError::Length { claimed: length, max });
            }
            if length < self.large_min() {
                if rest.len() < length {
                    return Ok(None);
                }
                let from = self.start + HEADER;
                self.start = from + length;
                let body = &self.buffer[from..self.start];
                return Ok(Some(Arrived::Small(Body::borrowed(kind, body))));
            }
            self.begin_large(kind, length);
        }
        let Some(large) = self.large.take_if(|large| large.body.len() == large.length) else {
            return Ok(None);
        };
        Ok(Some(Arrived::Large(large.kind, large.body.freeze())))
    }

    /// Smaller bodies are read in the buffer, which has room for a whole one.
    fn large_min(&self) -> usize {
        LARGE_MIN.min(self.buffer.len() - HEADER)
    }

    /// Gives a large frame its memory, and what of it has been read.
    fn begin_large(&mut self, kind: u8, length: usize) {
        let mut body = BytesMut::with_capacity(length.min(LARGE_FIRST));
        let from = self.start + HEADER;
        let until = self.end.min(from + length);
        body.extend_from_slice(&self.buffer[from..until]);
        self.start = until;
        self.large = Some(Large { kind, length, body });
        self.at_once = AFTER_LARGE;
    }
}

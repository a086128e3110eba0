//! A buffer of frames on their way out. Small things are written into it; tensors are spliced in where
//! they belong, and stay where they are until the socket has taken them.

use super::layout::{HEADER, Header, TensorLayout};
use crate::carrier::shared_memory::{Lending, Place};
use bytes::{Buf, Bytes};
use serde::Serialize;
use std::collections::VecDeque;
use std::io::IoSlice;
use zerocopy::little_endian::U64;
use zerocopy::{Immutable, IntoBytes};

/// Contents up to this size are copied into the buffer: that costs less than a piece of their own in a
/// write.
const SPLICED_MIN: usize = 2048;
/// Pieces of one vectored write.
const PIECES_MAX: usize = 64;
/// Room that an empty buffer keeps.
const KEPT_MAX: usize = 256 << 10;

/// Frames in their order, as far as they have not been taken.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    /// Headers, layouts and short contents.
    written: Vec<u8>,
    /// How much of it has been taken.
    taken: usize,
    /// What belongs between: before which byte of `written`, and what.
    spliced: VecDeque<(usize, Bytes)>,
    /// Bytes of both that have not been taken.
    length: usize,
}

impl FrameBuffer {
    /// Bytes that have not been taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether everything has been taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Writes one frame. Tensors in an arena that the peer reads are lent to it.
    ///
    /// # Errors
    /// The body is longer than `max`, or a value in it cannot be written. Nothing was.
    pub(crate) fn frame(
        &mut self,
        max: usize,
        lending: Option<&Lending>,
        write: impl FnOnce(&mut FrameWriter<'_>),
    ) -> Result<(), Unwritten> {
        let (start, spliced, before) = (self.written.len(), self.spliced.len(), self.length);
        self.written.extend_from_slice(Header::new(0, 0).as_bytes());
        self.length += HEADER;
        let mut writer =
            FrameWriter { buffer: self, kind: 0, problem: None, lending, lent: Vec::new() };
        write(&mut writer);
        let FrameWriter { kind, problem, lent, .. } = writer;
        let bytes = self.length - before - HEADER;
        let problem = problem.map(Unwritten::Value);
        let problem = problem.or((bytes > max).then_some(Unwritten::TooLong { bytes, max }));
        let length = u32::try_from(bytes).map_err(|_| Unwritten::TooLong { bytes, max });
        match problem.map_or(length, Err) {
            Ok(length) => {
                let header = Header::new(kind, length);
                self.written[start..start + HEADER].copy_from_slice(header.as_bytes());
                Ok(())
            }
            Err(problem) => {
                self.written.truncate(start);
                self.spliced.truncate(spliced);
                self.length = before;
                for place in lent {
                    lending.iter().for_each(|lending| lending.let_go(place));
                }
                Err(problem)
            }
        }
    }

    /// The next pieces, for one vectored write.
    pub(crate) fn pieces<'a>(&'a self, into: &mut Vec<IoSlice<'a>>) {
        let mut at = self.taken;
        for (before, contents) in &self.spliced {
            if at < *before {
                into.push(IoSlice::new(&self.written[at..*before]));
                at = *before;
            }
            into.push(IoSlice::new(contents));
            if into.len() + 1 >= PIECES_MAX {
                return;
            }
        }
        if at < self.written.len() {
            into.push(IoSlice::new(&self.written[at..]));
        }
    }

    /// Whether a single piece is all there is.
    pub(crate) fn single(&self) -> Option<&[u8]> {
        self.spliced.is_empty().then(|| &self.written[self.taken..])
    }

    /// So many bytes were taken from the front.
    pub(crate) fn take(&mut self, mut bytes: usize) {
        bytes = bytes.min(self.length);
        self.length -= bytes;
        while bytes > 0 {
            let until = self.spliced.front().map_or(self.written.len(), |(before, _)| *before);
            let inline = (until - self.taken).min(bytes);
            self.taken += inline;
            bytes -= inline;
            if let Some((before, contents)) = self.spliced.front_mut()
                && self.taken == *before
            {
                let taken = contents.len().min(bytes);
                bytes -= taken;
                contents.advance(taken);
                if contents.is_empty() {
                    self.spliced.pop_front();
                }
            }
        }
        if self.length == 0 {
            self.clear();
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.written.clear();
        self.written.shrink_to(KEPT_MAX);
        self.spliced.clear();
        (self.taken, self.length) = (0, 0);
    }
}

/// Why a message was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unwritten {
    /// It is longer than the peer takes.
    TooLong { bytes: usize, max: usize },
    /// A value in it cannot be written: the text says which.
    Value(String),
}

/// Writes the body of one frame.
#[derive(Debug)]
pub struct FrameWriter<'a> {
    buffer: &'a mut FrameBuffer,
    kind: u8,
    problem: Option<String>,
    lending: Option<&'a Lending>,
    /// What was lent for this frame.
    lent: Vec<Place>,
}

impl FrameWriter<'_> {
    /// What the frame is.
    pub(crate) fn kind(&mut self, kind: u8) -> &mut Self {
        self.kind = kind;
        self
    }

    /// Adds a layout.
    pub(crate) fn put(&mut self, layout: &(impl IntoBytes + Immutable + ?Sized)) -> &mut Self {
        self.bytes(layout.as_bytes())
    }

    /// Adds bytes, copied.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.buffer.written.extend_from_slice(bytes);
        self.buffer.length += bytes.len();
        self
    }

    /// Adds numbers.
    pub(crate) fn numbers(&mut self, numbers: &[u64]) -> &mut Self {
        for number in numbers {
            self.put(&U64::new(*number));
        }
        self
    }

    /// Adds a value of serde.
    pub(crate) fn value(&mut self, value: &impl Serialize) -> &mut Self {
        match postcard::to_stdvec(value) {
            Ok(bytes) => return self.splice(&bytes.into()),
            Err(problem) => self.problem = Some(problem.to_string()),
        }
        self
    }

    /// Says where the contents of a tensor will be. [`contents`](Self::contents) follows for each, in the
    /// same order, once all have been said.
    pub(crate) fn place(&mut self, tensor: &Bytes) -> TensorLayout {
        let lent = self.lending.and_then(|lending| lending.lend(tensor));
        self.lent.extend(lent);
        TensorLayout {
            length: (tensor.len() as u64).into(),
            offset: lent.map_or(TensorLayout::INLINE, |place| place.offset).into(),
        }
    }

    /// Adds the contents of a tensor, unless its place is in the arena.
    pub(crate) fn contents(&mut self, place: TensorLayout, tensor: &Bytes) {
        if place.offset.get() == TensorLayout::INLINE {
            self.splice(tensor);
        }
    }

    /// Adds bytes, copied only when they are few.
    pub(crate) fn splice(&mut self, bytes: &Bytes) -> &mut Self {
        if bytes.len() < SPLICED_MIN {
            return self.bytes(bytes);
        }
        self.buffer.spliced.push_back((self.buffer.written.len(), bytes.clone()));
        self.buffer.length += bytes.len();
        self
    }
}

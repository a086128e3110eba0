//! The body of one frame, read from its beginning to its end.

use super::error::DecodeError;
use super::layout::{NoSuch, TensorLayout};
use crate::carrier::shared_memory::{PeerArena, Place};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// The body of a frame that has arrived, of which the front is taken piece by piece.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    kind: u8,
    rest: &'a [u8],
    /// The memory that the body lies in, where tensors may go on lying in it.
    owner: Option<&'a Bytes>,
    /// Where tensors of the sender are that travel as their place.
    arena: Option<&'a PeerArena>,
}

impl<'a> Body<'a> {
    /// A body of which nothing is kept: tensors are copied out of it.
    #[must_use]
    pub fn borrowed(kind: u8, body: &'a [u8]) -> Body<'a> {
        Body { kind, rest: body, owner: None, arena: None }
    }

    /// A body that tensors go on lying in.
    #[must_use]
    pub fn owned(kind: u8, body: &'a Bytes) -> Body<'a> {
        Body { kind, rest: body, owner: Some(body), arena: None }
    }

    /// The same of a sender with memory that this process reads.
    #[must_use]
    pub(crate) fn with_arena(self, arena: Option<&'a PeerArena>) -> Body<'a> {
        Body { arena, ..self }
    }

    /// Whether everything has been taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The kind of the frame.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// Takes a layout.
    pub(crate) fn take<T>(&mut self, what: &'static str) -> Result<T, DecodeError>
    where
        T: FromBytes + Unaligned,
    {
        let (layout, rest) = T::read_from_prefix(self.rest).map_err(|_| self.short(what))?;
        self.rest = rest;
        Ok(layout)
    }

    /// Takes a list of so many layouts.
    pub(crate) fn list<T>(
        &mut self,
        count: impl TryInto<usize>,
        what: &'static str,
    ) -> Result<&'a [T], DecodeError>
    where
        T: FromBytes + KnownLayout + Immutable + Unaligned,
    {
        let count = count.try_into().map_err(|_| self.short(what))?;
        let list = <[T]>::ref_from_prefix_with_elems(self.rest, count);
        let (list, rest) = list.map_err(|_| self.short(what))?;
        self.rest = rest;
        Ok(list)
    }

    /// Takes a number.
    pub(crate) fn number(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        Ok(self.take::<U64>(what)?.get())
    }

    /// Takes all numbers up to the end.
    pub(crate) fn numbers(self, what: &'static str) -> Result<Vec<u64>, DecodeError> {
        let Ok(list) = <[U64]>::ref_from_bytes(self.rest) else { return Err(self.short(what)) };
        Ok(list.iter().map(|number| number.get()).collect())
    }

    /// Takes the contents of a tensor.
    pub(crate) fn tensor(&mut self, layout: TensorLayout) -> Result<Bytes, DecodeError> {
        let (length, offset) = (layout.length.get(), layout.offset.get());
        if offset != TensorLayout::INLINE {
            let found = self.arena.and_then(|arena| arena.tensor(Place { offset, length }));
            return found.ok_or(NoSuch("place in shared memory").in_kind(self.kind));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some((contents, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.short("tensor"));
        };
        self.rest = rest;
        Ok(self.kept(contents))
    }

    /// All bytes up to the end, where they are.
    pub(crate) fn all(self) -> &'a [u8] {
        self.rest
    }

    /// All bytes up to the end, for as long as they are wanted.
    pub(crate) fn rest(self) -> Bytes {
        self.kept(self.rest)
    }

    /// The text up to the end.
    pub(crate) fn text(self) -> Result<String, DecodeError> {
        let text = std::str::from_utf8(self.rest);
        Ok(text.map_err(|_| NoSuch("text").in_kind(self.kind))?.to_owned())
    }

    /// The value of serde up to the end.
    pub(crate) fn value<T: DeserializeOwned>(self) -> Result<T, DecodeError> {
        match postcard::take_from_bytes(self.rest) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(DecodeError::Long { kind: self.kind, bytes: rest.len() }),
            Err(problem) => {
                Err(DecodeError::Serde { kind: self.kind, problem: problem.to_string() })
            }
        }
    }

    /// Nothing may be left.
    pub(crate) fn end<T>(self, message: T) -> Result<T, DecodeError> {
        match self.rest.len() {
            0 => Ok(message),
            bytes => Err(DecodeError::Long { kind: self.kind, bytes }),
        }
    }

    /// A layout's value, or that there is none such.
    pub(crate) fn checked<T>(&self, value: Result<T, NoSuch>) -> Result<T, DecodeError> {
        value.map_err(|none| none.in_kind(self.kind))
    }

    fn kept(&self, part: &[u8]) -> Bytes {
        match self.owner {
            Some(owner) => owner.slice_ref(part),
            None => Bytes::copy_from_slice(part),
        }
    }

    fn short(&self, what: &'static str) -> DecodeError {
        DecodeError::Short { kind: self.kind, what }
    }
}

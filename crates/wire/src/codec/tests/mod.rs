//! Messages read back; anything else is refused, whatever it is.

mod corpus;
mod values;

use super::layout::{HEADER, Header};
use super::reading::Body;
use super::writing::FrameBuffer;
use super::{DecodeError, Frame};
use crate::message::link::{
    BackendToFrontend, BackendToScheduler, FrontendToBackend, FrontendToScheduler,
    SchedulerToBackend, SchedulerToFrontend,
};
use bytes::Bytes;
use proptest::prelude::*;
use std::io::IoSlice;
use zerocopy::FromBytes;

/// The bytes of the frame of a message.
fn frame_of(message: &impl Frame) -> Bytes {
    let mut buffer = FrameBuffer::default();
    buffer.frame(usize::MAX, None, |to| message.encode(to)).unwrap();
    let mut bytes = Vec::new();
    while !buffer.is_empty() {
        let mut pieces: Vec<IoSlice<'_>> = Vec::new();
        buffer.pieces(&mut pieces);
        let taken: usize = pieces.iter().map(|piece| piece.len()).sum();
        pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
        buffer.take(taken);
    }
    bytes.into()
}

/// The message of a frame.
fn message_of<M: Frame>(frame: &Bytes) -> Result<M, DecodeError> {
    let (header, body) = Header::ref_from_prefix(frame).unwrap();
    assert_eq!(header.length.get() as usize, body.len(), "a whole frame");
    M::decode(Body::owned(header.kind, &frame.slice(HEADER..)))
}

/// A body, read as every message that there is.
fn read_as_everything(kind: u8, body: &[u8]) -> [Result<(), DecodeError>; 6] {
    fn read<M: Frame>(kind: u8, body: &[u8]) -> Result<(), DecodeError> {
        let owned = M::decode(Body::owned(kind, &Bytes::copy_from_slice(body))).map(drop);
        let borrowed = M::decode(Body::borrowed(kind, body)).map(drop);
        assert_eq!(owned, borrowed);
        owned
    }
    [
        read::<FrontendToScheduler>(kind, body),
        read::<SchedulerToFrontend>(kind, body),
        read::<SchedulerToBackend>(kind, body),
        read::<BackendToScheduler>(kind, body),
        read::<BackendToFrontend>(kind, body),
        read::<FrontendToBackend>(kind, body),
    ]
}

/// A body may be none of a message, but nobody falls over it.
fn does_no_harm(kind: u8, body: &[u8]) {
    let _ = read_as_everything(kind, body);
}

/// A message reads back; its frame with a byte less, a byte more or another byte does no harm.
fn check<M: Frame + PartialEq + std::fmt::Debug>(message: &M, at: prop::sample::Index, byte: u8) {
    let frame = frame_of(message);
    assert_eq!(message_of::<M>(&frame).as_ref(), Ok(message));
    let (kind, body) = (frame[4], &frame[HEADER..]);
    let mut changed = body.to_vec();
    changed.push(byte);
    does_no_harm(kind, &changed);
    changed.truncate(at.index(changed.len()));
    does_no_harm(kind, &changed);
    changed = body.to_vec();
    if !changed.is_empty() {
        let at = at.index(changed.len());
        changed[at] = byte;
        does_no_harm(kind, &changed);
    }
}

/// A kept frame is read, and written again as it was.
fn check_kept<M: Frame>(name: &str, frame: &Bytes) {
    match message_of::<M>(frame) {
        Ok(message) => assert!(frame_of(&message) == *frame, "{name} is written otherwise"),
        Err(error) => panic!("{name}: {error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn frontends_and_scheduler_read_each_other(
        there in values::frontend_to_scheduler(), back in values::scheduler_to_frontend(),
        at: prop::sample::Index, byte: u8,
    ) {
        check(&there, at, byte);
        check(&back, at, byte);
    }

    #[test]
    fn scheduler_and_backends_read_each_other(
        there in values::scheduler_to_backend(), back in values::backend_to_scheduler(),
        at: prop::sample::Index, byte: u8,
    ) {
        check(&there, at, byte);
        check(&back, at, byte);
    }

    #[test]
    fn backends_and_frontends_read_each_other(
        there in values::backend_to_frontend(), back in values::frontend_to_backend(),
        at: prop::sample::Index, byte: u8,
    ) {
        check(&there, at, byte);
        check(&back, at, byte);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn random_bytes_do_no_harm(kind in 0..110u8, body in prop::collection::vec(any::<u8>(), 0..200)) {
        does_no_harm(kind, &body);
    }
}

#[test]
fn a_message_that_is_too_long_is_not_written() {
    let mut buffer = FrameBuffer::default();
    let message = |length| FrontendToBackend::Inputs {
        number: 1,
        inputs: crate::tensor::Inputs::fixed(1, vec![Bytes::from(vec![7; length])]),
    };
    buffer.frame(6000, None, |to| message(5000).encode(to)).unwrap();
    let before = buffer.len();
    for length in [6000, 1 << 20] {
        let unwritten = buffer.frame(6000, None, |to| message(length).encode(to)).unwrap_err();
        assert!(matches!(unwritten, super::writing::Unwritten::TooLong { max: 6000, .. }));
        assert_eq!(buffer.len(), before);
    }
    let mut pieces = Vec::new();
    buffer.pieces(&mut pieces);
    assert_eq!(pieces.iter().map(|piece| piece.len()).sum::<usize>(), before);
}

#[test]
fn what_cannot_be_written_is_not() {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::OsStr::from_bytes(&[0xff]).into();
    let order = crate::message::Order::Load {
        source: crate::message::Source::Shared { path },
        name: String::new(),
        version: 1,
    };
    let message = SchedulerToBackend::Order { number: 1, order: Box::new(order) };
    let mut buffer = FrameBuffer::default();
    let unwritten = buffer.frame(1000, None, |to| message.encode(to)).unwrap_err();
    assert!(matches!(unwritten, super::writing::Unwritten::Value(_)));
    assert!(buffer.is_empty());
}

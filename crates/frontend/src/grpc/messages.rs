//! The messages of one call while they arrive: their bytes are taken from the budget before anything
//! decodes them, and compressed ones are decompressed within it.
//!
//! Knows how messages are framed; what is in them is decoded behind this.

use super::status::{status, too_large};
use crate::arriving::{Arriving, BodyLimits, Interrupted};
use crate::budget::HeldBytes;
use crate::coding::Coding;
use crate::error::InferError;
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use hyper::body::{Body, Frame};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::task::JoinHandle;
use tonic::Status;

/// A flag that says whether the message is compressed, and its length in four bytes.
const PREFIX: usize = 5;

/// How much memory is set aside at once for a compressed message that says that it is long.
const AHEAD_MAX: usize = 1 << 20;

/// What the messages of a call hold of the budget, oldest first: decoding does not hand it on.
#[derive(Clone, Debug, Default)]
pub(super) struct MessageLedger(Arc<Mutex<VecDeque<HeldBytes>>>);

impl MessageLedger {
    /// What the oldest message holds; each is asked for once, when it was decoded.
    pub(super) fn next(&self) -> Option<HeldBytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn add(&self, held: HeldBytes) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(held);
    }
}

/// The body of a call as its decoder reads it: no message is compressed.
#[derive(Debug)]
pub(super) struct CallMessages<B> {
    arriving: Arriving<B>,
    /// How compressed messages are compressed, where that is something we know.
    coding: Option<Coding>,
    ledger: MessageLedger,
    /// What has arrived and was not looked at yet.
    piece: Bytes,
    at: At,
    message_max: usize,
}

/// How far the call has been read.
#[derive(Debug)]
enum At {
    /// In the prefix of a message.
    Prefix { bytes: [u8; PREFIX], have: usize },
    /// In a message that is handed on as it arrives.
    Plain { left: usize, length: usize },
    /// In a message that has to be there whole.
    Compressed { data: BytesMut, length: usize },
    /// Behind it.
    Decompressing(JoinHandle<Result<(Vec<u8>, HeldBytes), InferError>>),
}

impl At {
    const START: At = At::Prefix { bytes: [0; PREFIX], have: 0 };
}

impl<B> CallMessages<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    /// Takes decompressing over from the decoder.
    pub(super) fn new(
        head: &mut Parts,
        body: B,
        limits: &BodyLimits,
        message_max: usize,
    ) -> CallMessages<B> {
        let ledger = MessageLedger::default();
        head.extensions.insert(ledger.clone());
        let coding = head.headers.get("grpc-encoding").and_then(|coding| coding.to_str().ok());
        let coding = coding.and_then(|coding| Coding::of_content(coding).ok()).flatten();
        if coding.is_some() {
            head.headers.remove("grpc-encoding");
        }
        let arriving = Arriving::new(body, limits);
        let piece = Bytes::new();
        CallMessages { arriving, coding, ledger, piece, at: At::START, message_max }
    }

    /// Moves on in what has arrived; returns what is to be handed on of it.
    fn advance(&mut self) -> Option<Result<Bytes, Status>> {
        match &mut self.at {
            At::Prefix { bytes, have } => {
                let part = self.piece.len().min(PREFIX - *have);
                bytes[*have..*have + part].copy_from_slice(&self.piece[..part]);
                let (prefix, is_whole) = (*bytes, part == PREFIX);
                *have += part;
                if *have < PREFIX {
                    self.piece.clear();
                    return None;
                }
                if !is_whole {
                    drop(self.piece.split_to(part));
                }
                self.begin(prefix, is_whole)
            }
            At::Plain { .. } => self.pass().map(Ok),
            At::Compressed { .. } => {
                self.gather();
                None
            }
            At::Decompressing(_) => None,
        }
    }

    /// Begins a message with this prefix. `is_ahead`: all of it is still in front of what has arrived,
    /// as is usual, and can be handed on with what follows.
    fn begin(&mut self, prefix: [u8; PREFIX], is_ahead: bool) -> Option<Result<Bytes, Status>> {
        let [flag, length @ ..] = prefix;
        let length = u32::from_be_bytes(length) as usize;
        if length > self.message_max {
            return Some(Err(too_large(self.size_max())));
        }
        if flag == 1 && self.coding.is_some() {
            if is_ahead {
                drop(self.piece.split_to(PREFIX));
            }
            let data = BytesMut::with_capacity(length.min(AHEAD_MAX));
            self.at = At::Compressed { data, length };
            self.gather();
            return None;
        }
        if is_ahead {
            self.at = At::Plain { left: PREFIX + length, length };
            return self.pass().map(Ok);
        }
        self.at = At::Plain { left: length, length };
        self.end_plain();
        Some(Ok(Bytes::copy_from_slice(&prefix)))
    }

    /// Hands on what is there of a plain message.
    fn pass(&mut self) -> Option<Bytes> {
        let At::Plain { left, .. } = &mut self.at else { return None };
        let part = self.piece.split_to(self.piece.len().min(*left));
        *left -= part.len();
        self.end_plain();
        Some(part)
    }

    fn end_plain(&mut self) {
        if let At::Plain { left: 0, length } = self.at {
            let held = self.arriving.held().split((PREFIX + length) as u64);
            self.ledger.add(held);
            self.at = At::START;
        }
    }

    /// Keeps what is there of a compressed message, and has it decompressed once it is whole.
    fn gather(&mut self) {
        let (At::Compressed { data, length }, Some(coding)) = (&mut self.at, self.coding) else {
            return;
        };
        data.extend_from_slice(&self.piece.split_to(self.piece.len().min(*length - data.len())));
        if data.len() < *length {
            return;
        }
        let (data, length) = (std::mem::take(data).freeze(), *length);
        let mut held = self.arriving.held().split((PREFIX + length) as u64);
        let limit = self.message_max;
        self.at = At::Decompressing(tokio::task::spawn_blocking(move || {
            let mut plain = vec![0; PREFIX];
            coding.decompress(&data, limit, &mut held, &mut plain)?;
            drop(data);
            held.resize(plain.len())?;
            Ok((plain, held))
        }));
    }

    /// A message that was decompressed, as if it had come that way.
    fn plain(&mut self, mut message: Vec<u8>, held: HeldBytes) -> Result<Bytes, Status> {
        let length =
            u32::try_from(message.len() - PREFIX).map_err(|_| too_large(self.size_max()))?;
        message[1..PREFIX].copy_from_slice(&length.to_be_bytes());
        self.ledger.add(held);
        self.at = At::START;
        Ok(Bytes::from(message))
    }

    fn size_max(&self) -> usize {
        self.arriving.size_max()
    }

    /// Whether the client has begun a message and not ended it.
    fn is_mid_message(&self) -> bool {
        !matches!(self.at, At::Prefix { have: 0, .. })
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            if let At::Decompressing(job) = &mut self.at {
                let done = ready!(Pin::new(job).poll(context));
                let done =
                    done.unwrap_or_else(|_| Err(InferError::Unavailable(STOPPED.to_owned())));
                let plain = done.map_err(|error| status(&error));
                let plain = plain.and_then(|(message, held)| self.plain(message, held));
                return Poll::Ready(Some(plain));
            }
            if self.piece.is_empty() {
                let is_due = self.is_mid_message();
                match ready!(self.arriving.poll_piece(context, is_due)) {
                    None => return Poll::Ready(None),
                    Some(Ok(piece)) => self.piece = piece,
                    Some(Err(Interrupted::Refused(error))) => {
                        return Poll::Ready(Some(Err(status(&error))));
                    }
                    Some(Err(Interrupted::Broken(error))) => {
                        return Poll::Ready(Some(Err(Status::from_error(Box::new(error)))));
                    }
                }
            }
            if let Some(part) = self.advance() {
                return Poll::Ready(Some(part));
            }
        }
    }
}

/// Why work on a thread that may block is not done.
const STOPPED: &str = "the server is shutting down";

impl<B> Body for CallMessages<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.poll_next(context).map(|next| next.map(|part| part.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::ByteBudget;
    use http_body_util::{BodyExt, StreamBody};
    use proptest::prelude::*;
    use std::convert::Infallible;
    use std::time::Duration;

    const MESSAGE_MAX: usize = 1 << 20;

    fn framed(flag: u8, data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        [&[flag], length.as_slice(), data].concat()
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        let source = flate2::read::GzEncoder::new(data, flate2::Compression::fast());
        std::io::copy(&mut { source }, &mut packed).unwrap();
        packed
    }

    /// Reads a call that comes in pieces of these lengths, in turn, and what its messages hold.
    fn read(
        sent: &[u8],
        lengths: &[usize],
        budget: &Arc<ByteBudget>,
    ) -> (Result<Vec<u8>, Status>, Vec<u64>) {
        let (mut pieces, mut rest, mut lengths) = (Vec::new(), sent, lengths.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((*lengths.next().unwrap()).min(rest.len()));
            pieces.push(Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))));
            rest = after;
        }
        let request = http::Request::builder().header("grpc-encoding", "gzip").body(());
        let mut head = request.unwrap().into_parts().0;
        let timeout = Duration::from_secs(60);
        let limits =
            BodyLimits { budget: Arc::clone(budget), size_max: MESSAGE_MAX, timeout, arena: None };
        let body = StreamBody::new(tokio_stream::iter(pieces));
        let messages = CallMessages::new(&mut head, body, &limits, MESSAGE_MAX);
        assert!(head.headers.is_empty());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let read = runtime.block_on(messages.collect());
        let ledger: &MessageLedger = head.extensions.get().unwrap();
        let held = std::iter::from_fn(|| ledger.next()).map(|held| held.bytes()).collect();
        (read.map(|read| read.to_bytes().to_vec()), held)
    }

    proptest! {
        #[test]
        fn messages_are_the_same_however_they_are_cut_and_packed(
            messages in prop::collection::vec(
                (any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 0..6),
            lengths in prop::collection::vec(1usize..30, 1..5),
        ) {
            let sent = messages.iter().flat_map(|(is_packed, data)| {
                if *is_packed { framed(1, &gzip(data)) } else { framed(0, data) }
            });
            let plain: Vec<u8> = messages.iter().flat_map(|(_, data)| framed(0, data)).collect();
            let budget = ByteBudget::new(1 << 20);
            let (read, held) = read(&sent.collect::<Vec<_>>(), &lengths, &budget);
            prop_assert_eq!(read.unwrap(), plain);
            let expected = messages.iter().map(|(_, data)| (PREFIX + data.len()) as u64);
            prop_assert_eq!(held, expected.collect::<Vec<_>>());
            prop_assert_eq!(budget.held(), 0);
        }

        #[test]
        fn any_bytes_are_read_or_refused(sent in prop::collection::vec(any::<u8>(), 0..60)) {
            let budget = ByteBudget::new(1 << 20);
            let _ = read(&sent, &[7], &budget);
            prop_assert_eq!(budget.held(), 0);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let bomb = framed(1, &gzip(&vec![0; MESSAGE_MAX]));
        let long = framed(0, &vec![0; MESSAGE_MAX + 1]);
        let half = framed(0, &vec![0; MESSAGE_MAX / 2]);
        for (what, sent, room, part) in [
            ("decompressed", &bomb, MESSAGE_MAX / 2, "request_bytes_max_mib"),
            ("as it arrives", &half, MESSAGE_MAX / 4, "request_bytes_max_mib"),
            ("over the limit", &long, MESSAGE_MAX * 4, "body_max_mib"),
            ("over it when packed", &framed(1, &long), MESSAGE_MAX * 4, "body_max_mib"),
        ] {
            let budget = ByteBudget::new(room);
            let status = read(sent, &[1 << 14], &budget).0.unwrap_err();
            assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{what}: {status}");
            assert!(status.message().contains(part), "{what}: {status}");
            assert_eq!(budget.held(), 0, "{what}");
        }
        let budget = ByteBudget::new(MESSAGE_MAX * 4);
        assert!(read(&bomb, &[100], &budget).0.is_ok());
    }
}

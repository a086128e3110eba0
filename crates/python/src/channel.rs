//! Messages to and from a Python process, with descriptors beside them, over the socket that both
//! have: a length and JSON.

use crate::message::{Answered, Ask};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The longest answer. Tensors do not travel this way, and the process cuts its texts.
const ANSWER_MAX: usize = 4 << 20;
/// The most descriptors that come along with one read. The process makes few, and ever larger, arenas.
const DESCRIPTORS_MAX: usize = 16;
const ROOM: usize = rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX));
const READ: usize = 1 << 13;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// The process has closed its end, or has ended.
    #[error("it closed its socket")]
    Closed,
    /// It did not answer in time.
    #[error("it did not answer in time")]
    Late,
    /// What came is no answer.
    #[error("what it sent is no answer: {0}")]
    Garbled(String),
}

impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> NoAnswer {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => NoAnswer::Late,
            _ => NoAnswer::Closed,
        }
    }
}

/// The server's end.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: UnixStream,
    read: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
    frame: Vec<u8>,
}

impl Channel {
    pub(crate) fn new(socket: UnixStream) -> Channel {
        Channel { socket, read: Vec::new(), descriptors: VecDeque::new(), frame: Vec::new() }
    }

    /// Asks something, with a descriptor where there is one. What the process does not take within
    /// the bound is not sent.
    pub(crate) fn send(
        &mut self,
        ask: &Ask<'_>,
        descriptor: Option<OwnedFd>,
        bound: Duration,
    ) -> Result<(), NoAnswer> {
        self.frame.clear();
        self.frame.extend_from_slice(&[0; 4]);
        serde_json::to_writer(&mut self.frame, ask)
            .map_err(|error| NoAnswer::Garbled(error.to_string()))?;
        let length = u32::try_from(self.frame.len() - 4);
        let length = length.map_err(|error| NoAnswer::Garbled(error.to_string()))?;
        self.frame[..4].copy_from_slice(&length.to_le_bytes());
        self.socket.set_write_timeout(Some(bound.max(Duration::from_millis(1))))?;
        let mut sent = 0;
        if let Some(descriptor) = descriptor {
            let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut beside = SendAncillaryBuffer::new(&mut room);
            let descriptors = [descriptor.as_fd()];
            beside.push(SendAncillaryMessage::ScmRights(&descriptors));
            let (pieces, flags) = ([IoSlice::new(&self.frame)], SendFlags::NOSIGNAL);
            sent = rustix::net::sendmsg(self.socket.as_fd(), &pieces, &mut beside, flags)
                .map_err(io::Error::from)?;
        }
        Ok(self.socket.write_all(&self.frame[sent..])?)
    }

    /// Waits for an answer.
    pub(crate) fn receive(&mut self, bound: Duration) -> Result<Answered, NoAnswer> {
        let until = Instant::now() + bound;
        loop {
            if let Some(answered) = self.taken()? {
                return Ok(answered);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NoAnswer::Late);
            }
            self.read_more(left)?;
        }
    }

    /// Tells the process that there will be no more.
    pub(crate) fn close(&self) {
        // It may have ended.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// The next of the descriptors that have come along.
    pub(crate) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }

    fn read_more(&mut self, bound: Duration) -> Result<(), NoAnswer> {
        self.socket.set_read_timeout(Some(bound.max(Duration::from_millis(1))))?;
        let begin = self.read.len();
        self.read.resize(begin + READ, 0);
        let mut room = [MaybeUninit::uninit(); ROOM];
        let mut beside = RecvAncillaryBuffer::new(&mut room);
        let mut into = [IoSliceMut::new(&mut self.read[begin..])];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = rustix::net::recvmsg(self.socket.as_fd(), &mut into, &mut beside, flags);
        let bytes = got.as_ref().map_or(0, |got| got.bytes);
        self.read.truncate(begin + bytes);
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        match got {
            Ok(_) if bytes == 0 => Err(NoAnswer::Closed),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    fn taken(&mut self) -> Result<Option<Answered>, NoAnswer> {
        let Some((length, rest)) = self.read.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > ANSWER_MAX {
            return Err(NoAnswer::Garbled(format!("it would be {length} bytes long")));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let answered = serde_json::from_slice(body);
        self.read.drain(..4 + length);
        answered.map(Some).map_err(|error| NoAnswer::Garbled(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Said;

    fn pair() -> (Channel, UnixStream) {
        let (own, other) = UnixStream::pair().unwrap();
        (Channel::new(own), other)
    }

    fn frame(text: &str) -> Vec<u8> {
        [&u32::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes()].concat()
    }

    #[test]
    fn answers_are_read_in_whatever_pieces_they_come() {
        let (mut channel, mut other) = pair();
        let both = [frame(r#"{"error":"one"}"#), frame(r#"{"unloaded":null}"#)].concat();
        let writer = std::thread::spawn(move || {
            both.chunks(3).for_each(|piece| other.write_all(piece).unwrap());
            other
        });
        let minute = Duration::from_secs(60);
        let first = channel.receive(minute).unwrap();
        assert!(matches!(first.said, Said::Error(text) if text == "one"));
        assert!(matches!(channel.receive(minute).unwrap().said, Said::Unloaded(())));
        let other = writer.join().unwrap();
        let late = channel.receive(Duration::from_millis(5));
        assert!(matches!(late, Err(NoAnswer::Late)));
        drop(other);
        assert!(matches!(channel.receive(minute), Err(NoAnswer::Closed)));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for bytes in [frame("{}"), frame("[1"), frame(r#"{"ran":{}}"#), vec![255; 8]] {
            let (mut channel, mut other) = pair();
            other.write_all(&bytes).unwrap();
            let answer = channel.receive(Duration::from_secs(60));
            assert!(matches!(answer, Err(NoAnswer::Garbled(_))), "{bytes:?}");
        }
    }
}

//! A socket of this host, over which each end can pass the other one descriptor along with its first
//! bytes.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Room for one descriptor. The system closes what a peer passes beyond it.
const ROOM: usize = rustix::cmsg_space!(ScmRights(1));

#[derive(Debug)]
pub(crate) struct UnixSocket {
    pub(crate) stream: UnixStream,
    /// Goes along with the next bytes.
    to_pass: Mutex<Option<OwnedFd>>,
    has_to_pass: AtomicBool,
    /// Came along with what was read.
    passed: Mutex<Option<OwnedFd>>,
    /// Nothing more is taken that comes along.
    is_taken: AtomicBool,
}

impl UnixSocket {
    pub(crate) fn new(stream: UnixStream) -> UnixSocket {
        UnixSocket {
            stream,
            to_pass: Mutex::default(),
            has_to_pass: AtomicBool::new(false),
            passed: Mutex::default(),
            is_taken: AtomicBool::new(false),
        }
    }

    /// Passes this along with the next bytes.
    pub(crate) fn pass(&self, descriptor: OwnedFd) {
        *self.to_pass.lock().unwrap_or_else(PoisonError::into_inner) = Some(descriptor);
        self.has_to_pass.store(true, Ordering::Release);
    }

    /// What came along with the bytes so far. From now on the system closes what comes.
    pub(crate) fn take_passed(&self) -> Option<OwnedFd> {
        self.is_taken.store(true, Ordering::Release);
        self.passed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        if self.is_taken.load(Ordering::Acquire) {
            return self.stream.try_read(into);
        }
        self.stream.try_io(Interest::READABLE, || {
            let mut room = [MaybeUninit::uninit(); ROOM];
            let mut beside = RecvAncillaryBuffer::new(&mut room);
            let flags = RecvFlags::CMSG_CLOEXEC;
            let mut into = [IoSliceMut::new(into)];
            let read = rustix::net::recvmsg(self.stream.as_fd(), &mut into, &mut beside, flags)?;
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
                    // The first counts; what is dropped is closed.
                    descriptors.for_each(|descriptor| _ = passed.get_or_insert(descriptor));
                }
            }
            Ok(read.bytes)
        })
    }

    pub(crate) fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.has_to_pass.load(Ordering::Acquire) {
            return self.stream.try_write_vectored(pieces);
        }
        self.stream.try_io(Interest::WRITABLE, || {
            let mut to_pass = self.to_pass.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(descriptor) = &*to_pass else {
                return Err(io::ErrorKind::WouldBlock.into());
            };
            let mut room = [MaybeUninit::uninit(); ROOM];
            let mut beside = SendAncillaryBuffer::new(&mut room);
            let descriptors = [descriptor.as_fd()];
            beside.push(SendAncillaryMessage::ScmRights(&descriptors));
            let flags = SendFlags::NOSIGNAL;
            let sent = rustix::net::sendmsg(self.stream.as_fd(), pieces, &mut beside, flags)?;
            *to_pass = None;
            self.has_to_pass.store(false, Ordering::Release);
            Ok(sent)
        })
    }
}

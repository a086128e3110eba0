//! One end of a link, once both have said who they are.

use super::error::LinkError;
use super::hello::{Hello, Terms};
use super::reading::Reading;
use super::receiving::LinkReceiver;
use super::sending::{LinkSender, Shared};
use super::settings::LinkSettings;
use super::stream::Stream;
use super::task;
use crate::carrier::shared_memory::PeerArena;
use crate::codec::Frame;
use std::sync::Arc;

/// One end of a link, after the hello.
#[derive(Debug)]
pub struct Link<In, Out> {
    /// Who is at the other end.
    pub peer: Hello,
    /// Sends to it.
    pub sender: LinkSender<Out>,
    /// Receives from it. The link lasts as long as this.
    pub receiver: LinkReceiver<In>,
}

/// A stream whose hellos have been said.
pub(super) struct Greeted {
    pub(super) stream: Stream,
    pub(super) reading: Reading,
    pub(super) peer: Hello,
    pub(super) terms: Terms,
    /// Where the peer has tensors.
    pub(super) arena: Option<PeerArena>,
}

impl Greeted {
    /// The link over it; `own` is said first, where it has not been.
    pub(super) fn link<In: Frame, Out: Frame>(
        mut self,
        settings: &LinkSettings,
        own: Option<&Hello>,
    ) -> Link<In, Out> {
        self.reading.grow();
        let shared = Arc::new(Shared::new(self.stream, settings, self.terms.frame_max, self.arena));
        if let Some(own) = own {
            let terms = settings.terms(shared.stream.socket());
            // Without a descriptor to pass the peer finds no memory, and says so.
            let _ = settings.pass_arena(shared.stream.socket());
            // The first message of a link has room, and a hello can be written.
            let _ = shared.send(|to| own.encode(terms, to));
        }
        tokio::spawn(task::run(Arc::clone(&shared), settings.heartbeat));
        let silence_max = settings.silence_max(self.terms);
        let sender = LinkSender::new(Arc::clone(&shared));
        let receiver = LinkReceiver::new(shared, self.reading, settings.frame_max, silence_max);
        Link { peer: self.peer, sender, receiver }
    }
}

/// The memory that a peer has passed along with its hello, where it says that it does.
pub(super) fn passed_arena(stream: &Stream, terms: Terms) -> Result<Option<PeerArena>, LinkError> {
    let passed = stream.socket().take_passed();
    if terms.arena == 0 {
        return Ok(None);
    }
    let descriptor = passed.ok_or(LinkError::Memory("no memory, and said so".to_owned()))?;
    let arena = PeerArena::open(&descriptor, terms.arena);
    Ok(Some(arena.map_err(|problem| LinkError::Memory(problem.to_string()))?))
}

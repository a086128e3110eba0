//! One end of a link, once both have said who they are.

use super::hello::{Hello, Terms};
use super::reading::Reading;
use super::receiving::LinkReceiver;
use super::sending::{LinkSender, Shared};
use super::settings::LinkSettings;
use super::stream::Stream;
use super::task;
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
}

impl Greeted {
    /// The link over it; `own` is said first, where it has not been.
    pub(super) fn link<In: Frame, Out: Frame>(
        mut self,
        settings: &LinkSettings,
        own: Option<&Hello>,
    ) -> Link<In, Out> {
        self.reading.grow();
        let shared = Arc::new(Shared::new(self.stream, settings, self.terms.frame_max));
        if let Some(own) = own {
            // The first message of a link has room, and a hello can be written.
            let _ = shared.send(|to| own.encode(settings.terms(), to));
        }
        tokio::spawn(task::run(Arc::clone(&shared), settings.heartbeat));
        let silence_max = settings.silence_max(self.terms);
        let sender = LinkSender::new(Arc::clone(&shared));
        let receiver = LinkReceiver::new(shared, self.reading, settings.frame_max, silence_max);
        Link { peer: self.peer, sender, receiver }
    }
}

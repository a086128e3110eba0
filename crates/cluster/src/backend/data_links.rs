//! The links to the frontends that there are.

use std::collections::{HashMap, HashSet};
use symphony_core::{Origin, RequestId};
use symphony_wire::carrier::link::LinkSender;
use symphony_wire::message::link::{BackendToFrontend, FrontendAddress};
use tokio::task::AbortHandle;

/// The links to the frontends that there are.
#[derive(Debug, Default)]
pub(crate) struct DataLinks {
    pub(crate) frontends: HashMap<Origin, DataLink>,
    /// As the scheduler said last.
    pub(crate) known: Vec<FrontendAddress>,
}

#[derive(Debug)]
pub(crate) struct DataLink {
    pub(crate) task: AbortHandle,
    pub(crate) sender: Option<LinkSender<BackendToFrontend>>,
    /// Outcomes that came while there was no link.
    pub(crate) unsent: Vec<BackendToFrontend>,
    /// Requests that ran when the frontend asked for them: what is known of their outcomes by an
    /// earlier link may be lost. Those that get one by this link are not among them any more.
    pub(crate) awaited: HashSet<u64>,
}

/// Bound on outcomes that wait for a link to their frontend.
const UNSENT_MAX: usize = 1024;

impl Drop for DataLink {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(sender) = &self.sender {
            sender.close("the frontend is not in the pool any more");
        }
    }
}

impl DataLinks {
    /// The way to a frontend, if there is one now.
    pub(crate) fn sender(&self, origin: Origin) -> Option<LinkSender<BackendToFrontend>> {
        self.frontends.get(&origin)?.sender.clone()
    }

    /// The way to a frontend other than this one. Where there is none, an outcome waits for it, as long
    /// as the frontend is in the pool.
    pub(crate) fn sender_or_keep(
        &mut self,
        id: RequestId,
        tried: Option<&LinkSender<BackendToFrontend>>,
        outcome: &BackendToFrontend,
    ) -> Option<LinkSender<BackendToFrontend>> {
        let link = self.frontends.get_mut(&id.origin())?;
        let sender = link.sender.as_ref();
        let other = sender.filter(|own| tried.is_none_or(|tried| !tried.is_same(own))).cloned();
        if other.is_none() && link.unsent.len() < UNSENT_MAX {
            link.unsent.push(outcome.clone());
        }
        link.awaited.remove(&id.number());
        other
    }

    /// Of these requests, whose batch has ended, those whose outcomes are still awaited: they were lost
    /// with a link.
    pub(crate) fn take_awaited(&mut self, ended: &[RequestId]) -> Vec<RequestId> {
        if self.frontends.values().all(|link| link.awaited.is_empty()) {
            return Vec::new();
        }
        let is_awaited = |id: &&RequestId| {
            let link = self.frontends.get_mut(&id.origin());
            link.is_some_and(|link| link.awaited.remove(&id.number()))
        };
        ended.iter().filter(is_awaited).copied().collect()
    }

    /// Whether nobody waits for a request any more.
    pub(crate) fn is_abandoned(&self, id: RequestId) -> bool {
        !self.frontends.contains_key(&id.origin())
    }
}

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
    /// Requests whose clients have left since they were fetched.
    pub(crate) left: HashSet<u64>,
    /// Outcomes that came while there was no link.
    pub(crate) unsent: Vec<BackendToFrontend>,
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
        origin: Origin,
        tried: Option<&LinkSender<BackendToFrontend>>,
        outcome: &BackendToFrontend,
    ) -> Option<LinkSender<BackendToFrontend>> {
        let link = self.frontends.get_mut(&origin)?;
        let sender = link.sender.as_ref();
        let other = sender.filter(|own| tried.is_none_or(|tried| !tried.is_same(own))).cloned();
        if other.is_none() && link.unsent.len() < UNSENT_MAX {
            link.unsent.push(outcome.clone());
        }
        other
    }

    /// Whether nobody waits for a request any more.
    pub(crate) fn is_abandoned(&self, id: RequestId) -> bool {
        let link = self.frontends.get(&id.origin());
        link.is_none_or(|link| link.left.contains(&id.number()))
    }
}

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
}

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

    /// Whether nobody waits for a request any more.
    pub(crate) fn is_abandoned(&self, id: RequestId) -> bool {
        let link = self.frontends.get(&id.origin());
        link.is_none_or(|link| link.left.contains(&id.number()))
    }
}

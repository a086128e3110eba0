//! A scheduler that has the lease, as its links see it.

use super::effects::SentBatches;
use super::members::Members;
use super::routes::Routes;
use super::streams::Streams;
use std::sync::Arc;
use symphony_wire::carrier::in_process::{RepositoryPort, SchedulerPort, SharedCatalog};
use symphony_wire::carrier::link::{LinkReceiver, RefusalLog};
use symphony_wire::clock::Clock;
use symphony_wire::codec::Frame;
use tokio::sync::watch;

/// What the links of a scheduler that has the lease share.
#[derive(Debug)]
pub(crate) struct Acting {
    pub(crate) epoch: u64,
    pub(crate) clock: Clock,
    pub(crate) port: SchedulerPort,
    pub(crate) catalog: SharedCatalog,
    pub(crate) repository: RepositoryPort,
    pub(crate) members: Members,
    pub(crate) routes: Arc<Routes>,
    pub(crate) effects: Arc<SentBatches>,
    pub(crate) streams: Streams,
    pub(crate) refusals: RefusalLog,
}

/// The scheduler that has the lease, as soon as this process has it. The link is read meanwhile, so that
/// it stays alive; it ends the wait by its own end.
pub(crate) async fn until_acting<In: Frame>(
    receiver: &mut LinkReceiver<In>,
    standing_by: &mut watch::Receiver<Option<Arc<Acting>>>,
) -> Option<Arc<Acting>> {
    loop {
        tokio::select! {
            // What is said to a scheduler that is active already is for it.
            biased;
            acting = standing_by.wait_for(Option::is_some) => {
                return acting.ok().and_then(|acting| acting.clone());
            }
            // Nothing is said to a standby that counts later.
            received = receiver.drain(drop) => {
                received.ok()?;
            }
        }
    }
}

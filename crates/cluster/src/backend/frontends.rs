//! The links to the frontends: inputs come by them, outcomes go.

use super::data_links::DataLink;
use super::fetching::ToFetch;
use super::shared::Shared;
use crate::dial::{Dialled, Ended, keep};
use crate::lock::lock;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use symphony_core::{Origin, RequestId};
use symphony_wire::carrier::link::{Endpoint, Link, LinkPurpose};
use symphony_wire::clock;
use symphony_wire::message::link::{BackendToFrontend, Fetch, FrontendAddress, FrontendToBackend};
use tokio::task::AbortHandle;

/// Connects to the frontends that are new, and lets go of those that are gone.
pub(crate) fn connect_to(shared: &Arc<Shared>, all: Vec<FrontendAddress>) {
    let mut data = lock(&shared.data);
    let is_there = |origin: &Origin| all.iter().any(|frontend| frontend.origin == *origin);
    data.frontends.retain(|origin, _| is_there(origin));
    for frontend in &all {
        if data.frontends.contains_key(&frontend.origin) {
            continue;
        }
        let Some(to) = reachable(&frontend.addresses) else {
            tracing::error!(
                frontend = %frontend.name,
                "no inputs can be fetched from the frontend: it names no usable address ({:?})",
                frontend.addresses
            );
            continue;
        };
        let task = dial(Arc::clone(shared), frontend.origin, to);
        let link = DataLink { task, sender: None, unsent: Vec::new(), awaited: HashSet::new() };
        data.frontends.insert(frontend.origin, link);
    }
    let origins: HashSet<_> = all.iter().map(|frontend| frontend.origin).collect();
    data.known = all;
    drop(data);
    // Batches run without the requests of frontends that are gone.
    let ready = lock(&shared.fetching).only_from(|origin| origins.contains(&origin));
    ready.into_iter().for_each(|batch| shared.run_batch(batch));
}

/// Connects to all frontends anew: this backend's next life has begun.
pub(crate) fn connect_again(shared: &Arc<Shared>) {
    let known = {
        let mut data = lock(&shared.data);
        data.frontends.clear();
        std::mem::take(&mut data.known)
    };
    connect_to(shared, known);
}

/// The first address that can be used from here: a socket in the file system only where it is.
fn reachable(addresses: &[String]) -> Option<Endpoint> {
    let mut endpoints = addresses.iter().filter_map(|address| address.parse::<Endpoint>().ok());
    let is_here = |endpoint: &Endpoint| match endpoint {
        Endpoint::Unix(path) => path.exists(),
        Endpoint::Tcp(_) => true,
    };
    endpoints.find(is_here)
}

fn dial(shared: Arc<Shared>, origin: Origin, to: Endpoint) -> AbortHandle {
    let settings = shared.config.links.clone();
    let dialled = Dialled { to, settings, what: "frontend" };
    let hello = {
        let shared = Arc::clone(&shared);
        move || shared.hello(LinkPurpose::Data)
    };
    let each = move |link| serve(link, origin, Arc::clone(&shared));
    tokio::spawn(keep(dialled, hello, each)).abort_handle()
}

async fn serve(
    link: Link<FrontendToBackend, BackendToFrontend>,
    origin: Origin,
    shared: Arc<Shared>,
) -> Ended {
    let Link { sender, mut receiver, .. } = link;
    let mut unsent = Vec::new();
    if let Some(link) = lock(&shared.data).frontends.get_mut(&origin) {
        link.sender = Some(sender.clone());
        link.awaited.clear();
        unsent = std::mem::take(&mut link.unsent);
    }
    // The end of the link is noticed where it is read.
    let _ = sender.send_all(&unsent);
    // What was to be fetched while there was no link.
    let missing = lock(&shared.fetching).missing_from(origin);
    missing.iter().for_each(|wanted| shared.fetch(wanted));
    let ended = loop {
        if let Err(error) = receiver.drain(|message| shared.arrived(origin, message.message)).await
        {
            break error;
        }
    };
    tracing::debug!(%origin, "the link to the frontend has ended: {ended}");
    let mut data = lock(&shared.data);
    if let Some(link) = data.frontends.get_mut(&origin) {
        link.sender.take_if(|own| own.is_same(&sender));
    }
    Ended::Used
}

impl Shared {
    /// Asks a frontend for inputs, if there is a link to it; it is asked again when there is one.
    pub(crate) fn fetch(&self, wanted: &ToFetch) {
        let Some(sender) = lock(&self.data).sender(wanted.origin) else { return };
        let fetch = Fetch {
            epoch: wanted.key.epoch,
            batch: wanted.key.batch,
            numbers: wanted.numbers.clone(),
        };
        if let Err(error) = sender.send(&BackendToFrontend::Fetch(fetch)) {
            tracing::warn!(origin = %wanted.origin, "inputs are not asked for: {error}");
        }
    }

    /// A frontend has connected again, and waits for the outcomes of these requests. What runs here may
    /// have had its outcome already, by the link before: it is looked at again when its batch has ended.
    fn look_for(&self, origin: Origin, numbers: Vec<u64>) {
        let ids = numbers.into_iter().map(|number| RequestId::new(origin, number));
        let gone: Vec<_> = {
            let (mut data, sent) = (lock(&self.data), lock(&self.sent));
            let Some(link) = data.frontends.get_mut(&origin) else { return };
            let (here, gone): (Vec<_>, Vec<_>) = ids.partition(|id| sent.has(*id));
            link.awaited.extend(here.iter().map(|id| id.number()));
            gone
        };
        self.tell_not_run(&gone);
    }

    /// Tells frontends that these requests have no outcome here. Without a link they ask once there is
    /// one.
    pub(crate) fn tell_not_run(&self, requests: &[RequestId]) {
        for id in requests {
            let Some(sender) = lock(&self.data).sender(id.origin()) else { continue };
            if let Err(error) = sender.send(&BackendToFrontend::NotRun { number: id.number() }) {
                // It asks again by its next link.
                sender.close(&error.to_string());
            }
        }
    }

    fn arrived(&self, origin: Origin, message: FrontendToBackend) {
        let (number, inputs) = match message {
            FrontendToBackend::Inputs { number, inputs } => (number, Some(inputs)),
            FrontendToBackend::NoInputs { number } => (number, None),
            FrontendToBackend::Awaited { numbers } => return self.look_for(origin, numbers),
        };
        let ready = lock(&self.fetching).arrived(RequestId::new(origin, number), inputs);
        if let Some(batch) = ready {
            self.run_batch(batch);
        }
    }
}

/// Starts the batches whose inputs do not come in time.
pub(crate) async fn start_overdue(shared: Arc<Shared>) {
    loop {
        let next = lock(&shared.fetching).next();
        let waited = match next {
            None => {
                shared.waits.notified().await;
                continue;
            }
            Some(latest) => clock::duration(latest.since(shared.clock.now())),
        };
        tokio::select! {
            () = tokio::time::sleep(waited.max(Duration::from_millis(1))) => {}
            () = shared.waits.notified() => continue,
        }
        let overdue = lock(&shared.fetching).overdue(shared.clock.now());
        for batch in overdue {
            tracing::warn!(batch = batch.key.batch.0, "inputs are missing: the batch runs without");
            shared.run_batch(batch);
        }
    }
}

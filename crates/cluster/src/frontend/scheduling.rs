//! What a frontend knows of the schedulers: which is active, and what it has to be told. Requests that
//! come while none is active wait, and are submitted to the next.

use super::names::LaneNames;
use super::outstanding::Outstanding;
use std::collections::{BTreeMap, BTreeSet};
use symphony_core::{ModelId, Request, RequestId, Time};
use symphony_wire::carrier::in_process::{Catalog, SharedCatalog};
use symphony_wire::carrier::link::{LinkSender, NotAllSent, SendError};
use symphony_wire::message::link::FrontendToScheduler;
use symphony_wire::message::{Cancel, Submit};

/// What is known of the schedulers.
#[derive(Debug, Default)]
pub(crate) struct Scheduling {
    active: Option<Active>,
    /// Numbers links.
    links: u64,
    outstanding: Outstanding,
    names: LaneNames,
    /// The sizes that lanes were given to.
    sizes: BTreeMap<ModelId, u64>,
    /// What is sent together next.
    burst: Vec<FrontendToScheduler>,
}

/// What became of a scheduler's word that it is in charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Welcomed {
    /// Another one of a higher epoch is.
    Refused,
    /// It is, and none was active.
    First,
    /// It is, in place of the one that was active.
    Replaced,
}

/// The scheduler that is active.
#[derive(Debug)]
pub(crate) struct Active {
    /// The number of its link.
    pub(crate) link: u64,
    pub(crate) epoch: u64,
    pub(crate) sender: LinkSender<FrontendToScheduler>,
}

impl Scheduling {
    /// The epoch of the scheduler that is active.
    pub(crate) fn active_epoch(&self) -> Option<u64> {
        self.active.as_ref().map(|active| active.epoch)
    }

    /// A number for a link.
    pub(crate) fn next_link(&mut self) -> u64 {
        self.links += 1;
        self.links
    }

    /// Whether the scheduler at the end of this link is active.
    pub(crate) fn is_active(&self, link: u64) -> bool {
        self.active.as_ref().is_some_and(|active| active.link == link)
    }

    /// A link has ended. Returns whether its scheduler was active.
    pub(crate) fn link_ended(&mut self, link: u64) -> bool {
        self.active.take_if(|active| active.link == link).is_some()
    }

    /// A scheduler says that it is in charge. If it is, whoever was active before is not any more.
    pub(crate) fn welcome(&mut self, epoch: u64) -> Welcomed {
        if !self.outstanding.allegiance().welcome(epoch) {
            return Welcomed::Refused;
        }
        match self.active.take() {
            Some(_) => Welcomed::Replaced,
            None => Welcomed::First,
        }
    }

    /// A catalog of the scheduler that is active, which has changed.
    pub(crate) fn name(&mut self, catalog: &Catalog) {
        let waiting = self.outstanding.lanes();
        self.names.retain(|lane| waiting.contains(lane));
        self.names.add(catalog);
        self.keep_sizes(catalog);
    }

    pub(crate) fn outstanding(&mut self) -> &mut Outstanding {
        &mut self.outstanding
    }

    /// A request was admitted. It goes with the next burst.
    pub(crate) fn submit(&mut self, now: Time, model: ModelId, request: Request) {
        self.outstanding.submitted(model, request);
        if self.active.is_some() {
            self.burst.push(FrontendToScheduler::Submit(Submit::of(model, &request, now)));
        }
    }

    /// A lane was given to requests of this size. That goes with the next burst.
    pub(crate) fn give_lane(&mut self, lane: ModelId, size: u64) {
        self.sizes.insert(lane, size);
        if self.active.is_some() {
            self.burst.push(FrontendToScheduler::LaneSize { lane, size });
        }
    }

    /// The client of a request has left.
    pub(crate) fn cancel(&mut self, now: Time, model: ModelId, id: RequestId, deadline: Time) {
        self.outstanding.ended(id);
        if self.active.is_some() {
            let budget = deadline.since(now);
            self.burst.push(FrontendToScheduler::Cancel(Cancel { model, id, budget }));
        }
    }

    /// Sends the burst. Returns the requests for which the link has no room.
    pub(crate) fn flush(&mut self) -> Vec<RequestId> {
        let Some(active) = &self.active else { return Vec::new() };
        let sent = match active.sender.send_all(&self.burst) {
            Ok(()) => self.burst.len(),
            // Requests wait for the next scheduler when the link has ended.
            Err(NotAllSent { error: SendError::Closed(_), .. }) => self.burst.len(),
            Err(NotAllSent { sent, error }) => {
                tracing::warn!("requests are refused: {error}");
                sent
            }
        };
        let refused = self.burst.drain(..).skip(sent).filter_map(|message| match message {
            FrontendToScheduler::Submit(submit) => Some(submit.id),
            _ => None,
        });
        let refused: Vec<_> = refused.collect();
        refused.iter().for_each(|id| self.outstanding.ended(*id));
        refused
    }

    /// Sends one message at once. Returns whether there is anybody to send it to.
    pub(crate) fn send(&self, message: &FrontendToScheduler) -> bool {
        self.active.as_ref().is_some_and(|active| active.sender.send(message).is_ok())
    }

    /// Forgets requests that were freed, and tells the scheduler of the sizes that came since.
    pub(crate) fn tell(&mut self, freed: &[RequestId], catalog: &SharedCatalog) {
        freed.iter().for_each(|id| self.outstanding.ended(*id));
        if self.active.is_none() {
            return;
        }
        for model in catalog.load().served() {
            let counts = model.lanes.take_counts();
            if counts.iter().any(|count| *count > 0) {
                self.send(&FrontendToScheduler::SizeCounts { model: model.id, counts });
            }
        }
    }

    /// A scheduler is active from now on: whatever nobody runs is submitted to it, under the names
    /// of its catalog. Returns the requests whose models it does not serve.
    pub(crate) fn activate(
        &mut self,
        now: Time,
        active: Active,
        catalog: &Catalog,
    ) -> Vec<RequestId> {
        self.active = Some(active);
        let mut unknown = Vec::new();
        self.burst.clear();
        // A scheduler that this frontend was cut off from has the lanes of its catalog still.
        self.keep_sizes(catalog);
        let sizes = self.sizes.iter();
        self.burst.extend(sizes.map(|(&lane, &size)| FrontendToScheduler::LaneSize { lane, size }));
        for (model, request) in self.outstanding.welcomed() {
            match self.names.translate(model, catalog) {
                Some(lane) => {
                    self.outstanding.renamed(request.id, lane);
                    let submit = Submit::of(lane, &request, now);
                    self.burst.push(FrontendToScheduler::Submit(submit));
                }
                None => unknown.push(request.id),
            }
        }
        unknown.iter().for_each(|id| self.outstanding.ended(*id));
        self.names = LaneNames::of(catalog);
        unknown
    }

    /// Forgets the sizes of lanes that are not in a catalog.
    fn keep_sizes(&mut self, catalog: &Catalog) {
        let lanes = catalog.served().flat_map(|model| model.lanes.ids()).copied();
        let lanes: BTreeSet<ModelId> = lanes.collect();
        self.sizes.retain(|lane, _| lanes.contains(lane));
    }

    /// Submits requests again that the scheduler does not know of; without one they wait for it.
    pub(crate) fn submit_again(&mut self, now: Time, requests: &[(ModelId, Request)]) {
        if self.active.is_none() {
            return;
        }
        let submits = requests.iter().map(|(model, request)| Submit::of(*model, request, now));
        self.burst.extend(submits.map(FrontendToScheduler::Submit));
    }
}

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
        let model = self.outstanding.ended(id).unwrap_or(model);
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
        for id in &refused {
            self.outstanding.ended(*id);
        }
        refused
    }

    /// Sends one message at once. Returns whether there is anybody to send it to.
    pub(crate) fn send(&self, message: &FrontendToScheduler) -> bool {
        self.active.as_ref().is_some_and(|active| active.sender.send(message).is_ok())
    }

    /// Forgets requests that were freed, and tells the scheduler of the sizes that came since.
    pub(crate) fn tell(&mut self, freed: &[RequestId], catalog: &SharedCatalog) {
        for id in freed {
            self.outstanding.ended(*id);
        }
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
        // Those that run, too: they may have to be submitted later.
        self.outstanding.rename(|lane| self.names.translate(lane, catalog));
        self.names = LaneNames::of(catalog);
        for (lane, request) in self.outstanding.welcomed() {
            if self.names.has(lane) {
                let submit = Submit::of(lane, &request, now);
                self.burst.push(FrontendToScheduler::Submit(submit));
            } else {
                unknown.push(request.id);
            }
        }
        for id in &unknown {
            self.outstanding.ended(*id);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use symphony_core::{Class, Objective, Profile, SizedProfile, Span};
    use symphony_wire::lanes::ModelLanes;
    use symphony_wire::message::ServedModel;
    use symphony_wire::tensor::Signature;

    /// The model `m` alone, by this name.
    fn catalog(id: ModelId) -> Catalog {
        let profile = Profile::linear(Span(1), Span(1), 4).unwrap();
        let model = ServedModel {
            id,
            name: "m".to_owned(),
            version: "1".to_owned(),
            signature: Signature::default(),
            objective: Objective::Slo(Span(9)),
            rows_max: 4,
            queue_max: 9,
            class: Class::High,
            engine: String::new(),
            platform: String::new(),
            profile: profile.clone(),
            configuration: bytes::Bytes::new(),
            lanes: Arc::new(ModelLanes::alone(id, SizedProfile::fixed(1, profile))),
        };
        let models = [("m".to_owned(), Arc::new(model).into())].into();
        Catalog { models, ..Catalog::default() }
    }

    #[test]
    fn names_of_models_that_are_gone_are_kept_while_requests_wait_by_them() {
        let lanes = [0, 1, 2].map(ModelId::first);
        let mut scheduling = Scheduling::default();
        let has = |scheduling: &Scheduling| lanes.map(|lane| scheduling.names.has(lane));
        scheduling.name(&catalog(lanes[0]));
        let id = RequestId::only(5);
        let (arrival, deadline) = (Time(0), Time(9));
        let request = Request { id, arrival, deadline, rows: 1, class: Class::High };
        scheduling.submit(Time(0), lanes[0], request);
        scheduling.give_lane(lanes[0], 7);
        scheduling.name(&catalog(lanes[1]));
        assert_eq!(has(&scheduling), [true, true, false]);
        assert!(scheduling.sizes.is_empty(), "no batch of that lane is planned any more");
        scheduling.cancel(Time(1), lanes[0], id, deadline);
        scheduling.name(&catalog(lanes[2]));
        assert_eq!(has(&scheduling), [false, false, true]);
    }
}

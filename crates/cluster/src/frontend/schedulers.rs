//! The links to the schedulers. Every scheduler has one; that of the highest epoch is active, once its
//! catalog is complete.

use super::outstanding::{LeftBehind, Outstanding};
use super::scheduling::{Active, Welcomed};
use super::shared::Shared;
use crate::dial::Ended;
use crate::receiving::receive;
use std::collections::BTreeMap;
use std::sync::Arc;
use symphony_core::{DropReason, RequestId, Span};
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::{Catalog, ServedVersions};
use symphony_wire::carrier::link::{Link, LinkSender};
use symphony_wire::message::link::{FrontendToScheduler, SchedulerToFrontend};
use symphony_wire::message::{CatalogImage, Outcome, ServedModel};

/// One link, before and after its scheduler is active.
struct SchedulerLink {
    number: u64,
    sender: LinkSender<FrontendToScheduler>,
    /// Of its scheduler, once that has said that it is the one.
    epoch: Option<u64>,
    /// How many accelerators it says serve. It may say so before its catalog makes it the active one,
    /// and does not say it again.
    serving: u32,
    /// It has said what is served.
    was_shown: bool,
}

/// Serves the link to one scheduler until it ends.
pub(crate) async fn serve(
    link: Link<SchedulerToFrontend, FrontendToScheduler>,
    shared: Arc<Shared>,
) -> Ended {
    let Link { peer, sender, mut receiver } = link;
    let number = shared.scheduling().next_link();
    let own = sender.clone();
    let mut link = SchedulerLink { number, sender: own, epoch: None, serving: 0, was_shown: false };
    let take = |message: Timed<_>| shared.take(&mut link, message.message);
    let ended = receive(&sender, &mut receiver, take).await;
    if shared.scheduling().link_ended(number) {
        shared.serving.set(0);
        shared.questions.give_up();
        tracing::warn!(
            scheduler = %peer.name,
            "the link to the active scheduler has ended ({ended}): requests wait for the next"
        );
    }
    if link.was_shown { Ended::Used } else { Ended::Unused(ended) }
}

impl Shared {
    /// Answers requests for which there was no room on the way to the scheduler.
    pub(crate) fn refuse(&self, requests: Vec<RequestId>) {
        for id in requests {
            let (reason, queued) = (DropReason::QueueFull, Span::ZERO);
            let outcome = Outcome::Dropped { reason, queued };
            self.in_flight.settle(id, outcome);
        }
    }

    /// Takes what a scheduler says.
    ///
    /// # Errors
    /// The link is to end; says why.
    fn take(&self, link: &mut SchedulerLink, message: SchedulerToFrontend) -> Result<(), String> {
        if let SchedulerToFrontend::Welcome { epoch } = message {
            return self.welcomed(link, epoch);
        }
        let mut scheduling = self.scheduling();
        let is_obeyed = |epoch| scheduling.outstanding().allegiance().obeys(epoch);
        if !link.epoch.is_some_and(is_obeyed) {
            return Err("another scheduler has taken over".to_owned());
        }
        drop(scheduling);
        match message {
            SchedulerToFrontend::Welcome { .. } => {}
            SchedulerToFrontend::Dropped { id, reason, queued } => {
                self.ended(id, Outcome::Dropped { reason, queued });
            }
            SchedulerToFrontend::Failed { id, text } => self.ended(id, Outcome::Failed(text)),
            SchedulerToFrontend::Unloaded { id } => self.give_back(id),
            SchedulerToFrontend::Catalog(image) => {
                link.was_shown = true;
                self.show(link, &image);
            }
            SchedulerToFrontend::Lanes { model, image } => {
                let catalog = self.catalog.load();
                let model = catalog.served().find(|served| served.id == model);
                if model.is_some_and(|model| !model.lanes.update(&image)) {
                    tracing::warn!("lanes were sent that are not those of the catalog");
                }
            }
            SchedulerToFrontend::Serving(count) => {
                link.serving = count;
                if self.scheduling().is_active(link.number) {
                    self.serving.set(count);
                }
            }
            SchedulerToFrontend::Answer { number, answer } => {
                self.questions.answered(number, answer);
            }
            SchedulerToFrontend::BackendGone { name, life } => self.backend_gone(&name, life),
        }
        Ok(())
    }

    fn welcomed(&self, link: &mut SchedulerLink, epoch: u64) -> Result<(), String> {
        let welcomed = self.scheduling().welcome(epoch);
        match welcomed {
            Welcomed::Refused => {
                return Err(format!("epoch {epoch} is over: another scheduler has taken over"));
            }
            Welcomed::First => {}
            Welcomed::Replaced => {
                self.serving.set(0);
                self.questions.give_up();
            }
        }
        link.epoch = Some(epoch);
        Ok(())
    }

    /// The scheduler has answered a request.
    fn ended(&self, id: RequestId, outcome: Outcome) {
        self.scheduling().outstanding().ended(id);
        self.in_flight.settle(id, outcome);
    }

    /// A request's model was removed: another version may take it.
    fn give_back(&self, id: RequestId) {
        self.scheduling().outstanding().ended(id);
        if let Some(pending) = self.in_flight.take(id) {
            pending.give_back();
        }
    }

    /// Shows a scheduler's catalog. A scheduler that has just taken over says what it serves when it
    /// has all of it: until then the catalog of the one before stands.
    fn show(&self, link: &SchedulerLink, image: &CatalogImage) {
        let Some(epoch) = link.epoch else { return };
        let is_active = self.scheduling().is_active(link.number);
        if !image.ready && !is_active && self.catalog.load().ready {
            return;
        }
        let known = self.catalog.load_full();
        let catalog = build(image, &known);
        let mut scheduling = self.scheduling();
        let (unknown, refused) = if is_active || !image.ready && catalog.models.is_empty() {
            scheduling.name(&catalog);
            (Vec::new(), Vec::new())
        } else {
            let active = Active { link: link.number, epoch, sender: link.sender.clone() };
            let unknown = scheduling.activate(self.clock.now(), active, &catalog);
            self.serving.set(link.serving);
            (unknown, scheduling.flush())
        };
        self.catalog.update(|current| current.clone_from(&catalog));
        drop(scheduling);
        self.refuse(refused);
        unknown.into_iter().for_each(|id| self.give_back(id));
    }

    /// A backend's life is over: its link ends, its requests wait again.
    fn backend_gone(&self, name: &str, life: u64) {
        self.backends().gone(life, name);
        self.left_behind(|outstanding| outstanding.gone(life));
    }

    /// Has requests wait again, and submits those that the scheduler does not know of.
    pub(crate) fn left_behind(&self, left: impl FnOnce(&mut Outstanding) -> LeftBehind) {
        let mut scheduling = self.scheduling();
        let left = left(scheduling.outstanding());
        left.waiting.iter().for_each(|id| self.in_flight.unfetch(*id));
        scheduling.submit_again(self.clock.now(), &left.again);
        let refused = scheduling.flush();
        drop(scheduling);
        self.refuse(refused);
    }
}

/// The catalog that an image is of. Models that are known stay, with what was counted of them.
fn build(image: &CatalogImage, known: &Catalog) -> Catalog {
    let mut models: BTreeMap<String, Vec<Arc<ServedModel>>> = BTreeMap::new();
    for served in &image.models {
        let before = known.models.get(&served.name).and_then(|all| all.find(&served.version));
        match served.build(before.map(AsRef::as_ref)) {
            Ok(model) => models.entry(served.name.clone()).or_default().push(model),
            Err(error) => tracing::error!(model = %served.name, "not served here: {error}"),
        }
    }
    let versions = |(name, versions)| Some((name, ServedVersions::new(versions)?));
    Catalog {
        known: image.known,
        ready: image.ready,
        intake: image.intake.max(known.intake),
        models: models.into_iter().filter_map(versions).collect(),
        index: image.index.clone(),
    }
}

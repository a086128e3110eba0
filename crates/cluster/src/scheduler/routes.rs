//! The ways to the processes that are connected: snapshots that the scheduler's threads read without a
//! lock, and that change when a process comes or goes.

use arc_swap::ArcSwap;
use std::collections::HashMap;
use symphony_core::{AcceleratorId, Origin};
use symphony_wire::carrier::link::LinkSender;
use symphony_wire::message::link::{FrontendAddress, SchedulerToBackend, SchedulerToFrontend};

/// The ways to frontends and backends.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    frontends: ArcSwap<HashMap<Origin, FrontendRoute>>,
    accelerators: ArcSwap<Vec<Option<LinkSender<SchedulerToBackend>>>>,
    backends: ArcSwap<Vec<LinkSender<SchedulerToBackend>>>,
}

/// The way to one frontend.
#[derive(Clone, Debug)]
pub(crate) struct FrontendRoute {
    pub(crate) address: FrontendAddress,
    pub(crate) sender: LinkSender<SchedulerToFrontend>,
}

impl Routes {
    /// A frontend has come. Returns whether its origin was free.
    pub(crate) fn add_frontend(&self, route: FrontendRoute) -> bool {
        let before = self.frontends.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.entry(route.address.origin).or_insert_with(|| route.clone());
            all
        });
        !before.contains_key(&route.address.origin)
    }

    /// A frontend has gone.
    pub(crate) fn remove_frontend(&self, origin: Origin) {
        self.frontends.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.remove(&origin);
            all
        });
    }

    /// Tells the frontend of this origin, if it is there.
    pub(crate) fn tell(&self, origin: Origin, message: &SchedulerToFrontend) {
        if let Some(route) = self.frontends.load().get(&origin) {
            report(route, message);
        }
    }

    /// Tells every frontend.
    pub(crate) fn tell_all(&self, message: &SchedulerToFrontend) {
        self.frontends.load().values().for_each(|route| report(route, message));
    }

    /// Where backends find the frontends.
    pub(crate) fn addresses(&self) -> Vec<FrontendAddress> {
        self.frontends.load().values().map(|route| route.address.clone()).collect()
    }

    /// Batches for these accelerators go this way from now on, or nowhere.
    pub(crate) fn set_accelerators(
        &self,
        accelerators: &[AcceleratorId],
        sender: Option<&LinkSender<SchedulerToBackend>>,
    ) {
        self.accelerators.rcu(|all| {
            let mut all = Vec::clone(all);
            for accelerator in accelerators {
                let place = accelerator.index();
                if all.len() <= place {
                    all.resize(place + 1, None);
                }
                all[place] = sender.cloned();
            }
            all
        });
    }

    /// The way to an accelerator's backend.
    pub(crate) fn backend_of(
        &self,
        accelerator: AcceleratorId,
    ) -> Option<LinkSender<SchedulerToBackend>> {
        self.accelerators.load().get(accelerator.index())?.clone()
    }

    /// These are the backends.
    pub(crate) fn set_backends(&self, all: Vec<LinkSender<SchedulerToBackend>>) {
        self.backends.store(all.into());
    }

    /// Tells every backend.
    pub(crate) fn tell_backends(&self, message: &SchedulerToBackend) {
        for sender in self.backends.load().iter() {
            if let Err(error) = sender.send(message) {
                tracing::warn!("a backend is not told of the frontends: {error}");
            }
        }
    }

    /// How many frontends there are.
    pub(crate) fn frontends(&self) -> usize {
        self.frontends.load().len()
    }

    /// How many backends there are.
    pub(crate) fn backends(&self) -> usize {
        self.backends.load().len()
    }
}

/// A frontend that reads too slowly is cut off: it comes back, and submits again what is alive.
fn report(route: &FrontendRoute, message: &SchedulerToFrontend) {
    if let Err(error) = route.sender.send(message) {
        route.sender.close(&error.to_string());
    }
}

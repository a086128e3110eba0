//! The thread that moves the borders of lanes: about once a second it plans those of each served model
//! anew, by the sizes of the requests that came.
//!
//! The rule is [`BorderLanes`](symphony_core::lanes::BorderLanes); this is its clock, and its way to
//! the scheduler.

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use symphony_core::{ModelId, Profile, SizedProfile};
use symphony_wire::carrier::in_process::{SchedulerPort, SharedCatalog};
use symphony_wire::clock::Clock;
use symphony_wire::message::ServedModel;

/// How often borders are planned.
const EVERY: Duration = Duration::from_secs(1);

/// The running thread; dropped, it ends.
#[derive(Debug)]
pub struct LanesThread {
    /// Nothing is ever sent: the thread ends when this is gone.
    _running: Sender<Infallible>,
    thread: JoinHandle<()>,
}

impl LanesThread {
    /// Plans the borders of what the catalog shows, until it is stopped.
    ///
    /// # Errors
    /// The system has no room for another thread.
    pub fn start(
        catalog: SharedCatalog,
        scheduler: SchedulerPort,
        clock: Clock,
    ) -> io::Result<LanesThread> {
        let (running, stopped) = bounded::<Infallible>(0);
        let thread = Builder::new().name("lanes".to_owned()).spawn(move || {
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                // A scheduler that has stopped plans nothing.
                let Ok(serving) = scheduler.serving() else { return };
                for model in catalog.load().served() {
                    let replace = |lane, profile| replace(&scheduler, lane, profile);
                    model.lanes.replan(clock.now(), serving, replace);
                }
            }
        })?;
        Ok(LanesThread { _running: running, thread })
    }

    /// The thread, which is about to end.
    pub fn stop(self) -> JoinHandle<()> {
        self.thread
    }
}

/// What a model's batches cost was measured again: the scheduler plans each of its lanes by it from now
/// on, and requests are dealt to lanes by it.
pub fn set_costs(scheduler: &SchedulerPort, model: &ServedModel, costs: SizedProfile) {
    model.lanes.set_costs(costs, |lane, profile| replace(scheduler, lane, profile));
}

/// Has the scheduler plan a lane by another profile, and waits until it does. Where it has no room for
/// the question the lane is planned as before, until its profile is replaced again.
fn replace(scheduler: &SchedulerPort, lane: ModelId, profile: Arc<Profile>) {
    match scheduler.set_profile(lane, profile) {
        Ok(replaced) => drop(replaced.blocking_recv()),
        Err(error) => tracing::warn!(id = %lane, "its profile is not replaced: {error}"),
    }
}

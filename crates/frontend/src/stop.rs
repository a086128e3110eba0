//! How far the shutdown has come, for everything that has to end with it.

use tokio::sync::watch;

/// How far the shutdown has come; clones see the same.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<Phase>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// Accept nothing new, end what is open when it comes to its end.
    Stopping,
    /// Cut what is still open.
    Cutting,
}

/// Moves the shutdown on.
#[derive(Debug)]
pub(crate) struct Stopper(watch::Sender<Phase>);

impl Stopper {
    pub(crate) fn new() -> (Stopper, Stop) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (Stopper(sender), Stop(receiver))
    }

    pub(crate) fn stop(&self) {
        self.0.send_replace(Phase::Stopping);
    }

    pub(crate) fn cut(&self) {
        self.0.send_replace(Phase::Cutting);
    }
}

impl Stop {
    /// Waits until the server begins to stop.
    pub(crate) async fn stopped(self) {
        self.reached(Phase::Stopping).await;
    }

    /// Waits until the shutdown has come this far.
    pub(crate) async fn reached(mut self, phase: Phase) {
        // A stopper that is gone counts as every phase reached.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}

//! What a lease is to who wants it, and a lease while it is held: a task renews it, notices when it
//! is lost, and frees it in the end.

use std::fmt;
use std::future::pending;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::warn;

use crate::clock::{Moment, Pace};
use crate::error::LeaseError;

/// The timer stands still while the machine sleeps, the clock does not: look again so often.
const LOOK: Duration = Duration::from_millis(100);

/// A lease that this process can hold.
pub trait Lease: Send + fmt::Debug {
    /// Waits until the lease is free and takes it. While the service that keeps the lease does not
    /// answer, this goes on trying, and says so in the log.
    ///
    /// The future may be dropped: another call goes on waiting. It needs tokio's runtime, which
    /// also renews the lease as long as it is held.
    ///
    /// # Errors
    /// Waiting cannot help: the lease is set up wrongly, or this process may not have it.
    fn acquire(&mut self) -> BoxFuture<'_, Result<Held, LeaseError>>;
}

/// A lease that this process holds. Dropping it frees the lease, in the background.
#[derive(Debug)]
pub struct Held {
    epoch: u64,
    state: watch::Receiver<State>,
    /// Tells the keeper, by being dropped, that the lease is not wanted any more.
    wanted: oneshot::Sender<()>,
    keeper: JoinHandle<()>,
}

/// Why a holder does not hold its lease any more.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LostReason {
    /// It could not be renewed in time, or this process did not run for so long.
    #[error("the lease was not renewed in time: {0}")]
    NotRenewed(String),
    /// Another process has it.
    #[error("the lease was taken by {0}")]
    Taken(String),
    /// What stood for it is gone.
    #[error("{0} is gone: somebody removed or replaced it")]
    Removed(String),
    /// The task that renews it has ended.
    #[error("the task that renews the lease has ended")]
    Unattended,
}

#[derive(Clone, Debug)]
enum State {
    /// Held at least until then; `None`: no time ends it.
    Until(Option<Moment>),
    Lost(LostReason),
}

impl Held {
    /// The number of this holding, greater than that of every holding before.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the lease is still held, by the clock as well: right after the process was stopped
    /// and continued, nobody may have noticed yet that it is lost.
    #[must_use]
    pub fn is_held(&self) -> bool {
        is_held(&self.state)
    }

    /// The same question, for whoever has to ask it again and again, on any thread.
    pub fn watch(&self) -> impl Fn() -> bool + Send + Sync + 'static + use<> {
        let state = self.state.clone();
        move || is_held(&state)
    }

    /// Waits until the lease is lost. The future may be dropped and asked for again.
    pub async fn lost(&mut self) -> LostReason {
        match self.state.wait_for(|state| matches!(state, State::Lost(_))).await.as_deref() {
            Ok(State::Lost(reason)) => reason.clone(),
            _ => LostReason::Unattended,
        }
    }

    /// Frees the lease, and returns when it is free or cannot be freed. In the latter case it is
    /// free after its time to live.
    pub async fn release(self) {
        drop(self.wanted);
        // A keeper that panicked has let go of what it kept.
        let _ = self.keeper.await;
    }
}

fn is_held(state: &watch::Receiver<State>) -> bool {
    match &*state.borrow() {
        State::Until(expiry) => expiry.is_none_or(|expiry| expiry.left().is_some()),
        State::Lost(_) => false,
    }
}

/// What one kind of lease has to do for its holder.
pub(crate) trait Grip: Send + Sized + 'static {
    /// Renews the lease, or looks whether it is still there. Returns until when it is held. Each
    /// question that it asks takes no longer than one try may.
    fn renew(&mut self) -> impl Future<Output = Result<Option<Moment>, Slip>> + Send;

    /// Lets others have the lease; does not take long.
    fn free(self) -> impl Future<Output = ()> + Send;
}

/// What can go wrong with a renewal.
#[derive(Debug)]
pub(crate) enum Slip {
    /// The next try may succeed.
    Again(String),
    Lost(LostReason),
}

/// Keeps the lease `grip`, which is held until `expiry`.
pub(crate) fn keep(epoch: u64, expiry: Option<Moment>, pace: Pace, grip: impl Grip) -> Held {
    let (wanted, unwanted) = oneshot::channel();
    let (state, watching) = watch::channel(State::Until(expiry));
    let keeper = tokio::spawn(attend(grip, pace, state, unwanted));
    Held { epoch, state: watching, wanted, keeper }
}

async fn attend(
    mut grip: impl Grip,
    pace: Pace,
    state: watch::Sender<State>,
    unwanted: oneshot::Receiver<()>,
) {
    let mut renewing = Renewing { pace, state, problem: None };
    tokio::select! {
        biased;
        _ = unwanted => {}
        reason = renewing.until_lost(&mut grip) => {
            renewing.state.send_replace(State::Lost(reason));
        }
    }
    grip.free().await;
}

/// The renewals of one holding.
struct Renewing {
    pace: Pace,
    state: watch::Sender<State>,
    /// What was wrong with the newest try.
    problem: Option<String>,
}

impl fmt::Debug for Renewing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewing").field("problem", &self.problem).finish_non_exhaustive()
    }
}

impl Renewing {
    async fn until_lost(&mut self, grip: &mut impl Grip) -> LostReason {
        loop {
            let expiry = self.expiry();
            tokio::select! {
                biased;
                () = past(expiry) => return LostReason::NotRenewed(self.why()),
                slip = self.once_more(grip) => if let Some(reason) = slip {
                    return reason;
                },
            }
        }
    }

    /// Waits for its time and renews once.
    async fn once_more(&mut self, grip: &mut impl Grip) -> Option<LostReason> {
        sleep(if self.problem.is_some() { self.pace.retry } else { self.pace.renewal }).await;
        match grip.renew().await {
            Ok(expiry) => {
                self.state.send_replace(State::Until(expiry));
                self.problem = None;
            }
            Err(Slip::Again(problem)) => {
                if self.problem.is_none() {
                    warn!("the lease could not be renewed, trying again: {problem}");
                }
                self.problem = Some(problem);
            }
            Err(Slip::Lost(reason)) => return Some(reason),
        }
        None
    }

    fn expiry(&self) -> Option<Moment> {
        match &*self.state.borrow() {
            State::Until(expiry) => *expiry,
            State::Lost(_) => None,
        }
    }

    fn why(&self) -> String {
        self.problem.clone().unwrap_or_else(|| "this process did not run for so long".to_owned())
    }
}

/// Waits until `expiry` is past.
async fn past(expiry: Option<Moment>) {
    let Some(expiry) = expiry else { return pending().await };
    while let Some(left) = expiry.left() {
        sleep(left.min(LOOK)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A grip whose renewals give what is in the list, and then never end.
    struct Scripted {
        answers: Vec<Result<Option<Moment>, Slip>>,
        freed: Arc<AtomicBool>,
    }

    impl Grip for Scripted {
        async fn renew(&mut self) -> Result<Option<Moment>, Slip> {
            match self.answers.pop() {
                Some(answer) => answer,
                None => pending().await,
            }
        }

        async fn free(self) {
            self.freed.store(true, Ordering::Relaxed);
        }
    }

    fn start(answers: Vec<Result<Option<Moment>, Slip>>) -> (Held, Arc<AtomicBool>) {
        let pace = Pace::of(Duration::from_millis(120));
        let freed = Arc::new(AtomicBool::new(false));
        let grip = Scripted { answers, freed: Arc::clone(&freed) };
        (keep(7, Some(Moment::now().after(pace.trusted)), pace, grip), freed)
    }

    #[tokio::test]
    async fn a_lease_that_is_not_renewed_is_lost_and_freed() {
        let (mut held, freed) = start(vec![Err(Slip::Again("refused".to_owned()))]);
        assert!(held.is_held());
        let LostReason::NotRenewed(why) = held.lost().await else { panic!("another reason") };
        assert_eq!(why, "refused");
        assert!(!held.is_held());
        held.release().await;
        assert!(freed.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_renewal_makes_it_last_and_a_loss_ends_it() {
        let lost = LostReason::Taken("b".to_owned());
        let (mut held, _) = start(vec![Err(Slip::Lost(lost.clone())), Ok(None)]);
        assert_eq!(held.lost().await, lost);
        assert_eq!(held.lost().await, lost);
        assert_eq!(held.epoch(), 7);
    }

    #[tokio::test]
    async fn releasing_waits_until_it_is_free() {
        let (held, freed) = start(Vec::new());
        held.release().await;
        assert!(freed.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn the_clock_alone_ends_a_holding() {
        let (held, _) = start(Vec::new());
        // No other task runs here meanwhile, as after a process was stopped.
        std::thread::sleep(Duration::from_millis(130));
        assert!(!held.is_held());
    }
}

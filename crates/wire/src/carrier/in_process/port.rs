//! The way into a scheduler from anywhere in the process.
//!
//! A thread that sends for the first time gets a ring of its own to each shard and to the matcher
//! that it sends to, so that sending takes no lock and waits for nobody. The rings live as long as
//! the thread.

use super::inbox::{
    FrontendToShard, GapBoard, Inbox, Layout, MatcherQuestion, Rare, ServingCount, ShardQuestion,
    ThreadInbox, home,
};
use super::{Reply, Share};
use crate::carrier::Timed;
use crate::message::{
    AcceleratorState, AddModel, Cancel, Completion, GapFigures, Mode, ModelTerms, Serve,
    Statistics, Submit,
};
use crossbeam_channel::{Sender, TrySendError, bounded};
use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use symphony_core::{AcceleratorId, ModelId, Origin, Profile};
use symphony_exchange::{Doorbell, Full, Ringer, Sender as Ring, ring};
use tokio::sync::oneshot;

/// Bound on requests that wait in the ring of one thread to one shard.
pub const REQUESTS_MAX: usize = 16_384;
/// Bound on completions that wait in the ring of one thread; more than accelerators have batches.
const COMPLETIONS_MAX: usize = 16_384;
/// Bound on questions that wait for one shard, or for the matcher.
const QUESTIONS_MAX: usize = 1024;
/// Bound on models of a pool: each has a place where its candidate is handed to the matcher.
pub const MODELS_MAX: usize = 16_384;

/// Why the scheduler did not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Its inbox is full.
    #[error("the scheduler's inbox is full")]
    Full,
    /// It has stopped.
    #[error("the scheduler has stopped")]
    Stopped,
}

pub use symphony_core::sched::ACCELERATORS_MAX;

/// The way into the scheduler; clones lead to the same one.
#[derive(Clone)]
pub struct SchedulerPort(Arc<Ways>);

struct Ways {
    /// Tells schedulers apart.
    number: u64,
    shards: Box<[Way<FrontendToShard, ShardQuestion>]>,
    matcher: Way<Timed<Completion>, MatcherQuestion>,
    serving: ServingCount,
    gaps: GapBoard,
}

/// The way to one shard, or to the matcher.
struct Way<M, Q> {
    /// Gone before the reader is summoned to see that.
    rare: Option<Sender<Rare<M, Q>>>,
    /// Nobody reads any more; looked at after what was sent.
    is_gone: Arc<AtomicBool>,
    ringer: Ringer,
    ring_max: usize,
}

/// The ways into a scheduler of this layout, and what its threads read.
#[must_use]
pub fn scheduler(layout: Layout) -> (SchedulerPort, Vec<ThreadInbox>) {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let (serving, gaps) = (ServingCount::default(), GapBoard::default());
    let thread = || ThreadInbox {
        doorbell: Doorbell::new(),
        shards: Vec::new(),
        matcher: None,
        serving: serving.clone(),
        gaps: gaps.clone(),
    };
    let mut threads = vec![thread()];
    let (matcher, inbox) = way(COMPLETIONS_MAX, threads[0].doorbell.ringer());
    threads[0].matcher = Some(inbox);
    let mut shards = Vec::new();
    for number in 0..layout.shards() {
        if layout.is_apart() {
            threads.push(thread());
        }
        let last = threads.len() - 1;
        let (shard, inbox) = way(REQUESTS_MAX, threads[last].doorbell.ringer());
        threads[last].shards.push((number, inbox));
        shards.push(shard);
    }
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    let ways = Ways { number, shards: shards.into(), matcher, serving, gaps };
    (SchedulerPort(Arc::new(ways)), threads)
}

fn way<M, Q>(ring_max: usize, ringer: Ringer) -> (Way<M, Q>, Inbox<M, Q>) {
    let (rare, inbox) = bounded(QUESTIONS_MAX);
    let is_gone = Arc::new(AtomicBool::new(false));
    let way = Way { rare: Some(rare), is_gone: Arc::clone(&is_gone), ringer, ring_max };
    (way, Inbox::new(inbox, is_gone))
}

impl<M, Q> Way<M, Q> {
    /// A new ring to the reader.
    fn connect(&self) -> Result<Ring<M>, SubmitError> {
        let (sender, receiver) = ring(self.ring_max, self.ringer.clone());
        self.send(Rare::Connect(receiver))?;
        Ok(sender)
    }

    /// Sends what must not be lost, waiting for room.
    fn send(&self, rare: Rare<M, Q>) -> Result<(), SubmitError> {
        let sender = self.rare.as_ref().ok_or(SubmitError::Stopped)?;
        sender.send(rare).map_err(|_| SubmitError::Stopped)?;
        self.sent()
    }

    /// Something was sent: somebody is to look, if there is anybody.
    fn sent(&self) -> Result<(), SubmitError> {
        if self.is_gone.load(Ordering::SeqCst) {
            return Err(SubmitError::Stopped);
        }
        self.ringer.ring();
        Ok(())
    }

    /// Sends a question, if there is room.
    fn ask(&self, question: Q) -> Result<(), SubmitError> {
        let sender = self.rare.as_ref().ok_or(SubmitError::Stopped)?;
        sender.try_send(Rare::Question(question)).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Full,
            TrySendError::Disconnected(_) => SubmitError::Stopped,
        })?;
        self.sent()
    }
}

impl<M, Q> Drop for Way<M, Q> {
    fn drop(&mut self) {
        self.rare = None;
        // The end of the last sender puts nothing into an inbox, so the reader has to be woken for it.
        self.ringer.summon();
    }
}

/// The rings of this thread to one scheduler.
struct ThreadRings {
    number: u64,
    ways: Weak<Ways>,
    shards: Vec<Option<Ring<FrontendToShard>>>,
    matcher: Option<Ring<Timed<Completion>>>,
}

thread_local! {
    static RINGS: RefCell<Vec<ThreadRings>> = const { RefCell::new(Vec::new()) };
}

/// Sends by the ring that is there, or that is made now.
fn send<M, Q>(
    place: &mut Option<Ring<M>>,
    way: &Way<M, Q>,
    by: fn(&mut Ring<M>, M) -> Result<(), Full<M>>,
    message: M,
) -> Result<(), SubmitError> {
    let ring = match place {
        Some(ring) => ring,
        None => place.insert(way.connect()?),
    };
    let sent = by(ring, message).map_err(|Full(_)| SubmitError::Full);
    // Looked at afterwards: either the reader has the message, or it is seen to be gone.
    if ring.is_abandoned() { Err(SubmitError::Stopped) } else { sent }
}

impl SchedulerPort {
    /// Submits a request's metadata, without waiting.
    ///
    /// # Errors
    /// The ring is full or the scheduler has stopped; the request was not submitted.
    #[inline]
    pub fn submit(&self, submit: Timed<Submit>) -> Result<(), SubmitError> {
        let (model, request) = (submit.message.model, submit.message.request(submit.at));
        self.to_shard(model, FrontendToShard::Submit { model, request })
    }

    /// Tells that a client has left. When the ring is full, or another thread's request overtakes
    /// it, the request stays queued: its entry is already out of the table, so the backend will not
    /// run it.
    pub fn cancel(&self, cancel: Timed<Cancel>) {
        let Cancel { model, id: request, budget } = cancel.message;
        let deadline = cancel.at + budget;
        let _ = self.to_shard(model, FrontendToShard::Cancel { model, request, deadline });
    }

    /// A backend finished a batch. Does not wait, and does not wake a scheduler that sleeps soundly:
    /// nothing depends on it before the scheduler is woken next.
    ///
    /// # Errors
    /// The scheduler has stopped, or more completions wait than it can have batches.
    pub fn completed(&self, completion: Timed<Completion>) -> Result<(), SubmitError> {
        self.rings(|rings| send(&mut rings.matcher, &self.0.matcher, Ring::leave, completion))
    }

    /// Takes requests for a model from now on; the receiver tells once they are.
    ///
    /// # Errors
    /// The scheduler has stopped.
    ///
    /// # Panics
    /// When the model is numbered beyond [`MODELS_MAX`].
    pub fn add_model(
        &self,
        model: ModelId,
        terms: ModelTerms,
    ) -> Result<oneshot::Receiver<()>, SubmitError> {
        assert!(model.index() < MODELS_MAX, "{model:?}: a pool has at most {MODELS_MAX} models");
        let (reply, added) = Reply::new();
        let question = ShardQuestion::AddModel(AddModel { model, terms }, reply);
        self.home(model).send(Rare::Question(question))?;
        Ok(added)
    }

    /// Lets a model's queue run empty and forgets it; the receiver tells once its last batch has
    /// ended.
    ///
    /// # Errors
    /// The scheduler has stopped.
    pub fn remove_model(&self, model: ModelId) -> Result<oneshot::Receiver<()>, SubmitError> {
        let (reply, removed) = Reply::new();
        self.home(model).send(Rare::Question(ShardQuestion::RemoveModel(model, reply)))?;
        Ok(removed)
    }

    /// Runs a model's batches by another profile from now on, without waiting for room; the receiver
    /// tells once they are planned by it.
    ///
    /// # Errors
    /// The inbox is full or the scheduler has stopped; nothing has changed.
    pub fn set_profile(
        &self,
        model: ModelId,
        profile: Arc<Profile>,
    ) -> Result<oneshot::Receiver<()>, SubmitError> {
        self.change_profile(model, profile, None)
    }

    /// The same for a lane that was given to requests of this size, which cost as the profile says.
    ///
    /// # Errors
    /// As [`SchedulerPort::set_profile`].
    pub fn give_lane(
        &self,
        lane: ModelId,
        size: u64,
        profile: Arc<Profile>,
    ) -> Result<oneshot::Receiver<()>, SubmitError> {
        self.change_profile(lane, profile, Some(size))
    }

    fn change_profile(
        &self,
        model: ModelId,
        profile: Arc<Profile>,
        size: Option<u64>,
    ) -> Result<oneshot::Receiver<()>, SubmitError> {
        let (reply, changed) = Reply::new();
        self.home(model).ask(ShardQuestion::SetProfile { model, profile, size, reply })?;
        Ok(changed)
    }

    /// How many shards models are dealt to: by their index, in turn.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.0.shards.len()
    }

    /// Lets every queue run empty and stops; the receiver tells once the last batch has ended.
    ///
    /// # Errors
    /// The scheduler has stopped.
    pub fn drain(&self) -> Result<oneshot::Receiver<()>, SubmitError> {
        let (share, drained) = Share::new();
        for shard in &self.0.shards {
            shard.send(Rare::Question(ShardQuestion::Drain(share.clone())))?;
        }
        Ok(drained)
    }

    /// Asks for the counters, without waiting for room.
    ///
    /// # Errors
    /// The inbox is full or the scheduler has stopped.
    pub fn statistics(&self) -> Result<oneshot::Receiver<Statistics>, SubmitError> {
        let (share, statistics) = Share::new();
        self.ask_all(|| ShardQuestion::Statistics(share.clone()))?;
        self.0.matcher.ask(MatcherQuestion::Statistics(share))?;
        Ok(statistics)
    }

    /// Changes the mode, without waiting for room; the receiver tells once it is in force.
    ///
    /// # Errors
    /// The inbox is full or the scheduler has stopped; it may have changed in part.
    pub fn set_mode(&self, mode: Mode) -> Result<oneshot::Receiver<()>, SubmitError> {
        let (share, changed) = Share::new();
        self.0.matcher.ask(MatcherQuestion::SetMode(mode, share.clone()))?;
        self.ask_all(|| ShardQuestion::SetMode(mode, share.clone()))?;
        Ok(changed)
    }

    /// Sends batches to an accelerator from now on, or lets it run empty, without waiting for room.
    /// The receiver tells what it is then; `None` when the pool has no such accelerator. One that is
    /// gone stays gone until another [joins](SchedulerPort::join) by its number.
    ///
    /// # Errors
    /// The inbox is full or the scheduler has stopped; nothing has changed.
    pub fn serve(
        &self,
        accelerator: AcceleratorId,
        serves: bool,
    ) -> Result<oneshot::Receiver<Option<AcceleratorState>>, SubmitError> {
        let (reply, changed) = Reply::new();
        self.0.matcher.ask(MatcherQuestion::Serve(Serve { accelerator, serves }, reply))?;
        Ok(changed)
    }

    /// Sends batches to an accelerator from now on that is new to the pool, or that has the number of
    /// one that is [gone](SchedulerPort::gone): nothing is known of it yet, and it serves at once.
    /// Waits for room. The receiver tells what it is then; `None` when its number is not below
    /// [`ACCELERATORS_MAX`].
    ///
    /// # Errors
    /// The scheduler has stopped.
    pub fn join(
        &self,
        accelerator: AcceleratorId,
    ) -> Result<oneshot::Receiver<Option<AcceleratorState>>, SubmitError> {
        let (reply, joined) = Reply::new();
        self.0.matcher.send(Rare::Question(MatcherQuestion::Join(accelerator, reply)))?;
        Ok(joined)
    }

    /// An accelerator's process is gone: it gets no more batches, and those that it was sent are lost
    /// at once. Another may join by its number, also where a thread had [failed](SchedulerPort::lose).
    /// Waits for room.
    ///
    /// # Errors
    /// The scheduler has stopped.
    pub fn gone(&self, accelerator: AcceleratorId) -> Result<(), SubmitError> {
        self.0.matcher.send(Rare::Question(MatcherQuestion::Gone(accelerator)))
    }

    /// The life of a frontend is over: its queued requests are let go of, and nobody is told of them.
    /// That includes every request which was submitted before, by whatever thread. Waits for room.
    ///
    /// # Errors
    /// The scheduler has stopped.
    pub fn forget(&self, origin: Origin) -> Result<(), SubmitError> {
        let question = || Rare::Question(ShardQuestion::Forget(origin));
        self.0.shards.iter().try_for_each(|shard| shard.send(question()))
    }

    /// Never sends batches to an accelerator again: its thread has failed. Only when its process is
    /// [gone](SchedulerPort::gone) can another join by its number. Does not wait for room.
    ///
    /// # Errors
    /// The inbox is full or the scheduler has stopped; nothing has changed.
    pub fn lose(&self, accelerator: AcceleratorId) -> Result<(), SubmitError> {
        self.0.matcher.ask(MatcherQuestion::Lose(accelerator))
    }

    /// How an accelerator lay idle lately though its next batch was planned: the counters show it.
    pub fn set_gaps(&self, accelerator: AcceleratorId, gaps: GapFigures) {
        self.0.gaps.set(accelerator, gaps);
    }

    /// How many accelerators get batches now. Asks nobody: as cheap as reading a number, and
    /// answered while the scheduler is busy.
    ///
    /// # Errors
    /// The scheduler has stopped.
    pub fn serving(&self) -> Result<u32, SubmitError> {
        if self.0.matcher.is_gone.load(Ordering::SeqCst) {
            return Err(SubmitError::Stopped);
        }
        Ok(self.0.serving.read())
    }

    /// A ring to the shard of a model, for a sender that keeps it.
    ///
    /// # Errors
    /// The scheduler has stopped.
    pub fn connect(&self, model: ModelId) -> Result<Ring<FrontendToShard>, SubmitError> {
        self.home(model).connect()
    }

    fn ask_all(&self, question: impl Fn() -> ShardQuestion) -> Result<(), SubmitError> {
        self.0.shards.iter().try_for_each(|shard| shard.ask(question()))
    }

    fn home(&self, model: ModelId) -> &Way<FrontendToShard, ShardQuestion> {
        &self.0.shards[home(model, self.0.shards.len())]
    }

    #[inline]
    fn to_shard(&self, model: ModelId, message: FrontendToShard) -> Result<(), SubmitError> {
        let home = home(model, self.0.shards.len());
        self.rings(|rings| send(&mut rings.shards[home], &self.0.shards[home], Ring::send, message))
    }

    /// This thread's rings to the scheduler.
    fn rings<T>(
        &self,
        work: impl FnOnce(&mut ThreadRings) -> Result<T, SubmitError>,
    ) -> Result<T, SubmitError> {
        let sent = RINGS.try_with(|all| {
            let all = &mut *all.borrow_mut();
            let at = match all.iter().position(|rings| rings.number == self.0.number) {
                Some(at) => at,
                None => {
                    all.retain(|rings| rings.ways.strong_count() > 0);
                    all.push(ThreadRings {
                        number: self.0.number,
                        ways: Arc::downgrade(&self.0),
                        shards: self.0.shards.iter().map(|_| None).collect(),
                        matcher: None,
                    });
                    all.len() - 1
                }
            };
            work(&mut all[at])
        });
        // A thread that ends has no rings any more.
        sent.unwrap_or(Err(SubmitError::Stopped))
    }
}

impl fmt::Debug for SchedulerPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerPort").field("shards", &self.0.shards.len()).finish()
    }
}

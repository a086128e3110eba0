//! How a consumer sleeps without missing anything, and without costing those who write to it a
//! system call while it is awake.
//!
//! Consumer and writers each write one place and then read the other's: the consumer says that it
//! parks and then looks whether anything is there; a writer puts something there and then looks
//! whether the consumer parks. With a full fence between write and read on both sides, at least one
//! of them sees the other, so nothing is left lying beside a sleeping consumer. It must not know
//! what is waited for: `pending` tells it.
//!
//! A consumer that has no use for some of what is written, as long as nothing else comes, may sleep
//! soundly: then a [`nudge`](Ringer::nudge) does not wake it, and a ring does.
//!
//! A ring tells a consumer that is awake nothing: it relies on `pending`. News that `pending` does
//! not look at, such as the end of a party, must [`summon`](Ringer::summon) the consumer: a summons
//! is kept until the consumer's next wait, which it ends at once.
//!
//! A consumer is a thread ([`Listener`]) or a task of an executor ([`TaskListener`]). A task that is
//! rung by its executor's own thread runs there next, without a thread that has to wake.

use std::marker::PhantomData;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::sync::{AtomicU32, Thread, current, exact_timers, fence, park, park_timeout, spin_loop};

const AWAKE: u32 = 0;
/// Parked until anybody calls.
const LIGHT: u32 = 1;
/// Parked until somebody rings.
const SOUND: u32 = 2;
/// Awake, and the next wait ends at once.
const SUMMONED: u32 = 3;

/// What both sides share. Writers only read `state` while the consumer is awake, so the line stays
/// in every core's cache; nothing else may lie on it (some processors fetch lines in pairs).
#[repr(align(128))]
struct Shared {
    state: AtomicU32,
    /// There before it first parks.
    consumer: OnceLock<Consumer>,
}

/// Who is woken.
enum Consumer {
    Thread(Thread),
    Task(Waker),
}

/// The bell of one consumer, before its thread has taken it.
pub struct Doorbell {
    shared: Arc<Shared>,
}

impl Doorbell {
    /// A bell that nobody listens to yet. Rings until then are not needed, and lost; a summons is
    /// kept.
    #[must_use]
    pub fn new() -> Doorbell {
        Doorbell {
            shared: Arc::new(Shared { state: AtomicU32::new(AWAKE), consumer: OnceLock::new() }),
        }
    }

    /// A handle for one who writes to the consumer.
    #[must_use]
    pub fn ringer(&self) -> Ringer {
        Ringer { shared: Arc::clone(&self.shared) }
    }

    /// Makes the calling thread the consumer, and asks the system to fire its timers when they are
    /// due.
    #[must_use]
    pub fn listen(self, spin: Spin) -> Listener {
        exact_timers();
        // The bell is given away, so it is set once.
        self.shared.consumer.get_or_init(|| Consumer::Thread(current()));
        Listener { shared: self.shared, spin, stays: PhantomData }
    }

    /// Makes the task that first waits the consumer. It never spins.
    #[must_use]
    pub fn listen_as_task(self) -> TaskListener {
        TaskListener { shared: self.shared, is_parked: false }
    }
}

impl Default for Doorbell {
    fn default() -> Doorbell {
        Doorbell::new()
    }
}

/// Rings the bell of one consumer.
#[derive(Clone)]
pub struct Ringer {
    shared: Arc<Shared>,
}

impl Ringer {
    /// Wakes the consumer if it is parked. What was written before this call is seen by the
    /// consumer's `pending` before it parks again. One call after many writes does for all of them.
    pub fn ring(&self) {
        fence(SeqCst);
        let state = self.shared.state.load(Relaxed);
        if is_parked(state) {
            self.wake(state);
        }
    }

    /// The same for what can wait: wakes the consumer if it sleeps lightly. One that sleeps soundly
    /// sees what was written when something else has woken it.
    pub fn nudge(&self) {
        fence(SeqCst);
        if self.shared.state.load(Relaxed) == LIGHT {
            self.wake(LIGHT);
        }
    }

    /// Ends the consumer's wait, or its next one, whatever it waits for. What was written before
    /// this call is seen by the consumer after that wait. Costs the consumer's cache line each
    /// time, so it is for what happens rarely.
    pub fn summon(&self) {
        if is_parked(self.shared.state.swap(SUMMONED, AcqRel)) {
            self.unpark();
        }
    }

    /// Wakes the consumer that was seen to be parked in this way.
    #[cold]
    fn wake(&self, parked: u32) {
        // Of several ringers one pays for the system call. A consumer that is no longer parked so
        // has been woken meanwhile, and a summons must stand.
        if self.shared.state.compare_exchange(parked, AWAKE, AcqRel, Relaxed).is_ok() {
            self.unpark();
        }
    }

    fn unpark(&self) {
        match self.shared.consumer.get() {
            Some(Consumer::Thread(thread)) => thread.unpark(),
            Some(Consumer::Task(task)) => task.wake_by_ref(),
            None => {}
        }
    }
}

fn is_parked(state: u32) -> bool {
    matches!(state, LIGHT | SOUND)
}

/// For how long a consumer burns its core instead of sleeping; zero, the default, is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spin {
    /// How long it polls after it ran out of work: a writer then never pays for waking it, and the
    /// consumer sees work tens of microseconds sooner.
    pub idle: Duration,
    /// How long before a deadline it stops sleeping: longer than the operating system is late.
    pub due: Duration,
}

impl Spin {
    /// Sleeps whenever there is nothing to do.
    pub const NEVER: Spin = Spin { idle: Duration::ZERO, due: Duration::ZERO };
}

/// Why [`Listener::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Something is pending, or was: a ring for what has been read already also ends the wait, and
    /// so does a summons.
    Work,
    /// The deadline has come.
    Due,
}

/// The consumer's end of a bell. It stays on the thread that made it.
pub struct Listener {
    shared: Arc<Shared>,
    spin: Spin,
    /// Pointers are not `Send`: the bell wakes this thread and no other.
    stays: PhantomData<*const ()>,
}

impl Listener {
    /// A handle for one who writes to the consumer.
    #[must_use]
    pub fn ringer(&self) -> Ringer {
        Ringer { shared: Arc::clone(&self.shared) }
    }

    /// Waits until `pending` says that something is there, somebody rings, nudges or summons, or the
    /// deadline comes.
    ///
    /// `pending` must look at everything whose writers ring this bell and that is to end the wait;
    /// it is called a few times, and often while spinning. A deadline of the past only asks it.
    pub fn wait(&mut self, deadline: Option<Instant>, pending: impl FnMut() -> bool) -> Woken {
        self.wait_in(LIGHT, deadline, pending)
    }

    /// The same, but a nudge does not end it once it sleeps.
    pub fn wait_soundly(
        &mut self,
        deadline: Option<Instant>,
        pending: impl FnMut() -> bool,
    ) -> Woken {
        self.wait_in(SOUND, deadline, pending)
    }

    fn wait_in(
        &mut self,
        sleep: u32,
        deadline: Option<Instant>,
        mut pending: impl FnMut() -> bool,
    ) -> Woken {
        if pending() {
            return Woken::Work;
        }
        if !self.spin.idle.is_zero() {
            let end = Instant::now() + self.spin.idle;
            let end = deadline.map_or(end, |deadline| deadline.min(end));
            if spin_until(end, &mut pending) == Woken::Work {
                return Woken::Work;
            }
        }
        let timer =
            deadline.map(|deadline| deadline.checked_sub(self.spin.due).unwrap_or(deadline));
        let woken = self.sleep(sleep, timer, &mut pending);
        match deadline {
            Some(deadline) if woken == Woken::Due => spin_until(deadline, &mut pending),
            _ => woken,
        }
    }

    fn sleep(
        &mut self,
        sleep: u32,
        deadline: Option<Instant>,
        pending: &mut impl FnMut() -> bool,
    ) -> Woken {
        let state = &self.shared.state;
        if state.compare_exchange(AWAKE, sleep, AcqRel, Acquire).is_err() {
            self.wake_up();
            return Woken::Work;
        }
        fence(SeqCst);
        if pending() {
            self.wake_up();
            return Woken::Work;
        }
        // Parking may end without cause, or by the unpark of a ring that was already answered.
        while state.load(Acquire) == sleep {
            let Some(deadline) = deadline else {
                park();
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.wake_up();
                return Woken::Due;
            }
            park_timeout(left);
        }
        // Ended by a ring, the state is this already; a summons is answered by this wait.
        self.wake_up();
        Woken::Work
    }

    /// The consumer no longer sleeps. Exchanged, not stored: what was written before a summons that
    /// has come is seen from here on.
    fn wake_up(&self) {
        self.shared.state.swap(AWAKE, AcqRel);
    }
}

/// The consumer's end of a bell, for one task: it is woken as it was when it first waited, so the task
/// is one that its executor wakes as a whole.
pub struct TaskListener {
    shared: Arc<Shared>,
    /// It waits, or was called and has not noticed.
    is_parked: bool,
}

impl TaskListener {
    /// Waits until `pending` says that something is there, or somebody rings, nudges or summons. What
    /// [`Listener::wait`] asks of `pending` holds here, too.
    pub fn poll_wait(
        &mut self,
        context: &mut Context<'_>,
        mut pending: impl FnMut() -> bool,
    ) -> Poll<()> {
        if !self.is_parked && !pending() {
            self.shared.consumer.get_or_init(|| Consumer::Task(context.waker().clone()));
            let state = &self.shared.state;
            self.is_parked = state.compare_exchange(AWAKE, LIGHT, AcqRel, Acquire).is_ok();
            fence(SeqCst);
        }
        // A task may be polled without cause.
        let waits = self.is_parked && is_parked(self.shared.state.load(Acquire)) && !pending();
        if waits {
            return Poll::Pending;
        }
        self.is_parked = false;
        // Exchanged, not stored: see `Listener::wake_up`.
        self.shared.state.swap(AWAKE, AcqRel);
        Poll::Ready(())
    }
}

fn spin_until(end: Instant, pending: &mut impl FnMut() -> bool) -> Woken {
    loop {
        if pending() {
            return Woken::Work;
        }
        if Instant::now() >= end {
            return Woken::Due;
        }
        spin_loop();
    }
}

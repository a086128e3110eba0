//! The threads of the live scheduler: each drains what has arrived, decides once, acts, and parks
//! when nothing is left to do.
//!
//! A [`Thread`] is the loop without its clock: it is told the time, so that a test can drive it under
//! a clock of its own, and a benchmark can put its load into the same loop.

use crate::between::between;
use crate::effects::Effects;
use crate::matcher::{LiveMatcher, Shown};
use crate::settings::Settings;
use crate::shard::LiveShard;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};
use symphony_core::{Span, Time};
use symphony_exchange::{Doorbell, Listener, Ringer, Spin, Woken};
use symphony_wire::carrier::in_process::ThreadInbox;
use symphony_wire::clock::Clock;

/// What found no room in a ring is offered again after this long, though nobody says that there
/// is room now.
const ROOM_AGAIN: Span = Span::from_micros(50);

/// What runs on one thread of the scheduler: shards, the matcher, or both.
pub struct Thread<E: Effects> {
    shards: Vec<LiveShard<E>>,
    matcher: Option<LiveMatcher>,
    ending: Arc<Ending>,
    /// Until the thread listens to it.
    doorbell: Option<Doorbell>,
    name: String,
}

/// When a turn was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// When it began.
    pub begun: Time,
    /// When it had decided and acted.
    pub ended: Time,
}

impl Turn {
    /// How long it took.
    #[must_use]
    pub fn busy(&self) -> Span {
        self.ended.since(self.begun)
    }
}

/// How the threads of a scheduler end together.
struct Ending {
    /// Shards that were not told to drain or have something left.
    undrained: AtomicUsize,
    /// A thread ended that was not told to.
    broken: AtomicBool,
    bells: Vec<Ringer>,
}

impl Ending {
    /// Has every thread look whether it is over. A ring would not do: a thread that is awake, and
    /// has looked already, would sleep on, for nothing has arrived that it waits for.
    fn summon_all(&self) {
        self.bells.iter().for_each(Ringer::summon);
    }
}

/// The threads of a scheduler that reads these inboxes; `effects` makes those of each shard.
///
/// # Panics
/// When the share for low requests is not between 0 and 1, or nobody reads for the matcher.
pub fn threads<E: Effects>(
    settings: &Settings,
    inboxes: Vec<ThreadInbox>,
    mut effects: impl FnMut(usize) -> E,
) -> Vec<Thread<E>> {
    let share = settings.low_share;
    assert!((0.0..=1.0).contains(&share), "{share} is no share");
    let is_apart = inboxes.len() > 1;
    let count = inboxes.iter().map(|inbox| inbox.shards.len()).sum();
    let ending = Arc::new(Ending {
        undrained: AtomicUsize::new(count),
        broken: AtomicBool::new(false),
        bells: inboxes.iter().map(|inbox| inbox.doorbell.ringer()).collect(),
    });
    let matcher = inboxes.iter().find(|inbox| inbox.matcher.is_some());
    let matcher = matcher.expect("one thread has the matcher").doorbell.ringer();
    let (mut from_shards, mut to_shards) = (Vec::new(), Vec::new());
    let mut all: Vec<Thread<E>> = Vec::new();
    let mut matching = None;
    for (at, ThreadInbox { doorbell, shards, matcher: inbox, serving, gaps }) in
        inboxes.into_iter().enumerate()
    {
        let name = name(is_apart, inbox.is_some(), shards.first().map(|(number, _)| *number));
        matching = matching.or(inbox.map(|inbox| (at, inbox, Shown { serving, gaps })));
        let live = shards.into_iter().map(|(number, inbox)| {
            let (end, from, to) = between(count, doorbell.ringer(), matcher.clone());
            from_shards.push(from);
            to_shards.push(to);
            LiveShard::new(settings, inbox, end, effects(number))
        });
        let shards = live.collect();
        let (ending, doorbell) = (Arc::clone(&ending), Some(doorbell));
        all.push(Thread { shards, matcher: None, ending, doorbell, name });
    }
    if let Some((at, inbox, shown)) = matching {
        all[at].matcher = Some(LiveMatcher::new(settings, inbox, shown, from_shards, to_shards));
    }
    all
}

/// What a thread is called: by its first shard where the matcher has a thread of its own.
fn name(is_apart: bool, has_matcher: bool, shard: Option<usize>) -> String {
    match shard {
        Some(shard) if is_apart => format!("shard-{shard}"),
        _ if has_matcher && is_apart => "matcher".to_owned(),
        _ => "scheduler".to_owned(),
    }
}

impl<E: Effects> Thread<E> {
    /// Takes in everything that has arrived, decides, and acts.
    pub fn turn(&mut self, now: Time) {
        let Thread { shards, matcher, .. } = self;
        if let Some(matcher) = matcher {
            matcher.take_in(now);
        }
        for shard in shards.iter_mut() {
            shard.take_in(now);
        }
        // The pool is planned before anything is decided by the plan.
        if let Some(matcher) = matcher {
            matcher.receive(now);
        }
        loop {
            for shard in shards.iter_mut() {
                shard.decide(now);
            }
            let Some(matcher) = matcher else { break };
            matcher.decide(now);
            // What shards and matcher of one thread send each other is answered at once.
            if !shards.iter().any(LiveShard::has_message) {
                break;
            }
        }
        self.note_drained();
    }

    /// When to take a turn though nothing arrives.
    #[must_use]
    pub fn next_wake(&self, now: Time) -> Option<Time> {
        let shards = self.shards.iter().filter_map(LiveShard::next_wake).min();
        let matcher = self.matcher.as_ref().and_then(LiveMatcher::next_wake);
        let has_backlog = self.shards.iter().any(LiveShard::has_backlog)
            || self.matcher.as_ref().is_some_and(LiveMatcher::has_backlog);
        let again = has_backlog.then(|| now + ROOM_AGAIN);
        [shards, matcher, again].into_iter().flatten().min()
    }

    /// Whether something has arrived.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.shards.iter().any(LiveShard::is_pending)
            || self.matcher.as_ref().is_some_and(LiveMatcher::is_pending)
    }

    /// Whether it is to be woken by the end of a batch. Otherwise such ends can wait for whatever
    /// comes next, a request or the look for overdue accelerators: at low load that is half of the
    /// scheduler's wake-ups. A matcher apart from its shards does not know whether a request waits.
    #[must_use]
    pub fn awaits_ends(&self) -> bool {
        let is_apart = self.shards.is_empty() || self.matcher.is_none();
        is_apart
            || self.shards.iter().any(LiveShard::awaits_ends)
            || self.matcher.as_ref().is_some_and(LiveMatcher::awaits_ends)
    }

    /// Whether there is nothing left to do for it, ever: the scheduler was told to drain and has,
    /// another of its threads failed, or nobody can send anything any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let ending = &self.ending;
        ending.undrained.load(Ordering::Acquire) == 0
            || ending.broken.load(Ordering::Acquire)
            || self.shards.iter().all(LiveShard::is_closed)
                && self.matcher.as_ref().is_none_or(LiveMatcher::is_closed)
    }

    /// It woke by its timer, this late.
    pub fn timer_fired(&mut self, now: Time, late: Span) {
        for shard in &mut self.shards {
            shard.timer_fired(late);
        }
        if let Some(matcher) = &mut self.matcher {
            matcher.timer_fired(now, late);
        }
    }

    /// Its turns took so long since the last call, which tells how many batches the scheduler
    /// sustains. Where time does not pass meanwhile nobody needs to call this.
    pub fn worked(&mut self, now: Time, busy: Span) {
        if let Some(matcher) = &mut self.matcher {
            matcher.worked(now, busy);
        }
    }

    /// How many shards it has.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The effects of its shards.
    pub fn effects(&mut self) -> impl Iterator<Item = &mut E> {
        self.shards.iter_mut().map(LiveShard::effects)
    }

    /// The bell that tells it to look, for the thread that it is going to run on; there once.
    pub fn listen(&mut self, spin: Spin) -> Option<Listener> {
        self.doorbell.take().map(|doorbell| doorbell.listen(spin))
    }

    /// Takes a turn and measures it.
    pub fn timed_turn(&mut self, clock: &Clock) -> Turn {
        let begun = clock.now();
        self.turn(begun);
        let ended = clock.now();
        let turn = Turn { begun, ended };
        self.worked(ended, turn.busy());
        turn
    }

    /// After a turn, sleeps until a message arrives, a timer is due or the end comes. Do not call it
    /// when the thread was over after that turn: the end is signalled once.
    pub fn wait(&mut self, turn: Turn, clock: &Clock, listener: &mut Listener) {
        let due = self.next_wake(turn.ended).and_then(|wake| Some((wake, clock.instant(wake)?)));
        let instant = due.map(|(_, instant)| instant);
        let woken = if self.awaits_ends() {
            listener.wait(instant, || self.is_pending())
        } else {
            listener.wait_soundly(instant, || self.is_pending())
        };
        if let (Woken::Due, Some((wake, _))) = (woken, due) {
            let now = clock.now();
            self.timer_fired(now, now.since(wake));
        }
    }

    /// Stops reading, and gives every request that is left its outcome.
    pub fn end(self) {
        self.finish(false);
    }

    fn finish(self, failed: bool) {
        let Thread { shards, ending, .. } = self;
        let failed = failed || ending.broken.load(Ordering::Acquire);
        shards.into_iter().for_each(|shard| shard.end(failed));
    }

    fn note_drained(&mut self) {
        for shard in &mut self.shards {
            if shard.is_newly_drained() && self.ending.undrained.fetch_sub(1, Ordering::AcqRel) == 1
            {
                self.ending.summon_all();
            }
        }
    }
}

/// Runs each on a thread of its own until the scheduler is drained or every port is gone. However
/// one ends, by a panic too, the others end with it, and every request gets its outcome.
///
/// # Errors
/// The operating system gives no thread; those that were started end.
pub fn spawn<E: Effects + 'static>(
    threads: Vec<Thread<E>>,
    clock: Clock,
    spin: Spin,
) -> io::Result<Vec<JoinHandle<()>>> {
    let start = |thread: Thread<E>| {
        let builder = Builder::new().name(thread.name.clone());
        let guarded = Guard(Some(thread));
        builder.spawn(move || run(guarded, clock, spin))
    };
    threads.into_iter().map(start).collect()
}

fn run<E: Effects>(mut guarded: Guard<E>, clock: Clock, spin: Spin) {
    let Some(thread) = &mut guarded.0 else { return };
    let Some(mut listener) = thread.listen(spin) else { return };
    loop {
        let turn = thread.timed_turn(&clock);
        if thread.is_over() {
            return;
        }
        thread.wait(turn, &clock, &mut listener);
    }
}

/// A thread's parts; however it ends, the others end with it and no request is left behind.
struct Guard<E: Effects>(Option<Thread<E>>);

impl<E: Effects> Drop for Guard<E> {
    fn drop(&mut self) {
        let Some(thread) = self.0.take() else { return };
        let failed = std::thread::panicking() || !thread.is_over();
        if failed {
            thread.ending.broken.store(true, Ordering::Release);
            thread.ending.summon_all();
        }
        thread.finish(failed);
    }
}

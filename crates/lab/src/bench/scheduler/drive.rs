//! One run: threads of the scheduler, each shard with its own load in its loop.

use super::arrivals::Arrivals;
use super::emulator::{Emulator, grace};
use super::instructions::Instructions;
use super::lag::Lags;
use super::ledger::{Counts, Ended, Ledger};
use crate::bench::process::resident_mib;
use anyhow::{Context, Result};
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{JoinHandle, sleep};
use symphony_core::sched::{Mode, ModelTerms};
use symphony_core::{Class, ModelId, Objective, Profile, Request, Span, Time};
use symphony_dispatch::{Settings, Thread, threads};
use symphony_exchange::{Full, Sender, Spin};
use symphony_wire::carrier::in_process::{FrontendToShard, Layout, SchedulerPort, home, scheduler};
use symphony_wire::clock::{Clock, duration};
use symphony_workload::Popularity;
use symphony_workload::random::Random;

/// What is run.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) profile: Arc<Profile>,
    pub(super) slo: Span,
    pub(super) models: u32,
    pub(super) zipf: f64,
    pub(super) accelerators: u32,
    pub(super) layout: Layout,
    pub(super) mode: Mode,
    pub(super) warmup: Span,
    pub(super) measured: Span,
    pub(super) spin: Spin,
    pub(super) pin: bool,
    pub(super) seed: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) struct Ran {
    pub(super) counts: Counts,
    pub(super) lags: Lags,
    pub(super) shards: Vec<ShardRan>,
    /// Of the matcher's thread, where it has one to itself.
    pub(super) matcher: Option<Busy>,
    /// Resident memory of the process at the end, in MiB.
    pub(super) resident_mib: f64,
}

/// What one shard did in the measured time.
#[derive(Clone, Debug)]
pub(super) struct ShardRan {
    pub(super) counts: Counts,
    pub(super) lags: Lags,
    pub(super) batches: u64,
    pub(super) rows: u64,
    pub(super) busy: Busy,
}

/// How much of the measured time a thread had something to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Busy {
    pub(super) busy: Span,
    pub(super) measured: Span,
    /// That took so many instructions, where this machine counts them.
    pub(super) instructions: Option<f64>,
}

impl Busy {
    pub(super) fn share(self) -> f64 {
        self.busy.as_secs_f64() / self.measured.as_secs_f64()
    }
}

/// Requests pushed before the scheduler takes a turn; it takes in as many, or less where it has
/// few models, and the rest waits in the ring.
const PUSH_MAX: usize = 4096;
/// Requests of one shard that may be in flight.
const IN_FLIGHT_MAX: usize = 1 << 22;

/// Runs the scheduler under this many requests per second.
pub(super) fn run(setup: &Setup, rate: f64) -> Result<Ran> {
    let clock = Clock::start();
    let (port, inboxes) = scheduler(setup.layout);
    let settings = Settings::new(setup.mode, setup.accelerators);
    let all = threads(&settings, inboxes, |shard| {
        let ledger = Ledger::new(u16::try_from(shard).expect("few shards"), IN_FLIGHT_MAX);
        Emulator::new(Arc::clone(&setup.profile), port.clone(), ledger)
    });
    // Everything is there, and the threads run, before the first request is due.
    let begin = clock.now() + Span::from_millis(300) + Span::from_micros(u64::from(setup.models));
    let cores = if setup.pin { core_affinity::get_core_ids() } else { None }.unwrap_or_default();
    let loads = loads(setup, rate, &port, begin)?;
    let mut loads = loads.into_iter();
    let mut running = Vec::new();
    for (number, thread) in all.into_iter().enumerate() {
        let shards = thread.shards();
        let loads: Vec<Load> = loads.by_ref().take(shards).collect();
        let core = cores.get(number).copied();
        let span = (begin + setup.warmup, begin + setup.warmup + setup.measured);
        let spin = setup.spin;
        let start = move || {
            if let Some(core) = core {
                core_affinity::set_for_current(core);
            }
            if loads.is_empty() {
                alone(thread, clock, span, spin)
            } else {
                under_load(thread, loads, clock, span)
            }
        };
        let builder = std::thread::Builder::new().name(format!("bench-{number}"));
        running.push(builder.spawn(start).context("cannot start a thread of the scheduler")?);
    }
    add_models(setup, &port)?;
    let end = setup.warmup + setup.measured + grace(setup.slo, &setup.profile);
    let until = (begin + end).since(clock.now());
    sleep(duration(until));
    let resident_mib = resident_mib()?;
    let drained = port.drain().context("the scheduler has ended early")?;
    drop(drained.blocking_recv());
    collect(running, resident_mib)
}

fn add_models(setup: &Setup, port: &SchedulerPort) -> Result<()> {
    let mut added = Vec::new();
    for model in (0..setup.models).map(ModelId::first) {
        let terms = ModelTerms {
            profile: Arc::clone(&setup.profile),
            objective: Objective::Slo(setup.slo),
            queue_max: u32::MAX,
            loss_weight: 1.0,
            lane_of: None,
        };
        added.push(port.add_model(model, terms)?);
    }
    for added in added {
        added.blocking_recv().context("the scheduler has ended early")?;
    }
    Ok(())
}

/// The load of each shard: its own models' part of the rate.
fn loads(setup: &Setup, rate: f64, port: &SchedulerPort, begin: Time) -> Result<Vec<Load>> {
    let shares = Popularity::Zipf(setup.zipf).shares(setup.models as usize)?;
    let shards = setup.layout.shards();
    let of = |shard: usize| {
        let models = (0..setup.models).map(ModelId::first).zip(&shares);
        let own: Vec<_> = models.filter(|(model, _)| home(*model, shards) == shard).collect();
        let weights: Vec<(ModelId, f64)> = own.iter().map(|(model, w)| (*model, **w)).collect();
        let share: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let &(model, _) = weights.first().with_context(|| {
            format!("{shards} shards for {} models: give each at least one", setup.models)
        })?;
        let random = Random::numbered(setup.seed, shard as u64);
        let arrivals = Arrivals::new(&weights, rate * share, begin, random);
        let pushed = VecDeque::with_capacity(PUSH_MAX);
        let (ring, slo) = (port.connect(model)?, setup.slo);
        Ok(Load { arrivals, ring, slo, pushed, lags: Lags::new() })
    };
    (0..shards).map(of).collect()
}

/// The requests of one shard, as a step of its thread's loop.
struct Load {
    arrivals: Arrivals,
    ring: Sender<FrontendToShard>,
    slo: Span,
    /// When the requests in the ring were due.
    pushed: VecDeque<Time>,
    lags: Lags,
}

impl Load {
    /// Pushes what is due, each by itself, with its own identity and deadline.
    fn push(&mut self, now: Time, ledger: &mut Ledger) {
        let mut burst = self.ring.burst();
        for _ in 0..PUSH_MAX {
            let arrival = self.arrivals.due();
            if arrival > now {
                break;
            }
            let model = self.arrivals.next();
            let Some(id) = ledger.admit() else { continue };
            let deadline = arrival + self.slo;
            let request = Request { id, arrival, deadline, rows: 1, class: Class::High };
            match burst.send(FrontendToShard::Submit { model, request }) {
                Ok(()) => self.pushed.push_back(arrival),
                Err(Full(_)) => ledger.end(id, Ended::Refused),
            }
        }
    }

    /// The scheduler has decided for everything that it has taken out of the ring.
    fn handed_over(&mut self, now: Time, is_measured: bool) {
        let taken = self.pushed.len() - self.ring.len();
        for due in self.pushed.drain(..taken) {
            if is_measured {
                self.lags.record(now.since(due));
            }
        }
    }
}

/// What a thread hands back.
struct Part {
    shards: Vec<(Counts, Lags, u64, u64)>,
    busy: Busy,
}

/// A thread with shards: it never sleeps, as its load is due at any moment.
fn under_load(
    mut thread: Thread<Emulator>,
    mut loads: Vec<Load>,
    clock: Clock,
    (from, to): (Time, Time),
) -> Part {
    drop(thread.listen(Spin::NEVER));
    let mut busy = Span::ZERO;
    let mut marks: Vec<(u64, u64)> = vec![(0, 0); loads.len()];
    let mut ends: Vec<(u64, u64)> = marks.clone();
    let (mut is_measured, mut is_over) = (false, false);
    let mut instructions = Instructions::of_this_thread();
    while !thread.is_over() {
        let begun = instructions.begin();
        let now = clock.now();
        let was_measured = is_measured;
        is_measured = from <= now && now < to;
        is_over |= now >= to;
        for (number, (load, emulator)) in loads.iter_mut().zip(thread.effects()).enumerate() {
            if is_measured != was_measured {
                let counted = (emulator.batches, emulator.rows);
                if is_measured { marks[number] = counted } else { ends[number] = counted }
            }
            emulator.ledger.count(is_measured);
            emulator.step(now);
            if !is_over {
                load.push(now, &mut emulator.ledger);
            }
        }
        match thread.next_wake(now).filter(|wake| *wake <= now) {
            Some(wake) => thread.timer_fired(now, now.since(wake)),
            None if !thread.is_pending() => {
                std::hint::spin_loop();
                continue;
            }
            None => {}
        }
        thread.turn(now);
        let end = clock.now();
        thread.worked(end, end.since(now));
        loads.iter_mut().for_each(|load| load.handed_over(end, is_measured));
        if is_measured {
            busy += end.since(now);
            instructions.end(begun);
        }
    }
    let part = |(number, (load, emulator)): (usize, (Load, &mut Emulator))| {
        let lost = emulator.ledger.open();
        let counts = Counts { lost, ..emulator.ledger.counts };
        let ((batches, rows), (batches_end, rows_end)) = (marks[number], ends[number]);
        (counts, load.lags, batches_end - batches, rows_end - rows)
    };
    let shards = loads.into_iter().zip(thread.effects()).enumerate().map(part).collect();
    thread.end();
    let instructions = instructions.all();
    Part { shards, busy: Busy { busy, measured: to.since(from), instructions } }
}

/// The matcher's thread: it sleeps when it has nothing to do, as in a server.
fn alone(mut thread: Thread<Emulator>, clock: Clock, (from, to): (Time, Time), spin: Spin) -> Part {
    let mut busy = Span::ZERO;
    let mut instructions = Instructions::of_this_thread();
    let listener = thread.listen(spin);
    if let Some(mut listener) = listener {
        loop {
            let begun = instructions.begin();
            let turn = thread.timed_turn(&clock);
            if from <= turn.begun && turn.begun < to {
                busy += turn.busy();
                instructions.end(begun);
            }
            if thread.is_over() {
                break;
            }
            thread.wait(turn, &clock, &mut listener);
        }
    }
    thread.end();
    let instructions = instructions.all();
    Part { shards: Vec::new(), busy: Busy { busy, measured: to.since(from), instructions } }
}

fn collect(running: Vec<JoinHandle<Part>>, resident_mib: f64) -> Result<Ran> {
    let mut ran = Ran {
        counts: Counts::default(),
        lags: Lags::new(),
        shards: Vec::new(),
        matcher: None,
        resident_mib,
    };
    for thread in running {
        let part = thread.join().ok().context("a thread of the scheduler panicked")?;
        if part.shards.is_empty() {
            ran.matcher = Some(part.busy);
        }
        for (counts, lags, batches, rows) in part.shards {
            ran.counts += counts;
            ran.lags.add(&lags);
            ran.shards.push(ShardRan { counts, lags, batches, rows, busy: part.busy });
        }
    }
    Ok(ran)
}

/// What a bare loop sees that only looks at the clock: how late it would notice requests that are
/// due at this rate, for so long.
pub(super) fn bare_loop(rate: f64, time: Span, pin: bool, seed: u64) -> Lags {
    let spin = move || {
        // The core of the first shard.
        let core = core_affinity::get_core_ids().and_then(|cores| cores.get(1).copied());
        if let Some(core) = core.filter(|_| pin) {
            core_affinity::set_for_current(core);
        }
        let clock = Clock::start();
        let models = [(ModelId::first(0), 1.0)];
        let mut arrivals = Arrivals::new(&models, rate, clock.now(), Random::new(seed));
        let mut lags = Lags::new();
        let mut now = clock.now();
        let end = now + time;
        while now < end {
            now = clock.now();
            while arrivals.due() <= now {
                lags.record(now.since(arrivals.due()));
                arrivals.next();
            }
        }
        lags
    };
    std::thread::spawn(spin).join().unwrap_or_else(|_| Lags::new())
}

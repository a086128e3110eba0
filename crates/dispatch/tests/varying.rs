//! Execution times that are not those of the profile, under a clock of the test's own: whatever an
//! accelerator does for a while, requests are answered in time again soon after it has ended.

mod support;

use support::{MODEL, Rig, SLO};
use symphony_core::sched::Mode;
use symphony_core::{AcceleratorId, Span, Time};
use symphony_dispatch::Settings;
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::Layout;
use symphony_wire::message::{BatchPlan, Outcome};
use tokio::sync::oneshot;

const LAYOUTS: [fn() -> Layout; 2] = [|| Layout::TOGETHER, || Layout::on_threads(2)];
const MODES: [Mode; 2] = [Mode::Adaptive, Mode::Consolidate];
const STEP: Span = Span::from_micros(100);

/// How many times its profile's time a batch takes that begins now, there.
type Factor = Box<dyn FnMut(Time, AcceleratorId) -> f64>;

/// Numbers that are random enough.
struct Dice(u64);

impl Dice {
    /// Between zero and one.
    fn roll(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from((self.0 >> 33) as u32) / f64::from(1u32 << 31)
    }

    /// Of a nearly normal distribution.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.roll()).sum::<f64>() - 6.0
    }
}

/// A pool of one model, `l(b) = b + 5 ms` to 8 rows, and its clients.
struct World {
    rig: Rig,
    now: Time,
    factor: Factor,
    arrivals: Dice,
    /// When each accelerator has ended all that it was sent.
    free: Vec<Time>,
    running: Vec<Running>,
    waiting: Vec<oneshot::Receiver<Outcome>>,
    tally: Tally,
}

struct Running {
    end: Time,
    exec: Span,
    accelerator: AcceleratorId,
    plan: Timed<BatchPlan>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    good: usize,
    late: usize,
    dropped: usize,
}

impl Tally {
    fn offered(&self) -> usize {
        self.good + self.late + self.dropped
    }

    fn bad_share(&self) -> f64 {
        (self.late + self.dropped) as f64 / self.offered().max(1) as f64
    }
}

/// Who schedules, on how many accelerators.
#[derive(Clone, Copy, Debug)]
struct Pool {
    mode: Mode,
    layout: usize,
    accelerators: u32,
    /// The spread that the profile knows of.
    spread: f64,
}

impl Pool {
    fn start(self, factor: Factor) -> World {
        let mut terms = support::terms(50_000);
        let profile = terms.profile.as_ref().clone();
        terms.profile = profile.with_spread(&[(1, self.spread)]).into();
        let settings = Settings::new(self.mode, self.accelerators);
        World {
            rig: Rig::with(&settings, LAYOUTS[self.layout](), terms),
            now: Time::ZERO,
            factor,
            arrivals: Dice(7),
            free: vec![Time::ZERO; self.accelerators as usize],
            running: Vec::new(),
            waiting: Vec::new(),
            tally: Tally::default(),
        }
    }
}

/// Every mode in every layout, on so many accelerators.
fn pools(accelerators: u32, spread: f64) -> impl Iterator<Item = Pool> {
    let layouts = 0..LAYOUTS.len();
    let pairs = layouts.flat_map(|layout| MODES.map(|mode| (mode, layout)));
    pairs.map(move |(mode, layout)| Pool { mode, layout, accelerators, spread })
}

impl World {
    /// Lets the time pass with so many requests a second, at random. Returns what became of the
    /// requests that ended in it.
    fn pass(&mut self, time: Span, rate: f64) -> Tally {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + STEP;
            if self.arrivals.roll() < rate * STEP.as_secs_f64() {
                self.waiting.push(self.rig.send(self.now).expect("room").1);
            }
            self.complete();
            self.rig.turn(self.now);
            self.take_up();
        }
        self.waiting.retain_mut(|outcome| match outcome.try_recv() {
            Ok(Outcome::Done(_)) => false,
            Ok(Outcome::Dropped { .. }) => {
                self.tally.dropped += 1;
                false
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => true,
        });
        std::mem::take(&mut self.tally)
    }

    /// Begins the batches that were sent, each behind those before it.
    fn take_up(&mut self) {
        for (accelerator, plan) in self.rig.sent() {
            let begin = self.free[accelerator.index()].max(self.now);
            let rows = u64::from(plan.message.rows);
            let profile = Span::from_millis(rows + 5).as_millis_f64();
            let exec = Span::from_millis_f64(profile * (self.factor)(begin, accelerator));
            let end = begin + exec;
            self.free[accelerator.index()] = end;
            self.running.push(Running { end, exec, accelerator, plan });
        }
    }

    fn complete(&mut self) {
        let now = self.now;
        for ended in self.running.extract_if(.., |running| running.end <= now) {
            let Running { end, exec, accelerator, plan: Timed { at, message: plan } } = ended;
            for request in &plan.requests {
                let is_good = end <= at + request.budget;
                self.tally.good += usize::from(is_good);
                self.tally.late += usize::from(!is_good);
            }
            support::answer(&self.rig.inflight, &plan);
            let completion = support::completion(accelerator, &plan, at, exec, end);
            self.rig.port.completed(completion).expect("room");
        }
    }

    #[track_caller]
    fn expect_all_ended(&mut self) {
        self.pass(SLO.times(40), 0.0);
        assert!(self.waiting.is_empty(), "{} without an outcome", self.waiting.len());
        assert!(self.rig.inflight.is_empty());
    }
}

/// At most so many requests in a thousand are bad.
#[track_caller]
fn expect_served(tally: Tally, per_mille: f64, what: &str) {
    let share = 1000.0 * tally.bad_share();
    assert!(tally.offered() > 0 && share <= per_mille, "{what}: {share:.1} per mille, {tally:?}");
}

#[test]
fn an_accelerator_that_is_slow_for_ten_seconds_is_as_good_as_new_two_objectives_later() {
    let seconds = Span::from_secs;
    let (from, to) = (Time::ZERO + seconds(2), Time::ZERO + seconds(12));
    for accelerators in [1, 2] {
        for pool in pools(accelerators, 0.0) {
            let factor = move |now: Time, accelerator: AcceleratorId| {
                let is_slow = accelerator.index() == 0 && (from..to).contains(&now);
                if is_slow { 3.0 } else { 1.0 }
            };
            let mut world = pool.start(Box::new(factor));
            // Half of what the pool does with batches of eight.
            let rate = 300.0 * f64::from(accelerators);
            world.pass(seconds(2), rate);
            let slow = world.pass(seconds(10), rate);
            // What the machine can do meanwhile: batches of three rows in 24 ms, one after the
            // other, and all that the other accelerator does.
            let possible = 1000.0 + 6000.0 * f64::from(accelerators - 1);
            let possible = possible.min(rate * 10.0);
            assert!(slow.good as f64 > 0.5 * possible, "{pool:?}: {slow:?} of {possible}");
            // Full deferral hardly uses an accelerator that is slower than others, so that it is long
            // until its batches have shown that it has recovered.
            let is_shunned = pool.mode == Mode::Consolidate && accelerators > 1;
            world.pass(SLO.times(if is_shunned { 40 } else { 2 }), rate);
            let after = world.pass(seconds(3), rate);
            expect_served(after, 1.0, &format!("{pool:?}"));
            world.expect_all_ended();
        }
    }
}

#[test]
fn what_batches_took_is_told() {
    let pool = pools(1, 0.0).next().expect("a pool");
    let mut world = pool.start(Box::new(|_, _| 2.0));
    world.pass(Span::from_secs(1), 200.0);
    let mut asked = world.rig.port.statistics().expect("room");
    world.rig.turn(world.now);
    let told = asked.try_recv().expect("an answer");
    let [(MODEL, times)] = told.times[..] else { panic!("{:?}", told.times) };
    assert_eq!(times.batches, 64);
    let is_near = |value: f64, aim: f64| (value - aim).abs() < 0.01;
    assert!(is_near(times.mean, 2.0) && is_near(times.p95, 2.0), "{times:?}");
    assert!(is_near(times.spread, 0.0), "{times:?}");
    assert!(told.delays.response > Span::ZERO, "{:?}", told.delays);
}

#[test]
fn a_first_batch_of_a_hundred_times_its_time_costs_what_waits_for_it() {
    for pool in pools(1, 0.0) {
        let mut is_first = true;
        let factor = move |_: Time, _: AcceleratorId| {
            if std::mem::take(&mut is_first) { 100.0 } else { 1.0 }
        };
        let mut world = pool.start(Box::new(factor));
        world.pass(Span::from_millis(100), 300.0);
        while !world.running.is_empty() {
            world.pass(STEP, 300.0);
            if world.running.iter().all(|running| running.exec < Span::from_millis(100)) {
                break;
            }
        }
        world.pass(SLO.times(2), 300.0);
        let after = world.pass(Span::from_secs(3), 300.0);
        expect_served(after, 1.0, &format!("{pool:?}"));
        world.expect_all_ended();
    }
}

#[test]
fn times_whose_95th_percentile_is_twice_their_median_are_served() {
    let spread = 0.44;
    let variance = f64::ln_1p(spread * spread);
    // Whether or not the profile knows.
    for known in [spread, 0.0] {
        for pool in pools(2, known) {
            // Full deferral waits until three deviations before the deadline.
            let per_mille = if pool.mode == Mode::Consolidate { 20.0 } else { 2.0 };
            let mut dice = Dice(3);
            let factor = move |_: Time, _: AcceleratorId| {
                (variance.sqrt() * dice.normal() - variance / 2.0).exp()
            };
            let mut world = pool.start(Box::new(factor));
            world.pass(Span::from_secs(2), 200.0);
            let served = world.pass(Span::from_secs(10), 200.0);
            expect_served(served, per_mille, &format!("{pool:?}"));
            world.expect_all_ended();
        }
    }
}

#[test]
fn a_tail_of_one_batch_in_a_hundred_costs_its_own_requests() {
    for pool in pools(2, 0.0) {
        let mut dice = Dice(5);
        let factor = move |_: Time, _: AcceleratorId| if dice.roll() < 0.01 { 3.0 } else { 1.0 };
        let mut world = pool.start(Box::new(factor));
        world.pass(Span::from_secs(1), 300.0);
        let served = world.pass(Span::from_secs(20), 300.0);
        // Their own requests are ten in a thousand. Under full deferral all of these are late, and so
        // is what waits behind them.
        let per_mille = if pool.mode == Mode::Consolidate { 20.0 } else { 5.0 };
        expect_served(served, per_mille, &format!("{pool:?}"));
        world.expect_all_ended();
    }
}

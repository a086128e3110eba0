//! The noise that machines have, beyond a spread of execution times: a tail, slow spells, a cold
//! first batch, requests that cost unlike their neighbours, and timers that fire late.
//!
//! Noise is the same for every policy: what becomes of a batch depends on its number, a spell on
//! time alone, a request's cost on its number, and a timer's lateness on when it should fire.

use crate::delay::Delay;
use std::collections::VecDeque;
use symphony_core::{AcceleratorId, ModelId, Profile, Request, RequestId, Span, Time};
use symphony_workload::random::Random;

/// How execution times and timers differ from what they are on a quiet machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Noise {
    /// Batches that take far longer than the others.
    pub tail: Option<Tail>,
    /// Requests that cost less or more than the others, though nothing tells which.
    pub bimodal: Option<Bimodal>,
    /// Times in which accelerators are slow.
    pub spells: Vec<Spells>,
    /// How many times its time the first batch of each model takes.
    pub first_batch: Option<f64>,
    /// How much later than asked for a policy is woken. Requests and ends of batches reach it at
    /// their time, and it then does what is due.
    pub timer: Delay,
}

/// A share of all batches that takes so many times its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tail {
    /// The share, 0 to 1.
    pub share: f64,
    /// The factor, more than zero.
    pub factor: f64,
}

/// A share of all requests, of every model, that takes so many times the time of the others, such
/// as those that leave a network by an early exit.
///
/// The time of a batch is `l(b)` when all its requests cost the full time. Of that, what every batch
/// costs (`beta` of the line that fits the profile) goes by its dearest request, and the rest by its
/// rows' factors on average: a batch runs until its last request is done, and a request that is done
/// early takes no more of the accelerator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bimodal {
    /// The share, 0 to 1.
    pub share: f64,
    /// The factor, more than zero and at most one.
    pub factor: f64,
}

/// Slow spells, which begin independently of each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spells {
    /// How many begin per second, on average, in the whole pool; more than zero.
    pub per_second: f64,
    /// How long they last on average; exponentially distributed.
    pub length: Span,
    /// How many times its time an execution takes for as long as the spell lasts; at least one.
    /// Where several overlap, the slowest counts.
    pub factor: f64,
    /// What a spell strikes.
    pub strikes: Strikes,
}

/// What is slow in a spell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strikes {
    /// One accelerator, drawn anew for each spell.
    One,
    /// All accelerators.
    All,
}

impl Bimodal {
    /// What a request costs on average, as a share of the full cost.
    #[must_use]
    pub fn mean(&self) -> f64 {
        1.0 - self.share * (1.0 - self.factor)
    }

    /// The time of an accelerator that a row takes at least, in seconds, whatever batches it is in:
    /// as if batches took the time of their cheapest request, but rows cost what they do.
    #[must_use]
    pub fn seconds_per_row(&self, profile: &Profile, slo: Span) -> f64 {
        let cheap = slo.as_millis_f64() / self.factor;
        let rows = profile.rows_within(Span::from_millis_f64(cheap)).max(1);
        profile.exec(rows).as_secs_f64() / f64::from(rows) * self.mean()
    }

    /// The cost of request `id` in the run with this seed, as a share of the full cost.
    fn cost(&self, seed: u64, id: RequestId) -> f64 {
        let mut random = Random::numbered(seed ^ COSTS, id.number());
        if random.uniform() <= self.share { self.factor } else { 1.0 }
    }

    /// How much of `l(b)` a batch of these requests takes.
    fn part(&self, seed: u64, profile: &Profile, requests: &[Request]) -> f64 {
        let (mut rows, mut cost, mut dearest) = (0, 0.0, 0f64);
        for request in requests {
            let own = self.cost(seed, request.id);
            rows += request.rows;
            cost += own * f64::from(request.rows);
            dearest = dearest.max(own);
        }
        let (_, beta) = profile.fit();
        let whole = profile.exec(rows.clamp(1, profile.rows_max()));
        let every = beta.as_millis_f64().min(whole.as_millis_f64()) / whole.as_millis_f64();
        every * dearest + (1.0 - every) * cost / f64::from(rows.max(1))
    }
}

/// Keep the families of random numbers apart from others with the same seed.
const COSTS: u64 = 0x5bd1_e995_7b93_11c3;
const TIMERS: u64 = 0x2545_f491_4f6c_dd1d;

/// Noise during a run.
pub(crate) struct RunningNoise<'a> {
    noise: &'a Noise,
    seed: u64,
    tail: Random,
    spells: Vec<RunningSpells>,
    /// Models that have run a batch.
    warm: Vec<bool>,
}

impl<'a> RunningNoise<'a> {
    /// `random` makes the stream of a number from zero on.
    pub(crate) fn new(
        noise: &'a Noise,
        accelerators: u32,
        seed: u64,
        random: impl Fn(u64) -> Random,
    ) -> RunningNoise<'a> {
        let spells = (1..).zip(&noise.spells);
        let spells = spells.map(|(number, spells)| RunningSpells {
            spells: *spells,
            accelerators,
            random: random(number),
            laid: Time::ZERO,
            list: VecDeque::new(),
        });
        let spells = spells.collect();
        RunningNoise { noise, seed, tail: random(0), spells, warm: Vec::new() }
    }

    /// How long a batch runs on an accelerator that is never slow, if it takes `exec` without noise.
    pub(crate) fn exec(
        &mut self,
        exec: Span,
        model: ModelId,
        profile: &Profile,
        requests: &[Request],
    ) -> Span {
        let mut factor = 1.0;
        if let Some(bimodal) = self.noise.bimodal {
            factor *= bimodal.part(self.seed, profile, requests);
        }
        if let Some(tail) = self.noise.tail
            && self.tail.uniform() <= tail.share
        {
            factor *= tail.factor;
        }
        if let Some(first) = self.noise.first_batch {
            let known = self.warm.len().max(model.index() + 1);
            self.warm.resize(known, false);
            if !std::mem::replace(&mut self.warm[model.index()], true) {
                factor *= first;
            }
        }
        if factor == 1.0 { exec } else { Span::from_millis_f64(exec.as_millis_f64() * factor) }
    }

    /// When a batch ends that begins at `begin` and has so much left to do: an accelerator gets on
    /// more slowly for as long as a spell lasts. Called with beginnings after `now`, which grows.
    pub(crate) fn end(
        &mut self,
        now: Time,
        begin: Time,
        exec: Span,
        accelerator: AcceleratorId,
    ) -> Time {
        if self.spells.is_empty() {
            return begin + exec;
        }
        self.spells.iter_mut().for_each(|spells| spells.forget(now));
        let (mut at, mut left) = (begin, exec.0 as f64);
        loop {
            let paces = self.spells.iter_mut().map(|spells| spells.pace(at, accelerator));
            let first = (1.0, Time::NEVER);
            let (factor, until) = paces.fold(first, |a, b| (f64::max(a.0, b.0), a.1.min(b.1)));
            let (needed, room) = (left * factor, until.since(at));
            if needed <= room.0 as f64 {
                return at + nanos(needed);
            }
            left -= room.0 as f64 / factor;
            at = until;
        }
    }

    /// When a policy is woken that asked for this time.
    pub(crate) fn woken(&self, asked: Time) -> Time {
        match self.noise.timer {
            Delay::Constant(late) => asked + late,
            timer => asked + timer.draw(&mut Random::numbered(self.seed ^ TIMERS, asked.0)),
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, saturates")]
fn nanos(nanos: f64) -> Span {
    Span(nanos.round() as u64)
}

/// Spells of one kind, laid out as far as they were asked for.
struct RunningSpells {
    spells: Spells,
    accelerators: u32,
    random: Random,
    /// When the last spell that was laid out begins.
    laid: Time,
    /// By when they begin. Those that have ended are taken out.
    list: VecDeque<Spell>,
}

struct Spell {
    from: Time,
    to: Time,
    /// `None` for all.
    accelerator: Option<AcceleratorId>,
}

impl RunningSpells {
    /// How slow an accelerator is at a time, and until when no spell begins or ends.
    fn pace(&mut self, at: Time, accelerator: AcceleratorId) -> (f64, Time) {
        while self.laid <= at {
            self.lay();
        }
        let (mut factor, mut until) = (1.0, Time::NEVER);
        for spell in &self.list {
            if spell.accelerator.is_some_and(|struck| struck != accelerator) || spell.to <= at {
                continue;
            }
            if spell.from > at {
                until = until.min(spell.from);
                break;
            }
            factor = self.spells.factor;
            until = until.min(spell.to);
        }
        // What begins after the last one is not known yet.
        (factor, until.min(self.laid))
    }

    /// Lays out the next spell.
    fn lay(&mut self) {
        let Spells { per_second, length, strikes, .. } = self.spells;
        let gap = nanos(self.random.exponential() / per_second * 1e9).max(Span(1));
        let length = nanos(self.random.exponential() * length.0 as f64);
        let place = self.random.uniform();
        self.laid = self.laid + gap;
        let accelerator = match strikes {
            Strikes::All => None,
            Strikes::One => Some(self.drawn(place)),
        };
        self.list.push_back(Spell { from: self.laid, to: self.laid + length, accelerator });
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below the count")]
    fn drawn(&self, place: f64) -> AcceleratorId {
        let number = (place * f64::from(self.accelerators)) as u32;
        AcceleratorId(number.min(self.accelerators.saturating_sub(1)))
    }

    fn forget(&mut self, now: Time) {
        self.list.retain(|spell| spell.to > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symphony_core::Class;

    fn request(id: u64, rows: u32) -> Request {
        Request {
            id: RequestId::only(id),
            arrival: Time::ZERO,
            deadline: Time(9),
            rows,
            class: Class::High,
        }
    }

    fn running(noise: &Noise, accelerators: u32) -> RunningNoise<'_> {
        RunningNoise::new(noise, accelerators, 7, |number| Random::numbered(7, number))
    }

    fn profile() -> Profile {
        Profile::linear(Span::from_millis(1), Span::from_millis(5), 32).unwrap()
    }

    #[test]
    fn a_share_of_the_batches_is_in_the_tail() {
        let tail = Some(Tail { share: 0.1, factor: 3.0 });
        let noise = Noise { tail, ..Noise::default() };
        let (mut running, profile) = (running(&noise, 1), profile());
        let slow = (0..10_000).filter(|_| {
            let exec = running.exec(Span(10), ModelId::first(0), &profile, &[]);
            assert!(exec == Span(10) || exec == Span(30), "{exec:?}");
            exec == Span(30)
        });
        let slow = slow.count();
        assert!((900..1100).contains(&slow), "{slow}");
    }

    #[test]
    fn the_first_batch_of_each_model_is_cold() {
        let noise = Noise { first_batch: Some(100.0), ..Noise::default() };
        let (mut running, profile) = (running(&noise, 1), profile());
        let mut exec = |model| running.exec(Span(5), ModelId::first(model), &profile, &[]).0;
        assert_eq!([exec(1), exec(1), exec(0), exec(0), exec(1)], [500, 5, 500, 5, 5]);
    }

    #[test]
    fn a_mixed_batch_takes_what_its_rows_take_and_its_dearest_holds_up() {
        let bimodal = Bimodal { share: 0.5, factor: 0.4 };
        let profile = profile();
        let kind = |cost: f64| (0..).find(|id| bimodal.cost(3, RequestId::only(*id)) == cost);
        let (cheap, dear) = (kind(0.4).unwrap(), kind(1.0).unwrap());
        let millis = |requests: &[Request]| {
            let rows = requests.iter().map(|request| request.rows).sum();
            profile.exec(rows).as_millis_f64() * bimodal.part(3, &profile, requests)
        };
        let is = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        is(millis(&[request(dear, 2)]), 7.0);
        is(millis(&[request(cheap, 2)]), 7.0 * 0.4);
        is(millis(&[request(cheap, 3), request(dear, 2)]), 5.0 + 3.0 * 0.4 + 2.0);
        let costs = (0..20_000).map(|id| bimodal.cost(3, RequestId::only(id)));
        let mean = costs.sum::<f64>() / 20_000.0;
        assert!((mean - 0.7).abs() < 0.01 && (bimodal.mean() - 0.7).abs() < 1e-9, "{mean}");
    }

    #[test]
    fn an_accelerator_is_slow_for_as_long_as_a_spell_lasts() {
        let ms = Span::from_millis;
        let at = |ms: u64| Time(ms * 1_000_000);
        let all = Spells { per_second: 1.0, length: ms(1), factor: 3.0, strikes: Strikes::All };
        let noise = Noise { spells: vec![all], ..Noise::default() };
        let mut running = running(&noise, 2);
        let spell = |from, to, accelerator| Spell { from: at(from), to: at(to), accelerator };
        let list = [spell(10, 40, None), spell(30, 50, Some(AcceleratorId(1)))];
        running.spells[0].list = list.into();
        running.spells[0].laid = at(1000);
        let mut end = |begin, exec, number| {
            running.end(Time::ZERO, at(begin), ms(exec), AcceleratorId(number)).0 as f64 / 1e6
        };
        assert_eq!(end(0, 10, 0), 10.0);
        assert_eq!(end(0, 15, 0), 25.0);
        assert_eq!(end(0, 25, 0), 45.0);
        assert_eq!(end(20, 5, 0), 35.0);
        assert_eq!(end(35, 5, 1), 50.0);
        assert_eq!(end(35, 6, 1), 51.0);
        assert_eq!(end(60, 5, 1), 65.0);
    }

    #[test]
    fn spells_come_as_often_and_last_as_long_as_given_wherever_one_looks() {
        let spells = Spells {
            per_second: 0.5,
            length: Span::from_millis(200),
            factor: 2.0,
            strikes: Strikes::One,
        };
        let noise = Noise { spells: vec![spells], ..Noise::default() };
        // Batches of a millisecond, one after the other, on each of two accelerators.
        let slow = |step: u64| {
            let mut running = running(&noise, 2);
            let mut lost = Span::ZERO;
            for number in (0..2_000_000).step_by(usize::try_from(step).unwrap()) {
                let begin = Time(number * 1_000_000);
                let exec = Span(step * 1_000_000);
                for id in [AcceleratorId(0), AcceleratorId(1)] {
                    let end = running.end(begin, begin, exec, id);
                    lost += end.since(begin).saturating_sub(exec);
                    assert!(running.spells[0].list.len() < 50, "the past is forgotten");
                }
            }
            lost.as_secs_f64()
        };
        // 2000 s times 0.5 spells of 0.2 s: of 4000 s 200 are slow.
        let fine = slow(1);
        assert!((170.0..230.0).contains(&fine), "{fine}");
    }

    #[test]
    fn timers_are_late_by_when_they_should_fire_alone() {
        let timer = Delay::LogNormal { median: Span::from_micros(50), sigma: 1.0 };
        let noise = Noise { timer, ..Noise::default() };
        let running = running(&noise, 1);
        let late: Vec<Span> = (0..1000).map(|t| running.woken(Time(t)).since(Time(t))).collect();
        let shorter = late.iter().filter(|late| **late < Span::from_micros(50)).count();
        assert!((450..550).contains(&shorter), "{shorter}");
        assert_eq!(running.woken(Time(77)).since(Time(77)), late[77]);
        let quiet = Noise::default();
        assert_eq!(self::running(&quiet, 1).woken(Time(5)), Time(5));
    }
}

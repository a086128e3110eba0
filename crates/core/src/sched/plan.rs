//! What the load asks of each model: how large its batches have to be, how long it pays to wait
//! for company, which requests stand in the way of others, and who yields to whom. Computed for a
//! whole pool from what was measured, some times a second; knows no queues and no accelerators.
//!
//! The rule is this project's own; `docs/scheduling.md` derives it, and
//! `docs/decisions/0009-adaptive.md` has what else was tried.

mod model;
mod search;

use super::LEVELS;
use super::mode::Mode;
use super::needs::{HighLoad, HighNeed, RecentTraffic, needs};
use crate::ids::ModelId;
use crate::profile::Profile;
use crate::time::{Span, Time};
use model::Model;
use search::smallest;

/// How long a plan of a few models is in use before it is made anew.
const PLAN_AGE: Span = Span::from_millis(50);
/// The same, for each of many: a plan of thousands takes a while, and time for little else would
/// be left.
const PLAN_AGE_PER_MODEL: Span = Span::from_micros(50);

/// While requests wait a plan is made anew when its age is this much past that though nothing
/// happens: the load that has them wait may be over, and their objective long.
pub(super) const PLAN_STALE: Span = Span::from_millis(200);

/// Accelerators are planned to be busy for this share of the time, where the load allows it. The
/// rest is what lets a batch start without waiting.
const USE_MAX: f64 = 0.86;
/// Requests that a dropped head has to make room for, while the load can be served.
const PRICE: f64 = 0.5;
/// Between this much more load than can be served and none, a pool passes from serving everybody
/// to serving as many as possible.
const OVERLOAD_WIDTH: f64 = 0.05;
/// What is added before accelerators for full batches are rounded down to whole ones.
const LEVEL_ROUNDING: f64 = 0.25;
/// What tight models may want at one time: so many standard deviations above their mean, and so
/// many accelerators more.
const WANTED_DEVIATIONS: f64 = 5.0;
const WANTED_MORE: f64 = 3.0;
/// Losses from before so long a time without any plan are forgotten.
const SILENCE: Span = Span::from_secs(1);

/// How long a plan of so many models is in use before it is made anew, and how often a shard of so
/// many reports for the next.
pub(super) fn plan_age(models: usize) -> Span {
    PLAN_AGE.max(PLAN_AGE_PER_MODEL.times(models as u64))
}

/// Shard to matcher: what a plan has to know of one model.
#[derive(Clone, Debug)]
pub struct ModelDemand {
    /// The model.
    pub model: ModelId,
    /// Its execution times, as planned now.
    pub profile: Profile,
    /// Input delay per row.
    pub data: Span,
    /// What the objective leaves for waiting and execution.
    pub room: Span,
    /// The objective.
    pub slo: Span,
    /// Measured arrivals of rows.
    pub rows_per_ns: f64,
    /// Of these, rows of high requests.
    pub high_per_ns: f64,
    /// The share of those that is demoted for an early deadline.
    pub demoted: f64,
    /// Variance of the arrivals over their mean: one where they are independent.
    pub dispersion: f64,
    /// Whether requests came lately, if too few to measure a rate.
    pub is_present: bool,
    /// How much the share of its requests that is lost counts beside the others'.
    pub weight: f64,
    /// Requests that arrived since the model was added.
    pub arrived: u64,
    /// Of these, requests that were dropped.
    pub dropped: u64,
}

/// Matcher to shard: how one model is scheduled until the next plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelPlan {
    /// Full batches do not suffice for the load: defer fully, and drop what stands in the way of
    /// the largest batches.
    pub is_overloaded: bool,
    /// Rows below which a batch is too small for the load: for a larger one a head may be dropped.
    pub target: u32,
    /// Rows that are enough to start at once.
    pub threshold: u32,
    /// How long before a batch can no longer grow it may start.
    pub early_start: Span,
    /// The longest that a head waits for `threshold` rows.
    pub wait_max: Span,
    /// Rows that each dropped one has to make room for.
    pub price: f64,
    /// Models of a higher level keep accelerators free for those of a lower one; less than
    /// [`LEVELS`].
    pub level: u8,
    /// How much earlier than others its batches may start, and take their turn.
    pub credit: Span,
    /// How long before its last moment a batch may take what is kept free for lower levels.
    pub urgency: Span,
    /// What its high requests need, as far as low ones come; the rest of the plan is the adaptive
    /// mode's alone.
    pub need: Option<HighNeed>,
}

impl Default for ModelPlan {
    /// Of a model without load: nothing to wait for.
    fn default() -> ModelPlan {
        ModelPlan {
            is_overloaded: false,
            target: 1,
            threshold: 1,
            early_start: Span::ZERO,
            wait_max: Span::ZERO,
            price: PRICE,
            level: 0,
            credit: Span::ZERO,
            urgency: Span::ZERO,
            need: None,
        }
    }
}

/// Makes the plans of a pool.
#[derive(Clone, Debug)]
pub(crate) struct Planner {
    mode: Mode,
    models: Vec<Option<Model>>,
    /// Models that requests arrive for, by number; kept to be allocated once.
    active: Vec<usize>,
    /// How long each model tolerates to wait, the least first; kept to be allocated once.
    order: Vec<(f64, usize)>,
    /// When it last planned batches, and when to plan anew.
    planned: Option<Time>,
    due: Time,
    /// Batches per nanosecond that the matcher can be asked for.
    batches_per_ns_max: f64,
    /// By level, how many batches it and the higher ones may run before they must.
    limits: [u32; LEVELS],
    /// Which requests come to the pool.
    lately: RecentTraffic,
    /// What each model needs; kept to be allocated once.
    needs: Vec<HighNeed>,
}

impl Planner {
    /// A planner without models, for a pool that is scheduled by `mode`; the matcher was measured
    /// to sustain so many batches a second.
    pub(crate) fn new(mode: Mode, batches_max: f64) -> Planner {
        Planner {
            mode,
            models: Vec::new(),
            active: Vec::new(),
            order: Vec::new(),
            planned: None,
            due: Time::ZERO,
            batches_per_ns_max: batches_max / 2e9,
            limits: [u32::MAX; LEVELS],
            lately: RecentTraffic::default(),
            needs: Vec::new(),
        }
    }

    /// Whether it is time for a new plan.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        self.due <= now
    }

    /// Plans no more than half of the batches that the matcher was measured to sustain.
    pub(crate) fn set_batches_max(&mut self, batches_per_s: f64) {
        self.batches_per_ns_max = batches_per_s / 2e9;
    }

    /// By level, how many batches it and the higher ones may run before they must.
    pub(crate) fn limits(&self) -> &[u32; LEVELS] {
        &self.limits
    }

    /// Takes what was measured of a model in place of what was known before.
    pub(crate) fn note(&mut self, demand: ModelDemand) {
        let index = demand.model.index();
        if self.models.len() <= index {
            self.models.resize_with(index + 1, || None);
        }
        match &mut self.models[index] {
            Some(model) if model.demand.model == demand.model => model.note(demand),
            slot => *slot = Some(Model::new(demand)),
        }
    }

    /// Takes what a shard has heard of. When low requests begin to come, what high ones need is
    /// planned for at once.
    pub(crate) fn note_lately(&mut self, lately: RecentTraffic) {
        if self.lately.is_low_news(&lately) {
            self.due = Time::ZERO;
            // Where only that is planned nobody has reported since the last low ones came.
            if self.mode != Mode::Adaptive {
                self.models.clear();
            }
        }
        self.lately.merge(lately);
    }

    pub(crate) fn forget(&mut self, model: ModelId) {
        if let Some(slot) = self.models.get_mut(model.index()) {
            slot.take_if(|known| known.demand.model == model);
        }
    }

    /// Plans anew and hands each model's plan to `issue`. Answers what high requests ask of the
    /// pool, while low ones come.
    pub(crate) fn plan(
        &mut self,
        now: Time,
        accelerators: u32,
        mut issue: impl FnMut(ModelId, ModelPlan),
    ) -> Option<HighLoad> {
        if self.mode == Mode::Adaptive {
            self.plan_batches(now, accelerators);
        }
        let high = self.find_needs(now, accelerators);
        let mut planned = 0;
        for slot in &mut self.models {
            let Some(model) = slot else { continue };
            planned += 1;
            issue(model.demand.model, model.plan);
            // One that requests no longer come for is told so once, and is a new one when they do.
            if !model.demand.is_present {
                *slot = None;
            }
        }
        self.due = now + plan_age(planned);
        high
    }

    /// What the adaptive mode does with each model until the next plan.
    fn plan_batches(&mut self, now: Time, accelerators: u32) {
        // Losses are of the last plans; after a silence they are of another time.
        if now.since(self.due) > SILENCE {
            self.models.iter_mut().flatten().for_each(Model::forget_losses);
        }
        let n = f64::from(accelerators);
        self.find_active();
        self.find_full_batches(n);
        let stretch = self.needed_stretch(n);
        let price = self.price_of_use(n);
        let calm = self.calm(n);
        let plans = self.usual_plans(now);
        self.models.iter_mut().flatten().for_each(|model| model.count_losses(plans));
        let lost = self.lost_share();
        for model in self.models.iter_mut().flatten() {
            model.follow_losses(lost, plans);
            model.plan = model.decide(stretch, price, calm);
        }
        self.find_levels(stretch, n);
        self.find_urgency(stretch, n);
    }

    /// What the high requests of each model need, while low ones come that can leave it to them.
    fn find_needs(&mut self, now: Time, accelerators: u32) -> Option<HighLoad> {
        if !self.lately.has_low(now) {
            self.models.iter_mut().flatten().for_each(|model| model.plan.need = None);
            return None;
        }
        let demands = self.models.iter().flatten().map(Model::high_demand);
        let busy = needs(demands, accelerators, &mut self.needs);
        for (model, need) in self.models.iter_mut().flatten().zip(&self.needs) {
            model.plan.need = Some(*need);
        }
        Some(HighLoad { busy, lately: self.lately })
    }

    /// How many plans a pool of a few models would have had since the last one: what grows and fades
    /// with each does so at the same speed whatever their age.
    fn usual_plans(&mut self, now: Time) -> i32 {
        let since = now.since(self.planned.replace(now).unwrap_or(now));
        i32::try_from(since.0 / PLAN_AGE.0).unwrap_or(i32::MAX).max(1)
    }

    fn active(&self) -> impl Iterator<Item = &Model> {
        self.active.iter().filter_map(|at| self.models[*at].as_ref())
    }

    fn find_active(&mut self) {
        let models = &self.models;
        let is_active = |at: &usize| models[*at].as_ref().is_some_and(Model::is_active);
        self.active.clear();
        self.active.extend((0..models.len()).filter(is_active));
    }

    /// The largest batch of each model that its rate and its part of the accelerators allow.
    fn find_full_batches(&mut self, n: f64) {
        let load = |model: &Model| model.load(f64::from(model.gathered()));
        let all: f64 = self.active().map(load).sum();
        for at in &self.active {
            if let Some(model) = self.models[*at].as_mut() {
                model.full = model.full_batch(n * load(model) / all);
            }
        }
    }

    /// Between batches of one (0) and full ones (1): the smallest batches with which the
    /// accelerators, and half of what the matcher sustains, do for the load.
    fn needed_stretch(&self, n: f64) -> f64 {
        smallest((0.0, 1.0), |x| self.excess(n, |model| model.stretched(x))).unwrap_or(1.0)
    }

    /// What a nanosecond of an accelerator is worth in nanoseconds of waiting, so that use stays
    /// under [`USE_MAX`]; `None` where even full batches use more.
    fn price_of_use(&self, n: f64) -> Option<f64> {
        const PRICE_MAX: f64 = 1e6;
        let excess = |price: f64| self.excess(USE_MAX * n, |model| model.balanced(price));
        let (mut low, mut high) = (0.0, 1.0);
        while high < PRICE_MAX && excess(high) > 0.0 {
            (low, high) = (high, PRICE_MAX.min(4.0 * high));
        }
        smallest((low, high), excess)
    }

    /// How much more than there is these batch sizes ask for, as a share of it: of so many
    /// accelerators, or of the batches that the matcher can be asked for.
    fn excess(&self, accelerators: f64, rows: impl Fn(&Model) -> f64) -> f64 {
        let (mut busy, mut batches) = (0.0, 0.0);
        for model in self.active() {
            let rows = rows(model);
            let batches_per_ns = model.demand.rows_per_ns / rows;
            busy += batches_per_ns * model.busy(rows);
            batches += batches_per_ns;
        }
        f64::max(busy / accelerators, batches / self.batches_per_ns_max) - 1.0
    }

    /// One where full batches can serve the load, zero in overload.
    fn calm(&self, n: f64) -> f64 {
        let used = self.active().map(|model| model.load(f64::from(model.full))).sum::<f64>() / n;
        (1.0 - (used - 1.0) / OVERLOAD_WIDTH).clamp(0.0, 1.0)
    }

    /// How long a model has to wait at most until one of the accelerators frees up that run the
    /// longest batches of others, which started one after the other: a last moment of which it
    /// has less urgency is missed whenever all are busy. Its own batches it spreads itself.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
    fn find_urgency(&mut self, stretch: f64, n: f64) {
        let length = |at: usize| {
            self.models[at].as_ref().map_or(0.0, |model| model.busy(model.stretched(stretch)))
        };
        let (mut longest, mut next) = ((0.0, usize::MAX), 0.0);
        for at in self.active.iter().copied() {
            match length(at) {
                length if length > longest.0 => (longest, next) = ((length, at), longest.0),
                length => next = f64::max(next, length),
            }
        }
        for (at, model) in self.models.iter_mut().enumerate() {
            let others = if at == longest.1 { next } else { longest.0 };
            if let Some(model) = model.as_mut().filter(|model| model.demand.is_present) {
                model.plan.urgency = Span((others / n) as u64);
            }
        }
    }

    /// The share of recent requests that were dropped, all models together.
    fn lost_share(&self) -> f64 {
        let sums =
            self.models.iter().flatten().fold((0.0, 0.0), |(lost, recent), model| {
                (lost + model.lost, recent + model.recent)
            });
        sums.0 / f64::max(sums.1, 1.0)
    }

    /// Puts models whose batches run longer than another can wait into a higher level. What a level
    /// and the higher ones may run before they must is what their largest batches keep busy, or
    /// what the lower ones are sure not to want, if that is more.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
    fn find_levels(&mut self, stretch: f64, n: f64) {
        self.limits = [u32::MAX; LEVELS];
        let present = self.models.iter().enumerate().filter_map(|(at, model)| {
            let model = model.as_ref().filter(|model| model.demand.is_present)?;
            Some((model.tolerance(), at))
        });
        self.order.clear();
        self.order.extend(present);
        self.order.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
        let (mut level, mut tightest) = (0u8, f64::INFINITY);
        for place in 0..self.order.len() {
            let Some(model) = &self.models[self.order[place].1] else { continue };
            let (forbearance, length) = (model.forbearance(), model.busy(model.stretched(stretch)));
            tightest = tightest.min(forbearance);
            // One accelerator cannot be kept free and used.
            if n > 1.0 && length > tightest && usize::from(level) + 1 < LEVELS {
                level += 1;
                tightest = forbearance;
                let spare = n - self.wanted_before(place);
                self.limits[usize::from(level)] = self.needed_from(place).max(spare as u32);
            }
            if let Some(model) = &mut self.models[self.order[place].1] {
                model.plan.level = level;
            }
        }
    }

    /// Accelerators that the models before this place of the order may want at one time, though
    /// each of their requests ran alone.
    fn wanted_before(&self, place: usize) -> f64 {
        let models = self.order[..place].iter().filter_map(|(_, at)| self.models[*at].as_ref());
        let (busy, spread) = models.fold((0.0, 0.0), |(busy, spread), model| {
            let load = model.load(1.0);
            (busy + load, spread + load * model.demand.dispersion.max(1.0))
        });
        busy + WANTED_DEVIATIONS * f64::sqrt(spread) + WANTED_MORE
    }

    /// Accelerators that the models from this place of the order on keep busy in full batches.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
    fn needed_from(&self, place: usize) -> u32 {
        let models = self.order[place..].iter().filter_map(|(_, at)| self.models[*at].as_ref());
        let busy: f64 = models.map(|model| model.load(f64::from(model.full))).sum();
        (busy + LEVEL_ROUNDING) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A demand of one-row requests for `alpha b + beta` ms under an objective in ms.
    fn demand(model: u32, (alpha, beta, slo): (f64, f64, f64), per_second: f64) -> ModelDemand {
        let ms = Span::from_millis_f64;
        ModelDemand {
            model: ModelId::first(model),
            profile: Profile::linear(ms(alpha), ms(beta), 64).unwrap(),
            data: Span::ZERO,
            room: ms(slo),
            slo: ms(slo),
            rows_per_ns: per_second / 1e9,
            high_per_ns: per_second / 1e9,
            demoted: 0.0,
            dispersion: 1.0,
            is_present: true,
            weight: 1.0,
            arrived: 0,
            dropped: 0,
        }
    }

    const PUBLISHED: (f64, f64, f64) = (1.053, 5.072, 25.0);

    fn planned(planner: &mut Planner, accelerators: u32) -> Vec<ModelPlan> {
        let mut plans = Vec::new();
        planner.plan(Time::ZERO, accelerators, |_, plan| plans.push(plan));
        plans
    }

    fn plan_for(demands: Vec<ModelDemand>, accelerators: u32) -> (Vec<ModelPlan>, [u32; LEVELS]) {
        let mut planner = Planner::new(Mode::Adaptive, f64::INFINITY);
        demands.into_iter().for_each(|demand| planner.note(demand));
        (planned(&mut planner, accelerators), *planner.limits())
    }

    #[test]
    fn batches_grow_with_the_load_up_to_what_can_be_staggered() {
        let plan = |rate| plan_for(vec![demand(0, PUBLISHED, rate)], 8).0[0];
        let sizes = |rate| (plan(rate).target, plan(rate).threshold);
        assert_eq!(sizes(100.0), (1, 1), "an idle pool has nothing to wait for");
        assert_eq!(sizes(2750.0), (3, 4));
        assert_eq!(sizes(4125.0), (6, 9));
        assert_eq!(sizes(5500.0), (13, 16), "all that eight accelerators can stagger");
        let overload = plan(16_000.0);
        assert!(overload.is_overloaded, "full deferral: {overload:?}");
        assert!(!plan(5500.0).is_overloaded);
    }

    #[test]
    fn batches_end_where_a_stepped_table_does() {
        let exec = |rows: u64| Span::from_micros(4_000 + 5_000 * rows.div_ceil(8) + 20 * rows);
        let profile = Profile::from_table((1..=64).map(exec).collect()).unwrap();
        let stepped =
            |rate| ModelDemand { profile: profile.clone(), ..demand(0, (1.0, 5.0, 40.0), rate) };
        for rate in [2000.0, 4000.0, 6000.0, 9000.0] {
            let (plans, _) = plan_for(vec![stepped(rate)], 8);
            let into_step = (plans[0].threshold - 1) % 8;
            assert!(into_step >= 4, "{rate}: not just past a step: {:?}", plans[0]);
        }
    }

    #[test]
    fn without_load_nothing_waits() {
        let (plans, limits) = plan_for(vec![demand(0, PUBLISHED, 0.0)], 8);
        assert_eq!(plans, [ModelPlan::default()]);
        assert_eq!(limits, [u32::MAX; LEVELS]);
    }

    #[test]
    fn the_matcher_is_not_asked_for_more_batches_than_it_sustains() {
        let mut planner = Planner::new(Mode::Adaptive, 2000.0);
        planner.note(demand(0, PUBLISHED, 2000.0));
        assert!(planned(&mut planner, 24)[0].target >= 2, "1 000 batches for 2 000 requests");
        planner.set_batches_max(1e6);
        assert_eq!(planned(&mut planner, 24)[0].target, 1);
    }

    #[test]
    fn long_batches_leave_room_for_objectives_that_cannot_wait_for_them() {
        let long = demand(0, (5.31, 34.3, 136.0), 150.0);
        let tight = demand(1, (0.51, 1.0, 8.0), 300.0);
        let (plans, limits) = plan_for(vec![long.clone(), tight.clone()], 8);
        assert_eq!((plans[0].level, plans[1].level), (1, 0));
        assert_eq!(limits[..3], [u32::MAX, 1, u32::MAX], "what its full batches keep busy");
        // Seldom enough to have no rate at the moment, and still there.
        let seldom = ModelDemand { rows_per_ns: 0.0, ..tight.clone() };
        assert_eq!(plan_for(vec![long.clone(), seldom], 8).0[0].level, 1);
        let gone = ModelDemand { rows_per_ns: 0.0, is_present: false, ..tight };
        assert_eq!(plan_for(vec![long, gone], 8).0[0].level, 0);
        let alike = (0..5).map(|model| demand(model, PUBLISHED, 400.0)).collect();
        assert!(plan_for(alike, 8).0.iter().all(|plan| plan.level == 0));
    }

    #[test]
    fn a_last_moment_has_notice_of_the_longest_batch_of_others() {
        let long = demand(0, (5.0, 35.0, 136.0), 20.0);
        let tight = demand(1, (0.5, 1.0, 8.0), 100.0);
        let urgency = |demands: Vec<ModelDemand>| -> Vec<Span> {
            plan_for(demands, 4).0.iter().map(|plan| plan.urgency).collect()
        };
        let ms = Span::from_millis_f64;
        // One of four accelerators that run batches of 40 ms in turn frees up every 10 ms.
        assert_eq!(urgency(vec![long.clone(), tight.clone()]), [ms(0.375), ms(10.0)]);
        let more = ModelDemand { model: ModelId::first(2), ..tight.clone() };
        assert_eq!(urgency(vec![long.clone(), tight, more]), [ms(0.375), ms(10.0), ms(10.0)]);
        assert_eq!(urgency(vec![long]), [Span::ZERO]);
    }

    #[test]
    fn who_loses_more_than_the_others_gets_ahead_until_it_does_not() {
        let mut planner = Planner::new(Mode::Adaptive, f64::INFINITY);
        let after = |model, arrived, dropped| ModelDemand {
            arrived,
            dropped,
            ..demand(model, PUBLISHED, 4000.0)
        };
        let mut seen = Vec::new();
        for (round, first, second) in [(0, 0, 0), (1, 0, 200), (2, 0, 400), (3, 200, 400)] {
            planner.note(after(0, round * 1000, first));
            planner.note(after(1, round * 1000, second));
            let plans = planned(&mut planner, 8);
            seen.push((plans[0].credit, plans[1].credit));
        }
        assert_eq!(seen[0], (Span::ZERO, Span::ZERO));
        assert!(seen[1].1 > Span::ZERO && seen[2].1 > seen[1].1, "{seen:?}");
        assert!(seen.iter().all(|(first, _)| *first == Span::ZERO), "{seen:?}");
        let advance = seen[3].1;
        for round in 1..200 {
            planner.note(after(0, 3000 + round * 100, 200));
            planner.note(after(1, 3000 + round * 100, 400));
            planned(&mut planner, 8);
        }
        let calm = planned(&mut planner, 8)[1].credit;
        assert!(calm.0 < advance.0 / 100, "{calm} after {advance}");
    }

    #[test]
    fn a_plan_of_thousands_is_made_less_often() {
        assert_eq!(plan_age(1), plan_age(1000));
        assert_eq!(plan_age(20_000), Span::from_secs(1));
        let mut planner = Planner::new(Mode::Adaptive, f64::INFINITY);
        for model in 0..2000 {
            planner.note(demand(model, PUBLISHED, 1.0));
        }
        planner.plan(Time::ZERO, 8, |_, _| {});
        let age = |ms| Time(Span::from_millis(ms).0);
        assert!(!planner.is_due(age(99)) && planner.is_due(age(100)));
    }

    #[test]
    fn losses_are_weighed() {
        let mut planner = Planner::new(Mode::Adaptive, f64::INFINITY);
        for round in 0..3 {
            for (model, weight) in [(0, 1.0), (1, 3.0)] {
                let (arrived, dropped) = (round * 1000, round * 100);
                planner.note(ModelDemand {
                    arrived,
                    dropped,
                    weight,
                    ..demand(model, PUBLISHED, 4000.0)
                });
            }
            planned(&mut planner, 8);
        }
        let plans = planned(&mut planner, 8);
        assert_eq!(plans[0].credit, Span::ZERO);
        assert!(plans[1].credit > Span::ZERO, "the same losses count for more");
    }

    #[test]
    fn models_that_left_are_forgotten() {
        let mut planner = Planner::new(Mode::Adaptive, f64::INFINITY);
        let lost = |model: u32, round: u64| ModelDemand {
            arrived: round * 1000,
            dropped: round * 100 * u64::from(model),
            ..demand(model, PUBLISHED, 4000.0)
        };
        for round in 0..3 {
            planner.note(lost(0, round));
            planner.note(lost(1, round));
            planned(&mut planner, 8);
        }
        let busy = planned(&mut planner, 8);
        assert!(busy[1].credit > Span::ZERO);
        planner.note(ModelDemand { is_present: false, ..lost(1, 3) });
        let plans = planned(&mut planner, 8);
        assert_eq!(plans[1], ModelPlan::default(), "neither its losses nor its last rate");
        assert!(plans[0].target < busy[0].target, "no load of its own: {plans:?}");
    }

    #[test]
    fn a_model_that_staggers_itself_opens_no_window_early_and_a_small_one_does() {
        let early_start = |rate, accelerators| {
            plan_for(vec![demand(0, PUBLISHED, rate)], accelerators).0[0].early_start
        };
        assert!(
            early_start(17_000.0, 24) < Span::from_micros(200),
            "{}",
            early_start(17_000.0, 24)
        );
        assert!(early_start(300.0, 1) > Span::from_millis(10), "{}", early_start(300.0, 1));
        let even = ModelDemand { dispersion: 0.25, ..demand(0, PUBLISHED, 300.0) };
        let smooth = plan_for(vec![even], 1).0[0].early_start;
        assert!(
            smooth < Span(early_start(300.0, 1).0 / 3),
            "even arrivals need no slack: {smooth}"
        );
    }
}

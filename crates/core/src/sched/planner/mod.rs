//! The plan of a pool: what the load asks of each model until the next plan.
//!
//! In: what each model's shard measured, and how many accelerators serve. Out: for each model a
//! [`ModelPlan`]: how large its batches have to be, how long they pay to wait, which heads stand in
//! the way of others, and who yields to whom. Made some times a second; knows no queues, and of the
//! accelerators only how many there are.
//!
//! The rule is this project's own; `docs/scheduling.md` derives it, and
//! `docs/decisions/0009-adaptive.md` has what else was tried.

mod levels;
mod load;
mod losses;
mod model;
mod search;
mod sizes;

use super::high_need::high_needs;
use super::message::{HighLoad, HighNeed, LEVELS, ModelDemand, ModelPlan, plan_age};
use super::mode::Mode;
use super::traffic::RecentTraffic;
use crate::ids::ModelId;
use crate::time::{Span, Time};
use levels::Levels;
use load::PoolLoad;
use losses::Losses;
use model::PlannedModel;

/// After so long without any plan, losses from before it are forgotten.
const SILENCE: Span = Span::from_secs(1);

/// Makes the plans of a pool.
#[derive(Clone, Debug)]
pub(crate) struct Planner {
    mode: Mode,
    /// By the index of the model.
    models: Vec<Option<PlannedModel>>,
    /// Indices of the models that requests arrive for; kept to be allocated once.
    active: Vec<usize>,
    levels: Levels,
    /// When batches were planned last.
    planned: Option<Time>,
    /// When to plan anew.
    due: Time,
    /// Batches per nanosecond that the matcher can be asked for.
    batches_per_ns_max: f64,
    traffic: RecentTraffic,
    /// What the high requests of each model need; kept to be allocated once.
    high_needs: Vec<HighNeed>,
    /// The losses of all lanes of each model that has several; kept to be allocated once.
    lanes: Vec<(ModelId, Losses)>,
}

impl Planner {
    /// A planner without models, for a pool that is scheduled in `mode`; the scheduler was measured
    /// to sustain so many batches per second.
    pub(crate) fn new(mode: Mode, batches_max: f64) -> Planner {
        Planner {
            mode,
            models: Vec::new(),
            active: Vec::new(),
            levels: Levels::new(),
            planned: None,
            due: Time::ZERO,
            batches_per_ns_max: half_per_ns(batches_max),
            traffic: RecentTraffic::default(),
            high_needs: Vec::new(),
            lanes: Vec::new(),
        }
    }

    /// Whether it is time for a new plan.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        self.due <= now
    }

    /// Plans no more than half of the batches that the scheduler was measured to sustain.
    pub(crate) fn set_batches_max(&mut self, batches_per_s: f64) {
        self.batches_per_ns_max = half_per_ns(batches_per_s);
    }

    /// By priority level, how many batches it and the higher levels may run together before they are
    /// urgent.
    pub(crate) fn level_limits(&self) -> &[u32; LEVELS] {
        self.levels.limits()
    }

    /// Replaces what was measured of a model.
    pub(crate) fn note_demand(&mut self, demand: ModelDemand) {
        let index = demand.model.index();
        if self.models.len() <= index {
            self.models.resize_with(index + 1, || None);
        }
        match &mut self.models[index] {
            Some(model) if model.demand.model == demand.model => model.note(demand),
            slot => *slot = Some(PlannedModel::new(demand)),
        }
    }

    /// Adds what a shard has seen. When low requests begin to come, what high ones need is planned at
    /// once.
    pub(crate) fn note_traffic(&mut self, traffic: RecentTraffic) {
        if self.traffic.is_low_news(&traffic) {
            self.due = Time::ZERO;
            // Shards report in these modes only while low requests come: what is left of models is
            // from the last time they did.
            if self.mode != Mode::Adaptive {
                self.models.clear();
            }
        }
        self.traffic.merge(traffic);
    }

    pub(crate) fn forget(&mut self, model: ModelId) {
        if let Some(slot) = self.models.get_mut(model.index()) {
            slot.take_if(|known| known.demand.model == model);
        }
    }

    /// Plans anew and hands each model's plan to `issue`. Returns what high requests ask of the pool,
    /// while low ones come.
    pub(crate) fn plan(
        &mut self,
        now: Time,
        accelerators: u32,
        mut issue: impl FnMut(ModelId, ModelPlan),
    ) -> Option<HighLoad> {
        if self.mode == Mode::Adaptive {
            self.plan_batches(now, f64::from(accelerators));
        }
        let high = self.find_high_needs(now, accelerators);
        let mut planned = 0;
        for slot in &mut self.models {
            let Some(model) = slot else { continue };
            planned += 1;
            issue(model.demand.model, model.plan);
            // A model without requests gets one last plan, and starts anew with its next request.
            if !model.demand.is_present {
                *slot = None;
            }
        }
        self.due = now + plan_age(planned);
        high
    }

    /// What the adaptive mode does with each model until the next plan.
    fn plan_batches(&mut self, now: Time, accelerators: f64) {
        if now.since(self.due) > SILENCE {
            self.models.iter_mut().flatten().for_each(|model| model.losses.forget());
        }
        self.find_active();
        load::find_full_batches(&mut self.models, &self.active, accelerators);
        let Planner { models, active, batches_per_ns_max, .. } = self;
        let load =
            PoolLoad { models, active, accelerators, batches_per_ns_max: *batches_per_ns_max };
        let sizes = load.sizes();
        let plans = self.usual_plans(now);
        self.models.iter_mut().flatten().for_each(|model| model.count_losses(plans));
        self.follow_losses(plans);
        for model in self.models.iter_mut().flatten() {
            model.plan = model.decide(&sizes);
        }
        self.levels.assign(&mut self.models, sizes.stretch, accelerators);
        self.find_urgency(sizes.stretch, accelerators);
    }

    /// What the high requests of each model need, while low ones come that can leave it to them.
    fn find_high_needs(&mut self, now: Time, accelerators: u32) -> Option<HighLoad> {
        if !self.traffic.has_low(now) {
            self.models.iter_mut().flatten().for_each(|model| model.plan.high_need = None);
            return None;
        }
        let demands = self.models.iter().flatten().map(PlannedModel::high_demand);
        let busy = high_needs(demands, accelerators, &mut self.high_needs);
        for (model, need) in self.models.iter_mut().flatten().zip(&self.high_needs) {
            model.plan.high_need = Some(*need);
        }
        Some(HighLoad { busy, traffic: self.traffic })
    }

    /// How many plans a pool of a few models would have had since the last one: what grows and fades
    /// with each plan does so at the same speed whatever the age of a plan.
    fn usual_plans(&mut self, now: Time) -> u32 {
        let since = now.since(self.planned.replace(now).unwrap_or(now));
        u32::try_from(since.0 / plan_age(1).0).unwrap_or(u32::MAX).max(1)
    }

    fn find_active(&mut self) {
        let models = &self.models;
        let is_active = |at: &usize| models[*at].as_ref().is_some_and(PlannedModel::is_active);
        self.active.clear();
        self.active.extend((0..models.len()).filter(is_active));
    }

    /// How long before its latest start a batch becomes urgent: as long as it may take until one of
    /// the accelerators is free that run the longest batches of other models, started one after the
    /// other. With less time its latest start is missed whenever all are busy. Batches of the same
    /// model do not count: a model staggers its own batches.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
    fn find_urgency(&mut self, stretch: f64, accelerators: f64) {
        let length = |at: usize| {
            self.models[at].as_ref().map_or(0.0, |model| model.busy(model.stretched(stretch)))
        };
        let (mut longest, mut next) = ((0.0, usize::MAX), 0.0);
        for at in self.active.iter().copied() {
            let length = length(at);
            if length > longest.0 {
                (longest, next) = ((length, at), longest.0);
            } else {
                next = f64::max(next, length);
            }
        }
        for (at, model) in self.models.iter_mut().enumerate() {
            let others = if at == longest.1 { next } else { longest.0 };
            if let Some(model) = model.as_mut().filter(|model| model.demand.is_present) {
                model.plan.urgency = Span((others / accelerators) as u64);
            }
        }
    }

    /// Moves the credit of each model by what it loses beside the others. The losses of a model's
    /// lanes count together, and each of them has their credit.
    fn follow_losses(&mut self, plans: u32) {
        let lost = self.lost_share();
        self.lanes.clear();
        for model in self.models.iter().flatten() {
            if let Some(first) = model.demand.lane_of {
                let known = self.lanes.iter_mut().find(|(of, _)| *of == first);
                match known {
                    Some((_, losses)) => losses.add(&model.losses),
                    None => self.lanes.push((first, model.losses)),
                }
            }
        }
        for model in self.models.iter_mut().flatten() {
            let weight = model.demand.weight;
            let lanes = self.lanes.iter().find(|(of, _)| Some(*of) == model.demand.lane_of);
            match lanes {
                Some((_, lanes)) => model.losses.follow_lanes(lanes, lost, weight, plans),
                None => model.losses.follow(lost, weight, plans),
            }
        }
    }

    /// The share of recent requests that were dropped, all models together.
    fn lost_share(&self) -> f64 {
        let sums = self.models.iter().flatten().fold((0.0, 0.0), |(lost, recent), model| {
            (lost + model.losses.lost(), recent + model.losses.recent())
        });
        sums.0 / f64::max(sums.1, 1.0)
    }
}

/// Half of so many per second, per nanosecond.
fn half_per_ns(per_s: f64) -> f64 {
    per_s / 2e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    /// A demand of one-row requests for `alpha b + beta` ms under an objective in ms.
    fn demand(model: u32, (alpha, beta, slo): (f64, f64, f64), per_second: f64) -> ModelDemand {
        let ms = Span::from_millis_f64;
        ModelDemand {
            model: ModelId::first(model),
            profile: Profile::linear(ms(alpha), ms(beta), 64).unwrap(),
            data: Span::ZERO,
            room: ms(slo),
            slo: ms(slo),
            is_soft: false,
            rows_per_ns: per_second / 1e9,
            high_per_ns: per_second / 1e9,
            demoted: 0.0,
            dispersion: 1.0,
            is_present: true,
            weight: 1.0,
            lane_of: None,
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
        demands.into_iter().for_each(|demand| planner.note_demand(demand));
        (planned(&mut planner, accelerators), *planner.level_limits())
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
    fn best_effort_is_no_overload_of_the_others_and_nobody_makes_way_for_it() {
        let long = (5.0, 35.0, 150.0);
        let bound = demand(0, PUBLISHED, 2000.0);
        let soft = |terms, rate| ModelDemand { is_soft: true, ..demand(1, terms, rate) };
        let (plans, _) = plan_for(vec![bound.clone(), soft(PUBLISHED, 50_000.0)], 8);
        assert!(!plans[0].is_overloaded && !plans[1].is_overloaded, "{plans:?}");
        // A long model is on a level above a tight one, unless that is best effort.
        let tight = (0.5, 1.5, 8.0);
        let level = |tight| plan_for(vec![demand(0, long, 20.0), tight], 8).0[0].level;
        assert_eq!((level(demand(1, tight, 400.0)), level(soft(tight, 400.0))), (1, 0));
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
        planner.note_demand(demand(0, PUBLISHED, 2000.0));
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
    fn a_batch_is_urgent_for_as_long_as_the_longest_batches_of_others_take() {
        let long = demand(0, (5.0, 35.0, 136.0), 20.0);
        let tight = demand(1, (0.5, 1.0, 8.0), 100.0);
        let urgencies = |demands: Vec<ModelDemand>| -> Vec<Span> {
            plan_for(demands, 4).0.iter().map(|plan| plan.urgency).collect()
        };
        let ms = Span::from_millis_f64;
        // One of four accelerators that run batches of 40 ms in turn frees up every 10 ms.
        assert_eq!(urgencies(vec![long.clone(), tight.clone()]), [ms(0.375), ms(10.0)]);
        let more = ModelDemand { model: ModelId::first(2), ..tight.clone() };
        assert_eq!(urgencies(vec![long.clone(), tight, more]), [ms(0.375), ms(10.0), ms(10.0)]);
        assert_eq!(urgencies(vec![long]), [Span::ZERO]);
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
            planner.note_demand(after(0, round * 1000, first));
            planner.note_demand(after(1, round * 1000, second));
            let plans = planned(&mut planner, 8);
            seen.push((plans[0].credit, plans[1].credit));
        }
        assert_eq!(seen[0], (Span::ZERO, Span::ZERO));
        assert!(seen[1].1 > Span::ZERO && seen[2].1 > seen[1].1, "{seen:?}");
        assert!(seen.iter().all(|(first, _)| *first == Span::ZERO), "{seen:?}");
        let credit = seen[3].1;
        for round in 1..200 {
            planner.note_demand(after(0, 3000 + round * 100, 200));
            planner.note_demand(after(1, 3000 + round * 100, 400));
            planned(&mut planner, 8);
        }
        let calm = planned(&mut planner, 8)[1].credit;
        assert!(calm.0 < credit.0 / 100, "{calm} after {credit}");
    }

    #[test]
    fn a_plan_of_thousands_is_made_less_often() {
        assert_eq!(plan_age(1), plan_age(1000));
        assert_eq!(plan_age(20_000), Span::from_secs(1));
        let mut planner = Planner::new(Mode::Adaptive, f64::INFINITY);
        for model in 0..2000 {
            planner.note_demand(demand(model, PUBLISHED, 1.0));
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
                planner.note_demand(ModelDemand {
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
            planner.note_demand(lost(0, round));
            planner.note_demand(lost(1, round));
            planned(&mut planner, 8);
        }
        let busy = planned(&mut planner, 8);
        assert!(busy[1].credit > Span::ZERO);
        planner.note_demand(ModelDemand { is_present: false, ..lost(1, 3) });
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

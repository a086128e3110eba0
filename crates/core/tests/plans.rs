//! What shards and the matcher make of a plan: levels, turns, and heads that are dropped for the
//! sake of others.

use std::sync::Arc;
use symphony_core::sched::{
    Action, Actions, Candidate, Grant, Matcher, Mode, ModelDemand, ModelPlan, ModelTerms, Offer,
    Reply, Shard, Started,
};
use symphony_core::{
    AcceleratorId, Class, DropReason, ModelId, Profile, Request, RequestId, Span, Time,
};

fn at(ms: u64) -> Time {
    Time(Span::from_millis(ms).0)
}

fn ms(ms: u64) -> Span {
    Span::from_millis(ms)
}

/// A model with `alpha b + beta` ms under an objective in ms.
fn demand(model: u32, (alpha, beta, slo): (u64, u64, u64), per_second: f64) -> ModelDemand {
    ModelDemand {
        model: ModelId::first(model),
        profile: Profile::linear(ms(alpha), ms(beta), 64).expect("a valid profile"),
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

const LONG: ModelId = ModelId::first(0);
const TIGHT: ModelId = ModelId::first(1);

/// Four accelerators and their plan: batches of `LONG` leave room for `TIGHT`, and may start early
/// on one accelerator.
struct Pool {
    matcher: Matcher,
    issued: [u32; 2],
}

impl Pool {
    fn new() -> Pool {
        let mut matcher = Matcher::new(Mode::Adaptive, 4);
        matcher.note(demand(0, (5, 34, 136), 110.0));
        matcher.note(demand(1, (1, 1, 8), 300.0));
        let mut levels = [0; 2];
        matcher.plan(at(0), |model, plan| levels[model.index()] = plan.level);
        assert_eq!(levels, [1, 0]);
        Pool { matcher, issued: [0; 2] }
    }

    /// Offers a batch that may be sent from now on, and anywhere from `urgent` on.
    fn offer(&mut self, now: Time, model: ModelId, level: u8, (urgent, turn): (Time, Time)) {
        let latest = at(1000);
        let offer = Some(Offer {
            exec: now,
            urgent,
            latest,
            turn,
            level,
            lead: Span::ZERO,
            due: at(2000),
            head_exec: ms(10),
            class: Class::High,
            exec_span: ms(10),
            reserved: 0.0,
            expected: now,
            more_batches: 0,
        });
        let generation = self.issued[model.index()];
        self.matcher.candidate(now, Candidate { model, generation, offer });
    }

    fn grants(&mut self, now: Time) -> Vec<Grant> {
        let mut grants = Vec::new();
        self.matcher.assign(now, |grant| grants.push(grant));
        for grant in &grants {
            self.issued[grant.model.index()] += 1;
        }
        grants
    }

    fn answer(&mut self, now: Time, grant: &Grant, runs: bool) {
        let started = Started { ready: now, exec: ms(10), table: ms(10), lead: Span::ZERO };
        let Grant { accelerator, batch, .. } = *grant;
        self.matcher.reply(now, Reply { accelerator, batch, started: runs.then_some(started) });
    }

    /// The accelerators that batches of these offers get, all of them started.
    fn started(&mut self, now: Time) -> Vec<(ModelId, AcceleratorId)> {
        let grants = self.grants(now);
        grants.iter().for_each(|grant| self.answer(now, grant, true));
        grants.iter().map(|grant| (grant.model, grant.accelerator)).collect()
    }
}

#[test]
fn a_higher_level_starts_early_only_where_it_leaves_room() {
    let mut pool = Pool::new();
    let urgent = (at(50), at(100));
    pool.offer(at(0), LONG, 1, urgent);
    let first = pool.grants(at(0));
    assert_eq!(first.len(), 1);
    pool.answer(at(0), &first[0], true);
    pool.offer(at(1), LONG, 1, urgent);
    assert_eq!(pool.started(at(1)), [], "three accelerators are free, and kept so");
    pool.offer(at(1), TIGHT, 0, (at(1), at(3)));
    assert_eq!(pool.started(at(1)), [(TIGHT, AcceleratorId(1))]);
    // The end of its batch lets it start again.
    assert!(pool.matcher.complete(at(9), first[0].accelerator, first[0].batch, ms(9)).is_some());
    assert_eq!(pool.started(at(9)), [(LONG, AcceleratorId(0))]);
    // And when waiting can no longer make its batch bigger, it may run anywhere.
    pool.offer(at(10), LONG, 1, urgent);
    assert_eq!(pool.started(at(10)), []);
    assert_eq!(pool.matcher.next_wake(), Some(at(50)));
    assert_eq!(pool.started(at(50)), [(LONG, AcceleratorId(2))]);
}

#[test]
fn a_declined_grant_takes_no_room() {
    let mut pool = Pool::new();
    let urgent = (at(50), at(100));
    pool.offer(at(0), LONG, 1, urgent);
    let declined = pool.grants(at(0));
    pool.offer(at(0), LONG, 1, urgent);
    assert_eq!(pool.started(at(0)), [], "the first is not answered");
    pool.answer(at(0), &declined[0], false);
    assert_eq!(pool.started(at(0)), [(LONG, AcceleratorId(0))]);
}

#[test]
fn whose_turn_is_first_is_served_first() {
    for (long, tight) in [(at(20), at(30)), (at(30), at(20))] {
        let mut pool = Pool::new();
        pool.offer(at(0), LONG, 0, (at(0), long));
        pool.offer(at(0), TIGHT, 0, (at(0), tight));
        let models = pool.started(at(0)).into_iter().map(|(model, _)| model);
        let first = if long < tight { LONG } else { TIGHT };
        assert_eq!(models.collect::<Vec<_>>()[0], first);
    }
}

/// How many heads are dropped of a queue whose first two requests leave room for batches of 2 and
/// 3 rows, and the ten behind them for 10, if the load needs batches of `target` rows and a
/// dropped row has to make room for `price`.
#[track_caller]
fn dropped(target: u32, price: f64) -> usize {
    let mut shard = Shard::new(Mode::Adaptive, 1);
    let profile = Arc::new(Profile::linear(ms(1), ms(5), 64).expect("a valid profile"));
    let terms = ModelTerms { profile, slo: ms(20), queue_max: 100, loss_weight: 1.0 };
    shard.add(LONG, terms);
    shard.set_plan(LONG, ModelPlan { target, price, ..ModelPlan::default() });
    let mut todo = Actions::default();
    for (number, deadline) in [7, 8].into_iter().chain([15; 10]).enumerate() {
        let id = RequestId::only(number as u64);
        let deadline = at(100 + deadline);
        let arrival = at(deadline.0 / 1_000_000 - 20);
        let request = Request { id, arrival, deadline, rows: 1, class: Class::High };
        shard.arrive(at(100), LONG, request, &mut todo);
    }
    shard.settle(at(100), &mut todo, |_| {});
    let is_overload =
        |action: &&Action| matches!(action, Action::Drop { reason: DropReason::Overload, .. });
    assert!(todo.list.iter().all(|action| is_overload(&action)), "{:?}", todo.list);
    todo.list.len()
}

#[test]
fn heads_are_dropped_for_the_batch_that_the_load_needs_and_no_larger_one() {
    assert_eq!(dropped(2, 0.5), 0, "two rows are enough");
    assert_eq!(dropped(3, 0.5), 1, "a third row for one that is dropped");
    assert_eq!(dropped(10, 0.5), 2);
    assert_eq!(dropped(10, 3.9), 2, "eight rows for two");
    assert_eq!(dropped(10, 4.1), 0);
}

#[test]
fn what_high_requests_need_is_planned_for_as_soon_as_low_ones_come() {
    let mut shard = Shard::new(Mode::Adaptive, 4);
    let profile = Arc::new(Profile::linear(ms(1), ms(5), 64).expect("a valid profile"));
    shard.add(LONG, ModelTerms { profile, slo: ms(25), queue_max: 100, loss_weight: 1.0 });
    let mut matcher = Matcher::new(Mode::Adaptive, 4);
    let mut needs = Vec::new();
    let mut plan = |matcher: &mut Matcher, now| {
        needs.clear();
        let high = matcher.plan(now, |_, plan| needs.extend(plan.need));
        (high.is_some(), needs.len())
    };
    let report = |shard: &mut Shard, matcher: &mut Matcher, now| {
        matcher.note_lately(shard.tell_lately());
        shard.report(now, |demand| matcher.note(demand));
    };
    let mut todo = Actions::default();
    let mut arrive = |shard: &mut Shard, now: Time, class| {
        let (id, deadline) = (RequestId::only(now.0), now + ms(25));
        let request = Request { id, arrival: now, deadline, rows: 1, class };
        shard.arrive(now, LONG, request, &mut todo);
    };
    arrive(&mut shard, at(0), Class::High);
    report(&mut shard, &mut matcher, at(0));
    assert_eq!(plan(&mut matcher, at(0)), (false, 0), "nobody has to leave them anything");
    arrive(&mut shard, at(1), Class::High);
    assert!(!shard.is_report_due(at(1)) && !matcher.is_plan_due(at(1)));
    arrive(&mut shard, at(2), Class::Low);
    assert!(shard.is_report_due(at(2)));
    report(&mut shard, &mut matcher, at(2));
    assert!(matcher.is_plan_due(at(2)));
    assert_eq!(plan(&mut matcher, at(2)), (true, 1));
    arrive(&mut shard, at(3), Class::Low);
    report(&mut shard, &mut matcher, at(3));
    assert!(!shard.is_report_due(at(3)) && !matcher.is_plan_due(at(3)), "once is enough");
    report(&mut shard, &mut matcher, at(1100));
    assert_eq!(plan(&mut matcher, at(1100)), (false, 0), "low ones no longer come");
}

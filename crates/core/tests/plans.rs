//! What shards and the matcher make of a plan: levels, turns, and heads that are dropped for the
//! sake of others.

use std::sync::Arc;
use symphony_core::sched::{
    Action, Actions, Candidate, Event, Grant, Matcher, MatcherToShard, Mode, ModelDemand,
    ModelPlan, ModelTerms, Offer, Reply, SentBatch, Shard, ShardToMatcher, Tier,
};
use symphony_core::{
    AcceleratorId, Class, DropReason, ModelId, Objective, Profile, Request, RequestId, Span, Time,
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

const LONG: ModelId = ModelId::first(0);
const TIGHT: ModelId = ModelId::first(1);

/// What the matcher answers to a message.
fn tell(matcher: &mut Matcher, now: Time, message: ShardToMatcher) -> Option<MatcherToShard> {
    let mut answer = None;
    matcher.receive(now, message, |message| answer = Some(message));
    answer
}

/// The messages of a new plan, if the matcher makes one.
fn plan(matcher: &mut Matcher, now: Time) -> Vec<MatcherToShard> {
    let mut messages = Vec::new();
    matcher.plan(now, |message| messages.push(message));
    messages
}

/// Four accelerators and their plan: batches of `LONG` leave room for `TIGHT`, and may start early
/// on one accelerator.
struct Pool {
    matcher: Matcher,
    issued: [u32; 2],
}

impl Pool {
    fn new() -> Pool {
        let mut matcher = Matcher::new(Mode::Adaptive, 4);
        let long = demand(0, (5, 34, 136), 110.0);
        let tight = demand(1, (1, 1, 8), 300.0);
        let demands = [long, tight].map(ShardToMatcher::Demand);
        for message in demands.into_iter().chain([ShardToMatcher::Reported]) {
            assert!(tell(&mut matcher, at(0), message).is_none());
        }
        let levels: Vec<_> = plan(&mut matcher, at(0)).iter().filter_map(level).collect();
        assert_eq!(levels, [(LONG, 1), (TIGHT, 0)]);
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
            tier: Tier::High,
            exec_span: ms(10),
            reserved: 0.0,
            expected: now,
            more_batches: 0,
        });
        let generation = self.issued[model.index()];
        let candidate = Candidate { model, generation, offer };
        assert!(tell(&mut self.matcher, now, ShardToMatcher::Candidate(candidate)).is_none());
    }

    fn grants(&mut self, now: Time) -> Vec<Grant> {
        let mut grants = Vec::new();
        self.matcher.settle(now, &mut Actions::default(), |message| match message {
            MatcherToShard::Grant(grant) => grants.push(grant),
            other => panic!("{other:?}"),
        });
        for grant in &grants {
            self.issued[grant.model.index()] += 1;
        }
        grants
    }

    fn answer(&mut self, now: Time, grant: &Grant, runs: bool) {
        let sent = SentBatch {
            ready: now,
            exec: ms(10),
            spread: Span::ZERO,
            table: ms(10),
            lead: Span::ZERO,
        };
        let Grant { accelerator, batch, .. } = *grant;
        let reply = Reply { accelerator, batch, sent: runs.then_some(sent) };
        assert!(tell(&mut self.matcher, now, ShardToMatcher::Reply(reply)).is_none());
    }

    /// The accelerators that batches of these offers get, all of them started.
    fn started(&mut self, now: Time) -> Vec<(ModelId, AcceleratorId)> {
        let grants = self.grants(now);
        grants.iter().for_each(|grant| self.answer(now, grant, true));
        grants.iter().map(|grant| (grant.model, grant.accelerator)).collect()
    }

    /// The batch of a grant ends.
    fn end(&mut self, now: Time, grant: &Grant) {
        let &Grant { accelerator, batch, .. } = grant;
        let event = Event::Complete { accelerator, batch, exec: ms(9) };
        let mut ended = 0;
        self.matcher.on_event(now, &event, |_| ended += 1);
        assert_eq!(ended, 1);
    }
}

/// The level that a model is planned to have.
fn level(message: &MatcherToShard) -> Option<(ModelId, u8)> {
    match message {
        MatcherToShard::Plan(model, plan) => Some((*model, plan.level)),
        _ => None,
    }
}

#[test]
fn a_higher_level_starts_early_only_where_it_leaves_room() {
    let mut pool = Pool::new();
    let later = (at(50), at(100));
    pool.offer(at(0), LONG, 1, later);
    let first = pool.grants(at(0));
    assert_eq!(first.len(), 1);
    pool.answer(at(0), &first[0], true);
    pool.offer(at(1), LONG, 1, later);
    assert_eq!(pool.started(at(1)), [], "three accelerators are free, and kept so");
    pool.offer(at(1), TIGHT, 0, (at(1), at(3)));
    assert_eq!(pool.started(at(1)), [(TIGHT, AcceleratorId(1))]);
    // The end of its batch lets it start again.
    pool.end(at(9), &first[0]);
    assert_eq!(pool.started(at(9)), [(LONG, AcceleratorId(0))]);
    // And when waiting can no longer make its batch bigger, it may run anywhere.
    pool.offer(at(10), LONG, 1, later);
    assert_eq!(pool.started(at(10)), []);
    assert_eq!(pool.matcher.next_wake(), Some(at(50)));
    assert_eq!(pool.started(at(50)), [(LONG, AcceleratorId(2))]);
}

#[test]
fn a_declined_grant_takes_no_room() {
    let mut pool = Pool::new();
    let later = (at(50), at(100));
    pool.offer(at(0), LONG, 1, later);
    let declined = pool.grants(at(0));
    pool.offer(at(0), LONG, 1, later);
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

/// A shard with the model `LONG` under this objective.
fn shard(accelerators: u32, slo: Span) -> Shard {
    let mut shard = Shard::new(Mode::Adaptive, accelerators);
    let profile = Arc::new(Profile::linear(ms(1), ms(5), 64).expect("a valid profile"));
    let terms = ModelTerms {
        profile,
        objective: Objective::Slo(slo),
        queue_max: 100,
        loss_weight: 1.0,
        lane_of: None,
    };
    shard.on_event(
        at(0),
        Event::AddModel { model: LONG, terms: Box::new(terms) },
        &mut Actions::default(),
    );
    shard
}

/// How many heads are dropped of a queue whose first two requests leave room for batches of 2 and
/// 3 rows, and the ten behind them for 10, if the load needs batches of `target` rows and a
/// dropped row has to make room for `price`.
#[track_caller]
fn dropped(target: u32, price: f64) -> usize {
    let mut shard = shard(1, ms(20));
    let mut todo = Actions::default();
    let plan = MatcherToShard::Plan(LONG, ModelPlan { target, price, ..ModelPlan::default() });
    shard.receive(at(0), plan, &mut todo, |answer| panic!("{answer:?}"));
    for (number, deadline) in [7, 8].into_iter().chain([15; 10]).enumerate() {
        let id = RequestId::only(number as u64);
        let deadline = at(100 + deadline);
        let arrival = at(deadline.0 / 1_000_000 - 20);
        let request = Request { id, arrival, deadline, rows: 1, class: Class::High };
        shard.on_event(at(100), Event::Arrive { model: LONG, request }, &mut todo);
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
    let mut shard = shard(4, ms(25));
    let mut matcher = Matcher::new(Mode::Adaptive, 4);
    let arrive = |shard: &mut Shard, now: Time, class| {
        let (id, deadline) = (RequestId::only(now.0), now + ms(25));
        let request = Request { id, arrival: now, deadline, rows: 1, class };
        shard.on_event(now, Event::Arrive { model: LONG, request }, &mut Actions::default());
    };
    // Whether a report is made, then what is planned: whether high requests need something of the
    // pool, and of how many models.
    let mut planned = |shard: &mut Shard, now| {
        let mut is_reported = false;
        shard.report(now, |message| {
            is_reported = true;
            assert!(tell(&mut matcher, now, message).is_none());
        });
        let messages = plan(&mut matcher, now);
        let needs = |message: &&MatcherToShard| match message {
            MatcherToShard::Plan(_, plan) => plan.high_need.is_some(),
            _ => false,
        };
        let high = messages.iter().any(|message| matches!(message, MatcherToShard::High(_)));
        is_reported.then(|| (high, messages.iter().filter(needs).count()))
    };
    arrive(&mut shard, at(0), Class::High);
    assert_eq!(planned(&mut shard, at(0)), Some((false, 0)), "nobody has to leave them anything");
    arrive(&mut shard, at(1), Class::High);
    assert_eq!(planned(&mut shard, at(1)), None, "the plan is new");
    arrive(&mut shard, at(2), Class::Low);
    assert_eq!(planned(&mut shard, at(2)), Some((true, 1)));
    arrive(&mut shard, at(3), Class::Low);
    assert_eq!(planned(&mut shard, at(3)), None, "once is enough");
    assert_eq!(planned(&mut shard, at(1100)), Some((false, 0)), "low ones no longer come");
}

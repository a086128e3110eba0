//! The matcher by itself: shards are played by the tests.

use super::*;
use crate::sched::message::Candidate;

const MODEL: ModelId = ModelId::first(0);

fn at(ms: u64) -> Time {
    Time(Span::from_millis(ms).0)
}

fn ms(ms: u64) -> Span {
    Span::from_millis(ms)
}

/// A batch that may be sent from now until `latest` and runs for 10 ms, its inputs underway
/// for `lead`.
fn candidate(generation: u32, now: Time, latest: Time, lead: Span) -> Candidate {
    let offer = Some(Offer {
        exec: now,
        urgent: now,
        latest,
        turn: latest,
        level: 0,
        lead,
        due: latest + ms(10),
        head_exec: ms(10),
        tier: Tier::High,
        exec_span: ms(10),
        reserved: 0.0,
        expected: now,
        more_batches: 0,
    });
    Candidate { model: MODEL, generation, offer }
}

/// Offers such a batch: what it is granted.
fn offer(matcher: &mut Matcher, now: Time, latest: Time, lead: Span) -> Option<Grant> {
    let generation = matcher.candidates.issued(MODEL);
    matcher.candidates.receive(now, &candidate(generation, now, latest, lead));
    let mut grants = Vec::new();
    matcher.assign(now, |grant| grants.push(grant));
    grants.pop()
}

/// The shard's answer: it was sent.
fn sent(now: Time, grant: Grant, lead: Span) -> Reply {
    let sent =
        SentBatch { ready: now + lead, exec: ms(10), spread: Span::ZERO, table: ms(10), lead };
    let Grant { accelerator, batch, .. } = grant;
    Reply { accelerator, batch, sent: Some(sent) }
}

/// Offers such a batch and sends it at once: the accelerator that gets it. Batches are
/// numbered in the order of their grants.
fn send(matcher: &mut Matcher, now: Time, latest: Time, lead: Span) -> Option<u32> {
    let grant = offer(matcher, now, latest, lead)?;
    assert_eq!(matcher.reply(now, sent(now, grant, lead)), None);
    Some(grant.accelerator.0)
}

/// Ends a batch on the first accelerator.
fn end(matcher: &mut Matcher, now: Time, batch: u64) {
    let ended = matcher.complete(now, AcceleratorId(0), BatchId(batch), Span::ZERO);
    assert_eq!(ended, Some(BatchEnded { model: MODEL, ratio: None }));
}

#[test]
fn several_batches_of_a_model_are_granted_before_its_shard_answers() {
    let mut matcher = Matcher::new(Mode::Consolidate, 4);
    let with_more = |generation, more| {
        let candidate = candidate(generation, at(0), at(20), Span::ZERO);
        let offer = candidate.offer.map(|offer| Offer { more_batches: more, ..offer });
        Candidate { offer, ..candidate }
    };
    let mut grants = Vec::new();
    matcher.candidates.receive(at(0), &with_more(0, 2));
    matcher.assign(at(0), |grant| grants.push(grant));
    let numbers: Vec<_> = grants.iter().map(|grant| grant.accelerator.0).collect();
    assert_eq!(numbers, [0, 1, 2], "the batch and two more");
    assert_eq!(matcher.running.of_model(MODEL), 3);
    // Made when one of the three grants had been answered: it knows nothing of the others.
    matcher.candidates.receive(at(1), &with_more(1, 2));
    matcher.assign(at(1), |grant| panic!("{grant:?}"));
    for grant in grants {
        assert_eq!(matcher.reply(at(1), sent(at(1), grant, Span::ZERO)), None);
    }
    matcher.candidates.receive(at(1), &with_more(3, 0));
    matcher.assign(at(1), |grant| assert_eq!(grant.accelerator, AcceleratorId(3)));
    assert_eq!(matcher.running.of_model(MODEL), 4);
}

#[test]
fn nothing_is_sent_ahead_to_an_accelerator_that_overran() {
    let mut matcher = Matcher::new(Mode::Consolidate, 2);
    assert_eq!(send(&mut matcher, at(0), at(20), ms(1)), Some(0));
    // Planned from 1 to 11 ms.
    assert_eq!(send(&mut matcher, at(12), at(30), ms(1)), Some(1));
    assert_eq!(send(&mut matcher, at(13), at(30), ms(1)), None);
    end(&mut matcher, at(20), 0);
    assert_eq!(send(&mut matcher, at(20), at(30), ms(1)), Some(0));
}

#[test]
fn an_idle_accelerator_is_not_passed_over_for_one_that_is_still_running() {
    let mut matcher = Matcher::new(Mode::Consolidate, 2);
    assert_eq!(send(&mut matcher, at(0), at(20), ms(5)), Some(0));
    // It ends at 15 ms, and something with a lead of 5 ms could be sent from 10 ms on.
    assert_eq!(send(&mut matcher, at(10), at(11), ms(1)), Some(1));
    assert_eq!(send(&mut matcher, at(12), at(12), ms(3)), Some(0), "no loss in waiting");
}

#[test]
fn a_batch_sent_ahead_ends_later_when_the_one_before_it_does() {
    let mut matcher = Matcher::new(Mode::Consolidate, 1);
    assert_eq!(send(&mut matcher, at(0), at(20), ms(1)), Some(0));
    assert_eq!(send(&mut matcher, at(10), at(20), ms(1)), Some(0));
    // The first ends at 18 instead of 11 ms, so the second at 28 instead of 21 ms.
    end(&mut matcher, at(18), 0);
    assert_eq!(
        matcher.next_wake(),
        matcher.accelerators.next_look(&matcher.running),
        "there is nothing to send ahead"
    );
    assert_eq!(send(&mut matcher, at(22), at(25), ms(1)), None);
    assert_eq!(matcher.next_wake(), Some(at(27)));
    assert_eq!(send(&mut matcher, at(27), at(30), ms(1)), Some(0));
}

#[test]
fn an_unanswered_grant_counts_as_running() {
    let mut matcher = Matcher::new(Mode::Consolidate, 1);
    let Grant { accelerator, batch, .. } = offer(&mut matcher, at(0), at(1), ms(0)).unwrap();
    assert_eq!(matcher.running.of_model(MODEL), 1);
    let declined = Reply { accelerator, batch, sent: None };
    assert_eq!(matcher.reply(at(0), declined), None);
    assert_eq!(matcher.running.of_model(MODEL), 0);
    assert_eq!(matcher.reply(at(0), declined), None, "said twice");
    assert_eq!(matcher.running.of_model(MODEL), 0);
    let elsewhere = Reply { accelerator: AcceleratorId(9), ..declined };
    assert_eq!(matcher.reply(at(0), elsewhere), None);
    assert_eq!(send(&mut matcher, at(2), at(3), ms(0)), Some(0));
}

#[test]
fn an_end_that_is_heard_of_before_the_beginning_is_kept() {
    let mut matcher = Matcher::new(Mode::Consolidate, 1);
    let grant = offer(&mut matcher, at(0), at(20), ms(0)).unwrap();
    assert_eq!(matcher.complete(at(9), grant.accelerator, grant.batch, ms(9)), None);
    assert_eq!(matcher.running.of_model(MODEL), 1);
    let ended = matcher.reply(at(10), sent(at(1), grant, ms(0)));
    assert_eq!(ended, Some(BatchEnded { model: MODEL, ratio: Some(Slowdown::of(ms(9), ms(10))) }));
    assert_eq!(matcher.running.of_model(MODEL), 0);
    assert_eq!(send(&mut matcher, at(10), at(20), ms(0)), Some(0));
}

#[test]
fn a_model_is_not_offered_for_by_one_that_had_its_place_before() {
    let mut matcher = Matcher::new(Mode::Consolidate, 2);
    let granted = |matcher: &mut Matcher, model| {
        let candidate = Candidate { model, ..candidate(0, at(0), at(20), ms(0)) };
        matcher.receive(at(0), ShardToMatcher::Candidate(candidate), |_| {});
        let mut grants = Vec::new();
        matcher.assign(at(0), |grant| grants.push(grant.model));
        grants
    };
    let later = ModelId::new(0, 2);
    // Nothing was heard of the generation between: it may have been given up before it served.
    assert_eq!(granted(&mut matcher, later), [later]);
    assert_eq!(granted(&mut matcher, MODEL), []);
    let running = |model| matcher.running.of_model(model);
    assert_eq!((running(later), running(MODEL)), (1, 0));
}

#[test]
fn a_candidate_from_before_the_newest_grant_is_ignored() {
    let mut matcher = Matcher::new(Mode::Consolidate, 2);
    assert!(offer(&mut matcher, at(0), at(20), ms(0)).is_some());
    // The shard offered this while the grant was on its way.
    let mut crossed = candidate(0, at(0), at(20), ms(0));
    matcher.candidates.receive(at(0), &crossed);
    matcher.assign(at(0), |grant| panic!("{grant:?}"));
    crossed.generation = 1;
    matcher.candidates.receive(at(0), &crossed);
    let mut grants = 0;
    matcher.assign(at(0), |_| grants += 1);
    assert_eq!(grants, 1);
}

const FIRST: AcceleratorId = AcceleratorId(0);

/// What the matcher says of accelerators, and how many batches it has the shards count as ended.
fn attend(matcher: &mut Matcher, now: Time) -> (Vec<Action>, usize) {
    let (mut todo, mut ends) = (Actions::default(), 0);
    matcher.accelerators.watch_overdue(now, &mut matcher.running);
    matcher.hand_out_news(&mut todo, &mut |_| ends += 1);
    (todo.list, ends)
}

fn lost(batch: u64, by: Span) -> Action {
    lost_by(batch, Loss::Overdue { by })
}

fn lost_by(batch: u64, why: Loss) -> Action {
    Action::Lost { model: MODEL, batch: BatchId(batch), accelerator: FIRST, why }
}

fn lost_with_it(batch: u64) -> Action {
    lost_by(batch, Loss::Gone)
}

/// The first accelerator's process goes.
fn go(matcher: &mut Matcher, now: Time) {
    let event = Event::AcceleratorGone { accelerator: FIRST };
    matcher.on_event(now, &event, |message| panic!("{message:?}"));
}

/// Another one has its number, or it is wanted again.
fn add(matcher: &mut Matcher, now: Time) {
    matcher.accelerators.add(now, FIRST);
}

fn nothing() -> (Vec<Action>, usize) {
    (vec![], 0)
}

#[test]
fn one_that_does_not_answer_is_dead_until_it_has_ended_everything() {
    let mut matcher = Matcher::new(Mode::Consolidate, 1);
    assert_eq!(send(&mut matcher, at(0), at(20), ms(1)), Some(0));
    assert_eq!(send(&mut matcher, at(10), at(20), ms(1)), Some(0));
    // Planned to end at 11 ms, and the one behind it at 21 ms.
    assert_eq!(matcher.next_wake(), Some(at(1011)));
    assert_eq!(attend(&mut matcher, at(1010)), nothing());
    let both = [0, 1].map(|batch| lost(batch, ms(1000))).to_vec();
    assert_eq!(attend(&mut matcher, at(1011)), (both, 2));
    assert_eq!((matcher.running.of_model(MODEL), matcher.serving()), (0, 0));
    assert_eq!(matcher.state(FIRST), AcceleratorState::Dead);
    assert_eq!(send(&mut matcher, at(1012), at(1020), ms(0)), None);
    assert_eq!(matcher.next_wake(), None);
    for (batch, state) in [(1, AcceleratorState::Dead), (0, AcceleratorState::Serving)] {
        assert_eq!(matcher.complete(at(1015), FIRST, BatchId(batch), ms(10)), None);
        assert_eq!(matcher.state(FIRST), state);
    }
    let back = vec![Action::Recovered { accelerator: FIRST }];
    assert_eq!(attend(&mut matcher, at(1015)), (back, 0));
    assert_eq!(send(&mut matcher, at(1015), at(1020), ms(0)), Some(0));
}

#[test]
fn what_ends_in_time_costs_no_look() {
    let mut matcher = Matcher::new(Mode::Consolidate, 1);
    for batch in 0..1000 {
        let now = at(batch * 10);
        assert_eq!(send(&mut matcher, now, now + ms(5), ms(0)), Some(0));
        assert_eq!(attend(&mut matcher, now), nothing());
        let due = matcher.accelerators.next_look(&matcher.running).unwrap();
        assert!(due > now + ms(500), "{due} at {now}: looked at ahead of time");
        end(&mut matcher, now + ms(10), batch);
        assert_eq!(matcher.accelerators.next_look(&matcher.running), None, "nothing runs");
    }
}

#[test]
fn a_late_look_gives_a_little_time() {
    let mut matcher = Matcher::new(Mode::Consolidate, 1);
    matcher.set_overdue_after(ms(200));
    assert_eq!(send(&mut matcher, at(0), at(20), ms(0)), Some(0));
    // Everything stood still for a minute.
    assert_eq!(attend(&mut matcher, at(60_000)), nothing());
    assert_eq!(matcher.next_wake(), Some(at(60_100)));
    assert_eq!(attend(&mut matcher, at(60_100)), (vec![lost(0, ms(60_090))], 1));
}

#[test]
fn a_batch_that_a_dead_one_is_sent_late_is_lost_at_once() {
    let mut matcher = Matcher::new(Mode::Consolidate, 1);
    assert_eq!(send(&mut matcher, at(0), at(20), ms(1)), Some(0));
    let grant = offer(&mut matcher, at(10), at(20), ms(1)).unwrap();
    assert_eq!(attend(&mut matcher, at(1200)), (vec![lost(0, ms(1189))], 1));
    assert_eq!(matcher.running.of_model(MODEL), 1, "granted and not answered");
    assert_eq!(matcher.reply(at(1300), sent(at(10), grant, ms(1))), None);
    assert_eq!(attend(&mut matcher, at(1300)), (vec![lost(1, ms(1289))], 1));
    assert_eq!(matcher.running.of_model(MODEL), 0);
}

#[test]
fn all_that_one_was_sent_is_lost_at_once_when_it_goes() {
    let mut matcher = Matcher::new(Mode::Consolidate, 1);
    assert_eq!(send(&mut matcher, at(0), at(20), ms(1)), Some(0));
    assert_eq!(send(&mut matcher, at(10), at(20), ms(1)), Some(0));
    go(&mut matcher, at(11));
    let both = vec![lost_with_it(0), lost_with_it(1)];
    assert_eq!(attend(&mut matcher, at(11)), (both, 2));
    assert_eq!((matcher.running.of_model(MODEL), matcher.serving()), (0, 0));
    assert_eq!(matcher.state(FIRST), AcceleratorState::Gone);
    assert_eq!(send(&mut matcher, at(12), at(20), ms(0)), None);
    go(&mut matcher, at(12));
    for batch in [0, 1] {
        assert_eq!(matcher.complete(at(13), FIRST, BatchId(batch), ms(10)), None);
    }
    assert_eq!(attend(&mut matcher, at(13)), nothing(), "said once");
    add(&mut matcher, at(14));
    assert_eq!((matcher.state(FIRST), matcher.serving()), (AcceleratorState::Serving, 1));
    assert_eq!(send(&mut matcher, at(14), at(20), ms(0)), Some(0));
    end(&mut matcher, at(24), 2);
}

#[test]
fn one_that_is_dead_and_goes_has_nothing_more_to_lose() {
    let mut matcher = Matcher::new(Mode::Consolidate, 1);
    assert_eq!(send(&mut matcher, at(0), at(20), ms(0)), Some(0));
    assert_eq!(attend(&mut matcher, at(1010)), (vec![lost(0, ms(1000))], 1));
    go(&mut matcher, at(1011));
    add(&mut matcher, at(1011));
    assert_eq!(attend(&mut matcher, at(1011)), nothing(), "and is waited for no more");
    assert_eq!(matcher.state(FIRST), AcceleratorState::Serving);
    assert_eq!(send(&mut matcher, at(1011), at(1020), ms(0)), Some(0));
}

#[test]
fn a_grant_on_its_way_to_one_that_went_is_not_its_successors() {
    let mut matcher = Matcher::new(Mode::Consolidate, 1);
    let grant = offer(&mut matcher, at(0), at(20), ms(0)).unwrap();
    go(&mut matcher, at(1));
    add(&mut matcher, at(1));
    assert_eq!(offer(&mut matcher, at(2), at(20), ms(0)), None, "the grant is not answered");
    assert_eq!(matcher.complete(at(2), FIRST, grant.batch, ms(2)), None);
    assert_eq!(matcher.reply(at(3), sent(at(0), grant, ms(0))), None);
    assert_eq!(attend(&mut matcher, at(3)), (vec![lost_with_it(0)], 1));
    assert_eq!(send(&mut matcher, at(3), at(20), ms(0)), Some(0));
    assert_eq!(matcher.running.of_model(MODEL), 1);
}

#[test]
fn a_batch_that_ended_before_its_accelerator_went_is_not_lost() {
    let mut matcher = Matcher::new(Mode::Consolidate, 1);
    let grant = offer(&mut matcher, at(0), at(20), ms(0)).unwrap();
    assert_eq!(matcher.complete(at(9), FIRST, grant.batch, ms(9)), None);
    go(&mut matcher, at(10));
    assert!(matcher.reply(at(11), sent(at(0), grant, ms(0))).is_some());
    assert_eq!(attend(&mut matcher, at(11)), nothing());
    assert_eq!(matcher.running.of_model(MODEL), 0);
}

#[test]
fn one_that_goes_while_it_drains_is_drained() {
    let mut matcher = Matcher::new(Mode::Consolidate, 1);
    let drained = Action::Drained { accelerator: FIRST };
    assert_eq!(send(&mut matcher, at(0), at(20), ms(0)), Some(0));
    matcher.accelerators.drain(at(1), FIRST);
    go(&mut matcher, at(2));
    assert_eq!(attend(&mut matcher, at(2)), (vec![lost_with_it(0), drained.clone()], 1));
    matcher.accelerators.drain(at(3), FIRST);
    assert_eq!(attend(&mut matcher, at(3)), (vec![drained], 0), "whenever it is asked");
    assert_eq!(matcher.state(FIRST), AcceleratorState::Gone);
}

#[test]
fn the_successor_of_a_straggler_is_none() {
    let mut matcher = Matcher::new(Mode::Consolidate, 3);
    let mut batches = (0u64..).map(BatchId);
    let mut rounds = 0..10;
    while matcher.accelerator_slowdown(FIRST) == Slowdown::ONE {
        let now = at(40 * rounds.next().expect("it is seen to be slow"));
        for number in 0..3 {
            assert_eq!(send(&mut matcher, now, now, ms(0)), Some(number));
        }
        for number in 0..3 {
            let (id, batch) = (AcceleratorId(number), batches.next().unwrap());
            let exec = if id == FIRST { ms(30) } else { ms(10) };
            assert!(matcher.complete(now + exec, id, batch, exec).is_some());
        }
    }
    go(&mut matcher, at(500));
    add(&mut matcher, at(500));
    assert_eq!(matcher.accelerator_slowdown(FIRST), Slowdown::ONE);
    assert_eq!(send(&mut matcher, at(500), at(500), ms(0)), Some(0), "and is first again");
}

#[test]
fn drained_is_said_when_nothing_runs_and_whenever_it_is_asked() {
    let mut matcher = Matcher::new(Mode::Consolidate, 2);
    let drained = |number| Action::Drained { accelerator: AcceleratorId(number) };
    assert_eq!(send(&mut matcher, at(0), at(20), ms(0)), Some(0));
    for number in [0, 1, 1, 7, u32::MAX] {
        matcher.accelerators.drain(at(1), AcceleratorId(number));
    }
    let idle = [1, 1, 7, u32::MAX].map(drained).to_vec();
    assert_eq!(attend(&mut matcher, at(1)), (idle, 0));
    assert_eq!(matcher.state(FIRST), AcceleratorState::Draining);
    end(&mut matcher, at(10), 0);
    assert_eq!(attend(&mut matcher, at(10)), (vec![drained(0)], 0));
    assert_eq!((matcher.state(FIRST), matcher.serving()), (AcceleratorState::Away, 0));
    assert_eq!(send(&mut matcher, at(11), at(20), ms(0)), None);
}

#[test]
fn new_numbers_join_and_absurd_ones_do_not() {
    let mut matcher = Matcher::new(Mode::Consolidate, 0);
    for number in [2, 2, u32::MAX, ACCELERATORS_MAX] {
        matcher.accelerators.add(at(0), AcceleratorId(number));
    }
    assert_eq!((matcher.serving(), matcher.accelerators.list.len()), (1, 3));
    assert_eq!(matcher.state(FIRST), AcceleratorState::Away);
    assert_eq!(send(&mut matcher, at(0), at(1), ms(0)), Some(2));
    matcher.accelerators.add(at(1), FIRST);
    assert_eq!(send(&mut matcher, at(1), at(2), ms(0)), Some(0));
}

/// How many of 1000 batches each tier gets of one accelerator, where those of these tiers are always
/// ready and run for 10 ms each.
fn served(tiers: &[Tier]) -> Vec<usize> {
    let mut matcher = Matcher::new(Mode::Consolidate, 1);
    let mut served = vec![0; tiers.len()];
    for round in 0..1000 {
        let now = at(10 * round);
        for (number, tier) in (0u32..).zip(tiers) {
            let model = ModelId::first(number);
            let candidate =
                candidate(matcher.candidates.issued(model), now, Time::NEVER, Span::ZERO);
            // The lower the tier, the earlier its turn would be among equals.
            let turn = Time(u64::from(100 - number));
            let offer = candidate.offer.map(|offer| Offer { tier: *tier, turn, ..offer });
            matcher.candidates.receive(now, &Candidate { model, offer, ..candidate });
        }
        let mut grants = Vec::new();
        matcher.assign(now, |grant| grants.push(grant));
        let [grant] = grants[..] else { panic!("one for the accelerator: {grants:?}") };
        served[grant.model.index()] += 1;
        assert_eq!(matcher.reply(now, sent(now, grant, Span::ZERO)), None);
        let ended = matcher.complete(at(10 * round + 10), AcceleratorId(0), grant.batch, ms(10));
        assert!(ended.is_some());
    }
    served
}

#[test]
fn each_tier_gives_way_to_those_before_it_but_for_its_share() {
    use Tier::{BestEffort, High, Low};
    assert_eq!(served(&[High, Low]), [953, 47]);
    assert_eq!(served(&[High, BestEffort]), [953, 47]);
    assert_eq!(served(&[Low, BestEffort]), [953, 47]);
    assert_eq!(served(&[High, Low, BestEffort]), [908, 45, 47]);
    assert_eq!(served(&[BestEffort]), [1000]);
}

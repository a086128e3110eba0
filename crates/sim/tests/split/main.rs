//! Shards and a matcher as separate parties: without delays they decide exactly as the scheduler
//! does, and with any delays they keep its promises.

mod histories;
mod world;

use histories::{Happening, History, MODELS, histories, messages};
use proptest::prelude::*;
use std::sync::Arc;
use symphony_core::sched::{Action, Mode, ModelTerms, Scheduler};
use symphony_core::{Class, Objective, Profile, Span, Time};
use symphony_sim::goodput::{BAD_SHARE_MAX, OfferedLoad, run_at};
use symphony_sim::{Delay, PolicyKind, Scenario, Split, SplitScheduler};
use symphony_workload::Process;
use world::World;

fn split(history: &History, shards: u32, message: Delay, seed: u64) -> SplitScheduler {
    let split = Split { shards, message };
    let scheduler = SplitScheduler::new(history.mode, history.accelerators, split, seed);
    if history.follows { scheduler } else { scheduler.with_fixed_profiles() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(4000)))]

    #[test]
    fn messages_that_take_no_time_change_nothing(history in histories()) {
        let mut whole = Scheduler::new(history.mode, history.accelerators);
        if !history.follows {
            whole = whole.with_fixed_profiles();
        }
        let parties = split(&history, 1, Delay::Constant(Span::ZERO), 0);
        let whole = World::new(&history, whole, Span::ZERO).run();
        let parties = World::new(&history, parties, Span::ZERO).run();
        for (one, other) in whole.iter().zip(&parties) {
            prop_assert_eq!(one.0, other.0);
            prop_assert_eq!(&one.1.list, &other.1.list);
            prop_assert_eq!(&one.1.requests, &other.1.requests);
            prop_assert_eq!(&one.2, &other.2);
        }
        prop_assert_eq!(whole.len(), parties.len());
    }

    #[test]
    fn promises_are_kept_whatever_messages_take(
        history in histories(),
        shards in 1u32..5,
        message in messages(),
        seed in any::<u64>(),
    ) {
        World::new(&history, split(&history, shards, message, seed), message.planned()).run();
    }
}

/// A history of models with these profiles, whose batches take these percentages of their profile.
fn of_models(
    mode: Mode,
    profiles: [(u64, u64, u32); MODELS as usize],
    speeds: &[u64],
    happenings: Vec<(u64, Happening)>,
) -> History {
    History {
        mode,
        accelerators: 1,
        profiles: profiles.to_vec(),
        speeds: speeds.to_vec(),
        late_every: usize::MAX,
        endless_every: usize::MAX,
        follows: true,
        happenings,
    }
}

fn arrives(model: u32, slo_us: u64, class: Class) -> Happening {
    Happening::Arrive { model, rows: 1, slo_us, class }
}

/// The shards whose models get no requests hear in the midst of a decision that low ones come and
/// that high ones need most of the pool. Their report for the next plan was due long ago.
#[test]
fn a_shard_that_hears_of_low_requests_elsewhere_does_not_wake_in_the_past() {
    let mut profiles = [(0, 1, 1); MODELS as usize];
    profiles[3] = (1480, 6583, 3);
    let high = (0..200).map(|_| (1000, arrives(3, 20_000, Class::High)));
    let happenings: Vec<_> = high.chain([(500, arrives(0, 500, Class::Low))]).collect();
    for mode in Mode::ALL {
        let history = of_models(mode, profiles, &[50], happenings.clone());
        let at_once = Delay::Constant(Span::ZERO);
        World::new(&history, split(&history, 3, at_once, 0), at_once.planned()).run();
    }
}

/// Batches that take now half and now one and a half times their profile: a request that a mean batch
/// would miss takes its chance, though nobody said that times spread.
#[test]
fn a_request_may_hope_for_luck_once_times_are_measured_to_vary() {
    let profiles = [(0, 1000, 1); MODELS as usize];
    let steady = (0..60).map(|_| (10_000, arrives(0, 60_000, Class::High)));
    let happenings: Vec<_> = steady.chain([(10_000, arrives(0, 900, Class::High))]).collect();
    for mode in Mode::ALL {
        let history = of_models(mode, profiles, &[50, 150], happenings.clone());
        let at_once = Delay::Constant(Span::ZERO);
        let steps = World::new(&history, split(&history, 1, at_once, 0), Span::ZERO).run();
        let mut actions = steps.iter().rev().flat_map(|(_, todo, _)| todo.list.iter().rev());
        let last = actions.find_map(|action| match action {
            Action::Start(start) => Some(start),
            _ => None,
        });
        let last = last.expect("some start");
        let deadline = Time(Span::from_micros(610_900).0);
        assert!(last.begin + last.exec > deadline, "{mode:?}: {last:?}");
    }
}

/// A head that shrinks the batches of others is not dropped while its own grant is on its way.
#[test]
fn half_a_millisecond_of_message_costs_little_goodput() {
    let profile = Profile::linear(Span::from_micros(1053), Span::from_micros(5072), 64);
    let terms = ModelTerms {
        profile: Arc::new(profile.expect("a growing line")),
        objective: Objective::Slo(Span::from_millis(25)),
        queue_max: u32::MAX,
        loss_weight: 1.0,
        lane_of: None,
    };
    let mut scenario = Scenario::ideal(vec![terms], 8, Span::from_secs(1), Span::from_secs(10));
    let message = Delay::Constant(Span::from_micros(500));
    scenario.split = Some(Split { shards: 4, message });
    let load = OfferedLoad::new(&[1.0], Process::Poisson);
    // Without messages the goodput is 5 310 and 5 476.
    for (policy, rate) in [(PolicyKind::Consolidate, 5000.0), (PolicyKind::Adaptive, 4800.0)] {
        let bad = run_at(&scenario, &load, &policy, rate, 1).expect("valid load").worst_bad_share();
        assert!(bad <= BAD_SHARE_MAX, "{policy} at {rate} r/s: {:.2} % bad", bad * 100.0);
    }
}

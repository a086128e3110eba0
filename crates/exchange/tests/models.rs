//! The exchanges against obvious models of them, on one thread.

#![cfg(not(loom))]

use std::collections::{BTreeMap, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;
use symphony_exchange::{Doorbell, board, ring};

#[derive(Clone, Debug)]
enum RingStep {
    Send,
    Burst(usize),
    Pop,
    Drain(usize),
    DrainInto(usize),
}

fn ring_steps() -> impl Strategy<Value = Vec<RingStep>> {
    let step = prop_oneof![
        3 => Just(RingStep::Send),
        1 => (0..6usize).prop_map(RingStep::Burst),
        2 => Just(RingStep::Pop),
        1 => (0..6usize).prop_map(RingStep::Drain),
        1 => (0..6usize).prop_map(RingStep::DrainInto),
    ];
    vec(step, 0..200)
}

proptest! {
    #[test]
    fn a_ring_is_a_bounded_queue(capacity in 1..9usize, steps in ring_steps()) {
        let (mut sender, mut receiver) = ring(capacity, Doorbell::new().ringer());
        let mut model = VecDeque::new();
        for (number, step) in steps.into_iter().enumerate() {
            let mut expect_sent = |message| {
                let room = model.len() < capacity;
                if room {
                    model.push_back(message);
                }
                if room { Ok(()) } else { Err(message) }
            };
            match step {
                RingStep::Send => {
                    let sent = sender.send(number).map_err(|full| full.0);
                    prop_assert_eq!(sent, expect_sent(number));
                }
                RingStep::Burst(count) => {
                    let mut burst = sender.burst();
                    for _ in 0..count {
                        let sent = burst.send(number).map_err(|full| full.0);
                        prop_assert_eq!(sent, expect_sent(number));
                    }
                }
                RingStep::Pop => prop_assert_eq!(receiver.pop(), model.pop_front()),
                RingStep::Drain(max) => {
                    let mut found = Vec::new();
                    let count = receiver.drain(max, |message| found.push(message));
                    prop_assert_eq!(count, found.len());
                    let expected: Vec<_> = model.drain(..max.min(model.len())).collect();
                    prop_assert_eq!(found, expected);
                }
                RingStep::DrainInto(max) => {
                    let mut found = vec![usize::MAX];
                    receiver.drain_into(max, &mut found);
                    let expected: Vec<_> = model.drain(..max.min(model.len())).collect();
                    prop_assert_eq!(&found[1..], expected);
                }
            }
            prop_assert_eq!((sender.len(), receiver.len()), (model.len(), model.len()));
            prop_assert_eq!(receiver.is_empty(), model.is_empty());
        }
    }

    /// Rounds of publishing, each followed by one drain. The sizes end within a word, at its end,
    /// and beyond what one summary word covers.
    #[test]
    fn a_board_holds_the_newest_of_each_slot(
        len in prop::sample::select(vec![1usize, 63, 64, 65, 4096, 4097, 10_000]),
        rounds in vec(vec((any::<prop::sample::Index>(), any::<[u64; 3]>()), 0..50), 0..20),
    ) {
        let (mut writer, mut reader) = board::<[u64; 3]>(len, Doorbell::new().ringer());
        prop_assert_eq!(writer.slots(), len);
        for round in rounds {
            let mut model = BTreeMap::new();
            for (number, (index, value)) in round.into_iter().enumerate() {
                let index = index.index(len);
                if number % 2 == 0 {
                    writer.publish(index, value);
                } else {
                    writer.burst().publish(index, value);
                }
                model.insert(index, value);
                prop_assert!(!reader.is_empty());
            }
            let mut found = Vec::new();
            let count = reader.drain(|index, value| found.push((index, value)));
            prop_assert_eq!(count, found.len());
            prop_assert_eq!(found, model.into_iter().collect::<Vec<_>>());
            prop_assert!(reader.is_empty());
        }
    }
}

//! What a shard and the matcher send each other, and the ways it takes.
//!
//! Of a model's candidates only the newest counts: they lie on a board. Everything else goes by
//! ring, in order. The matcher knows by a candidate's generation which of its grants the shard had
//! answered, so a candidate that is read before an older reply does no harm.

use std::collections::VecDeque;
use symphony_core::sched::{Candidate, MatcherToShard, Offer, ShardToMatcher, Tier};
use symphony_core::{AcceleratorId, BatchId, ModelId, Slowdown, Span, Time};
use symphony_exchange::{
    BoardReader, BoardWriter, Burst, Full, Receiver, Ringer, Sender, Value, board, ring,
};
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::port::MODELS_MAX;
use symphony_wire::message::Completion;

/// What the matcher's thread sends to a shard's. Both have one clock, that of their process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FromMatcher {
    /// What the matcher decided, and when.
    Decided(Time, MatcherToShard),
    /// A batch has ended, on an accelerator that is so much slower than the others.
    Measured(Timed<Completion>, Slowdown),
    /// A batch is not waited for any more: its accelerator is dead or gone.
    Lost(BatchId, AcceleratorId),
    /// How late the matcher's timers fire.
    Late(Span),
}

/// Messages that a ring holds; more wait outside of it, see [`Outbox`]. A writer goes
/// round the whole ring: a ring with room for a report or a plan of the most models there can be
/// would not stay in a core's cache.
const RING_MAX: usize = 4096;

/// The shard's end of the ways between it and the matcher.
pub(crate) struct ShardEnd {
    pub(crate) candidates: BoardWriter<Words>,
    pub(crate) to_matcher: Outbox<ShardToMatcher>,
    pub(crate) from_matcher: Receiver<FromMatcher>,
    /// Models are dealt in turn to so many shards.
    pub(crate) shards: usize,
}

/// The matcher's reading ends of the ways from one shard.
pub(crate) struct FromShard {
    pub(crate) candidates: BoardReader<Words>,
    pub(crate) messages: Receiver<ShardToMatcher>,
}

/// The ways between one of so many shards and the matcher, each of which listens to its own bell.
pub(crate) fn between(
    shards: usize,
    shard: Ringer,
    matcher: Ringer,
) -> (ShardEnd, FromShard, Outbox<FromMatcher>) {
    let (candidates, seen) = board(MODELS_MAX.div_ceil(shards), matcher.clone());
    let (to_matcher, messages) = outbox(matcher);
    let (to_shard, from_matcher) = outbox(shard);
    let end = ShardEnd { candidates, to_matcher, from_matcher, shards };
    (end, FromShard { candidates: seen, messages }, to_shard)
}

fn outbox<T>(ringer: Ringer) -> (Outbox<T>, Receiver<T>) {
    let (ring, receiver) = ring(RING_MAX, ringer);
    (Outbox { ring, waiting: VecDeque::new() }, receiver)
}

/// The writing end of a ring that loses nothing: what finds no room waits here. It cannot be much:
/// a model has a few grants at a time, an accelerator two batches, and a report or a plan a message
/// for each model.
pub(crate) struct Outbox<T> {
    ring: Sender<T>,
    waiting: VecDeque<T>,
}

impl<T> Outbox<T> {
    /// Sends several messages, behind those that still wait, and rings once, when the burst is
    /// dropped.
    pub(crate) fn burst(&mut self) -> OutboxBurst<'_, T> {
        let Outbox { ring, waiting } = self;
        let mut ring = ring.burst();
        while let Some(message) = waiting.pop_front() {
            if let Err(Full(message)) = ring.send(message) {
                waiting.push_front(message);
                break;
            }
        }
        OutboxBurst { ring, waiting }
    }

    /// Whether something waits for room.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// Messages sent together, see [`Outbox::burst`].
pub(crate) struct OutboxBurst<'a, T> {
    ring: Burst<'a, T>,
    waiting: &'a mut VecDeque<T>,
}

impl<T> OutboxBurst<'_, T> {
    /// Sends a message, or has it wait for room.
    pub(crate) fn send(&mut self, message: T) {
        if !self.waiting.is_empty() {
            self.waiting.push_back(message);
        } else if let Err(Full(message)) = self.ring.send(message) {
            self.waiting.push_back(message);
        }
    }
}

/// A candidate as it lies on the board. Its place there tells its model but for the generation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Words([u64; 12]);

impl Value for Words {
    type Words = [u64; 12];

    fn to_words(self) -> [u64; 12] {
        self.0
    }

    fn from_words(words: [u64; 12]) -> Words {
        Words(words)
    }
}

const OFFERED: u64 = 1;
const LOW: u64 = 2;
const BEST_EFFORT: u64 = 4;

impl Words {
    pub(crate) fn of(candidate: &Candidate) -> Words {
        let generation = u64::from(candidate.generation) << 32;
        let of = u64::from(candidate.model.generation()) << 32;
        let Some(offer) = candidate.offer else {
            return Words([generation, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, of]);
        };
        let tier = match offer.tier {
            Tier::High => 0,
            Tier::Low => LOW,
            Tier::BestEffort => BEST_EFFORT,
        };
        Words([
            generation | u64::from(offer.level) << 8 | tier | OFFERED,
            offer.exec.0,
            offer.urgent.0,
            offer.latest.0,
            offer.turn.0,
            offer.lead.0,
            offer.due.0,
            offer.head_exec.0,
            offer.exec_span.0,
            offer.expected.0,
            offer.reserved.to_bits(),
            of | u64::from(offer.more_batches),
        ])
    }

    /// The candidate of the model that had the index `index` when it was made.
    #[expect(clippy::cast_possible_truncation, reason = "they were put there as such")]
    pub(crate) fn candidate(self, index: u32) -> Candidate {
        let [
            head,
            exec,
            urgent,
            latest,
            turn,
            lead,
            due,
            alone,
            exec_span,
            expected,
            reserved,
            more,
        ] = self.0;
        let offer = (head & OFFERED != 0).then(|| Offer {
            exec: Time(exec),
            urgent: Time(urgent),
            latest: Time(latest),
            turn: Time(turn),
            level: (head >> 8) as u8,
            lead: Span(lead),
            due: Time(due),
            head_exec: Span(alone),
            tier: match head & (LOW | BEST_EFFORT) {
                0 => Tier::High,
                LOW => Tier::Low,
                _ => Tier::BestEffort,
            },
            exec_span: Span(exec_span),
            reserved: f64::from_bits(reserved),
            expected: Time(expected),
            more_batches: more as u32,
        });
        let model = ModelId::new(index, (more >> 32) as u32);
        Candidate { model, generation: (head >> 32) as u32, offer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symphony_exchange::Doorbell;

    #[test]
    fn a_candidate_comes_off_the_board_as_it_was_put_there() {
        let model = ModelId::new(7, u32::MAX - 3);
        let offer = Offer {
            exec: Time(1),
            urgent: Time(2),
            latest: Time(3),
            turn: Time(4),
            level: 5,
            lead: Span(6),
            due: Time(7),
            head_exec: Span(8),
            tier: Tier::Low,
            exec_span: Span(9),
            reserved: 10.0,
            expected: Time(11),
            more_batches: 12,
        };
        let high = Offer { tier: Tier::High, level: 0, ..offer };
        let best_effort = Offer { tier: Tier::BestEffort, ..offer };
        for offer in [None, Some(offer), Some(high), Some(best_effort)] {
            let candidate = Candidate { model, generation: u32::MAX - 1, offer };
            assert_eq!(Words::of(&candidate).candidate(7), candidate);
        }
    }

    #[test]
    fn what_finds_no_room_waits_and_keeps_its_order() {
        let (mut outbox, mut receiver) = outbox::<usize>(Doorbell::new().ringer());
        let count = RING_MAX + 10;
        let send_all = |outbox: &mut Outbox<usize>, messages: std::ops::Range<usize>| {
            let mut burst = outbox.burst();
            messages.for_each(|message| burst.send(message));
        };
        send_all(&mut outbox, 0..count);
        assert!(outbox.is_waiting());
        let mut received = Vec::new();
        receiver.drain_into(RING_MAX - 1, &mut received);
        send_all(&mut outbox, count..count + 1);
        assert!(!outbox.is_waiting());
        receiver.drain_into(usize::MAX, &mut received);
        assert_eq!(received, (0..=count).collect::<Vec<_>>());
    }
}

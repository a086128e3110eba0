//! The matcher alone: candidates of many models for accelerators of which few are idle, and of
//! which some become slower than the others.

use crate::random::Random;
use crate::spent::Spent;
use crate::workload::Workload;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use symphony_core::sched::{
    Actions, Candidate, Event, Grant, Matcher, MatcherToShard, Mode, Offer, Reply, SentBatch,
    ShardToMatcher, Tier,
};
use symphony_core::{AcceleratorId, BatchId, ModelId, Span, Time};

const MODELS: u32 = 1000;
/// Candidates found at once, of different models.
const DRAIN: u32 = 64;
const EXEC: Span = Span::from_millis(10);
const LEAD: Span = Span::from_micros(50);

/// When every third accelerator becomes slower, if some do: once everything has its size.
const SLOWER_FROM: Time = Time(50_000_000);

pub(crate) struct Grants {
    matcher: Matcher,
    random: Random,
    now: Time,
    /// From here on every third takes half as long again.
    slower_from: Time,
    /// Time between drains, so that all but a few accelerators are busy.
    gap: Span,
    /// The model whose turn it is, and how many grants each had.
    next: u32,
    granted: Vec<u32>,
    grants: Vec<Grant>,
    todo: Actions,
    /// Batches under way: when each ends, where it runs, and how long it ran.
    running: BinaryHeap<Reverse<(Time, BatchId, AcceleratorId, Span)>>,
}

impl Grants {
    pub(crate) fn new(accelerators: u32, some_slow_down: bool) -> Grants {
        Grants {
            matcher: Matcher::new(Mode::Consolidate, accelerators),
            random: Random(1),
            now: Time::ZERO,
            slower_from: if some_slow_down { SLOWER_FROM } else { Time::NEVER },
            gap: Span(EXEC.0 * u64::from(DRAIN) / u64::from(accelerators)),
            next: 0,
            granted: vec![0; MODELS as usize],
            grants: Vec::new(),
            todo: Actions::default(),
            running: BinaryHeap::new(),
        }
    }

    fn candidate(&self, model: ModelId) -> Candidate {
        let now = self.now;
        let latest = now + Span::from_millis(5);
        let offer = Offer {
            exec: now,
            urgent: now,
            latest,
            turn: latest,
            level: 0,
            lead: LEAD,
            due: latest + LEAD + EXEC,
            head_exec: Span::from_millis(1),
            tier: Tier::High,
            exec_span: EXEC,
            reserved: 0.0,
            expected: now,
            more_batches: 0,
        };
        let generation = self.granted[model.index()];
        Candidate { model, generation, offer: Some(offer) }
    }

    fn end_batches(&mut self, spent: &mut Spent) {
        let mut ended = Vec::new();
        while let Some(Reverse(batch)) = self.running.peek().copied()
            && batch.0 <= self.now
        {
            self.running.pop();
            ended.push(batch);
        }
        let Grants { matcher, now, .. } = self;
        spent.complete(|| {
            for (_, batch, accelerator, exec) in ended {
                let event = Event::Complete { accelerator, batch, exec };
                matcher.on_event(*now, &event, |_| {});
            }
        });
    }

    /// A plan holds a high percentile: most batches take a little less.
    fn exec(&mut self, accelerator: AcceleratorId) -> Span {
        let is_slow = self.now >= self.slower_from && accelerator.0.is_multiple_of(3);
        let usual = if is_slow { Span(EXEC.0 / 2 * 3) } else { EXEC };
        Span(usual.0 / 100 * (90 + self.random.below(10)))
    }

    fn answer(&self, grant: &Grant) -> Reply {
        let &Grant { accelerator, batch, .. } = grant;
        let ready = self.now + LEAD;
        let sent = SentBatch { ready, exec: EXEC, spread: Span::ZERO, table: EXEC, lead: LEAD };
        Reply { accelerator, batch, sent: Some(sent) }
    }
}

impl Workload for Grants {
    fn run(&mut self, count: u64) -> Spent {
        let mut spent = Spent::default();
        while spent.batches < count {
            self.now = self.now + self.gap;
            self.end_batches(&mut spent);
            let models = (0..DRAIN).map(|offset| ModelId::first((self.next + offset) % MODELS));
            let candidates: Vec<Candidate> = models.map(|model| self.candidate(model)).collect();
            self.next = (self.next + DRAIN) % MODELS;
            let Grants { now, grants, matcher, todo, .. } = self;
            let now = *now;
            spent.settle(|| {
                for candidate in candidates {
                    matcher.receive(now, ShardToMatcher::Candidate(candidate), |_| {});
                }
                matcher.settle(now, todo, |message| {
                    if let MatcherToShard::Grant(grant) = message {
                        grants.push(grant);
                    }
                });
            });
            let replies: Vec<Reply> = self.grants.iter().map(|grant| self.answer(grant)).collect();
            let matcher = &mut self.matcher;
            spent.settle(|| {
                for reply in replies {
                    matcher.receive(now, ShardToMatcher::Reply(reply), |_| {});
                }
            });
            spent.batches += self.grants.len() as u64;
            for at in 0..self.grants.len() {
                let grant = self.grants[at];
                self.granted[grant.model.index()] += 1;
                let exec = self.exec(grant.accelerator);
                let end = grant.free.max(self.now + LEAD) + exec;
                self.running.push(Reverse((end, grant.batch, grant.accelerator, exec)));
            }
            self.grants.clear();
        }
        spent
    }
}
